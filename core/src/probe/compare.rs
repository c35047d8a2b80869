//! One set of features beside another, on the same held-out objects.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StudentT;
use serde::{Deserialize, Serialize};

use super::bootstrap::{Interval, Replicates};
use super::score::ProbeScore;
use super::settings::ProbeSettings;
use crate::error::{Error, Result};

/// How far the scores of sets of features differ that differ by chance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How many sets.
    pub sets: usize,
    /// Standard deviation of their R^2 (divided by their number less one).
    pub deviation: f64,
    /// Least R^2.
    pub least: f64,
    /// Largest R^2.
    pub most: f64,
}

/// How much better one set of features does than another on the same held-out objects:
/// intervals come from the same resamples for both (a paired bootstrap).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// R^2 less the other's R^2: above zero is better.
    pub r2: Interval,
    /// Median absolute error less the other's, in the label's unit: below zero is better.
    pub error_label: Interval,
    /// Of a class: area under the ROC curve less the other's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc: Option<Interval>,
}

/// What the held-out objects say of a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval is better than the other.
    Beats,
    /// The interval holds zero: they cannot tell.
    #[default]
    Undecided,
    /// The whole interval is worse.
    FallsShort,
}

impl Difference {
    /// The difference that decides: of areas under the ROC curve where the label is a class,
    /// which do not depend on how common it is, and of R^2 otherwise.
    pub fn deciding(&self) -> &Interval {
        self.auc.as_ref().unwrap_or(&self.r2)
    }

    /// Whether it is on one side of zero with the whole of its interval.
    pub fn verdict(&self) -> Verdict {
        if self.deciding().above_zero() {
            Verdict::Beats
        } else if self.deciding().below_zero() {
            Verdict::FallsShort
        } else {
            Verdict::Undecided
        }
    }
}

impl Verdict {
    /// As a word of a sentence about the set of features `other`.
    pub fn says(self, other: &str) -> String {
        match self {
            Self::Beats => format!("beats {other}"),
            Self::Undecided => format!("does not clearly beat {other}"),
            Self::FallsShort => format!("falls short of {other}"),
        }
    }
}

/// How much better `model` does than `baseline`; both must have been scored on the same
/// objects of the same label, as [`probe`](super::probe) does for two sets of features of one
/// table.
///
/// # Errors
/// When they were not.
pub fn difference(
    model: &ProbeScore,
    baseline: &ProbeScore,
    settings: &ProbeSettings,
) -> Result<Difference> {
    let (a, b) = (&model.held_out, &baseline.held_out);
    if a.rows != b.rows || a.truth != b.truth {
        return Err(Error::Failed("the two probes were scored on different objects".into()));
    }
    let less = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
    let (ra, rb) = (&a.replicates, &b.replicates);
    let percentile = |value: f64, replicates: &[f64]| {
        Interval::percentile(value, replicates, settings.confidence)
    };
    let error = model.error_label.value - baseline.error_label.value;
    let errors = percentile(0.0, &less(&ra.error, &rb.error)).times(model.scale);
    let areas = model.auc.zip(baseline.auc);
    Ok(Difference {
        r2: percentile(model.r2.value - baseline.r2.value, &less(&ra.r2, &rb.r2)),
        error_label: Interval { value: error, ..errors },
        auc: areas.map(|(a, b)| percentile(a.value - b.value, &less(&ra.auc, &rb.auc))),
    })
}

/// The mean of `scores` of one label on the same objects by sets of features that differ by
/// chance: values and every resample are averaged, so that its interval, and that of a
/// difference to it, is over held-out objects. The predictions kept are those of the first
/// set.
///
/// # Errors
/// When there is none, or they are of different objects.
pub(super) fn mean(scores: Vec<ProbeScore>, settings: &ProbeSettings) -> Result<ProbeScore> {
    let sets = scores.len();
    let Some(first) = scores.first() else {
        return Err(Error::Failed("there is no set of features to score".into()));
    };
    if scores.iter().any(|score| score.held_out.rows != first.held_out.rows) {
        return Err(Error::Failed("sets of features were scored on different objects".into()));
    }
    if sets == 1 {
        return Ok(first.clone());
    }
    let of =
        |value: &dyn Fn(&ProbeScore) -> f64| scores.iter().map(value).sum::<f64>() / sets as f64;
    let replicates_of = |part: &dyn Fn(&Replicates) -> &Vec<f64>| -> Vec<f64> {
        let mut sum = vec![0.0; part(&first.held_out.replicates).len()];
        for score in &scores {
            let replicates = part(&score.held_out.replicates);
            sum.iter_mut().zip(replicates).for_each(|(sum, x)| *sum += x / sets as f64);
        }
        sum
    };
    let replicates = Replicates {
        r2: replicates_of(&|r| &r.r2),
        error: replicates_of(&|r| &r.error),
        auc: replicates_of(&|r| &r.auc),
    };
    let percentile = |value: f64, replicates: &[f64]| {
        Interval::percentile(value, replicates, settings.confidence)
    };
    let r2 = of(&|score| score.r2.value);
    let squares: f64 = scores.iter().map(|score| (score.r2.value - r2).powi(2)).sum();
    let values = || scores.iter().map(|score| score.r2.value);
    let spread = Spread {
        sets,
        deviation: (squares / (sets - 1) as f64).sqrt(),
        least: values().fold(f64::INFINITY, f64::min),
        most: values().fold(f64::NEG_INFINITY, f64::max),
    };
    let scale = first.scale;
    let error = of(&|score| score.error_label.value);
    let error_label = percentile(error / scale, &replicates.error).times(scale);
    let auc = first.auc.map(|_| of(&|score| score.auc.map_or(f64::NAN, |auc| auc.value)));
    let mut out = first.clone();
    out.r2 = percentile(r2, &replicates.r2);
    out.error = first.error.map(|of_first| {
        // The same factor from the label's unit to interquartile ranges for every set.
        error_label.times(of_first.value / first.error_label.value)
    });
    out.error_label = error_label;
    out.auc = auc.map(|auc| percentile(auc, &replicates.auc));
    out.spread = Some(spread);
    out.held_out.replicates = replicates;
    Ok(out)
}

/// The mean of `scores` of one label on the same objects by folds that fell otherwise, to be set beside
/// a score by folds of its own: what those may differ from the mean by chance, by Student's t as
/// there are few, is in the resamples of R^2.
///
/// # Errors
/// As [`mean`].
pub(super) fn however_folded(
    scores: Vec<ProbeScore>,
    settings: &ProbeSettings,
) -> Result<ProbeScore> {
    let count = scores.len() as f64;
    let mut out = mean(scores, settings)?;
    let Some((spread, chance)) = out.spread.zip(StudentT::new(count - 1.0).ok()) else {
        return Ok(out);
    };
    let deviation = spread.deviation * (1.0 + 1.0 / count).sqrt();
    let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
    for r2 in &mut out.held_out.replicates.r2 {
        *r2 += deviation * random.sample(chance);
    }
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::probe::{Features, Split, ValidRange, probe};

    fn noise(i: usize) -> f64 {
        ((i as f64 * 12.9898).sin() * 43758.5453).fract()
    }

    #[test]
    fn sets_that_differ_by_chance_are_averaged_and_their_spread_told() {
        let y: Vec<Option<f64>> = (0..120).map(|i| Some(noise(i) + 0.3)).collect();
        let rows: Vec<usize> = (0..120).collect();
        let split = Split { train: rows[..60].into(), test: rows[60..].into(), ..Split::default() };
        let settings = ProbeSettings::default();
        let score = |seed: usize, error: f64| {
            let x = (0..120).map(|i| (noise(i) + error * noise(1000 * seed + i)) as f32).collect();
            let features = Features::new(1, x).unwrap();
            probe(&features, &y, &split, &settings, ValidRange::default()).unwrap()
        };
        let scores = vec![score(1, 0.3), score(2, 0.5), score(3, 0.7)];
        let values: Vec<f64> = scores.iter().map(|score| score.r2.value).collect();
        let errors: f64 = scores.iter().map(|score| score.error.unwrap().value).sum();
        let mean = mean(scores.clone(), &settings).unwrap();
        assert!((mean.r2.value - values.iter().sum::<f64>() / 3.0).abs() < 1e-12);
        assert!((mean.error.unwrap().value - errors / 3.0).abs() < 1e-12);
        let spread = mean.spread.unwrap();
        assert_eq!((spread.sets, spread.least), (3, values[2]));
        assert!(spread.deviation > 0.0 && mean.r2.low.unwrap() < mean.r2.value);
        let against = difference(&scores[0], &mean, &settings).unwrap();
        assert_eq!(against.verdict(), Verdict::Beats, "{against:?}");
        let back = difference(&mean, &scores[0], &settings).unwrap();
        assert_eq!(back.verdict(), Verdict::FallsShort);
        let same = difference(&mean, &mean, &settings).unwrap();
        assert_eq!(same.verdict(), Verdict::Undecided);
        assert!(super::mean(Vec::new(), &settings).is_err());
    }
}
