//! The laws fitted to what was measured, with bootstrap intervals.

use std::collections::BTreeSet;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Trained;
use super::law::{ComputeLaw, SizeLaw};
use crate::probe::Interval;

/// Resamples behind an interval, and its confidence.
const RESAMPLES: usize = 1000;
const SIZE_RESAMPLES: usize = 100;
const CONFIDENCE: f64 = 0.95;
/// Groups of objects that an interval is to be of, so that it holds what it should: of 8 a nominal 95%
/// covers 90%, of 3 it covers 71%.
pub(super) const FEWEST_GROUPS: usize = 20;
/// Stands for a compute that is never reached, among those of resamples.
const NEVER: f64 = f64::MAX;

/// A trained model, as the laws see it.
pub(super) struct Model<'a> {
    pub(super) parameters: f64,
    pub(super) trained: &'a Trained,
}

/// Loss against compute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComputeFit {
    /// The law that fits best.
    pub law: ComputeLaw,
    /// L0.
    pub floor: Interval,
    /// The exponent.
    pub b: Interval,
    /// The compute, in FLOP, from which ten times as much lowers the loss by less than
    /// `least_gain`: 0 where that holds of any, `None` where no floor is in sight. Its upper
    /// end is `None` too where some of the resamples see no floor.
    pub saturation: Option<Interval>,
    /// Share of the loss that counts as a gain.
    pub least_gain: f64,
    /// Where the groups of objects end that resamples draw: after how many objects.
    #[serde(skip)]
    ends: Vec<u64>,
    /// The laws of the resamples, each with its draw; not written out.
    #[serde(skip)]
    resampled: Vec<Resample>,
}

/// The groups of objects that a resample drew, and the law of the losses on them.
#[derive(Clone, Debug, PartialEq)]
struct Resample {
    drawn: Vec<usize>,
    law: ComputeLaw,
}

impl ComputeFit {
    /// Fits the law to the last losses of `models`; `None` with fewer than two of them.
    /// The law of two is a power law without a floor.
    ///
    /// The models were evaluated on the same objects ([`Family::compared`](super::Family)), so
    /// resamples draw the same groups of them, which end at `ends`, for all models: what makes some
    /// objects harder than others cancels. How a loss changes with the seed of a training is not in
    /// the intervals.
    pub(super) fn of(models: &[Model], ends: Vec<u64>, least_gain: f64) -> Option<Self> {
        let computes = || models.iter().map(|model| model.trained.flops);
        let losses = models.iter().map(|model| model.trained.loss);
        let law = ComputeLaw::fit(&computes().zip(losses).collect::<Vec<_>>())?;
        let grouped: Vec<Vec<(f64, f64)>> =
            models.iter().map(|model| grouped(model.trained, &ends)).collect();
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let count = if ends.len() > 1 { RESAMPLES } else { 0 };
        let resampled: Vec<Resample> = (0..count)
            .filter_map(|_| {
                let drawn: Vec<usize> =
                    (0..ends.len()).map(|_| random.random_range(0..ends.len())).collect();
                let losses = grouped.iter().map(|groups| mean(groups, &drawn));
                let law = ComputeLaw::fit(&computes().zip(losses).collect::<Vec<_>>())?;
                Some(Resample { drawn, law })
            })
            .collect();
        let interval = |value: f64, of: &dyn Fn(&ComputeLaw) -> f64| {
            let replicates: Vec<f64> = resampled.iter().map(|one| of(&one.law)).collect();
            Interval::percentile(value, &replicates, CONFIDENCE)
        };
        let at = |law: &ComputeLaw| law.saturation(least_gain).unwrap_or(NEVER);
        let saturation = law.saturation(least_gain).map(|value| {
            let interval = interval(value, &at);
            Interval { high: interval.high.filter(|high| *high < 1e-3 * NEVER), ..interval }
        });
        Some(Self {
            floor: interval(law.floor, &|law| law.floor),
            b: interval(law.b, &|law| law.b),
            saturation,
            law,
            least_gain,
            ends,
            resampled,
        })
    }

    /// The loss at `compute`, in FLOP, with its interval: how it changes with the objects.
    pub fn at(&self, compute: f64) -> Interval {
        let replicates: Vec<f64> = self.resampled.iter().map(|one| one.law.at(compute)).collect();
        Interval::percentile(self.law.at(compute), &replicates, CONFIDENCE)
    }

    /// The loss foretold at `compute`, in FLOP, of a model that is evaluated on the objects
    /// that `last`, the largest one fitted to, was evaluated on. Its interval is that of the
    /// step from `last` to it: that some objects are harder than others moves both alike, and is
    /// no part of it. Nor is how far the law itself, or another seed of a training, may be off.
    pub(super) fn foretell(&self, last: &Trained, compute: f64) -> Interval {
        let groups = grouped(last, &self.ends);
        let step = |one: &Resample| one.law.at(compute) - mean(&groups, &one.drawn) + last.loss;
        let replicates: Vec<f64> = self.resampled.iter().map(step).collect();
        Interval::percentile(self.law.at(compute), &replicates, CONFIDENCE)
    }

    /// By how much the loss of `trained` lies above the law, on the same objects: both are taken
    /// from the same resamples.
    pub(super) fn above(&self, trained: &Trained) -> Interval {
        let groups = grouped(trained, &self.ends);
        let above = |one: &Resample| mean(&groups, &one.drawn) - one.law.at(trained.flops);
        let replicates: Vec<f64> = self.resampled.iter().map(above).collect();
        Interval::percentile(trained.loss - self.law.at(trained.flops), &replicates, CONFIDENCE)
    }
}

/// Where groups of objects end in which all of `models` were evaluated: after how many objects.
pub(super) fn common_ends<'a>(models: impl Iterator<Item = &'a Trained>) -> Vec<u64> {
    let ends = |model: &Trained| {
        let counts = model.batches.iter().map(|batch| batch.1);
        let sums = counts.scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        sums.collect::<BTreeSet<u64>>()
    };
    let common = models.map(ends).reduce(|a, b| &a & &b);
    common.unwrap_or_default().into_iter().collect()
}

/// The sum of the losses of `trained` in each of the groups of objects that end at `ends`, and how
/// many objects each has.
fn grouped(trained: &Trained, ends: &[u64]) -> Vec<(f64, f64)> {
    let mut groups = vec![(0.0, 0.0); ends.len()];
    let mut seen = 0;
    for &(loss, objects) in &trained.batches {
        seen += objects;
        if let Some(group) = groups.get_mut(ends.partition_point(|end| *end < seen)) {
            group.0 += loss * objects as f64;
            group.1 += objects as f64;
        }
    }
    groups
}

/// Mean loss of the groups `drawn`, each counted as often as it has objects.
fn mean(groups: &[(f64, f64)], drawn: &[usize]) -> f64 {
    let sum = |of: fn(&(f64, f64)) -> f64| drawn.iter().map(|&k| of(&groups[k])).sum::<f64>();
    sum(|group| group.0) / sum(|group| group.1)
}

/// Loss against parameters and tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SizeFit {
    /// The law that fits best.
    pub law: SizeLaw,
    /// E; without an interval in families of earlier versions.
    #[serde(default)]
    pub floor: Interval,
    /// Exponent of the parameters.
    pub alpha: Interval,
    /// Exponent of the tokens.
    pub beta: Interval,
    /// Evaluations fitted to.
    pub points: usize,
    /// Root mean square of what is left.
    pub residual: f64,
}

impl SizeFit {
    /// Fits the law to the evaluations of `models` in the second half of their training; `None`
    /// with too few. Resamples are of what the fit leaves, in stretches of half a curve: what lies
    /// above the law at one evaluation lies above it at the next.
    ///
    /// The learning rate of an evaluation on the way has not come down, so that the law tells
    /// more of trainings like these than of shorter ones.
    pub(super) fn of(models: &[Model]) -> Option<Self> {
        let late = |model: &Model| -> Vec<(f64, f64, f64)> {
            let late = |point: &&(u64, f64)| 2 * point.0 >= model.trained.tokens;
            let curve = model.trained.curve.iter().filter(late);
            curve.map(|&(tokens, loss)| (model.parameters, tokens as f64, loss)).collect()
        };
        let curves: Vec<Vec<(f64, f64, f64)>> = models.iter().map(late).collect();
        let points = curves.concat();
        let law = SizeLaw::fit(&points)?;
        let left_of = |&(n, d, loss): &(f64, f64, f64)| loss - law.at(n, d);
        let left: Vec<Vec<f64>> =
            curves.iter().map(|curve| curve.iter().map(left_of).collect()).collect();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let resampled: Vec<SizeLaw> = (0..SIZE_RESAMPLES)
            .filter_map(|_| {
                let mut drawn = points.clone();
                let left =
                    curves.iter().flat_map(|curve| stretches(&left, curve.len(), &mut random));
                for ((n, d, loss), left) in drawn.iter_mut().zip(left.collect::<Vec<_>>()) {
                    *loss = law.at(*n, *d) + left;
                }
                SizeLaw::fit(&drawn)
            })
            .collect();
        let interval = |value: f64, of: fn(&SizeLaw) -> f64| {
            let replicates: Vec<f64> = resampled.iter().map(of).collect();
            Interval::percentile(value, &replicates, CONFIDENCE)
        };
        let square = left.iter().flatten().map(|x| x * x).sum::<f64>() / points.len() as f64;
        Some(Self {
            floor: interval(law.floor, |law| law.floor),
            alpha: interval(law.alpha, |law| law.alpha),
            beta: interval(law.beta, |law| law.beta),
            points: points.len(),
            residual: square.sqrt(),
            law,
        })
    }
}

/// `count` numbers in stretches of half of one of `curves`, drawn with where in it they begin; a
/// curve goes on where it began.
fn stretches(curves: &[Vec<f64>], count: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
    let mut out = Vec::with_capacity(count);
    while out.len() < count {
        let curve = &curves[random.random_range(0..curves.len())];
        if curve.is_empty() {
            continue;
        }
        let from = random.random_range(0..curve.len());
        out.extend(curve.iter().cycle().skip(from).take(curve.len().div_ceil(2)));
    }
    out.truncate(count);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Models whose losses follow `law`, on the same hard and easy groups of objects.
    fn models(law: &ComputeLaw, computes: &[f64]) -> Vec<Trained> {
        let batch = |loss: f64, k: u32| (loss + 0.01 * f64::from(k % 7), 8);
        let model = |&flops: &f64| {
            let batches: Vec<_> = (0..21).map(|k| batch(law.at(flops), k)).collect();
            let curve = (1..=10).map(|k| (100 * k, law.at(flops) + 1.0 / (k * k) as f64)).collect();
            Trained {
                tokens: 1000,
                flops,
                loss: law.at(flops) + 0.03,
                curve,
                batches,
                ..Trained::default()
            }
        };
        computes.iter().map(model).collect()
    }

    #[test]
    fn laws_foretell_the_next_model() {
        let law = ComputeLaw { floor: 0.36, a: 0.02, b: 0.3, unit: 1e17 };
        let trained = models(&law, &[1e16, 1e17, 1e18, 1e19]);
        let models: Vec<Model> = trained
            .iter()
            .map(|trained| Model { parameters: trained.flops.sqrt(), trained })
            .collect();
        let ends = common_ends(trained.iter());
        assert_eq!(ends, (1..=21).map(|k| 8 * k).collect::<Vec<u64>>());
        let of = |models: &[Model]| ComputeFit::of(models, ends.clone(), 0.005);
        let fit = of(&models[..3]).expect("three models");
        let next = fit.foretell(&trained[2], 1e19);
        let truth = trained[3].loss;
        // Objects are equally hard for all models: what is foretold does not move with the draw.
        let (low, high) = (next.low.expect("low"), next.high.expect("high"));
        assert!((next.value - truth).abs() < 1e-5 && high - low < 1e-5, "{next:?} {truth}");
        let wide = fit.at(1e19);
        assert!(wide.high.zip(wide.low).is_some_and(|(h, l)| h - l > 1e-3), "{wide:?}");
        let above = fit.above(&trained[3]);
        assert!(above.value.abs() < 1e-5, "{above:?}");
        // A thousandth off is far within the scatter of objects, and told all the same.
        let mut off = trained[3].clone();
        off.loss += 1e-3;
        off.batches
            .iter_mut()
            .enumerate()
            .for_each(|(k, batch)| batch.0 += 8e-4 + 1e-4 * (k % 5) as f64);
        let above = fit.above(&off);
        assert!(above.above_zero() && (above.value - 1e-3).abs() < 1e-5, "{above:?}");
        assert!((fit.b.value - 0.3).abs() < 1e-3);
        let turn = fit.saturation.expect("it falls").value;
        assert!((1e17..1e20).contains(&turn), "{turn:e}");
        let two = of(&models[..2]).expect("two models");
        assert!(two.floor.value == 0.0 && two.at(1e18).low < Some(truth), "{two:?}");
        assert!(of(&models[..1]).is_none());
        assert!(SizeFit::of(&models).is_some_and(|fit| fit.points == 24 && fit.residual < 0.01));
    }

    #[test]
    fn what_is_left_along_a_curve_is_drawn_in_stretches() {
        let curves = [vec![1.0, 2.0, 3.0, 4.0], Vec::new(), vec![10.0, 20.0]];
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..50 {
            let drawn = stretches(&curves, 4, &mut random);
            assert_eq!(drawn.len(), 4);
            let next = [(1.0, 2.0), (2.0, 3.0), (3.0, 4.0), (4.0, 1.0)];
            assert!(drawn[0] >= 10.0 || next.contains(&(drawn[0], drawn[1])), "{drawn:?}");
        }
    }

    #[test]
    fn groups_of_other_sizes_are_put_together_where_they_end_together() {
        // The same objects in fours, in twos, and in threes.
        let of = |size: usize| {
            let losses: Vec<f64> = (0..24).map(|k| 0.3 + 0.01 * f64::from(k % 5)).collect();
            let group = |of: &[f64]| (of.iter().sum::<f64>() / of.len() as f64, of.len() as u64);
            Trained { batches: losses.chunks(size).map(group).collect(), ..Trained::default() }
        };
        let (fours, twos, threes) = (of(4), of(2), of(3));
        let ends = common_ends([&fours, &twos].into_iter());
        assert_eq!(ends, [4, 8, 12, 16, 20, 24]);
        let (a, b) = (grouped(&fours, &ends), grouped(&twos, &ends));
        assert!(
            a.iter().zip(&b).all(|(a, b)| (a.0 - b.0).abs() < 1e-12 && a.1 == b.1 && a.1 == 4.0)
        );
        assert!((mean(&a, &[0, 0, 5]) - (2.0 * a[0].0 + a[5].0) / 12.0).abs() < 1e-12);
        assert_eq!(common_ends([&fours, &threes].into_iter()), [12, 24]);
        assert!(common_ends([&fours, &Trained::default()].into_iter()).is_empty());
    }
}
