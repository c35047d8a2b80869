//! One probe: a label, a set of features, a score.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::bootstrap::{Interval, Replicates, Resampling, area, replicates};
use super::compare::Spread;
use super::model::Fit;
use super::settings::{Features, ProbeSettings, Split, ValidRange};
use super::stats::{median, r_squared};
use super::target::Target;
use crate::error::{Error, Result};

/// How many held-out pairs are kept for a chart.
const PAIRS: usize = 400;

/// How well a model of the features tells a label of held-out objects.
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
    /// Objects fitted on; the fewest of any fold.
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
    /// What was chosen on the fitted objects: ridge's penalty, the neighbours of k-NN, the
    /// network's decay; the median one of several folds.
    #[serde(default, alias = "alpha")]
    pub chosen: Option<f64>,
    /// Independent directions among the features of a linear model; otherwise their number.
    pub rank: usize,
    /// What a reader should know of the fit.
    pub note: Option<String>,
    /// Of several sets of features that differ by chance, such as random initialisations: how
    /// far they differ. The scores are then means over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// Some held-out objects, evenly chosen: label and prediction, in the label's unit.
    pub pairs: Vec<[f64; 2]>,
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

/// Fits a model of `features` to the label `y` (`None`: not known) on the rows
/// `split.train` and scores it on the rows `split.test`, after the cut and the scaling of
/// `settings`. With folds the predictions of all folds are scored together, each made by a
/// fit that has not seen it.
///
/// # Errors
/// When a side has fewer than ten objects with a usable label, the label does not vary, or a
/// feature is not finite. The message is a reason without the label's name.
pub fn probe(
    features: &Features,
    y: &[Option<f64>],
    split: &Split,
    settings: &ProbeSettings,
    valid: ValidRange,
) -> Result<ProbeScore> {
    if y.len() != features.n || split.train.iter().chain(&split.test).any(|&r| r >= features.n) {
        return Err(Error::Failed(format!(
            "features of {} objects do not go with {} labels and the rows asked for",
            features.n,
            y.len()
        )));
    }
    let target = Target::prepare(y, split, valid, settings)?;
    let fitted = predict(features, &target, split, settings)?;
    if fitted.predicted.iter().any(|p| !p.is_finite()) {
        return Err(Error::Failed("the features hold numbers that are not finite".into()));
    }
    scored(target, fitted, split, settings)
}

/// Predictions of the held-out objects, and what is told of the fit or fits behind them.
struct Fitted {
    predicted: Vec<f64>,
    /// Fewest objects that a fit saw.
    n_train: usize,
    /// What was chosen, the median of several fits.
    chosen: Option<f64>,
    rank: usize,
    note: Option<String>,
}

/// Fits once, or once a fold.
fn predict(
    features: &Features,
    target: &Target,
    split: &Split,
    settings: &ProbeSettings,
) -> Result<Fitted> {
    if split.folds.is_empty() {
        let n_train = target.train.len();
        let fit = Fit::new(features, &target.train, &target.y_train, settings)?;
        let predicted = fit.predict(features, &target.test);
        let Fit { chosen, rank, note, .. } = fit;
        return Ok(Fitted { predicted, n_train, chosen, rank, note });
    }
    let fold = |place: usize| split.folds[target.test[place]];
    let folds: BTreeSet<usize> = (0..target.test.len()).map(fold).collect();
    let mut out = Fitted {
        predicted: vec![f64::NAN; target.test.len()],
        n_train: usize::MAX,
        chosen: None,
        rank: usize::MAX,
        note: None,
    };
    let mut chosen = Vec::new();
    for held in folds {
        let (scored, others): (Vec<usize>, Vec<usize>) =
            (0..target.test.len()).partition(|&place| fold(place) == held);
        let (mut rows, mut y) = (target.train.clone(), target.y_train.clone());
        rows.extend(others.iter().map(|&place| target.test[place]));
        y.extend(others.iter().map(|&place| target.y_test[place]));
        let fit = Fit::new(features, &rows, &y, settings)?;
        let tests: Vec<usize> = scored.iter().map(|&place| target.test[place]).collect();
        for (place, value) in scored.iter().zip(fit.predict(features, &tests)) {
            out.predicted[*place] = value;
        }
        out.rank = out.rank.min(fit.rank);
        chosen.extend(fit.chosen);
        if rows.len() < out.n_train {
            (out.n_train, out.note) = (rows.len(), fit.note);
        }
    }
    out.chosen = median(&chosen);
    Ok(out)
}

/// The score of predictions.
fn scored(
    target: Target,
    fitted: Fitted,
    split: &Split,
    settings: &ProbeSettings,
) -> Result<ProbeScore> {
    let predicted = fitted.predicted;
    let groups: Vec<usize> = match split.groups.is_empty() {
        true => Vec::new(),
        false => target.test.iter().map(|&row| split.groups[row]).collect(),
    };
    let draws = Resampling::new(settings.bootstrap, settings.seed, predicted.len(), &groups);
    let mut replicates = replicates(&target.y_test, &predicted, &draws);
    let r2 = r_squared(&target.y_test, &predicted).unwrap_or(f64::NAN);
    let errors: Vec<f64> =
        target.y_test.iter().zip(&predicted).map(|(y, p)| (y - p).abs()).collect();
    let error = median(&errors).unwrap_or(f64::NAN);
    if !r2.is_finite() || !error.is_finite() {
        return Err(Error::Failed(
            "the label's values are too large or too close together to be scored".into(),
        ));
    }
    let unscale = |v: &f64| v * target.scale + target.shift;
    let error_label =
        Interval::percentile(error, &replicates.error, settings.confidence).times(target.scale);
    let truth: Vec<f64> = target.y_test.iter().map(unscale).collect();
    let predicted: Vec<f64> = predicted.iter().map(unscale).collect();
    let mut auc = None;
    if truth.iter().all(|y| [0.0, 1.0].contains(y)) {
        let class: Vec<bool> = truth.iter().map(|&y| y > 0.5).collect();
        let (value, resampled) = area(&class, &predicted, &draws);
        auc = Some(Interval::percentile(value, &resampled, settings.confidence));
        replicates.auc = resampled;
    }
    let step = truth.len().div_ceil(PAIRS);
    let pairs = truth.iter().zip(&predicted).step_by(step);
    Ok(ProbeScore {
        r2: Interval::percentile(r2, &replicates.r2, settings.confidence),
        error: target.iqr.map(|iqr| error_label.times(1.0 / iqr)),
        error_label,
        auc,
        n_train: fitted.n_train,
        n_test: target.test.len(),
        n_unknown: target.unknown,
        n_cut: target.cut,
        shift: target.shift,
        scale: target.scale,
        chosen: fitted.chosen,
        rank: fitted.rank,
        note: fitted.note,
        spread: None,
        pairs: pairs.map(|(&t, &p)| [t, p]).collect(),
        held_out: HeldOut { rows: target.test, truth, predicted, replicates },
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "score_tests.rs"]
mod tests;
