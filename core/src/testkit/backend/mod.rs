//! The behaviour suite of backends: a small model is opened, moved in and out, evaluated,
//! differentiated and stepped, and every answer is held against another.

mod exchange;
mod generating;
mod ranks;
mod reference;
mod streams;
mod uploads;

use std::collections::BTreeMap;

pub use exchange::check_exchange;
pub use reference::{
    ReferencePlatform, check_platform, check_platform_against, check_platform_rounded,
};

use super::{Check, calm, ensure};
use crate::data::{Batch, Purpose, Row};
use crate::engine::{HostTensor, Layer, Precision, Session, StateDict, StepSettings};
use crate::model::{ModelConfig, Tokeniser, initial_parameters};
use crate::seam::{Backend, BackendPlugin};
use crate::tokens::{Positions, TokenSpec, Tokens, Values};

/// Step of the difference quotient along a random direction of unit length.
const NUDGE: f32 = 5e-4;
/// Largest disagreement between gradient and difference quotient, relative to the former:
/// the loss is in single precision.
const SLOPE_TOLERANCE: f32 = 2e-2;

/// Largest share that bf16, which has eight bits, may move a gradient or a loss by.
const BF16_TOLERANCE: f32 = 2e-2;

/// Checks a backend whole, on every device that it finds. One that finds none must say why; the rest
/// is then left out.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_plugin(plugin: &BackendPlugin) -> Check {
    let name = plugin.info.kind;
    let backend = calm(name, plugin.build)?;
    match calm(name, || backend.devices())? {
        Err(error) => {
            ensure(!error.to_string().is_empty(), || format!("{name}: no device and no reason"))
        }
        Ok(devices) => {
            ensure(!devices.is_empty(), || format!("{name}: no device must be an error"))?;
            for device in 0..devices.len() {
                for tokeniser in [Tokeniser::Paper, Tokeniser::Aim, Tokeniser::Affine] {
                    check_model(backend.as_ref(), device, &model(tokeniser))
                        .map_err(|wrong| format!("{name}:{device}, {tokeniser:?}: {wrong}"))?;
                }
            }
            Ok(())
        }
    }
}

/// Two modalities, continuous values and codes, so that spans are gathered.
fn model(tokeniser: Tokeniser) -> ModelConfig {
    let spec = |values, positions| TokenSpec { values, positions, loss_weight: 0.7, max_tokens: 9 };
    let image = spec(Values::Continuous { width: 6 }, Positions::Index { max: 9 });
    let codes = spec(Values::Codes { vocabulary: 5 }, Positions::Continuous { width: 2 });
    ModelConfig {
        layers: 2,
        heads: 2,
        width: 16,
        tokeniser,
        modalities: BTreeMap::from([("codes".into(), codes), ("image".into(), image)]),
        mask_token: true,
        delimiters: true,
    }
}

/// Objects of unequal length; the second lacks a modality.
fn batch_rows() -> [(String, Row); 2] {
    let noise =
        |n: usize, at: f32| -> Vec<f32> { (0..n).map(|k| (at + 1.7 * k as f32).sin()).collect() };
    let image = |len: usize| Tokens {
        len,
        values: noise(6 * len, 0.3).into(),
        indices: (0..len as u32).collect(),
        ..Tokens::default()
    };
    let codes =
        Tokens { len: 3, codes: vec![4, 0, 2], positions: noise(6, 0.9), ..Tokens::default() };
    [
        ("both".into(), vec![("image".into(), image(9)), ("codes".into(), codes)]),
        ("image only".into(), vec![("image".into(), image(5))]),
    ]
}

fn check_model(backend: &dyn Backend, device: usize, model: &ModelConfig) -> Check {
    let open = || backend.open(device, model).map_err(|e| e.to_string());
    let mut session = open()?;
    let batch = Batch::assemble(&batch_rows(), &model.modalities, Purpose::Predict)
        .map_err(|e| e.to_string())?;
    let start = initial_parameters(model, 1);
    check_parameters(session.as_mut(), &start)?;
    check_gradient(session.as_mut(), &batch, &start)?;
    check_precision(session.as_mut(), &batch, backend.precisions())?;
    check_states(session.as_mut(), &batch)?;
    check_reading(session.as_mut(), model)?;
    streams::check(session.as_mut(), model, &start)?;
    generating::check(session.as_mut(), model)?;
    uploads::check(session.as_mut(), model, &start)?;
    ranks::check(backend, device, model, &start)?;
    session.set_parameters(&start).map_err(|e| e.to_string())?;
    let once = check_steps(session.as_mut(), &batch)?;

    let mut other = open()?;
    other.set_parameters(&start).map_err(|e| e.to_string())?;
    let again = check_steps(other.as_mut(), &batch)?;
    ensure(once == again, || "the same steps give other parameters the second time".into())
}

/// Parameters go in and come out unchanged; what does not fit is refused and changes nothing.
fn check_parameters(session: &mut dyn Session, start: &StateDict) -> Check {
    session.set_parameters(start).map_err(|e| e.to_string())?;
    let mut missing = start.clone();
    let (name, tensor) = missing.pop_first().ok_or("a model without parameters")?;
    let mut unknown = start.clone();
    unknown.insert("no such parameter".into(), tensor.clone());
    let mut reshaped = start.clone();
    reshaped.entry(name).and_modify(|t| t.shape.push(1));
    for (what, wrong) in [("missing", missing), ("unknown", unknown), ("reshaped", reshaped)] {
        let refused = session.set_parameters(&wrong).is_err();
        ensure(refused, || format!("a {what} parameter is not refused"))?;
    }
    let back = session.parameters().map_err(|e| e.to_string())?;
    ensure(&back == start, || "parameters do not come out as they went in".into())
}

/// The gradient agrees with a difference quotient of the loss; two halves make a whole.
fn check_gradient(session: &mut dyn Session, batch: &Batch, start: &StateDict) -> Check {
    let text = |e: crate::Error| e.to_string();
    ensure(session.step(&StepSettings::new(0.0)).is_err(), || {
        "a step without a gradient is taken".into()
    })?;
    let loss = session.evaluate(batch).map_err(text)?;
    session.accumulate(batch.clone(), 0.5).map_err(text)?;
    session.accumulate(batch.clone(), 0.5).map_err(text)?;
    let gradient = session.gradients().map_err(text)?;
    check_recompute(session, batch, &gradient)?;
    let norm = gradient.values().flat_map(|t| &t.data).map(|g| g * g).sum::<f32>().sqrt();

    // Along the gradient itself the slope is its norm.
    let mut losses = [0.0; 2];
    for (side, sign) in [(0, -1.0), (1, 1.0)] {
        let mut moved = start.clone();
        // What took no part, such as the mask token, has no gradient.
        for (name, gradient) in &gradient {
            let tensor = moved.get_mut(name).ok_or("a gradient of no parameter")?;
            for (value, g) in tensor.data.iter_mut().zip(&gradient.data) {
                *value += sign * NUDGE * g / norm;
            }
        }
        session.set_parameters(&moved).map_err(text)?;
        losses[side] = session.evaluate(batch).map_err(text)?.total;
    }
    let slope = (losses[1] - losses[0]) / (2.0 * NUDGE);
    ensure((slope - norm).abs() <= SLOPE_TOLERANCE * norm, || {
        format!("the loss rises by {slope} along a gradient of norm {norm}")
    })?;

    session.set_parameters(start).map_err(text)?;
    let report = session.step(&StepSettings::new(0.0)).map_err(text)?;
    let close = (report.grad_norm - norm).abs() <= 1e-4 * norm;
    ensure(close, || format!("a step reports a norm of {}, not {norm}", report.grad_norm))?;
    let same = report.losses.iter().all(|l| (l.total - loss.total).abs() <= 1e-5 * loss.total);
    ensure(report.losses.len() == 4 && same, || {
        format!("training reports {:?}, evaluation {loss:?}", report.losses)
    })?;
    let unmoved = session.parameters().map_err(text)? == *start;
    ensure(unmoved, || "a learning rate of zero moves the parameters".into())?;
    let fresh = crate::engine::OptimiserState::default();
    session.set_optimiser(&fresh).map_err(text)
}

/// Running blocks again in backward changes no gradient beyond rounding. Leaves the session
/// with the gradient it came with.
fn check_recompute(session: &mut dyn Session, batch: &Batch, gradient: &StateDict) -> Check {
    let text = |e: crate::Error| e.to_string();
    session.set_recompute(true);
    session.accumulate(batch.clone(), -1.0).map_err(text)?;
    let left = session.gradients().map_err(text)?;
    session.set_recompute(false);
    session.accumulate(batch.clone(), 1.0).map_err(text)?;
    let largest = |t: &HostTensor| t.data.iter().fold(0.0f32, |most, g| most.max(g.abs()));
    for (name, rest) in &left {
        let (rest, whole) = (largest(rest), largest(&gradient[name]));
        ensure(rest <= 1e-5 * whole.max(1e-6), || {
            format!("recomputing moves the gradient of {name} by {rest} of {whole}")
        })?;
    }
    Ok(())
}

/// Training in bf16 is refused, or rounds: gradients move a little, and are what they were when
/// it is over. Leaves a session without a gradient.
fn check_precision(session: &mut dyn Session, batch: &Batch, known: &[Precision]) -> Check {
    let text = |e: crate::Error| e.to_string();
    ensure(known.contains(&Precision::F32), || "a backend that does not know f32".into())?;
    if !known.contains(&Precision::Bf16) {
        let refused = session.set_precision(Precision::Bf16).is_err();
        return ensure(refused, || "bf16 is taken, which the backend does not know".into());
    }
    let norm = |gradient: &StateDict| {
        gradient.values().flat_map(|t| &t.data).map(|g| g * g).sum::<f32>().sqrt()
    };
    session.accumulate(batch.clone(), 1.0).map_err(text)?;
    let whole = norm(&session.gradients().map_err(text)?);
    session.set_precision(Precision::Bf16).map_err(text)?;
    session.accumulate(batch.clone(), -1.0).map_err(text)?;
    let rest = norm(&session.gradients().map_err(text)?);
    ensure(rest > 1e-5 * whole, || "bf16 rounds nothing".into())?;
    ensure(rest <= BF16_TOLERANCE * whole, || {
        format!("bf16 moves a gradient of norm {whole} by {rest}")
    })?;
    session.set_precision(Precision::F32).map_err(text)?;
    let report = session.step(&StepSettings::new(0.0)).map_err(text)?;
    let (exact, rounded) = (report.losses[0].total, report.losses[1].total);
    ensure((exact - rounded).abs() <= BF16_TOLERANCE * exact, || {
        format!("the loss is {exact} in f32 and {rounded} in bf16")
    })?;
    session.set_optimiser(&crate::engine::OptimiserState::default()).map_err(text)
}

/// Hidden states and predictions have the shapes they promise.
fn check_states(session: &mut dyn Session, batch: &Batch) -> Check {
    let text = |e: crate::Error| e.to_string();
    let width = session.model().width;
    let states = |session: &mut dyn Session, layer| session.hidden(batch, layer).map_err(text);
    let middle = states(session, Layer::Block(0))?;
    let last = states(session, Layer::Block(1))?;
    let normal = states(session, Layer::Final)?;
    for found in [&middle, &last, &normal] {
        let right = found.shape == [batch.rows, batch.len, width]
            && found.data.len() == batch.rows * batch.len * width;
        ensure(right, || format!("hidden states of shape {:?}", found.shape))?;
    }
    ensure(middle != last && last != normal, || "layers do not differ".into())?;
    let outputs = session.predict(batch).map_err(text)?;
    for (name, part) in &batch.parts {
        let rows = outputs.get(name).and_then(|y| y.shape.first().copied());
        ensure(rows == Some(part.targets), || format!("{rows:?} predictions of {name}"))?;
    }
    Ok(())
}

/// Rows read piece by piece predict what they predict when read whole.
fn check_reading(session: &mut dyn Session, model: &ModelConfig) -> Check {
    let text = |e: crate::Error| e.to_string();
    const LEN: usize = 8;
    let span = |from: usize, to: usize| Tokens {
        len: to - from,
        values: (6 * from..6 * to).map(|k| (0.4 + 1.3 * k as f32).cos()).collect(),
        indices: (from as u32..to as u32).collect(),
        ..Tokens::default()
    };
    let batch = |tokens: Tokens, purpose| {
        let rows: [(String, Row); 1] = [("row".into(), vec![("image".into(), tokens)])];
        Batch::assemble(&rows, &model.modalities, purpose).map_err(text)
    };
    let whole = session.predict(&batch(span(0, LEN), Purpose::Predict)?).map_err(text)?;
    let whole = whole.get("image").ok_or("no prediction")?;
    let largest = whole.data.iter().fold(0.0f32, |most, y| most.max(y.abs()));
    session.forget();
    ensure(session.predict_next("image").is_err(), || "nothing read, yet a prediction".into())?;
    for (from, to) in [(0, 3), (3, 4), (4, 6), (6, 7)] {
        session.read(&batch(span(from, to), Purpose::Read)?).map_err(text)?;
        let next = session.predict_next("image").map_err(text)?.data;
        let expected = &whole.data[6 * (to - 1)..6 * to];
        let off = next.iter().zip(expected).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        ensure(off <= 1e-5 * largest, || {
            format!("after {to} tokens, read piece by piece, the prediction is off by {off}")
        })?;
    }
    session.forget();
    Ok(())
}

/// Steps lower the loss, and go on alike from a state that was taken out and put back.
fn check_steps(session: &mut dyn Session, batch: &Batch) -> Result<StateDict, String> {
    let text = |e: crate::Error| e.to_string();
    let before = session.evaluate(batch).map_err(text)?.total;
    let step = |session: &mut dyn Session| -> Check {
        session.accumulate(batch.clone(), 1.0).map_err(text)?;
        session.step(&StepSettings::new(1e-3)).map(drop).map_err(text)
    };
    for _ in 0..5 {
        step(session)?;
    }
    let (parameters, optimiser) =
        (session.parameters().map_err(text)?, session.optimiser().map_err(text)?);
    ensure(optimiser.steps == 5, || format!("{} steps counted of 5", optimiser.steps))?;
    step(session)?;
    let after = session.parameters().map_err(text)?;
    session.set_parameters(&parameters).map_err(text)?;
    session.set_optimiser(&optimiser).map_err(text)?;
    step(session)?;
    let resumed = session.parameters().map_err(text)? == after;
    ensure(resumed, || "a state put back does not go on alike".into())?;
    check_refusal(session, batch)?;
    let loss = session.evaluate(batch).map_err(text)?.total;
    ensure(loss < before, || format!("six steps take the loss from {before} to {loss}"))?;
    Ok(after)
}

/// A step with too large a gradient or loss, or with numbers that are not finite, changes nothing and
/// leaves nothing behind.
fn check_refusal(session: &mut dyn Session, batch: &Batch) -> Check {
    let text = |e: crate::Error| e.to_string();
    let state = |session: &dyn Session| -> Result<_, String> {
        Ok((session.parameters().map_err(text)?, session.optimiser().map_err(text)?))
    };
    let before = state(session)?;
    let mut endless = batch.clone();
    let image = endless.parts.get_mut("image").ok_or("a batch without images")?;
    // Where targets are the inputs one token on, those of the last inputs alone stand apart.
    for numbers in [&mut image.target_values, &mut image.lasts] {
        let mut all = std::mem::take(numbers).into_vec();
        all.iter_mut().take(1).for_each(|first| *first = f32::INFINITY);
        *numbers = all.into();
    }
    let all = StepSettings::new(1e-3);
    let small = StepSettings { norm_limit: Some(0.0), ..all };
    let low = StepSettings { loss_limit: Some(0.0), ..all };
    for (batch, settings) in [(batch, small), (batch, low), (&endless, all)] {
        session.accumulate(batch.clone(), 1.0).map_err(text)?;
        let report = session.step(&settings).map_err(text)?;
        ensure(!report.taken, || format!("a step is taken that must not be: {report:?}"))?;
        ensure(state(session)? == before, || "a step that is not taken changes the model".into())?;
        ensure(session.step(&all).is_err(), || "its gradient is not forgotten".into())?;
    }
    session.accumulate(batch.clone(), 1.0).map_err(text)?;
    let report = session.step(&StepSettings::new(0.0)).map_err(text)?;
    ensure(report.taken && report.losses.len() == 1, || format!("after it, {report:?}"))?;
    session.set_parameters(&before.0).map_err(text)?;
    session.set_optimiser(&before.1).map_err(text)
}
