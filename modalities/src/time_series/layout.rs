//! Where the numbers of samples stand in tokens and positions.

use std::f64::consts::TAU;

use astropt_core::tokens::Tokens;

use super::config::{BandAs, TimePosition, TimeSeriesConfig};
use super::read::Sample;
use crate::normalise::{Affine, Stretch};

impl TimePosition {
    /// Appends the position of time `t`, counted from zero.
    fn push(&self, t: f64, out: &mut Vec<f32>) {
        match self {
            Self::Affine(scale) => out.push((t / scale) as f32),
            Self::Periodic(periods) => {
                for period in periods {
                    // Reduced first, which keeps the phase of long times.
                    let (sine, cosine) = (TAU * (t / period).fract()).sin_cos();
                    out.extend([sine as f32, cosine as f32]);
                }
            }
        }
    }

    /// The time of a position, for periods modulo the longest of them.
    fn time(&self, position: &[f32]) -> f64 {
        match self {
            Self::Affine(scale) => f64::from(position[0]) * scale,
            Self::Periodic(periods) => {
                let phase = |k: usize| {
                    let [sine, cosine] = [position[2 * k], position[2 * k + 1]].map(f64::from);
                    sine.atan2(cosine) / TAU
                };
                let mut order: Vec<usize> = (0..periods.len()).collect();
                order.sort_by(|&a, &b| periods[b].total_cmp(&periods[a]));
                let longest = order[0];
                let mut time = phase(longest).rem_euclid(1.0) * periods[longest];
                // Each shorter period tells the time within itself more sharply.
                for k in order.into_iter().skip(1) {
                    let cycles = time / periods[k] - phase(k);
                    time = (cycles.round() + phase(k)) * periods[k];
                }
                time
            }
        }
    }
}

/// The place of the largest of `numbers`; 0 of none.
fn largest(numbers: &[f32]) -> usize {
    let pairs = numbers.iter().enumerate();
    pairs.max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(place, _)| place)
}

impl TimeSeriesConfig {
    /// The tokens of `kept` samples (at least one) under a normalisation.
    pub(super) fn encode(&self, kept: &[Sample], affine: Affine) -> Tokens {
        let zero = self.zero.unwrap_or(kept[0].time);
        let windows: Vec<&[Sample]> = kept.chunks(self.window).collect();
        let mut tokens = Tokens { len: windows.len(), ..Tokens::default() };
        for (k, window) in windows.iter().enumerate() {
            for sample in *window {
                self.push_values(sample, affine, tokens.values.to_mut());
            }
            tokens.values.to_mut().resize((k + 1) * self.window * self.value_width(), 0.0);
            self.push_places(window, zero, &mut tokens.positions);
            if self.next {
                // After the last there is none: its own place stands for it.
                let next = windows.get(k + 1).unwrap_or(window);
                self.push_places(next, zero, &mut tokens.positions);
            }
        }
        tokens
    }

    fn push_values(&self, sample: &Sample, affine: Affine, out: &mut Vec<f32>) {
        out.push(affine.apply(self.stretch.apply(sample.value)) as f32);
        if self.error.is_some() {
            out.push((self.stretched_error(sample) / affine.scale) as f32);
        }
        if self.band_as == BandAs::Token {
            self.push_band(sample, out);
        }
    }

    /// The error of a stretched value: to first order, errors follow the slope.
    pub(super) fn stretched_error(&self, sample: &Sample) -> f64 {
        sample.error * self.stretch.slope(sample.value)
    }

    fn push_band(&self, sample: &Sample, out: &mut Vec<f32>) {
        out.extend((0..self.bands.len()).map(|k| if k == sample.band { 1.0 } else { 0.0 }));
    }

    fn push_places(&self, window: &[Sample], zero: f64, out: &mut Vec<f32>) {
        for sample in window.iter().chain(window.iter().rev().take(1).cycle()).take(self.window) {
            self.positions.push(sample.time - zero, out);
            if self.band_as == BandAs::Position {
                self.push_band(sample, out);
            }
        }
    }

    /// The samples of `tokens`, whose normalisation was `affine`; times are counted from
    /// `zero` where it is stated, else from the first sample. Padding is left out.
    pub(super) fn decode(&self, tokens: &Tokens, affine: Affine, stretch: Stretch) -> Vec<Sample> {
        let (v, p) = (self.value_width(), self.place_width());
        let stride = tokens.positions.len() / tokens.len.max(1);
        let places = tokens
            .positions
            .chunks_exact(stride)
            .flat_map(|window| window[..p * self.window].chunks_exact(p));
        let padding = self.padding(tokens);
        let real = tokens.len * self.window - padding;
        tokens
            .values
            .chunks_exact(v)
            .zip(places)
            .take(real)
            .map(|(values, place)| {
                let value = stretch.undo(affine.undo(values[0].into()));
                let error = match self.error {
                    // What is read has errors above 0; a model knows no such bound.
                    Some(_) if values[1] > 0.0 => {
                        f64::from(values[1]) * affine.scale / stretch.slope(value)
                    }
                    Some(_) => f64::NAN,
                    None => 0.0,
                };
                let bands = match self.band_as {
                    BandAs::Token => &values[v - self.bands.len()..],
                    BandAs::Position => &place[p - self.bands.len()..],
                };
                let time = self.positions.time(place) + self.zero.unwrap_or(0.0);
                Sample { time, value, error, band: largest(bands) }
            })
            .collect()
    }

    /// How many samples at the end of the last window repeat the place of the one before.
    fn padding(&self, tokens: &Tokens) -> usize {
        let p = self.place_width();
        let stride = tokens.positions.len() / tokens.len.max(1);
        let start = tokens.positions.len().saturating_sub(stride);
        let last = &tokens.positions[start..][..p * self.window];
        let places: Vec<&[f32]> = last.chunks_exact(p).collect();
        places.windows(2).rev().take_while(|pair| pair[0] == pair[1]).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_from_their_phases() {
        let positions = TimePosition::Periodic(vec![1.0, 29.53, 365.25, 10_000.0]);
        for t in [0.0, 0.25, 3.999, 812.125, 9_999.3] {
            let mut place = Vec::new();
            positions.push(t, &mut place);
            assert_eq!(place.len(), 8);
            let off = (positions.time(&place) - t).abs();
            assert!(off < 1e-6, "{t}: {off}");
        }
    }

    #[test]
    fn an_error_that_a_model_made_below_zero_is_none() {
        let table = "error = 'error'\nmax_tokens = 2\npositions = { affine = 1.0 }";
        let config: TimeSeriesConfig =
            astropt_core::seam::parse_config(table.parse().expect("TOML")).expect("a table");
        let sample = |error| Sample { time: 0.0, value: 18.0, error, band: 0 };
        let tokens = config.encode(&[sample(0.1), sample(-0.1)], Affine::IDENTITY);
        let samples = config.decode(&tokens, Affine::IDENTITY, Stretch::default());
        assert!((samples[0].error - 0.1).abs() < 1e-6 && samples[1].error.is_nan());
    }

    #[test]
    fn a_long_time_keeps_its_phase() {
        let positions = TimePosition::Periodic(vec![1.0]);
        let mut place = Vec::new();
        positions.push(2_455_000.25, &mut place);
        assert!((place[0] - 1.0).abs() < 1e-6 && place[1].abs() < 1e-6, "{place:?}");
    }
}
