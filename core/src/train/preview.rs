//! Previews: what the model predicts beside what is there, as a person would look at it.

use crate::data::{Batch, Dataset, Purpose, Row};
use crate::engine::{Session, StateDict};
use crate::error::Result;
use crate::picture;
use crate::seam::{Modality, Preview};
use crate::tokens::{Tokens, Values};

/// Objects to draw, the same at every preview of a run.
pub(crate) struct PreviewSet {
    rows: Vec<(String, Row)>,
    batch: Batch,
}

impl PreviewSet {
    /// The objects `indices` of `data`; `None` when none of them can be used.
    pub(crate) fn new(data: &Dataset, indices: &[u32]) -> Result<Option<Self>> {
        let loaded = data.batch(indices, Purpose::Predict, None)?;
        Ok(loaded.map(|loaded| Self { rows: loaded.rows, batch: loaded.batch }))
    }

    /// A PNG with a row per object, target | prediction for each modality that has a
    /// picture; `None` when no modality has one.
    pub(crate) fn draw(
        &self,
        data: &Dataset,
        session: &mut dyn Session,
    ) -> Result<Option<Vec<u8>>> {
        let outputs = session.predict(&self.batch)?;
        let mut rows = Vec::new();
        let mut used = std::collections::BTreeMap::new();
        for (_, spans) in &self.rows {
            let mut pictures = Vec::new();
            for (place, (name, tokens)) in spans.iter().enumerate() {
                let first = place == 0;
                let from = used.entry(name.clone()).or_insert(0usize);
                let predicted = predicted_tokens(tokens, &outputs, name, *from, first);
                *from += tokens.len - usize::from(first);
                let modality = data.modalities()[name].as_ref();
                pictures.extend(pair(modality, tokens, predicted)?);
            }
            if !pictures.is_empty() {
                rows.push(pictures);
            }
        }
        if rows.is_empty() { Ok(None) } else { picture::sheet(&rows).map(Some) }
    }
}

/// `target` with the model's outputs (from row `from` of the modality's) in place of its
/// values. The first token of a row, which nothing predicts, stays.
fn predicted_tokens(
    target: &Tokens,
    outputs: &StateDict,
    name: &str,
    from: usize,
    first: bool,
) -> Option<Tokens> {
    let output = outputs.get(name)?;
    let width = *output.shape.get(1)?;
    if target.values.is_empty() {
        return None; // logits of codes are no picture
    }
    let skip = usize::from(first);
    let mut predicted = target.clone();
    let rows = output.data.get(from * width..(from + target.len - skip) * width)?;
    predicted.values[skip * width..].copy_from_slice(rows);
    Some(predicted)
}

fn pair(
    modality: &dyn Modality,
    target: &Tokens,
    predicted: Option<Tokens>,
) -> Result<Vec<Preview>> {
    debug_assert!(!matches!(modality.spec().values, Values::Codes { .. }) || predicted.is_none());
    let Some(predicted) = predicted else { return Ok(Vec::new()) };
    match (modality.preview(target)?, modality.preview(&predicted)?) {
        (Some(target), Some(predicted)) => Ok(vec![target, predicted]),
        _ => Ok(Vec::new()),
    }
}
