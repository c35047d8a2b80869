//! What one backend has learnt goes on another.

use super::{Check, batch_rows, ensure, model};
use crate::data::{Batch, Purpose};
use crate::engine::{OptimiserState, Session, StateDict, StepSettings};
use crate::model::{Tokeniser, initial_parameters};
use crate::seam::BackendPlugin;

/// A model trained on each of the backends' devices goes to every other backend's bit for bit, with
/// AdamW's state, and goes on there to the same losses but for rounding. Backends without a device
/// are left out.
///
/// # Errors
/// Which two devices disagree, and on what.
pub fn check_exchange(plugins: &[&BackendPlugin]) -> Check {
    let backends: Vec<_> =
        plugins.iter().map(|plugin| (plugin.info.kind, (plugin.build)())).collect();
    let mut devices = Vec::new();
    for (name, backend) in &backends {
        let count = backend.devices().map_or(0, |devices| devices.len());
        devices.extend((0..count).map(|device| (name, backend, device)));
    }
    for (from_name, from, from_device) in &devices {
        for (to_name, to, to_device) in devices.iter().filter(|(name, ..)| name != from_name) {
            let pair = from
                .open(*from_device, &shape())
                .and_then(|from| Ok((from, to.open(*to_device, &shape())?)));
            pair.map_err(|error| error.to_string())
                .and_then(|(mut from, mut to)| exchange(&mut *from, &mut *to))
                .map_err(|wrong| {
                    format!("from {from_name}:{from_device} to {to_name}:{to_device}: {wrong}")
                })?;
        }
    }
    Ok(())
}

fn shape() -> crate::model::ModelConfig {
    model(Tokeniser::Aim)
}

fn state(session: &dyn Session) -> Result<(StateDict, OptimiserState), String> {
    let text = |e: crate::Error| e.to_string();
    Ok((session.parameters().map_err(text)?, session.optimiser().map_err(text)?))
}

fn exchange(from: &mut dyn Session, to: &mut dyn Session) -> Check {
    let text = |e: crate::Error| e.to_string();
    let model = shape();
    let batch =
        Batch::assemble(&batch_rows(), &model.modalities, Purpose::Predict).map_err(text)?;
    from.set_parameters(&initial_parameters(&model, 1)).map_err(text)?;
    let step = |session: &mut dyn Session| {
        session.accumulate(batch.clone(), 1.0)?;
        session.step(&StepSettings::new(1e-3))
    };
    for _ in 0..3 {
        step(from).map_err(text)?;
    }
    let learnt = state(from)?;
    to.set_parameters(&learnt.0).map_err(text)?;
    to.set_optimiser(&learnt.1).map_err(text)?;
    ensure(state(to)? == learnt, || "parameters or moments arrive changed".to_owned())?;
    let (here, there) = (step(from).map_err(text)?, step(to).map_err(text)?);
    let near = |a: f32, b: f32| (a - b).abs() <= 1e-4 * a.abs();
    let same =
        near(here.losses[0].total, there.losses[0].total) && near(here.grad_norm, there.grad_norm);
    ensure(same, || format!("a step reports {here:?} on one and {there:?} on the other"))
}
