//! JSON files: those of a run by what they are, others by their keys.

use std::path::Path;

use serde_json::Value as Json;

use super::{Found, folders, model, significant};
use crate::checkpoint::checksums::{self, Checked};
use crate::checkpoint::format::{self, KEY};
use crate::cli::emergence::EMERGENCE;
use crate::cli::probes::PROBES;
use crate::error::{Error, Result};
use crate::family::{FAMILY, Family};
use crate::probe::{Emergence, Interval, ProbeTable};
use crate::run::{RunFolder, TrainState};
use crate::shards::outline_of;
use crate::train::{VALIDATION, ValidationLosses};

/// A JSON file, whose name is `name`.
pub(super) fn look(path: &Path, name: &str) -> Result<Found> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    let json: Json = serde_json::from_slice(&bytes).map_err(|e| {
        Error::file(path, format!("is no whole JSON: {}", crate::plain::json_value(&e)))
    })?;
    match (own(path, name), json.get(KEY).is_some()) {
        (Some(own), true) => own,
        // Of the first format, or another program's file of the same name.
        (Some(Ok(own)), false) => Ok(own),
        (_, ours) => {
            let mut found = Found::new(if ours { "JSON of this program" } else { "JSON" });
            outline(&mut found, "keys", &json);
            Ok(found)
        }
    }
}

/// A file that this program writes under the name `name`; `None` for others.
fn own(path: &Path, name: &str) -> Option<Result<Found>> {
    Some(match name {
        "manifest.json" => manifest(path),
        "state.json" => state(path),
        checksums::FILE => recorded(path),
        PROBES => probes(path),
        EMERGENCE => {
            format::read_json(path, "probes of checkpoints and layers").map(|of| emerged(&of))
        }
        VALIDATION => format::read_json(path, "losses of an evaluation").map(|of| validation(&of)),
        FAMILY => format::read_json(path, "a family of runs").map(|of| family(&of)),
        _ => outline_of(path)?.and_then(|part| super::converted::part(path, part)),
    })
}

/// The keys of `json`, and what they hold.
pub(super) fn outline(found: &mut Found, title: &str, json: &Json) {
    let holds = |value: &Json| match value {
        Json::Array(all) => format!("{} entries", all.len()),
        Json::Object(keys) => format!("{} keys", keys.len()),
        other => super::plain(other),
    };
    let rows: Vec<Vec<String>> = match json {
        Json::Object(keys) => {
            keys.iter().map(|(key, value)| vec![key.clone(), holds(value)]).collect()
        }
        other => vec![vec!["-".to_owned(), holds(other)]],
    };
    found.table(title, &["key", "holds"], rows);
}

/// The manifest of a run: what the run's folder says.
fn manifest(path: &Path) -> Result<Found> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // An empty parent is the folder one is in.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let (run, manifest) = RunFolder::open(folder)?;
    let mut found = model::described(&run, &manifest)?;
    found.what = "the manifest of a run: what ran on what, and when".to_owned();
    found.fact("command", manifest.command);
    Ok(found)
}

fn state(path: &Path) -> Result<Found> {
    let checked = checksums::check(path)?;
    let state: TrainState = format::read_json(path, "a checkpoint's state")?;
    let mut found = Found::new("how far the training of a checkpoint was");
    found.fact("steps taken", state.step);
    of_state(&mut found, &state);
    if state.between {
        found.fact("saved", "where the run was stopped: it goes once a later one stands");
    }
    let said = if checked == Checked::AsWritten { "as written" } else { "not recorded" };
    found.fact("checksum", said);
    Ok(found)
}

/// What a state says.
pub(super) fn of_state(found: &mut Found, state: &TrainState) {
    found.fact("tokens read", state.tokens);
    if let Some(loss) = state.best_loss {
        let step = state.best_step.map_or(String::new(), |step| format!(" after step {step}"));
        found.fact("lowest validation loss", format!("{}{step}", significant(loss)));
    }
    if !state.passed.is_empty() {
        let steps: Vec<_> = state.passed.iter().map(u64::to_string).collect();
        found.fact("steps passed over", steps.join(", "));
    }
    if let Some(chain) = &state.ledger {
        found.fact("ledger's chain", chain.clone());
    }
}

/// A record of checksums.
#[derive(serde::Deserialize)]
struct Recorded {
    xxh3: std::collections::BTreeMap<String, String>,
}

/// Every file that is listed, compared with what it is now.
fn recorded(path: &Path) -> Result<Found> {
    let Recorded { xxh3 } = format::read_json(path, "a record of checksums")?;
    let is = |name: &String, stated: &String| match checksums::digest(&path.with_file_name(name)) {
        Ok(found) if found == *stated => "as written",
        Ok(_) => "not what was written",
        Err(_) => "gone",
    };
    let row = |(name, stated): (&String, &String)| {
        vec![name.clone(), is(name, stated).to_owned(), stated.clone()]
    };
    let rows: Vec<Vec<String>> = xxh3.iter().map(row).collect();
    let mut found = Found::new("checksums (XXH3, 128 bits) of the files beside it");
    found.fact("files", rows.len());
    let bad = rows.iter().filter(|row| row.get(1).is_some_and(|is| is != "as written")).count();
    found.fact("not as written", bad);
    found.table("files", &["file", "is", "checksum"], rows);
    Ok(found)
}

fn interval(of: &Interval) -> String {
    match (of.low, of.high) {
        (Some(low), Some(high)) => format!("{:.3} [{low:.3}, {high:.3}]", of.value),
        _ => format!("{:.3}", of.value),
    }
}

/// What the embeddings know.
fn probes(path: &Path) -> Result<Found> {
    let table = ProbeTable::read_json(path)?;
    let mut found = Found::new("probes: what the embeddings know of the objects' labels");
    found.fact("fitted by", table.settings.method.name());
    found.fact("labels", table.labels().len());
    found.fact("features", table.sets.join(", "));
    if let Some(score) = table.rows.iter().find_map(|row| row.score()) {
        let said = format!("{} fitted on, {} scored on", score.n_train, score.n_test);
        found.fact("objects of the first", said);
    }
    let mut heading = vec!["label".to_owned()];
    heading.extend(table.sets.iter().map(|set| format!("R² {set}")));
    heading.push("median |error|".to_owned());
    let rows = table.labels().into_iter().map(|label| {
        let mut row = vec![label.to_owned()];
        let score = |set: &String| table.row(label, set).and_then(|row| row.score());
        row.extend(table.sets.iter().map(|set| score(set).map_or("-".into(), |s| interval(&s.r2))));
        let error = table.sets.first().and_then(score);
        row.push(error.map_or("-".into(), |s| significant(s.error_label.value)));
        row
    });
    found.titled("scores of held-out objects", heading, rows.collect());
    let skipped = table.skipped.iter().map(|s| vec![s.label.clone(), s.reason.clone()]).collect();
    found.table("not probed", &["label", "why"], skipped);
    Ok(found)
}

fn emerged(emergence: &Emergence) -> Found {
    let mut found = Found::new("when and where a model knows the labels: scores by step and block");
    for (what, told) in [("step", &emergence.checkpoints), ("block", &emergence.layers)] {
        found.fact(&format!("{what}s"), told.len());
        let mut heading = vec!["label".to_owned()];
        heading.extend(told.iter().map(|told| format!("{what} {}", told.at)));
        let row = |label: &str| {
            let r2 = |told: &crate::probe::Told| {
                told.score(label).map_or("-".to_owned(), |score| format!("{:.3}", score.value))
            };
            [label.to_owned()].into_iter().chain(told.iter().map(r2)).collect()
        };
        let rows = Emergence::labels(told).into_iter().map(row).collect();
        found.titled(&format!("{} by {what}", Emergence::measure(told)), heading, rows);
    }
    found
}

fn validation(of: &ValidationLosses) -> Found {
    let mut found = Found::new("the last evaluation of a training, by groups of objects");
    let objects: u64 = of.batches.iter().map(|batch| batch.1).sum();
    let sum: f64 = of.batches.iter().map(|(loss, n)| loss * *n as f64).sum();
    found.fact("after step", of.step);
    found.fact("objects", objects);
    found.fact("mean loss", significant(sum / objects.max(1) as f64));
    let row = |(k, (loss, n)): (usize, &(f64, u64))| {
        vec![k.to_string(), significant(*loss), n.to_string()]
    };
    let rows = of.batches.iter().enumerate().map(row).collect();
    found.table("groups", &["number", "loss", "objects"], rows);
    found
}

/// A family of models.
pub(super) fn family(of: &Family) -> Found {
    let mut found = Found::new("a family of models of one recipe");
    found.fact("recipe", of.recipe.clone());
    found.fact("models", format!("{}, {} trained", of.members.len(), of.trained().count()));
    let row = |member: &crate::family::Member| {
        let trained = member.trained.as_ref();
        let said = |of: Option<String>| of.unwrap_or_else(|| "-".to_owned());
        vec![
            member.scale.clone(),
            crate::progress::quantity(member.parameters as f64),
            member.steps.to_string(),
            said(trained.map(|t| crate::progress::quantity(t.tokens as f64))),
            said(trained.map(|t| significant(t.loss))),
            said(member.predicted.as_ref().map(|p| interval(&p.loss))),
        ]
    };
    let heading = ["scale", "parameters", "steps", "tokens", "loss", "foretold"];
    found.table("models", &heading, of.members.iter().map(row).collect());
    found
}

/// Used by the folder of a family.
pub(super) fn family_folder(path: &Path) -> Result<Found> {
    let mut found = family(&Family::read(path)?);
    folders::size(&mut found, path);
    Ok(found)
}
