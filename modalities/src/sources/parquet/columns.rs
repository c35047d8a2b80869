//! Which columns become fields, labels and ids, as a recipe states it.

use std::collections::BTreeMap;

use astropt_core::{Error, Result};
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use crate::sources::bytes::ByteSize;

/// A column that becomes a field of the observation. In a recipe either its name or a table:
/// `flux = "spectrum.flux"` or `flux = { column = "spectrum.flux", unit = "nanomaggy" }`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldColumn {
    /// Name of the column; a dot steps into a struct: `spectrum.flux`.
    pub column: String,
    /// Unit of its numbers. By default the one that the file's schema states under `unit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Where an image's axis of bands is stored; the field has it last in either case.
    #[serde(default, skip_serializing_if = "Bands::is_last")]
    pub bands: Bands,
}

/// The place of the axis of bands in nested lists of three levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bands {
    /// `[height, width, bands]`, and whatever is no image.
    #[default]
    Last,
    /// `[bands, height, width]`, as the Multimodal Universe stores images.
    First,
}

impl Bands {
    fn is_last(&self) -> bool {
        *self == Self::Last
    }
}

/// The table form of [`FieldColumn`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldTable {
    column: String,
    unit: Option<String>,
    #[serde(default)]
    bands: Bands,
}

impl<'de> Deserialize<'de> for FieldColumn {
    /// By hand, since an untagged enum would lose which key of a table is wrong.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = FieldColumn;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("the name of a column, or a table with `column`")
            }

            fn visit_str<E: serde::de::Error>(self, column: &str) -> Result<FieldColumn, E> {
                Ok(FieldColumn { column: column.to_owned(), unit: None, bands: Bands::Last })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FieldColumn, A::Error> {
                let FieldTable { column, unit, bands } =
                    FieldTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(FieldColumn { column, unit, bands })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// What is read of a table's columns, and how much of it is held in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    /// Fields by name; none: see [`super::ParquetConfig::fields`].
    pub(crate) fields: Option<BTreeMap<String, FieldColumn>>,
    /// Columns of labels; none: all that can be labels.
    pub(crate) labels: Option<Vec<String>>,
    /// Column of ids.
    pub(crate) id: Option<String>,
    /// Bytes of rows held.
    pub(crate) buffer: Option<ByteSize>,
}

impl Columns {
    /// Checks what can be checked without data.
    ///
    /// # Errors
    /// When a list is empty where that can only be a mistake, or names a column twice.
    pub(crate) fn check(&self) -> Result<()> {
        if self.fields.as_ref().is_some_and(BTreeMap::is_empty) {
            return Err(Error::Misuse(
                "source.fields is empty: an object needs at least one field; name a column, or \
                 leave the key out"
                    .into(),
            ));
        }
        for (i, name) in self.labels.iter().flatten().enumerate() {
            if self.labels.as_ref().is_some_and(|all| all[..i].contains(name)) {
                return Err(Error::Misuse(format!("source.labels names {name:?} twice")));
            }
        }
        Ok(())
    }
}
