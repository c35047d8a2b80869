//! `astropt run` and `astropt pretrain`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::args::{FamilyArgs, TrainArgs};
use super::as_begun::{changing, still_says};
use super::output::Output;
use super::stages::PRETRAIN;
use super::together::{same_backend, same_everywhere};
use super::{Chosen, choose, data, family, report, stages};
use crate::checkpoint::checksums;
use crate::cost::{Forecast, Meter, assumptions, check_memory, computes_on, idle};
use crate::data::{Dataset, Rejected};
use crate::engine::Session;
use crate::error::{Error, Result};
use crate::family::FAMILY;
use crate::parallel::{self, Ranks, agree, first};
use crate::progress::{self, duration, quantity};
use crate::recipe::{Plan, RESUMABLE, amend, lacks_data, resolve};
use crate::run::{Manifest, RunFolder, StageRecord};
use crate::train::{
    FAULTS, LEDGER, METRICS, Start, Summary, TIMINGS, Trainer, VALIDATION, check_shares,
    predicted_until,
};

/// A run that is open: its folder, manifest, data and model on the device.
pub(super) struct OpenRun {
    pub(super) folder: RunFolder,
    pub(super) manifest: Manifest,
    pub(super) data: Arc<Dataset>,
    pub(super) session: Box<dyn Session>,
    pub(super) chosen: Chosen,
}

/// Makes `--resume` of `--resume-if-begun` where there is something to go on with, and says which it
/// is. All processes look before any of them writes.
pub(super) fn settle(args: &mut TrainArgs) {
    let Some(out) = args.out.as_deref().filter(|_| args.resume_if_begun) else { return };
    args.resume = family::is_run(out) || family::is_family(out);
    let does = if args.resume { "has begun: it goes on" } else { "holds no run yet: it begins" };
    progress::say(&format!("{} {does}", out.display()));
}

/// The whole chain, of one model or of the recipe's family.
pub(super) fn run(args: &FamilyArgs, output: Output) -> Result<()> {
    let names = family::names(args)?;
    if args.plan {
        return family::forecast(args, &names, output);
    }
    super::listen_until(&args.train)?;
    if !names.is_empty() {
        return family::run(args, &names, output);
    }
    let (open, summary) = whole(&args.train, output, None)?;
    let report = open.folder.file("report.html");
    output.result(&RunResult::new(&open, &summary), || {
        format!("{}\nreport: {}", describe(&summary), report.display())
    })
}

/// What a model of a family has from it.
#[derive(Clone, Copy)]
pub(super) struct OfFamily<'a> {
    /// By which it is trained.
    pub(super) plan: &'a Plan,
    /// The family's folder.
    pub(super) out: &'a Path,
    /// The run of a model that has begun before, on whose data all are trained.
    pub(super) before: Option<&'a Path>,
}

/// All stages of one model.
pub(super) fn whole(
    args: &TrainArgs,
    output: Output,
    of: Option<OfFamily>,
) -> Result<(OpenRun, Summary)> {
    let mut open = start(args, of)?;
    let summary = train(&mut open, begin(args))?;
    let again = of.map_or(open.folder.path(), |family| family.out).to_owned();
    stages::after_training(&mut open, output, &again)?;
    Ok((open, summary))
}

/// Training alone.
pub(super) fn pretrain(args: &TrainArgs, output: Output) -> Result<()> {
    super::listen_until(args)?;
    let mut open = start(args, None)?;
    let summary = train(&mut open, begin(args))?;
    output.result(&RunResult::new(&open, &summary), || describe(&summary))
}

#[derive(serde::Serialize)]
struct RunResult<'a> {
    run: &'a Path,
    #[serde(flatten)]
    summary: &'a Summary,
}

impl<'a> RunResult<'a> {
    fn new(open: &'a OpenRun, summary: &'a Summary) -> Self {
        Self { run: open.folder.path(), summary }
    }
}

fn describe(summary: &Summary) -> String {
    let loss = summary.validation_loss.map_or("none".into(), |loss| format!("{loss:.5}"));
    let best = summary
        .best
        .map_or(String::new(), |(step, loss)| format!(" (best {loss:.5} after step {step})"));
    let faults = match summary.faults {
        0 => String::new(),
        faults => format!(", {faults} faulty steps (faults.jsonl)"),
    };
    format!(
        "{} steps, {} tokens, validation loss {loss}{best}{faults}",
        summary.steps,
        quantity(summary.tokens as f64)
    )
}

/// Makes a new run, or opens the one to go on with; on every process, or on none.
fn start(args: &TrainArgs, of: Option<OfFamily>) -> Result<OpenRun> {
    let ranks = parallel::world();
    let mut open = agree(ranks, open(args, of, ranks))?;
    same_backend(ranks, open.chosen.name)?;
    same_everywhere(ranks, &open.manifest.plan, &open.data, open.folder.path())?;
    if !args.resume {
        let (path, manifest) = (open.folder.path().to_owned(), &open.manifest);
        let made = first(ranks, || RunFolder::create(&path, manifest, args.overwrite))?;
        open.folder = made.unwrap_or(open.folder);
    }
    Ok(open)
}

/// All that a run needs. Nothing is written of a new one: its folder is made later, by one process.
fn open(args: &TrainArgs, of: Option<OfFamily>, ranks: &dyn Ranks) -> Result<OpenRun> {
    let (plan, out, begun) = match (args.resume, of) {
        (true, _) => resumed(args, ranks)?,
        (false, Some(family)) => {
            let plan = amend(family.plan, &[], &[], None)?;
            (plan, args.out.clone().unwrap_or_default(), None)
        }
        (false, None) => fresh(args)?,
    };
    check_shares(&plan.train, ranks.size())?;
    let chosen = choose(&args.device, Some(&plan))?;
    chosen.knows(plan.train.precision)?;
    if let Some((_, old)) = &begun {
        warn_elsewhere(args, (old, &plan), &chosen);
    }
    if of.is_none() {
        say_forecast(&plan, &chosen.device)?;
    }
    let data = data::open(&plan)?;
    let model = data.model().clone();
    say_what(&data, &out, &chosen.device, ranks.size());
    if let Some(room) = chosen.backend.room(chosen.index)
        && let Some(warning) = check_memory(&plan.train, &model, &room, &chosen.device)?
    {
        progress::warn(&warning);
    }
    warn_unevaluated(&plan, &data);
    data::tell_unknown_labels(&plan, &data);
    let session = chosen.open(&model, plan.train.precision)?;
    let plan = data::pinned(&plan, &data)?;
    let (folder, manifest) = if let Some((folder, old)) = begun {
        match args.check.no_self_check {
            true => old.check_ids(&data, &out)?,
            false => old.check_data(&data, &out)?,
        }
        leave_out(&data, folder.read_rejected()?)?;
        let recipe = old.plan.recipe.clone();
        let manifest = Manifest { plan, ..old }.of(&data)?;
        // What --set changed stays changed, however this part of the run ends.
        if ranks.rank() == 0 {
            let taken = folder.checkpoints()?.last().map_or(0, |saved| saved.step);
            if taken < manifest.plan.train.steps || manifest.plan.recipe != recipe {
                report::forget(folder.path(), "of the run before it went on")?;
            }
            folder.write_manifest(&manifest)?;
        }
        (folder, manifest)
    } else {
        if let Some(before) = of.and_then(|family| family.before) {
            RunFolder::open(before)?.1.check_data(&data, before)?;
        }
        data::apart_from(&plan, &out)?;
        let manifest = Manifest::new(plan, &data)?;
        (RunFolder::at(&out), manifest)
    };
    data.look_for_modalities()?;
    Ok(OpenRun { folder, manifest, data, session, chosen })
}

/// Says so where a run goes on on another backend than before, and nothing asked for it.
fn warn_elsewhere(args: &TrainArgs, (old, plan): (&Manifest, &Plan), chosen: &Chosen) {
    let before = old.stages.iter().rfind(|stage| stage.stage == PRETRAIN).map(|s| &s.backend);
    if let Some(before) = before.filter(|before| *before != chosen.name)
        && args.device.backend.is_none()
        && plan.backend.is_none()
    {
        progress::warn(&format!(
            "this run was trained on {before} and goes on on {}, for nothing names another; \
             --backend {before} goes on there",
            chosen.name
        ));
    }
}

/// Says what is trained on what.
fn say_what(data: &Dataset, out: &Path, device: &str, processes: usize) {
    let of_each = match processes {
        1 => String::new(),
        size => format!("{size} processes, each on "),
    };
    progress::say(&format!(
        "{}: {} parameters, {} objects ({} to train on, {} with labels), {of_each}{device}",
        out.display(),
        quantity(data.model().parameter_count() as f64),
        data.len(),
        data.splits.train.len(),
        data.labelled()
    ));
    if processes > 1 {
        progress::say(&format!(
            "should one of the processes die, all end: `astropt pretrain` or `run`, started as now \
             with --resume --out {}, goes on from the last checkpoint",
            out.display()
        ));
    }
}

fn warn_unevaluated(plan: &Plan, data: &Dataset) {
    let evaluated = plan.train.eval_split;
    if data.splits.get(evaluated).is_empty() {
        progress::warn(&format!(
            "no {} objects: the loss is not evaluated and no best model kept (train.eval_split, \
             [split])",
            evaluated.name()
        ));
    }
}

/// Says what a training will cost, on the device that the recipe's `[cost]` names, and that it is
/// to be on `device`.
fn say_forecast(plan: &Plan, device: &str) -> Result<()> {
    let forecast = Forecast::of(plan)?;
    let assumed = assumptions(&plan.cost, forecast.precision);
    let here = computes_on(&plan.cost, device);
    progress::say(&format!("forecast: {}; {assumed}{here}", forecast.in_words()));
    if let Some(idle) = idle(&[forecast], &plan.cost) {
        progress::warn(&idle);
    }
    Ok(())
}

/// Objects that an earlier part of the run could not use stay out of it: it must see the same ones
/// as if it had never stopped.
fn leave_out(data: &Dataset, rejected: Rejected) -> Result<()> {
    if let Some((id, reason)) = rejected.first_key_value() {
        data.allow_rejected(rejected.len(), &format!("object {id}: {reason}"))?;
        progress::say(&format!(
            "{} object(s) that rejected.csv lists stay left out of this run, mended or not, so that \
             it goes on as it began; a new run (--overwrite, or another --out) takes the mended in",
            rejected.len()
        ));
    }
    data.resume_rejected(rejected);
    Ok(())
}

/// A plan, the folder of its run, and the run if it has begun, open to write on one process.
type Begun = (Plan, PathBuf, Option<(RunFolder, Manifest)>);

fn fresh(args: &TrainArgs) -> Result<Begun> {
    let name = args.recipe.as_deref().unwrap_or_default();
    let plan = resolve(&args.choice.request(name))?;
    let out = args.out.clone().unwrap_or_else(|| default_folder(&plan));
    Ok((plan, out, None))
}

pub(super) fn default_folder(plan: &Plan) -> PathBuf {
    let scale = plan.scale.as_ref().map(|scale| format!("-{scale}")).unwrap_or_default();
    Path::new("runs").join(format!("{}{scale}", plan.name))
}

/// The plan of the run to go on with, with what `--set` may change changed.
fn resumed(args: &TrainArgs, ranks: &dyn Ranks) -> Result<Begun> {
    let out = match (&args.out, &args.recipe) {
        (Some(out), _) => out.clone(),
        (None, Some(_)) => fresh(args)?.1,
        (None, None) => {
            return Err(Error::Misuse("--resume needs --out DIR, the run to go on with".into()));
        }
    };
    if out.join(FAMILY).exists() {
        return Err(Error::Misuse(format!(
            "{} holds a family of models: `astropt run --resume --out {0}` goes on with it",
            out.display()
        )));
    }
    let (folder, manifest) = RunFolder::open_together(&out, ranks)?;
    let last = folder.checkpoints()?.pop();
    let taken = last.map(|saved| saved.state()).transpose()?.map_or(0, |state| state.step);
    let data = args.choice.data.as_deref();
    let set = changing(&manifest.plan, &args.choice.set)?;
    let plan = amend(&manifest.plan, &RESUMABLE, &set, data)?;
    if lacks_data(&plan) {
        return Err(Error::Misuse(format!(
            "{0} has no data yet, for it was imported without any; `astropt pretrain --resume --out \
             {0} --data PATH` gives it some and goes on (data of another kind than its recipe's \
             source: import again with --recipe, --data and --overwrite)",
            out.display()
        )));
    }
    if plan.train.steps < taken {
        return Err(Error::Misuse(format!(
            "{} has taken {taken} steps already, more than train.steps = {}",
            out.display(),
            plan.train.steps
        )));
    }
    if let Some(recipe) = &args.recipe {
        let now = resolve(&args.choice.request_dataless(recipe))?;
        let by_data = args.choice.data.is_some() || manifest.command.contains(" --data");
        still_says((&now, by_data), recipe, &plan, &out)?;
    }
    Ok((plan, out, Some((folder, manifest))))
}

fn begin(args: &TrainArgs) -> Start {
    match (args.resume, args.check.no_self_check) {
        (false, _) => Start::Fresh,
        (true, false) => Start::Resume,
        (true, true) => Start::ResumeUnchecked,
    }
}

/// How a training ended whose process could not say so.
const UNTOLD: &str = "killed, or at work still";

/// What training writes line by line and reads again when it goes on.
const TRAINED: [&str; 5] = [METRICS, TIMINGS, LEDGER, VALIDATION, FAULTS];

fn train(open: &mut OpenRun, start: Start) -> Result<Summary> {
    let stage = Stage::start(PRETRAIN, &open.chosen);
    let (data, ranks) = (open.data.clone(), parallel::world());
    let taken = open.folder.checkpoints().ok().and_then(|all| Some(all.last()?.step)).unwrap_or(0);
    first(ranks, || {
        TRAINED.iter().try_for_each(|name| open.folder.verified(name).map(drop))?;
        checksums::forget(open.folder.path(), &TRAINED)
    })?;
    let session = open.session.as_mut();
    let trainer = Trainer::new(&open.manifest, &open.folder, data, session, start, ranks);
    let trainer = agree(ranks, trainer)?;
    let (chosen, manifest, folder) = (&open.chosen, &open.manifest, &open.folder);
    let bill = || {
        let ended = BTreeMap::from([("ended".to_owned(), UNTOLD.to_owned())]);
        folder.write_running(manifest, stage.record(chosen, &manifest.plan, ended))
    };
    let trained = trainer.watched(chosen.backend.monitor(chosen.index)).billed(&bill).run();
    let facts = match &trained {
        Ok(summary) => [
            ("steps", Some(summary.steps.to_string())),
            ("tokens", Some(summary.tokens.to_string())),
            ("ledger", summary.ledger.clone()),
        ]
        .into_iter()
        .filter_map(|(name, fact)| Some((name.to_owned(), fact?)))
        .collect(),
        Err(error) => BTreeMap::from([("ended".to_owned(), error.to_string())]),
    };
    open.data.tell_rejected();
    // Of several processes each has met its own objects alone; what all predicted is told below.
    if ranks.size() == 1 {
        open.data.tell_unmet();
    }
    let record = stage.record(&open.chosen, &open.manifest.plan, facts);
    progress::say(&format!("pretraining took {}", duration(record.seconds)));
    open.manifest.stages.push(record);
    // Not waited for by the others, who may not be there any more; and another's folder that took
    // the place of the run's is left alone.
    if ranks.rank() > 0 || !open.folder.is_ours() {
        return trained;
    }
    let kept = open.folder.write_manifest(&open.manifest);
    let kept = kept.and_then(|()| checksums::list(open.folder.path(), &TRAINED));
    // Where a disk fails both do, and the first failure tells more.
    let summary = trained?;
    kept?;
    if summary.steps > taken {
        tell_unpredicted(&open.folder, &open.data, summary.steps)?;
    }
    Ok(summary)
}

/// Warns of the modalities that no step predicted: the model cannot make them.
fn tell_unpredicted(folder: &RunFolder, data: &Dataset, steps: u64) -> Result<()> {
    let Some(predicted) = predicted_until(&folder.file(METRICS), steps)? else { return Ok(()) };
    let all = data.modalities().keys();
    for name in all.filter(|name| !predicted.modalities.contains(*name)) {
        progress::warn(&format!(
            "modality.{name}: never predicted in steps {} to {steps} (no object had it, the objective \
             never came to it, or it is one token that always came first): the model reads it where \
             it is there, and has not learnt to make it",
            predicted.first
        ));
    }
    Ok(())
}

/// A stage that is running.
pub(super) struct Stage {
    name: &'static str,
    started: String,
    clock: Instant,
    meter: Meter,
}

impl Stage {
    pub(super) fn start(name: &'static str, chosen: &Chosen) -> Self {
        let (started, clock) = (crate::run::now(), Instant::now());
        let meter = Meter::start(chosen.backend.monitor(chosen.index));
        Self { name, started, clock, meter }
    }

    /// What it has taken so far.
    pub(super) fn record(
        &self,
        chosen: &Chosen,
        plan: &Plan,
        facts: BTreeMap<String, String>,
    ) -> StageRecord {
        let mut facts = facts;
        let (size, local) = (parallel::world().size(), parallel::local().size);
        if size > 1 {
            facts.insert("processes".to_owned(), size.to_string());
        }
        let energy = self.meter.read(&plan.cost, size, size.div_ceil(local));
        StageRecord {
            stage: self.name.to_owned(),
            backend: chosen.name.to_owned(),
            device: chosen.device.clone(),
            started: self.started.clone(),
            seconds: self.clock.elapsed().as_secs_f64(),
            energy: Some(energy),
            facts,
        }
    }
}
