//! `[train.faults]`: what is done about a step whose numbers are wrong.

use serde::{Deserialize, Serialize};

/// `[train.faults]`: what is done about a step whose loss or gradient is not finite or explodes,
/// and about objects that say nothing. Such a step is never taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultPolicy {
    /// `stop`, `skip` the step, or `roll-back` to the last checkpoint.
    pub on: OnFault,
    /// A loss explodes when a micro-batch has more than so many times the loss of the first step,
    /// which is that of the untrained model; 0: never.
    pub loss_above: f64,
    /// A gradient explodes when its norm is more than so many times the median of the last
    /// `window` steps taken; 0: never.
    pub norm_above: f64,
    /// Steps that the median is of, at most; from the second step on there is one.
    pub window: usize,
    /// Faults after which the run stops all the same.
    pub limit: u64,
    /// Steps that are passed over after a roll-back: the faulty one and those just before it. A
    /// step before it that ruined the model is passed over in any case.
    pub passes: u64,
    /// Objects whose tokens are all the same number, such as blank images, and images of which a
    /// band is: `reject` lists them in rejected.csv, `keep` reads them as any other.
    pub dead: DeadInputs,
}

/// What is done about a faulty step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFault {
    /// The run saves what it was before the step, and ends.
    #[default]
    Stop,
    /// The run goes on with the next step, and what it was before this one.
    Skip,
    /// The run goes back to its last checkpoint and passes the step over when it comes again.
    RollBack,
}

/// What is done about an object whose tokens are all the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeadInputs {
    /// It cannot be used.
    #[default]
    Reject,
    /// It is used.
    Keep,
}

impl Default for FaultPolicy {
    fn default() -> Self {
        Self {
            on: OnFault::Stop,
            loss_above: 100.0,
            norm_above: 1000.0,
            window: 100,
            limit: 10,
            passes: 1,
            dead: DeadInputs::Reject,
        }
    }
}

/// Most steps that a median may be of.
const MAX_WINDOW: usize = 100_000;

impl FaultPolicy {
    /// Checks that the numbers can be.
    ///
    /// # Errors
    /// The key and why its value cannot be.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        for (key, above) in [("loss_above", self.loss_above), ("norm_above", self.norm_above)] {
            if !(above == 0.0 || (above > 1.0 && above.is_finite())) {
                return Err((key, format!("is {above}; it must be above 1, or 0 for never")));
            }
        }
        if !(1..=MAX_WINDOW).contains(&self.window) {
            let message = format!("is {}; 1 to {MAX_WINDOW} are possible", self.window);
            return Err(("window", message));
        }
        if self.passes == 0 {
            return Err(("passes", "must be at least 1, the faulty step itself".into()));
        }
        Ok(())
    }
}
