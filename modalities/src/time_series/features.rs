//! Numbers that sum up a light curve, for a probe to start from.

use super::read::Sample;
use crate::normalise::{quantile, robust};

/// Numbers per band.
pub(super) const FEATURES: usize = 9;

/// Per band, `[bands, 9]`: ln(1 + samples), ln(1 + time span), median, 1.4826 MAD; the 5th,
/// 25th, 75th and 95th percentile as differences from the median; and the von Neumann ratio
/// (mean square of successive differences over the variance, von Neumann 1941), which is 2
/// for white noise and less for smooth curves. Zeros for a band without samples.
pub(super) fn summary(samples: &[Sample], bands: usize) -> Vec<f32> {
    let band = |k: usize| samples.iter().filter(|s| s.band == k).copied().collect::<Vec<_>>();
    (0..bands).flat_map(|k| of_band(&band(k))).map(|x| x as f32).collect()
}

/// Samples of one band in order of time.
fn of_band(samples: &[Sample]) -> [f64; FEATURES] {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return [0.0; FEATURES];
    };
    let values: Vec<f64> = samples.iter().map(|s| s.value).collect();
    let centre = robust(&values);
    let mut sorted = values.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let off = |rank| quantile(&sorted, rank) - centre.offset;
    [
        (samples.len() as f64).ln_1p(),
        (last.time - first.time).ln_1p(),
        centre.offset,
        centre.scale,
        off(0.05),
        off(0.25),
        off(0.75),
        off(0.95),
        von_neumann(&values),
    ]
}

fn von_neumann(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    let steps = values.windows(2).map(|pair| (pair[1] - pair[0]) * (pair[1] - pair[0]));
    if variance > 0.0 { steps.sum::<f64>() / (n - 1.0) / variance } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smooth_curve_is_told_from_noise() {
        let smooth: Vec<f64> = (0..200).map(|i| (f64::from(i) / 20.0).sin()).collect();
        let noise: Vec<f64> = (0..200).map(|i| (f64::from(i * i) * 1.7).sin()).collect();
        assert!(von_neumann(&smooth) < 0.1);
        assert!((von_neumann(&noise) - 2.0).abs() < 0.5);
        assert_eq!(von_neumann(&[3.0; 4]), 0.0);
    }

    #[test]
    fn each_band_has_its_own_numbers() {
        let sample = |time, value, band| Sample { time, value, error: 0.0, band };
        let samples = [sample(0.0, 1.0, 1), sample(2.0, 3.0, 1), sample(5.0, 2.0, 1)];
        let features = summary(&samples, 3);
        assert_eq!(features.len(), 3 * FEATURES);
        assert_eq!(features[..FEATURES], [0.0; FEATURES]);
        let of_second = &features[FEATURES..2 * FEATURES];
        assert_eq!(of_second[0], 4f32.ln());
        assert_eq!((of_second[1], of_second[2]), (6f32.ln(), 2.0));
    }
}
