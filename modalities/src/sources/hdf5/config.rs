//! What a recipe says of HDF5 files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use astropt_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::sources::axes::Axes;

/// Configuration of the source `hdf5`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hdf5Config {
    /// One file; or a folder, searched with all folders in it for `.h5`, `.hdf5`, `.hdf` and
    /// `.he5`; or a `.txt` file with one path per line. All files have the same datasets.
    pub path: PathBuf,
    /// The arrays of an object by the names that modalities know them by.
    pub fields: BTreeMap<String, FieldConfig>,
    /// Datasets with one number or text per object that are labels, under their own names. By
    /// default all of numbers in the groups of the fields' datasets, as long as these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// A dataset of integers or texts that are the objects' ids. By default an object is called
    /// by its file and row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// One array of an object: a row of a dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldConfig {
    /// Path of the dataset within the file, such as `images` or `spectra/flux`.
    pub dataset: String,
    /// How the axes of one object's image follow each other; by default `hwc`. An object of
    /// fewer than two axes is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axes: Option<Axes>,
    /// The unit, where the dataset has no attribute `units`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// That the whole dataset belongs to every object, as wavelengths do.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shared: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Hdf5Config {
    /// The field whose rows are counted: the first that is not shared.
    pub(super) fn counted(&self) -> Result<&FieldConfig> {
        self.fields.values().find(|field| !field.shared).ok_or_else(|| {
            Error::Misuse(
                "`fields` names no dataset with one row per object, such as \
                 `fields.image = { dataset = \"images\" }`"
                    .to_owned(),
            )
        })
    }
}
