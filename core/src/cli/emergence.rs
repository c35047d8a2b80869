//! Probes of every checkpoint and of every layer: when, and where in the model, a label becomes
//! known.

use std::path::Path;
use std::sync::Arc;

use super::output::columns;
use super::probes::objects;
use crate::checkpoint::checksums;
use crate::data::Dataset;
use crate::embed::{Embeddings, features};
use crate::engine::{Layer, Session};
use crate::error::{Error, Result};
use crate::probe::{Emergence, FeatureSet, Told, add_tasks, asked_labels, probe_table};
use crate::recipe::{CheckpointChoice, Plan};
use crate::run::{RunFolder, Saved};

/// The file of the probes.
pub(super) const EMERGENCE: &str = "emergence.json";

/// Whether `plan` asks for more than the embeddings' own probes.
pub(super) fn asked(plan: &Plan) -> bool {
    plan.probe.checkpoints || plan.probe.layers
}

/// Probes what the plan asks for of the run in `folder`.
///
/// # Errors
/// When a checkpoint cannot be read, or as embedding and probing.
pub(super) fn probes_of(
    folder: &RunFolder,
    plan: &Plan,
    data: &Arc<Dataset>,
    session: &mut dyn Session,
) -> Result<Emergence> {
    let embedded = folder.checkpoint(plan.embed.checkpoint.name())?;
    let own = plan.embed.layer(plan.model.layers)?;
    let mut out = Emergence::default();
    for saved in checkpoints(folder, plan, &embedded)? {
        let (_, parameters, step) = folder.load_model(&saved, plan)?;
        session.set_parameters(&parameters)?;
        let mut layers = Vec::new();
        if plan.probe.checkpoints {
            layers.push(own);
        }
        if plan.probe.layers && step == embedded.step {
            layers.extend((0..plan.model.layers).map(Layer::Block));
        }
        let mut told = told(plan, data, session, &layers, step)?;
        if plan.probe.checkpoints {
            out.checkpoints.push(told.remove(0));
        }
        out.layers.extend(told);
    }
    for (block, told) in out.layers.iter_mut().enumerate() {
        told.at = block as u64;
    }
    Ok(out)
}

/// Writes the probes into the run's `folder`.
///
/// # Errors
/// When they cannot be written.
pub(super) fn keep(folder: &RunFolder, probes: &Emergence) -> Result<()> {
    let path = folder.file(EMERGENCE);
    checksums::rewritten(folder.path(), &[EMERGENCE], || probes.write_json(&path))
}

/// The checkpoints to probe, by step: all, or the embedded one alone.
fn checkpoints(folder: &RunFolder, plan: &Plan, embedded: &Saved) -> Result<Vec<Saved>> {
    if !plan.probe.checkpoints {
        return Ok(vec![embedded.clone()]);
    }
    let mut all = folder.checkpoints()?;
    // The best one may have been saved after a step that no other checkpoint is of.
    if plan.embed.checkpoint == CheckpointChoice::Best
        && all.iter().all(|saved| saved.step != embedded.step)
    {
        all.push(embedded.clone());
        all.sort_by_key(|saved| saved.step);
    }
    Ok(all)
}

/// What the parameters in `session` tell from each of `layers`.
fn told(
    plan: &Plan,
    data: &Arc<Dataset>,
    session: &mut dyn Session,
    layers: &[Layer],
    step: u64,
) -> Result<Vec<Told>> {
    let splits = plan.probe.protocol.splits();
    let workers = plan.train.workers;
    let (mut table, all): (Embeddings, _) =
        features(data, session, &plan.embed, layers, splits, workers)?;
    add_tasks(&mut table, &plan.probe.tasks)?;
    let split = objects(&table, plan);
    let labels = asked_labels(&table, &plan.probe.labels, &plan.probe.tasks);
    let probe = |features| {
        let sets = [FeatureSet { name: "embedding", members: std::slice::from_ref(features) }];
        let probes = probe_table(&table, &sets, &labels, &split, &plan.probe.fit)?;
        Ok(Told::of(step, &probes))
    };
    all.iter().map(probe).collect()
}

/// R^2 of each label at each place.
pub(super) fn describe(emergence: &Emergence) -> String {
    let table = |what: &str, told: &[Told]| {
        let mut rows = vec![vec![format!("{} by {what}", Emergence::measure(told))]];
        rows[0].extend(told.iter().map(|told| told.at.to_string()));
        for label in Emergence::labels(told) {
            let mut row = vec![label.to_owned()];
            let score = |told: &Told| told.score(label).map(|score| format!("{:.3}", score.value));
            row.extend(told.iter().map(|told| score(told).unwrap_or_else(|| "-".into())));
            rows.push(row);
        }
        columns(&rows)
    };
    let mut out = Vec::new();
    if !emergence.checkpoints.is_empty() {
        out.push(table("step", &emergence.checkpoints));
    }
    if !emergence.layers.is_empty() {
        out.push(table("block", &emergence.layers));
    }
    out.join("\n")
}

/// Deletes the probes in `folder`, which are of other settings.
pub(super) fn forget(folder: &Path) -> Result<()> {
    checksums::forget(folder, &[EMERGENCE])?;
    let path = folder.join(EMERGENCE);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("delete", &path, &e)),
        _ => Ok(()),
    }
}
