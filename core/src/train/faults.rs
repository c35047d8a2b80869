//! Steps whose numbers are wrong, as they are written down.

use serde::{Deserialize, Serialize};

use crate::engine::{Losses, StepReport, StepSettings};

/// File of [`Fault`] lines; there is none where nothing was wrong.
pub const FAULTS: &str = "faults.jsonl";

/// Ids that a message names.
const SHOWN: usize = 5;

/// One line of `faults.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// The step that was about to be taken, counted from 1.
    pub step: u64,
    /// What is wrong with it.
    pub what: String,
    /// What was done about it.
    pub done: Done,
    /// Loss of the step, where it is finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Global norm of its gradient, where that is finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    /// The modality that says nothing, where it is that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modality: Option<String>,
    /// Whether no loss of the step was sound, so that the step before it has ruined the model.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ruined: bool,
    /// The step of the checkpoint that the run went back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to: Option<u64>,
    /// The first of the steps, up to this one, that are passed over then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_from: Option<u64>,
    /// Ids of the objects: of the micro-batches whose loss is not sound, else of the step.
    pub ids: Vec<String>,
}

/// What was done about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Done {
    /// The run ended.
    Stopped,
    /// The step was left out.
    Skipped,
    /// The run went back to a checkpoint from before.
    RolledBack,
    /// It was only said.
    Reported,
}

impl Fault {
    /// What is wrong with a step of this loss that was not taken on the objects `ids`, by
    /// micro-batch.
    pub(crate) fn of(
        step: u64,
        report: &StepReport,
        loss: f64,
        settings: &StepSettings,
        ids: &[Vec<String>],
        done: Done,
    ) -> Self {
        let grad_norm = f64::from(report.grad_norm);
        let bad = report.losses.iter().zip(ids).filter(|(one, _)| !settings.bears(one.total));
        let (bad, blamed): (Vec<&Losses>, Vec<_>) = bad.unzip();
        let mut blamed: Vec<String> = blamed.into_iter().flatten().cloned().collect();
        if blamed.is_empty() {
            blamed = ids.concat();
        }
        let largest = bad.iter().fold(0.0, |most, one| f32::max(most, one.total));
        let what = match (settings.loss_limit, settings.norm_limit) {
            (Some(limit), _) if loss.is_finite() && !bad.is_empty() => format!(
                "the loss of {} of {} micro-batches is above the limit of {limit} \
                 (train.faults.loss_above), up to {largest}",
                bad.len(),
                report.losses.len()
            ),
            (_, Some(limit)) if loss.is_finite() && grad_norm.is_finite() => format!(
                "the gradient's norm is {grad_norm}, above the limit of {limit} \
                 (train.faults.norm_above)"
            ),
            _ => format!("the loss is {loss} and the gradient's norm {grad_norm}"),
        };
        let finite = |number: f64| Some(number).filter(|number| number.is_finite());
        Self {
            step,
            what,
            done,
            loss: finite(loss),
            grad_norm: finite(grad_norm),
            modality: None,
            ruined: false,
            back_to: None,
            passed_from: None,
            ids: blamed,
        }
    }

    /// The steps on which nothing may have been trained for it, where the recipe says how many a
    /// roll-back `passes` over.
    pub(crate) fn passed(&self, passes: u64) -> std::ops::RangeInclusive<u64> {
        let stated = self.step.saturating_sub(passes.saturating_sub(1));
        self.passed_from.unwrap_or(stated)..=self.step
    }
}

/// The first of `ids`, and how many more there are.
pub(crate) fn listed(ids: &[String]) -> String {
    let first = ids.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match ids.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at step {} {}, on objects {}", self.step, self.what, listed(&self.ids))
    }
}
