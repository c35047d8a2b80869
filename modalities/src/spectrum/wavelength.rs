//! Wavelengths of samples, positions of windows, and back.

use astropt_core::tokens::Tokens;

use super::config::{Grid, PositionKind, SpectrumConfig, WavelengthAs, WavelengthScale};

/// How far a sample may lie from the declared grid, in steps.
const OFF_GRID: f64 = 0.1;

impl WavelengthScale {
    /// The position of a wavelength.
    fn apply(self, wavelength: f64) -> f64 {
        match self {
            Self::Linear(affine) => affine.apply(wavelength),
            Self::Log10(affine) => affine.apply(wavelength.log10()),
        }
    }

    /// The wavelength of a position.
    fn undo(self, position: f64) -> f64 {
        match self {
            Self::Linear(affine) => affine.undo(position),
            Self::Log10(affine) => 10f64.powf(affine.undo(position)),
        }
    }
}

impl Grid {
    /// The wavelength of sample `i`, where the grid is declared whole.
    fn at(self, i: usize) -> Option<f64> {
        match self {
            Self::Field => None,
            Self::Linear(spacing) => Some(spacing.start? + i as f64 * spacing.step),
            Self::Log10(spacing) => Some(10f64.powf(spacing.start? + i as f64 * spacing.step)),
        }
    }

    /// The wavelength `k` samples after one of wavelength `from`; `None` without a step.
    fn after(self, from: f64, k: usize) -> Option<f64> {
        match self {
            Self::Field => None,
            Self::Linear(spacing) => Some(from + k as f64 * spacing.step),
            Self::Log10(spacing) => Some(from * 10f64.powf(k as f64 * spacing.step)),
        }
    }

    /// How many steps lie between two wavelengths.
    fn steps(self, from: f64, to: f64) -> Option<f64> {
        match self {
            Self::Field => None,
            Self::Linear(spacing) => Some((to - from) / spacing.step),
            Self::Log10(spacing) => Some((to / from).log10() / spacing.step),
        }
    }

    /// The first wavelength of a window of `w` samples with this mean.
    fn first_of(self, mean: f64, w: usize) -> Option<f64> {
        match self {
            Self::Field => None,
            Self::Linear(spacing) => Some(mean - 0.5 * (w - 1) as f64 * spacing.step),
            Self::Log10(_) => {
                let sum: Option<f64> = (0..w).map(|k| self.after(1.0, k)).sum();
                sum.map(|sum| mean * w as f64 / sum)
            }
        }
    }

    /// Whether every spectrum has the same wavelengths, so that none need be read.
    pub(super) fn is_whole(self) -> bool {
        self.at(0).is_some()
    }

    /// Whether the step is declared.
    pub(super) fn is_even(self) -> bool {
        self != Self::Field
    }
}

impl SpectrumConfig {
    /// What the wavelength field of an example of `n` samples holds: the declared grid, or an even
    /// one from 4000 on.
    pub(super) fn example(&self, n: usize) -> Vec<f64> {
        const START: f64 = 4000.0;
        let at = |i: usize| self.grid.at(i).or_else(|| self.grid.after(START, i));
        let even = |i: usize| START + 1.25 * i as f64;
        let wavelength = |i: usize| match (at(i).unwrap_or_else(|| even(i)), self.wavelength_as) {
            (x, WavelengthAs::Linear) => x,
            (x, WavelengthAs::Log10) => x.log10(),
        };
        (0..n).map(wavelength).collect()
    }

    /// The wavelengths of `len` samples: `field` as the file has it, or the declared grid.
    ///
    /// # Errors
    /// What is wrong with the field, and where.
    pub(super) fn wavelengths(
        &self,
        field: Option<&[f64]>,
        len: usize,
    ) -> Result<Vec<f64>, String> {
        let Some(field) = field else {
            return Ok((0..len).filter_map(|i| self.grid.at(i)).collect());
        };
        let found: Vec<f64> = match self.wavelength_as {
            WavelengthAs::Linear => field.to_vec(),
            WavelengthAs::Log10 => field.iter().map(|&log| 10f64.powf(log)).collect(),
        };
        let sound = |x: f64| x > 0.0 && x < 1e30;
        if let Some(i) = found.iter().position(|&x| !sound(x)) {
            return Err(format!(
                "has {} at sample {i}; wavelengths must be above 0 and finite",
                field[i]
            ));
        }
        if let Some(i) = found.windows(2).position(|pair| pair[0] >= pair[1]) {
            return Err(format!(
                "does not ascend from sample {i} to the next: {} and {}; sort the spectrum",
                field[i],
                field[i + 1]
            ));
        }
        for (i, &x) in found.iter().enumerate() {
            let off = self.grid.steps(found[0], x).map_or(0.0, |steps| (steps - i as f64).abs());
            if off > OFF_GRID {
                return Err(format!(
                    "has {} at sample {i}, {off:.2} steps from where the recipe's `grid` puts \
                     it; mend the step or set `grid = \"field\"`",
                    field[i]
                ));
            }
        }
        Ok(found)
    }

    /// The positions of the windows `kept` (by number) of samples with these wavelengths.
    ///
    /// # Errors
    /// When single precision cannot tell samples apart.
    pub(super) fn positions(
        &self,
        wavelengths: &[f64],
        kept: &[usize],
    ) -> Result<Vec<f32>, String> {
        let (w, Some(scale)) = (self.window, self.wavelength_scale) else { return Ok(Vec::new()) };
        let mut positions = Vec::new();
        for &k in kept {
            let real = &wavelengths[k * w..wavelengths.len().min((k + 1) * w)];
            let Some(&last) = real.last() else { continue };
            let pads = 1..=w - real.len();
            if self.positions == PositionKind::Wavelength {
                // A repeated wavelength is how the inverse knows padding.
                let window = real.iter().copied().chain(pads.map(|_| last));
                positions.extend(window.map(|x| scale.apply(x) as f32));
                let real = &positions[positions.len() - w..][..real.len()];
                if let Some(i) = real.windows(2).position(|pair| pair[0] >= pair[1]) {
                    return Err(format!(
                        "has samples, {} and the next, whose positions are the same in single \
                         precision; bring `wavelength_scale.offset` nearer to them",
                        k * w + i
                    ));
                }
            } else {
                let padding = pads.filter_map(|k| self.grid.after(last, k));
                let window: Vec<f64> = real.iter().copied().chain(padding).collect();
                let mean = window.iter().sum::<f64>() / window.len() as f64;
                positions.push(scale.apply(mean) as f32);
            }
        }
        if positions.iter().any(|x| !x.is_finite()) {
            return Err("gives positions beyond single precision; state a `wavelength_scale` \
                        that fits"
                .to_owned());
        }
        Ok(positions)
    }

    /// The wavelength of every sample of `tokens`, padding included; `None` where the
    /// positions do not tell.
    pub(super) fn wavelengths_of(&self, tokens: &Tokens) -> Option<Vec<f64>> {
        let w = self.window;
        let undo = |&position: &f32| Some(self.wavelength_scale?.undo(position.into()));
        match self.positions {
            PositionKind::Index => {
                let first = tokens.indices.iter().map(|&k| k as usize * w);
                first.flat_map(|first| (first..first + w).map(|i| self.grid.at(i))).collect()
            }
            PositionKind::Wavelength => tokens.positions.iter().map(undo).collect(),
            PositionKind::MeanWavelength => {
                let window = |position| {
                    let first = self.grid.first_of(undo(position)?, w)?;
                    (0..w).map(|k| self.grid.after(first, k)).collect::<Option<Vec<_>>>()
                };
                let windows: Option<Vec<_>> = tokens.positions.iter().map(window).collect();
                windows.map(|windows| windows.concat())
            }
        }
    }

    /// How many samples at the end of `tokens` are known to be padding.
    pub(super) fn padding_of(&self, tokens: &Tokens) -> usize {
        if self.positions != PositionKind::Wavelength {
            return 0;
        }
        let last = &tokens.positions[tokens.positions.len().saturating_sub(self.window)..];
        last.windows(2).rev().take_while(|pair| pair[0] == pair[1]).count()
    }
}
