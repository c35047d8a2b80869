//! Numbers in a file's units -> numbers that a network learns from, and back: the functions
//! that several modalities share.

use astropt_core::Error;
use serde::{Deserialize, Serialize};

/// A function of one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stretch {
    /// Numbers as they are.
    #[default]
    None,
    /// `asinh(x / softening)`: linear below the softening, logarithmic above; the number
    /// is the softening, in the file's own units.
    Arcsinh(f32),
}

impl Stretch {
    /// The stretched number.
    pub(crate) fn apply(self, x: f64) -> f64 {
        match self {
            Self::None => x,
            Self::Arcsinh(softening) => asinh(x / f64::from(softening)),
        }
    }

    /// The inverse of [`apply`](Self::apply).
    pub(crate) fn undo(self, y: f64) -> f64 {
        match self {
            Self::None => y,
            Self::Arcsinh(softening) => y.sinh() * f64::from(softening),
        }
    }

    /// Derivative of [`apply`](Self::apply) at `x`: what a small error is multiplied by.
    pub(crate) fn slope(self, x: f64) -> f64 {
        match self {
            Self::None => 1.0,
            Self::Arcsinh(softening) => 1.0 / x.hypot(f64::from(softening)),
        }
    }

    /// Refuses a softening that is none; `key` names where it is written.
    pub(crate) fn check(self, key: &str) -> Result<(), String> {
        match self {
            Self::Arcsinh(softening) if !(softening.is_finite() && softening > 0.0) => {
                Err(format!("`{key}.arcsinh` is {softening}; the softening must be above 0"))
            }
            _ => Ok(()),
        }
    }
}

/// Arcsinh to single precision, four times as fast as the exact one.
fn asinh(x: f64) -> f64 {
    let size = x.abs();
    if size < 1e-4 {
        // The series, where the logarithm below loses digits.
        return x - x * x * x / 6.0;
    }
    // Beyond 1e150 the square overflows and the 1 no longer counts.
    let value = if size > 1e150 {
        size.ln() + std::f64::consts::LN_2
    } else {
        (size + (size * size + 1.0).sqrt()).ln()
    };
    value.copysign(x)
}

/// A declared change of origin and unit: `(x - offset) / scale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affine {
    /// What becomes 0.
    #[serde(default)]
    pub offset: f64,
    /// What becomes 1, counted from the offset; above 0.
    pub scale: f64,
}

impl Affine {
    /// Nothing changed.
    pub(crate) const IDENTITY: Self = Self { offset: 0.0, scale: 1.0 };

    pub(crate) fn apply(self, x: f64) -> f64 {
        (x - self.offset) / self.scale
    }

    pub(crate) fn undo(self, y: f64) -> f64 {
        y * self.scale + self.offset
    }

    /// Refuses what cannot be undone; `key` names where it is written.
    pub(crate) fn check(self, key: &str) -> Result<(), String> {
        let Self { offset, scale } = self;
        if !(offset.is_finite() && scale.is_finite() && scale > 0.0) {
            return Err(format!(
                "`{key}` has offset {offset} and scale {scale}; both must be finite and the \
                 scale above 0"
            ));
        }
        Ok(())
    }

    /// Rounded to what tokens carry, so that undoing it from there is exact.
    pub(crate) fn rounded(self) -> Self {
        Self { offset: f64::from(self.offset as f32), scale: f64::from(self.scale as f32) }
    }

    /// As tokens carry it.
    pub(crate) fn pair(self) -> [f32; 2] {
        [self.offset as f32, self.scale as f32]
    }

    /// As tokens carried it.
    pub(crate) fn from_pair([offset, scale]: [f32; 2]) -> Self {
        Self { offset: offset.into(), scale: scale.into() }
    }
}

/// Share of the largest number that is added to a standard deviation, so that numbers that
/// differ by no more than their rounding become zeros.
const EVEN: f64 = 1e-6;
/// Standard deviation of a Gaussian of unit median absolute deviation.
const MAD_TO_SIGMA: f64 = 1.4826;

/// Mean, and unbiased standard deviation + 1e-6 max|x|. Without any numbers but zeros, nothing
/// is changed.
pub(crate) fn moments(numbers: &[f64]) -> Affine {
    let largest = largest(numbers);
    if largest == 0.0 {
        return Affine::IDENTITY;
    }
    let n = numbers.len() as f64;
    let offset = numbers.iter().sum::<f64>() / n;
    let squares: f64 = numbers.iter().map(|x| (x - offset) * (x - offset)).sum();
    Affine { offset, scale: (squares / (n - 1.0).max(1.0)).sqrt() + EVEN * largest }
}

/// Median, and 1.4826 times the median absolute deviation from it. Where more than half of
/// the numbers are the same, the deviation is the standard one of [`moments`].
pub(crate) fn robust(numbers: &[f64]) -> Affine {
    let offset = median(numbers);
    let deviations: Vec<f64> = numbers.iter().map(|x| (x - offset).abs()).collect();
    let scale = MAD_TO_SIGMA * median(&deviations);
    let sizes: Vec<f64> = numbers.iter().map(|x| x.abs()).collect();
    if scale > EVEN * median(&sizes) {
        Affine { offset, scale }
    } else {
        Affine { offset, ..moments(numbers) }
    }
}

/// Whether `numbers` differ from `centre` by no more than their rounding, so that their deviation
/// says nothing of them.
pub(crate) fn are_even(numbers: &[f64], centre: f64) -> bool {
    let most = EVEN * largest(numbers);
    numbers.iter().all(|x| (x - centre).abs() <= most)
}

fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |most, x| x.abs().max(most))
}

/// The median; 0 of no numbers.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

/// The number at `rank` between 0 and 1 of ascending numbers, interpolated; 0 of none.
pub(crate) fn quantile(sorted: &[f64], rank: f64) -> f64 {
    let place = rank * sorted.len().saturating_sub(1) as f64;
    let at = |place: f64| sorted.get(place as usize).copied().unwrap_or(0.0);
    let (low, high) = (at(place.floor()), at(place.ceil()));
    // As a weighted sum, since the difference of large numbers overflows.
    let share = place.fract();
    low * (1.0 - share) + high * share
}

/// `numbers` averaged to `bins` equal stretches, samples on a boundary shared.
pub(crate) fn rebin(numbers: &[f64], bins: usize) -> Vec<f32> {
    let mut sums = vec![0.0];
    for x in numbers {
        sums.push(sums[sums.len() - 1] + x);
    }
    let until = |place: f64| {
        let whole = (place as usize).min(numbers.len());
        let part = numbers.get(whole).map_or(0.0, |x| x * (place - whole as f64));
        sums[whole] + part
    };
    let width = numbers.len() as f64 / bins as f64;
    (0..bins)
        .map(|k| ((until((k + 1) as f64 * width) - until(k as f64 * width)) / width) as f32)
        .collect()
}

/// Refuses a weight that a loss cannot have.
pub(crate) fn check_loss_weight(weight: f32) -> Result<(), String> {
    if weight.is_finite() && weight >= 0.0 {
        return Ok(());
    }
    Err(format!("`loss_weight` is {weight}; it must be 0 or more"))
}

/// Refuses `key` outside `1..=most`.
pub(crate) fn check_size(key: &str, size: usize, most: usize) -> Result<(), String> {
    if (1..=most).contains(&size) {
        return Ok(());
    }
    Err(format!("`{key}` is {size}; it must lie between 1 and {most}"))
}

/// What is wrong when numbers leave single precision on their way into tokens.
pub(crate) fn overflow(id: &str, field: &str) -> Error {
    Error::object(
        id,
        format!(
            "field {field:?} has numbers that are too large or too small to be normalised in \
             single precision; mask them, or state a scale that fits"
        ),
    )
}

/// The default of every `loss_weight`.
pub(crate) fn default_loss_weight() -> f32 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arcsinh_is_good_to_single_precision() {
        for exponent in -300..300 {
            for x in [1.0, -2.7].map(|x: f64| x * 10f64.powi(exponent)) {
                assert!((asinh(x) / x.asinh() - 1.0).abs() < 1e-8, "{x}");
            }
        }
        assert_eq!(asinh(0.0), 0.0);
    }

    #[test]
    fn the_slope_is_that_of_the_stretch() {
        let stretch = Stretch::Arcsinh(0.3);
        for x in [-4.0, -0.1, 0.0, 0.2, 50.0] {
            let quotient = (stretch.apply(x + 1e-5) - stretch.apply(x - 1e-5)) / 2e-5;
            assert!((quotient / stretch.slope(x) - 1.0).abs() < 1e-5, "{x}");
        }
    }

    #[test]
    fn outliers_do_not_move_the_robust_scale() {
        let mut numbers: Vec<f64> = (0..101).map(f64::from).collect();
        assert_eq!(robust(&numbers), Affine { offset: 50.0, scale: 25.0 * MAD_TO_SIGMA });
        numbers[100] = 1e9;
        assert_eq!(robust(&numbers), Affine { offset: 50.0, scale: 25.0 * MAD_TO_SIGMA });
        // More than half are the same: the standard deviation takes over.
        assert!((robust(&[1.0, 1.0, 1.0, 3.0]).scale - 1.0).abs() < 1e-5);
        assert_eq!(robust(&[0.0; 3]), Affine::IDENTITY);
        assert_eq!(robust(&[]), Affine::IDENTITY);
    }

    #[test]
    fn numbers_that_are_the_same_become_zeros_in_any_unit() {
        for x in [1e-17, 0.1, -7e30] {
            let affine = moments(&[x; 5]).rounded();
            assert!(affine.apply(x).abs() < 0.1, "{x}: {affine:?}");
        }
    }

    #[test]
    fn numbers_are_even_up_to_their_rounding() {
        assert!(are_even(&[18.5], 18.5) && are_even(&[0.0; 3], 0.0));
        assert!(are_even(&[18.5, 18.500_002, 18.5], 18.5));
        assert!(!are_even(&[18.5, 18.5, 18.501], 18.5));
    }

    #[test]
    fn bins_share_samples() {
        assert_eq!(rebin(&[1.0, 2.0, 6.0], 3), [1.0, 2.0, 6.0]);
        assert_eq!(rebin(&[1.0, 2.0, 6.0], 2), [(1.0 + 1.0) / 1.5, (1.0 + 6.0) / 1.5]);
        assert_eq!(rebin(&[5.0], 3), [5.0; 3]);
    }
}
