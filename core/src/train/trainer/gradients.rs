//! A step's micro-batches, and the sum of their gradients.

use super::Trainer;
use crate::cost::exhausted;
use crate::data::{Batch, Loader};
use crate::error::{Error, Result};
use crate::train::targets::{Targets, are_even};
use crate::train::team::Seen;

impl Trainer<'_> {
    fn next(&self, loader: &mut Loader<Batch>) -> Result<Batch> {
        let ended = || Err(Error::Failed("the data ended before the last step".into()));
        loader.next().unwrap_or_else(ended).map_err(|e| self.exhausted(e))
    }

    /// With what to change, where the device has run out of memory.
    fn exhausted(&self, error: Error) -> Error {
        exhausted(error, &self.manifest.plan.train, self.session.model())
    }

    /// Reads this process's share of a step and adds up its gradients; of a step that is passed
    /// over, only reads.
    pub(super) fn accumulate(&mut self, loader: &mut Loader<Batch>, passed: bool) -> Result<Seen> {
        let plan = &self.manifest.plan;
        let pieces = self.team.pieces(&plan.train);
        let mut seen = Seen::default();
        if passed {
            (0..pieces).try_for_each(|_| self.next(loader).map(drop))?;
        } else if are_even(&self.data, plan) {
            let scale = 1.0 / (plan.train.batch / plan.train.micro_batch) as f32;
            for _ in 0..pieces {
                let batch = self.next(loader)?;
                self.add(batch, scale, &mut seen)?;
            }
        } else {
            // What a target counts depends on how many there are in the step: all of it is read
            // before the first gradient.
            let batches: Result<Vec<Batch>> = (0..pieces).map(|_| self.next(loader)).collect();
            let mut mine = Targets::default();
            batches.iter().flatten().for_each(|batch| mine.add(&Targets::of(batch)));
            let (batches, mine) = match batches {
                Ok(batches) => (batches, Ok(mine)),
                Err(error) => (Vec::new(), Err(error)),
            };
            let all = self.team.targets(mine)?;
            for mut batch in batches {
                all.share_out(&mut batch);
                self.add(batch, 1.0, &mut seen)?;
            }
        }
        seen.uniform = self.watch.seen();
        Ok(seen)
    }

    /// Adds the gradient of a micro-batch, and to `seen` what it holds.
    fn add(&mut self, batch: Batch, scale: f32, seen: &mut Seen) -> Result<()> {
        seen.tokens += batch.parts.values().map(|part| part.inputs.len as u64).sum::<u64>();
        seen.targets.push(Targets::of(&batch));
        seen.ids.push(batch.ids.clone());
        seen.drawn.extend_from_slice(&batch.drawn);
        self.watch.look(&batch);
        self.session.accumulate(batch, scale).map_err(|e| self.exhausted(e))
    }
}
