//! Gradients summed over processes.

use super::super::ranks::threads;
use super::{Check, batch_rows, ensure};
use crate::data::{Batch, Purpose};
use crate::engine::{StateDict, StepSettings};
use crate::model::ModelConfig;
use crate::seam::Backend;

/// Two processes with an object each, one of which lacks a modality, have the same gradients to
/// the bit, and those of one process with both objects within rounding.
pub(super) fn check(
    backend: &dyn Backend,
    device: usize,
    model: &ModelConfig,
    start: &StateDict,
) -> Check {
    let text = |e: crate::Error| e.to_string();
    let batch = |object: usize| {
        let rows = &batch_rows()[object..=object];
        Batch::assemble(rows, &model.modalities, Purpose::Predict).map_err(text)
    };
    let open = || {
        let mut session = backend.open(device, model).map_err(text)?;
        session.set_parameters(start).map_err(text)?;
        Ok::<_, String>(session)
    };
    let mut whole = open()?;
    for object in 0..2 {
        whole.accumulate(batch(object)?, 0.5).map_err(text)?;
    }
    let whole = whole.gradients().map_err(text)?;
    // Opened before they meet, so that none waits for another that failed.
    let sessions = [open()?, open()?].map(|session| std::sync::Mutex::new(Some(session)));
    let sums = threads(2, |ranks| {
        let taken = sessions[ranks.rank()].lock().ok().and_then(|mut session| session.take());
        let mut session = taken.ok_or("a session that was taken twice")?;
        let accumulated =
            batch(ranks.rank()).and_then(|batch| session.accumulate(batch, 0.5).map_err(text));
        let summed = session.sum_gradients(ranks, &StepSettings::new(1e-3)).map_err(text);
        accumulated.and(summed)?;
        session.gradients().map_err(text)
    });
    let sums = sums.into_iter().collect::<Result<Vec<StateDict>, String>>()?;
    ensure(sums[0] == sums[1], || "two processes have different sums of their gradients".into())?;
    for (name, sum) in &sums[0] {
        let none = Vec::new();
        let expected = whole.get(name).map_or(&none, |gradient| &gradient.data);
        let largest = expected.iter().fold(0.0f32, |most, g| most.max(g.abs()));
        let expected = expected.iter().copied().chain(std::iter::repeat(0.0));
        let off =
            sum.data.iter().zip(expected).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        ensure(off <= 1e-5 * largest, || {
            format!("summed over two processes the gradient of {name} is off by {off} of {largest}")
        })?;
    }
    ensure(whole.keys().all(|name| sums[0].contains_key(name)), || "a sum is missing".into())
}
