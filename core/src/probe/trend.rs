//! How probes get better with the size of the model: the paper's Figure 4.

use serde::{Deserialize, Serialize};

use super::bootstrap::Interval;
use super::score::ProbeScore;
use super::stats::{pearson, spearman};

/// The gains of a family of models on one label. The gain of a model is the median absolute
/// error of the smallest divided by its own; of a class, the area under the ROC curve that is
/// missing to 1 takes the error's place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// The label.
    pub label: String,
    /// One gain a model, in the order given; the first is 1. Empty where they are not determined: a
    /// model that misses nothing has no gain that is a number.
    pub gains: Vec<Interval>,
    /// Pearson's correlation of the gains with log10 FLOP: what the paper prints as rho (of
    /// five models, where Spearman's moves in steps of 0.1). `None` of two models, and without gains.
    /// Noise bends what lies on a line, so that resamples of few models are all nearer to zero than
    /// the value itself: the interval then reaches to it.
    pub pearson: Option<Interval>,
    /// Spearman's correlation of the same: what the paper says it prints.
    pub spearman: Option<Interval>,
    /// The same gains of the models before training: what width alone gains. Empty where they were
    /// not probed.
    #[serde(default)]
    pub untrained: Vec<Interval>,
    /// Objects fitted on, the fewest of any model; 0 in families of earlier versions.
    #[serde(default)]
    pub fitted: usize,
    /// Objects scored on.
    #[serde(default)]
    pub scored: usize,
}

/// The trend of `label` over models, the smallest first, each with its training's FLOP and its
/// score. Intervals are over the scored objects, the same for all models. `None` with fewer
/// than two models, or where they were scored on different objects.
pub fn trend(label: &str, models: &[(f64, &ProbeScore)], confidence: f64) -> Option<Trend> {
    let (_, first) = models.first()?;
    let same = |score: &ProbeScore| {
        score.held_out.rows == first.held_out.rows && score.held_out.truth == first.held_out.truth
    };
    if models.len() < 2 || !models.iter().all(|(_, score)| same(score)) {
        return None;
    }
    let x: Vec<f64> = models.iter().map(|(flops, _)| flops.log10()).collect();
    let misses: Vec<Miss> = models.iter().map(|(_, score)| Miss::of(score)).collect();
    let mut gains = gains(misses.iter().map(|miss| miss.value));
    if !gains.iter().all(|&gain| gain.is_finite() && gain > 0.0) {
        gains.clear();
    }
    let count = misses.iter().map(|miss| miss.resampled.len()).min().unwrap_or(0);
    let resampled: Vec<Vec<f64>> =
        (0..count).map(|k| self::gains(misses.iter().map(|miss| miss.resampled[k]))).collect();
    let interval = |value: f64, of: &dyn Fn(&[f64]) -> f64| {
        let replicates: Vec<f64> = resampled.iter().map(|gains| of(gains)).collect();
        Interval::percentile(value, &replicates, confidence)
    };
    let correlation = |how: fn(&[f64], &[f64]) -> Option<f64>| {
        // Two points lie on a line whatever they are.
        let enough = x.len() > 2 && !gains.is_empty();
        let value = if enough { how(&x, &gains).filter(|r| r.is_finite())? } else { return None };
        Some(interval(value, &|gains| how(&x, gains).unwrap_or(f64::NAN)).holding(value))
    };
    Some(Trend {
        label: label.to_owned(),
        pearson: correlation(pearson),
        spearman: correlation(spearman),
        gains: (0..gains.len())
            .map(|model| interval(gains[model], &|gains| gains[model]))
            .collect(),
        untrained: Vec::new(),
        fitted: models.iter().map(|(_, score)| score.n_train).min().unwrap_or(0),
        scored: first.n_test,
    })
}

impl Trend {
    /// Whether there are gains: not where a model misses nothing.
    pub fn determined(&self) -> bool {
        !self.gains.is_empty()
    }

    /// Whether the untrained models gain more, from the smallest to the largest, than the trained.
    pub fn no_merit(&self) -> bool {
        let last = |of: &[Interval]| of.last().map(|gain| gain.value);
        last(&self.untrained).zip(last(&self.gains)).is_some_and(|(without, with)| without > with)
    }
}

/// What a model misses: an error, with its value in every resample.
struct Miss {
    value: f64,
    resampled: Vec<f64>,
}

impl Miss {
    fn of(score: &ProbeScore) -> Self {
        let replicates = &score.held_out.replicates;
        match &score.auc {
            Some(auc) => Self {
                value: 1.0 - auc.value,
                resampled: replicates.auc.iter().map(|area| 1.0 - area).collect(),
            },
            None => Self {
                value: score.error_label.value / score.scale,
                resampled: replicates.error.clone(),
            },
        }
    }
}

fn gains(mut misses: impl Iterator<Item = f64>) -> Vec<f64> {
    let Some(first) = misses.next() else { return Vec::new() };
    std::iter::once(1.0).chain(misses.map(|miss| first / miss)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::bootstrap::Replicates;
    use super::super::score::HeldOut;
    use super::*;

    fn score(error: f64) -> ProbeScore {
        let replicates = Replicates {
            r2: Vec::new(),
            error: (0..50).map(|k| error * (0.9 + 0.004 * f64::from(k))).collect(),
            auc: Vec::new(),
        };
        let held_out =
            HeldOut { rows: vec![1, 2], truth: vec![0.0, 1.0], predicted: vec![], replicates };
        let plain = Interval { value: error * 3.0, low: None, high: None };
        ProbeScore {
            r2: Interval::default(),
            error: None,
            error_label: plain,
            auc: None,
            n_train: 2,
            n_test: 2,
            n_unknown: 0,
            n_cut: 0,
            shift: 0.0,
            scale: 3.0,
            chosen: None,
            rank: 1,
            note: None,
            spread: None,
            pairs: Vec::new(),
            held_out,
        }
    }

    #[test]
    fn gains_are_relative_to_the_smallest_model() {
        let scores = [0.4, 0.2, 0.1].map(score);
        let models: Vec<_> = [1e17, 1e18, 1e19].into_iter().zip(&scores).collect();
        let trend = trend("redshift", &models, 0.95).expect("three models");
        let gains: Vec<f64> = trend.gains.iter().map(|gain| gain.value).collect();
        assert!(gains.iter().zip([1.0, 2.0, 4.0]).all(|(a, b)| (a - b).abs() < 1e-9), "{gains:?}");
        assert_eq!(trend.spearman.map(|rho| rho.value), Some(1.0));
        // Resamples move all models alike here, so that ratios keep still.
        let low = trend.gains[2].low.expect("resampled");
        assert!((low - 4.0).abs() < 1e-9, "{low}");
        assert!((trend.fitted, trend.scored) == (2, 2) && !trend.no_merit(), "{trend:?}");
        let untrained = vec![trend.gains[0], Interval { value: 4.5, low: None, high: None }];
        assert!(Trend { untrained, ..trend.clone() }.no_merit());
        assert!(super::trend("x", &models[..1], 0.95).is_none());
        let mut other = score(0.1);
        other.held_out.rows = vec![3, 4];
        assert!(super::trend("x", &[(1.0, &scores[0]), (2.0, &other)], 0.95).is_none());
    }

    #[test]
    fn gains_over_a_model_that_misses_nothing_are_not_determined() {
        let class = |area: f64| {
            let mut score = score(0.1);
            let interval = Interval { value: area, low: Some(area), high: Some(area) };
            (score.auc, score.held_out.replicates.auc) = (Some(interval), vec![area; 50]);
            score
        };
        let compute = [1e17, 1e18, 1e19];
        for scores in [
            [0.9, 0.95, 1.0].map(class),
            [1.0, 1.0, 1.0].map(class),
            [1.0, 0.9, 0.9].map(class),
            [0.4, 0.2, 0.0].map(score),
        ] {
            let models: Vec<_> = compute.into_iter().zip(&scores).collect();
            let trend = trend("class", &models, 0.95).expect("three models");
            let text = serde_json::to_string(&trend).expect("JSON");
            let again: Trend = serde_json::from_str(&text).expect("it is read again");
            assert_eq!(again, trend);
            assert!(!trend.determined() && !trend.no_merit(), "{trend:?}");
            assert!(trend.pearson.is_none() && trend.spearman.is_none(), "{trend:?}");
        }
    }
}
