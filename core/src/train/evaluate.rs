//! The validation loss.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::faults::listed;
use crate::data::{Batch, Dataset, Excerpt, Loaded, Loader, Part, Purpose};
use crate::engine::{Losses, Session};
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::parallel::{Ranks, agree};
use crate::recipe::Plan;
use crate::tokens::Values;

/// What an evaluation found.
#[derive(Debug, PartialEq)]
pub(crate) struct Evaluation {
    /// Mean over the modalities of their weighted losses.
    pub(crate) loss: f64,
    /// Unweighted loss of each modality that is predicted anywhere.
    pub(crate) modalities: BTreeMap<String, f64>,
    /// Loss of predicting zero everywhere.
    pub(crate) zero_loss: f64,
    pub(crate) objects: u64,
    /// What every group of objects says of the loss, and how many it has.
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
    /// Loss of every group of objects, and how many it has: their mean, each counted as often as
    /// it has objects, is the loss of all. In a stream of several modalities, whose loss is no mean
    /// over objects, a group's is the loss of all and what the group moves it by, to first order.
    pub batches: Vec<(f64, u64)>,
}

/// What one group of objects of an evaluation says.
#[derive(Clone, Debug)]
struct Piece {
    place: u64,
    rows: u64,
    /// By modality, of those that are predicted in it.
    told: BTreeMap<String, Told>,
}

/// What one group of objects says of one modality.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Told {
    /// Unweighted mean loss over the group's targets.
    loss: f32,
    /// The same of predicting zero.
    zero: f64,
    /// How often it counts: as many targets as it has, and in a stream of this modality alone as
    /// many objects.
    count: u64,
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
        let (place, rows) = (rank + k as u64 * every, loaded.rows.len() as u64);
        Ok(Some(Piece { place, rows, told: told(&loaded.batch, rows, &losses, session.model()) }))
    };
    let found = loader.enumerate().filter_map(|loaded| piece(loaded).transpose());
    let pieces = share(ranks, agree(ranks, found.collect())?)?;
    Ok(Some(combine(&pieces, session.model())))
}

/// What a batch of `rows` objects says of each modality that is predicted in it.
fn told(batch: &Batch, rows: u64, losses: &Losses, model: &ModelConfig) -> BTreeMap<String, Told> {
    let alone = model.modalities.len() == 1;
    let told = losses.modalities.iter().filter_map(|(name, &loss)| {
        let part = batch.parts.get(name).filter(|part| part.targets > 0)?;
        let zero = zero_loss(part, model.modalities.get(name)?.values);
        let count = if alone { rows } else { part.targets as u64 };
        Some((name.clone(), Told { loss, zero, count }))
    });
    told.collect()
}

/// Sums over groups of what they say of one modality.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: f64,
    loss: f64,
    weighted: f64,
    weighted_zero: f64,
}

/// Puts the groups together: a mean over all of its targets for each modality, then the mean over
/// the modalities, so that how the objects were grouped does not matter.
fn combine(pieces: &[Piece], model: &ModelConfig) -> Evaluation {
    let weight = |name: &str| model.modalities.get(name).map_or(1.0, |spec| spec.loss_weight);
    let mut sums = BTreeMap::<&str, Sums>::new();
    for (name, told) in pieces.iter().flat_map(|piece| &piece.told) {
        let (count, weight) = (told.count as f64, weight(name));
        let sum = sums.entry(name).or_default();
        sum.count += count;
        sum.loss += count * f64::from(told.loss);
        // In single precision, as the device weighs it.
        sum.weighted += count * f64::from(told.loss * weight);
        sum.weighted_zero += count * (f64::from(weight) * told.zero);
    }
    let modalities = sums.len().max(1) as f64;
    let mean = |of: fn(&Sums) -> f64| {
        sums.values().map(|sum| of(sum) / sum.count).sum::<f64>() / modalities
    };
    let (loss, zero_loss) = (mean(|sum| sum.weighted), mean(|sum| sum.weighted_zero));
    let objects: u64 = pieces.iter().map(|piece| piece.rows).sum();
    let own = |piece: &Piece| {
        let moves = piece.told.iter().map(|(name, told)| {
            let (all, own) = (sums[name.as_str()], f64::from(told.loss * weight(name)));
            (own - all.weighted / all.count) * (told.count as f64 / all.count)
        });
        loss + moves.sum::<f64>() / modalities * (objects as f64 / piece.rows as f64)
    };
    let group = |piece: &Piece| match piece.told.first_key_value() {
        Some((name, told)) if model.modalities.len() == 1 => f64::from(told.loss * weight(name)),
        _ => own(piece),
    };
    let named = |(name, sum): (&&str, &Sums)| ((*name).to_owned(), sum.loss / sum.count);
    Evaluation {
        loss,
        zero_loss,
        objects,
        batches: pieces.iter().map(|piece| (group(piece), piece.rows)).collect(),
        modalities: sums.iter().map(named).collect(),
    }
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
    let bits = |told: &Told| (told.loss.to_bits(), told.zero.to_bits(), told.count);
    let sent = |p: &Piece| -> Sent {
        (p.place, p.rows, p.told.iter().map(|(name, told)| (name.clone(), bits(told))).collect())
    };
    let mine: Vec<Sent> = mine.iter().map(sent).collect();
    let mut all = Vec::new();
    for bytes in ranks.share(&serde_json::to_vec(&mine).map_err(wrong)?)? {
        let theirs: Vec<Sent> = serde_json::from_slice(&bytes).map_err(wrong)?;
        all.extend(theirs.into_iter().map(|(place, rows, told)| {
            let told = told.into_iter().map(|(name, (loss, zero, count))| {
                (name, Told { loss: f32::from_bits(loss), zero: f64::from_bits(zero), count })
            });
            Piece { place, rows, told: told.collect() }
        }));
    }
    all.sort_by_key(|piece| piece.place);
    Ok(all)
}

/// A [`Piece`] as it passes between processes, numbers as their bits.
type Sent = (u64, u64, BTreeMap<String, (u32, u64, u64)>);

/// Mean over the targets of `part` of the Huber loss of predicting zero; codes have no zero and
/// count as their uniform guess, the logarithm of the vocabulary.
fn zero_loss(part: &Part, values: Values) -> f64 {
    if let Values::Codes { vocabulary } = values {
        return (vocabulary as f64).ln();
    }
    let huber = |v: &f32| {
        let v = f64::from(v.abs());
        if v < 1.0 { 0.5 * v * v } else { v - 0.5 }
    };
    let sum: f64 = part.target_values.iter().flat_map(|piece| piece.iter()).map(huber).sum();
    sum / part.target_values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Tokeniser;
    use crate::tokens::{Positions, TokenSpec, Tokens};

    #[test]
    fn groups_are_many_and_nested_whatever_the_micro_batch() {
        // The demo's, the paper's, few objects, and none too few for one.
        let sizes = [(256, 32, 4), (256, 8, 4), (256, 2, 2), (1600, 8, 8), (340, 8, 4), (30, 8, 1)];
        for (objects, micro_batch, size) in sizes {
            assert_eq!(at_once(objects, micro_batch), size, "{objects} in {micro_batch}");
        }
        assert!((1..2000).all(|n| at_once(n, 32) <= 32 && n.div_ceil(at_once(n, 32)) >= n.min(50)));
    }

    fn model(modalities: &[(&str, f32)]) -> ModelConfig {
        let spec = |loss_weight| TokenSpec {
            values: Values::Continuous { width: 1 },
            positions: Positions::Index { max: 9 },
            loss_weight,
            max_tokens: 9,
        };
        let specs = modalities.iter().map(|&(name, weight)| (name.to_owned(), spec(weight)));
        ModelConfig {
            layers: 1,
            heads: 1,
            width: 8,
            tokeniser: Tokeniser::Aim,
            modalities: specs.collect(),
            mask_token: false,
            delimiters: false,
        }
    }

    fn piece(place: usize, rows: u64, told: &[(&str, f32, u64)]) -> Piece {
        let told = told.iter().map(|&(name, loss, count)| {
            (name.to_owned(), Told { loss, zero: f64::from(loss) + 0.1, count })
        });
        Piece { place: place as u64, rows, told: told.collect() }
    }

    /// To the bit what it was when groups were added up by their objects alone.
    #[test]
    fn of_a_single_modality_it_is_the_mean_over_objects() {
        for weight in [1.0f32, 0.3] {
            let losses = [0.1f32, 0.737, 0.29, 1.3];
            let rows = [32u64, 32, 32, 7];
            let pieces: Vec<Piece> =
                (0..4).map(|k| piece(k, rows[k], &[("a", losses[k], rows[k])])).collect();
            let (mut sum, mut zero, mut bare, mut objects) = (0.0, 0.0, 0.0, 0.0);
            for k in 0..4 {
                let n = rows[k] as f64;
                sum += n * f64::from(losses[k] * weight);
                bare += n * f64::from(losses[k]);
                zero += n * (f64::from(weight) * (f64::from(losses[k]) + 0.1));
                objects += n;
            }
            let found = combine(&pieces, &model(&[("a", weight)]));
            assert_eq!(found.loss.to_bits(), f64::to_bits(sum / objects));
            assert_eq!(found.zero_loss.to_bits(), f64::to_bits(zero / objects));
            assert_eq!(found.modalities["a"].to_bits(), f64::to_bits(bare / objects));
            let own: Vec<_> = (0..4).map(|k| (f64::from(losses[k] * weight), rows[k])).collect();
            assert_eq!((found.batches, found.objects), (own, 103));
        }
    }

    /// Objects with and without a modality, one at a time or all at once.
    #[test]
    fn of_several_modalities_it_does_not_depend_on_the_groups() {
        let model = model(&[("a", 1.0), ("b", 2.0), ("c", 1.0)]);
        let objects: [&[(&str, f32, u64)]; 4] = [
            &[("a", 0.5, 4), ("b", 1.0, 1)],
            &[("a", 0.25, 2)],
            &[("b", 2.0, 3)],
            &[("a", 1.0, 2)],
        ];
        let single: Vec<Piece> =
            objects.iter().enumerate().map(|(k, object)| piece(k, 1, object)).collect();
        let pair = [
            piece(0, 2, &[("a", 2.5 / 6.0, 6), ("b", 1.0, 1)]),
            piece(1, 2, &[("a", 1.0, 2), ("b", 2.0, 3)]),
        ];
        let whole = [piece(0, 4, &[("a", 4.5 / 8.0, 8), ("b", 1.75, 4)])];
        for pieces in [&single[..], &pair, &whole] {
            let found = combine(pieces, &model);
            let near = |x: f64, y: f64| assert!((x - y).abs() < 1e-6, "{found:?}");
            near(found.modalities["a"], 0.5625);
            near(found.modalities["b"], 1.75);
            // The third is predicted nowhere.
            assert_eq!(found.modalities.len(), 2);
            near(found.loss, (0.5625 + 2.0 * 1.75) / 2.0);
            near(found.zero_loss, (0.6625 + 2.0 * 1.85) / 2.0);
            let sum: f64 = found.batches.iter().map(|(loss, n)| loss * *n as f64).sum();
            near(sum / 4.0, found.loss);
        }
    }

    /// A span of one token that comes first is not predicted, and is no part of either loss.
    #[test]
    fn predicting_zero_counts_what_is_predicted() {
        let model = model(&[("a", 1.0), ("b", 1.0)]);
        let span = |values: Vec<f32>| Tokens {
            len: values.len(),
            indices: (0..values.len() as u32).collect(),
            values: values.into(),
            ..Tokens::default()
        };
        let row = vec![("a".to_owned(), span(vec![9.0])), ("b".to_owned(), span(vec![0.5, 2.0]))];
        let rows = [("x".to_owned(), row)];
        let batch = Batch::assemble(&rows, &model.modalities, Purpose::Predict).expect("fits");
        let losses = Losses { total: 0.25, modalities: [("b".to_owned(), 0.25)].into() };
        let told = told(&batch, 1, &losses, &model);
        assert_eq!(told, [("b".to_owned(), Told { loss: 0.25, zero: 0.8125, count: 2 })].into());
        let found = combine(&[Piece { place: 0, rows: 1, told }], &model);
        assert_eq!((found.loss, found.zero_loss), (0.25, 0.8125));
    }
}
