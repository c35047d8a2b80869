//! What a recipe's `[modality.NAME]` table of kind `scalar` can say.

use astropt_core::probe::ValidRange;
use astropt_core::seam::{Modality, ModalityConfig};
use astropt_core::{Error, Result};
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use super::Scalar;
use crate::normalise::{Affine, check_loss_weight, check_size, default_loss_weight};

/// Most columns of a token: above any catalogue's.
const MAX_COLUMNS: usize = 4096;

/// Configuration of the modality `scalar`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScalarConfig {
    /// The numbers of the token, in this order. A column is a table ([`Column`]), or its
    /// name alone when the number is taken as it is.
    pub columns: Vec<Column>,
    /// What is done about an object that lacks some of the columns, but not all. One that
    /// lacks all lacks the modality.
    #[serde(default)]
    pub missing: Missing,
    /// What is done about a number that its transform is not defined for, such as the
    /// logarithm of a negative flux.
    #[serde(default)]
    pub out_of_domain: OutOfDomain,
    /// Rows of the position table; 1 by default.
    #[serde(default = "default_position_rows")]
    pub position_rows: usize,
    /// Weight of this modality's loss.
    #[serde(default = "default_loss_weight")]
    pub loss_weight: f32,
}

/// One number of a catalogue: `(transform(x) - mean) / std` becomes part of the token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Column {
    /// Label of the object or, where there is no such label, field of one number.
    pub name: String,
    /// Function applied first.
    pub transform: Transform,
    /// Mean of the transformed numbers over the sample, as stated here; 0 by default.
    pub mean: f64,
    /// Standard deviation of the transformed numbers over the sample, as stated here; 1 by
    /// default.
    pub std: f64,
    /// Unit of the number. Data that state another are refused; nothing is converted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The numbers that are known, `{ min = 0.0, max = 1.0 }` or one of the two, before the
    /// transform: one outside counts as missing, such as the -999 of many catalogues. By default
    /// every finite number is known, and one that looks like such a mark is warned of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid: Option<ValidRange>,
}

/// [`Column`] as a table states it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnTable {
    name: String,
    #[serde(default)]
    transform: Transform,
    #[serde(default)]
    mean: f64,
    #[serde(default = "default_std")]
    std: f64,
    #[serde(default)]
    unit: Option<String>,
    #[serde(default)]
    valid: Option<ValidRange>,
}

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ColumnVisitor)
    }
}

/// Reads a name or a table. An untagged enum would lose which key is wrong.
struct ColumnVisitor;

impl<'de> Visitor<'de> for ColumnVisitor {
    type Value = Column;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the name of a column, or a table with `name`")
    }

    fn visit_str<E>(self, name: &str) -> Result<Column, E> {
        let (name, transform) = (name.to_owned(), Transform::None);
        Ok(Column { name, transform, mean: 0.0, std: 1.0, unit: None, valid: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Column, A::Error> {
        let ColumnTable { name, transform, mean, std, unit, valid } =
            Deserialize::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Column { name, transform, mean, std, unit, valid })
    }
}

/// A function of one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    /// The number as it is.
    #[default]
    None,
    /// The decimal logarithm; of numbers above 0.
    Log10,
    /// `asinh(x / softening)`, also of numbers below 0: linear below the softening,
    /// logarithmic above (asinh magnitudes, Lupton, Gunn & Szalay 1999).
    Asinh(f64),
}

impl Transform {
    /// The transformed number; `None` outside the domain.
    pub(super) fn apply(self, x: f64) -> Option<f64> {
        match self {
            Self::None => Some(x),
            Self::Log10 => (x > 0.0).then(|| x.log10()),
            Self::Asinh(softening) => Some((x / softening).asinh()),
        }
    }

    /// The inverse of [`apply`](Self::apply).
    pub(super) fn undo(self, y: f64) -> f64 {
        match self {
            Self::None => y,
            Self::Log10 => 10f64.powf(y),
            Self::Asinh(softening) => y.sinh() * softening,
        }
    }
}

impl Column {
    /// What is subtracted and divided by after the transform.
    pub(super) fn affine(&self) -> Affine {
        Affine { offset: self.mean, scale: self.std }
    }

    /// Whether `x` is a number of this column, and no catalogue's word for "unknown".
    pub(super) fn knows(&self, x: f64) -> bool {
        self.valid.is_none_or(|valid| valid.knows(x))
    }

    /// `x`, or what is nearest to it among the known numbers.
    pub(super) fn nearest(&self, x: f64) -> f64 {
        let Some(ValidRange { min, max }) = self.valid else { return x };
        x.max(min.unwrap_or(x)).min(max.unwrap_or(f64::INFINITY))
    }

    fn check(&self) -> Result<(), String> {
        let Self { name, mean, std, .. } = self;
        let ends = self.valid.map(|valid| {
            (valid.min.unwrap_or(f64::NEG_INFINITY), valid.max.unwrap_or(f64::INFINITY))
        });
        if let Some((min, max)) =
            ends.filter(|(min, max)| min.partial_cmp(max).is_none_or(|o| o.is_gt()))
        {
            return Err(format!(
                "`columns` gives {name:?} valid numbers from {min} to {max}; the first must not be \
                 above the second"
            ));
        }
        if !(mean.is_finite() && std.is_finite() && *std > 0.0) {
            return Err(format!(
                "`columns` gives {name:?} the mean {mean} and std {std}; both must be finite and \
                 std above 0"
            ));
        }
        if self.unit.as_ref().is_some_and(|unit| unit.trim().is_empty()) {
            return Err(format!("`columns` gives {name:?} an empty `unit`; leave it out"));
        }
        match self.transform {
            Transform::Asinh(softening) if !(softening.is_finite() && softening > 0.0) => {
                Err(format!(
                    "`columns` gives {name:?} an asinh of softening {softening}; it must be above 0"
                ))
            }
            _ => Ok(()),
        }
    }
}

/// What is done about an object with some of the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// It counts as lacking the modality.
    #[default]
    Absent,
    /// It is refused.
    Refuse,
    /// What is missing becomes 0 in the token: the stated mean.
    Mean,
}

/// What is done about a number outside its transform's domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutOfDomain {
    /// The object is refused.
    #[default]
    Refuse,
    /// The number counts as missing.
    Missing,
}

fn default_position_rows() -> usize {
    1
}

fn default_std() -> f64 {
    1.0
}

impl ScalarConfig {
    fn check(&self) -> Result<(), String> {
        check_size("columns", self.columns.len(), MAX_COLUMNS)?;
        self.columns.iter().try_for_each(Column::check)?;
        let mut names: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("`columns` names {:?} twice; leave one out", pair[0]));
        }
        check_size("position_rows", self.position_rows, 1 << 24)?;
        check_loss_weight(self.loss_weight)
    }
}

#[typetag::serde(name = "scalar")]
impl ModalityConfig for ScalarConfig {
    fn build(&self) -> Result<Box<dyn Modality>> {
        self.check().map_err(Error::Misuse)?;
        Ok(Box::new(Scalar::new(self.clone())))
    }
}

astropt_core::register_modality!(
    "scalar",
    "Numbers of a catalogue as one token",
    "columns = [\n    { name = \"Teff\", unit = \"K\", transform = \"log10\", mean = 3.73, \
     std = 0.12 },\n    \
     { name = \"logg\", mean = 3.0, std = 1.2 },\n    \"feh\",\n]\nmissing = \"absent\"",
    ScalarConfig
);

#[cfg(test)]
mod tests {
    use super::*;
    use astropt_core::seam::parse_config;

    fn parse(text: &str) -> Result<ScalarConfig, astropt_core::seam::ConfigError> {
        parse_config(text.parse().expect("valid TOML"))
    }

    #[test]
    fn a_column_is_a_name_or_a_table() {
        let config = parse("columns = ['z', { name = 'm', transform = { asinh = 2 } }]");
        let columns = config.expect("valid").columns;
        assert_eq!(columns[0].name, "z");
        assert_eq!(columns[1].transform, Transform::Asinh(2.0));
        assert_eq!((columns[0].mean, columns[1].std), (0.0, 1.0));
        // As it stands in checkpoints and converted data of before there were units.
        let written = serde_json::to_string(&columns[0]).expect("writable");
        assert!(!written.contains("unit") && !written.contains("valid"), "{written}");
        let config = parse("columns = [{ name = 'Teff', unit = 'K' }]").expect("valid");
        assert_eq!(config.columns[0].unit.as_deref(), Some("K"));
        let error = parse("columns = ['z', { name = 'm', men = 2.0 }]").expect_err("unknown key");
        assert!(error.path.starts_with("columns[1]"), "{error:?}");
        assert!(error.message.contains("men"), "{error:?}");
        let error = parse("columns = [3]").expect_err("a number");
        assert!(error.message.contains("name of a column"), "{error:?}");
    }

    #[test]
    fn contradictions_are_refused_by_the_name_of_the_key() {
        for (text, key) in [
            ("columns = []", "`columns`"),
            ("columns = ['z', 'z']", "\"z\" twice"),
            ("columns = [{ name = 'z', std = 0.0 }]", "std"),
            ("columns = [{ name = 'z', transform = { asinh = -1.0 } }]", "softening"),
            ("columns = [{ name = 'z', unit = ' ' }]", "`unit`"),
            ("columns = [{ name = 'z', valid = { min = 1.0, max = 0.0 } }]", "valid numbers"),
            ("columns = [{ name = 'z', valid = { min = nan } }]", "valid numbers"),
            ("columns = ['z']\nposition_rows = 0", "`position_rows`"),
            ("columns = ['z']\nloss_weight = -1.0", "`loss_weight`"),
        ] {
            let error = parse(text).expect(text).build().err().expect(text).to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
