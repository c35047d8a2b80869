//! New tokens: the model's predictions, each read back as the input for the next; of a masked
//! model, all at once in place of the mask.
//!
//! Keys and values of what was read are kept ([`Session::read`]), so a new token costs its
//! own work and its attention, whatever came before.

mod choose;
mod fits;
mod unit;
mod write;

use std::collections::BTreeMap;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::data::{Assembly, Batch, Objective, Purpose, Row, Sequence, Task};
use crate::engine::Session;
use crate::error::{Error, Result};
use crate::progress::{self, Progress};
use crate::tokens::{TokenSpec, Tokens, Values};

pub(crate) use choose::{Asked, Choice, Chosen};
pub use write::{Files, Format, Writer};

/// A span to generate for one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Id of the object.
    pub id: String,
    /// Spans that are known, in stream order.
    pub given: Row,
    /// How many of them stand before the span; all of them, unless a masked model reads it.
    pub place: usize,
    /// A span of the modality to generate: its first tokens are given too where a prompt is
    /// asked for; of the others only number and positions are used.
    pub span: Tokens,
    /// Tokens of the span itself that are given.
    pub prompt: usize,
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

/// Generates the span of `modality` for each of `wanted`: the first tokens are the span's own
/// as far as they are given, the others the model's, read as it was trained to read them: one
/// after the other, what is given seen whole under [`Objective::Prefix`], or all at once
/// ([`Objective::Masked`]). Objects of the same layout are read together, `batch` at a time.
///
/// The spans come without [`Tokens::affine`], those of the prompt too: what standardisation took
/// out of an object's own tokens was measured on what is to be generated.
///
/// # Errors
/// When nothing is given that a token could follow, a span does not fit the model, the
/// device fails, or the program is asked to stop.
pub fn generate(
    session: &mut dyn Session,
    wanted: &[Wanted],
    modality: &str,
    objective: Objective,
    batch: usize,
    sampling: Sampling,
) -> Result<Vec<Tokens>> {
    if let Objective::Masked { ratio } = objective {
        tell_beyond_training(wanted, ratio);
    }
    let layout = |w: &Wanted| (given(w), w.given.len(), w.span.len, w.prompt);
    let tokens = wanted.iter().map(|w| w.span.len.saturating_sub(w.prompt) as u64).sum();
    let mut progress = Progress::new("generate", tokens, 0);
    let (mut out, mut done) = (Vec::new(), 0);
    for group in wanted.chunk_by(|a, b| layout(a) == layout(b)) {
        for wanted in group.chunks(batch.max(1)) {
            let mut rows = Rows::new(session, wanted, modality, sampling)?;
            let masked = matches!(objective, Objective::Masked { .. });
            if !masked {
                rows.read_given(session, wanted, !objective.is_causal())?;
            }
            while rows.next < rows.len {
                if crate::stop::asked() {
                    session.forget();
                    return Err(crate::stop::stopped(
                        "; nothing was written, the same command makes it anew",
                    ));
                }
                let made = if masked {
                    rows.fill(session, wanted)?
                } else {
                    rows.advance(session)?;
                    1
                };
                done += (made * rows.rows.len()) as u64;
                progress.update(done, "tokens");
            }
            session.forget();
            out.extend(rows.finish());
        }
    }
    progress.finish(&format!("{done} tokens generated"));
    Ok(out)
}

/// Says that more is to be made of an object than a masked model ever had hidden: what it
/// answers then is nothing that it learnt.
fn tell_beyond_training(wanted: &[Wanted], ratio: f64) {
    let hidden = |w: &Wanted| {
        let made = w.span.len.saturating_sub(w.prompt);
        made as f64 / (given(w) + w.span.len) as f64
    };
    let most = wanted.iter().map(hidden).fold(0.0, f64::max);
    // A ratio is of whole tokens, rounded.
    if most > ratio + 0.03 {
        progress::warn(&format!(
            "up to {:.0}% of an object's tokens are to be made, and in training {:.0}% were hidden \
             (objective.ratio): with so little given, expect answers no better than the mean; give \
             more with --given or --prompt",
            100.0 * most,
            100.0 * ratio
        ));
    }
}

fn given(wanted: &Wanted) -> usize {
    wanted.given.iter().map(|(_, tokens)| tokens.len).sum()
}

/// What is known of a span: its places and its first `prompt` tokens. What standardisation took
/// out is not, for it was measured on the other tokens too.
fn known(span: &Tokens, prompt: usize) -> Tokens {
    let mut known = Tokens { affine: Vec::new(), ..span.clone() };
    let width = known.values.len() / known.len.max(1);
    known.values.to_mut().iter_mut().skip(prompt * width).for_each(|x| *x = 0.0);
    known.codes.iter_mut().skip(prompt).for_each(|code| *code = 0);
    known
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
    /// Rows of which nothing is generated yet.
    fn new(
        session: &dyn Session,
        wanted: &[Wanted],
        modality: &'a str,
        sampling: Sampling,
    ) -> Result<Self> {
        let spec = session.model().modalities.get(modality).cloned();
        let spec =
            spec.ok_or_else(|| Error::Failed(format!("the model has no modality {modality:?}")))?;
        let (len, next) = wanted.first().map_or((0, 0), |w| (w.span.len, w.prompt.min(w.span.len)));
        for wanted in wanted {
            wanted.span.check(&spec).map_err(|e| Error::object(&wanted.id, e.to_string()))?;
            if given(wanted) + next == 0 {
                return Err(Error::object(&wanted.id, nothing_given(modality)));
            }
        }
        let rows = wanted.iter().map(|wanted| GrowingRow {
            draws: ChaCha8Rng::seed_from_u64(xxh3_64_with_seed(
                wanted.id.as_bytes(),
                sampling.seed,
            )),
            id: wanted.id.clone(),
            span: known(&wanted.span, next),
        });
        Ok(Self { modality, spec, rows: rows.collect(), next, len, sampling })
    }

    /// Reads what is given; `whole` lets its tokens see those after them.
    fn read_given(&self, session: &mut dyn Session, wanted: &[Wanted], whole: bool) -> Result<()> {
        let specs = session.model().modalities.clone();
        let beginning = |(row, wanted): (&GrowingRow, &Wanted)| {
            let mut spans = wanted.given.clone();
            if self.next > 0 {
                spans.push((self.modality.to_owned(), row.span.slice(0, self.next)));
            }
            (row.id.clone(), spans)
        };
        let rows: Vec<_> = self.rows.iter().zip(wanted).map(beginning).collect();
        session.forget();
        let delimiters = session.model().delimiters;
        let mut batch = assembled(&rows, &specs, delimiters, whole)?;
        if delimiters && self.next == 0 {
            open_span(&mut batch, &rows, &specs, self.modality);
        }
        session.read(&batch)
    }

    /// Predicts all tokens that are missing from all that are there, and says how many that were
    /// of each row.
    fn fill(&mut self, session: &mut dyn Session, wanted: &[Wanted]) -> Result<usize> {
        let model = session.model().clone();
        let hidden = |(row, wanted): (&GrowingRow, &Wanted)| {
            let mut spans = wanted.given.clone();
            let place = wanted.place.min(spans.len());
            let before: usize = spans[..place].iter().map(|(_, tokens)| tokens.len).sum();
            let mut mask = vec![false; given(wanted) + self.len];
            mask[before + self.next..before + self.len].fill(true);
            spans.insert(place, (self.modality.to_owned(), row.span.clone()));
            (spans, mask)
        };
        let rows: Vec<(Row, Vec<bool>)> = self.rows.iter().zip(wanted).map(hidden).collect();
        let sequences: Vec<_> = wanted
            .iter()
            .zip(&rows)
            .map(|(wanted, (spans, mask))| Sequence {
                id: &wanted.id,
                spans,
                task: Task::Masked(mask.clone()),
            })
            .collect();
        let assembly = Assembly {
            specs: &model.modalities,
            delimiters: model.delimiters,
            full: true,
            row_length: None,
        };
        let mut predicted = session.predict(&assembly.batch(&sequences)?)?;
        let predicted = predicted.remove(self.modality).map(|tensor| tensor.data);
        let (size, left) = (self.spec.values.size().max(1), self.len - self.next);
        let predicted = predicted.unwrap_or_default();
        for (row, numbers) in self.rows.iter_mut().zip(predicted.chunks(left * size)) {
            for (k, token) in numbers.chunks(size).enumerate() {
                row.place(self.next + k, token, &self.spec, self.sampling)?;
            }
        }
        self.next = self.len;
        Ok(left)
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

/// Why an object of which nothing is given cannot have a span made.
fn nothing_given(modality: &str) -> String {
    format!(
        "nothing is given that {modality} could follow; give a prompt of at least one token or \
         another modality"
    )
}

/// `rows` chained as in training, each token seeing those before it or, `whole`, all.
fn assembled(
    rows: &[(String, Row)],
    specs: &BTreeMap<String, TokenSpec>,
    delimiters: bool,
    whole: bool,
) -> Result<Batch> {
    let rows = rows.iter();
    let sequences: Vec<_> =
        rows.map(|(id, spans)| Sequence { id, spans, task: Task::Read }).collect();
    Assembly { specs, delimiters, full: whole, row_length: None }.batch(&sequences)
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
        let mut batch = assembled(&given, &specs, true, false).expect("fits");
        open_span(&mut batch, &given, &specs, "a");
        // The same with a token of the new span after it, which is then taken away.
        let whole = [row("x", &[("b", 3), ("a", 1)]), row("y", &[("b", 3), ("a", 1)])];
        let trained = assembled(&whole, &specs, true, false).expect("fits");
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
    fn of_a_span_places_and_prompt_are_known() {
        let span = Tokens {
            len: 3,
            values: vec![1.0; 6].into(),
            indices: vec![4, 5, 6],
            affine: vec![[18.0, 2.0]; 3],
            ..Tokens::default()
        };
        let values = vec![1.0, 1.0, 0.0, 0.0, 0.0, 0.0].into();
        assert_eq!(known(&span, 1), Tokens { values, affine: Vec::new(), ..span });
        let span = Tokens { len: 2, codes: vec![7, 8], indices: vec![0, 1], ..Tokens::default() };
        assert_eq!(known(&span, 0).codes, [0, 0]);
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
