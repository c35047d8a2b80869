//! What a training keeps of itself: checkpoints, the lines between them, and the word of how to go
//! on from them.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Piece, Trainer};
use crate::error::{Error, Result};
use crate::parallel::agree;
use crate::run::{Contents, RunFolder, TrainState};
use crate::stop;
use crate::train::ledger::Ledger;
use crate::train::metrics::MetricsWriter;

/// The files that a step adds a line to.
pub(super) struct Lines {
    pub(super) metrics: MetricsWriter,
    pub(super) ledger: Ledger,
}

impl Lines {
    /// Opens them in `folder` to go on after the checkpoint of `state`, where there is one.
    pub(super) fn open(folder: &Path, state: Option<&TrainState>) -> Result<Self> {
        let metrics = MetricsWriter::open(folder, state)?;
        Ok(Self { metrics, ledger: Self::ledger(folder, state)? })
    }

    /// Cuts off what came after `state`, to which the training goes back.
    pub(super) fn back_to(&mut self, folder: &Path, state: &TrainState) -> Result<()> {
        self.metrics.back_to(folder, state)?;
        self.ledger = Self::ledger(folder, Some(state))?;
        Ok(())
    }

    fn ledger(folder: &Path, state: Option<&TrainState>) -> Result<Ledger> {
        let (step, head) = state.map_or((0, None), |state| (state.step, state.ledger.as_deref()));
        Ledger::open(folder, step, head)
    }

    fn sync(&self) -> Result<()> {
        self.metrics.sync()?;
        self.ledger.sync()
    }

    /// Notices files that were deleted or replaced while they were written.
    pub(super) fn still_there(&self) -> Result<()> {
        self.metrics.still_there()?;
        self.ledger.still_there()
    }
}

/// An error of a file or a device that ends a training, with the way on from what is kept.
pub(super) fn way_on(run: &RunFolder, error: Error) -> Error {
    use Error::{Device, File, OutOfMemory, System};
    let (File { .. } | System { .. } | Device(_) | OutOfMemory(_)) = error else { return error };
    let out = run.path().display();
    let last = run.checkpoints().ok().and_then(|mut all| all.pop());
    Error::Failed(match last {
        Some(saved) => format!(
            "{error}. The checkpoint after step {} is kept: once that is mended, go on from it with \
             --resume --out {out}",
            saved.step
        ),
        None => format!(
            "{error}. No checkpoint was written yet: once that is mended, --resume --out {out} begins \
             again"
        ),
    })
}

impl Trainer<'_> {
    /// Saves, and says how to go on.
    pub(super) fn stopped(&mut self) -> Result<Error> {
        self.save_between()?;
        Ok(self.team.of_all(stop::stopped(&format!(
            " after step {} of {}; go on with --resume --out {}",
            self.state.step,
            self.manifest.plan.train.steps,
            self.run.path().display()
        ))))
    }

    /// A step that cannot be read ends the run, but not what was learnt before.
    pub(super) fn without_data(&mut self, error: Error) -> Error {
        if matches!(error, Error::Interrupted(_)) {
            return error;
        }
        if self.save_between().is_err() {
            return self.team.of_all(Error::Failed(format!(
                "{error}. Once that is mended, go on from the last checkpoint with --resume --out {}",
                self.run.path().display()
            )));
        }
        self.team.of_all(Error::Failed(format!(
            "{error}. What was learnt until step {} is saved; once that is mended, go on with \
             --resume --out {} (objects that rejected.csv lists stay left out)",
            self.state.step,
            self.run.path().display()
        )))
    }

    /// Saves where the schedule may not say so: such a checkpoint goes when the next one stands.
    pub(super) fn save_between(&mut self) -> Result<()> {
        let train = &self.manifest.plan.train;
        let scheduled = train.checkpoints.steps(train.steps).binary_search(&self.state.step);
        self.state.between = scheduled.is_err();
        let saved = self.save(false);
        self.state.between = false;
        saved
    }

    /// Deletes the checkpoints that the plan does not keep, where the last step that was taken, or
    /// an evaluation after it, shows which are sound.
    pub(super) fn prune(&self, taken: u64) -> Result<()> {
        let plan = &self.manifest.plan;
        self.run.prune(&plan.train.checkpoints, plan.probe.checkpoints, taken)
    }

    /// Whether so much time has passed since the last checkpoint that one is due, whatever the
    /// schedule says of steps.
    pub(super) fn save_is_due(&self) -> bool {
        let every = 60.0 * self.manifest.plan.train.checkpoints.minutes;
        every > 0.0 && self.saved.elapsed() >= Duration::from_secs_f64(every)
    }

    /// What is left where the validation loss is not finite: the parameters that have it are not
    /// worth keeping.
    pub(super) fn not_evaluated(&self, error: Error) -> Error {
        let Error::Failed(message) = error else { return error };
        let last = self.run.checkpoints().ok().and_then(|all| all.last().map(|saved| saved.step));
        self.team.of_all(Error::Failed(match last {
            Some(step) => format!(
                "{message}. The last checkpoint is that after step {step} in {}",
                self.run.path().display()
            ),
            None => message,
        }))
    }

    /// Writes down what the training has taken so far, unless that was done less than `every` ago.
    pub(super) fn bill(&mut self, every: Duration) -> Result<()> {
        match &mut self.bill {
            Some(bill) if bill.written.elapsed() >= every => {
                (bill.write)()?;
                bill.written = Instant::now();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Saves a checkpoint, or the best model, after the last step.
    pub(super) fn save(&mut self, best: bool) -> Result<()> {
        let started = Instant::now();
        let unchanged = self.data.unchanged().map_err(|error| {
            let last =
                "what was learnt since the last checkpoint may be of other data: go on from it";
            Error::Failed(format!(
                "{error}. {last} with --resume --out {}",
                self.run.path().display()
            ))
        });
        agree(self.team.ranks(), unchanged)?;
        self.team.compare(self.session, self.state.step)?;
        self.state.metrics = self.lines.as_ref().map(|lines| lines.metrics.digest());
        let Self { team, session, inputs, manifest, state, run, lines, data, .. } = self;
        team.write(|| {
            // A checkpoint that outlives a power cut must find the lines that lead to it.
            lines.iter().try_for_each(Lines::sync)?;
            run.write_rejected(&data.rejected())?;
            let check = match inputs {
                Some(inputs) => inputs.answer(*session)?,
                None => None,
            };
            let contents = Contents {
                parameters: session.parameters()?,
                optimiser: session.optimiser()?,
                manifest,
                state,
                unsupported: None,
                check: check.as_ref(),
            };
            run.save(contents, best).map(drop).map_err(|error| way_on(run, error))
        })?;
        self.bill(Duration::ZERO)?;
        self.pace.took(Piece::Save, started);
        if best {
            return Ok(()); // nothing goes on from it
        }
        self.saved = Instant::now();
        self.team.write(|| self.prune(self.watch.last_taken()))
    }
}
