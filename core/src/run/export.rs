//! A checkpoint written for the Python AstroPT, or as one safetensors file.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

use super::import::{PREPARATION, TRAINING, patch_size};
use super::saved::{CHECKSUMS, SELF_CHECK, Saved, SavedModel, load};
use crate::checkpoint::export::{PythonExport, export as write};
use crate::checkpoint::python::{JsonMap, Layout, PythonSettings};
use crate::checkpoint::save_tensors;
use crate::checkpoint::tensors::digest;
use crate::error::{Error, Result};
use crate::recipe::{Plan, TrainConfig};
use crate::train::learning_rate;

/// Under which a model's metadata in a file of its own says how far its training was.
pub(super) const STATE: &str = "state";
/// Under which it says what its parameters were when they were written.
pub(super) const DIGEST: &str = "xxh3";

impl Saved {
    /// Writes this checkpoint, whose model has been read, as the Python program's `layout`.
    ///
    /// # Errors
    /// When the layout cannot hold the model, or the file cannot be written.
    pub fn export_python(&self, model: &SavedModel, layout: Layout, out: &Path) -> Result<()> {
        let plan = &model.plan;
        if plan.modalities.len() > 1 && !plan.stream.order.is_alphabetical() {
            return Err(Error::Misuse(format!(
                "{} cannot hold this model: that program reads modalities in the order of their names, \
                 and this one was trained with another (stream.order); write safetensors",
                layout.name()
            )));
        }
        let state = self.state()?;
        let train = &plan.train;
        let mut settings = match &model.imported {
            Some(settings) => settings.clone(),
            None => PythonSettings { config: training(train)?, ..PythonSettings::default() },
        };
        settings.config.insert(PREPARATION.to_owned(), preparation(plan)?.into());
        let step = train.step_settings(learning_rate(train, state.step));
        let optimiser = self.optimiser()?;
        self.unreplaced()?;
        let of = PythonExport {
            model: &model.plan.model_config()?,
            objective: &model.plan.objective,
            parameters: &model.parameters,
            optimiser: &optimiser,
            step: &step,
            iteration: state.step,
            best_loss: state.best_loss,
            patches: &patches(&model.plan, &settings)?,
            settings: &settings,
        };
        write(out, layout, &of)
    }

    /// Writes this checkpoint's parameters, the plan they were trained under and how far the
    /// training was to one safetensors file, which [`import_own`](super::import_own) takes back.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn export_safetensors(&self, out: &Path) -> Result<()> {
        let from = self.model_file();
        let (parameters, mut metadata) = load(&from)?;
        let state = serde_json::to_string(&self.state()?)
            .map_err(|e| Error::Failed(format!("cannot write the state: {e}")))?;
        self.unreplaced()?;
        metadata.insert(STATE.to_owned(), state);
        // Of files beside the model's, which this one leaves behind.
        metadata.remove(SELF_CHECK);
        metadata.remove(CHECKSUMS);
        // There is no file beside it that could tell.
        metadata.insert(DIGEST.to_owned(), format!("{:032x}", digest(&parameters)));
        save_tensors(out, &parameters, &metadata)
    }
}

/// The recipe's tables of modalities, as TOML: what prepares the data that the model reads, of which
/// the Python program keeps nothing.
fn preparation(plan: &Plan) -> Result<String> {
    let wrong = |e: &dyn std::fmt::Display| {
        Error::Failed(format!("cannot write what prepares the model's data: {e}"))
    };
    let recipe: toml::Table = toml::from_str(&plan.recipe).map_err(|e| wrong(&e))?;
    let tables = recipe.into_iter().filter(|(key, _)| key == "modality");
    toml::to_string(&tables.collect::<toml::Table>()).map_err(|e| wrong(&e))
}

/// Side of a patch by modality: as imported, else what the plan's tables call `patch` or
/// `window`.
fn patches(plan: &Plan, settings: &PythonSettings) -> Result<BTreeMap<String, usize>> {
    let mut out = BTreeMap::new();
    for (name, config) in &plan.modalities {
        let json = serde_json::to_value(config)
            .map_err(|e| Error::Failed(format!("cannot read the modality {name}: {e}")))?;
        let own = ["patch", "window"].iter().find_map(|key| json.get(key)?.as_u64());
        let own = own.and_then(|n| usize::try_from(n).ok());
        out.extend(patch_size(settings, name).or(own).map(|patch| (name.clone(), patch)));
    }
    Ok(out)
}

/// `[train]` in the words of the Python program's training script.
fn training(train: &TrainConfig) -> Result<JsonMap> {
    let json = serde_json::to_value(train)
        .map_err(|e| Error::Failed(format!("cannot write the training's settings: {e}")))?;
    let word =
        |(ours, theirs): &(&str, &str)| Some(((*theirs).to_owned(), json.get(ours)?.clone()));
    let mut map: JsonMap = TRAINING.iter().filter_map(word).collect();
    let pieces = train.batch / train.micro_batch.max(1);
    map.insert("gradient_accumulation_steps".into(), Json::from(pieces));
    map.insert("weight_decay".into(), Json::from(train.weight_decay));
    map.insert("beta1".into(), Json::from(train.betas[0]));
    map.insert("beta2".into(), Json::from(train.betas[1]));
    Ok(map)
}
