//! The loop.

use std::sync::Arc;
use std::time::Instant;

use super::evaluate::{VALIDATION, ValidationLosses, evaluate};
use super::metrics::{METRICS, MeanLosses, Metric, MetricsWriter, Timing, read_lines};
use super::preview::PreviewSet;
use super::schedule::learning_rate;
use crate::checkpoint::{format, write_bytes};
use crate::data::{Batch, Dataset, Loader, Split};
use crate::engine::{Session, StepSettings};
use crate::error::{Error, Result};
use crate::model::initial_parameters;
use crate::progress::{self, Progress, quantity};
use crate::run::{Contents, Inputs, Manifest, RunFolder, TrainState};
use crate::seam::Monitor;
use crate::stop;

/// Trains the model of a run.
pub struct Trainer<'a> {
    manifest: &'a Manifest,
    run: &'a RunFolder,
    data: Arc<Dataset>,
    session: &'a mut dyn Session,
    metrics: MetricsWriter,
    previews: Option<PreviewSet>,
    inputs: Option<Inputs>,
    monitor: Option<Monitor>,
    state: TrainState,
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
}

impl<'a> Trainer<'a> {
    /// Prepares to train `session` on `data` in `run`, from the beginning or from the last
    /// whole checkpoint.
    ///
    /// # Errors
    /// When a checkpoint or the run's folder cannot be read or written.
    pub fn new(
        manifest: &'a Manifest,
        run: &'a RunFolder,
        data: Arc<Dataset>,
        session: &'a mut dyn Session,
        start: Start,
    ) -> Result<Self> {
        let last = if start == Start::Fresh { None } else { run.checkpoints()?.pop() };
        let state = match last {
            Some(saved) => {
                let state = saved.restore(session)?;
                if start == Start::Resume {
                    saved.self_check(data.modalities(), session)?;
                }
                progress::say(&format!("going on from {}", saved.path.display()));
                state
            }
            None => {
                let parameters = initial_parameters(session.model(), manifest.plan.train.seed);
                session.set_parameters(&parameters)?;
                TrainState { step: 0, tokens: 0, best_loss: None, best_step: None }
            }
        };
        session.set_recompute(manifest.plan.train.recompute);
        let shown = data.sample(Split::Validation, manifest.plan.train.previews);
        Ok(Self {
            previews: PreviewSet::new(&data, &shown)?,
            inputs: Inputs::of_data(&data)?,
            metrics: MetricsWriter::open(run.path(), state.step)?,
            manifest,
            run,
            data,
            session,
            monitor: None,
            state,
        })
    }

    /// Writes down what the device is doing, too.
    #[must_use]
    pub fn watched(self, monitor: Option<Monitor>) -> Self {
        Self { monitor, ..self }
    }

    /// Trains to the last step of the plan.
    ///
    /// # Errors
    /// When the data, the device or the disk fail, the loss is not finite, or the user
    /// interrupts; all but the first two leave a checkpoint to go on from.
    pub fn run(mut self) -> Result<Summary> {
        let train = &self.manifest.plan.train;
        let saves = train.checkpoints.steps(train.steps);
        let mut validation_loss = self.last_validation()?;
        let mut loader = self.loader();
        let mut progress = Progress::new("pretrain", train.steps, self.state.step);
        if self.state.step == 0 {
            validation_loss = self.evaluate(&progress)?;
            self.save(false)?;
        }
        while self.state.step < train.steps {
            let (loss, timing) = match self.step(&mut loader) {
                // Stopped while it waited for data: the last step is whole.
                Err(Error::Interrupted(_)) => return Err(self.stopped()?),
                done => done?,
            };
            let step = self.state.step;
            progress.update(step, &describe(loss, &timing));
            if step.is_multiple_of(train.eval_every) || step == train.steps {
                validation_loss = self.evaluate(&progress)?;
            }
            let stopping = stop::asked() && step < train.steps;
            if stopping {
                return Err(self.stopped()?);
            }
            if saves.binary_search(&step).is_ok() {
                self.save(false)?;
            }
        }
        self.run.write_rejected(&self.data.rejected())?;
        let summary = Summary {
            steps: self.state.step,
            tokens: self.state.tokens,
            best: self.state.best_step.zip(self.state.best_loss),
            validation_loss,
        };
        progress.finish(&format!(
            "pretrained {} steps: {}",
            summary.steps,
            self.run.path().display()
        ));
        Ok(summary)
    }

    /// Saves, and says how to go on.
    fn stopped(&mut self) -> Result<Error> {
        self.save(false)?;
        Ok(Error::Interrupted(format!(
            "stopped after step {} of {}; go on with --resume --out {}",
            self.state.step,
            self.manifest.plan.train.steps,
            self.run.path().display()
        )))
    }

    /// Validation loss of the last evaluation before this part of the run.
    fn last_validation(&self) -> Result<Option<f64>> {
        let metrics: Vec<Metric> = read_lines(&self.run.file(METRICS))?;
        Ok(metrics.iter().rev().find_map(|metric| match metric {
            Metric::Validation { loss, .. } => Some(*loss),
            Metric::Train { .. } => None,
        }))
    }

    /// The micro-batches from the next step on.
    fn loader(&self) -> Loader<Batch> {
        let train = &self.manifest.plan.train;
        let size = train.micro_batch;
        let first = self.state.step * train.batch as u64;
        let left = train.steps.saturating_sub(self.state.step);
        let count = left * (train.batch / size) as u64;
        let (data, gather) = (self.data.clone(), !self.session.on_host());
        Loader::start(train.workers, count, move |k| {
            let mut batch = data.train_batch(first + k * size as u64, size)?;
            if gather {
                batch.gather();
            }
            Ok(batch)
        })
    }

    /// One optimiser step. The loss before it, and how long it took.
    fn step(&mut self, loader: &mut Loader<Batch>) -> Result<(f64, Timing)> {
        let train = &self.manifest.plan.train;
        let started = Instant::now();
        let pieces = train.batch / train.micro_batch;
        let mut tokens = 0;
        let mut ids = Vec::new();
        for _ in 0..pieces {
            let batch = loader
                .next()
                .ok_or_else(|| Error::Failed("the data ended before the last step".into()))??;
            tokens += batch.parts.values().map(|part| part.inputs.len as u64).sum::<u64>();
            ids.extend_from_slice(&batch.ids);
            self.session.accumulate(batch, 1.0 / pieces as f32)?;
        }
        let lr = learning_rate(train, self.state.step);
        let report = self.session.step(&StepSettings {
            lr,
            betas: train.betas,
            eps: train.eps,
            weight_decay: train.weight_decay,
            clip: train.clip,
        })?;
        let mut mean = MeanLosses::default();
        report.losses.iter().for_each(|losses| mean.add(losses, 1.0));
        let (loss, grad_norm) = (mean.total(), f64::from(report.grad_norm));
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Err(self.not_finite(loss, grad_norm, &ids));
        }
        self.state.step += 1;
        self.state.tokens += tokens;
        let step = self.state.step;
        self.metrics.metric(&Metric::Train {
            step,
            loss,
            modalities: mean.modalities(),
            lr,
            grad_norm,
            tokens: self.state.tokens,
        })?;
        let seconds = started.elapsed().as_secs_f64();
        let tokens_per_second = tokens as f64 / seconds;
        let usage = self.monitor.as_ref().and_then(|ask| ask());
        let timing = Timing {
            step,
            seconds,
            data_seconds: loader.take_waited().as_secs_f64(),
            tokens_per_second,
            flops_per_second: tokens_per_second * self.session.model().train_flops_per_token(),
            device_memory_bytes: usage.map(|usage| usage.memory_bytes),
            device_utilisation: usage.map(|usage| usage.utilisation),
        };
        self.metrics.timing(&timing)?;
        Ok((loss, timing))
    }

    fn not_finite(&self, loss: f64, grad_norm: f64, ids: &[String]) -> Error {
        const SHOWN: usize = 5;
        let more = match ids.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Error::Failed(format!(
            "at step {} the loss is {loss} and the gradient's norm {grad_norm}, on objects {}{more}; \
             look at these objects, or start a new run with a lower train.peak_lr. The last \
             checkpoint in {} is whole",
            self.state.step + 1,
            ids.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "),
            self.run.path().display()
        ))
    }

    /// Evaluates, keeps the best model, and draws previews.
    fn evaluate(&mut self, progress: &Progress) -> Result<Option<f64>> {
        let step = self.state.step;
        let found = evaluate(&self.manifest.plan, &self.data, self.session)?;
        self.run.write_rejected(&self.data.rejected())?;
        let Some(found) = found.filter(|found| found.objects > 0) else { return Ok(None) };
        let loss = found.losses.total();
        self.metrics.metric(&Metric::Validation {
            step,
            loss,
            modalities: found.losses.modalities(),
            zero_loss: found.zero_loss,
            objects: found.objects,
        })?;
        let losses = ValidationLosses { step, batches: found.batches };
        let text = format::to_json(&losses)
            .map_err(|e| Error::Failed(format!("cannot write the losses: {e}")))?;
        write_bytes(self.run.file(VALIDATION), text.as_bytes())?;
        progress.say(&format!("step {step}: validation loss {loss:.5}"));
        if self.state.best_loss.is_none_or(|best| loss < best) {
            self.state.best_loss = Some(loss);
            self.state.best_step = Some(step);
            self.save(true)?;
        }
        if let Some(previews) = &self.previews
            && let Some(png) = previews.draw(&self.data, self.session)?
        {
            self.run.save_preview(step, &png)?;
        }
        Ok(Some(loss))
    }

    fn save(&mut self, best: bool) -> Result<()> {
        let check = match &self.inputs {
            Some(inputs) => inputs.answer(self.session)?,
            None => None,
        };
        let contents = Contents {
            parameters: self.session.parameters()?,
            optimiser: self.session.optimiser()?,
            manifest: self.manifest,
            state: &self.state,
            unsupported: None,
            check: check.as_ref(),
        };
        self.run.save(contents, best)?;
        Ok(())
    }
}

/// Loss and speed as the progress bar shows them.
fn describe(loss: f64, timing: &Timing) -> String {
    format!(
        "loss {loss:.4} {} tokens/s {}FLOP/s",
        quantity(timing.tokens_per_second),
        quantity(timing.flops_per_second)
    )
}
