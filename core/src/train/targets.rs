//! What a step's loss is the mean of.
//!
//! A modality's loss in a step is the mean over all its tokens that are predicted in the step; the
//! step's is the mean of those of its modalities, each times its weight. Micro-batches are how much
//! fits in memory and must not show: of objects that lack a modality, or differ in length, they
//! hold unequal shares of a step's targets, so a mean of theirs would depend on how many there are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::data::{Batch, Dataset, Objective};
use crate::engine::Losses;
use crate::model::ModelConfig;
use crate::recipe::Plan;

/// Tokens that are predicted, by modality; those of which none is are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Targets(BTreeMap<String, u64>);

impl Targets {
    pub(super) fn of(batch: &Batch) -> Self {
        let predicted = batch.parts.iter().filter(|(_, part)| part.targets > 0);
        Self(predicted.map(|(name, part)| (name.clone(), part.targets as u64)).collect())
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            *self.0.entry(name.clone()).or_default() += count;
        }
    }

    /// Sets of what each of the batch's modalities is the mean, where these are the step's.
    pub(super) fn share_out(&self, batch: &mut Batch) {
        let modalities = self.0.len() as f64;
        for (name, part) in &mut batch.parts {
            let all = self.0.get(name).copied().unwrap_or(0).max(1) as f64;
            part.share = Some((part.targets as f64 / all / modalities) as f32);
        }
    }
}

/// Whether each micro-batch holds as many targets as any other, whatever its objects.
pub(super) fn are_even(data: &Dataset, plan: &Plan) -> bool {
    let mut modalities = data.modalities().values();
    let one = modalities.next().is_some_and(|one| one.is_even()) && modalities.next().is_none();
    // Prefixes are of random length, and of how many tokens some are kept is random too.
    one && !matches!(plan.objective, Objective::Prefix { .. }) && plan.stream.keep >= 1.0
}

/// The losses of a step, from those of its micro-batches.
#[derive(Debug, Default)]
pub(super) struct MeanLosses(BTreeMap<String, (f64, u64)>);

impl MeanLosses {
    /// Of micro-batches and their targets.
    pub(super) fn of(losses: &[Losses], targets: &[Targets]) -> Self {
        let mut sums = BTreeMap::new();
        for (losses, Targets(targets)) in losses.iter().zip(targets) {
            for (name, loss) in &losses.modalities {
                let count = targets.get(name).copied().unwrap_or(0);
                let (sum, all): &mut (f64, u64) = sums.entry(name.clone()).or_default();
                *sum += count as f64 * f64::from(*loss);
                *all += count;
            }
        }
        Self(sums)
    }

    /// The mean over modalities, each times its weight.
    pub(super) fn total(&self, model: &ModelConfig) -> f64 {
        let modalities = self.modalities();
        let weight = |name: &String| f64::from(model.modalities[name].loss_weight);
        let sum: f64 = modalities.iter().map(|(name, loss)| weight(name) * loss).sum();
        sum / modalities.len() as f64
    }

    /// Unweighted, by modality.
    pub(super) fn modalities(&self) -> BTreeMap<String, f64> {
        let means = self.0.iter().map(|(name, (sum, count))| (name.clone(), sum / *count as f64));
        means.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Part;

    fn batch(targets: &[(&str, usize)]) -> Batch {
        let part = |targets| Part { targets, ..Part::default() };
        let parts = targets.iter().map(|&(name, count)| (name.to_owned(), part(count)));
        Batch { parts: parts.collect(), ..Batch::default() }
    }

    /// A modality of few objects counts as much as one of many, in whichever micro-batch they are.
    #[test]
    fn shares_are_those_of_a_step_in_one_piece() {
        let mut batches = [batch(&[("a", 6), ("b", 2)]), batch(&[("a", 4), ("b", 0)])];
        let mut all = Targets::default();
        batches.iter().for_each(|batch| all.add(&Targets::of(batch)));
        batches.iter_mut().for_each(|batch| all.share_out(batch));
        let share = |k: usize, name: &str| batches[k].parts[name].share;
        assert_eq!([share(0, "a"), share(1, "a")], [Some(0.3), Some(0.2)]);
        assert_eq!([share(0, "b"), share(1, "b")], [Some(0.5), Some(0.0)]);
    }

    #[test]
    fn means_are_over_targets() {
        let losses = |of: &[(&str, f32)]| Losses {
            total: 0.0,
            modalities: of.iter().map(|&(name, loss)| (name.to_owned(), loss)).collect(),
        };
        let targets = [batch(&[("a", 6), ("b", 2)]), batch(&[("a", 2), ("b", 0)])];
        let targets = targets.iter().map(Targets::of).collect::<Vec<_>>();
        let mean =
            MeanLosses::of(&[losses(&[("a", 1.0), ("b", 3.0)]), losses(&[("a", 5.0)])], &targets);
        let wanted = [("a".to_owned(), 2.0), ("b".to_owned(), 3.0)];
        assert_eq!(mean.modalities(), wanted.into());
    }
}
