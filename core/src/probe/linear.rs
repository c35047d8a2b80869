//! Least squares and ridge on standardised features, from one eigendecomposition.
//!
//! With X the training features (n rows, p columns, each moved to mean 0 and divided by its
//! standard deviation) and y the centred label, every penalty's solution comes from the
//! eigendecomposition of the smaller of X'X (p x p) and XX' (n x n): with X = U S V',
//! `w = V diag(s / (s^2 + alpha)) U' y`. Directions whose s^2 is rounding noise are left
//! out, so `alpha = 0` is the least-squares solution of least norm.
//!
//! The leave-one-out residual is `e_i / (1 - h_i)` with `h_i = 1/n + sum_j u_ij^2 s_j^2 /
//! (s_j^2 + alpha)` (Allen 1974, PRESS; the 1/n is the intercept's).

use faer::{Col, Mat, MatRef, Side};
use rayon::prelude::*;

use super::scaling::Scaling;
use super::settings::{Alpha, Features, Method};
use crate::error::{Error, Result};

/// Rows worked on at a time where an n x p intermediate would be large.
const CHUNK: usize = 4096;
/// Parts, at most, that a Gram matrix is the sum of.
const PARTS: usize = 16;

/// A fitted linear model: `intercept + weights . features`.
pub(super) struct Fit {
    pub(super) intercept: f64,
    pub(super) weights: Vec<f64>,
    /// Penalty used; `None` for least squares.
    pub(super) alpha: Option<f64>,
    /// Independent directions among the standardised features.
    pub(super) rank: usize,
}

impl Fit {
    /// Predictions for `rows` of `features`.
    pub(super) fn predict(&self, features: &Features, rows: &[usize]) -> Vec<f64> {
        let value = |&row: &usize| {
            let terms = features.row(row).iter().zip(&self.weights);
            self.intercept + terms.map(|(&x, w)| f64::from(x) * w).sum::<f64>()
        };
        rows.iter().map(value).collect()
    }
}

/// Fits `y` (one number for each of `rows`) on those rows of `features`.
///
/// # Errors
/// When a feature is not finite or the decomposition fails.
pub(super) fn fit(
    features: &Features,
    rows: &[usize],
    y: &[f64],
    method: Method,
    alpha: Alpha,
) -> Result<Fit> {
    let scaling = Scaling::of(features, rows)?;
    let mut x = Mat::zeros(rows.len(), features.width);
    for (i, &row) in rows.iter().enumerate() {
        scaling.row(features.row(row)).enumerate().for_each(|(j, value)| x[(i, j)] = value);
    }
    let y_mean = y.iter().sum::<f64>() / y.len() as f64;
    let y = Col::from_fn(y.len(), |i| y[i] - y_mean);
    let spectrum = Spectrum::new(x)?;
    let penalty = match (method, alpha) {
        (Method::Ridge, Alpha::Fixed(alpha)) => alpha,
        (Method::Ridge, Alpha::Auto) => spectrum.best_alpha(&y),
        _ => 0.0,
    };
    let weights = spectrum.solve(&y, penalty);
    let weights: Vec<f64> = weights
        .iter()
        .zip(&scaling.deviation)
        .map(|(w, &s)| if s > 0.0 { w / s } else { 0.0 })
        .collect();
    let offset: f64 = weights.iter().zip(&scaling.mean).map(|(w, m)| w * m).sum();
    Ok(Fit {
        intercept: y_mean - offset,
        weights,
        alpha: (method == Method::Ridge).then_some(penalty),
        rank: spectrum.values.len(),
    })
}

/// X'X, in parts that depend on its rows alone, added in their order.
fn gram(x: &Mat<f64>) -> Mat<f64> {
    let (n, p) = (x.nrows(), x.ncols());
    let rows = n.div_ceil(PARTS).max(CHUNK);
    let starts: Vec<usize> = (0..n).step_by(rows).collect();
    let of_part = |start: usize| {
        let part = x.subrows(start, rows.min(n - start));
        part.transpose() * part
    };
    let parts: Vec<Mat<f64>> = starts.into_par_iter().map(of_part).collect();
    parts.into_iter().reduce(|sum, part| sum + part).unwrap_or_else(|| Mat::zeros(p, p))
}

/// The part of X's singular value decomposition that is above rounding noise.
struct Spectrum {
    x: Mat<f64>,
    /// Squared singular values.
    values: Vec<f64>,
    /// V `[p, rank]` when X is tall, U `[n, rank]` when it is wide.
    vectors: Mat<f64>,
    tall: bool,
}

impl Spectrum {
    fn new(x: Mat<f64>) -> Result<Self> {
        crate::numbers::in_one_order();
        let tall = x.nrows() >= x.ncols();
        let gram = if tall { gram(&x) } else { &x * x.transpose() };
        let eigen = gram.self_adjoint_eigen(Side::Lower).map_err(|e| {
            Error::Failed(format!("the features' eigenvalues did not converge: {e:?}"))
        })?;
        let all = eigen.S().column_vector();
        let largest = all.iter().copied().fold(0.0, f64::max);
        // The usual rank tolerance; on a Gram matrix it applies to squared singular values.
        let noise = largest * x.nrows().max(x.ncols()) as f64 * f64::EPSILON;
        let first = all.iter().position(|&value| value > noise).unwrap_or(all.nrows());
        let values = all.iter().skip(first).copied().collect();
        let vectors = eigen.U().subcols(first, all.nrows() - first).to_owned();
        Ok(Self { x, values, vectors, tall })
    }

    /// S U'y: the label in the coordinates of the decomposition, times the singular values.
    fn project(&self, y: &Col<f64>) -> Col<f64> {
        if self.tall {
            self.vectors.transpose() * (self.x.transpose() * y)
        } else {
            let along = self.vectors.transpose() * y;
            Col::from_fn(along.nrows(), |j| along[j] * self.values[j].sqrt())
        }
    }

    /// The weights for the penalty `alpha`.
    fn solve(&self, y: &Col<f64>, alpha: f64) -> Vec<f64> {
        let mut c = self.project(y);
        let shrink = |j: usize| 1.0 / (self.values[j] + alpha);
        let weights = if self.tall {
            c.iter_mut().enumerate().for_each(|(j, c)| *c *= shrink(j));
            &self.vectors * c
        } else {
            c.iter_mut().enumerate().for_each(|(j, c)| *c *= shrink(j) / self.values[j].sqrt());
            self.x.transpose() * (&self.vectors * c)
        };
        weights.iter().copied().collect()
    }

    /// The penalty of least leave-one-out error on the grid.
    fn best_alpha(&self, y: &Col<f64>) -> f64 {
        let n = self.x.nrows();
        let grid: Vec<f64> =
            (0..=36).map(|k| n as f64 * 10f64.powf(-6.0 + f64::from(k) / 4.0)).collect();
        let rank = self.values.len();
        let c = self.project(y);
        let root = |j: usize| self.values[j].sqrt();
        // Columns: the hat matrix's weights, and the fitted values' coefficients.
        let hat =
            Mat::from_fn(rank, grid.len(), |j, k| self.values[j] / (self.values[j] + grid[k]));
        let fitted = Mat::from_fn(rank, grid.len(), |j, k| hat[(j, k)] * c[j] / root(j));
        let of_chunk = |start: usize| {
            let u = self.left_vectors(start, CHUNK.min(n - start));
            let squares = Mat::from_fn(u.nrows(), rank, |i, j| u[(i, j)].powi(2));
            let (leverage, values) = (&squares * &hat, &u * &fitted);
            let error = |i: usize, k: usize| {
                let left = 1.0 - 1.0 / n as f64 - leverage[(i, k)];
                let residual = y[start + i] - values[(i, k)];
                // A point that fits itself says nothing about the others: such a penalty is
                // too small to be judged.
                if left > 1e-9 { (residual / left).powi(2) } else { f64::INFINITY }
            };
            let errors = |k: usize| (0..u.nrows()).map(|i| error(i, k)).sum();
            (0..grid.len()).map(errors).collect::<Vec<f64>>()
        };
        let starts: Vec<usize> = (0..n).step_by(CHUNK).collect();
        let mut press = vec![0.0; grid.len()];
        for errors in starts.into_par_iter().map(of_chunk).collect::<Vec<_>>() {
            press.iter_mut().zip(errors).for_each(|(sum, error)| *sum += error);
        }
        let best = (0..grid.len()).min_by(|&a, &b| press[a].total_cmp(&press[b]));
        best.map_or(n as f64, |k| grid[k])
    }

    /// Rows `start..start + len` of U.
    fn left_vectors(&self, start: usize, len: usize) -> Mat<f64> {
        if !self.tall {
            return self.vectors.subrows(start, len).to_owned();
        }
        let rows: MatRef<'_, f64> = self.x.subrows(start, len);
        let mut u = rows * &self.vectors;
        for (j, value) in self.values.iter().enumerate() {
            let scale = 1.0 / value.sqrt();
            u.col_mut(j).iter_mut().for_each(|x| *x *= scale);
        }
        u
    }
}
