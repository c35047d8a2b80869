//! The modality `spectrum`: a spectrum becomes windows of neighbouring samples.
//!
//! ```text
//! flux [n] (+ ivar, mask, wavelength [n]) -> bad samples -> stretch -> windows [w]
//!          -> standardise -> tokens [T, w], in the order of the samples
//! ```
//!
//! With w = `window`, token k holds samples k w to k w + w - 1. One object has one spectrum of
//! one arm; a spectrograph with several arms (DESI's b, r and z) is several modalities, each
//! with its own field names. Where wavelengths are read they must ascend; with
//! `positions = "index"` and no `grid` that is to be checked they are not, and the order is the
//! file's.
//!
//! **Bad samples** are those whose flux is not finite, whose inverse variance is not above 0,
//! or that the mask flags. They never enter a mean or a median; `bad` says what becomes of
//! them, and `empty` of a spectrum without any good sample. Wavelengths of bad samples
//! that are none (files pad with -1, 0 or NaN) are not read: where the samples stay, what lies
//! between the wavelengths of good ones, or beyond them at their step, stands for them.
//!
//! **Positions** are the window's number, its w wavelengths, or their mean, the latter two
//! brought to order 1 by `wavelength_scale`. Single precision keeps a wavelength to about
//! 1e-7 of `scale`. Wavelengths are those of the file: neither air and vacuum nor frames are
//! converted, only recorded (`medium`).
//!
//! **The inverse** returns the samples of the windows that there are, one after the other.
//! Where positions tell wavelengths it returns these too
//! ([`Modality::reconstruct`]), so that windows left out stay gaps: with
//! `positions = "wavelength"` always, with `"mean-wavelength"` where `grid` declares the step,
//! with `"index"` where it declares the start as well. The padding of the last window is
//! recognised with `positions = "wavelength"`, where it repeats the last wavelength, and is
//! part of what is returned otherwise; [`Modality::facts`] tells it from the object's own samples.
//! Where positions tell no wavelengths, a column `sample` has the sample's number instead, or
//! with `"mean-wavelength"` a column `mean_wavelength` that of its window. A mean and deviation taken out of a window or
//! spectrum stay beside its tokens (`Tokens::affine`); tokens that a model made lack them,
//! and are returned as they are: only with `standardise.affine` or `"none"` in the file's unit.

mod config;
mod facts;
mod wavelength;
mod windows;

pub use config::{
    Bad, Empty, Grid, Medium, PositionKind, Spacing, SpectrumConfig, Standardise, Tail,
    WavelengthAs, WavelengthScale,
};

use astropt_core::Result;
use astropt_core::observation::{Array, Data, Observation};
use astropt_core::seam::{Modality, Preview, SpanFacts};
use astropt_core::tokens::{Positions, TokenSpec, Tokens, Values};

use crate::fields::{self, beside, check_unit, refuse};
use crate::normalise::{Affine, rebin};
use crate::plot::{self, Mark};

/// Numbers that a probe gets of the spectrum itself.
const FEATURES: usize = 256;
/// Windows of an example at most.
const EXAMPLE_WINDOWS: usize = 16;

/// The tokeniser that [`SpectrumConfig`] builds.
#[derive(Debug)]
pub struct Spectrum {
    config: SpectrumConfig,
    spec: TokenSpec,
}

/// Twice the widest step inside windows of `w` samples: a wider one between windows is a gap.
fn widest_step(wavelengths: Option<&[f64]>, w: usize) -> f64 {
    let windows = wavelengths.unwrap_or_default().chunks(w);
    let steps = windows.flat_map(|window| window.windows(2)).map(|pair| pair[1] - pair[0]);
    let widest = steps.fold(0.0, f64::max);
    if widest > 0.0 { 2.0 * widest } else { f64::INFINITY }
}

/// What is read of an observation.
struct Samples {
    /// Flux; bad samples are 0.
    flux: Vec<f64>,
    /// Which samples can be used.
    good: Vec<bool>,
    /// Wavelengths, where they are needed.
    wavelengths: Option<Vec<f64>>,
}

impl Spectrum {
    /// The tokeniser of a configuration that [`SpectrumConfig`] has checked.
    fn new(config: SpectrumConfig) -> Self {
        let max_tokens = config.max_tokens();
        let positions = match config.positions {
            PositionKind::Index => {
                Positions::Index { max: config.position_rows.unwrap_or(max_tokens) }
            }
            PositionKind::Wavelength => Positions::Continuous { width: config.window },
            PositionKind::MeanWavelength => Positions::Continuous { width: 1 },
        };
        let spec = TokenSpec {
            values: Values::Continuous { width: config.window },
            positions,
            loss_weight: config.loss_weight,
            max_tokens,
        };
        Self { config, spec }
    }

    /// The spectrum of `observation`, checked; `None` when it has none.
    fn read(&self, observation: &Observation) -> Result<Option<Samples>> {
        let config = &self.config;
        let Some(field) = fields::series(observation, &config.flux)? else { return Ok(None) };
        check_unit(observation, &config.flux, config.flux_unit.as_deref())?;
        let mut flux = field.array.data.to_f64().into_owned();
        let len = flux.len();
        if len > config.samples {
            return Err(refuse(
                observation,
                &config.flux,
                format!("has {len} samples, more than `samples`, {}; raise it", config.samples),
            ));
        }
        let mut good: Vec<bool> = flux.iter().map(|&x| (x as f32).is_finite()).collect();
        if let Some(name) = &config.ivar {
            let ivar = beside(observation, name, &config.flux, len)?.to_f64();
            good.iter_mut().zip(&*ivar).for_each(|(good, &x)| *good &= x > 0.0 && x.is_finite());
        }
        if let Some(name) = &config.mask {
            let mask = beside(observation, name, &config.flux, len)?;
            let flags = fields::flagged(mask, config.mask_bits);
            good.iter_mut().zip(flags).for_each(|(good, flag)| *good &= !flag);
        }
        let bad = flux.iter_mut().zip(&good).filter(|(_, good)| !**good);
        bad.for_each(|(flux, _)| *flux = 0.0);
        if config.empty == Empty::Absent && good.iter().all(|good| !good) {
            return Ok(None);
        }
        self.check_bad(observation, &good)?;
        let wavelengths = self.read_wavelengths(observation, &good)?;
        Ok(Some(Samples { flux, good, wavelengths }))
    }

    /// Refuses a spectrum with bad samples that the recipe does not want, or without any
    /// other.
    fn check_bad(&self, observation: &Observation, good: &[bool]) -> Result<()> {
        let bad = good.iter().filter(|good| !**good).count();
        let message = if bad == good.len() {
            "has no sample that can be used: all are masked, without a positive inverse variance, \
             or not finite; leave the object out, or set `empty = \"absent\"`"
                .to_owned()
        } else if bad > 0 && self.config.bad == Bad::Refuse {
            let first = good.iter().position(|good| !good).unwrap_or(0);
            format!(
                "has {bad} of {} samples that cannot be used (masked, without a positive inverse \
                 variance, or not finite), the first is sample {first}; choose what becomes of \
                 them with `bad`",
                good.len()
            )
        } else {
            return Ok(());
        };
        Err(refuse(observation, &self.config.flux, message))
    }

    fn read_wavelengths(
        &self,
        observation: &Observation,
        good: &[bool],
    ) -> Result<Option<Vec<f64>>> {
        let config = &self.config;
        let name = &config.wavelength;
        // Read as positions, or to be held against the declared step.
        let declared = config.grid.is_whole() || !config.grid.is_even();
        if config.positions == PositionKind::Index && declared {
            return Ok(None);
        }
        if config.grid.is_whole() {
            return Ok(Some(config.declared(good.len())));
        }
        let data = beside(observation, name, &config.flux, good.len())?;
        check_unit(observation, name, config.wavelength_unit.as_deref())?;
        let found = config.wavelengths(&data.to_f64(), good);
        found.map(Some).map_err(|message| refuse(observation, name, message))
    }

    /// Whether the numbers of `tokens` can be brought back to the file's units.
    fn has_units(&self, tokens: &Tokens) -> bool {
        let declared =
            matches!(self.config.standardise, Standardise::None | Standardise::Affine(_));
        declared || !tokens.affine.is_empty()
    }

    /// The fluxes of `tokens` and, where they tell, their wavelengths; without padding.
    fn samples(&self, tokens: &Tokens) -> Result<(Vec<f32>, Option<Vec<f64>>)> {
        tokens.check(&self.spec)?;
        let stretch = if self.has_units(tokens) { self.config.stretch } else { Default::default() };
        let w = self.config.window;
        let mut flux = Vec::with_capacity(tokens.values.len());
        for (k, window) in tokens.values.chunks_exact(w).enumerate() {
            let affine = match (self.config.standardise, tokens.affine.get(k)) {
                (Standardise::Affine(affine), _) => affine,
                (_, Some(&pair)) => Affine::from_pair(pair),
                (_, None) => Affine::IDENTITY,
            };
            flux.extend(window.iter().map(|&x| stretch.undo(affine.undo(x.into())) as f32));
        }
        let mut wavelengths = self.config.wavelengths_of(tokens);
        let real = flux.len() - self.config.padding_of(tokens);
        flux.truncate(real);
        wavelengths.iter_mut().for_each(|wavelengths| wavelengths.truncate(real));
        Ok((flux, wavelengths))
    }
}

impl Modality for Spectrum {
    fn spec(&self) -> TokenSpec {
        self.spec.clone()
    }

    fn choices(&self) -> Vec<(String, String)> {
        let config = &self.config;
        let medium = match config.medium {
            Some(Medium::Vacuum) => "in vacuum, as in the file",
            Some(Medium::Air) => "in air, as in the file",
            None => "as in the file; the recipe does not say whether in air or vacuum",
        };
        let bad = match config.bad {
            Bad::Refuse => "the spectrum is refused",
            Bad::Zero => "become 0 after standardisation",
            Bad::Interpolate => "interpolated between the nearest good ones",
            Bad::DropWindow => "windows that hold one are left out",
        };
        let standardise = match config.standardise {
            Standardise::Window => "each window to mean 0 and standard deviation 1".to_owned(),
            Standardise::Median => "each spectrum divided by its median".to_owned(),
            Standardise::Robust => {
                "each spectrum to median 0 and median absolute deviation 1 / 1.4826".to_owned()
            }
            Standardise::Affine(Affine { offset, scale }) => format!("(x - {offset}) / {scale}"),
            Standardise::None => "none".to_owned(),
        };
        [
            ("Wavelengths", medium.to_owned()),
            ("Bad samples", bad.to_owned()),
            ("Standardisation of spectra", standardise),
        ]
        .map(|(name, choice)| (name.to_owned(), choice))
        .into()
    }

    fn tokenise(&self, observation: &Observation) -> Result<Option<Tokens>> {
        let Some(samples) = self.read(observation)? else { return Ok(None) };
        self.tokens(observation, samples).map(Some)
    }

    /// Flux `[samples]` in the file's unit, of the windows that there are.
    fn detokenise(&self, tokens: &Tokens) -> Result<Array> {
        let (flux, _) = self.samples(tokens)?;
        Array::new(vec![flux.len()], Data::F32(flux))
    }

    fn reconstruct(&self, tokens: &Tokens) -> Result<Option<Observation>> {
        let (flux, wavelengths) = self.samples(tokens)?;
        let config = &self.config;
        let mut observation = Observation::default();
        let unit = config.flux_unit.as_deref().filter(|_| self.has_units(tokens));
        observation.fields.insert(config.flux.clone(), fields::floats(flux, unit));
        if let Some(mut wavelengths) = wavelengths {
            if config.wavelength_as == WavelengthAs::Log10 {
                wavelengths.iter_mut().for_each(|x| *x = x.log10());
            }
            let field = fields::doubles(wavelengths, self.unit_of_field());
            observation.fields.insert(config.wavelength.clone(), field);
        } else {
            let (name, field) = self.places(tokens);
            observation.fields.entry(name.to_owned()).or_insert(field);
        }
        Ok(Some(observation))
    }

    fn facts(&self, own: Option<&Observation>, tokens: &Tokens) -> SpanFacts {
        self.facts_of(own, tokens)
    }

    /// A smooth continuum with an emission and an absorption line, a bad sample where such are
    /// dealt with, and a tail that fills no window.
    fn example(&self) -> Option<Observation> {
        let config = &self.config;
        let n = config.samples.min(EXAMPLE_WINDOWS.saturating_mul(config.window) + 1);
        let bump = |x: f64, at: f64| (-((x - at) / 0.01).powi(2)).exp();
        let flux = |i: usize| {
            let x = i as f64 / n as f64;
            let noise = ((i as u64).wrapping_mul(2_654_435_761) >> 7) % 17;
            (2.0 + x + 3.0 * bump(x, 0.3) - 1.5 * bump(x, 0.7) + noise as f64 / 100.0) as f32
        };
        let mut flux: Vec<f32> = (0..n).map(flux).collect();
        if config.bad != Bad::Refuse && n > 2 * config.window {
            flux[n / 2] = f32::NAN;
        }
        let mut observation = fields::example();
        let mut put = |name: &String, field| observation.fields.insert(name.clone(), field);
        put(&config.flux, fields::floats(flux, config.flux_unit.as_deref()));
        let wavelengths = fields::doubles(config.example(n), self.unit_of_field());
        put(&config.wavelength, wavelengths);
        if let Some(ivar) = &config.ivar {
            put(ivar, fields::floats(vec![4.0; n], None));
        }
        if let Some(mask) = &config.mask {
            put(mask, fields::whole(vec![0; n]));
        }
        Some(observation)
    }

    /// All windows of the longest spectrum, where `grid` declares its start.
    fn blank(&self) -> Option<Tokens> {
        let config = &self.config;
        let windows: Vec<usize> = (0..config.max_tokens()).collect();
        let len = windows.len();
        let values = vec![0.0; len * config.window].into();
        let mut blank = Tokens { len, values, ..Tokens::default() };
        if !config.grid.is_whole() {
            return None;
        }
        if config.positions == PositionKind::Index {
            blank.indices = windows.iter().map(|&k| k as u32).collect();
        } else {
            blank.positions = config.positions(&config.declared(config.samples), &windows).ok()?;
        }
        Some(blank)
    }

    /// Flux over wavelength, or over the sample's number; windows left out are gaps.
    fn preview(&self, tokens: &Tokens) -> Result<Option<Preview>> {
        self.preview_of(tokens, &SpanFacts::default())
    }

    fn preview_of(&self, tokens: &Tokens, facts: &SpanFacts) -> Result<Option<Preview>> {
        let (mut flux, mut wavelengths) = self.samples(tokens)?;
        let real = flux.len().saturating_sub(facts.padding.unwrap_or(0));
        flux.truncate(real);
        wavelengths.iter_mut().for_each(|wavelengths| wavelengths.truncate(real));
        let w = self.config.window;
        // A window's number, where positions tell it; windows are drawn side by side else.
        let number = |k: usize| tokens.indices.get(k).map_or(k, |&k| k as usize);
        let gap = widest_step(wavelengths.as_deref(), w);
        let marks = flux.iter().enumerate().map(|(i, &y)| {
            let first = i % w == 0 && i > 0;
            let (x, apart) = match &wavelengths {
                Some(x) => (x[i], first && x[i] - x[i - 1] > gap),
                None => {
                    let k = number(i / w);
                    ((k * w + i % w) as f64, first && k != number(i / w - 1) + 1)
                }
            };
            Mark { x, y: y.into(), group: 0, joined: !apart }
        });
        Ok(Some(plot::draw(&marks.collect::<Vec<_>>(), false)))
    }

    /// The stretched flux averaged to 256 stretches of equal numbers of samples; bad samples
    /// are interpolated.
    fn raw_features(&self, observation: &Observation) -> Result<Option<Vec<f32>>> {
        let Some(mut samples) = self.read(observation)? else { return Ok(None) };
        samples.interpolate();
        samples.flux.iter_mut().for_each(|x| *x = self.config.stretch.apply(*x));
        let features = rebin(&samples.flux, FEATURES);
        if features.iter().any(|x| !x.is_finite()) {
            return Err(crate::normalise::overflow(&observation.id, &self.config.flux));
        }
        Ok(Some(features))
    }
}

#[cfg(test)]
mod tests {
    use astropt_core::seam::ModalityConfig;

    use super::*;

    fn build(text: &str) -> Box<dyn Modality> {
        let table = format!("samples = 20\nwindow = 8\n{text}").parse().expect("TOML");
        let config: SpectrumConfig = astropt_core::seam::parse_config(table).expect("a table");
        config.build().expect("sound")
    }

    #[test]
    fn a_blank_spectrum_stands_where_a_whole_one_does() {
        let grid = "grid.linear = { start = 4000.0, step = 2.0 }";
        let scale = "wavelength_scale.linear = { offset = 4000.0, scale = 10.0 }";
        for (kind, scale) in [("index", ""), ("wavelength", scale), ("mean-wavelength", scale)] {
            let whole = build(&format!("positions = '{kind}'\n{grid}\n{scale}"));
            let flux = (0..20).map(|k| (k % 7) as f32).collect();
            let mut observation = Observation { id: "x".into(), ..Observation::default() };
            observation.fields.insert("flux".into(), fields::floats(flux, None));
            let tokens = whole.tokenise(&observation).expect("sound").expect("a spectrum");
            let blank = whole.blank().expect("its grid is whole");
            assert_eq!((blank.len, &blank.indices), (tokens.len, &tokens.indices), "{kind}");
            assert_eq!(blank.positions, tokens.positions, "{kind}");
            // Without a start spectra begin anywhere.
            let open =
                build(&format!("positions = '{kind}'\ngrid.linear = {{ step = 2.0 }}\n{scale}"));
            assert_eq!(open.blank(), None);
        }
    }
}
