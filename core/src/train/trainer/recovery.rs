//! Steps that are not taken: what the policy of the plan makes of them.

use std::ops::RangeInclusive;

use super::{Outcome, Trainer};
use crate::data::{Batch, Loader};
use crate::engine::{StepReport, StepSettings};
use crate::error::{Error, Result};
use crate::parallel::agree_with;
use crate::progress;
use crate::recipe::OnFault;
use crate::run::{Saved, TrainState};
use crate::train::faults::{Done, Fault};
use crate::train::watch::Watch;

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
        loss: f64,
        settings: &StepSettings,
        ids: &[Vec<String>],
        loader: &mut Loader<Batch>,
    ) -> Result<Outcome> {
        let step = self.state.step + 1;
        let ruined = self.watch.ruined(&report.losses, settings);
        let passed = self.watch.passes(step, ruined);
        let before = self.before(&passed, ruined)?;
        let (on, done, back) = match (self.watch.decide(), before.clone()) {
            (OnFault::Skip, _) => (OnFault::Skip, Done::Skipped, None),
            (OnFault::RollBack, Some(saved)) => (OnFault::RollBack, Done::RolledBack, Some(saved)),
            _ => (OnFault::Stop, Done::Stopped, None),
        };
        let fault = Fault {
            ruined,
            back_to: back.as_ref().map(|saved| saved.step),
            passed_from: back.as_ref().map(|_| *passed.start()),
            ..Fault::of(step, report, loss, settings, ids, done)
        };
        self.watch.write(&fault)?;
        match (on, back) {
            (OnFault::Skip, _) => {
                progress::warn(&format!("{fault}: skipped"));
                self.pass_over()
            }
            (OnFault::RollBack, Some(saved)) => {
                self.go_back(&saved, passed.clone(), loader)?;
                let (back, first) = (saved.step, passed.start());
                progress::warn(&match *first < step {
                    true => {
                        format!("{fault}: back to step {back}, without steps {first} to {step}")
                    }
                    false => format!("{fault}: back to step {back}"),
                });
                Ok(Outcome::RolledBack)
            }
            _ => {
                self.save_between()?;
                let way_out = self.way_out(&fault, report.losses.len(), before.as_ref());
                Err(self.team.of_all(Error::Failed(format!("{fault}; {way_out}"))))
            }
        }
    }

    /// The last model from before the steps that are `passed` over: a checkpoint, or else the best.
    /// Where the model was `ruined` one that has not helped of late is no choice.
    fn before(&self, passed: &RangeInclusive<u64>, ruined: bool) -> Result<Option<Saved>> {
        let (first, step) = (*passed.start(), *passed.end());
        let fits = |saved: &Saved| {
            saved.step < first && !(ruined && self.watch.is_spent(saved.step, step))
        };
        let last = self.run.checkpoints()?.into_iter().rfind(fits);
        Ok(match last {
            Some(saved) => Some(saved),
            None => self.run.best()?.filter(fits),
        })
    }

    /// Goes on from `saved` as a resumed run would, and will pass over the steps `passed`.
    fn go_back(
        &mut self,
        saved: &Saved,
        passed: RangeInclusive<u64>,
        loader: &mut Loader<Batch>,
    ) -> Result<()> {
        let mut all = std::mem::take(&mut self.state.passed);
        all.extend(passed);
        all.sort_unstable();
        all.dedup();
        self.state = TrainState { passed: all, ..saved.restore(self.session)? };
        // All have looked before one of them deletes.
        let (best, []) = agree_with(self.team.ranks(), self.run.best(), [])?;
        let later = best.is_some_and(|best| best.step > saved.step);
        // Before the lines that lead to them are cut off.
        self.team.write(|| self.run.back_to(saved))?;
        if later {
            (self.state.best_loss, self.state.best_step) = (None, None);
        }
        if let Some(lines) = &mut self.lines {
            lines.back_to(self.run.path(), &self.state)?;
        }
        let policy = &self.manifest.plan.train.faults;
        self.watch = Watch::open(self.run.path(), policy, &self.state, self.team.writes())?;
        *loader = self.loader()?;
        Ok(())
    }

    /// What can be done where a run stops at `fault`, of a step of so many micro-batches; `before`
    /// is the model that it could go back to.
    fn way_out(&self, fault: &Fault, micro_batches: usize, before: Option<&Saved>) -> String {
        let out = self.run.path().display();
        let policy = &self.manifest.plan.train.faults;
        let mut said = Vec::new();
        if policy.on != OnFault::Stop && self.watch.faults() > policy.limit {
            said.push(format!(
                "that is fault number {}, more than train.faults.limit allows (all are in \
                 {out}/faults.jsonl)",
                self.watch.faults()
            ));
        }
        if fault.ruined {
            let last = self.watch.last_taken();
            said.push(match micro_batches {
                1 => format!("the update of step {last} has ruined the model, or these objects are at fault"),
                all => format!(
                    "none of its {all} micro-batches has a sound loss: the update of step {last} has \
                     ruined the model, not these objects"
                ),
            });
            said.push(match before {
                Some(saved) if policy.on == OnFault::RollBack => format!(
                    "the last model from before is {}; going back has not helped",
                    saved.path.display()
                ),
                Some(saved) => format!(
                    "the last model from before is {}: go back to it, and leave these steps out, with \
                     --resume --out {out} --set train.faults.on=roll-back",
                    saved.path.display()
                ),
                None => format!(
                    "no model from before is left to go back to that has not been tried; what \
                     {out}/checkpoints holds can be embedded with --checkpoint STEP or best"
                ),
            });
            said.push("a new run needs a lower train.peak_lr, or more train.warmup_steps".into());
            return said.join("; ");
        }
        if policy.on == OnFault::Stop {
            said.push(format!(
                "look at these objects, go on without them (--resume --out {out} --set \
                 train.faults.on=skip)"
            ));
        } else {
            said.push("look at the objects".into());
        }
        format!(
            "{}, or start a new run with a lower train.peak_lr. The model before this step is saved",
            said.join("; ")
        )
    }

    /// No step after the last shows whether that has ruined the model: the `loss` of its
    /// validation does.
    ///
    /// # Errors
    /// When it is above the limit of losses.
    pub(super) fn last_is_sound(&self, loss: f64) -> Result<()> {
        let step = self.state.step;
        match self.watch.loss_limit() {
            Some(limit) if loss > limit && step == self.manifest.plan.train.steps => {
                Err(self.not_evaluated(Error::Failed(format!(
                    "the validation loss after the last step, {step}, is {loss}, above the limit of \
                     {limit} (train.faults.loss_above): that step has ruined the model; a new run \
                     needs a lower learning rate at its end"
                ))))
            }
            _ => Ok(()),
        }
    }
}
