//! What a recipe's `[modality.NAME]` table of kind `sed` can say.

use astropt_core::seam::{Modality, ModalityConfig};
use astropt_core::{Error, Result, register_modality};
use serde::{Deserialize, Serialize};

use crate::sed::Sed;
use crate::unit::Unit;

/// Most bands: more than any survey or combination of surveys has.
const MAX_BANDS: usize = 4096;
/// Wavelengths closer than this, as a ratio, are one band.
pub(crate) const SAME_BAND: f64 = 1.0005;

/// Configuration of the modality `sed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SedConfig {
    /// Pivot wavelength of each band in angstrom, ascending, in the order of the fields'
    /// numbers.
    pub wavelengths: Vec<f64>,
    /// What fluxes and errors are in: `Jy`, `mJy`, `uJy`, `nanomaggy` or `mag` (AB).
    pub unit: Unit,
    /// Flux in microjansky around which asinh turns from linear to logarithmic (Lupton, Gunn
    /// & Szalay 1999): about the noise of a faint object.
    pub softening: f64,
    /// Field of fluxes `[bands]`. An object without it lacks the modality.
    #[serde(default = "default_flux")]
    pub flux: String,
    /// Field of their standard deviations `[bands]`. A band is measured where its flux is
    /// finite and its error finite and above 0; others (NaN, -99) have no token.
    #[serde(default = "default_error")]
    pub error: String,
    /// Weight of this modality's loss.
    #[serde(default = "default_loss_weight")]
    pub loss_weight: f32,
}

fn default_flux() -> String {
    "flux".into()
}

fn default_error() -> String {
    "flux_error".into()
}

fn default_loss_weight() -> f32 {
    1.0
}

#[typetag::serde(name = "sed")]
impl ModalityConfig for SedConfig {
    fn build(&self) -> Result<Box<dyn Modality>> {
        check_wavelengths(&self.wavelengths)?;
        let Self { softening, loss_weight, .. } = self;
        if !(softening.is_finite() && *softening > 0.0) {
            return Err(Error::Misuse(format!("`softening` is {softening}; it must be above 0")));
        }
        if !(loss_weight.is_finite() && *loss_weight >= 0.0) {
            return Err(Error::Misuse(format!(
                "`loss_weight` is {loss_weight}; it must be 0 or more"
            )));
        }
        Ok(Box::new(Sed::new(self.clone())))
    }
}

/// Refuses wavelengths that are none, too many, or not in order.
pub(crate) fn check_wavelengths(wavelengths: &[f64]) -> Result<()> {
    let refuse = |what: String| Err(Error::Misuse(format!("`wavelengths` {what}")));
    if !(1..=MAX_BANDS).contains(&wavelengths.len()) {
        return refuse(format!("has {} bands; 1 to {MAX_BANDS} can be", wavelengths.len()));
    }
    if let Some(wrong) = wavelengths.iter().find(|&&w| !(w > 1e-3 && w < 1e15)) {
        return refuse(format!("holds {wrong}, which is no wavelength in angstrom"));
    }
    if let Some(pair) = wavelengths.windows(2).find(|pair| pair[1] < pair[0] * SAME_BAND) {
        return refuse(format!("has {} after {}; they must ascend", pair[1], pair[0]));
    }
    Ok(())
}

register_modality!(
    "sed",
    "Photometry with errors -> one token a measured band, placed by wavelength",
    "wavelengths = [4702, 6176, 7490]\nunit = 'nanomaggy'\nsoftening = 1.0",
    SedConfig
);

#[cfg(test)]
mod tests {
    use super::check_wavelengths;

    #[test]
    fn wavelengths_must_ascend() {
        assert!(check_wavelengths(&[4702.0, 6176.0]).is_ok());
        for wrong in [&[][..], &[0.0], &[f64::NAN], &[6176.0, 4702.0], &[4702.0, 4702.0]] {
            assert!(check_wavelengths(wrong).is_err(), "{wrong:?}");
        }
    }
}
