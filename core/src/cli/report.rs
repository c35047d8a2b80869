//! From a run's folder to its `report.html`.

use std::collections::BTreeMap;
use std::path::Path;

use super::emergence::EMERGENCE;
use super::figures;
use super::probes::{PROBES, as_recipe_says};
use super::stages::{EMBEDDINGS, MODEL, PRETRAIN, REPORT};
use crate::checkpoint::{checksums, write_bytes};
use crate::cost::{Energy, Forecast, assumptions};
use crate::data::{Objective, SpanOrder, Split};
use crate::embed::Embeddings;
use crate::engine::Precision;
use crate::error::{Error, Result};
use crate::probe::{Deviation, Emergence, ProbeTable, Statistics};
use crate::progress;
use crate::recipe::{Plan, Pooling, ProbeProtocol};
use crate::report::{Choice, CurvePoint, Preview, Rejected, ReportInput, RunFacts, render};
use crate::run::{Manifest, RunFolder, clear_figures};
use crate::train::{LEDGER, LedgerEntry, METRICS, Metric, TIMINGS, Timing, read_lines};

/// Rejected objects shown by name.
const EXAMPLES: usize = 10;

/// Writes the report of `folder` from what its files hold.
pub(super) fn write(folder: &RunFolder, manifest: &Manifest) -> Result<()> {
    let metrics: Vec<Metric> = read_lines(&folder.verified(METRICS)?)?;
    let timings: Vec<Timing> = read_lines(&folder.verified(TIMINGS)?)?;
    let plan = &manifest.plan;
    let probes = folder.verified(PROBES)?;
    [METRICS, PROBES].iter().try_for_each(|name| checksums::check_whole(&folder.file(name)))?;
    let embeddings = folder.verified(EMBEDDINGS)?;
    let figures = figures::of_run(folder, plan)?;
    figures::write(folder.path(), &figures)?;
    let probed = if probes.exists() { Some(ProbeTable::read_json(&probes)?) } else { None };
    let input = ReportInput {
        title: match &plan.scale {
            Some(scale) => format!("{} {scale}", plan.name),
            None => plan.name.clone(),
        },
        subtitle: plan.summary.clone(),
        task: task(&plan.objective).into(),
        loss_name: "Huber".into(),
        loss_meaning: "of standardised tokens, in units of each token's own standard deviation"
            .into(),
        zero_loss: metrics.iter().rev().find_map(zero_loss),
        run: facts(manifest, &metrics, &Trained::of(folder)?),
        curve: curve(&metrics, &timings),
        previews: previews(folder, plan)?,
        units: probed.as_ref().map(|table| table.units.clone()).unwrap_or_default(),
        probes: probed,
        emergence: Emergence::read_json(&folder.verified(EMERGENCE)?)?,
        embeddings: if embeddings.exists() {
            let mut made = Embeddings::read_parquet(&embeddings)?.description;
            as_recipe_says(folder.path(), plan, &made)?;
            made.remove(MODEL);
            made
        } else {
            BTreeMap::new()
        },
        figures,
        rejected: rejected(folder)?,
        choices: choices(plan, manifest.objects.get("train").copied().unwrap_or(0))?,
        recipe_resolved: plan.recipe.clone(),
        ..ReportInput::default()
    };
    checksums::rewritten(folder.path(), &[REPORT], || {
        write_bytes(folder.file(REPORT), render(&input).as_bytes())
    })
}

/// Deletes the report and the figures of the run in `folder`, of which `what` says why they no longer
/// hold; answers whether there was a report.
pub(super) fn forget(folder: &Path, what: &str) -> Result<bool> {
    let path = folder.join(REPORT);
    let there = path.is_file();
    if there {
        progress::say(&format!("deleting {REPORT} and figures: {what}"));
        checksums::forget(folder, &[REPORT])?;
        std::fs::remove_file(&path).map_err(|e| Error::io("delete", &path, &e))?;
    }
    clear_figures(folder)?;
    Ok(there)
}

/// What the run chose where there is more than one tradition, read off its plan and the number of
/// objects that it trains on.
pub(super) fn choices(plan: &Plan, objects: u64) -> Result<Vec<Choice>> {
    let mut out = Vec::new();
    let mut add = |name: String, choice: String| {
        out.push(Choice { name, choice, meaning: String::new() });
    };
    for (modality, built) in plan.build_modalities()? {
        for (name, choice) in built.choices() {
            add(format!("{name} ({modality})"), choice);
        }
    }
    let evaluated = match plan.train.eval_split {
        Split::Test => "measured on the test split, as the paper's program did",
        _ => "measured on the validation split",
    };
    add("Validation loss".into(), evaluated.into());
    let seen = plan.train.steps * plan.train.batch as u64;
    let epochs = match objects {
        0 => String::new(),
        objects => format!(", {:.2} epochs", seen as f64 / objects as f64),
    };
    let (steps, batch) = (plan.train.steps, plan.train.batch);
    add("Length of the training".into(), format!("{steps} steps of {batch} objects{epochs}"));
    let precision = match plan.train.precision {
        Precision::F32 => "f32 throughout",
        Precision::Bf16 => "bf16 for the factors of products, f32 for all else",
    };
    add("Precision of the training".into(), precision.into());
    let embed = &plan.embed;
    let (layer, tokens) = (embed.layer.to_string(), embed.tokens.to_string());
    let pooling = match embed.pooling {
        Pooling::Mean => "the mean over them",
        Pooling::Last => "the last of them",
        Pooling::None => "each of them",
    };
    add("Embedding".into(), format!("layer {layer}, tokens {tokens}, {pooling}").replace('"', ""));
    let protocol = match plan.probe.protocol {
        ProbeProtocol::TrainValidation => "fitted on training objects, scored on validation",
        ProbeProtocol::ValidationTest => "fitted on validation objects, scored on test",
        ProbeProtocol::TrainTest => "fitted on training and validation objects, scored on test",
        ProbeProtocol::Halves => {
            "validation and test together, halved, as the paper's program did; the paper says \
             fitted on validation, scored on test"
        }
    };
    let folds = match plan.probe.folds {
        0 | 1 => String::new(),
        folds => format!(
            "; cross-validated in {folds} folds of the scored objects, each predicted by a fit on \
             the others too"
        ),
    };
    add("Probe objects".into(), format!("{protocol}{folds}"));
    let fit = &plan.probe.fit;
    let over = match fit.statistics {
        Statistics::All => "over fitted and scored objects together",
        Statistics::Train => "over fitted objects alone",
    };
    let cut = if fit.cut {
        let deviation = match fit.deviation {
            Deviation::Median => "median absolute",
            Deviation::Standard => "standard",
        };
        format!("labels beyond three {deviation} deviations are dropped, {over}")
    } else {
        "none: every known label counts".into()
    };
    add("Outlier cut".into(), cut);
    Ok(out)
}

fn zero_loss(metric: &Metric) -> Option<f64> {
    match metric {
        Metric::Validation { zero_loss, .. } => Some(*zero_loss),
        Metric::Train { .. } => None,
    }
}

/// What the run's ledger says of the steps.
struct Trained {
    /// Objects that steps were taken on, and the steps of which that is known.
    objects: u64,
    steps: u64,
    /// Steps that were not taken.
    left_out: u64,
}

impl Trained {
    fn of(folder: &RunFolder) -> Result<Self> {
        let ledger: Vec<LedgerEntry> = read_lines(&folder.verified(LEDGER)?)?;
        let objects = ledger.iter().map(|entry| entry.objects).sum();
        let left_out = ledger.iter().filter(|entry| entry.objects == 0).count() as u64;
        Ok(Self { objects, steps: ledger.len() as u64, left_out })
    }
}

fn facts(manifest: &Manifest, metrics: &[Metric], of: &Trained) -> RunFacts {
    let plan = &manifest.plan;
    let trained: Vec<_> = manifest.stages.iter().filter(|s| s.stage == PRETRAIN).collect();
    let last = trained.last();
    let (mut steps, mut tokens, mut validated) = (0, 0, 0);
    for metric in metrics {
        match metric {
            Metric::Train { step, tokens: read, .. } => (steps, tokens) = (*step, *read),
            Metric::Validation { objects, .. } => validated = *objects,
        }
    }
    let mut more = vec![("seed".to_owned(), plan.train.seed.to_string())];
    if of.left_out > 0 {
        let steps = format!("{} of {} (faults.jsonl says why)", of.left_out, of.steps);
        more.push(("steps left out".to_owned(), steps));
    }
    let stages = manifest
        .stages
        .iter()
        .map(|stage| (format!("{} took", stage.stage), crate::progress::duration(stage.seconds)));
    more.extend(stages);
    more.extend(costs(plan, trained.iter().filter_map(|stage| stage.energy.clone())));
    RunFacts {
        program: manifest.program.clone(),
        command: manifest.command.clone(),
        backend: last.map_or(String::new(), |s| s.backend.clone()),
        device: last.map_or(String::new(), |s| s.device.clone()),
        precision: plan.train.precision.name().into(),
        host: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        started: manifest.created.clone(),
        seconds: trained.iter().map(|s| s.seconds).sum(),
        steps,
        objects_train: manifest.objects.get("train").copied().unwrap_or(0),
        objects_validation: validated,
        objects_seen: steps.saturating_sub(of.steps) * plan.train.batch as u64 + of.objects,
        tokens,
        parameters: manifest.parameters as u64,
        flops: 6.0 * manifest.parameters as f64 * tokens as f64,
        more,
        ..RunFacts::default()
    }
}

/// What the training was to cost, and the energy that its parts took.
fn costs(plan: &Plan, parts: impl Iterator<Item = Energy>) -> Vec<(String, String)> {
    let mut out = Vec::new();
    if let Ok(forecast) = Forecast::of(plan) {
        let assumed = assumptions(&plan.cost, forecast.precision);
        let text = format!("{}; {assumed}", forecast.in_words());
        out.push(("forecast".to_owned(), text));
    }
    if let Some(energy) = parts.reduce(Energy::and) {
        out.push(("measured".to_owned(), energy.in_words(&plan.cost)));
    }
    out
}

/// Training, validation and timing lines merged by step.
fn curve(metrics: &[Metric], timings: &[Timing]) -> Vec<CurvePoint> {
    let mut points: BTreeMap<u64, CurvePoint> = BTreeMap::new();
    for metric in metrics {
        let point = points.entry(metric.step()).or_default();
        match metric {
            Metric::Train { loss, lr, grad_norm, .. } => {
                (point.train, point.lr, point.grad_norm) =
                    (Some(*loss), Some(*lr), Some(*grad_norm));
            }
            Metric::Validation { loss, .. } => point.validation = Some(*loss),
        }
    }
    for timing in timings {
        points.entry(timing.step).or_default().tokens_per_second = Some(timing.tokens_per_second);
    }
    points.into_iter().map(|(step, point)| CurvePoint { step, ..point }).collect()
}

/// What the objective asks, as [`ReportInput::task`] has it.
fn task(objective: &Objective) -> &'static str {
    match objective {
        Objective::Autoregressive => "Each token is predicted from those before it in the stream",
        Objective::Masked { .. } => "Hidden tokens are predicted from all others of the object",
        Objective::Prefix { .. } => {
            "After a given beginning, each token is predicted from all before it"
        }
    }
}

/// What a preview of several modalities shows; empty of one.
fn caption(plan: &Plan) -> String {
    let order = match &plan.stream.order {
        SpanOrder::Listed(names) => names.clone(),
        SpanOrder::Word(_) => plan.modalities.keys().cloned().collect(),
    };
    match &order[..] {
        [] | [_] => String::new(),
        names => format!(
            "pairs of target (left) and prediction (right), for those that have a picture of: {}",
            names.join(", ")
        ),
    }
}

fn previews(folder: &RunFolder, plan: &Plan) -> Result<Vec<Preview>> {
    let last = folder.previews()?.last().map(|(step, _)| *step);
    let read = |(step, path): (u64, std::path::PathBuf)| {
        let png = std::fs::read(&path).map_err(|e| Error::io("read", &path, &e))?;
        // Under each of a strip it would only be repeated.
        let caption = if Some(step) == last { caption(plan) } else { String::new() };
        Ok(Preview { step, png, caption })
    };
    folder.previews()?.into_iter().map(read).collect()
}

fn rejected(folder: &RunFolder) -> Result<Rejected> {
    let all = folder.read_rejected()?;
    Ok(Rejected { count: all.len() as u64, examples: all.into_iter().take(EXAMPLES).collect() })
}
