//! What a model answers without learning: outputs, loss, hidden states, generated tokens.

use super::case::Case;
use super::compare::Ledger;
use crate::data::{Batch, Pieces, Purpose};
use crate::engine::{HostTensor, Layer, Session};
use crate::error::Result;
use crate::tokens::{Positions, Tokens, Values};

/// What all but final weights may differ by, in units of the largest magnitude.
pub(crate) const TOLERANCE: f64 = 1e-5;
/// Recorded tokens that prompt the generated ones.
const PROMPT: usize = 6;

/// Compares everything that is recorded of the first batch.
pub(crate) fn replay(
    case: &Case,
    session: &mut dyn Session,
    ledger: &mut Ledger<'_>,
) -> Result<()> {
    case.take_inputs(ledger);
    first_batch(case, ledger);
    let batch = case.batch(0)?;
    outputs(case, session, &batch, ledger)?;
    ledger.must_have(&["loss".to_owned()]);
    if let Some(theirs) = ledger.take("loss") {
        let loss = session.evaluate(&batch)?.total;
        let ours = HostTensor { shape: vec![1], data: vec![loss] };
        ledger.compare("loss", &ours, theirs, TOLERANCE);
    }
    let layers = case.model.layers;
    hidden(case, session, "embed_centre.", Layer::Block(layers / 2), ledger)?;
    hidden(case, session, "embed_ln_f.", Layer::Final, ledger)?;
    first_tokens(case, session, ledger)?;
    generated(case, session, ledger)
}

/// Version 1 records the first batch once more by itself.
fn first_batch(case: &Case, ledger: &mut Ledger<'_>) {
    if !case.recorded.contains_key("all_tokens") {
        return;
    }
    if let (Some(all), Some(first)) = (ledger.take("all_tokens"), ledger.take("tokens")) {
        let data = all.data.iter().take(first.data.len()).copied().collect();
        let ours = HostTensor { shape: all.shape.get(1..).unwrap_or(&[]).to_vec(), data };
        ledger.compare("tokens", &ours, first, 0.0);
    }
}

fn outputs(
    case: &Case,
    session: &mut dyn Session,
    batch: &Batch,
    ledger: &mut Ledger<'_>,
) -> Result<()> {
    let rows = case.rows_per_batch();
    // Of a masked model what it makes of every token is recorded, hidden or not.
    let everywhere = case.model.mask_token.then(|| predicted_everywhere(batch));
    let batch = everywhere.as_ref().unwrap_or(batch);
    for (modality, HostTensor { shape, data }) in session.predict(batch)? {
        let single = case.model.modalities.len() == 1;
        let names = [format!("outputs.{modality}"), "outputs".to_owned()];
        let names = &names[..1 + usize::from(single)];
        ledger.must_have(names);
        for name in names {
            if let Some(theirs) = ledger.take(name) {
                let shape = vec![rows, shape[0] / rows, shape[1]];
                let ours = HostTensor { shape, data: data.clone() };
                ledger.compare(name, &ours, theirs, TOLERANCE);
            }
        }
    }
    Ok(())
}

/// The batch with a target in every slot.
fn predicted_everywhere(batch: &Batch) -> Batch {
    let mut batch = batch.clone();
    for part in batch.parts.values_mut() {
        part.targets = part.inputs.len;
        part.target_values = part.inputs.values.clone();
        part.lasts = Pieces::default();
        part.target_codes.clone_from(&part.inputs.codes);
        part.target_slots.clone_from(&part.input_slots);
    }
    batch
}

/// Hidden states of every modality at `layer`, recorded under `prefix`.
fn hidden(
    case: &Case,
    session: &mut dyn Session,
    prefix: &str,
    layer: Layer,
    ledger: &mut Ledger<'_>,
) -> Result<()> {
    if case.embeds() && !case.first_version {
        for (modality, _) in case.spans() {
            ledger.must_have(&[format!("{prefix}{modality}")]);
        }
    }
    if ledger.under(prefix).is_empty() {
        return Ok(());
    }
    let rows = case.rows(0, usize::MAX)?;
    let batch = Batch::assemble(&rows, &case.model.modalities, Purpose::Read)?;
    let states = session.hidden(&batch, layer)?;
    let single = case.model.modalities.len() == 1;
    let mut start = 0;
    for (modality, tokens) in case.spans() {
        let name = format!("{prefix}{modality}");
        if let Some(theirs) = ledger.take(&name) {
            // One modality is recorded without its last token, which is no input. Attention
            // is causal, so that token changes nothing before it.
            let length = match theirs.shape.get(1) {
                Some(&length) if single && length + 1 == tokens => length,
                _ => tokens,
            };
            ledger.compare(&name, &cut(&states, start, length), theirs, TOLERANCE);
        }
        start += tokens;
    }
    Ok(())
}

/// Tokens `start..start + length` of `[rows, T, d]`.
fn cut(states: &HostTensor, start: usize, length: usize) -> HostTensor {
    let [rows, tokens, width] = [0, 1, 2].map(|axis| states.shape[axis]);
    let row = |b: usize| {
        let first = (b * tokens + start) * width;
        &states.data[first..first + length * width]
    };
    let data = (0..rows).flat_map(row).copied().collect();
    HostTensor { shape: vec![rows, length, width], data }
}

/// Version 1's embeddings: the last block's output for the first N tokens alone, each
/// (`none`) or their mean.
fn first_tokens(case: &Case, session: &mut dyn Session, ledger: &mut Ledger<'_>) -> Result<()> {
    for reduction in ["none", "mean"] {
        let prefix = format!("embedding_{reduction}_first");
        if case.first_version {
            ledger.must_have_under(&prefix);
        }
        for count in ledger.under(&prefix) {
            let name = format!("{prefix}{count}");
            let Some(count) = count.parse().ok().filter(|&n: &usize| n > 0) else { continue };
            let Some(theirs) = ledger.take(&name) else { continue };
            let rows = case.rows(0, count)?;
            let batch = Batch::assemble(&rows, &case.model.modalities, Purpose::Read)?;
            let last = Layer::Block(case.model.layers.saturating_sub(1));
            let states = session.hidden(&batch, last)?;
            let ours = if reduction == "none" { states } else { mean_over_tokens(&states) };
            ledger.compare(&name, &ours, theirs, TOLERANCE);
        }
    }
    Ok(())
}

/// `[rows, T, d]` to `[rows, d]`.
fn mean_over_tokens(states: &HostTensor) -> HostTensor {
    let [rows, tokens, width] = [0, 1, 2].map(|axis| states.shape[axis]);
    let mut data = Vec::with_capacity(rows * width);
    for b in 0..rows {
        for k in 0..width {
            let at = |t: usize| f64::from(states.data[(b * tokens + t) * width + k]);
            data.push(((0..tokens).map(at).sum::<f64>() / tokens as f64) as f32);
        }
    }
    HostTensor { shape: vec![rows, width], data }
}

/// The first tokens of the first batch, then the model's own predictions, each appended to
/// the sequence that predicts the next.
fn generated(case: &Case, session: &mut dyn Session, ledger: &mut Ledger<'_>) -> Result<()> {
    const NAME: &str = "generated";
    if case.first_version {
        ledger.must_have(&[NAME.to_owned()]);
    }
    let Some(theirs) = ledger.take(NAME) else { return Ok(()) };
    let specs = &case.model.modalities;
    let (Some((modality, spec)), 1) = (specs.first_key_value(), specs.len()) else {
        ledger.problem(NAME, "generation is understood for one modality only");
        return Ok(());
    };
    let (Values::Continuous { width }, Positions::Index { .. }) = (spec.values, spec.positions)
    else {
        ledger.problem(NAME, "generation is understood for continuous tokens in a table only");
        return Ok(());
    };
    let length = theirs.shape.get(1).copied().unwrap_or(0);
    if length <= PROMPT || length > spec.max_tokens {
        ledger.problem(NAME, format!("has {length} tokens, more than {PROMPT} expected"));
        return Ok(());
    }
    let mut rows = case.rows(0, PROMPT)?;
    session.forget();
    session.read(&Batch::assemble(&rows, specs, Purpose::Read)?)?;
    for n in PROMPT..length {
        let predicted = session.predict_next(modality)?.data;
        let mut next = rows.clone();
        for (b, (_, spans)) in next.iter_mut().enumerate() {
            let values = predicted[b * width..(b + 1) * width].to_vec();
            rows[b].1[0].1.values.extend_from_slice(&values);
            let values = values.into();
            spans[0].1 = Tokens { len: 1, values, indices: vec![n as u32], ..Tokens::default() };
        }
        session.read(&Batch::assemble(&next, specs, Purpose::Read)?)?;
    }
    session.forget();
    let data = rows.iter().flat_map(|(_, spans)| spans[0].1.values.iter().copied()).collect();
    let ours = HostTensor { shape: vec![rows.len(), length, width], data };
    if ours.shape != theirs.shape {
        ledger
            .problem(NAME, format!("has the shape {:?}, {:?} recorded", ours.shape, theirs.shape));
        return Ok(());
    }
    // Apart, because the prompt's numbers are larger than the predicted ones.
    for (name, start, end, tolerance) in
        [("generated.prompt", 0, PROMPT, 0.0), (NAME, PROMPT, length, TOLERANCE)]
    {
        let [ours, theirs] = [&ours, theirs].map(|all| cut(all, start, end - start));
        ledger.compare(name, &ours, &theirs, tolerance);
    }
    Ok(())
}
