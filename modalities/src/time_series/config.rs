//! What a recipe's `[modality.NAME]` table of kind `time-series` can say.

use astropt_core::seam::{Modality, ModalityConfig};
use astropt_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::TimeSeries;
use crate::normalise::{Affine, Stretch, check_loss_weight, check_size, default_loss_weight};

/// Most tokens of a series, and most samples of a token: above what any model reads.
const MAX_SIZE: usize = 1 << 20;
/// Most numbers of a token or of a position.
const MAX_WIDTH: usize = 1 << 16;
/// Most bands, and most periods.
const MAX_LIST: usize = 256;

/// Configuration of the modality `time-series`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSeriesConfig {
    /// Field of the observation that holds the times, `[samples]`, in any order.
    #[serde(default = "default_time")]
    pub time: String,
    /// Field of what was measured, `[samples]`: magnitudes or fluxes.
    #[serde(default = "default_value")]
    pub value: String,
    /// Field of standard errors, `[samples]`, in the unit of the values: files that state another
    /// are refused. Named here, they become part of the token and samples whose error is not above
    /// 0 are bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Field of bands, `[samples]`, as integers (ZTF's `fid`: 1, 2, 3). Named here, bands
    /// become part of the position or of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub band: Option<String>,
    /// The bands there are, by their integer in the band field.
    #[serde(default)]
    pub bands: Vec<i64>,
    /// Where the band goes, as one number per band: 1 for the sample's and 0 for the others.
    #[serde(default)]
    pub band_as: BandAs,
    /// What is done about samples of bands that are not listed. Where bands are texts, which the
    /// source gives `codes`, its key `other` is the code of those that are not among them.
    #[serde(default)]
    pub other_bands: OtherBands,
    /// Field of quality flags, `[samples]`, such as Kepler's `SAP_QUALITY`: samples with any
    /// of [`quality_bits`](Self::quality_bits) set are bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// The bits of the quality flags that make a sample bad, added up; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_bits: Option<i64>,
    /// Unit of the times. Files that state another are refused; nothing is converted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_unit: Option<String>,
    /// Unit of values and errors. Files that state another are refused; nothing is
    /// converted. In `"mag"`, previews have bright above faint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Samples per token.
    #[serde(default = "default_window")]
    pub window: usize,
    /// Tokens of the longest span; of a longer series `keep` chooses.
    pub max_tokens: usize,
    /// Which samples of a series with more than `max_tokens * window` are kept.
    #[serde(default)]
    pub keep: Keep,
    /// What becomes of the last window where `window` does not divide the number of samples.
    #[serde(default)]
    pub tail: Tail,
    /// How time becomes a position.
    pub positions: TimePosition,
    /// The time that counts as 0. By default the first sample kept of each series; the
    /// inverse then gives times since that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero: Option<f64>,
    /// Whether a position also tells time and band of the next token: what is to be
    /// predicted then is a value, and not when it was measured.
    #[serde(default = "default_next")]
    pub next: bool,
    /// What is done about samples that are flagged, have an error that is not above 0, or
    /// are not finite.
    #[serde(default)]
    pub bad: Bad,
    /// Fewest usable samples of a series.
    #[serde(default = "default_min_samples")]
    pub min_samples: usize,
    /// What is done about an object with fewer.
    #[serde(default)]
    pub short: Short,
    /// Function applied to every value before standardisation.
    #[serde(default)]
    pub stretch: Stretch,
    /// What is subtracted and divided by after the stretch.
    #[serde(default)]
    pub standardise: Standardise,
    /// Weight of this modality's loss.
    #[serde(default = "default_loss_weight")]
    pub loss_weight: f32,
}

/// Where the band of a sample goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BandAs {
    /// Into the position: given, not predicted.
    #[default]
    Position,
    /// Into the token: predicted with the value.
    Token,
}

/// What is done about samples of bands that are not listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OtherBands {
    /// The series is refused.
    #[default]
    Refuse,
    /// They are left out.
    Drop,
}

/// Which samples of a series that is too long are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// The earliest.
    #[default]
    First,
    /// The latest.
    Last,
    /// Sample `floor(i n / m)` for i from 0 to m - 1: m of n, spread over the series.
    Strided,
}

/// What becomes of a last window with fewer samples than the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tail {
    /// Filled up: with zeros in the token, and in the position with the last sample's time
    /// and band.
    #[default]
    Pad,
    /// Left out.
    Drop,
}

/// How the time t of a sample, counted from `zero`, becomes numbers of its position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimePosition {
    /// `t / scale`, one number; the number here is the scale, in the unit of the times.
    Affine(f64),
    /// `sin(2 pi t / P)` and `cos(2 pi t / P)` for each period P listed, in the unit of
    /// the times. The longest should exceed every series: the inverse gives times modulo it.
    Periodic(Vec<f64>),
}

/// What is done about bad samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bad {
    /// The series is refused.
    #[default]
    Refuse,
    /// They are left out.
    Drop,
}

/// What is done about a series that is too short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Short {
    /// It is refused.
    #[default]
    Refuse,
    /// The object counts as lacking the modality.
    Absent,
}

/// What is subtracted and divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standardise {
    /// `(x - median) / (1.4826 MAD)` over all usable samples of the series, whatever their
    /// band, so that colours stay; MAD is the median absolute deviation from the median. Values
    /// that are all the same are divided by their median error at least, where errors are read.
    #[default]
    Series,
    /// `(x - offset) / scale` with stated numbers, the same for every series: the one
    /// choice beside `"none"` under which values that a model makes have a unit.
    Affine(Affine),
    /// Nothing.
    None,
}

fn default_time() -> String {
    "time".to_owned()
}

fn default_value() -> String {
    "value".to_owned()
}

fn default_window() -> usize {
    1
}

fn default_next() -> bool {
    true
}

fn default_min_samples() -> usize {
    2
}

impl TimeSeriesConfig {
    /// Numbers of one sample in a token.
    pub(super) fn value_width(&self) -> usize {
        let bands = if self.band_as == BandAs::Token { self.bands.len() } else { 0 };
        1 + usize::from(self.error.is_some()) + bands
    }

    /// Numbers of one sample in a position.
    pub(super) fn place_width(&self) -> usize {
        let bands = if self.band_as == BandAs::Position { self.bands.len() } else { 0 };
        let time = match &self.positions {
            TimePosition::Affine(_) => 1,
            TimePosition::Periodic(periods) => 2 * periods.len(),
        };
        time + bands
    }

    fn check(&self) -> Result<(), String> {
        check_size("window", self.window, MAX_SIZE)?;
        check_size("max_tokens", self.max_tokens, MAX_SIZE)?;
        check_size("min_samples", self.min_samples, MAX_SIZE)?;
        self.check_bands()?;
        self.check_positions()?;
        let widths = [self.value_width(), 2 * self.place_width()].map(|n| n * self.window);
        if let Some(width) = widths.into_iter().find(|&width| width > MAX_WIDTH) {
            return Err(format!(
                "`window` makes tokens or positions of {width} numbers; at most {MAX_WIDTH} are \
                 possible"
            ));
        }
        if self.quality_bits.is_some() && self.quality.is_none() {
            return Err("`quality_bits` says which bits count, but no field is named as \
                        `quality`; name it"
                .to_owned());
        }
        self.stretch.check("stretch")?;
        if let Standardise::Affine(affine) = self.standardise {
            affine.check("standardise.affine")?;
        }
        check_loss_weight(self.loss_weight)
    }

    fn check_bands(&self) -> Result<(), String> {
        match (&self.band, self.bands.len()) {
            (Some(_), 0) => {
                return Err("`band` names a field, but `bands` lists no band".to_owned());
            }
            (None, 1..) => {
                return Err("`bands` lists bands, but `band` names no field with them".to_owned());
            }
            (_, n) if n > MAX_LIST => {
                return Err(format!("`bands` lists {n} bands; at most {MAX_LIST} are possible"));
            }
            _ => {}
        }
        let mut sorted = self.bands.clone();
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("`bands` lists {} twice; leave one out", pair[0])),
            None => Ok(()),
        }
    }

    fn check_positions(&self) -> Result<(), String> {
        let (key, numbers) = match &self.positions {
            TimePosition::Affine(scale) => ("positions.affine", std::slice::from_ref(scale)),
            TimePosition::Periodic(periods) => ("positions.periodic", periods.as_slice()),
        };
        if numbers.is_empty() || numbers.len() > MAX_LIST {
            let n = numbers.len();
            return Err(format!("`{key}` lists {n} periods; 1 to {MAX_LIST} are possible"));
        }
        if let Some(number) = numbers.iter().find(|x| !(x.is_finite() && **x > 0.0)) {
            return Err(format!("`{key}` holds {number}; it must be above 0"));
        }
        match self.zero {
            Some(zero) if !zero.is_finite() => Err(format!("`zero` is {zero}; it must be finite")),
            _ => Ok(()),
        }
    }
}

#[typetag::serde(name = "time-series")]
impl ModalityConfig for TimeSeriesConfig {
    fn build(&self) -> Result<Box<dyn Modality>> {
        self.check().map_err(Error::Misuse)?;
        Ok(Box::new(TimeSeries::new(self.clone())))
    }
}

astropt_core::register_modality!(
    "time-series",
    "Irregular samples of one quantity in one or more bands, placed by time",
    "value = \"magpsf\"\nerror = \"sigmapsf\"\nband = \"fid\"\nbands = [1, 2, 3]\n\
     max_tokens = 128\nkeep = \"last\"\nbad = \"drop\"\n\
     positions = { periodic = [1.0, 30.0, 365.25, 10000.0] }\nunit = \"mag\"\n\
     standardise = \"series\"",
    TimeSeriesConfig
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_refused_by_the_name_of_the_key() {
        let sized = "max_tokens = 8\npositions.affine = 100.0\n";
        for (text, key) in [
            ("max_tokens = 0\npositions.affine = 1.0".to_owned(), "`max_tokens`"),
            (format!("{sized}window = 0"), "`window`"),
            (format!("{sized}window = 100000"), "`window`"),
            (format!("{sized}min_samples = 0"), "`min_samples`"),
            (format!("{sized}band = 'fid'"), "`bands`"),
            (format!("{sized}bands = [1]"), "`band`"),
            (format!("{sized}band = 'fid'\nbands = [1, 2, 1]"), "1 twice"),
            ("max_tokens = 8\npositions.affine = -1.0".to_owned(), "`positions.affine`"),
            ("max_tokens = 8\npositions.periodic = []".to_owned(), "`positions.periodic`"),
            ("max_tokens = 8\npositions.periodic = [1, 0]".to_owned(), "`positions.periodic`"),
            (format!("{sized}zero = inf"), "`zero`"),
            (format!("{sized}quality_bits = 1"), "`quality_bits`"),
            (format!("{sized}stretch.arcsinh = -1.0"), "`stretch.arcsinh`"),
            (format!("{sized}standardise.affine = {{ scale = 0 }}"), "`standardise.affine`"),
            (format!("{sized}loss_weight = -1.0"), "`loss_weight`"),
        ] {
            let config: TimeSeriesConfig = toml::from_str(&text).expect(&text);
            let error = config.build().err().expect(&text).to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
