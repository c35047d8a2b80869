//! Checkpoints of a run: parameters, optimiser and state in one folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use super::selfcheck::{self, SelfCheck};
use crate::checkpoint::checksums::{self, Checked};
use crate::checkpoint::python::PythonSettings;
use crate::checkpoint::tensors::describe_tensors;
use crate::checkpoint::{format, load_tensors, save_tensors, write_bytes};
use crate::engine::{OptimiserState, Session, StateDict};
use crate::error::{Error, Result};
use crate::recipe::{Modalities, Plan, contradictions};
use crate::{plain, progress};

const MODEL: &str = "model.safetensors";
const OPTIMISER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
/// Words in the model's metadata.
const IMPORTED: &str = "python";
const UNSUPPORTED: &str = "unsupported";
pub(super) const SELF_CHECK: &str = "selfcheck";
/// That the files have checksums, which no damage can then leave them without.
pub(super) const CHECKSUMS: &str = "checksums";

/// What training needs to go on, beside tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    /// Optimiser steps taken.
    pub step: u64,
    /// Tokens read.
    pub tokens: u64,
    /// Lowest validation loss so far.
    pub best_loss: Option<f64>,
    /// Step of the lowest validation loss.
    pub best_step: Option<u64>,
    /// Steps whose objects are passed over when they come: those that the training was rolled
    /// back from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed: Vec<u64>,
    /// End of the ledger's chain: which objects these steps were taken on; see
    /// [`ledger`](crate::train::ledger). `None` before the first step, and in checkpoints from
    /// before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<String>,
    /// Digest of the lines of `metrics.jsonl` so far; `None` in checkpoints from before there was
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// Saved where the run was stopped and not where its schedule says: it goes once a later
    /// checkpoint stands.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub between: bool,
}

/// A checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Optimiser steps taken.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
}

/// What a checkpoint holds.
pub(crate) struct Contents<'a> {
    pub(crate) parameters: StateDict,
    pub(crate) optimiser: OptimiserState,
    pub(crate) manifest: &'a Manifest,
    pub(crate) state: &'a TrainState,
    /// Why this program cannot run the model, if so.
    pub(crate) unsupported: Option<&'a str>,
    pub(crate) check: Option<&'a SelfCheck>,
}

impl Contents<'_> {
    /// Writes a checkpoint's files into the folder `path`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write(self, path: &Path) -> Result<()> {
        let json = |e: serde_json::Error| Error::Failed(format!("cannot write the plan: {e}"));
        let mut metadata = stamp();
        metadata
            .insert("plan".to_owned(), serde_json::to_string(&self.manifest.plan).map_err(json)?);
        metadata.insert("step".to_owned(), self.state.step.to_string());
        metadata.insert(CHECKSUMS.to_owned(), "yes".to_owned());
        if let Some(settings) = &self.manifest.imported {
            let settings = serde_json::to_string(settings).map_err(json)?;
            metadata.insert(IMPORTED.to_owned(), settings);
        }
        if let Some(reason) = self.unsupported {
            metadata.insert(UNSUPPORTED.to_owned(), reason.to_owned());
        }
        let mut written = vec![MODEL, OPTIMISER, STATE];
        if let Some(check) = self.check {
            metadata.insert(SELF_CHECK.to_owned(), "yes".to_owned());
            check.write(path)?;
            written.push(selfcheck::FILE);
        }
        save_tensors(path.join(MODEL), &self.parameters, &metadata)?;
        let mut moments = StateDict::new();
        let OptimiserState { moment1, moment2, steps } = self.optimiser;
        for (prefix, moment) in [("moment1.", moment1), ("moment2.", moment2)] {
            moments.extend(moment.into_iter().map(|(name, t)| (format!("{prefix}{name}"), t)));
        }
        let mut metadata = stamp();
        metadata.insert("steps".to_owned(), steps.to_string());
        save_tensors(path.join(OPTIMISER), &moments, &metadata)?;
        let text = format::to_json(self.state)
            .map_err(|e| Error::Failed(format!("cannot write the state: {e}")))?;
        write_bytes(path.join(STATE), text.as_bytes())?;
        checksums::write(path, &written)
    }
}

fn stamp() -> BTreeMap<String, String> {
    BTreeMap::from([(format::KEY.to_owned(), format::FORMAT.to_string())])
}

/// Name of the folder of the checkpoint of the lowest validation loss.
pub(super) const BEST: &str = "best";

/// Name of the folder of the checkpoint after `step` steps.
pub(super) fn name_of(step: u64) -> String {
    format!("step-{step:06}")
}

/// The step of the checkpoint whose folder has this name, if it is one's.
pub(super) fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix("step-")?.parse().ok()
}

impl Saved {
    /// The checkpoint that the folder `path` is; `None` when it is none.
    pub fn at(path: &Path) -> Option<Self> {
        let saved = Self { step: 0, path: path.to_owned() };
        saved.model_file().is_file().then(|| {
            let step = saved.state().map_or(0, |state| state.step);
            Self { step, ..saved }
        })
    }

    /// The checkpoint whose parameters are the file `path`; `None` for one that was copied away from
    /// its checkpoint.
    pub(crate) fn of_model(path: &Path) -> Option<Self> {
        let folder = path.parent()?;
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let there = path.file_name()? == MODEL && folder.join(STATE).exists();
        there.then(|| Self::at(folder)).flatten()
    }

    /// Digest of the file of its parameters, which tells models apart.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn digest(&self) -> Result<String> {
        checksums::digest(&self.model_file())
    }

    /// Whether it is kept for its validation loss, whatever its step.
    pub(super) fn is_best(&self) -> bool {
        self.path.ends_with(BEST)
    }

    /// The file of its parameters.
    pub(super) fn model_file(&self) -> PathBuf {
        self.path.join(MODEL)
    }

    /// Checks every file that was written against its checksum.
    ///
    /// # Errors
    /// When one is not what was written.
    pub fn verify(&self) -> Result<()> {
        check(&self.path.join(STATE))?;
        checksums::check_all(&self.path)
    }

    /// `error`, which is about this checkpoint, with the way to the one `before` it.
    pub(crate) fn or_before(&self, error: Error, before: Option<Self>) -> Error {
        match (error, before) {
            (Error::File { path, message }, Some(before)) => {
                let (own, step) = (self.path.display(), before.step);
                Error::File {
                    path,
                    message: format!("{message}; to go on from step {step}, move {own} away"),
                }
            }
            (error, _) => error,
        }
    }

    /// The state beside the tensors.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn state(&self) -> Result<TrainState> {
        let path = self.path.join(STATE);
        check(&path)?;
        let state: TrainState = format::read_json(&path, "a checkpoint's state")?;
        match self.path.file_name().and_then(|name| step_of(name.to_str()?)) {
            Some(named) if named != state.step => Err(Error::file(
                &self.path,
                format!(
                    "is the checkpoint after step {}, whatever its name says; give it back the name \
                     {}",
                    state.step,
                    name_of(state.step)
                ),
            )),
            _ => Ok(state),
        }
    }

    /// Puts the checkpoint's parameters and optimiser into `session`.
    ///
    /// # Errors
    /// When a file is unreadable or belongs to a model of another shape.
    pub fn restore(&self, session: &mut dyn Session) -> Result<TrainState> {
        let state = self.state()?;
        let (parameters, metadata) = load(&self.model_file())?;
        runnable(&self.path, &metadata)?;
        let of_model = |error: Error| other_shape(&self.model_file(), &error);
        session.set_parameters(&parameters).map_err(of_model)?;
        let of_model = |error: Error| other_shape(&self.path.join(OPTIMISER), &error);
        session.set_optimiser(&self.optimiser()?).map_err(of_model)?;
        Ok(TrainState { between: false, ..state })
    }

    /// The optimiser's state.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn optimiser(&self) -> Result<OptimiserState> {
        let path = self.path.join(OPTIMISER);
        let (moments, metadata) = load(&path)?;
        let steps = metadata.get("steps").and_then(|s| s.parse().ok());
        let steps =
            steps.ok_or_else(|| Error::file(&path, "does not say how many steps it took"))?;
        let mut optimiser = OptimiserState { steps, ..OptimiserState::default() };
        for (name, tensor) in moments {
            if let Some(name) = name.strip_prefix("moment1.") {
                optimiser.moment1.insert(name.to_owned(), tensor);
            } else if let Some(name) = name.strip_prefix("moment2.") {
                optimiser.moment2.insert(name.to_owned(), tensor);
            }
        }
        Ok(optimiser)
    }

    /// Puts `parameters`, which were read from this checkpoint, into `session` and, if so
    /// wished, [checks](Self::self_check) them.
    ///
    /// # Errors
    /// When the session's model is of another shape, or as the check.
    pub fn load(
        &self,
        parameters: &StateDict,
        modalities: &Modalities,
        session: &mut dyn Session,
        check: bool,
    ) -> Result<()> {
        session
            .set_parameters(parameters)
            .map_err(|e| Error::file(&self.path, format!("does not fit its own plan: {e}")))?;
        let checked = if check { self.self_check(modalities, session) } else { Ok(()) };
        // Of a mixture of two models the check would say what is not so.
        self.unreplaced().and(checked)
    }

    /// Checks that what was read of this checkpoint is of one: the best model gives way to a better
    /// one while its run goes on.
    ///
    /// # Errors
    /// When it is another by now.
    pub(super) fn unreplaced(&self) -> Result<()> {
        match self.state()?.step {
            step if step == self.step => Ok(()),
            step => Err(Error::file(
                &self.path,
                format!(
                    "was replaced by the model after step {step} while it was read; give the command \
                     again"
                ),
            )),
        }
    }

    /// Checks that `modalities` and the model in `session`, which was loaded from this
    /// checkpoint, still do what they did when it was written. A checkpoint from before
    /// there was such a check is told of and passes.
    ///
    /// # Errors
    /// When they do not, or what is recorded is missing or damaged.
    pub fn self_check(&self, modalities: &Modalities, session: &mut dyn Session) -> Result<()> {
        let (_, metadata) = describe_tensors(self.model_file())?;
        if metadata.contains_key(SELF_CHECK) {
            return selfcheck::check(&self.path, modalities, session);
        }
        progress::warn(&format!("{} carries no self-check", self.path.display()));
        Ok(())
    }
}

fn other_shape(path: &Path, error: &Error) -> Error {
    Error::file(
        path,
        format!("belongs to a model of another shape: {error}; use the recipe it was trained with"),
    )
}

/// Compares a file of a checkpoint with its checksum. Checkpoints of earlier versions have none.
///
/// # Errors
/// When it is not what was written, or the checksums are gone.
fn check(path: &Path) -> Result<()> {
    match checksums::check(path)? {
        Checked::AsWritten => Ok(()),
        Checked::Unlisted => {
            let (file, record) = (path.display(), checksums::FILE);
            progress::warn(&format!("{file} has no line in {record}: it is taken as it is"));
            Ok(())
        }
        // A model that was copied without its checkpoint.
        Checked::NoRecord if !path.with_file_name(STATE).exists() => Ok(()),
        Checked::NoRecord => {
            let (_, metadata) = describe_tensors(path.with_file_name(MODEL))?;
            if !metadata.contains_key(CHECKSUMS) {
                return Ok(());
            }
            Err(checksums::missing(
                &path.with_file_name(checksums::FILE),
                "this checkpoint's files",
            ))
        }
    }
}

/// Arrays and metadata of a checkpoint's file, once it is found to be what was written.
///
/// # Errors
/// When it is not, cannot be read, or is of a newer format.
pub(super) fn load(path: &Path) -> Result<(StateDict, BTreeMap<String, String>)> {
    // One that was exported to a name of its own may lie in a folder that lists others.
    match [MODEL, OPTIMISER].iter().any(|name| path.ends_with(name)) {
        true => check(path)?,
        false => checksums::check_listed(path)?,
    }
    let (tensors, metadata) = load_tensors(path)?;
    format::of_metadata(path, &metadata)?;
    Ok((tensors, metadata))
}

/// Refuses a model that this program holds but cannot run.
fn runnable(path: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
    match metadata.get(UNSUPPORTED) {
        Some(reason) => Err(Error::file(
            path,
            format!("{reason}; it can be inspected and exported, and nothing else"),
        )),
        None => Ok(()),
    }
}

/// A model as a checkpoint holds it.
#[derive(Debug)]
pub struct SavedModel {
    /// The plan it was trained under.
    pub plan: Plan,
    /// Its parameters.
    pub parameters: StateDict,
    /// Steps taken.
    pub step: u64,
    /// Settings of the Python program that it was imported from.
    pub imported: Option<PythonSettings>,
    /// Why this program cannot run the model, if so.
    pub unsupported: Option<String>,
}

/// Reads the model of a checkpoint folder (or of its `model.safetensors`), of whatever kind.
///
/// # Errors
/// When it cannot be read or was not written by this program.
pub fn read_model(path: &Path) -> Result<SavedModel> {
    let file = if path.is_dir() { path.join(MODEL) } else { path.to_owned() };
    let (parameters, mut metadata) = load(&file)?;
    let plan = plan_of(&file, &metadata)?;
    let imported = metadata.get(IMPORTED).map(|text| serde_json::from_str(text));
    let imported = imported.transpose().map_err(|e| {
        Error::file(
            &file,
            format!("the settings it was imported with cannot be read: {}", plain::json_value(&e)),
        )
    })?;
    let step = metadata.get("step").and_then(|s| s.parse().ok()).unwrap_or(0);
    let unsupported = metadata.remove(UNSUPPORTED);
    Ok(SavedModel { plan, parameters, step, imported, unsupported })
}

/// The plan in the `metadata` of a model's `file`.
///
/// # Errors
/// When it has none, or one that cannot be read or contradicts itself.
pub(super) fn plan_of(file: &Path, metadata: &BTreeMap<String, String>) -> Result<Plan> {
    let plan = metadata.get("plan").ok_or_else(|| Error::file(file, "carries no plan"))?;
    let plan: Plan = serde_json::from_str(plan).map_err(|e| {
        Error::file(
            file,
            format!(
                "its plan cannot be read: {}; is every plugin it uses linked?",
                plain::json_value(&e)
            ),
        )
    })?;
    consistent(file, &plan)?;
    Ok(plan)
}

/// Checks that the plan in `file` is that of the recipe it carries.
///
/// # Errors
/// When one of them was changed without the other: training would go by the one, and what is
/// embedded later by the other.
pub(super) fn consistent(file: &Path, plan: &Plan) -> Result<()> {
    let differences = contradictions(plan).join(", ");
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::file(
        file,
        format!("its plan and its recipe contradict each other: {differences}; copy it again"),
    ))
}

/// Reads a model that this program can run, as [`read_model`]: the plan it was trained
/// under, its parameters, and the step.
///
/// # Errors
/// As [`read_model`], and when it cannot be run.
pub fn load_model(path: &Path) -> Result<(Plan, StateDict, u64)> {
    let SavedModel { plan, parameters, step, unsupported, .. } = read_model(path)?;
    let metadata = unsupported.map(|reason| (UNSUPPORTED.to_owned(), reason));
    runnable(path, &metadata.into_iter().collect())?;
    Ok((plan, parameters, step))
}
