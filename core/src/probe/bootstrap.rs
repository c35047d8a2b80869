//! Percentile bootstrap over the held-out objects.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::stats::{median_in_place, quantile_of_sorted};

/// A score with the interval its bootstrap replicates fall in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The score on the held-out objects as they are.
    pub value: f64,
    /// Lower end; `None` without resamples.
    pub low: Option<f64>,
    /// Upper end; `None` without resamples.
    pub high: Option<f64>,
}

impl Interval {
    /// `value` with the central `confidence` of the finite `replicates`.
    pub(crate) fn percentile(value: f64, replicates: &[f64], confidence: f64) -> Self {
        let mut sorted: Vec<f64> = replicates.iter().copied().filter(|x| x.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - confidence) / 2.0;
        Self {
            value,
            low: quantile_of_sorted(&sorted, tail),
            high: quantile_of_sorted(&sorted, 1.0 - tail),
        }
    }

    /// The interval, which reaches to `value` at least.
    pub(super) fn holding(self, value: f64) -> Self {
        let (low, high) =
            (self.low.map(|low| low.min(value)), self.high.map(|high| high.max(value)));
        Self { low, high, ..self }
    }

    /// The interval in units of which one is `scale` of the old.
    pub fn times(self, scale: f64) -> Self {
        let scaled = |x: f64| x * scale;
        Self { value: scaled(self.value), low: self.low.map(scaled), high: self.high.map(scaled) }
    }

    /// Whether the interval lies above zero.
    pub fn above_zero(&self) -> bool {
        self.low.is_some_and(|low| low > 0.0)
    }

    /// Whether the interval lies below zero.
    pub fn below_zero(&self) -> bool {
        self.high.is_some_and(|high| high < 0.0)
    }
}

/// Scores of every resample. Resample `k` draws the same objects whatever is scored, so
/// two sets of replicates over the same objects are paired.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Replicates {
    pub(super) r2: Vec<f64>,
    pub(super) error: Vec<f64>,
    /// Areas under the ROC curve; empty of a label that is no class.
    pub(super) auc: Vec<f64>,
}

/// How resamples are drawn.
#[derive(Clone, Debug)]
pub(super) struct Resampling {
    /// How many.
    pub(super) count: usize,
    pub(super) seed: u64,
    /// The objects, by place, of every group that is drawn as a whole.
    pub(super) groups: Vec<Vec<usize>>,
}

impl Resampling {
    /// Resamples of `n` objects, each its own group or those of equal `group`s together.
    pub(super) fn new(count: usize, seed: u64, n: usize, group: &[usize]) -> Self {
        let groups = if group.is_empty() {
            (0..n).map(|place| vec![place]).collect()
        } else {
            let mut members = std::collections::BTreeMap::<usize, Vec<usize>>::new();
            for (place, group) in group.iter().enumerate() {
                members.entry(*group).or_default().push(place);
            }
            members.into_values().collect()
        };
        Self { count, seed, groups }
    }

    /// The objects of resample `index`.
    fn draw(&self, index: u64) -> impl Iterator<Item = usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(index);
        let groups = &self.groups;
        let group = move |_| &groups[rng.random_range(0..groups.len() as u64) as usize];
        (0..groups.len()).flat_map(group).copied()
    }
}

/// Resamples of the predictions `p` of `y`: R^2 (NaN where the resampled truth does not vary)
/// and the median absolute error.
pub(super) fn replicates(y: &[f64], p: &[f64], draws: &Resampling) -> Replicates {
    let (n, count) = (y.len(), draws.count);
    let mean = y.iter().sum::<f64>() / n as f64;
    let pairs: Vec<(f64, f64)> = y.iter().zip(p).map(|(y, p)| (y - mean, (y - p).abs())).collect();
    let mut scores = vec![(0.0, 0.0); count];
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count.max(1));
    let share = count.div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for (part, scores) in scores.chunks_mut(share).enumerate() {
            let pairs = &pairs;
            scope.spawn(move || {
                let mut errors = Vec::with_capacity(n);
                for (i, score) in scores.iter_mut().enumerate() {
                    let drawn = draws.draw((part * share + i) as u64);
                    *score = resample(pairs, drawn, &mut errors);
                }
            });
        }
    });
    let (r2, error) = scores.into_iter().unzip();
    Replicates { r2, error, auc: Vec::new() }
}

/// R^2 and median absolute error of one resample of (centred truth, absolute error).
fn resample(
    pairs: &[(f64, f64)],
    drawn: impl Iterator<Item = usize>,
    errors: &mut Vec<f64>,
) -> (f64, f64) {
    let (mut sum, mut squares, mut residual) = (0.0, 0.0, 0.0);
    errors.clear();
    for place in drawn {
        let (y, e) = pairs[place];
        sum += y;
        squares += y * y;
        residual += e * e;
        errors.push(e);
    }
    let total = squares - sum * sum / errors.len() as f64;
    // Rounding leaves a trace of variance where every draw is the same object.
    let r2 = if total > squares * 1e-12 { 1.0 - residual / total } else { f64::NAN };
    (r2, median_in_place(errors).unwrap_or(f64::NAN))
}

/// Area under the ROC curve of the predictions `p` of classes `y` (true: the class), and the
/// same of the resamples of [`replicates`]: the probability that an object of the class is
/// given a higher prediction than one that is not, ties counted half.
pub(super) fn area(y: &[bool], p: &[f64], draws: &Resampling) -> (f64, Vec<f64>) {
    let n = y.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let of = |times: &[u32]| -> f64 {
        let (mut below, mut won, mut class, mut rest) = (0.0, 0.0, 0.0, 0.0);
        for tied in order.chunk_by(|&a, &b| p[a] == p[b]) {
            let mut of_class = 0.0;
            let mut of_rest = 0.0;
            for &i in tied {
                *(if y[i] { &mut of_class } else { &mut of_rest }) += f64::from(times[i]);
            }
            won += of_class * (below + of_rest / 2.0);
            below += of_rest;
            class += of_class;
            rest += of_rest;
        }
        won / (class * rest) // NaN where a side is empty
    };
    let resampled = |index: usize| {
        let mut times = vec![0; n];
        draws.draw(index as u64).for_each(|place| times[place] += 1);
        of(&times)
    };
    (of(&vec![1; n]), (0..draws.count).map(resampled).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn areas_count_pairs_in_the_right_order() {
        let y = [false, true, false, true, true];
        let p = [0.1, 0.2, 0.3, 0.3, 0.9];
        // Of six pairs of class and rest: four in order, one tied, one not.
        let (value, replicates) = area(&y, &p, &Resampling::new(500, 1, 5, &[]));
        let area = Interval::percentile(value, &replicates, 0.9);
        assert!((area.value - 4.5 / 6.0).abs() < 1e-12, "{area:?}");
        assert!(area.low.unwrap() < area.value && area.high.unwrap() > area.value);
    }

    #[test]
    fn intervals_cover_and_repeat() {
        let y: Vec<f64> = (0..400).map(|i| f64::from(i) / 40.0).collect();
        let p: Vec<f64> = y.iter().enumerate().map(|(i, y)| y + (i as f64 * 2.4).sin()).collect();
        let draws = |seed| Resampling::new(1000, seed, 400, &[]);
        let a = replicates(&y, &p, &draws(3));
        assert_eq!(a, replicates(&y, &p, &draws(3)));
        assert_ne!(a, replicates(&y, &p, &draws(4)));
        let value = crate::probe::r_squared(&y, &p).unwrap();
        let interval = Interval::percentile(value, &a.r2, 0.95);
        assert!(interval.low.unwrap() < value && value < interval.high.unwrap());
        // The standard deviation of the error is 1/sqrt(2), of the truth 10/sqrt(12).
        assert!((value - (1.0 - 0.5 / (100.0 / 12.0))).abs() < 0.01, "{value}");
        assert!(interval.high.unwrap() - interval.low.unwrap() < 0.03);
    }

    #[test]
    fn objects_of_a_group_are_drawn_together() {
        // Every object twice says no more than every object once.
        let y: Vec<f64> = (0..100).map(|i| f64::from(i / 2)).collect();
        let p: Vec<f64> = y.iter().map(|y| y + (y * 2.4).sin() * 12.0).collect();
        let group: Vec<usize> = (0..100).map(|i| i / 2).collect();
        let width = |group: &[usize]| {
            let a = replicates(&y, &p, &Resampling::new(2000, 0, 100, group));
            let interval = Interval::percentile(0.0, &a.r2, 0.95);
            interval.high.unwrap() - interval.low.unwrap()
        };
        let ratio = width(&group) / width(&[]);
        assert!((1.2..1.7).contains(&ratio), "{ratio}");
    }

    #[test]
    fn no_resamples_no_interval() {
        let none = replicates(&[1.0, 2.0], &[1.0, 2.0], &Resampling::new(0, 0, 2, &[]));
        let interval = Interval::percentile(1.0, &none.r2, 0.95);
        assert_eq!(interval, Interval { value: 1.0, low: None, high: None });
        assert!(!interval.above_zero() && !interval.below_zero());
    }
}
