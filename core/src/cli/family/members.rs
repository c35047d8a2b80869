//! What the folders of a family's models say of them.

use std::path::Path;

use super::super::probes::PROBES;
use super::super::stages::{EMBEDDINGS, PRETRAIN, REPORT, step_words};
use crate::checkpoint::format;
use crate::cost::{Energy, Forecast};
use crate::embed::Embeddings;
use crate::error::{Error, Result};
use crate::family::{Member, Trained};
use crate::recipe::Plan;
use crate::run::{Manifest, RunFolder};
use crate::train::{METRICS, Metric, VALIDATION, ValidationLosses, read_lines};

/// Whether a run has begun in `place`.
pub(in super::super) fn is_run(place: &Path) -> bool {
    place.join("manifest.json").exists()
}

/// Writes into `member` what `plan` makes of it.
pub(super) fn describe(member: &mut Member, plan: &Plan) -> Result<()> {
    member.parameters = plan.model_config()?.parameter_count();
    member.steps = plan.train.steps;
    member.recipe.clone_from(&plan.recipe);
    member.forecast = Some(Forecast::of(plan)?);
    Ok(())
}

/// Opens the run of a family's member in `path`, to read.
///
/// # Errors
/// When there is none, or it is of another scale than its folder is named after.
pub(super) fn open(path: &Path) -> Result<(RunFolder, Manifest)> {
    let (folder, manifest) = RunFolder::open(path)?;
    match &manifest.plan.scale {
        Some(scale) if !path.ends_with(scale) => Err(Error::file(
            path,
            format!("holds the model {scale}; give the folders of the family back their names"),
        )),
        _ => Ok((folder, manifest)),
    }
}

/// What came of the run in `path`, if it has gone through all the stages of `plan`: it was trained
/// to the last step, that step's model was embedded and probed (probes and report go before new
/// embeddings are made), and its report stands.
pub(super) fn finished(path: &Path, plan: &Plan) -> Result<Option<Trained>> {
    if !is_run(path) || !path.join(REPORT).exists() || !path.join(PROBES).exists() {
        return Ok(None);
    }
    let (folder, manifest) = open(path)?;
    let taken = folder.taken()?;
    let asked = &manifest.plan;
    let as_asked = asked.embed == plan.embed && asked.probe == plan.probe;
    if taken < plan.train.steps || !as_asked || !embedded(&folder, plan)? {
        return Ok(None);
    }
    trained(&folder, &manifest).map(Some)
}

/// Whether the embeddings in `folder` are of the checkpoint that `plan` wants embedded.
fn embedded(folder: &RunFolder, plan: &Plan) -> Result<bool> {
    let path = folder.file(EMBEDDINGS);
    if !path.exists() {
        return Ok(false);
    }
    let saved = folder.checkpoint(plan.embed.checkpoint.name())?;
    let made = Embeddings::description_of(&path)?;
    Ok(made.get("checkpoint") == Some(&step_words(saved.step)))
}

/// How far the run in `path` has come that is not [`finished`], where one has begun.
pub(super) fn unfinished(path: &Path) -> Result<Option<String>> {
    if !is_run(path) {
        return Ok(None);
    }
    let (folder, manifest) = open(path)?;
    let (taken, steps) = (folder.taken()?, manifest.plan.train.steps);
    let there = |name: &str| folder.file(name).exists();
    Ok(Some(if taken < steps {
        format!("trained for {taken} of {steps} steps")
    } else if !embedded(&folder, &manifest.plan)? || !there(PROBES) {
        "trained, but not embedded and probed since".to_owned()
    } else {
        let path = path.display();
        format!("trained and probed, but its report is missing; `astropt report {path}` makes it")
    }))
}

/// What the files of a run say of its training.
fn trained(folder: &RunFolder, manifest: &Manifest) -> Result<Trained> {
    let mut out = Trained::default();
    let steps_to_tokens = |step: u64, read: &[(u64, u64)]| {
        read.iter().rev().find(|(at, _)| *at <= step).map_or(0, |(_, tokens)| *tokens)
    };
    let (mut read, mut evaluated) = (Vec::new(), 0);
    for metric in read_lines::<Metric>(&folder.verified(METRICS)?)? {
        match metric {
            Metric::Train { step, tokens, .. } => {
                read.push((step, tokens));
                out.tokens = tokens;
            }
            Metric::Validation { step, loss, zero_loss, objects, .. } => {
                // Losses of other objects are no part of one curve.
                if std::mem::replace(&mut evaluated, objects) != objects {
                    out.curve.clear();
                }
                (out.loss, out.zero_loss) = (loss, zero_loss);
                out.curve.push((steps_to_tokens(step, &read), loss));
            }
        }
    }
    if out.curve.is_empty() {
        let message = "was never evaluated: it has no validation objects; set [split]";
        return Err(Error::file(folder.path(), message));
    }
    out.flops = 6.0 * manifest.parameters as f64 * out.tokens as f64;
    let pretrained = || manifest.stages.iter().filter(|stage| stage.stage == PRETRAIN);
    out.seconds = pretrained().map(|stage| stage.seconds).sum();
    let energies = pretrained().filter_map(|stage| stage.energy.clone());
    out.energy = energies.reduce(Energy::and);
    let path = folder.verified(VALIDATION)?;
    if path.exists() {
        let losses: ValidationLosses = format::read_json(&path, "losses of an evaluation")?;
        out.batches = losses.batches;
    }
    Ok(out)
}
