//! Models: runs, checkpoints, recipes, and checkpoints of the Python program.

use std::path::Path;

use serde_json::Value as Json;

use super::{Found, as_json, files, folders, json, significant};
use crate::checkpoint::checksums;
use crate::checkpoint::finite::{describe, not_finite};
use crate::checkpoint::pickle::Value;
use crate::checkpoint::pt::read_pt;
use crate::checkpoint::python::{self, JsonMap};
use crate::error::Result;
use crate::model::ModelConfig;
use crate::progress::{duration, quantity};
use crate::recipe::{Plan, Request, lacks_data, resolve};
use crate::run::{Manifest, RunFolder, Saved, StageRecord, read_model};
use crate::tokens::TokenSpec;

/// The table of what prepares the data.
const PREPARATION: &str = "preparation";
/// What the stages of a run write, in their order.
const WRITTEN: [&str; 7] = [
    "metrics.jsonl",
    "ledger.jsonl",
    "faults.jsonl",
    "embeddings.parquet",
    "probes.json",
    "emergence.json",
    "report.html",
];

/// The shape of a model.
fn shape(found: &mut Found, model: &ModelConfig) {
    found.fact("parameters", model.parameter_count());
    let (layers, heads, width) = (model.layers, model.heads, model.width);
    let tokeniser = super::plain(&as_json(&model.tokeniser));
    let said = format!("{layers} layers, {heads} heads, width {width}, tokeniser {tokeniser}");
    found.fact("shape", said);
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
    found.fact("plan of training", format!("{} steps of {} objects", train.steps, train.batch));
    shape(found, &plan.model_config()?);
    let mut rows = settings("source", &as_json(&plan.source));
    for (name, config) in &plan.modalities {
        rows.extend(settings(&format!("modality.{name}"), &as_json(config)));
    }
    found.table(PREPARATION, &["key", "value"], rows);
    Ok(())
}

/// One row per key of a plugin's settings.
pub(super) fn settings(prefix: &str, json: &Json) -> Vec<Vec<String>> {
    let entries = json.as_object().into_iter().flatten();
    let shown = entries.filter(|(_, value)| !value.is_null());
    shown.map(|(key, value)| vec![format!("{prefix}.{key}"), super::plain(value)]).collect()
}

/// A run's folder.
pub(super) fn run(path: &Path) -> Result<Found> {
    let (folder, manifest) = RunFolder::open(path)?;
    described(&folder, &manifest)
}

/// What a run's manifest and folder say.
pub(super) fn described(folder: &RunFolder, manifest: &Manifest) -> Result<Found> {
    let mut found = Found::new("a run");
    found.fact("created", format!("{} by {}", manifest.created, manifest.program));
    progress(&mut found, folder, &manifest.plan)?;
    let count = |split: &str| manifest.objects.get(split).copied().unwrap_or(0);
    found.fact(
        "objects",
        if lacks_data(&manifest.plan) {
            "none yet: give it data with `astropt pretrain --resume --out RUN --data PATH`".into()
        } else if manifest.data_digest.is_empty() {
            "not counted yet: its data were not opened".to_owned()
        } else {
            let all =
                ["train", "validation", "test"].map(|split| format!("{} {split}", count(split)));
            all.join(", ")
        },
    );
    match folder.read_rejected().map(|all| all.len()) {
        Ok(0) => {}
        Ok(n) => found.fact("left out", format!("{n} objects (rejected.csv says why)")),
        Err(error) => found.fact("left out", error.to_string()),
    }
    if manifest.imported.is_some() {
        found.fact("imported", "from the Python AstroPT");
    }
    let written = WRITTEN.iter().filter(|name| folder.file(name).exists());
    let written: Vec<&str> = written.copied().collect();
    found.fact("results", if written.is_empty() { "none yet".into() } else { written.join(", ") });
    folders::size(&mut found, folder.path());
    plan(&mut found, &manifest.plan)?;
    let stage = |s: &StageRecord| {
        let facts = s.facts.iter().filter(|(name, _)| *name != "ledger");
        let facts: Vec<String> = facts.map(|(name, fact)| format!("{name} {fact}")).collect();
        let took = duration(s.seconds);
        vec![s.stage.clone(), s.started.clone(), took, s.device.clone(), facts.join(", ")]
    };
    let rows = manifest.stages.iter().map(stage).collect();
    // Before the long table of the preparation, which would push it off the screen.
    let heading = ["stage", "started", "took", "device", "what came of it"];
    found.table("stages", &heading, rows);
    found.tables.sort_by_key(|table| table.title == PREPARATION);
    Ok(found)
}

/// How far the training is.
fn progress(found: &mut Found, folder: &RunFolder, plan: &Plan) -> Result<()> {
    let all = folder.checkpoints()?;
    let Some(last) = all.last() else {
        found.fact("trained", format!("0 of {} steps, no checkpoint yet", plan.train.steps));
        return Ok(());
    };
    let tokens = match last.state() {
        Ok(state) if state.tokens > 0 => format!(", {} tokens", quantity(state.tokens as f64)),
        _ => String::new(),
    };
    found.fact("trained", format!("{} of {} steps{tokens}", last.step, plan.train.steps));
    if let Some(best) = folder.best()? {
        let loss = best.state()?.best_loss.map_or("none".to_owned(), significant);
        found.fact("best", format!("step {}, validation loss {loss}", best.step));
    }
    let steps: Vec<String> = all.iter().map(|saved| saved.step.to_string()).collect();
    found.fact("checkpoints", steps.join(", "));
    Ok(())
}

/// A checkpoint's folder, or the file of its model.
pub(super) fn checkpoint(path: &Path) -> Result<Found> {
    let model = read_model(path)?;
    let saved = if path.is_dir() { Saved::at(path) } else { Saved::of_model(path) };
    let mut found = Found::new("a checkpoint");
    found.fact("step", model.step);
    match &saved {
        Some(saved) => {
            json::of_state(&mut found, &saved.state()?);
            let check = saved.path.join("selfcheck.safetensors");
            let said = if check.exists() { files::covers(&check)? } else { "none".to_owned() };
            found.fact("self-check", said);
            // The model's was compared when it was read; the optimiser's takes as long again.
            let there = saved.path.join(checksums::FILE).exists();
            let said = "recorded, the model's is right (`astropt inspect` of checksums.json: all)";
            found.fact("checksums", if there { said } else { "none" });
        }
        None => {
            found.what = "a model in one file (`astropt import` makes a run of it)".to_owned();
        }
    }
    if let Some(bad) = describe(&not_finite(&model.parameters), str::to_owned) {
        found.fact("of no use", bad);
    }
    if let Some(reason) = model.unsupported {
        found.fact("cannot be run", reason);
    }
    if model.imported.is_some() {
        found.fact("imported", "from the Python AstroPT");
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
    let theirs = |name: &str| checkpoint.layout.python_name(name);
    if let Some(bad) = describe(&not_finite(&checkpoint.parameters), theirs) {
        found.fact("of no use", bad);
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
