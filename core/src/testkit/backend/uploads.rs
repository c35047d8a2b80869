//! Batches that are brought onto the device ahead of their turn train the same model.

use super::{Check, ensure};
use crate::data::{Batch, Loader, Purpose, Row};
use crate::engine::{OptimiserState, Session, StateDict, StepSettings};
use crate::error::Result;
use crate::model::ModelConfig;
use crate::tokens::Tokens;

/// Micro-batches: many more than are ahead, so that room is used again and again.
const BATCHES: u64 = 24;
/// Micro-batches of a step.
const STEP: u64 = 3;

/// Nothing where the device takes a batch when its turn has come; otherwise the parameters after
/// some steps must be the same to the bit.
pub(super) fn check(session: &mut dyn Session, model: &ModelConfig, start: &StateDict) -> Check {
    let text = |e: crate::Error| e.to_string();
    let Some(uploads) = session.uploads().map_err(text)? else { return Ok(()) };
    let loader = || {
        let model = model.clone();
        Loader::start(1, BATCHES, move |k| batch(k, &model))
    };
    let plain = trained(session, loader(), start).map_err(text)?;
    for _ in 0..2 {
        let ahead = loader().uploaded(Some(uploads.clone()));
        let same = trained(session, ahead, start).map_err(text)? == plain;
        ensure(same, || {
            "batches that are uploaded ahead of their turn train another model".into()
        })?;
    }
    Ok(())
}

/// Parameters after training on `batches`, of which every fifth is left out.
fn trained(
    session: &mut dyn Session,
    batches: Loader<Batch>,
    start: &StateDict,
) -> Result<StateDict> {
    session.set_parameters(start)?;
    session.set_optimiser(&OptimiserState::default())?;
    for (k, batch) in (0..).zip(batches) {
        let batch = batch?;
        if k % 5 != 4 {
            session.accumulate(batch, 1.0 / STEP as f32)?;
        }
        if k % STEP == STEP - 1 {
            session.step(&StepSettings::new(1e-2))?;
        }
    }
    let parameters = session.parameters();
    session.set_optimiser(&OptimiserState::default())?;
    parameters
}

/// Batches of other numbers and sizes each time: of images alone, whose targets lie among their
/// inputs, and of images and codes.
fn batch(k: u64, model: &ModelConfig) -> Result<Batch> {
    let image = |row: u64, len: usize| -> (String, Tokens) {
        let at = (1000 * k + 100 * row) as f32;
        let values: Vec<f32> = (0..6 * len).map(|n| (at + 1.7 * n as f32).sin()).collect();
        let indices = (0..len as u32).collect();
        ("image".into(), Tokens { len, values: values.into(), indices, ..Tokens::default() })
    };
    let codes = |row: u64| -> (String, Tokens) {
        let codes = vec![(k % 5) as u32, (row % 5) as u32];
        let positions = vec![0.3, 0.1 * k as f32, -0.7, 0.2];
        ("codes".into(), Tokens { len: 2, codes, positions, ..Tokens::default() })
    };
    let rows = (0..1 + k % 4).map(|row| -> (String, Row) {
        let spans = match k % 2 {
            0 => vec![image(row, 9)],
            _ => vec![image(row, 3 + row as usize), codes(row)],
        };
        (format!("{k}-{row}"), spans)
    });
    Batch::assemble(&rows.collect::<Vec<_>>(), &model.modalities, Purpose::Predict)
}
