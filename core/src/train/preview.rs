//! Previews: what the model predicts beside what is there, as a person would look at it.

use crate::data::{Batch, Dataset, Excerpt, Purpose, Row};
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
        let loaded = data.batch(indices, Purpose::Predict, &Excerpt::default())?;
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
        for (row, (_, spans)) in self.rows.iter().enumerate() {
            let mut pictures = Vec::new();
            // Shuffled spans stand in columns all the same.
            let mut spans: Vec<_> = spans.iter().collect();
            if data.shuffles_spans() {
                spans.sort_by_key(|(name, _)| name);
            }
            for (name, tokens) in spans {
                let predicted = self.predicted(tokens, &outputs, name, row);
                let modality = data.modalities()[name].as_ref();
                pictures.extend(pair(modality, tokens, predicted)?);
            }
            if !pictures.is_empty() {
                rows.push(pictures);
            }
        }
        if rows.is_empty() { Ok(None) } else { picture::sheet(&rows).map(Some) }
    }

    /// The tokens of row `row` with the model's outputs in place of all it predicts; those
    /// that nothing predicts stay. `None` for codes, whose logits are no picture.
    fn predicted(
        &self,
        tokens: &Tokens,
        outputs: &StateDict,
        name: &str,
        row: usize,
    ) -> Option<Tokens> {
        let (part, output) = (self.batch.parts.get(name)?, outputs.get(name)?);
        if tokens.values.is_empty() {
            return None;
        }
        let width = *output.shape.get(1)?;
        let mut predicted = tokens.clone();
        for (k, (&token, output)) in
            part.target_tokens.iter().zip(output.data.chunks_exact(width)).enumerate()
        {
            let slot = part.target_slots.as_ref().map_or(k, |slots| slots[k] as usize);
            if slot / self.batch.len == row {
                let at = token as usize * width;
                predicted.values[at..at + width].copy_from_slice(output);
            }
        }
        Some(predicted)
    }
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
