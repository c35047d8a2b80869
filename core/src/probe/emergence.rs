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
    /// Area under the ROC curve on held-out objects, by class: what classes are told by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auc: BTreeMap<String, Interval>,
}

impl Told {
    /// What the first set of features of `table` tells `at` a place.
    pub fn of(at: u64, table: &ProbeTable) -> Self {
        let mut out = Self { at, ..Self::default() };
        for row in table.rows.iter().filter(|row| table.sets.first() == Some(&row.features)) {
            if let Some(score) = row.score() {
                out.r2.insert(row.label.clone(), score.r2);
                out.auc.extend(score.auc.map(|auc| (row.label.clone(), auc)));
            }
        }
        out
    }

    /// How well `label` is told: the AUC of a class, the R^2 of a number.
    pub fn score(&self, label: &str) -> Option<&Interval> {
        self.auc.get(label).or_else(|| self.r2.get(label))
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

    /// What the scores of `told` are.
    pub fn measure(told: &[Told]) -> &'static str {
        let classes = |told: &Told| told.auc.len();
        let numbers = |told: &Told| told.r2.len() - told.auc.len();
        match (told.iter().any(|told| classes(told) > 0), told.iter().any(|t| numbers(t) > 0)) {
            (true, true) => "R², of classes AUC,",
            (true, false) => "AUC",
            _ => "R²",
        }
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let text = format::to_json_again(self)
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
