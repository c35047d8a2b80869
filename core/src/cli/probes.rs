//! `astropt probe`: from the embeddings in a folder to `probes.json`, and its table in words.

use std::path::Path;

use super::args::ProbeArgs;
use super::output::{Output, columns};
use super::stages::{EMBEDDINGS, RAW, random_inits};
use super::{choose, data, emergence};
use crate::data::group_key;
use crate::embed::Embeddings;
use crate::error::{Error, Result};
use crate::probe::{
    Emergence, FeatureSet, Features, Interval, Outcome, ProbeRow, ProbeTable, Split, probe_table,
};
use crate::recipe::{Plan, ProbeProtocol, amend};
use crate::run::RunFolder;

/// The table of probes.
pub(super) const PROBES: &str = "probes.json";

/// `astropt probe`.
pub(super) fn probe(args: &ProbeArgs, output: Output) -> Result<()> {
    let (folder, mut manifest) = RunFolder::open(&args.run)?;
    let plan = amend(&manifest.plan, &["probe."], &args.set, None)?;
    let from = args.embeddings.as_deref().unwrap_or(folder.path());
    let table = write(from, &plan)?;
    if args.embeddings.is_some() {
        return output.result(&table, || describe(&table));
    }
    emergence::forget(folder.path())?;
    let mut emerged = Emergence::default();
    if emergence::asked(&plan) {
        super::listen()?;
        let chosen = choose(&args.device)?;
        let data = data::open(&plan)?;
        let mut session = chosen.backend.open(chosen.index, data.model())?;
        emerged = emergence::write(&folder, &plan, &data, session.as_mut())?;
    }
    manifest.plan = plan;
    folder.write_manifest(&manifest)?;
    output.result(&table, || {
        [describe(&table), emergence::describe(&emerged)].join("\n").trim_end().to_owned()
    })
}

/// Probes the embeddings in `folder` and writes the table beside them.
pub(super) fn write(folder: &Path, plan: &Plan) -> Result<ProbeTable> {
    let probes = table(folder, plan)?;
    probes.write_json(folder.join(PROBES))?;
    Ok(probes)
}

/// Probes the embeddings in `folder`.
pub(super) fn table(folder: &Path, plan: &Plan) -> Result<ProbeTable> {
    let path = folder.join(EMBEDDINGS);
    if !path.exists() {
        return Err(Error::file(&path, "is not there; `astropt embed` writes it"));
    }
    let mut table = Embeddings::read_parquet(path)?;
    let width = table.width();
    let mut sets = vec![("embedding", vec![Features::new(width, table.vectors.split_off(0))?])];
    let untrained: Result<Vec<_>> =
        random_inits(folder).iter().map(|path| aligned(&table, path)).collect();
    sets.push(("random-init", untrained?));
    let raw = folder.join(RAW);
    if raw.exists() {
        sets.push(("raw features", vec![aligned(&table, &raw)?]));
    }
    sets.retain(|(_, members)| !members.is_empty());
    let sets: Vec<_> = sets.iter().map(|(name, members)| FeatureSet { name, members }).collect();
    let config = &plan.probe;
    let split = objects(&table, plan);
    probe_table(&table, &sets, &config.labels, &split, &config.fit)
}

/// The objects that the plan's probes are fitted and scored on.
pub(super) fn objects(table: &Embeddings, plan: &Plan) -> Split {
    let config = &plan.probe;
    let named = |fit: &[&str], score: &[&str]| Split::named(&table.splits, fit, score);
    let split = match config.protocol {
        ProbeProtocol::TrainValidation => named(&["train"], &["validation"]),
        ProbeProtocol::ValidationTest => named(&["validation"], &["test"]),
        ProbeProtocol::TrainTest => named(&["train", "validation"], &["test"]),
        ProbeProtocol::Halves => {
            Split::halved(&table.ids, &table.splits, &["validation", "test"], config.fit.seed)
        }
    };
    let rows = table.ids.iter().zip(&table.labels);
    let keys: Vec<String> = match &plan.split.group {
        Some(group) => rows.map(|(id, labels)| group_key(id, labels, group)).collect(),
        None => table.ids.clone(),
    };
    split.folded(&keys, config.folds, config.fit.seed)
}

/// The features in the file `path` for the objects of `table`, in its order.
fn aligned(table: &Embeddings, path: &Path) -> Result<Features> {
    let set = Embeddings::read_parquet(path)?;
    if set.ids != table.ids {
        return Err(Error::file(
            path,
            format!("holds other objects than {EMBEDDINGS}; run `astropt embed` again"),
        ));
    }
    Features::new(set.width(), set.vectors)
}

/// R^2 and the median absolute error of each label from each set of features, and in words
/// what the first set is beside each other.
pub(super) fn describe(table: &ProbeTable) -> String {
    let mut heading = vec!["label".to_owned()];
    heading.extend(table.sets.iter().map(|set| format!("R² {set}")));
    heading.push("median |error| (IQR)".into());
    let score_of = |label: &str, set: &str| table.row(label, set).and_then(|row| row.score());
    let classes = table.rows.iter().any(|row| row.score().is_some_and(|s| s.auc.is_some()));
    if classes {
        heading.extend(table.sets.iter().map(|set| format!("AUC {set}")));
    }
    let mut rows = vec![heading];
    for label in table.labels() {
        let mut row = vec![label.to_owned()];
        for set in &table.sets {
            let score = score_of(label, set);
            row.push(score.map_or("-".into(), |s| interval(&s.r2)));
        }
        let score = table.sets.first().and_then(|set| table.row(label, set)?.score());
        let error = score.and_then(|s| s.error);
        row.push(error.map_or("-".into(), |e| format!("{:.3}", e.value)));
        for set in table.sets.iter().filter(|_| classes) {
            let auc = score_of(label, set).and_then(|s| s.auc);
            row.push(auc.map_or("-".into(), |auc| interval(&auc)));
        }
        rows.push(row);
    }
    let mut text = columns(&rows);
    for row in table.rows.iter().filter(|row| table.sets.first() == Some(&row.features)) {
        text.push_str(&verdicts(row));
    }
    for skipped in &table.skipped {
        text.push_str(&format!("\n{}: not probed, {}", skipped.label, skipped.reason));
    }
    text
}

/// What the held-out objects say of the model's row: one sentence.
fn verdicts(row: &ProbeRow) -> String {
    if let Outcome::Failed(reason) = &row.outcome {
        return format!("\n{}: no score, {reason}", row.label);
    }
    let said = row.versus.iter().map(|versus| {
        let (score, by) = match &versus.difference.auc {
            Some(auc) => ("AUC", auc),
            None => ("R²", &versus.difference.r2),
        };
        format!("{}, {score} by {}", versus.verdict.says(&versus.baseline), interval(by))
    });
    let said: Vec<String> = said.collect();
    if said.is_empty() { String::new() } else { format!("\n{}: {}", row.label, said.join("; ")) }
}

/// A value with its interval, where there is one.
fn interval(of: &Interval) -> String {
    match (of.low, of.high) {
        (Some(low), Some(high)) => format!("{:.3} [{low:.3}, {high:.3}]", of.value),
        _ => format!("{:.3}", of.value),
    }
}
