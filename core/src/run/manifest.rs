//! The manifest: what ran, on what, when.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::checkpoint::format;
use crate::checkpoint::python::{JsonMap, PythonSettings};
use crate::cost::Energy;
use crate::data::{Dataset, Split, Witnesses};
use crate::error::{Error, Result};
use crate::progress;
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
    /// What a few of the objects are made of; nothing in runs of earlier versions.
    #[serde(default)]
    pub witnesses: Witnesses,
    /// Number of parameters, position tables not counted.
    pub parameters: usize,
    /// What was done, in order.
    pub stages: Vec<StageRecord>,
    /// Whether the run's files have checksums, which no damage can then leave them without; not so
    /// in runs of earlier versions.
    #[serde(default)]
    pub checksums: bool,
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
    ///
    /// # Errors
    /// When files that hold objects cannot be had at all.
    pub fn new(plan: Plan, data: &Dataset) -> Result<Self> {
        let parameters = data.model().parameter_count();
        Self::without_data(plan, parameters).of(data)
    }

    /// The same, of `data`; once something is known of what they are made of, it stays.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn of(self, data: &Dataset) -> Result<Self> {
        let (objects, data_digest) = (Self::count(data), data.digest());
        let witnesses = match self.witnesses.objects.is_empty() {
            true => data.witnesses()?,
            false => self.witnesses,
        };
        Ok(Self { objects, data_digest, witnesses, ..self })
    }

    /// Checks that `data` are those that the run in the folder `run` was started on.
    ///
    /// # Errors
    /// When their ids or splits are others, or a few of them are made of something else.
    pub fn check_data(&self, data: &Dataset, run: &Path) -> Result<()> {
        self.check_ids(data, run)?;
        match self.witnesses.contradict(&data.witnesses()?) {
            None => Ok(()),
            Some(why) => Err(Error::Failed(format!(
                "{} was started on other data: {why}, or is prepared otherwise by now; give the \
                 same data with --data PATH, or start a new run (where --no-self-check is an \
                 option, it takes them as they are)",
                run.display()
            ))),
        }
    }

    /// Checks that `data`, which need not be those of the run in the folder `run`, are in its units.
    ///
    /// # Errors
    /// With a field or a label that is in another; or when files that hold objects cannot be had at all.
    pub(crate) fn check_units(&self, data: &Dataset, run: &Path) -> Result<()> {
        match self.witnesses.other_unit(&data.witnesses()?) {
            None => Ok(()),
            Some(why) => Err(Error::Failed(format!(
                "{} was trained in other units: {why}; convert the data (--no-self-check takes them \
                 as they are)",
                run.display()
            ))),
        }
    }

    /// Warns where `data` are not the objects that the run was trained on: which of them the model
    /// has seen is then not known, whatever split they are in now.
    pub(crate) fn tell_strangers(&self, data: &Dataset) {
        if self.data_digest.is_empty() || self.data_digest == data.digest() {
            return;
        }
        progress::warn(
            "these are not the objects that the model was trained on, by their ids and splits: some of \
             them may have trained it under other ids, and their splits here say nothing of that",
        );
    }

    /// As [`check_data`](Self::check_data), without a look at what the objects are made of.
    ///
    /// # Errors
    /// When their ids or splits are others.
    pub fn check_ids(&self, data: &Dataset, run: &Path) -> Result<()> {
        if self.data_digest.is_empty() || self.data_digest == data.digest() {
            return Ok(());
        }
        Err(Error::Failed(format!(
            "{} was started on other objects: {} to train on then, {} now, or other ids or splits; \
             give the same data with --data PATH, or start a new run",
            run.display(),
            self.objects.get("train").copied().unwrap_or(0),
            data.splits.train.len()
        )))
    }

    /// Number of objects of `data` by split.
    fn count(data: &Dataset) -> BTreeMap<String, u64> {
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
            witnesses: Witnesses::default(),
            parameters,
            stages: Vec::new(),
            checksums: true,
            imported: None,
        }
    }
}

/// Under which the file states what it was when it was written.
const CHECKSUM: &str = "xxh3";

#[derive(Serialize)]
struct Sealed<'a> {
    #[serde(flatten)]
    of: &'a Manifest,
    xxh3: String,
}

fn unwritten(error: serde_json::Error) -> Error {
    Error::Failed(format!("cannot write the manifest: {error}"))
}

impl Manifest {
    /// The text of `manifest.json`: with a checksum of all else in it, as no other file can have
    /// one of it that a crash could not part from it.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub(super) fn to_text(&self) -> Result<String> {
        // As it will be read: numbers of 32 bits are written shorter than they are counted.
        let text = serde_json::to_vec(self).map_err(unwritten)?;
        let xxh3 = digest(&serde_json::from_slice(&text).map_err(unwritten)?).map_err(unwritten)?;
        format::to_json(&Sealed { of: self, xxh3 }).map_err(unwritten)
    }

    /// The manifest with one more stage.
    ///
    /// # Errors
    /// As [`to_text`](Self::to_text).
    pub(super) fn with(&self, stage: StageRecord) -> Result<Self> {
        let text = serde_json::to_vec(self).map_err(unwritten)?;
        let mut copy: Self = serde_json::from_slice(&text).map_err(unwritten)?;
        copy.stages.push(stage);
        Ok(copy)
    }

    /// Reads the file `path`.
    ///
    /// # Errors
    /// When it cannot be read, is of a newer format, or is not what was written.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
        if let Ok(mut json) = serde_json::from_slice::<JsonMap>(&text)
            && let Some(stated) = json.remove(CHECKSUM)
        {
            json.remove(format::KEY);
            if digest(&json).ok().is_none_or(|found| stated != found) {
                return Err(Error::file(
                    path,
                    format!(
                        "is not what was written: its checksum is another; copy it again (one that \
                         was changed on purpose is accepted once its {CHECKSUM:?} is deleted)"
                    ),
                ));
            }
        }
        let sealed =
            serde_json::from_slice::<JsonMap>(&text).is_ok_and(|of| of.contains_key(CHECKSUM));
        let manifest: Self = format::parse_json(path, &text, "a run's manifest")?;
        if manifest.checksums && !sealed {
            let path = path.display();
            progress::warn(&format!("{path} has lost its {CHECKSUM:?}: it is taken as it is"));
        }
        Ok(manifest)
    }
}

/// XXH3 of 128 bits of `json` without spaces, keys in the order that it has them.
fn digest(json: &JsonMap) -> serde_json::Result<String> {
    let text = serde_json::to_vec(json)?;
    Ok(format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&text)))
}

/// The time, UTC, RFC 3339, to the second.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
