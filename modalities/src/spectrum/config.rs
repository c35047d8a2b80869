//! What a recipe's `[modality.NAME]` table of kind `spectrum` can say.

use astropt_core::seam::{Modality, ModalityConfig};
use astropt_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::Spectrum;
use crate::normalise::{Affine, Stretch, check_loss_weight, check_size, default_loss_weight};

/// Most samples of a spectrum, and rows of a position table: above any spectrograph's.
const MAX_SAMPLES: usize = 1 << 24;

/// Configuration of the modality `spectrum`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpectrumConfig {
    /// Field of the observation that holds the flux densities, `[samples]`.
    #[serde(default = "default_flux")]
    pub flux: String,
    /// Field of inverse variances, `[samples]`: samples whose inverse variance is not above
    /// 0 are bad. When it is named here, every spectrum must have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ivar: Option<String>,
    /// Field of flags, `[samples]`: samples with any of [`mask_bits`](Self::mask_bits) set
    /// are bad. When it is named here, every spectrum must have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// The bits of the mask that make a sample bad, added up; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_bits: Option<i64>,
    /// Field of wavelengths, `[samples]`, ascending. Read only where `positions` or `grid`
    /// need it; of bad samples only where they fit.
    #[serde(default = "default_wavelength")]
    pub wavelength: String,
    /// What the wavelength field holds: wavelengths, or their decimal logarithms (the
    /// `loglam` of SDSS).
    #[serde(default)]
    pub wavelength_as: WavelengthAs,
    /// Unit of the flux. Files that state another are refused; nothing is converted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flux_unit: Option<String>,
    /// Unit of the wavelength. Files that state another are refused; nothing is converted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wavelength_unit: Option<String>,
    /// What the wavelengths are measured in. A declaration for the record: wavelengths are
    /// used as they are in the file (SDSS and DESI: vacuum; MILES: air).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<Medium>,
    /// How wavelengths follow from the sample's number.
    #[serde(default)]
    pub grid: Grid,
    /// Samples per token, w.
    pub window: usize,
    /// Samples of the longest spectrum; a longer one is refused.
    pub samples: usize,
    /// What becomes of the last window where `window` does not divide the number of samples.
    #[serde(default)]
    pub tail: Tail,
    /// How a token is placed.
    #[serde(default)]
    pub positions: PositionKind,
    /// From wavelengths to the numbers that the model reads as positions; to be stated when
    /// `positions` is not `"index"`. Numbers of order 1 suit it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wavelength_scale: Option<WavelengthScale>,
    /// Rows of the position table, for `positions = "index"`; the greatest number of tokens
    /// by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_rows: Option<usize>,
    /// What is done about samples that are masked, have no positive inverse variance, or are
    /// not finite.
    #[serde(default)]
    pub bad: Bad,
    /// What is done about a spectrum without any good sample; `"refuse"` by default.
    #[serde(default, skip_serializing_if = "Empty::is_refuse")]
    pub empty: Empty,
    /// Function applied to every flux before standardisation.
    #[serde(default)]
    pub stretch: Stretch,
    /// What is subtracted and divided by after the stretch.
    #[serde(default)]
    pub standardise: Standardise,
    /// Weight of this modality's loss.
    #[serde(default = "default_loss_weight")]
    pub loss_weight: f32,
}

/// What the wavelength field holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WavelengthAs {
    /// Wavelengths.
    #[default]
    Linear,
    /// Decimal logarithms of wavelengths.
    Log10,
}

/// What wavelengths are measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Medium {
    /// Vacuum wavelengths.
    Vacuum,
    /// Air wavelengths.
    Air,
}

/// How wavelengths follow from the sample's number i, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grid {
    /// As the wavelength field says, with any spacing.
    #[default]
    Field,
    /// `start + i step`, in the unit of the wavelengths.
    Linear(Spacing),
    /// `10^(start + i step)`; SDSS spectra have a step of 1e-4.
    Log10(Spacing),
}

/// The numbers of an even grid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spacing {
    /// Where sample 0 is, the same for every spectrum; then no wavelength field is read. By
    /// default the wavelength field says, and is held against the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<f64>,
    /// From one sample to the next; above 0.
    pub step: f64,
}

/// What becomes of a last window with fewer samples than the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tail {
    /// Filled up with zeros, in the units of tokens.
    #[default]
    Pad,
    /// Left out.
    Drop,
}

/// How a token is placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionKind {
    /// By the number of its window, counted from the spectrum's first sample: a row of a
    /// learned table.
    #[default]
    Index,
    /// By the w wavelengths of its window.
    Wavelength,
    /// By the mean wavelength of its window.
    MeanWavelength,
}

/// From a wavelength to a number of order 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WavelengthScale {
    /// `(wavelength - offset) / scale`.
    Linear(Affine),
    /// `(log10(wavelength) - offset) / scale`.
    Log10(Affine),
}

/// What is done about bad samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bad {
    /// The spectrum is refused.
    #[default]
    Refuse,
    /// They become 0 in the units of tokens: the window's mean under
    /// `standardise = "window"`.
    Zero,
    /// They take the flux on the straight line, in sample number, between the nearest good
    /// samples; at an end, that of the nearest.
    Interpolate,
    /// Windows with a bad sample in them are left out.
    DropWindow,
}

/// What is done about a spectrum without any good sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Empty {
    /// It is refused, and the object with it.
    #[default]
    Refuse,
    /// The object counts as lacking the modality.
    Absent,
}

impl Empty {
    /// Whether it is the default, which configurations of before there was a choice do not state.
    fn is_refuse(&self) -> bool {
        *self == Self::Refuse
    }
}

/// What is subtracted and divided by. Only good samples count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standardise {
    /// `(x - mean) / (std + 1e-6 max|x|)` of each window, with the unbiased deviation.
    #[default]
    Window,
    /// `x / median` of the whole spectrum, which must have a median above 0.
    Median,
    /// `(x - median) / (1.4826 MAD)` of the whole spectrum, MAD being the median absolute
    /// deviation from the median.
    Robust,
    /// `(x - offset) / scale` with stated numbers, the same for every spectrum: the one
    /// choice beside `"none"` under which fluxes that a model makes have a unit.
    Affine(Affine),
    /// Nothing.
    None,
}

fn default_flux() -> String {
    "flux".to_owned()
}

fn default_wavelength() -> String {
    "wavelength".to_owned()
}

impl SpectrumConfig {
    /// Tokens of the longest spectrum.
    pub(super) fn max_tokens(&self) -> usize {
        match self.tail {
            Tail::Pad => self.samples.div_ceil(self.window),
            Tail::Drop => self.samples / self.window,
        }
    }

    fn check(&self) -> Result<(), String> {
        check_size("samples", self.samples, MAX_SAMPLES)?;
        check_size("window", self.window, self.samples)?;
        if self.standardise == Standardise::Window && self.window < 2 {
            return Err("a window of one sample has no standard deviation; use a larger \
                        `window` or another `standardise`"
                .to_owned());
        }
        if self.mask_bits.is_some() && self.mask.is_none() {
            return Err("`mask_bits` says which bits count, but no field is named as `mask`; \
                        name it"
                .to_owned());
        }
        self.stretch.check("stretch")?;
        if let Standardise::Affine(affine) = self.standardise {
            affine.check("standardise.affine")?;
        }
        check_loss_weight(self.loss_weight)?;
        self.check_positions()?;
        self.check_grid()
    }

    fn check_positions(&self) -> Result<(), String> {
        if let Some(WavelengthScale::Linear(affine) | WavelengthScale::Log10(affine)) =
            self.wavelength_scale
        {
            affine.check("wavelength_scale")?;
        }
        let index = self.positions == PositionKind::Index;
        match (index, self.wavelength_scale, self.position_rows) {
            (false, None, _) => Err("`positions` from wavelengths need `wavelength_scale`, such \
                                     as { linear = { offset = 6000.0, scale = 2000.0 } }"
                .to_owned()),
            (false, _, Some(_)) => {
                Err("`position_rows` is for `positions = \"index\"`; leave it out".to_owned())
            }
            (true, Some(_), _) => Err("`wavelength_scale` is for `positions = \"wavelength\"` or \
                                       \"mean-wavelength\"; set one of them or leave it out"
                .to_owned()),
            (true, None, Some(rows)) if rows < self.max_tokens() || rows > MAX_SAMPLES => {
                Err(format!(
                    "`position_rows` is {rows}, but a spectrum makes up to {} tokens; it must \
                     lie between that and {MAX_SAMPLES}",
                    self.max_tokens()
                ))
            }
            _ => Ok(()),
        }
    }

    fn check_grid(&self) -> Result<(), String> {
        let (key, spacing, log) = match self.grid {
            Grid::Field => return Ok(()),
            Grid::Linear(spacing) => ("grid.linear", spacing, false),
            Grid::Log10(spacing) => ("grid.log10", spacing, true),
        };
        if !(spacing.step.is_finite() && spacing.step > 0.0) {
            return Err(format!("`{key}.step` is {}; it must be above 0", spacing.step));
        }
        let Some(start) = spacing.start else { return Ok(()) };
        // Room for the last window's padding, too.
        let end = start + spacing.step * (self.samples + self.window) as f64;
        let sound = if log { start > -30.0 && end < 30.0 } else { start > 0.0 && end < 1e30 };
        if !sound {
            return Err(format!(
                "`{key}` runs from {start} to {end}; wavelengths must be above 0 and finite"
            ));
        }
        Ok(())
    }
}

#[typetag::serde(name = "spectrum")]
impl ModalityConfig for SpectrumConfig {
    fn build(&self) -> Result<Box<dyn Modality>> {
        self.check().map_err(Error::Misuse)?;
        Ok(Box::new(Spectrum::new(self.clone())))
    }
}

astropt_core::register_modality!(
    "spectrum",
    "Spectra as windows of samples, placed by number or by wavelength",
    "window = 16\nsamples = 4096\nivar = \"ivar\"\nbad = \"interpolate\"\n\
     positions = \"wavelength\"\n\
     wavelength_scale = { linear = { offset = 6000.0, scale = 2000.0 } }\n\
     medium = \"vacuum\"\nstandardise = \"window\"",
    SpectrumConfig
);

#[cfg(test)]
mod tests {
    use super::*;

    fn build(text: &str) -> Result<(), String> {
        let table = text.parse().expect("valid TOML");
        let config: SpectrumConfig =
            astropt_core::seam::parse_config(table).map_err(|e| e.message)?;
        config.build().map(drop).map_err(|e| e.to_string())
    }

    #[test]
    fn contradictions_are_refused_by_the_name_of_the_key() {
        let sized = "window = 8\nsamples = 80\n";
        for (text, key) in [
            ("window = 8", "samples"),
            ("window = 0\nsamples = 9", "`window`"),
            ("window = 8\nsamples = 7", "`window`"),
            ("window = 8\nsamples = 99999999999", "`samples`"),
            ("window = 1\nsamples = 9", "standard deviation"),
            (&format!("{sized}mask_bits = 4"), "`mask_bits`"),
            (&format!("{sized}positions = 'wavelength'"), "`wavelength_scale`"),
            (&format!("{sized}position_rows = 9"), "`position_rows`"),
            (&format!("{sized}wavelength_scale.linear = {{ scale = 1.0 }}"), "`wavelength_scale`"),
            (
                &format!(
                    "{sized}positions = 'wavelength'\nwavelength_scale.linear = {{ scale = 0.0 }}"
                ),
                "`wavelength_scale`",
            ),
            (&format!("{sized}grid.linear = {{ step = -1.0 }}"), "`grid.linear.step`"),
            (&format!("{sized}grid.log10 = {{ start = 3500.0, step = 1e-4 }}"), "`grid.log10`"),
            (&format!("{sized}standardise.affine = {{ scale = nan }}"), "`standardise.affine`"),
            (&format!("{sized}stretch.arcsinh = 0.0"), "`stretch.arcsinh`"),
            (&format!("{sized}loss_weight = -1.0"), "`loss_weight`"),
        ] {
            let error = build(text).expect_err(text);
            assert!(error.contains(key), "{text}: {error}");
        }
        build("window = 1\nsamples = 9\nstandardise = 'median'\nposition_rows = 64")
            .expect("valid");
    }

    /// Converted data keep the configuration, which must be the recipe's.
    #[test]
    fn a_default_is_written_as_before_there_was_a_choice() {
        let written = |line: &str| {
            let text = format!("window = 8\nsamples = 80\n{line}");
            let config: SpectrumConfig = toml::from_str(&text).expect("valid");
            serde_json::to_string(&config).expect("writable")
        };
        assert!(!written("empty = 'refuse'").contains("empty"));
        assert!(written("empty = 'absent'").contains("\"empty\":\"absent\""));
    }
}
