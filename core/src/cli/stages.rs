//! The stages after training: `astropt embed`, `probe` and `report`, and all of them.
//!
//! Each reads what the stage before it wrote into the run's folder, so each runs alone too.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::args::{EmbedArgs, ProbeArgs, ReportArgs};
use super::output::{Output, columns};
use super::run::{OpenRun, Stage};
use super::{Chosen, choose, data};
use crate::data::Dataset;
use crate::embed::{Description, Embeddings, Target, Written, embed as embed_all, raw_features};
use crate::engine::Session;
use crate::error::{Error, Result};
use crate::model::initial_parameters;
use crate::probe::{FeatureSet, Features, Interval, Outcome, ProbeTable, Split, probe_table};
use crate::recipe::{Plan, ProbeConfig, ProbeProtocol, amend};
use crate::run::{Manifest, RunFolder, StageRecord, load_model};

const EMBEDDINGS: &str = "embeddings.parquet";
const EMBEDDINGS_NPY: &str = "embeddings.npy";
/// Embeddings of the same model before training.
const RANDOM_INIT: &str = "embeddings-random-init.parquet";
/// Plain features of the objects themselves.
const RAW: &str = "embeddings-raw.parquet";
const PROBES: &str = "probes.json";
const REPORT: &str = "report.html";

/// Names of the feature sets in the probe's table.
const SETS: [(&str, &str); 3] =
    [("embedding", EMBEDDINGS), ("random-init", RANDOM_INIT), ("raw features", RAW)];

/// Everything after training, with what is open already.
pub(super) fn after_training(open: &mut OpenRun) -> Result<()> {
    let stage = Stage::start("embed");
    let out = open.folder.path().to_owned();
    let step = open.folder.checkpoint("last")?.step;
    write_embeddings(&open.manifest.plan, &open.data, open.session.as_mut(), step, &out)?;
    open.folder.write_rejected(&open.data.rejected())?;
    open.manifest.stages.push(stage.end(&open.chosen, step_fact(step)));
    let stage = Stage::start("probe");
    let table = write_probes(&out, &open.manifest.plan.probe)?;
    open.manifest.stages.push(stage.end(&open.chosen, BTreeMap::new()));
    open.folder.write_manifest(&open.manifest)?;
    crate::progress::say(&describe(&table));
    super::report::write(&open.folder, &open.manifest)
}

fn step_fact(step: u64) -> BTreeMap<String, String> {
    BTreeMap::from([("checkpoint".to_owned(), format!("step {step}"))])
}

/// `astropt embed`.
pub(super) fn embed(args: &EmbedArgs, output: Output) -> Result<()> {
    super::listen()?;
    let (folder, mut manifest) = RunFolder::open(&args.run)?;
    if args.data.is_some() && args.out.is_none() {
        return Err(Error::Misuse(
            "--data needs --out DIR: the run's own embeddings are of its own objects".into(),
        ));
    }
    let saved = folder.checkpoint(&args.checkpoint)?;
    let (plan, parameters, step) = load_model(&saved.path)?;
    let plan = amend(&plan, &["embed."], &args.set, args.data.as_deref())?;
    let chosen = choose(&args.device)?;
    let data = data::open(&plan)?;
    let mut session = chosen.backend.open(chosen.index, data.model())?;
    let check = !args.check.no_self_check;
    saved.load(&parameters, data.modalities(), session.as_mut(), check)?;
    let out = args.out.clone().unwrap_or_else(|| folder.path().to_owned());
    std::fs::create_dir_all(&out).map_err(|e| Error::io("make the folder", &out, &e))?;
    let stage = Stage::start("embed");
    let written = write_embeddings(&plan, &data, session.as_mut(), step, &out)?;
    if args.out.is_none() {
        folder.write_rejected(&data.rejected())?;
        manifest.plan = amend(&manifest.plan, &["embed."], &args.set, None)?;
        record(&folder, &mut manifest, stage, &chosen, step_fact(step))?;
    }
    let path = out.join(EMBEDDINGS);
    let result = serde_json::json!({
        "embeddings": path, "objects": written.objects, "shape": written.shape,
    });
    output.result(&result, || format!("{} embeddings: {}", written.objects, path.display()))
}

fn record(
    folder: &RunFolder,
    manifest: &mut Manifest,
    stage: Stage,
    chosen: &Chosen,
    facts: BTreeMap<String, String>,
) -> Result<()> {
    let record: StageRecord = stage.end(chosen, facts);
    manifest.stages.push(record);
    folder.write_manifest(manifest)
}

/// Writes the embeddings, those of the untrained model, and the raw features.
fn write_embeddings(
    plan: &Plan,
    data: &Arc<Dataset>,
    session: &mut dyn Session,
    step: u64,
    out: &Path,
) -> Result<Written> {
    // What was made of older embeddings is stale the moment these are written.
    for stale in [PROBES, REPORT] {
        let path = out.join(stale);
        if path.exists() {
            std::fs::remove_file(&path).map_err(|e| Error::io("delete", &path, &e))?;
        }
    }
    let workers = plan.train.workers;
    let target = |file: &str, npy: Option<&str>, key: &str, value: String| Target {
        parquet: out.join(file),
        npy: npy.map(|npy| out.join(npy)),
        description: Description::from([(key.to_owned(), value)]),
    };
    let trained = target(EMBEDDINGS, Some(EMBEDDINGS_NPY), "checkpoint", format!("step {step}"));
    let written = embed_all("embed", data, session, &plan.embed, workers, &trained)?;

    session.set_parameters(&initial_parameters(session.model(), plan.train.seed))?;
    let random = target(RANDOM_INIT, None, "checkpoint", "random init".into());
    embed_all("embed untrained", data, session, &plan.embed, workers, &random)?;

    let raw = target(RAW, None, "features", "raw".into());
    raw_features(data, &plan.embed, workers, &raw)?;
    Ok(written)
}

/// `astropt probe`.
pub(super) fn probe(args: &ProbeArgs, output: Output) -> Result<()> {
    let (folder, mut manifest) = RunFolder::open(&args.run)?;
    let plan = amend(&manifest.plan, &["probe."], &args.set, None)?;
    let from = args.embeddings.as_deref().unwrap_or(folder.path());
    let table = write_probes(from, &plan.probe)?;
    if args.embeddings.is_none() {
        manifest.plan = plan;
        folder.write_manifest(&manifest)?;
    }
    output.result(&table, || describe(&table))
}

/// Probes the embeddings in `folder` and writes the table beside them.
fn write_probes(folder: &Path, config: &ProbeConfig) -> Result<ProbeTable> {
    let path = folder.join(EMBEDDINGS);
    if !path.exists() {
        return Err(Error::file(&path, "is not there; `astropt embed` writes it"));
    }
    let table = Embeddings::read_parquet(path)?;
    let mut features = Vec::new();
    for (name, file) in SETS {
        let path = folder.join(file);
        if path.exists() {
            let set = Embeddings::read_parquet(&path)?;
            features.push((name, aligned(&table, set, &path)?));
        }
    }
    let sets: Vec<_> =
        features.iter().map(|(name, features)| FeatureSet { name, features }).collect();
    let split = match config.protocol {
        ProbeProtocol::TrainValidation => Split::named(&table.splits, &["train"], &["validation"]),
        ProbeProtocol::ValidationTest => Split::named(&table.splits, &["validation"], &["test"]),
        ProbeProtocol::Halves => {
            Split::halved(&table.ids, &table.splits, &["validation", "test"], config.fit.seed)
        }
    };
    let probes = probe_table(&table, &sets, &config.labels, &split, &config.fit)?;
    probes.write_json(folder.join(PROBES))?;
    Ok(probes)
}

/// The features of `set` for the objects of `table`, in its order.
fn aligned(table: &Embeddings, set: Embeddings, path: &Path) -> Result<Features> {
    if set.ids != table.ids {
        return Err(Error::file(
            path,
            format!("holds other objects than {EMBEDDINGS}; run `astropt embed` again"),
        ));
    }
    Features::new(set.width(), set.vectors)
}

/// R^2 and the median absolute error of each label from each set of features.
fn describe(table: &ProbeTable) -> String {
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
    let model = table.rows.iter().filter(|row| table.sets.first() == Some(&row.features));
    for row in model {
        if let Outcome::Failed(reason) = &row.outcome {
            text.push_str(&format!("\n{}: no score, {reason}", row.label));
        }
    }
    for skipped in &table.skipped {
        text.push_str(&format!("\n{}: not probed, {}", skipped.label, skipped.reason));
    }
    text
}

/// A value with its interval, where there is one.
fn interval(of: &Interval) -> String {
    match (of.low, of.high) {
        (Some(low), Some(high)) => format!("{:.3} [{low:.3}, {high:.3}]", of.value),
        _ => format!("{:.3}", of.value),
    }
}

/// `astropt report`.
pub(super) fn report(args: &ReportArgs, output: Output) -> Result<()> {
    let (folder, manifest) = RunFolder::open(&args.run)?;
    super::report::write(&folder, &manifest)?;
    let path = folder.file("report.html");
    output.result(&serde_json::json!({ "report": path }), || path.display().to_string())
}
