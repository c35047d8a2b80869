//! The models that read labels from features, under one name.

use super::knn::Knn;
use super::linear;
use super::mlp::Mlp;
use super::settings::{Features, Method, ProbeSettings};
use crate::error::Result;

/// A fitted model, and what is told of its fit.
pub(super) struct Fit {
    model: Model,
    /// What was chosen on the fitted objects: a penalty, a number of neighbours, a decay.
    pub(super) chosen: Option<f64>,
    /// Independent directions among the features that a linear model has; otherwise all.
    pub(super) rank: usize,
    /// What a reader should know of the fit.
    pub(super) note: Option<String>,
}

enum Model {
    Linear(linear::Fit),
    Knn(Knn),
    Mlp(Mlp),
}

impl Fit {
    /// Fits `y` (one number for each of `rows`) on those rows of `features`.
    ///
    /// # Errors
    /// When a feature is not finite or a decomposition fails.
    pub(super) fn new(
        features: &Features,
        rows: &[usize],
        y: &[f64],
        settings: &ProbeSettings,
    ) -> Result<Self> {
        let width = features.width;
        Ok(match settings.method {
            Method::Ols | Method::Ridge => {
                let fit = linear::fit(features, rows, y, settings.method, settings.alpha)?;
                let note = note(&fit, width, rows.len(), settings.method);
                Self { chosen: fit.alpha, rank: fit.rank, note, model: Model::Linear(fit) }
            }
            Method::Knn => {
                let fit = Knn::fit(features, rows, y)?;
                let chosen = Some(fit.neighbours as f64);
                Self { chosen, rank: width, note: None, model: Model::Knn(fit) }
            }
            Method::Mlp => {
                let fit = Mlp::fit(features, rows, y, settings.seed)?;
                let chosen = Some(fit.decay);
                Self { chosen, rank: width, note: None, model: Model::Mlp(fit) }
            }
        })
    }

    /// Predictions for `rows` of `features`.
    pub(super) fn predict(&self, features: &Features, rows: &[usize]) -> Vec<f64> {
        match &self.model {
            Model::Linear(fit) => fit.predict(features, rows),
            Model::Knn(fit) => fit.predict(features, rows),
            Model::Mlp(fit) => fit.predict(features, rows),
        }
    }
}

/// Says where least squares has no single answer or has fitted noise exactly.
fn note(fit: &linear::Fit, width: usize, n: usize, method: Method) -> Option<String> {
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
