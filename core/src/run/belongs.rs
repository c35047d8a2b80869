//! What ties a checkpoint to the run in whose folder it lies: the plan it was trained by, and the
//! losses that led to it.

use super::folder::RunFolder;
use super::saved::{Saved, plan_of};
use crate::checkpoint::tensors::describe_tensors;
use crate::engine::StateDict;
use crate::error::{Error, Result};
use crate::recipe::{Plan, other_training};
use crate::train::{METRICS, digest_until, not_as_led, validation_at};

/// How far apart losses of one step may be from one device to another, as a share.
const ROUNDING: f64 = 1e-4;

impl Saved {
    /// Checks that this is a checkpoint of the training by the manifest's plan `by`, whose losses
    /// are in the folder `run`. Losses that are gone say nothing; of a best model, which may be of
    /// steps that a resumed run has yet to take again, it is its own loss that is compared.
    ///
    /// # Errors
    /// With what it has otherwise.
    pub(crate) fn is_of(&self, run: &RunFolder, by: &Plan) -> Result<()> {
        let wrong = |what: String| {
            let message = format!(
                "is of another training than {} describes: {what}; bring back the run's own \
                 checkpoint and manifest, or import this one as a run of its own",
                run.path().display()
            );
            Err(Error::file(&self.path, message))
        };
        let file = self.model_file();
        let (_, metadata) = describe_tensors(&file)?;
        let plan = plan_of(&file, &metadata)?;
        let places = ["in the checkpoint", "in manifest.json"];
        if let Some(different) = other_training(&plan, by, places).into_iter().next() {
            return wrong(different);
        }
        let state = self.state()?;
        let metrics = run.file(METRICS);
        if self.is_best() {
            // The lines until then may be due again, with other rounding on another device.
            let told = validation_at(&metrics, state.step)?.zip(state.best_loss);
            return match told {
                Some((told, own)) if (told - own).abs() > ROUNDING * told.abs() => wrong(format!(
                    "its validation loss is {own}, and {METRICS} has {told} after step {}",
                    state.step
                )),
                _ => Ok(()),
            };
        }
        let Some(stated) = state.metrics else { return Ok(()) };
        match digest_until(&metrics, state.step)? {
            Some(found) if found != stated => Err(not_as_led(&metrics, state.step)),
            _ => Ok(()),
        }
    }
}

impl RunFolder {
    /// The model of the checkpoint `saved` of this run by `by`, as [`load_model`](super::load_model).
    ///
    /// # Errors
    /// As there, and when the checkpoint is [another run's](Saved::is_of).
    pub(crate) fn load_model(&self, saved: &Saved, by: &Plan) -> Result<(Plan, StateDict, u64)> {
        saved.is_of(self, by)?;
        super::load_model(&saved.path)
    }
}
