//! How well labels are told on the way: after other steps of training, from other blocks.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::bootstrap::Interval;
use super::table::ProbeTable;
use crate::checkpoint::{format, write_bytes};
use crate::error::{Error, Result};

/// `emergence.json`: probes of the same objects by the same settings as the run's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Emergence {
    /// After each checkpoint's step, from the layer that the run embeds.
    pub checkpoints: Vec<Told>,
    /// From each block, counted from 0, of the checkpoint that the run embeds.
    pub layers: Vec<Told>,
}

/// How well labels are told at one place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The step, or the block.
    pub at: u64,
    /// R^2 on held-out objects, by label.
    pub r2: BTreeMap<String, Interval>,
}

impl Told {
    /// What the first set of features of `table` tells `at` a place.
    pub fn of(at: u64, table: &ProbeTable) -> Self {
        let own = table.rows.iter().filter(|row| table.sets.first() == Some(&row.features));
        let r2 = own.filter_map(|row| Some((row.label.clone(), row.score()?.r2)));
        Self { at, r2: r2.collect() }
    }
}

impl Emergence {
    /// The labels of `told`, in alphabetical order.
    pub fn labels(told: &[Told]) -> Vec<&str> {
        let mut labels: Vec<&str> =
            told.iter().flat_map(|told| told.r2.keys().map(String::as_str)).collect();
        labels.sort_unstable();
        labels.dedup();
        labels
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let text = format::to_json(self)
            .map_err(|e| Error::file(path, format!("cannot write the probes: {e}")))?;
        write_bytes(path, text.as_bytes())
    }

    /// Reads what [`write_json`](Self::write_json) wrote; `None` where there is no file.
    ///
    /// # Errors
    /// When the file cannot be read or is of a newer format.
    pub fn read_json(path: &Path) -> Result<Option<Self>> {
        path.exists()
            .then(|| format::read_json(path, "probes of checkpoints and layers"))
            .transpose()
    }
}
