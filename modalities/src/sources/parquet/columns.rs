//! Which columns become fields, labels and ids, as a recipe states it.

use std::collections::BTreeMap;

use astropt_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::sources::axes::Axes;
use crate::sources::bytes::ByteSize;

/// A column that becomes a field of the observation. In a recipe either its name or a table:
/// `flux = "spectrum.flux"` or `flux = { column = "spectrum.flux", unit = "nanomaggy" }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldColumn {
    /// Name of the column; a dot steps into a struct: `spectrum.flux`.
    pub column: String,
    /// Unit of its numbers. By default the one that the file's schema states under `unit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// How the lists of an image are nested: `chw` for the bands outermost, as the Multimodal
    /// Universe has them. By default the levels of lists are the axes as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axes: Option<Axes>,
    /// Makes integers of texts, or of lists of them such as the bands of a light curve: the
    /// first of these is 0, the next 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codes: Option<Vec<String>>,
    /// The code of texts that are not among `codes`, where they are otherwise an error: -1, say,
    /// for bands that a light curve leaves out with `other_bands = "drop"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<i64>,
}

impl From<String> for FieldColumn {
    fn from(column: String) -> Self {
        Self { column, unit: None, axes: None, codes: None, other: None }
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
                "`fields` is empty: an object needs at least one field; name a column, or \
                 leave the key out"
                    .into(),
            ));
        }
        for (name, field) in self.fields.iter().flatten() {
            if field.codes.is_none() && field.other.is_some() {
                return Err(Error::Misuse(format!(
                    "`fields.{name}.other` is the code of texts without one, but there are no \
                     `codes`; list them, or leave it out"
                )));
            }
            let codes = field.codes.as_deref().unwrap_or_default();
            let own = field.other.and_then(|other| codes.get(usize::try_from(other).ok()?));
            if let (Some(text), Some(other)) = (own, field.other) {
                return Err(Error::Misuse(format!(
                    "`fields.{name}.other` is {other}, which `codes` make of {text:?} already; use \
                     another, such as -1"
                )));
            }
            if let Some(twice) = (1..codes.len()).find(|&i| codes[..i].contains(&codes[i])) {
                let text = &codes[twice];
                return Err(Error::Misuse(format!("`fields.{name}.codes` has {text:?} twice")));
            }
        }
        for (i, name) in self.labels.iter().flatten().enumerate() {
            if self.labels.as_ref().is_some_and(|all| all[..i].contains(name)) {
                return Err(Error::Misuse(format!("`labels` names {name:?} twice")));
            }
        }
        Ok(())
    }
}
