//! Streams of all kinds on a backend: what tokens see, and what they do not.

use super::{Check, batch_rows, check_gradient, ensure};
use crate::data::{Assembly, Batch, Row, Sequence, Task};
use crate::engine::{Session, StateDict};
use crate::model::ModelConfig;

/// Largest difference between numbers that should be equal, relative to the largest.
const TOLERANCE: f32 = 1e-5;

type Objects = [(String, Row)];

fn assemble(
    model: &ModelConfig,
    objects: &Objects,
    shape: (bool, bool, Option<usize>),
    task: impl Fn(usize) -> Task,
) -> Result<Batch, String> {
    let (delimiters, full, row_length) = shape;
    let assembly = Assembly { specs: &model.modalities, delimiters, full, row_length };
    let sequence = |(id, spans): &(String, Row)| {
        let tokens = spans.iter().map(|(_, tokens)| tokens.len).sum();
        (id.clone(), spans.clone(), task(tokens))
    };
    let sequences: Vec<_> = objects.iter().map(sequence).collect();
    let sequences: Vec<_> = sequences
        .iter()
        .map(|(id, spans, task)| Sequence { id, spans, task: task.clone() })
        .collect();
    assembly.batch(&sequences).map_err(|e| e.to_string())
}

/// Every third token.
fn thirds(tokens: usize) -> Task {
    Task::Masked((0..tokens).map(|k| k % 3 == 0).collect())
}

/// Gradients, packing, masks and prefixes.
pub(super) fn check(session: &mut dyn Session, model: &ModelConfig, start: &StateDict) -> Check {
    let objects = batch_rows();
    let next = |_| Task::Next;
    let prefix = |tokens: usize| Task::After(tokens / 2);
    for (what, shape, task) in [
        ("packed rows with delimiters", (true, false, Some(40)), &next as &dyn Fn(usize) -> Task),
        ("masked tokens", (false, true, None), &thirds),
        ("prefixes", (true, true, Some(40)), &prefix),
    ] {
        let batch = assemble(model, &objects, shape, task)?;
        session.set_parameters(start).map_err(|e| e.to_string())?;
        check_gradient(session, &batch, start).map_err(|wrong| format!("{what}: {wrong}"))?;
    }
    for codes_first in [true, false] {
        let batch = assemble(model, &ends(codes_first), (false, false, None), next)?;
        session.set_parameters(start).map_err(|e| e.to_string())?;
        check_gradient(session, &batch, start)
            .map_err(|wrong| format!("a modality that is only read or only predicted: {wrong}"))?;
    }
    session.set_parameters(start).map_err(|e| e.to_string())?;
    check_packing(session, model, &objects)?;
    check_masks(session, model, &objects)?;
    check_prefixes(session, model, &objects)
}

/// Objects with one code, which comes first, and nothing predicts it, or last, and nobody reads it.
fn ends(codes_first: bool) -> Vec<(String, Row)> {
    let object = |(id, mut spans): (String, Row)| {
        let code = crate::tokens::Tokens {
            len: 1,
            codes: vec![3],
            positions: vec![0.4, -0.2],
            ..Default::default()
        };
        spans.truncate(1);
        spans.insert(if codes_first { 0 } else { 1 }, ("codes".into(), code));
        (id, spans)
    };
    batch_rows().into_iter().map(object).collect()
}

/// Predictions, all in one list.
fn predict(session: &mut dyn Session, batch: &Batch) -> Result<Vec<f32>, String> {
    let outputs = session.predict(batch).map_err(|e| e.to_string())?;
    Ok(outputs.into_values().flat_map(|tensor| tensor.data).collect())
}

/// Largest difference, relative to the largest of `b`.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return f32::INFINITY;
    }
    let largest = b.iter().fold(1e-30f32, |most, x| most.max(x.abs()));
    a.iter().zip(b).fold(0.0, |most: f32, (a, b)| most.max((a - b).abs())) / largest
}

/// Objects that share a row are predicted as if each were alone.
fn check_packing(session: &mut dyn Session, model: &ModelConfig, objects: &Objects) -> Check {
    for delimiters in [false, true] {
        // Packing puts the longest first, which the first is already.
        let alone = assemble(model, objects, (delimiters, false, None), |_| Task::Next)?;
        let packed = assemble(model, objects, (delimiters, false, Some(40)), |_| Task::Next)?;
        ensure(packed.rows == 1 && alone.rows == 2, || "rows are not shared".into())?;
        let (alone, packed) = (predict(session, &alone)?, predict(session, &packed)?);
        let off = apart(&packed, &alone);
        ensure(off <= TOLERANCE, || format!("packed objects are predicted otherwise, by {off}"))?;
    }
    Ok(())
}

/// A masked token is not seen, another is.
fn check_masks(session: &mut dyn Session, model: &ModelConfig, objects: &Objects) -> Check {
    let shape = (false, true, None);
    let before = predict(session, &assemble(model, objects, shape, thirds)?)?;
    for (token, seen) in [(0, false), (1, true), (8, true)] {
        let mut changed = objects.to_vec();
        changed[0].1[0].1.values[6 * token] += 3.0;
        let after = predict(session, &assemble(model, &changed, shape, thirds)?)?;
        ensure((apart(&after, &before) > TOLERANCE) == seen, || {
            let verb = if seen { "is not seen" } else { "is seen through its mask" };
            format!("token {token} {verb}")
        })?;
    }
    Ok(())
}

/// A prefix of one token is no prefix; in a longer one the first token sees the last, and
/// nothing sees what comes after it.
fn check_prefixes(session: &mut dyn Session, model: &ModelConfig, objects: &Objects) -> Check {
    let first_object = &objects[..1];
    let causal = assemble(model, first_object, (false, false, None), |_| Task::Next)?;
    let one = assemble(model, first_object, (false, true, None), |_| Task::After(1))?;
    let off = apart(&predict(session, &one)?, &predict(session, &causal)?);
    ensure(off <= TOLERANCE, || format!("a prefix of one token changes predictions by {off}"))?;

    // Of four tokens in the prefix the second sees the fourth, which only `hidden` shows.
    let states = |session: &mut dyn Session, objects: &Objects| {
        let batch = assemble(model, objects, (false, true, None), |_| Task::After(4))?;
        let states = session.hidden(&batch, crate::engine::Layer::Final);
        states.map_err(|e| e.to_string()).map(|states| states.data[..model.width].to_vec())
    };
    let before = states(session, first_object)?;
    for (token, seen) in [(3, true), (4, false)] {
        let mut changed = first_object.to_vec();
        changed[0].1[0].1.values[6 * token] += 3.0;
        let after = states(session, &changed)?;
        ensure((apart(&after, &before) > TOLERANCE) == seen, || {
            format!("the first token of a prefix of four sees token {token}: {}", !seen)
        })?;
    }
    Ok(())
}
