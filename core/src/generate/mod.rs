//! New tokens: the model's predictions, each read back as the input for the next.
//!
//! Keys and values of what was read are kept ([`Session::read`]), so a new token costs its
//! own work and its attention, whatever came before.

mod fits;
mod write;

use std::collections::BTreeMap;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::data::{Assembly, Batch, Purpose, Row, Sequence, Task};
use crate::engine::Session;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::tokens::{TokenSpec, Tokens, Values};

pub use write::{Files, Format, Writer};

/// A span to generate for one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Id of the object.
    pub id: String,
    /// Spans that are known, in stream order.
    pub given: Row,
    /// A span of the modality to generate: its first tokens are given too where a prompt is
    /// asked for; of the others only number and positions are used.
    pub span: Tokens,
}

/// How predictions become tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Codes are drawn from softmax(logits / temperature); at 0 the likeliest is taken.
    pub temperature: f32,
    /// Standard deviation of normal noise added to each number of a continuous token, in
    /// the units of tokens.
    pub noise: f32,
    /// Seed of all draws; an object's draws depend on this and its id alone.
    pub seed: u64,
}

/// Generates the span of `modality` for each of `wanted`: the first `prompt` tokens are the
/// span's own, the others the model's. Objects whose spans are of equal lengths are read
/// together, `batch` at a time.
///
/// # Errors
/// When nothing is given that a token could follow, a span does not fit the model, the
/// device fails, or the program is asked to stop.
pub fn generate(
    session: &mut dyn Session,
    wanted: &[Wanted],
    modality: &str,
    prompt: usize,
    batch: usize,
    sampling: Sampling,
) -> Result<Vec<Tokens>> {
    let alike = |a: &Wanted, b: &Wanted| (given(a), a.span.len) == (given(b), b.span.len);
    let tokens = wanted.iter().map(|w| w.span.len.saturating_sub(prompt) as u64).sum();
    let mut progress = Progress::new("generate", tokens, 0);
    let (mut out, mut done) = (Vec::new(), 0);
    for group in wanted.chunk_by(alike) {
        for rows in group.chunks(batch.max(1)) {
            let mut rows = Rows::start(session, rows, modality, prompt, sampling)?;
            while rows.next < rows.len {
                if crate::stop::asked() {
                    session.forget();
                    return Err(crate::stop::stopped("; nothing was written"));
                }
                rows.advance(session)?;
                done += rows.rows.len() as u64;
                progress.update(done, "tokens");
            }
            session.forget();
            out.extend(rows.finish());
        }
    }
    progress.finish(&format!("{done} tokens generated"));
    Ok(out)
}

fn given(wanted: &Wanted) -> usize {
    wanted.given.iter().map(|(_, tokens)| tokens.len).sum()
}

/// Rows being generated together.
struct Rows<'a> {
    modality: &'a str,
    spec: TokenSpec,
    rows: Vec<GrowingRow>,
    /// Tokens of the span that are there.
    next: usize,
    /// Tokens the span shall have.
    len: usize,
    sampling: Sampling,
}

struct GrowingRow {
    id: String,
    /// The span: generated up to [`Rows::next`], to be replaced after it.
    span: Tokens,
    draws: ChaCha8Rng,
}

impl<'a> Rows<'a> {
    /// Reads what is given.
    fn start(
        session: &mut dyn Session,
        wanted: &[Wanted],
        modality: &'a str,
        prompt: usize,
        sampling: Sampling,
    ) -> Result<Self> {
        let specs = session.model().modalities.clone();
        let spec = specs.get(modality).cloned();
        let spec =
            spec.ok_or_else(|| Error::Failed(format!("the model has no modality {modality:?}")))?;
        let len = wanted.first().map_or(0, |w| w.span.len);
        let next = prompt.min(len);
        let mut known = Vec::new();
        for wanted in wanted {
            wanted.span.check(&spec).map_err(|e| Error::object(&wanted.id, e.to_string()))?;
            if given(wanted) + next == 0 {
                return Err(Error::object(
                    &wanted.id,
                    format!(
                        "nothing is given that {modality} could follow; give a prompt of at \
                             least one token or another modality"
                    ),
                ));
            }
            let mut row = wanted.given.clone();
            let mut beginning = wanted.span.clone();
            beginning.truncate(next);
            if next > 0 {
                row.push((modality.to_owned(), beginning));
            }
            known.push((wanted.id.clone(), row));
        }
        session.forget();
        let mut batch = assembled(&known, &specs, session.model().delimiters)?;
        if session.model().delimiters && next == 0 {
            open_span(&mut batch, &known, &specs, modality);
        }
        session.read(&batch)?;
        let rows = wanted.iter().map(|wanted| GrowingRow {
            draws: ChaCha8Rng::seed_from_u64(xxh3_64_with_seed(
                wanted.id.as_bytes(),
                sampling.seed,
            )),
            id: wanted.id.clone(),
            span: wanted.span.clone(),
        });
        Ok(Self { modality, spec, rows: rows.collect(), next, len, sampling })
    }

    /// Predicts the next token of every row, and reads it unless it is the last.
    fn advance(&mut self, session: &mut dyn Session) -> Result<()> {
        let predicted = session.predict_next(self.modality)?.data;
        let size = self.spec.values.size();
        for (row, predicted) in self.rows.iter_mut().zip(predicted.chunks(size.max(1))) {
            row.place(self.next, predicted, &self.spec, self.sampling)?;
        }
        self.next += 1;
        if self.next < self.len {
            let newest = |row: &GrowingRow| {
                let token = row.span.slice(self.next - 1, 1);
                (row.id.clone(), vec![(self.modality.to_owned(), token)])
            };
            let rows: Vec<_> = self.rows.iter().map(newest).collect();
            let specs = &session.model().modalities.clone();
            session.read(&Batch::assemble(&rows, specs, Purpose::Read)?)?;
        }
        Ok(())
    }

    fn finish(self) -> impl Iterator<Item = Tokens> {
        self.rows.into_iter().map(|row| row.span)
    }
}

/// `rows` chained as in training, each token seeing those before it.
fn assembled(
    rows: &[(String, Row)],
    specs: &BTreeMap<String, TokenSpec>,
    delimiters: bool,
) -> Result<Batch> {
    let rows = rows.iter();
    let sequences: Vec<_> =
        rows.map(|(id, spans)| Sequence { id, spans, task: Task::Read }).collect();
    Assembly { specs, delimiters, full: false, row_length: None }.batch(&sequences)
}

/// Ends the last span of every row, which are of equal lengths, and begins one of `modality`.
fn open_span(
    batch: &mut Batch,
    rows: &[(String, Row)],
    specs: &BTreeMap<String, TokenSpec>,
    modality: &str,
) {
    let (old, new) = (batch.len as u32, batch.len as u32 + 2);
    let moved = |slot: u32| slot / old * new + slot % old;
    for part in batch.parts.values_mut() {
        let slots = part.input_slots.iter_mut().flatten();
        slots.for_each(|slot| *slot = moved(*slot));
    }
    batch.delimiters.iter_mut().for_each(|(slot, _)| *slot = moved(*slot));
    let kind = |name: &str| specs.keys().take_while(|known| *known != name).count() as u32;
    for (row, (_, spans)) in (0..).zip(rows) {
        let last = spans.last().map_or(modality, |(name, _)| name);
        batch.delimiters.push((row * new + old, 2 * kind(last) + 1));
        batch.delimiters.push((row * new + old + 1, 2 * kind(modality)));
    }
    batch.len = new as usize;
}

impl GrowingRow {
    /// Makes what the model predicted token `at` of the span.
    fn place(
        &mut self,
        at: usize,
        predicted: &[f32],
        spec: &TokenSpec,
        sampling: Sampling,
    ) -> Result<()> {
        if predicted.iter().any(|x| !x.is_finite()) {
            let message = format!("token {at} came out as a number that is not finite");
            return Err(Error::object(&self.id, message));
        }
        match spec.values {
            Values::Codes { .. } => {
                self.span.codes[at] = draw(predicted, sampling.temperature, &mut self.draws);
            }
            Values::Continuous { width } => {
                let noise = Normal::new(0.0, sampling.noise.abs())
                    .map_err(|e| Error::Misuse(format!("noise {}: {e}", sampling.noise)))?;
                let token = &mut self.span.values[at * width..(at + 1) * width];
                for (value, predicted) in token.iter_mut().zip(predicted) {
                    *value = predicted + noise.sample(&mut self.draws);
                }
            }
        }
        Ok(())
    }
}

/// A code drawn from softmax(logits / temperature).
fn draw(logits: &[f32], temperature: f32, draws: &mut impl Rng) -> u32 {
    let (likeliest, largest) = logits
        .iter()
        .enumerate()
        .fold((0, f32::NEG_INFINITY), |best, (k, &x)| if x > best.1 { (k, x) } else { best });
    if temperature <= 0.0 {
        return likeliest as u32;
    }
    let weight = |x: f32| f64::from((x - largest) / temperature).exp();
    let mut left = draws.random::<f64>() * logits.iter().map(|&x| weight(x)).sum::<f64>();
    for (k, &x) in logits.iter().enumerate() {
        left -= weight(x);
        if left < 0.0 {
            return k as u32;
        }
    }
    likeliest as u32 // rounding left a crumb
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Positions;

    #[test]
    fn a_span_is_begun_as_in_training() {
        let spec = TokenSpec {
            values: Values::Continuous { width: 1 },
            positions: Positions::Index { max: 9 },
            loss_weight: 1.0,
            max_tokens: 9,
        };
        let specs = BTreeMap::from(["a", "b"].map(|name| (name.to_owned(), spec.clone())));
        let span = |len: usize| Tokens {
            len,
            values: vec![0.5; len].into(),
            indices: (0..len as u32).collect(),
            ..Tokens::default()
        };
        let row = |id: &str, spans: &[(&str, usize)]| {
            let spans = spans.iter().map(|&(name, len)| (name.to_owned(), span(len)));
            (id.to_owned(), spans.collect::<Row>())
        };
        let given = [row("x", &[("b", 3)]), row("y", &[("b", 3)])];
        let mut batch = assembled(&given, &specs, true).expect("fits");
        open_span(&mut batch, &given, &specs, "a");
        // The same with a token of the new span after it, which is then taken away.
        let whole = [row("x", &[("b", 3), ("a", 1)]), row("y", &[("b", 3), ("a", 1)])];
        let trained = assembled(&whole, &specs, true).expect("fits");
        assert_eq!((batch.len, trained.len), (6, 7));
        let places = |batch: &Batch, all: &mut dyn Iterator<Item = u32>| -> Vec<(u32, u32)> {
            all.map(|slot| (slot / batch.len as u32, slot % batch.len as u32)).collect()
        };
        let slots = |batch: &Batch| {
            let of = &batch.parts["b"].input_slots;
            places(batch, &mut of.iter().flatten().copied())
        };
        assert_eq!(slots(&batch), slots(&trained));
        let marks = |batch: &Batch| {
            let mut marks: Vec<_> = places(batch, &mut batch.delimiters.iter().map(|d| d.0))
                .into_iter()
                .zip(batch.delimiters.iter().map(|d| d.1))
                .collect();
            marks.sort_unstable();
            marks
        };
        assert_eq!(marks(&batch), marks(&trained));
    }

    #[test]
    fn codes_are_drawn_as_often_as_the_softmax_says() {
        let logits = [0.0f32, 1.0, 2.0];
        let mut draws = ChaCha8Rng::seed_from_u64(7);
        let mut counts = [0usize; 3];
        for _ in 0..20_000 {
            counts[draw(&logits, 0.5, &mut draws) as usize] += 1;
        }
        let total: f64 = logits.iter().map(|&x| f64::from(2.0 * x).exp()).sum();
        for (count, &logit) in counts.iter().zip(&logits) {
            let expected = 20_000.0 * f64::from(2.0 * logit).exp() / total;
            // Five standard deviations of a binomial count.
            assert!((*count as f64 - expected).abs() < 5.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn without_temperature_the_likeliest_code_is_taken() {
        let mut draws = ChaCha8Rng::seed_from_u64(7);
        assert!((0..100).all(|_| draw(&[0.1, 3.0, 2.9], 0.0, &mut draws) == 1));
    }
}
