//! One probe: a label, a set of features, a score.

use serde::{Deserialize, Serialize};

use super::bootstrap::{Interval, Replicates, area, replicates};
use super::linear::{self, Fit};
use super::settings::{Features, Method, ProbeSettings, ValidRange};
use super::stats::{median, r_squared};
use super::target::Target;
use crate::error::{Error, Result};

/// How many held-out pairs are kept for a chart.
const PAIRS: usize = 400;

/// How well a linear model of the features tells a label of held-out objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeScore {
    /// R^2 on the held-out objects: 1 is perfect, 0 is no better than their mean.
    pub r2: Interval,
    /// Median absolute error in interquartile ranges of the label, the paper's score;
    /// `None` where that range is zero.
    pub error: Option<Interval>,
    /// Median absolute error in the label's own unit.
    pub error_label: Interval,
    /// Of a class, labelled 1 and the rest 0: area under the ROC curve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc: Option<Interval>,
    /// Objects fitted on.
    pub n_train: usize,
    /// Objects scored on.
    pub n_test: usize,
    /// Objects left out because the label is not known.
    pub n_unknown: usize,
    /// Objects left out as outliers.
    pub n_cut: usize,
    /// Median of the label, or 0 where it was not moved.
    pub shift: f64,
    /// Interquartile range of the label, or 1 where it was not scaled.
    pub scale: f64,
    /// Penalty of ridge.
    pub alpha: Option<f64>,
    /// Independent directions among the features.
    pub rank: usize,
    /// What a reader should know of the fit.
    pub note: Option<String>,
    /// Some held-out objects, evenly chosen: label and prediction, in the label's unit.
    pub pairs: Vec<[f32; 2]>,
    /// Every held-out prediction; not written out.
    #[serde(skip)]
    pub held_out: HeldOut,
}

/// The held-out objects of a probe.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeldOut {
    /// Their rows in the table.
    pub rows: Vec<usize>,
    /// Their labels, in the label's unit.
    pub truth: Vec<f64>,
    /// Their predictions, in the label's unit.
    pub predicted: Vec<f64>,
    pub(super) replicates: Replicates,
}

/// How much better one set of features does than another on the same held-out objects:
/// intervals come from the same resamples for both (a paired bootstrap).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// R^2 less the other's R^2: above zero is better.
    pub r2: Interval,
    /// Median absolute error less the other's, in the label's unit: below zero is better.
    pub error_label: Interval,
}

/// Fits a linear model of `features` to the label `y` (`None`: not known) on the rows
/// `train` and scores it on the rows `test`, after the cut and the scaling of `settings`.
///
/// # Errors
/// When a side has fewer than ten objects with a usable label, the label does not vary, or a
/// feature is not finite. The message is a reason without the label's name.
pub fn probe(
    features: &Features,
    y: &[Option<f64>],
    train: &[usize],
    test: &[usize],
    settings: &ProbeSettings,
    valid: ValidRange,
) -> Result<ProbeScore> {
    if y.len() != features.n || train.iter().chain(test).any(|&row| row >= features.n) {
        return Err(Error::Failed(format!(
            "features of {} objects do not go with {} labels and the rows asked for",
            features.n,
            y.len()
        )));
    }
    let target = Target::prepare(y, train, test, valid, settings)?;
    let fit =
        linear::fit(features, &target.train, &target.y_train, settings.method, settings.alpha)?;
    let unscale = |v: &f64| v * target.scale + target.shift;
    let predicted = fit.predict(features, &target.test);
    if predicted.iter().any(|p| !p.is_finite()) {
        return Err(Error::Failed("the features hold numbers that are not finite".into()));
    }
    let replicates = replicates(&target.y_test, &predicted, settings.bootstrap, settings.seed);
    let r2 = r_squared(&target.y_test, &predicted).unwrap_or(f64::NAN);
    let errors: Vec<f64> =
        target.y_test.iter().zip(&predicted).map(|(y, p)| (y - p).abs()).collect();
    let error = median(&errors).unwrap_or(f64::NAN);
    if !r2.is_finite() || !error.is_finite() {
        return Err(Error::Failed(
            "the label's values are too large or too close together to be scored".into(),
        ));
    }
    let error_label =
        Interval::percentile(error, &replicates.error, settings.confidence).times(target.scale);
    let truth: Vec<f64> = target.y_test.iter().map(unscale).collect();
    let predicted: Vec<f64> = predicted.iter().map(unscale).collect();
    let auc = class_area(&truth, &predicted, settings);
    let step = truth.len().div_ceil(PAIRS);
    let pairs = truth.iter().zip(&predicted).step_by(step);
    Ok(ProbeScore {
        r2: Interval::percentile(r2, &replicates.r2, settings.confidence),
        error: target.iqr.map(|iqr| error_label.times(1.0 / iqr)),
        error_label,
        auc,
        n_train: target.train.len(),
        n_test: target.test.len(),
        n_unknown: target.unknown,
        n_cut: target.cut,
        shift: target.shift,
        scale: target.scale,
        alpha: fit.alpha,
        rank: fit.rank,
        note: note(&fit, features.width, target.train.len(), settings.method),
        pairs: pairs.map(|(&t, &p)| [t as f32, p as f32]).collect(),
        held_out: HeldOut { rows: target.test, truth, predicted, replicates },
    })
}

/// The area under the curve of a label that is a class, 0 or 1.
fn class_area(truth: &[f64], predicted: &[f64], settings: &ProbeSettings) -> Option<Interval> {
    truth.iter().all(|y| [0.0, 1.0].contains(y)).then(|| {
        let class: Vec<bool> = truth.iter().map(|&y| y > 0.5).collect();
        area(&class, predicted, settings.bootstrap, settings.seed, settings.confidence)
    })
}

/// How much better `model` does than `baseline`; both must have been scored on the same
/// objects of the same label, as [`probe`] does for two sets of features of one table.
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
    let error = model.error_label.value - baseline.error_label.value;
    let errors = Interval::percentile(0.0, &less(&ra.error, &rb.error), settings.confidence)
        .times(model.scale);
    Ok(Difference {
        r2: Interval::percentile(
            model.r2.value - baseline.r2.value,
            &less(&ra.r2, &rb.r2),
            settings.confidence,
        ),
        error_label: Interval { value: error, ..errors },
    })
}

/// Says where least squares has no single answer or has fitted noise exactly.
fn note(fit: &Fit, width: usize, n: usize, method: Method) -> Option<String> {
    if method == Method::Ridge {
        return None;
    }
    if n <= width {
        return Some(format!(
            "{n} training objects for {} unknowns: of the many exact fits, the one of least \
             norm; ridge would do better",
            width + 1
        ));
    }
    (fit.rank < width)
        .then(|| format!("{} of {width} features are independent: the fit of least norm", fit.rank))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "score_tests.rs"]
mod tests;
