//! The mean label of the nearest fitted objects (Fix & Hodges 1951), by Euclidean distance of
//! standardised features.
//!
//! How many neighbours there are is chosen on the fitted objects alone: the number of least
//! squared error when each is left out in turn.

use faer::MatRef;

use super::distances::{by_row, smallest};
use super::scaling::Scaling;
use super::settings::Features;
use crate::error::Result;

/// Numbers of neighbours to choose from.
const NUMBERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Most objects that are kept to be neighbours, and most that are left out to choose by: evenly
/// spaced ones of more. They bound the time, which grows with the products of both.
const KEPT: usize = 20_000;
const JUDGES: usize = 1000;

/// Fitted neighbours.
pub(super) struct Knn {
    scaling: Scaling,
    /// Scaled features of the fitted objects, `[n, p]`.
    x_np: Vec<f32>,
    y: Vec<f64>,
    /// Neighbours that are averaged.
    pub(super) neighbours: usize,
}

impl Knn {
    /// Keeps `y` (one number for each of `rows`) of those rows of `features`.
    ///
    /// # Errors
    /// When a feature is not finite.
    pub(super) fn fit(features: &Features, rows: &[usize], y: &[f64]) -> Result<Self> {
        let step = rows.len().div_ceil(KEPT);
        let kept: Vec<usize> = rows.iter().step_by(step).copied().collect();
        let scaling = Scaling::of(features, &kept)?;
        let x_np = scaling.rows(features, &kept);
        let y = y.iter().step_by(step).copied().collect();
        let mut out = Self { scaling, x_np, y, neighbours: 1 };
        out.neighbours = out.best_number();
        Ok(out)
    }

    /// Predictions for `rows` of `features`.
    pub(super) fn predict(&self, features: &Features, rows: &[usize]) -> Vec<f64> {
        let queries = self.scaling.rows(features, rows);
        let mean = |near: Vec<usize>| {
            near.iter().map(|&j| self.y[j]).sum::<f64>() / near.len().max(1) as f64
        };
        self.nearest(&queries, self.neighbours, |_| None).into_iter().map(mean).collect()
    }

    /// The nearest `count` fitted objects of each query, nearest first, without the one that
    /// `own` says the query is.
    fn nearest(
        &self,
        queries: &[f32],
        count: usize,
        own: impl Fn(usize) -> Option<usize> + Sync,
    ) -> Vec<Vec<usize>> {
        let p = self.scaling.mean.len();
        let queries = MatRef::from_row_major_slice(queries, queries.len() / p, p);
        let points = MatRef::from_row_major_slice(&self.x_np, self.y.len(), p);
        by_row(queries, points, |query, d_n| {
            let own = own(query);
            let others = d_n.iter().enumerate().filter(|(j, _)| Some(*j) != own);
            let near = smallest(others.map(|(j, &d)| (j as u32, d)), count);
            near.into_iter().map(|(j, _)| j as usize).collect()
        })
    }

    fn best_number(&self) -> usize {
        let (n, p) = (self.y.len(), self.scaling.mean.len());
        let step = n.div_ceil(JUDGES);
        let judges: Vec<usize> = (0..n).step_by(step).collect();
        let queries: Vec<f32> =
            judges.iter().flat_map(|&i| &self.x_np[i * p..(i + 1) * p]).copied().collect();
        let numbers = || NUMBERS.into_iter().filter(|&number| number < n);
        let most = numbers().max().unwrap_or(1);
        let near = self.nearest(&queries, most, |query| Some(judges[query]));
        let squares = |number: usize| -> f64 {
            let error = |(&i, near): (&usize, &Vec<usize>)| {
                let sum: f64 = near.iter().take(number).map(|&j| self.y[j]).sum();
                (self.y[i] - sum / number as f64).powi(2)
            };
            judges.iter().zip(&near).map(error).sum()
        };
        numbers().min_by(|&a, &b| squares(a).total_cmp(&squares(b))).unwrap_or(1)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_averaged_and_their_number_chosen() {
        // A step that no straight line follows, and noise that asks for more than one neighbour.
        let noise = |i: usize| ((i as f64 * 12.9898).sin() * 43758.5453).fract();
        let x: Vec<f32> = (0..600).map(|i| noise(i) as f32).collect();
        let truth: Vec<f64> = x.iter().map(|&x| f64::from(u8::from(x.abs() > 0.5))).collect();
        let y: Vec<f64> = (0..600).map(|i| truth[i] + 0.3 * noise(5000 + i)).collect();
        let features = Features::new(1, x).unwrap();
        let rows: Vec<usize> = (0..400).collect();
        let knn = Knn::fit(&features, &rows, &y[..400]).unwrap();
        assert!((2..=32).contains(&knn.neighbours), "{}", knn.neighbours);
        let tests: Vec<usize> = (400..600).collect();
        let predicted = knn.predict(&features, &tests);
        let r2 = crate::probe::r_squared(&truth[400..], &predicted).unwrap();
        assert!(r2 > 0.85, "{r2}");
        // A fitted object is its own nearest neighbour when it is asked for.
        let one = Knn { neighbours: 1, ..knn };
        assert_eq!(one.predict(&features, &[7]), [y[7]]);
    }
}
