//! Steps that are not taken: what the policy of the plan makes of them.

use super::{Outcome, Trainer};
use crate::data::{Batch, Loader};
use crate::engine::StepReport;
use crate::error::{Error, Result};
use crate::progress;
use crate::recipe::OnFault;
use crate::run::TrainState;
use crate::train::faults::{Done, Fault, Watch};

impl Trainer<'_> {
    /// Counts the next step as one on which nothing was trained.
    pub(super) fn pass_over(&mut self) -> Result<Outcome> {
        self.state.step += 1;
        if let Some(lines) = &mut self.lines {
            self.state.ledger = Some(lines.ledger.pass_over(self.state.step)?);
        }
        Ok(Outcome::Passed)
    }

    /// What the policy says of a step that was not taken.
    pub(super) fn faulty(
        &mut self,
        report: &StepReport,
        ids: &[Vec<String>],
        loader: &mut Loader<Batch>,
    ) -> Result<Outcome> {
        let step = self.state.step + 1;
        let (on, limit) = (self.watch.decide(), self.watch.norm_limit());
        let done = match on {
            OnFault::Stop => Done::Stopped,
            OnFault::Skip => Done::Skipped,
            OnFault::RollBack => Done::RolledBack,
        };
        let fault = Fault::of(step, report, limit, ids, done);
        self.watch.write(&fault)?;
        match on {
            OnFault::Stop => {
                self.save_between()?;
                Err(self.team.of_all(self.cannot_go_on(&fault)))
            }
            OnFault::Skip => {
                progress::warn(&format!("{fault}: skipped"));
                self.pass_over()
            }
            OnFault::RollBack => {
                self.go_back(step, loader)?;
                progress::warn(&format!("{fault}: back to step {}", self.state.step));
                Ok(Outcome::RolledBack)
            }
        }
    }

    /// Goes on from the last checkpoint as a resumed run would, and will pass `step` over.
    fn go_back(&mut self, step: u64, loader: &mut Loader<Batch>) -> Result<()> {
        let last = self.run.checkpoints()?.pop();
        let last = last.ok_or_else(|| Error::Failed("no checkpoint to go back to".into()))?;
        let mut passed = std::mem::take(&mut self.state.passed);
        passed.extend(self.watch.passes(step));
        passed.sort_unstable();
        passed.dedup();
        self.state = TrainState { passed, ..last.restore(self.session)? };
        // A best model of the steps that are undone makes room for the next.
        let best = self.run.best()?;
        if best.is_some_and(|best| best.step > self.state.step) {
            (self.state.best_loss, self.state.best_step) = (None, None);
            self.team.write(|| self.run.forget_best())?;
        }
        if let Some(lines) = &mut self.lines {
            lines.back_to(self.run.path(), &self.state)?;
        }
        let policy = &self.manifest.plan.train.faults;
        self.watch = Watch::open(self.run.path(), policy, &self.state, self.team.writes())?;
        *loader = self.loader();
        Ok(())
    }

    fn cannot_go_on(&self, fault: &Fault) -> Error {
        let out = self.run.path().display();
        let way_out = match self.manifest.plan.train.faults.on {
            OnFault::Stop => format!(
                "look at these objects, go on without them (--resume --out {out} --set \
                 train.faults.on=skip)"
            ),
            on => format!(
                "that is fault number {}, more than train.faults.limit allows; look at the objects \
                 in {out}/faults.jsonl{}",
                self.watch.faults(),
                match on {
                    OnFault::RollBack => {
                        ", raise train.faults.passes where the steps before are at fault"
                    }
                    _ => "",
                }
            ),
        };
        Error::Failed(format!(
            "{fault}; {way_out}, or start a new run with a lower train.peak_lr. The model before \
             this step is saved"
        ))
    }
}
