//! The manifest: what ran, on what, when.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::checkpoint::python::PythonSettings;
use crate::cost::Energy;
use crate::data::{Dataset, Split};
use crate::recipe::Plan;

/// `manifest.json` of a run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Program and version that made the run.
    pub program: String,
    /// When the run was created, UTC, RFC 3339.
    pub created: String,
    /// The command that created the run.
    pub command: String,
    /// The experiment.
    pub plan: Plan,
    /// Number of objects by split.
    pub objects: BTreeMap<String, u64>,
    /// Digest of the objects' ids, order and splits; empty before there were any.
    pub data_digest: String,
    /// Number of parameters, position tables not counted.
    pub parameters: usize,
    /// What was done, in order.
    pub stages: Vec<StageRecord>,
    /// Settings of the Python program that the model was imported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<PythonSettings>,
}

/// One piece of work on a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// `pretrain`, `embed`, `probe` or `report`.
    pub stage: String,
    /// Backend it ran on.
    pub backend: String,
    /// Device it ran on.
    pub device: String,
    /// When it started, UTC, RFC 3339.
    pub started: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What it took at the meter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Energy>,
    /// What else there is to say of it, such as steps taken.
    pub facts: BTreeMap<String, String>,
}

impl Manifest {
    /// The manifest of a new run of `plan`.
    pub fn new(plan: Plan, data: &Dataset) -> Self {
        let parameters = data.model().parameter_count();
        Self {
            objects: Self::count(data),
            data_digest: data.digest(),
            ..Self::without_data(plan, parameters)
        }
    }

    /// Number of objects of `data` by split.
    pub(crate) fn count(data: &Dataset) -> BTreeMap<String, u64> {
        let count = |split: Split| (split.name().to_owned(), data.splits.get(split).len() as u64);
        [Split::Train, Split::Validation, Split::Test].map(count).into()
    }

    /// The manifest of a run of `plan` whose data are not known yet.
    pub(crate) fn without_data(plan: Plan, parameters: usize) -> Self {
        Self {
            program: format!("astropt {}", env!("CARGO_PKG_VERSION")),
            created: now(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            objects: BTreeMap::new(),
            plan,
            data_digest: String::new(),
            parameters,
            stages: Vec::new(),
            imported: None,
        }
    }
}

/// The time, UTC, RFC 3339, to the second.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
