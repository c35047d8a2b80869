//! Models: runs, checkpoints, recipes, and checkpoints of the Python program.

use std::path::Path;

use serde_json::Value as Json;

use super::{Found, as_json};
use crate::checkpoint::checksums;
use crate::checkpoint::pickle::Value;
use crate::checkpoint::pt::read_pt;
use crate::checkpoint::python::{self, JsonMap};
use crate::error::Result;
use crate::model::ModelConfig;
use crate::recipe::{Plan, Request, resolve};
use crate::run::{RunFolder, Saved, read_model};
use crate::tokens::TokenSpec;

/// The shape of a model.
fn shape(found: &mut Found, model: &ModelConfig) {
    found.fact("layers", model.layers);
    found.fact("heads", model.heads);
    found.fact("width", model.width);
    found.fact("tokeniser", as_json(&model.tokeniser));
    found.fact("parameters", model.parameter_count());
    let row = |(name, spec): (&String, &TokenSpec)| {
        vec![
            name.clone(),
            spec.values.to_string(),
            spec.positions.to_string(),
            spec.max_tokens.to_string(),
            spec.loss_weight.to_string(),
        ]
    };
    found.table(
        "modalities",
        &["name", "token", "position", "most tokens", "loss weight"],
        model.modalities.iter().map(row).collect(),
    );
}

/// What prepares the data, and how the model was trained.
fn plan(found: &mut Found, plan: &Plan) -> Result<()> {
    found.fact("recipe", plan.name.clone());
    found.fact("summary", plan.summary.clone());
    if let Some(scale) = &plan.scale {
        found.fact("scale", scale.clone());
    }
    let train = &plan.train;
    found.fact("training", format!("{} steps of {} objects", train.steps, train.batch));
    shape(found, &plan.model_config()?);
    let mut rows = settings("source", &as_json(&plan.source));
    for (name, config) in &plan.modalities {
        rows.extend(settings(&format!("modality.{name}"), &as_json(config)));
    }
    found.table("preparation", &["key", "value"], rows);
    Ok(())
}

/// One row per key of a plugin's settings.
fn settings(prefix: &str, json: &Json) -> Vec<Vec<String>> {
    let entries = json.as_object().into_iter().flatten();
    let shown = entries.filter(|(_, value)| !value.is_null());
    shown.map(|(key, value)| vec![format!("{prefix}.{key}"), super::plain(value)]).collect()
}

/// A run's folder.
pub(super) fn run(path: &Path) -> Result<Found> {
    let (folder, manifest) = RunFolder::open(path)?;
    let mut found = Found::new("a run");
    found.fact("program", manifest.program.clone());
    found.fact("created", manifest.created.clone());
    plan(&mut found, &manifest.plan)?;
    for (split, count) in &manifest.objects {
        found.fact(&format!("{split} objects"), *count);
    }
    let steps: Vec<_> = folder.checkpoints()?.iter().map(|saved| saved.step.to_string()).collect();
    found.fact("checkpoints", if steps.is_empty() { "none".into() } else { steps.join(", ") });
    if let Ok(best) = folder.checkpoint("best") {
        let loss = best.state()?.best_loss;
        found.fact("best", format!("step {}, loss {}", best.step, as_json(&loss)));
    }
    if manifest.imported.is_some() {
        found.fact("imported", true);
    }
    for name in ["embeddings.parquet", "probes.json", "report.html"] {
        if folder.file(name).exists() {
            found.fact(name, "written");
        }
    }
    let stage = |s: &crate::run::StageRecord| {
        vec![s.stage.clone(), s.started.clone(), format!("{:.1} s", s.seconds), s.device.clone()]
    };
    let rows = manifest.stages.iter().map(stage).collect();
    found.table("stages", &["stage", "started", "took", "device"], rows);
    Ok(found)
}

/// A checkpoint's folder.
pub(super) fn checkpoint(path: &Path) -> Result<Found> {
    let model = read_model(path)?;
    let mut found = Found::new("a checkpoint");
    found.fact("step", model.step);
    if let Some(saved) = Saved::at(path) {
        let state = saved.state()?;
        found.fact("tokens read", state.tokens);
        found.fact("best loss", as_json(&state.best_loss));
    }
    found.fact("self-check", path.join("selfcheck.safetensors").exists());
    found.fact("checksums", path.join(checksums::FILE).exists());
    if let Some(reason) = model.unsupported {
        found.fact("cannot be run", reason);
    }
    if model.imported.is_some() {
        found.fact("imported", true);
    }
    plan(&mut found, &model.plan)?;
    Ok(found)
}

/// A recipe's file.
pub(super) fn recipe(path: &Path) -> Result<Found> {
    let recipe = path.display().to_string();
    let resolved = resolve(&Request { recipe, dataless: true, ..Request::default() })?;
    let mut found = Found::new("a recipe");
    plan(&mut found, &resolved)?;
    Ok(found)
}

/// A checkpoint of the Python program, or another `.pt` file.
pub(super) fn python(path: &Path) -> Result<Found> {
    let checkpoint = match python::read(path) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            let mut found = pt(path)?;
            found.fact("no checkpoint of AstroPT", error.to_string());
            return Ok(found);
        }
    };
    let mut found = Found::new("a checkpoint of the Python AstroPT");
    found.fact("layout", checkpoint.layout.name());
    found.fact("iteration", as_json(&checkpoint.iteration));
    found.fact("best loss", as_json(&checkpoint.best_loss));
    let steps = checkpoint.optimiser.as_ref().map(|state| state.steps);
    found.fact("optimiser", steps.map_or("no state".into(), |n| format!("after {n} steps")));
    if let Some(reason) = checkpoint.unsupported {
        found.fact("cannot be run", format!("it {reason}"));
    }
    shape(&mut found, &checkpoint.model);
    let rows = |map: &JsonMap| -> Vec<Vec<String>> {
        let plain = map.iter().filter(|(key, _)| *key != "modalities");
        plain.map(|(key, value)| vec![key.clone(), super::plain(value)]).collect()
    };
    let settings = checkpoint.settings;
    found.table("model_args", &["key", "value"], rows(&settings.model_args));
    found.table("config", &["key", "value"], rows(&settings.config));
    found.table("optimiser's settings", &["key", "value"], rows(&settings.group));
    Ok(found)
}

/// Any `.pt` file: its objects, not their numbers.
fn pt(path: &Path) -> Result<Found> {
    let file = read_pt(path)?;
    let mut found = Found::new("a PyTorch file");
    let mut rows = Vec::new();
    for (key, value) in file.root.entries() {
        let tensors = value.entries().iter().filter(|(_, v)| file.is_tensor(v)).count();
        let kind = match value {
            _ if file.is_tensor(value) => format!("tensor {:?}", file.shape(value)?),
            Value::Object(_) | Value::Class(_) => value.class().unwrap_or("object").to_owned(),
            other if !other.entries().is_empty() => format!("{} entries", other.entries().len()),
            other => super::plain(&other.to_json(1000).unwrap_or_default()),
        };
        let key = key.as_str().map_or_else(|| format!("{key:?}"), str::to_owned);
        rows.push(vec![key, kind, tensors.to_string()]);
    }
    found.table("objects", &["name", "what", "tensors"], rows);
    Ok(found)
}
