//! The recorded training: first gradients, losses, gradient norms, final weights and the
//! optimiser's final state.

use std::collections::BTreeSet;

use super::case::{Case, Schedule, Weights};
use super::compare::Ledger;
use super::forward::TOLERANCE;
use crate::checkpoint::python::Layout;
use crate::engine::{HostTensor, Session, StateDict, StepReport, StepSettings};
use crate::error::Result;

/// What final weights may differ by, in units of each tensor's largest magnitude: twelve
/// steps add up.
const FINAL_TOLERANCE: f64 = 5e-5;
const GRADIENTS: &str = "grad0_clipped.";
const AFTER: &str = "after.";
const LOSSES: &str = "train.losses";
const NORMS: &str = "train.grad_norms";

/// Repeats the training and compares what is recorded of it.
pub(crate) fn replay(
    case: &Case,
    weights: &Weights,
    session: &mut dyn Session,
    ledger: &mut Ledger<'_>,
) -> Result<()> {
    let Some(schedule) = case.schedule else {
        // What is recorded of a training then remains in the ledger as not understood.
        if !case.model.mask_token {
            ledger.problem("schedule", "not in case.json, so the training was not compared");
        }
        return Ok(());
    };
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for it in 0..schedule.steps {
        let gradients = accumulate(case, &schedule, it, session)?;
        let report = session.step(&settings(&schedule, it))?;
        losses.push(recorded_loss(&report));
        norms.push(report.grad_norm);
        if it == 0 {
            let clipped = clip(gradients, report.grad_norm, schedule.clip as f32);
            compare_all(GRADIENTS, &clipped, TOLERANCE, ledger);
        }
    }
    for (name, data) in [(LOSSES, losses), (NORMS, norms)] {
        ledger.must_have(&[name.to_owned()]);
        if let Some(theirs) = ledger.take(name) {
            let ours = HostTensor { shape: vec![data.len()], data };
            ledger.compare(name, &ours, theirs, TOLERANCE);
        }
    }
    compare_all(AFTER, &session.parameters()?, FINAL_TOLERANCE, ledger);
    optimiser(weights, &schedule, session, ledger)
}

/// Accumulates the gradient of step `it`; of the first step it is returned.
fn accumulate(
    case: &Case,
    schedule: &Schedule,
    it: u32,
    session: &mut dyn Session,
) -> Result<StateDict> {
    for micro in 0..schedule.accum {
        let k = (it as usize * schedule.accum as usize + micro as usize) % case.batches();
        session.accumulate(case.batch(k)?, 1.0 / schedule.accum as f32)?;
    }
    if it == 0 { session.gradients() } else { Ok(StateDict::new()) }
}

fn settings(schedule: &Schedule, it: u32) -> StepSettings {
    let (weight_decay, clip) = (schedule.wd, schedule.clip);
    StepSettings { weight_decay, clip, ..StepSettings::new(schedule.lr(it)) }
}

fn recorded_loss(report: &StepReport) -> f32 {
    let sum: f64 = report.losses.iter().map(|loss| f64::from(loss.total)).sum();
    (sum / report.losses.len().max(1) as f64) as f32
}

/// As the optimiser step does it, PyTorch's rule.
fn clip(mut gradients: StateDict, norm: f32, limit: f32) -> StateDict {
    let factor = if limit > 0.0 { (limit / (norm + 1e-6)).min(1.0) } else { 1.0 };
    let numbers = gradients.values_mut().flat_map(|tensor| &mut tensor.data);
    numbers.for_each(|x| *x *= factor);
    gradients
}

/// Compares every array recorded under `prefix`, in the case's own names, with ours, of which none
/// may be missing there.
fn compare_all(prefix: &str, ours: &StateDict, tolerance: f64, ledger: &mut Ledger<'_>) {
    let names = ledger.under(prefix);
    let layout = Layout::detect(names.iter().copied()).unwrap_or(Layout::V3);
    let recorded: BTreeSet<String> = names.iter().map(|name| layout.our_name(name)).collect();
    for name in ours.keys().filter(|name| !recorded.contains(*name)) {
        ledger.must_have(&[format!("{prefix}{name}")]);
    }
    for name in names {
        let quantity = format!("{prefix}{name}");
        let Some(theirs) = ledger.take(&quantity) else { continue };
        match ours.get(&layout.our_name(name)) {
            Some(ours) => ledger.compare(&quantity, ours, theirs, tolerance),
            None => ledger.problem(&quantity, "the model has no such parameter"),
        }
    }
}

/// Compares the optimiser's state with the one in the checkpoint, if it carries one.
fn optimiser(
    weights: &Weights,
    schedule: &Schedule,
    session: &dyn Session,
    ledger: &mut Ledger<'_>,
) -> Result<()> {
    let Some(theirs) = &weights.optimiser else { return Ok(()) };
    if theirs.steps != u64::from(schedule.steps) {
        let problem = format!(
            "the checkpoint's took {} steps, the recorded training {}",
            theirs.steps, schedule.steps
        );
        ledger.problem("optimiser", problem);
        return Ok(());
    }
    let ours = session.optimiser()?;
    let moments = [
        ("exp_avg", &ours.moment1, &theirs.moment1),
        ("exp_avg_sq", &ours.moment2, &theirs.moment2),
    ];
    for (key, ours, theirs) in moments {
        for (name, theirs) in theirs {
            let quantity = format!("optimiser.{key}.{name}");
            match ours.get(name) {
                Some(ours) => ledger.compare(&quantity, ours, theirs, FINAL_TOLERANCE),
                None => ledger.problem(&quantity, "the session keeps no such moment"),
            }
        }
    }
    Ok(())
}
