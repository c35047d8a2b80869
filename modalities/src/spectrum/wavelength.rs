//! Wavelengths of samples, positions of windows, and back.

use astropt_core::tokens::Tokens;

use super::config::{Bad, Grid, PositionKind, SpectrumConfig, WavelengthAs, WavelengthScale};

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

/// `numbers` with those that are not `good` on the straight line, in sample number, between the
/// nearest good ones, and beyond them as far apart as the nearest two; `None` of a single good one.
fn filled(numbers: &[f64], good: &[bool]) -> Option<Vec<f64>> {
    let places: Vec<usize> = (0..numbers.len()).filter(|&i| good[i]).collect();
    let mut filled = numbers.to_vec();
    for i in (0..numbers.len()).filter(|&i| !good[i]) {
        let after = places.partition_point(|&place| place < i);
        let right = after.clamp(1, places.len().saturating_sub(1).max(1));
        let (&a, &b) = (places.get(right - 1)?, places.get(right)?);
        let step = (numbers[b] - numbers[a]) / (b - a) as f64;
        filled[i] = numbers[a] + (i as f64 - a as f64) * step;
    }
    Some(filled)
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

    /// The wavelengths of `len` samples of a grid that is declared whole.
    pub(super) fn declared(&self, len: usize) -> Vec<f64> {
        (0..len).filter_map(|i| self.grid.at(i)).collect()
    }

    /// The wavelengths of samples, of which the `good` ones can be used: `field` as the file has it.
    /// Files pad with what is no wavelength: where those of bad samples do not fit, none of them is
    /// read, and what lies between good neighbours, or beyond them, stands for it.
    ///
    /// # Errors
    /// What is wrong with the field, and where.
    pub(super) fn wavelengths(&self, field: &[f64], good: &[bool]) -> Result<Vec<f64>, String> {
        let found = self.in_units(field);
        let all = vec![true; found.len()];
        if self.check_wavelengths(field, &found, &all).is_ok() {
            return Ok(found);
        }
        self.check_wavelengths(field, &found, good)?;
        if self.bad == Bad::DropWindow {
            // The windows of bad samples are left out, whatever stands there.
            return Ok(found);
        }
        let field = filled(field, good).ok_or(
            "tells the wavelength of a single good sample, of which those of the others do not \
             follow; leave the object out, or set `bad = \"drop-window\"`",
        )?;
        let found = self.in_units(&field);
        self.check_wavelengths(&field, &found, &all)?;
        Ok(found)
    }

    /// The wavelengths that a field says.
    fn in_units(&self, field: &[f64]) -> Vec<f64> {
        match self.wavelength_as {
            WavelengthAs::Linear => field.to_vec(),
            WavelengthAs::Log10 => field.iter().map(|&log| 10f64.powf(log)).collect(),
        }
    }

    /// Checks that the wavelengths `found` in `field` of the samples that are `used` can be, ascend
    /// and lie on the declared grid.
    fn check_wavelengths(&self, field: &[f64], found: &[f64], used: &[bool]) -> Result<(), String> {
        let places: Vec<usize> = (0..found.len()).filter(|&i| used[i]).collect();
        let sound = |x: f64| x > 0.0 && x < 1e30;
        if let Some(&i) = places.iter().find(|&&i| !sound(found[i])) {
            return Err(format!(
                "has {} at sample {i}; wavelengths must be above 0 and finite",
                field[i]
            ));
        }
        if let Some(pair) = places.windows(2).find(|pair| found[pair[0]] >= found[pair[1]]) {
            let (i, j) = (pair[0], pair[1]);
            return Err(format!(
                "does not ascend from sample {i} to sample {j}: {} and {}; sort the spectrum",
                field[i], field[j]
            ));
        }
        let Some(&first) = places.first() else { return Ok(()) };
        for &i in &places {
            let steps = self.grid.steps(found[first], found[i]);
            let off = steps.map_or(0.0, |steps| (steps - (i - first) as f64).abs());
            if off > OFF_GRID {
                return Err(format!(
                    "has {} at sample {i}, {off:.2} steps from where the recipe's `grid` puts \
                     it; mend the step or set `grid = \"field\"`",
                    field[i]
                ));
            }
        }
        Ok(())
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

    /// The wavelength that a position stands for.
    pub(super) fn wavelength_at(&self, position: f32) -> Option<f64> {
        Some(self.wavelength_scale?.undo(position.into()))
    }

    /// The wavelength of every sample of `tokens`, padding included; `None` where the
    /// positions do not tell.
    pub(super) fn wavelengths_of(&self, tokens: &Tokens) -> Option<Vec<f64>> {
        let w = self.window;
        let undo = |&position: &f32| self.wavelength_at(position);
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
