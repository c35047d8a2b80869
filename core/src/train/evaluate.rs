//! The validation loss.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::metrics::MeanLosses;
use crate::data::{Dataset, Excerpt, Loaded, Loader, Purpose};
use crate::engine::Session;
use crate::error::Result;
use crate::recipe::Plan;

/// What an evaluation found.
pub(crate) struct Evaluation {
    pub(crate) losses: MeanLosses,
    /// Loss of predicting zero everywhere.
    pub(crate) zero_loss: f64,
    pub(crate) objects: u64,
    /// Loss of every micro-batch, and how many objects it has.
    pub(crate) batches: Vec<(f64, u64)>,
}

/// File of the last evaluation's [`ValidationLosses`].
pub const VALIDATION: &str = "validation.json";

/// The losses of one evaluation, which models of one family have on the same objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationLosses {
    /// Steps taken before it.
    pub step: u64,
    /// Loss of every micro-batch, and how many objects it has.
    pub batches: Vec<(f64, u64)>,
}

/// Evaluates on the objects of `train.eval_split`, the same ones each time: all of them, or as many as
/// `train.eval_batches` micro-batches hold. `None` when there are none.
pub(crate) fn evaluate(
    plan: &Plan,
    data: &Arc<Dataset>,
    session: &mut dyn Session,
) -> Result<Option<Evaluation>> {
    let size = plan.train.micro_batch;
    let limit = match plan.train.eval_batches {
        0 => usize::MAX,
        batches => batches * size,
    };
    let objects = data.sample(plan.train.eval_split, limit);
    if objects.is_empty() {
        return Ok(None);
    }
    let data = data.clone();
    let loader = Loader::start(plan.train.workers, objects.len().div_ceil(size) as u64, move |k| {
        let end = objects.len().min((k as usize + 1) * size);
        data.batch(&objects[k as usize * size..end], Purpose::Predict, &Excerpt::default())
    });
    let mut evaluation = Evaluation {
        losses: MeanLosses::default(),
        zero_loss: 0.0,
        objects: 0,
        batches: Vec::new(),
    };
    for loaded in loader {
        let Some(loaded) = loaded? else { continue };
        let rows = loaded.rows.len() as f64;
        let losses = session.evaluate(&loaded.batch)?;
        evaluation.losses.add(&losses, rows);
        evaluation.batches.push((f64::from(losses.total), loaded.rows.len() as u64));
        evaluation.zero_loss += rows * zero_loss(&loaded, session);
        evaluation.objects += loaded.rows.len() as u64;
    }
    evaluation.zero_loss /= evaluation.objects.max(1) as f64;
    Ok(Some(evaluation))
}

/// Weighted mean over modalities of the Huber loss of predicting zero; codes have no zero
/// and count as their uniform guess, the logarithm of the vocabulary.
fn zero_loss(loaded: &Loaded, session: &dyn Session) -> f64 {
    let mut total = 0.0;
    for (name, part) in &loaded.batch.parts {
        let spec = &session.model().modalities[name];
        let loss = match spec.values {
            crate::tokens::Values::Codes { vocabulary } => (vocabulary as f64).ln(),
            crate::tokens::Values::Continuous { .. } => {
                let huber = |v: &f32| {
                    let v = f64::from(v.abs());
                    if v < 1.0 { 0.5 * v * v } else { v - 0.5 }
                };
                let sum: f64 =
                    part.target_values.iter().flat_map(|piece| piece.iter()).map(huber).sum();
                sum / part.target_values.len().max(1) as f64
            }
        };
        total += f64::from(spec.loss_weight) * loss;
    }
    total / loaded.batch.parts.len().max(1) as f64
}
