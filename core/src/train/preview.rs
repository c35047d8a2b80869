//! Previews: what the model predicts beside what is there, as a person would look at it.

use image::{Rgb, RgbImage};

use crate::data::{Batch, Dataset, Purpose, Row};
use crate::engine::{Session, StateDict};
use crate::error::{Error, Result};
use crate::seam::{Modality, Preview};
use crate::tokens::{Tokens, Values};

/// Pixels between pictures.
const GAP: u32 = 4;
/// Small pictures are enlarged to at least this many pixels.
const SMALLEST: u32 = 160;

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
        if rows.is_empty() { Ok(None) } else { png(&sheet(&rows)).map(Some) }
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

/// Rows of pictures on one sheet.
fn sheet(rows: &[Vec<Preview>]) -> RgbImage {
    let scale = |p: &Preview| SMALLEST.div_ceil(p.width.max(1) as u32).max(1);
    let size = |p: &Preview| (p.width as u32 * scale(p), p.height as u32 * scale(p));
    let row_width = |row: &Vec<Preview>| row.iter().map(|p| size(p).0 + GAP).sum::<u32>();
    let row_height = |row: &Vec<Preview>| row.iter().map(|p| size(p).1).max().unwrap_or(0) + GAP;
    let width = rows.iter().map(row_width).max().unwrap_or(0);
    let mut out = RgbImage::from_pixel(
        width.saturating_sub(GAP),
        rows.iter().map(row_height).sum::<u32>().saturating_sub(GAP),
        Rgb([255, 255, 255]),
    );
    let mut top = 0;
    for row in rows {
        let mut left = 0;
        for picture in row {
            let (w, h) = size(picture);
            for y in 0..h {
                for x in 0..w {
                    let (sx, sy) = ((x / scale(picture)) as usize, (y / scale(picture)) as usize);
                    let at = 3 * (sy * picture.width + sx);
                    let rgb = [picture.rgb[at], picture.rgb[at + 1], picture.rgb[at + 2]];
                    out.put_pixel(left + x, top + y, Rgb(rgb));
                }
            }
            left += w + GAP;
        }
        top += row_height(row);
    }
    out
}

fn png(sheet: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    sheet
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|e| Error::Failed(format!("cannot make a preview: {e}")))?;
    Ok(bytes.into_inner())
}
