//! Units of photometry, and what they are in microjansky.

use serde::{Deserialize, Serialize};

/// Flux density of an object of AB magnitude 0, in microjansky (Oke & Gunn 1983).
const AB_ZERO: f64 = 3631e6;
/// 2.5 / ln 10: the error of a magnitude that belongs to a relative error of a flux.
const POGSON: f64 = 1.085_736_204_758_129_6;

/// What a catalogue's numbers are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Jansky, 1e-26 W / m^2 / Hz.
    Jy,
    /// Millijansky.
    #[serde(rename = "mJy")]
    MilliJy,
    /// Microjansky.
    #[serde(rename = "uJy")]
    MicroJy,
    /// The flux of an object of AB magnitude 22.5.
    #[serde(rename = "nanomaggy")]
    Nanomaggy,
    /// AB magnitudes, and their errors in magnitudes.
    #[serde(rename = "mag")]
    Magnitude,
}

impl Unit {
    /// As recipes and files write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jy => "Jy",
            Self::MilliJy => "mJy",
            Self::MicroJy => "uJy",
            Self::Nanomaggy => "nanomaggy",
            Self::Magnitude => "mag",
        }
    }

    /// A flux and its error in microjansky; those of a magnitude to first order.
    pub fn to_microjansky(self, value: f64, error: f64) -> (f64, f64) {
        match self.factor() {
            Some(factor) => (value * factor, error * factor),
            None => {
                let flux = AB_ZERO * 10f64.powf(-0.4 * value);
                (flux, flux * error / POGSON)
            }
        }
    }

    /// The inverse of [`to_microjansky`](Self::to_microjansky). A flux that is not above 0
    /// has no magnitude: NaN.
    pub fn from_microjansky(self, flux: f64, error: f64) -> (f64, f64) {
        match self.factor() {
            Some(factor) => (flux / factor, error / factor),
            None if flux > 0.0 => (-2.5 * (flux / AB_ZERO).log10(), POGSON * error / flux),
            None => (f64::NAN, f64::NAN),
        }
    }

    /// Microjansky per unit; `None` for magnitudes.
    fn factor(self) -> Option<f64> {
        match self {
            Self::Jy => Some(1e6),
            Self::MilliJy => Some(1e3),
            Self::MicroJy => Some(1.0),
            Self::Nanomaggy => Some(AB_ZERO * 1e-9),
            Self::Magnitude => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A magnitude of 23.9 is a microjansky, 22.5 a nanomaggy.
    #[test]
    fn known_fluxes() {
        let (flux, error) = Unit::Magnitude.to_microjansky(23.9, 0.1);
        assert!((flux - 1.0).abs() < 1e-3 && (error - 0.0921).abs() < 1e-3, "{flux} {error}");
        let (flux, _) = Unit::Nanomaggy.to_microjansky(1.0, 0.1);
        assert!((Unit::Magnitude.from_microjansky(flux, 0.1).0 - 22.5).abs() < 1e-9);
    }

    #[test]
    fn every_unit_comes_back() {
        for unit in [Unit::Jy, Unit::MilliJy, Unit::MicroJy, Unit::Nanomaggy, Unit::Magnitude] {
            let (flux, error) = unit.to_microjansky(17.5, 0.25);
            let (value, again) = unit.from_microjansky(flux, error);
            assert!((value - 17.5).abs() < 1e-9 && (again - 0.25).abs() < 1e-9, "{unit:?}");
        }
    }
}
