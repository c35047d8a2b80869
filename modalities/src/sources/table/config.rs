//! The configuration of the source `table`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sources::shorthand;

/// Configuration of the source `table`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableConfig {
    /// A `.csv` or `.parquet` file.
    pub path: PathBuf,
    /// Column that holds the id of the object a row belongs to: integers or text.
    pub object: String,
    /// What a row is.
    #[serde(default)]
    pub layout: Layout,
    /// Columns that become fields, by the field's name: a column, or a table of
    /// [`FieldConfig`]. A wide table without this key gives every column of numbers.
    #[serde(default, deserialize_with = "shorthand::map", skip_serializing_if = "Option::is_none")]
    pub fields: Option<BTreeMap<String, FieldConfig>>,
    /// Field by which the samples of an object are ordered, ascending; ties, and samples
    /// without a `sort` value (which come last), keep the order of the file. Unset: the order
    /// of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    /// A second table, `.csv`, `.parquet` or `.fits`, of labels: relative to the folder `path`
    /// is in, or to where `path` starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Column of the second table that holds the objects' ids. By default the column that
    /// names most of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_column: Option<String>,
    /// Columns of a wide table that become labels. Unset: all but `object`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_columns: Option<Vec<String>>,
    /// Most memory that samples may take, in MiB: what was read is kept for the next object,
    /// and a table whose objects lie scattered must fit whole.
    #[serde(default = "memory_mib")]
    pub memory_mib: u64,
}

fn memory_mib() -> u64 {
    512
}

/// What a row of a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// One sample of an object: fields have one axis.
    #[default]
    Long,
    /// One object: fields are single numbers, and columns are labels too.
    Wide,
}

/// A column that becomes a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldConfig {
    /// The column.
    pub column: String,
    /// Its unit. Unset: what a Parquet column's metadata says under `unit` or `units`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// `type`: of the numbers. Unset: the column's own; for CSV, `f64`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub number: Option<NumberType>,
    /// The values that become codes 0, 1, 2 and on: for text such as the names of bands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codes: Option<Codes>,
    /// The code of texts that are not among `codes`, where they are otherwise an error: -1, say,
    /// for bands that a light curve leaves out with `other_bands = "drop"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<i64>,
    /// What stands for a missing cell among codes and integers, where it is otherwise an
    /// error. A missing cell among other numbers is NaN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<i64>,
}

impl From<String> for FieldConfig {
    /// The column as it is.
    fn from(column: String) -> Self {
        Self { column, unit: None, number: None, codes: None, other: None, missing: None }
    }
}

/// A type of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NumberType {
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// Integers, kept exact.
    I64,
}

/// Which code each value of a column has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Codes {
    /// `"sorted"`: its place among all values the column has, sorted as text.
    Sorted,
    /// Its place in this list.
    Listed(Vec<String>),
}

impl Serialize for Codes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Sorted => serializer.serialize_str("sorted"),
            Self::Listed(values) => values.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Codes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CodesVisitor;
        impl<'de> Visitor<'de> for CodesVisitor {
            type Value = Codes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"sorted\" or a list of texts")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Codes, E> {
                match word {
                    "sorted" => Ok(Codes::Sorted),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Codes, A::Error> {
                let mut values: Vec<String> = Vec::new();
                while let Some(value) = list.next_element::<String>()? {
                    if values.contains(&value) {
                        return Err(A::Error::custom(format!("{value:?} is listed twice")));
                    }
                    values.push(value);
                }
                Ok(Codes::Listed(values))
            }
        }
        deserializer.deserialize_any(CodesVisitor)
    }
}
