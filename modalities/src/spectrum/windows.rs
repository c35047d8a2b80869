//! Samples -> tokens: the inner loops.

use astropt_core::observation::Observation;
use astropt_core::tokens::Tokens;
use astropt_core::{Error, Result};

use super::config::{Bad, PositionKind, Standardise, Tail};
use super::{Samples, Spectrum};
use crate::fields::refuse;
use crate::normalise::{Affine, median, moments, overflow, robust};

impl Samples {
    /// Gives bad samples the flux between their good neighbours. At least one is good.
    pub(super) fn interpolate(&mut self) {
        let good: Vec<usize> = (0..self.flux.len()).filter(|&i| self.good[i]).collect();
        let (Some(&first), Some(&last)) = (good.first(), good.last()) else { return };
        let (start, end) = (self.flux[first], self.flux[last]);
        self.flux[..first].fill(start);
        self.flux[last..].fill(end);
        for pair in good.windows(2) {
            let (a, b) = (self.flux[pair[0]], self.flux[pair[1]]);
            let steps = (pair[1] - pair[0]) as f64;
            for i in pair[0] + 1..pair[1] {
                let share = (i - pair[0]) as f64 / steps;
                self.flux[i] = a * (1.0 - share) + b * share;
            }
        }
        self.good.fill(true);
    }

    /// The good ones of these samples.
    fn good(&self, range: std::ops::Range<usize>) -> Vec<f64> {
        let pairs = self.flux[range.clone()].iter().zip(&self.good[range]);
        pairs.filter(|(_, good)| **good).map(|(flux, _)| *flux).collect()
    }
}

impl Spectrum {
    /// The tokens of samples that have been checked.
    pub(super) fn tokens(&self, observation: &Observation, mut samples: Samples) -> Result<Tokens> {
        let config = &self.config;
        if config.bad == Bad::Interpolate {
            samples.interpolate();
        }
        samples.flux.iter_mut().for_each(|x| *x = config.stretch.apply(*x));
        let kept = self.kept_windows(observation, &samples)?;
        let whole = self.whole_affine(observation, &samples)?;

        let (w, len) = (config.window, samples.flux.len());
        let mut tokens = Tokens { len: kept.len(), ..Tokens::default() };
        for &k in &kept {
            let range = k * w..len.min((k + 1) * w);
            let affine = match whole {
                Some(affine) => affine,
                None => moments(&samples.good(range.clone())).rounded(),
            };
            let pads = w - range.len();
            for i in range {
                let value = if samples.good[i] { affine.apply(samples.flux[i]) } else { 0.0 };
                tokens.values.to_mut().push(value as f32);
            }
            let padded = tokens.values.len() + pads;
            tokens.values.to_mut().resize(padded, 0.0);
            if !matches!(config.standardise, Standardise::None | Standardise::Affine(_)) {
                tokens.affine.push(affine.pair());
            }
        }
        let numbers = tokens.values.iter().chain(tokens.affine.as_flattened());
        if numbers.into_iter().any(|x| !x.is_finite()) {
            return Err(overflow(&observation.id, &config.flux));
        }
        match config.positions {
            PositionKind::Index => tokens.indices = kept.iter().map(|&k| k as u32).collect(),
            _ => {
                let wavelengths = samples.wavelengths.as_deref().unwrap_or_default();
                tokens.positions = config
                    .positions(wavelengths, &kept)
                    .map_err(|message| refuse(observation, &config.wavelength, message))?;
            }
        }
        Ok(tokens)
    }

    /// Numbers of the windows that become tokens.
    fn kept_windows(&self, observation: &Observation, samples: &Samples) -> Result<Vec<usize>> {
        let (w, len) = (self.config.window, samples.flux.len());
        let windows = match self.config.tail {
            Tail::Pad => len.div_ceil(w),
            Tail::Drop => len / w,
        };
        if windows == 0 {
            return Err(refuse(
                observation,
                &self.config.flux,
                format!("has {len} samples, fewer than a `window` of {w}; use `tail = \"pad\"`"),
            ));
        }
        let clean = |k: &usize| samples.good[k * w..len.min((k + 1) * w)].iter().all(|good| *good);
        let kept: Vec<usize> = match self.config.bad {
            Bad::DropWindow => (0..windows).filter(clean).collect(),
            _ => (0..windows).collect(),
        };
        if kept.is_empty() {
            return Err(refuse(
                observation,
                &self.config.flux,
                "has a bad sample in every window; use a smaller `window` or `bad = \"interpolate\"`",
            ));
        }
        Ok(kept)
    }

    /// What is taken out of the whole spectrum; `None`: of each window on its own.
    fn whole_affine(&self, observation: &Observation, samples: &Samples) -> Result<Option<Affine>> {
        let good = || samples.good(0..samples.flux.len());
        let affine = match self.config.standardise {
            Standardise::Window => return Ok(None),
            Standardise::None => Affine::IDENTITY,
            Standardise::Affine(affine) => affine,
            Standardise::Robust => robust(&good()).rounded(),
            Standardise::Median => Affine { offset: 0.0, scale: median(&good()) }.rounded(),
        };
        if affine.scale > 0.0 {
            return Ok(Some(affine));
        }
        Err(Error::object(
            &observation.id,
            format!(
                "field {:?} has the median {}, and `standardise = \"median\"` divides by it; use \
                 another `standardise` for spectra that are mostly noise",
                self.config.flux, affine.scale
            ),
        ))
    }
}
