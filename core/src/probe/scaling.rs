//! Features moved to mean 0 and divided by their standard deviation.

use super::settings::Features;
use crate::error::{Error, Result};

/// What is taken from every column of features, and what it is divided by.
pub(super) struct Scaling {
    pub(super) mean: Vec<f64>,
    /// Standard deviations (divided by the number of objects); 0 of a column that does not vary.
    pub(super) deviation: Vec<f64>,
}

impl Scaling {
    /// The scaling that `rows` of `features` ask for.
    ///
    /// # Errors
    /// When a feature is not finite.
    pub(super) fn of(features: &Features, rows: &[usize]) -> Result<Self> {
        let (n, p) = (rows.len(), features.width);
        let mut mean = vec![0.0; p];
        for &row in rows {
            for (sum, &x) in mean.iter_mut().zip(features.row(row)) {
                *sum += f64::from(x);
            }
        }
        mean.iter_mut().for_each(|sum| *sum /= n as f64);
        if mean.iter().any(|m| !m.is_finite()) {
            return Err(Error::Failed("the features hold numbers that are not finite".into()));
        }
        let mut deviation = vec![0.0; p];
        for &row in rows {
            for ((sum, &x), m) in deviation.iter_mut().zip(features.row(row)).zip(&mean) {
                *sum += (f64::from(x) - m).powi(2);
            }
        }
        for (d, m) in deviation.iter_mut().zip(&mean) {
            *d = (*d / n as f64).sqrt();
            if *d <= 1e-12 * m.abs() {
                *d = 0.0;
            }
        }
        Ok(Self { mean, deviation })
    }

    /// The scaled features of one object; columns that do not vary are 0.
    pub(super) fn row<'a>(&'a self, x: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
        let columns = x.iter().zip(self.mean.iter().zip(&self.deviation));
        columns.map(|(&x, (m, &d))| if d > 0.0 { (f64::from(x) - m) / d } else { 0.0 })
    }

    /// The scaled features of `rows`, row-major `[rows, p]`.
    pub(super) fn rows(&self, features: &Features, rows: &[usize]) -> Vec<f32> {
        rows.iter().flat_map(|&row| self.row(features.row(row)).map(|x| x as f32)).collect()
    }
}
