//! The loop.

mod gradients;
mod keeping;
mod recovery;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::evaluate::{VALIDATION, ValidationLosses, evaluate};
use super::ledger::LEDGER;
use super::lines::read_lines;
use super::metrics::{METRICS, Metric, Timing};
use super::pace::{Pace, Piece};
use super::preview::PreviewSet;
use super::schedule::learning_rate;
use super::targets::MeanLosses;
use super::team::{Seen, Team, Wishes};
use super::watch::Watch;
use crate::checkpoint::{format, write_bytes};
use crate::cost::exhausted;
use crate::data::{Batch, Dataset, Loader, Split};
use crate::engine::{Session, StepReport};
use crate::error::{Error, Result};
use crate::model::initial_parameters;
use crate::parallel::Ranks;
use crate::progress::{self, Progress, quantity};
use crate::run::{Inputs, Manifest, RunFolder, TrainState};
use crate::seam::Monitor;
use crate::stop;
use keeping::Lines;

/// Time between two writings of what the training has taken.
const BILLED: Duration = Duration::from_secs(30);

/// Trains the model of a run, by itself or as one of several processes.
pub struct Trainer<'a> {
    manifest: &'a Manifest,
    run: &'a RunFolder,
    data: Arc<Dataset>,
    session: &'a mut dyn Session,
    team: Team<'a>,
    /// Of the process that writes.
    lines: Option<Lines>,
    pace: Pace,
    /// When the last checkpoint was written, or training began.
    saved: Instant,
    bill: Option<Bill<'a>>,
    previews: Option<PreviewSet>,
    inputs: Option<Inputs>,
    monitor: Option<Monitor>,
    watch: Watch,
    /// Objects that the last validation was over: losses over others are not compared.
    evaluated: Option<u64>,
    state: TrainState,
}

/// Writes down what the training has taken so far, and when it last did.
struct Bill<'a> {
    write: &'a dyn Fn() -> Result<()>,
    written: Instant,
}

/// Whether a step was taken in `run`: its lines come after the first checkpoint.
fn has_steps(run: &RunFolder) -> Result<bool> {
    let metrics: Vec<Metric> = read_lines(&run.file(METRICS))?;
    let trained = metrics.iter().any(|metric| matches!(metric, Metric::Train { .. }));
    Ok(trained || std::fs::metadata(run.file(LEDGER)).is_ok_and(|data| data.len() > 0))
}

/// The error of a run without a checkpoint that has taken steps.
fn no_checkpoint(run: &RunFolder) -> Error {
    Error::file(
        run.path().join("checkpoints"),
        format!(
            "has no checkpoint to go on from, though steps were taken ({LEDGER}, {METRICS}): bring \
             the checkpoints back, or start anew with --overwrite"
        ),
    )
}

/// Where a training starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From new parameters.
    Fresh,
    /// From the run's last checkpoint, which is checked first.
    Resume,
    /// From the run's last checkpoint as it is.
    ResumeUnchecked,
}

/// What a training ended with.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Summary {
    /// Steps taken in all.
    pub steps: u64,
    /// Tokens read in all.
    pub tokens: u64,
    /// Lowest validation loss and its step.
    pub best: Option<(u64, f64)>,
    /// Validation loss of the last evaluation.
    pub validation_loss: Option<f64>,
    /// Steps that were not taken because their numbers were wrong; faults.jsonl lists them.
    pub faults: u64,
    /// End of the chain of digests over all steps' objects.
    pub ledger: Option<String>,
}

/// What became of a step.
enum Outcome {
    /// It was taken, with this loss before it.
    Taken(f64, Timing),
    /// It was passed over.
    Passed,
    /// The training went back to its last checkpoint.
    RolledBack,
}

impl<'a> Trainer<'a> {
    /// Prepares to train `session` on `data` in `run`, from the beginning or from the last
    /// whole checkpoint. Of `ranks` each trains on its share of every step; rank 0 writes.
    ///
    /// # Errors
    /// When the ranks cannot share a step, or a checkpoint or the run's folder cannot be read or
    /// written.
    pub fn new(
        manifest: &'a Manifest,
        run: &'a RunFolder,
        data: Arc<Dataset>,
        session: &'a mut dyn Session,
        start: Start,
        ranks: &'a dyn Ranks,
    ) -> Result<Self> {
        let team = Team::new(ranks, &manifest.plan.train)?;
        let mut saved = if start == Start::Fresh { Vec::new() } else { run.checkpoints()? };
        let (last, before) = (saved.pop(), saved.pop());
        let (mut pace, started) = (Pace::default(), Instant::now());
        let begun = last.is_some();
        let state = match last {
            Some(saved) => {
                let state = saved.restore(session).map_err(|e| saved.or_before(e, before))?;
                saved.is_of(run, &manifest.plan)?;
                if start == Start::Resume {
                    saved.self_check(data.modalities(), session)?;
                }
                progress::say(&format!("going on from {}", saved.path.display()));
                // Until one is written: about what a checkpoint takes.
                pace.took(Piece::Save, started);
                state
            }
            None if start != Start::Fresh && has_steps(run)? => return Err(no_checkpoint(run)),
            None => {
                let parameters = initial_parameters(session.model(), manifest.plan.train.seed);
                session.set_parameters(&parameters)?;
                TrainState::default()
            }
        };
        session.set_recompute(manifest.plan.train.recompute);
        let shown = data.sample(Split::Validation, manifest.plan.train.previews);
        let lines = || Lines::open(run.path(), begun.then_some(&state));
        Ok(Self {
            previews: PreviewSet::new(&data, &shown)?,
            inputs: Inputs::of_data(&data)?,
            lines: team.writes().then(lines).transpose()?,
            watch: Watch::open(run.path(), &manifest.plan.train.faults, &state, team.writes())?,
            team,
            pace,
            saved: Instant::now(),
            manifest,
            run,
            data,
            session,
            monitor: None,
            bill: None,
            evaluated: None,
            state,
        })
    }

    /// Writes down what the device is doing, too.
    #[must_use]
    pub fn watched(self, monitor: Option<Monitor>) -> Self {
        Self { monitor, ..self }
    }

    /// Has `write` write down what the training has taken so far: with every checkpoint, and twice
    /// a minute. A process that is killed cannot tell at its end.
    #[must_use]
    pub fn billed(self, write: &'a dyn Fn() -> Result<()>) -> Self {
        let writes = self.team.writes();
        Self { bill: writes.then(|| Bill { write, written: Instant::now() }), ..self }
    }

    /// Trains to the last step of the plan.
    ///
    /// # Errors
    /// When the data, the device or the disk fail, the loss is not finite, the user interrupts or
    /// the walltime comes near. What was whole before is kept: failing data, interrupts and the
    /// walltime save the last step, and otherwise the last checkpoint is the one to go on from.
    pub fn run(mut self) -> Result<Summary> {
        self.train().map_err(|error| keeping::way_on(self.run, error))
    }

    fn train(&mut self) -> Result<Summary> {
        let train = &self.manifest.plan.train;
        let saves = train.checkpoints.steps(train.steps);
        self.team.write(|| self.prune(self.watch.last_taken()))?;
        let mut validation_loss = self.last_validation()?;
        let mut loader = self.loader()?;
        let mut progress = Progress::new("pretrain", train.steps, self.state.step);
        if self.state.step == 0 && validation_loss.is_none() {
            validation_loss = self.evaluate_first()?;
            self.save(false)?;
        }
        while self.state.step < train.steps {
            let outcome = match self.step(&mut loader) {
                // Stopped while it waited for data: the last step is whole.
                Err(Error::Interrupted(_)) => return Err(self.stopped()?),
                done => done?,
            };
            let step = self.state.step;
            progress.update(step, &outcome.describe());
            if matches!(outcome, Outcome::RolledBack) {
                validation_loss = self.last_validation()?;
                continue;
            }
            if let Some(lines) = &self.lines {
                self.run.still_there(step)?;
                lines.still_there()?;
            }
            self.bill(BILLED)?;
            if self.evaluates(step) {
                validation_loss = self.evaluate()?;
            }
            let asked = || stop::asked() || self.pace.out_of_time(self.evaluates(step + 1));
            if self.team.stopping(asked) && step < train.steps {
                return Err(self.stopped()?);
            }
            if saves.binary_search(&step).is_ok() {
                self.save(false)?;
            } else if self.team.saving(|| self.save_is_due()) {
                self.save_between()?;
            }
        }
        self.write_rejected()?;
        if validation_loss.is_some() {
            // The last model has answered: it needs no other to stand in for it.
            self.team.write(|| self.prune(u64::MAX))?;
        }
        progress.finish(&format!(
            "pretrained {} steps: {}",
            self.state.step,
            self.run.path().display()
        ));
        Ok(self.summary(validation_loss))
    }

    fn summary(&self, validation_loss: Option<f64>) -> Summary {
        Summary {
            steps: self.state.step,
            tokens: self.state.tokens,
            best: self.state.best_step.zip(self.state.best_loss),
            validation_loss,
            faults: self.watch.faults(),
            ledger: self.state.ledger.clone(),
        }
    }

    /// Whether the validation objects are evaluated after `step`.
    fn evaluates(&self, step: u64) -> bool {
        let train = &self.manifest.plan.train;
        step.is_multiple_of(train.eval_every) || step == train.steps
    }

    /// Validation loss of the last evaluation before this part of the run, whose number of objects
    /// is kept.
    fn last_validation(&mut self) -> Result<Option<f64>> {
        let metrics: Vec<Metric> = read_lines(&self.run.file(METRICS))?;
        let last = metrics.iter().rev().find_map(|metric| match metric {
            Metric::Validation { loss, objects, .. } => Some((*loss, *objects)),
            Metric::Train { .. } => None,
        });
        self.evaluated = last.map(|(_, objects)| objects);
        Ok(last.map(|(loss, _)| loss))
    }

    /// This process's micro-batches from the next step on.
    fn loader(&mut self) -> Result<Loader<Batch>> {
        let uploads = self.session.uploads()?;
        let gather = uploads.is_none() && !self.session.on_host();
        let train = &self.manifest.plan.train;
        let size = train.micro_batch;
        let left = train.steps.saturating_sub(self.state.step);
        let count = left * self.team.pieces(train) as u64;
        let place = self.team.places(train, self.state.step);
        let data = self.data.clone();
        Ok(Loader::start(train.workers, count, move |k| {
            let mut batch = data.train_batch(place(k), size)?;
            if gather {
                batch.gather();
            }
            Ok(batch)
        })
        .uploaded(uploads))
    }

    /// One optimiser step.
    fn step(&mut self, loader: &mut Loader<Batch>) -> Result<Outcome> {
        let train = &self.manifest.plan.train;
        let started = Instant::now();
        let passed = self.state.passed.contains(&(self.state.step + 1));
        let seen = self.accumulate(loader, passed);
        // Of several processes all stop before one of them has to: as if there were an evaluation.
        let wishes =
            Wishes { stop: stop::asked() || self.pace.out_of_time(true), save: self.save_is_due() };
        let seen = self.team.agree(seen, &self.data, wishes).map_err(|e| self.without_data(e))?;
        if passed {
            return self.pass_over();
        }
        let lr = learning_rate(train, self.state.step);
        let settings = self.watch.limited(train.step_settings(lr));
        self.team.sum_gradients(self.session, &settings)?;
        let report = self.session.step(&settings);
        let report = report.map_err(|e| exhausted(e, train, self.session.model()))?;
        let Seen { ids, drawn, uniform, tokens, targets, losses } =
            self.team.join(Seen { losses: report.losses, ..seen })?;
        let mean = MeanLosses::of(&losses, &targets);
        let loss = mean.total(self.session.model());
        let report = StepReport { losses, ..report };
        for fault in self.watch.dead_modalities(self.state.step + 1, &ids, uniform)? {
            progress::warn(&fault.to_string());
        }
        if !report.taken {
            return self.faulty(&report, loss, &settings, &ids, loader);
        }
        let grad_norm = f64::from(report.grad_norm);
        self.state.step += 1;
        self.watch.taken(self.state.step, loss, grad_norm);
        self.state.tokens += tokens;
        let timing = self.timing(started.elapsed().as_secs_f64(), tokens, loader);
        if drawn.iter().any(|drawn| drawn.attempt > 0) && self.team.writes() {
            // Before the ledger says that another object stood in for one.
            self.run.write_rejected(&self.data.rejected())?;
        }
        if let Some(Lines { metrics, ledger }) = &mut self.lines {
            let step = self.state.step;
            let first = (step - 1) * train.batch as u64;
            self.state.ledger = Some(ledger.record(step, first, drawn)?);
            let modalities = mean.modalities();
            let tokens = self.state.tokens;
            metrics.metric(&Metric::Train { step, loss, modalities, lr, grad_norm, tokens })?;
            metrics.timing(&timing)?;
        }
        self.pace.took(Piece::Step, started);
        Ok(Outcome::Taken(loss, timing))
    }

    fn timing(&self, seconds: f64, tokens: u64, loader: &mut Loader<Batch>) -> Timing {
        let tokens_per_second = tokens as f64 / seconds;
        let usage = self.monitor.as_ref().and_then(|ask| ask());
        Timing {
            step: self.state.step,
            seconds,
            data_seconds: loader.take_waited().as_secs_f64(),
            tokens_per_second,
            flops_per_second: tokens_per_second * self.session.model().train_flops_per_token(),
            device_memory_bytes: usage.map(|usage| usage.memory_bytes),
            device_utilisation: usage.and_then(|usage| usage.utilisation),
        }
    }

    /// Lists the objects that any process could not use.
    fn write_rejected(&mut self) -> Result<()> {
        self.team.tell_rejected(&self.data)?;
        if self.team.writes() { self.run.write_rejected(&self.data.rejected()) } else { Ok(()) }
    }

    /// The evaluation before the first step. There is none where data may have to be fetched: it
    /// would wait for all shards. What is here already does not count, so that a repeated run is the
    /// same.
    fn evaluate_first(&mut self) -> Result<Option<f64>> {
        if !self.manifest.plan.source.is_remote() {
            return self.evaluate();
        }
        if self.team.writes() {
            progress::say(
                "no validation before the first step: its objects' shards would have to come first",
            );
        }
        Ok(None)
    }

    /// Evaluates, keeps the best model, and draws previews.
    fn evaluate(&mut self) -> Result<Option<f64>> {
        let (step, started) = (self.state.step, Instant::now());
        let found = evaluate(&self.manifest.plan, &self.data, self.session, self.team.ranks());
        let found = found.map_err(|error| self.not_evaluated(error))?;
        self.write_rejected()?;
        let Some(found) = found.filter(|found| found.objects > 0) else { return Ok(None) };
        let loss = found.loss;
        self.last_is_sound(loss)?;
        if let Some(Lines { metrics, .. }) = &mut self.lines {
            metrics.metric(&Metric::Validation {
                step,
                loss,
                modalities: found.modalities,
                zero_loss: found.zero_loss,
                objects: found.objects,
            })?;
            let losses = ValidationLosses { step, batches: found.batches };
            let text = format::to_json(&losses)
                .map_err(|e| Error::Failed(format!("cannot write the losses: {e}")))?;
            write_bytes(self.run.file(VALIDATION), text.as_bytes())?;
        }
        progress::say(&format!("step {step}: validation loss {loss:.5}"));
        let before = self.evaluated.replace(found.objects);
        if let Some(before) = before.filter(|&before| before != found.objects) {
            progress::say(&format!(
                "validation is over {} objects, and was over {before}: the best model is chosen anew",
                found.objects
            ));
            self.state.best_loss = None;
        }
        if self.state.best_loss.is_none_or(|best| loss < best) {
            self.state.best_loss = Some(loss);
            self.state.best_step = Some(step);
            self.save(true)?;
        }
        if let Some(previews) = self.previews.as_ref().filter(|_| self.team.writes())
            && let Some(png) = previews.draw(&self.data, self.session)?
        {
            self.run.save_preview(step, &png)?;
        }
        self.pace.took(Piece::Evaluation, started);
        Ok(Some(loss))
    }
}

impl Outcome {
    /// As the progress bar shows it.
    fn describe(&self) -> String {
        match self {
            Self::Taken(loss, timing) => format!(
                "loss {loss:.4} {} tokens/s {}FLOP/s",
                quantity(timing.tokens_per_second),
                quantity(timing.flops_per_second)
            ),
            Self::Passed => "passed over".to_owned(),
            Self::RolledBack => "back at a checkpoint".to_owned(),
        }
    }
}
