//! A run made of one safetensors file, as [`export_safetensors`](super::Saved::export_safetensors)
//! writes it: parameters, plan and step as they were.

use std::path::{Path, PathBuf};

use super::export::{DIGEST, STATE};
use super::folder::RunFolder;
use super::import::{Imported, all_taken, answered, free, inputs, no_steps};
use super::manifest::Manifest;
use super::saved::{Contents, Saved, SavedModel, TrainState, read_model};
use crate::checkpoint::finite::{describe, not_finite};
use crate::checkpoint::format;
use crate::checkpoint::python::{Layout, check_parameters};
use crate::checkpoint::tensors::{describe_tensors, digest};
use crate::data::Dataset;
use crate::engine::{Session, StateDict};
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::plain;
use crate::recipe::amend;

/// What to import and what to make of it.
#[derive(Clone, Debug)]
pub struct OwnRequest {
    /// The file.
    pub file: PathBuf,
    /// Folder of the run.
    pub out: PathBuf,
    /// What the plan's source reads from now on, if it is to be changed.
    pub data: Option<PathBuf>,
    /// `--set key=value`, in order.
    pub set: Vec<String>,
    /// How keys begin that these may change.
    pub may_set: &'static [&'static str],
    /// Whether a run in the folder is deleted first.
    pub overwrite: bool,
}

/// Imports a model that was exported as safetensors into a new run. `open` opens a session for
/// a model of the given shape, in which the checkpoint's self-check is recorded.
///
/// # Errors
/// When the file cannot be read, was not exported by this program, holds numbers that are NaN or
/// infinite, or the run cannot be written.
pub fn import_own(
    request: &OwnRequest,
    open: &dyn Fn(&ModelConfig) -> Result<Box<dyn Session>>,
) -> Result<Imported> {
    free(&request.out, request.overwrite)?;
    let file = &request.file;
    let state = state(file)?;
    let SavedModel { plan, parameters, step, imported, unsupported } = read_model(file)?;
    as_written(file, &parameters)?;
    unusable(file, &parameters, str::to_owned)?;
    let plan = amend(&plan, request.may_set, &request.set, request.data.as_deref())?;
    let model = plan.model_config()?;
    check_parameters(&model, &parameters).map_err(|e| Error::file(file, e))?;
    let data = request.data.as_ref().map(|_| Dataset::open(&plan, Path::new(".")));
    let data = data.transpose()?;
    let (check, uncovered) = match unsupported {
        Some(_) => (None, Vec::new()),
        None => {
            let mut session = open(&model)?;
            session.set_parameters(&parameters)?;
            let inputs = inputs(&plan, data.as_ref())?;
            (Some(answered(file, &inputs, session.as_mut())?), inputs.uncovered())
        }
    };
    let kind = |config: &dyn crate::seam::ModalityConfig| config.typetag_name().to_owned();
    let modalities = plan.modalities.iter().map(|(name, m)| (name.clone(), kind(m.as_ref())));
    let of = Imported {
        run: request.out.clone(),
        layout: "safetensors",
        step,
        parameters: model.parameter_count(),
        optimiser: false,
        modalities: modalities.collect(),
        assumptions: all_taken(&plan, step).into_iter().collect(),
        uncovered,
        unsupported,
    };
    let count = of.parameters;
    let mut manifest = match &data {
        Some(data) => Manifest::new(plan, data)?,
        None => Manifest::without_data(plan, count),
    };
    manifest.imported = imported;
    let folder = RunFolder::create(&request.out, &manifest, request.overwrite)?;
    let contents = Contents {
        parameters,
        optimiser: no_steps(),
        manifest: &manifest,
        state: &TrainState { step, ..state },
        unsupported: of.unsupported.as_deref(),
        check: check.as_ref(),
    };
    folder.save(contents, false)?;
    Ok(of)
}

/// Compares the parameters with what the file says they were; one of an earlier version does not.
fn as_written(file: &Path, parameters: &StateDict) -> Result<()> {
    let (_, metadata) = describe_tensors(file)?;
    match metadata.get(DIGEST) {
        Some(stated) if *stated != format!("{:032x}", digest(parameters)) => Err(Error::file(
            file,
            format!(
                "its parameters are not what was written; copy it again, or export the model again \
                 (one that was changed on purpose is accepted without the {DIGEST:?} of its metadata)"
            ),
        )),
        _ => Ok(()),
    }
}

/// How far the training was whose model is in `file`; of the objects that it was trained on this
/// run has no ledger, and of its losses no lines.
///
/// # Errors
/// When the file is none that this program exported.
fn state(file: &Path) -> Result<TrainState> {
    let (arrays, metadata) = describe_tensors(file)?;
    if !metadata.contains_key(format::KEY) || !metadata.contains_key("plan") {
        let holds = match Layout::detect(arrays.iter().map(|a| a.name.as_str())) {
            Some(layout) => format!("holds the bare parameters of a model of {}", layout.name()),
            None => "holds no model".to_owned(),
        };
        return Err(Error::file(
            file,
            format!(
                "{holds}, without the plan that says what shape it has and how observations are \
                 prepared for it; import the .pt checkpoint, or what `astropt export --to \
                 safetensors` wrote"
            ),
        ));
    }
    format::of_metadata(file, &metadata)?;
    let state: TrainState = match metadata.get(STATE) {
        Some(text) => serde_json::from_str(text).map_err(|e| {
            let message = format!("its state cannot be read: {}", plain::json_value(&e));
            Error::file(file, message)
        })?,
        // A checkpoint's own file, with the state beside it, or one of an earlier version.
        None => match Saved::of_model(file) {
            Some(saved) => saved.state()?,
            None => TrainState::default(),
        },
    };
    Ok(TrainState { ledger: None, metrics: None, between: false, ..state })
}

/// Refuses parameters that are NaN or infinite; `named` gives them their names in the file.
///
/// # Errors
/// When there are some: names the first, and how many values.
pub(super) fn unusable(
    path: &Path,
    parameters: &StateDict,
    named: impl Fn(&str) -> String,
) -> Result<()> {
    match describe(&not_finite(parameters), named) {
        None => Ok(()),
        Some(bad) => Err(Error::file(
            path,
            format!(
                "holds a model that answers NaN to everything: {bad}; its training went astray, so \
                 import a checkpoint from before that (`astropt inspect` counts them)"
            ),
        )),
    }
}
