//! The validation loss.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::faults::listed;
use super::metrics::MeanLosses;
use super::team::Bits;
use crate::data::{Dataset, Excerpt, Loaded, Loader, Purpose};
use crate::engine::{Losses, Session};
use crate::error::{Error, Result};
use crate::parallel::{Ranks, agree};
use crate::recipe::Plan;

/// What an evaluation found.
pub(crate) struct Evaluation {
    pub(crate) losses: MeanLosses,
    /// Loss of predicting zero everywhere.
    pub(crate) zero_loss: f64,
    pub(crate) objects: u64,
    /// Loss of every group of objects, and how many it has.
    pub(crate) batches: Vec<(f64, u64)>,
}

/// Groups of objects that an evaluation has where it may: their losses are what intervals are made
/// of, which a few hardly have.
const GROUPS: usize = 50;

/// File of the last evaluation's [`ValidationLosses`].
pub const VALIDATION: &str = "validation.json";

/// The losses of one evaluation, which models of one family have on the same objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationLosses {
    /// Steps taken before it.
    pub step: u64,
    /// Loss of every group of objects, and how many it has.
    pub batches: Vec<(f64, u64)>,
}

/// What one group of objects of an evaluation says.
struct Piece {
    place: u64,
    rows: u64,
    losses: Losses,
    zero_loss: f64,
}

/// How many objects are evaluated at once, of so many in all: a micro-batch, or where there would be
/// fewer than [`GROUPS`] a smaller power of two, so that groups of trainings in other micro-batches
/// end at the same objects.
fn at_once(objects: usize, micro_batch: usize) -> usize {
    match (objects / GROUPS).max(1) {
        most if most >= micro_batch => micro_batch,
        most => 1 << most.ilog2(),
    }
}

/// Evaluates on the objects of `train.eval_split`, the same ones each time: all of them, or as many as
/// `train.eval_batches` micro-batches hold, in groups. `None` when there are none. Of `ranks` each
/// takes every so many groups; what they find is added up in the order of the groups, and the same
/// on each.
pub(crate) fn evaluate(
    plan: &Plan,
    data: &Arc<Dataset>,
    session: &mut dyn Session,
    ranks: &dyn Ranks,
) -> Result<Option<Evaluation>> {
    let micro_batch = plan.train.micro_batch;
    let limit = match plan.train.eval_batches {
        0 => usize::MAX,
        batches => batches * micro_batch,
    };
    let objects = data.sample(plan.train.eval_split, limit);
    if objects.is_empty() {
        return Ok(None);
    }
    let (data, size) = (data.clone(), at_once(objects.len(), micro_batch));
    let (rank, every) = (ranks.rank() as u64, ranks.size() as u64);
    let mine = (objects.len().div_ceil(size) as u64).saturating_sub(rank).div_ceil(every);
    let loader = Loader::start(plan.train.workers, mine, move |k| {
        let place = (rank + k * every) as usize;
        let end = objects.len().min((place + 1) * size);
        data.batch(&objects[place * size..end], Purpose::Predict, &Excerpt::default())
    });
    let mut piece = |(k, loaded): (usize, Result<Option<Loaded>>)| {
        let Some(loaded) = loaded? else { return Ok(None) };
        let losses = session.evaluate(&loaded.batch)?;
        if !losses.total.is_finite() {
            return Err(not_finite(losses.total, &loaded.batch.ids));
        }
        Ok(Some(Piece {
            place: rank + k as u64 * every,
            rows: loaded.rows.len() as u64,
            losses,
            zero_loss: zero_loss(&loaded, session),
        }))
    };
    let found = loader.enumerate().filter_map(|loaded| piece(loaded).transpose());
    let pieces = share(ranks, agree(ranks, found.collect())?)?;
    let mut evaluation = Evaluation {
        losses: MeanLosses::default(),
        zero_loss: 0.0,
        objects: 0,
        batches: Vec::new(),
    };
    for Piece { rows, losses, zero_loss, .. } in pieces {
        evaluation.losses.add(&losses, rows as f64);
        evaluation.batches.push((f64::from(losses.total), rows));
        evaluation.zero_loss += rows as f64 * zero_loss;
        evaluation.objects += rows;
    }
    evaluation.zero_loss /= evaluation.objects.max(1) as f64;
    Ok(Some(evaluation))
}

/// The same objects are evaluated each time, so they are at fault where it happens at once, and
/// the training where it happens later. No policy goes on from it.
fn not_finite(loss: f32, ids: &[String]) -> Error {
    Error::Failed(format!(
        "the validation loss is {loss} on objects {}; look at these objects and their numbers if \
         this is the first evaluation, else start a new run with a lower train.peak_lr",
        listed(ids)
    ))
}

/// The pieces of all ranks, in their order, on every rank.
fn share(ranks: &dyn Ranks, mine: Vec<Piece>) -> Result<Vec<Piece>> {
    if ranks.size() == 1 {
        return Ok(mine);
    }
    let wrong = |e: serde_json::Error| {
        Error::Failed(format!("cannot read what another process has evaluated: {e}"))
    };
    let mine: Vec<_> = mine
        .iter()
        .map(|p| (p.place, p.rows, Bits::from(&p.losses), p.zero_loss.to_bits()))
        .collect();
    let mut all = Vec::new();
    for bytes in ranks.share(&serde_json::to_vec(&mine).map_err(wrong)?)? {
        let theirs: Vec<(u64, u64, Bits, u64)> = serde_json::from_slice(&bytes).map_err(wrong)?;
        all.extend(theirs.into_iter().map(|(place, rows, losses, zero)| Piece {
            place,
            rows,
            losses: losses.into(),
            zero_loss: f64::from_bits(zero),
        }));
    }
    all.sort_by_key(|piece| piece.place);
    Ok(all)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_many_and_nested_whatever_the_micro_batch() {
        // The demo's, the paper's, few objects, and none too few for one.
        let sizes = [(256, 32, 4), (256, 8, 4), (256, 2, 2), (1600, 8, 8), (340, 8, 4), (30, 8, 1)];
        for (objects, micro_batch, size) in sizes {
            assert_eq!(at_once(objects, micro_batch), size, "{objects} in {micro_batch}");
        }
        assert!((1..2000).all(|n| at_once(n, 32) <= 32 && n.div_ceil(at_once(n, 32)) >= n.min(50)));
    }
}
