//! Checkpoints of a run: parameters, optimiser and state in one folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::{load_tensors, save_tensors, write_bytes};
use crate::engine::{OptimiserState, Session, StateDict};
use crate::error::{Error, Result};
use crate::recipe::Plan;

const MODEL: &str = "model.safetensors";
const OPTIMISER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
/// Version of the checkpoint's format.
const FORMAT: &str = "1";

/// What training needs to go on, beside tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    /// Optimiser steps taken.
    pub step: u64,
    /// Tokens read.
    pub tokens: u64,
    /// Lowest validation loss so far.
    pub best_loss: Option<f64>,
    /// Step of the lowest validation loss.
    pub best_step: Option<u64>,
}

/// A checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Optimiser steps taken.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
}

impl Saved {
    /// Writes a checkpoint's files into the folder `path`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write(
        path: &Path,
        session: &dyn Session,
        plan: &Plan,
        state: &TrainState,
    ) -> Result<()> {
        let plan = serde_json::to_string(plan)
            .map_err(|e| Error::Failed(format!("cannot write the plan: {e}")))?;
        let metadata = BTreeMap::from([
            ("astropt_format".to_owned(), FORMAT.to_owned()),
            ("plan".to_owned(), plan),
            ("step".to_owned(), state.step.to_string()),
        ]);
        save_tensors(path.join(MODEL), &session.parameters()?, &metadata)?;
        let optimiser = session.optimiser()?;
        let mut moments = StateDict::new();
        for (prefix, moment) in [("moment1.", optimiser.moment1), ("moment2.", optimiser.moment2)] {
            moments.extend(moment.into_iter().map(|(name, t)| (format!("{prefix}{name}"), t)));
        }
        let metadata = BTreeMap::from([
            ("astropt_format".to_owned(), FORMAT.to_owned()),
            ("steps".to_owned(), optimiser.steps.to_string()),
        ]);
        save_tensors(path.join(OPTIMISER), &moments, &metadata)?;
        let text = serde_json::to_string_pretty(state)
            .map_err(|e| Error::Failed(format!("cannot write the state: {e}")))?;
        write_bytes(path.join(STATE), text.as_bytes())
    }

    /// The state beside the tensors.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn state(&self) -> Result<TrainState> {
        let path = self.path.join(STATE);
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, &e))?;
        serde_json::from_str(&text)
            .map_err(|e| Error::file(&path, format!("is not a checkpoint's state: {e}")))
    }

    /// Puts the checkpoint's parameters and optimiser into `session`.
    ///
    /// # Errors
    /// When a file is unreadable or belongs to a model of another shape.
    pub fn restore(&self, session: &mut dyn Session) -> Result<TrainState> {
        let state = self.state()?;
        let (parameters, _) = load(&self.path.join(MODEL))?;
        let of_model = |error: Error| other_shape(&self.path.join(MODEL), &error);
        session.set_parameters(&parameters).map_err(of_model)?;
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
        session.set_optimiser(&optimiser).map_err(|e| other_shape(&path, &e))?;
        Ok(state)
    }
}

fn other_shape(path: &Path, error: &Error) -> Error {
    Error::file(
        path,
        format!("belongs to a model of another shape: {error}; use the recipe it was trained with"),
    )
}

fn load(path: &Path) -> Result<(StateDict, BTreeMap<String, String>)> {
    let (tensors, metadata) = load_tensors(path)?;
    match metadata.get("astropt_format").map(String::as_str) {
        Some(FORMAT) => Ok((tensors, metadata)),
        Some(newer) => Err(Error::file(
            path,
            format!("has the format {newer}, this program reads {FORMAT}; use a newer program"),
        )),
        None => Err(Error::file(path, "was not written by this program")),
    }
}

/// Reads the model of a checkpoint folder (or of its `model.safetensors`): the plan it was
/// trained under, its parameters, and the step.
///
/// # Errors
/// When it cannot be read or was not written by this program.
pub fn load_model(path: &Path) -> Result<(Plan, StateDict, u64)> {
    let file = if path.is_dir() { path.join(MODEL) } else { path.to_owned() };
    let (parameters, metadata) = load(&file)?;
    let plan = metadata.get("plan").ok_or_else(|| Error::file(&file, "carries no plan"))?;
    let plan: Plan = serde_json::from_str(plan).map_err(|e| {
        Error::file(&file, format!("its plan cannot be read: {e}; is every plugin it uses linked?"))
    })?;
    let step = metadata.get("step").and_then(|s| s.parse().ok()).unwrap_or(0);
    Ok((plan, parameters, step))
}
