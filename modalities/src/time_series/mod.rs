//! The modality `time-series`: irregular samples of one quantity become tokens in order of
//! time.
//!
//! ```text
//! (time, value, error, band, quality) [n] -> bad samples -> sort by time, then band
//!     -> stretch -> standardise -> keep at most max_tokens -> windows -> tokens [T, F]
//! ```
//!
//! With `window = 1` a token is one sample; with a window of w it is w neighbours in time,
//! whatever their bands, one after the other. Of one sample a token holds
//!
//! - the value y, stretched and standardised;
//! - with `error`, its error in the same units, sigma |dy/dx| to first order;
//! - with `band_as = "token"`, a 1 for its band and a 0 for each other band.
//!
//! Of one sample a position holds
//!
//! - with `positions.affine = s`, the number t / s, or with `positions.periodic = [P, ...]`
//!   the numbers sin(2 pi t / P) and cos(2 pi t / P) for each P, where t is counted from `zero`;
//! - with `band_as = "position"`, a 1 for its band and a 0 for each other band.
//!
//! With `next = true` the same follows for the next token's samples, since the model predicts
//! the next token and has to be told for when; the last token is its own next. One period,
//! one sample a token and no bands make positions of four numbers, (sin, cos) now and next.
//!
//! A series whose values are all the same has no deviation: where errors are read, their median
//! stands for it, and a deviation below a twentieth of it counts as that, so that errors come out
//! of order 1, and of 20 at most in the median.
//!
//! Times are subtracted in double precision before they become single: with `zero` near the
//! data or left out, Julian dates lose nothing. From a position a time is known to about
//! 1e-7 of the longest time counted from `zero`, or of the shortest period.
//!
//! **The inverse** returns the values, and with [`Modality::reconstruct`] also times, errors
//! and bands, of the samples kept. Padding repeats the last place in the last window and is
//! left out again; so are, in windows of several samples, measurements at the very end that
//! share time and band. Median and deviation of the series stay beside the tokens
//! (`Tokens::affine`); tokens that a model made lack them, and are returned as they are. An error
//! that a model made and that is not above 0 is none, and returned as not a number.

mod config;
mod facts;
mod features;
mod layout;
mod read;

pub use config::{
    Bad, BandAs, Keep, OtherBands, Short, Standardise, Tail, TimePosition, TimeSeriesConfig,
};

use std::sync::atomic::{AtomicBool, Ordering};

use astropt_core::observation::{Array, Data, Observation};
use astropt_core::seam::{Modality, Preview, SpanFacts};
use astropt_core::tokens::{Positions, TokenSpec, Tokens, Values};
use astropt_core::{Result, progress};

use crate::fields;
use crate::marks::Marks;
use crate::normalise::{Affine, are_even, median, overflow, robust};
use crate::plot::{self, Mark};
use read::Sample;

/// Least scale of a series, of its samples' median error: what it scatters by is no measure of what
/// is told apart below that.
const LEAST: f64 = 0.05;
/// Samples of an example, where nothing asks for more.
const EXAMPLE_SAMPLES: usize = 40;

/// The tokeniser that [`TimeSeriesConfig`] builds.
#[derive(Debug)]
pub struct TimeSeries {
    config: TimeSeriesConfig,
    spec: TokenSpec,
    /// Of each of `bands`, whether a series had it.
    seen: Vec<AtomicBool>,
    marks: Marks,
}

impl TimeSeries {
    /// The tokeniser of a configuration that [`TimeSeriesConfig`] has checked.
    fn new(config: TimeSeriesConfig) -> Self {
        let times = if config.next { 2 } else { 1 };
        let spec = TokenSpec {
            values: Values::Continuous { width: config.window * config.value_width() },
            positions: Positions::Continuous {
                width: config.window * config.place_width() * times,
            },
            loss_weight: config.loss_weight,
            max_tokens: config.max_tokens,
        };
        let seen = config.bands.iter().map(|_| AtomicBool::new(false)).collect();
        Self { config, spec, seen, marks: Marks::default() }
    }

    fn affine(&self, samples: &[Sample]) -> Affine {
        match self.config.standardise {
            Standardise::Affine(affine) => affine,
            Standardise::None => Affine::IDENTITY,
            Standardise::Series => {
                let stretched = samples.iter().map(|s| self.config.stretch.apply(s.value));
                let stretched: Vec<f64> = stretched.collect();
                let mut affine = robust(&stretched);
                if self.config.error.is_some() {
                    // Over next to nothing, errors would be thousands.
                    let least = if are_even(&stretched, affine.offset) { 1.0 } else { LEAST };
                    affine.scale = affine.scale.max(least * self.median_error(samples));
                }
                affine.rounded()
            }
        }
    }

    /// Of the stretched values, in their units.
    fn median_error(&self, samples: &[Sample]) -> f64 {
        let errors = samples.iter().map(|sample| self.config.stretched_error(sample));
        median(&errors.filter(|error| error.is_finite()).collect::<Vec<_>>())
    }

    /// Takes in which bands there are, and warns of what looks like a catalogue's word for
    /// "unknown".
    fn note(&self, observation: &Observation, samples: &[Sample]) {
        let is_new = |seen: &AtomicBool| !seen.load(Ordering::Relaxed);
        if self.seen.iter().any(is_new) {
            for seen in samples.iter().filter_map(|sample| self.seen.get(sample.band)) {
                seen.store(true, Ordering::Relaxed);
            }
        }
        let values = samples.iter().map(|sample| sample.value);
        if let Some(mark) = self.marks.note(&observation.id, values, false) {
            progress::warn(&format!(
                "{}: field {:?} has samples of {mark}, as catalogues write what they do not know; \
                 they are read as numbers. If they are none, write NaN for them, or name a field \
                 that flags them as `quality`, and set `bad = \"drop\"`",
                observation.id, self.config.value
            ));
        }
    }

    /// Whether the numbers of `tokens` can be brought back to the file's units.
    fn has_units(&self, tokens: &Tokens) -> bool {
        self.config.standardise != Standardise::Series || !tokens.affine.is_empty()
    }

    fn samples(&self, tokens: &Tokens) -> Result<Vec<Sample>> {
        tokens.check(&self.spec)?;
        let affine = match (self.config.standardise, tokens.affine.first()) {
            (Standardise::Affine(affine), _) => affine,
            (Standardise::Series, Some(&pair)) => Affine::from_pair(pair),
            _ => Affine::IDENTITY,
        };
        let stretch = if self.has_units(tokens) { self.config.stretch } else { Default::default() };
        Ok(self.config.decode(tokens, affine, stretch))
    }
}

impl Modality for TimeSeries {
    fn spec(&self) -> TokenSpec {
        self.spec.clone()
    }

    /// A position that also tells the next token's place is wrong where that one is left out.
    fn thinnable(&self) -> bool {
        !self.config.next
    }

    fn choices(&self) -> Vec<(String, String)> {
        let config = &self.config;
        let keep = match config.keep {
            Keep::First => "the earliest",
            Keep::Last => "the latest",
            Keep::Strided => "evenly spread",
        };
        let bad = match config.bad {
            Bad::Refuse => "the series is refused",
            Bad::Drop => "left out",
        };
        let standardise = match config.standardise {
            Standardise::Series => {
                "each series to median 0 and median absolute deviation 1 / 1.4826".to_owned()
            }
            Standardise::Affine(Affine { offset, scale }) => format!("(x - {offset}) / {scale}"),
            Standardise::None => "none".to_owned(),
        };
        let most = config.max_tokens.saturating_mul(config.window);
        [
            ("Bad measurements", bad.to_owned()),
            ("Series of more measurements", format!("{keep} {most} are kept")),
            ("Standardisation of series", standardise),
        ]
        .map(|(name, choice)| (name.to_owned(), choice))
        .into()
    }

    /// Bands that are listed, where samples of others are dropped, as the numbers of bands that
    /// are listed wrong would be. Elsewhere such samples are refused, and a band may be missing.
    fn unseen(&self) -> Vec<(String, String)> {
        let drop = self.config.other_bands == OtherBands::Drop;
        let Some(field) = self.config.band.as_ref().filter(|_| drop) else { return Vec::new() };
        let bands = self.config.bands.iter().zip(&self.seen);
        let unseen = bands.filter(|(_, seen)| !seen.load(Ordering::Relaxed));
        unseen.map(|(band, _)| (field.clone(), format!("a sample of the band {band}"))).collect()
    }

    fn tokenise(&self, observation: &Observation) -> Result<Option<Tokens>> {
        let Some(samples) = self.read(observation)? else { return Ok(None) };
        self.note(observation, &samples);
        let affine = self.affine(&samples);
        let mut tokens = self.config.encode(&self.kept(&samples), affine);
        if self.config.standardise == Standardise::Series {
            tokens.affine = vec![affine.pair(); tokens.len];
        }
        let finite = |numbers: &[f32]| numbers.iter().all(|x| x.is_finite());
        let wrong = if !finite(&tokens.positions) {
            &self.config.time
        } else if !finite(&tokens.values) || !finite(tokens.affine.as_flattened()) {
            &self.config.value
        } else {
            return Ok(Some(tokens));
        };
        Err(overflow(&observation.id, wrong))
    }

    /// Values `[samples]` in the file's unit, in order of time.
    fn detokenise(&self, tokens: &Tokens) -> Result<Array> {
        let values: Vec<f32> = self.samples(tokens)?.iter().map(|s| s.value as f32).collect();
        Array::new(vec![values.len()], Data::F32(values))
    }

    fn reconstruct(&self, tokens: &Tokens) -> Result<Option<Observation>> {
        let samples = self.samples(tokens)?;
        let config = &self.config;
        let unit = config.unit.as_deref().filter(|_| self.has_units(tokens));
        let mut observation = Observation::default();
        let mut put = |name: &String, field| observation.fields.insert(name.clone(), field);
        let column = |get: fn(&Sample) -> f64| samples.iter().map(get).collect::<Vec<_>>();
        let floats = |get| column(get).iter().map(|&x| x as f32).collect();
        put(&config.time, fields::doubles(column(|s| s.time), config.time_unit.as_deref()));
        put(&config.value, fields::floats(floats(|s| s.value), unit));
        if let Some(error) = &config.error {
            put(error, fields::floats(floats(|s| s.error), unit));
        }
        if let Some(band) = &config.band {
            let bands = samples.iter().filter_map(|s| config.bands.get(s.band).copied());
            put(band, fields::whole(bands.collect()));
        }
        Ok(Some(observation))
    }

    fn facts(&self, own: Option<&Observation>, tokens: &Tokens) -> SpanFacts {
        self.facts_of(own, tokens)
    }

    /// A wave sampled unevenly, band after band, out of order, with a bad sample where such are
    /// left out.
    fn example(&self) -> Option<Observation> {
        let config = &self.config;
        let most = config.max_tokens.saturating_mul(config.window).saturating_add(3);
        let least = config.min_samples.max(config.window).saturating_add(1);
        let n = EXAMPLE_SAMPLES.min(most).max(least);
        let unit = match &config.positions {
            TimePosition::Affine(scale) => *scale,
            TimePosition::Periodic(periods) => periods.iter().copied().fold(1.0, f64::max),
        };
        let start = config.zero.unwrap_or(58_000.0);
        let phase = |i: usize| (i as f64 + (i % 3) as f64 / 7.0) / n as f64;
        let mut times: Vec<f64> = (0..n).map(|i| start + unit * phase(i)).collect();
        times.swap(0, 1);
        let mut values: Vec<f32> = (0..n).map(|i| (18.0 + (9.0 * phase(i)).sin()) as f32).collect();
        if config.bad == Bad::Drop {
            values[n / 2] = f32::NAN;
        }
        let mut observation = fields::example();
        let mut put = |name: &String, field| observation.fields.insert(name.clone(), field);
        put(&config.time, fields::doubles(times, config.time_unit.as_deref()));
        put(&config.value, fields::floats(values, config.unit.as_deref()));
        if let Some(error) = &config.error {
            put(error, fields::floats(vec![0.05; n], config.unit.as_deref()));
        }
        if let Some(band) = &config.band {
            put(band, fields::whole(config.bands.iter().copied().cycle().take(n).collect()));
        }
        if let Some(quality) = &config.quality {
            put(quality, fields::whole(vec![0; n]));
        }
        Some(observation)
    }

    /// Value over time, a colour for each band; magnitudes have bright above faint.
    fn preview(&self, tokens: &Tokens) -> Result<Option<Preview>> {
        let mark = |s: &Sample| Mark { x: s.time, y: s.value, group: s.band, joined: false };
        let marks: Vec<Mark> = self.samples(tokens)?.iter().map(mark).collect();
        let magnitudes = self.config.unit.as_deref().is_some_and(|u| u.eq_ignore_ascii_case("mag"));
        Ok(Some(plot::draw(&marks, magnitudes)))
    }

    /// What a light curve is usually summed up in, per band: `[max(bands, 1), 9]`.
    fn raw_features(&self, observation: &Observation) -> Result<Option<Vec<f32>>> {
        let Some(samples) = self.read(observation)? else { return Ok(None) };
        let features = features::summary(&samples, self.config.bands.len().max(1));
        if features.iter().any(|x| !x.is_finite()) {
            return Err(overflow(&observation.id, &self.config.value));
        }
        Ok(Some(features))
    }
}
