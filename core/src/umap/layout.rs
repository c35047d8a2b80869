//! The graph's layout: where it starts, and the descent (algorithms 4 and 5 of the paper).

use faer::linalg::matmul::matmul;
use faer::prelude::{Reborrow, ReborrowMut};
use faer::{Accum, Mat, MatRef, Par, Side};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::UmapConfig;
use super::graph::Edge;
use super::neighbours::centred;
use crate::error::{Error, Result};
use crate::probe::Features;

/// Directions followed for the two that are wanted, and how often: enough for a start.
const DIRECTIONS: usize = 8;
const ROUNDS: usize = 12;
/// Half the width of the map at the start.
const EXTENT: f64 = 10.0;
/// The longest step of a coordinate, at a learning rate of 1.
const LONGEST: f32 = 4.0;

/// The two principal components `[n, 2]`, the first one's largest magnitude made 10, and a
/// little noise, which parts equal objects. By subspace iteration (Halko, Martinsson & Tropp
/// 2011, arXiv:0909.4061, algorithm 4.4).
///
/// # Errors
/// When the decomposition fails.
pub(super) fn principal_plane(features: &Features, seed: u64) -> Result<Vec<[f32; 2]>> {
    crate::numbers::in_one_order();
    let (n, width) = (features.n, features.width);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let x_np = centred(features);
    let x_np = MatRef::from_row_major_slice(&x_np, n, width);
    let wanted = DIRECTIONS.min(width).min(n);
    let mut v_pk = Mat::<f32>::from_fn(width, wanted, |_, _| rng.sample(StandardNormal));
    let mut y_nk = Mat::<f32>::zeros(n, wanted);
    for _ in 0..ROUNDS {
        matmul(&mut y_nk, Accum::Replace, x_np, &v_pk, 1.0, Par::Seq);
        matmul(&mut v_pk, Accum::Replace, x_np.transpose(), &y_nk, 1.0, Par::Seq);
        orthonormalise(&mut v_pk);
    }
    matmul(&mut y_nk, Accum::Replace, x_np, &v_pk, 1.0, Par::Seq);
    let y_nk = Mat::from_fn(n, wanted, |i, k| f64::from(y_nk[(i, k)]));
    let mut gram_kk = Mat::<f64>::zeros(wanted, wanted);
    matmul(&mut gram_kk, Accum::Replace, y_nk.transpose(), &y_nk, 1.0, Par::Seq);
    let eigen = gram_kk.self_adjoint_eigen(Side::Lower).map_err(|e| {
        Error::Failed(format!("the embeddings' principal components did not converge: {e:?}"))
    })?;
    // Eigenvalues rise: the last columns are the wanted ones, the largest first.
    let along = |place: usize| -> Vec<f64> {
        let Some(k) = wanted.checked_sub(1 + place) else { return vec![0.0; n] };
        let weights = eigen.U().col(k);
        y_nk.row_iter()
            .map(|row| row.iter().zip(weights.iter()).map(|(y, w)| y * w).sum())
            .collect()
    };
    let (first, second) = (along(0), along(1));
    let largest = first.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let scale = if largest > 0.0 { EXTENT / largest } else { 0.0 };
    let mut noisy = |x: f64| (x * scale + 1e-4 * rng.sample::<f64, _>(StandardNormal)) as f32;
    Ok(first.into_iter().zip(second).map(|(x, y)| [noisy(x), noisy(y)]).collect())
}

/// Makes the columns orthonormal, one after the other (modified Gram-Schmidt). In this order on
/// one thread: the library's decompositions round differently on another number of threads.
fn orthonormalise(v_pk: &mut Mat<f32>) {
    for k in 0..v_pk.ncols() {
        let (before, after) = v_pk.as_mut().split_at_col_mut(k);
        let mut column = after.col_mut(0);
        for other in before.rb().col_iter() {
            let along: f32 = other.iter().zip(column.rb().iter()).map(|(a, b)| a * b).sum();
            column.rb_mut().iter_mut().zip(other.iter()).for_each(|(x, o)| *x -= along * o);
        }
        let norm = column.rb().norm_l2();
        if norm > 0.0 {
            column.iter_mut().for_each(|x| *x /= norm);
        }
    }
}

/// Moves the places along the graph's edges, and apart from random others, at a rate that falls
/// from 1 to 0. Single-threaded: every step sees the one before.
pub(super) fn optimise(
    mut places: Vec<[f32; 2]>,
    edges: &[Edge],
    config: &UmapConfig,
) -> Vec<[f32; 2]> {
    let n = places.len() as u32;
    let epochs = config.epochs.unwrap_or(if n <= 10_000 { 500 } else { 200 });
    let curve = Curve::fit(config.min_dist, config.spread);
    let largest = edges.iter().map(|edge| edge.weight).fold(0.0, f32::max);
    // An edge's turn comes as often as its weight is part of the largest.
    let period = |edge: &Edge| largest / edge.weight;
    let mut due: Vec<f32> = edges.iter().map(period).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    rng.set_stream(1);
    for epoch in 0..epochs {
        let rate = 1.0 - epoch as f32 / epochs as f32;
        for (edge, due) in edges.iter().zip(&mut due) {
            if *due > (epoch + 1) as f32 {
                continue;
            }
            *due += period(edge);
            let (from, to) = (edge.from as usize, edge.to as usize);
            let step = curve.attraction(places[from], places[to]).map(|g| rate * g);
            places[from] = [places[from][0] + step[0], places[from][1] + step[1]];
            places[to] = [places[to][0] - step[0], places[to][1] - step[1]];
            for _ in 0..config.negative_samples {
                let other = rng.random_range(0..n) as usize;
                let step = curve.repulsion(places[from], places[other]).map(|g| rate * g);
                places[from] = [places[from][0] + step[0], places[from][1] + step[1]];
            }
        }
    }
    places
}

/// How surely places at a distance d on the map are neighbours: `1 / (1 + a d^2b)`.
#[derive(Clone, Copy, Debug)]
struct Curve {
    a: f32,
    b: f32,
}

impl Curve {
    /// The curve nearest to 1 within `min_dist` and `exp(-(d - min_dist) / spread)` beyond, by
    /// damped least squares (Marquardt 1963).
    fn fit(min_dist: f64, spread: f64) -> Self {
        let points: Vec<(f64, f64)> = (1..=300)
            .map(|k| {
                let d = f64::from(k) * spread / 100.0;
                (d, (-(d - min_dist).max(0.0) / spread).exp())
            })
            .collect();
        let error = |a: f64, b: f64| -> f64 {
            points.iter().map(|(d, y)| (1.0 / (1.0 + a * d.powf(2.0 * b)) - y).powi(2)).sum()
        };
        let (mut a, mut b, mut damping) = (1.0, 1.0, 1e-3);
        for _ in 0..200 {
            let (mut aa, mut ab, mut bb, mut ga, mut gb) = (0.0, 0.0, 0.0, 0.0, 0.0);
            for &(d, y) in &points {
                let power = d.powf(2.0 * b);
                let value = 1.0 / (1.0 + a * power);
                let by_a = -power * value * value;
                let by_b = 2.0 * a * d.ln() * by_a;
                aa += by_a * by_a;
                ab += by_a * by_b;
                bb += by_b * by_b;
                ga += by_a * (value - y);
                gb += by_b * (value - y);
            }
            let (aa, bb) = (aa * (1.0 + damping), bb * (1.0 + damping));
            let determinant = aa * bb - ab * ab;
            let next_a = a - (bb * ga - ab * gb) / determinant;
            let next_b = b - (aa * gb - ab * ga) / determinant;
            if next_a > 0.0 && next_b > 0.0 && error(next_a, next_b) < error(a, b) {
                (a, b, damping) = (next_a, next_b, damping / 10.0);
            } else {
                damping *= 10.0;
            }
        }
        Self { a: a as f32, b: b as f32 }
    }

    /// The step of `from` towards `to`.
    fn attraction(self, from: [f32; 2], to: [f32; 2]) -> [f32; 2] {
        let (apart, square) = difference(from, to);
        if square == 0.0 {
            return [0.0; 2];
        }
        let power = square.powf(self.b);
        let factor = -2.0 * self.a * self.b * power / (square * (1.0 + self.a * power));
        apart.map(|x| (factor * x).clamp(-LONGEST, LONGEST))
    }

    /// The step of `from` away from `other`.
    fn repulsion(self, from: [f32; 2], other: [f32; 2]) -> [f32; 2] {
        let (apart, square) = difference(from, other);
        let power = square.powf(self.b);
        let factor = 2.0 * self.b / ((1e-3 + square) * (1.0 + self.a * power));
        apart.map(|x| (factor * x).clamp(-LONGEST, LONGEST))
    }
}

fn difference(a: [f32; 2], b: [f32; 2]) -> ([f32; 2], f32) {
    let apart = [a[0] - b[0], a[1] - b[1]];
    (apart, apart[0] * apart[0] + apart[1] * apart[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_is_the_papers() {
        // Figures published for min_dist 0.1 and spread 1.
        let curve = Curve::fit(0.1, 1.0);
        assert!((curve.a - 1.577).abs() < 0.01 && (curve.b - 0.895).abs() < 0.005, "{curve:?}");
        for (min_dist, spread) in [(0.0, 1.0), (0.5, 1.0), (1.0, 1.0), (0.01, 0.1), (3.0, 10.0)] {
            let curve = Curve::fit(min_dist, spread);
            let at = |d: f64| 1.0 / (1.0 + curve.a * (d as f32).powf(2.0 * curve.b));
            assert!(at(0.3 * min_dist) > 0.9, "{min_dist} {spread} {curve:?}");
            assert!(at(min_dist + 2.5 * spread) < 0.2, "{min_dist} {spread} {curve:?}");
        }
    }

    #[test]
    fn the_start_lies_along_the_widest_direction() {
        let data = (0..200).flat_map(|i| {
            let t = f64::from(i) / 100.0 - 1.0;
            [3.0 * t, (7.0 * t).sin(), 5.0 + 0.01 * (31.0 * t).cos()].map(|x| x as f32)
        });
        let features = Features::new(3, data.collect()).expect("whole rows");
        let places = principal_plane(&features, 3).expect("converges");
        let rising = places.is_sorted_by(|a, b| a[0] < b[0] + 0.3);
        let falling = places.is_sorted_by(|a, b| a[0] > b[0] - 0.3);
        assert!(rising || falling);
        let largest = places.iter().flatten().fold(0f32, |most, x| most.max(x.abs()));
        assert!((largest - 10.0).abs() < 0.01, "{largest}");
    }
}
