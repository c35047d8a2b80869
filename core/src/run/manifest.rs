//! The manifest: what ran, on what, when.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Split};
use crate::recipe::Plan;

/// Version of the run folder's format.
pub(super) const FORMAT: u32 = 1;

/// `manifest.json` of a run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the run folder's format.
    pub format: u32,
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
    /// Digest of the objects' ids, order and splits.
    pub data_digest: String,
    /// Number of parameters, position tables not counted.
    pub parameters: usize,
    /// What was done, in order.
    pub stages: Vec<StageRecord>,
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
    /// What else there is to say of it, such as steps taken.
    pub facts: BTreeMap<String, String>,
}

impl Manifest {
    /// The manifest of a new run of `plan`.
    pub fn new(plan: Plan, data: &Dataset) -> Self {
        let objects = [Split::Train, Split::Validation, Split::Test]
            .map(|split| (split.name().to_owned(), data.splits.get(split).len() as u64));
        Self {
            format: FORMAT,
            program: format!("astropt {}", env!("CARGO_PKG_VERSION")),
            created: now(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            objects: BTreeMap::from(objects),
            plan,
            data_digest: data.digest(),
            parameters: data.model().parameter_count(),
            stages: Vec::new(),
        }
    }
}

/// The time, UTC, RFC 3339, to the second.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
