//! Distances between all objects, a block of rows at a time, and nearest neighbours by them.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

use crate::probe::Features;

/// Rows of distances held at a time by a thread. Fixed, so that sums round alike whatever the
/// number of threads.
const BLOCK: usize = 64;

/// An object's neighbours, nearest first: index and Euclidean distance.
pub(super) type Neighbours = Vec<(u32, f32)>;

/// `work(i, d)` for every object i, in order, where `d` holds the squared distances `[n]` from
/// i to all objects, itself among them.
pub(super) fn by_row<T: Send>(
    features: &Features,
    work: impl Fn(usize, &[f32]) -> T + Sync,
) -> Vec<T> {
    let n = features.n;
    let x_np = centred(features);
    let x_np = MatRef::from_row_major_slice(&x_np, n, features.width);
    let square_n: Vec<f32> = x_np.row_iter().map(|row| row.squared_norm_l2()).collect();
    let block_of = |block: usize| {
        let rows = block * BLOCK..n.min((block + 1) * BLOCK);
        // |x - y|² = |x|² + |y|² - 2 x·y; a column a row of the block, so that it is contiguous.
        let mut d_nb = Mat::<f32>::zeros(n, rows.len());
        let block_pb = x_np.subrows(rows.start, rows.len()).transpose();
        matmul(&mut d_nb, Accum::Replace, x_np, block_pb, -2.0, Par::Seq);
        let row = |(i, d_n): (usize, &mut [f32])| {
            let own = square_n[i];
            d_n.iter_mut().zip(&square_n).for_each(|(d, other)| *d = (*d + own + other).max(0.0));
            work(i, d_n)
        };
        let columns = d_nb.col_iter_mut().map(|column| column.try_as_col_major_mut());
        let columns = columns.flatten().map(|column| column.as_slice_mut());
        rows.zip(columns).map(row).collect::<Vec<T>>()
    };
    (0..n.div_ceil(BLOCK)).into_par_iter().flat_map_iter(block_of).collect()
}

/// The features `[n, width]` moved to mean 0, which keeps the sums above from cancelling.
pub(super) fn centred(features: &Features) -> Vec<f32> {
    let mut mean = vec![0.0; features.width];
    for row in features.data.chunks_exact(features.width) {
        mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    mean.iter_mut().for_each(|sum| *sum /= features.n as f64);
    let rows = features.data.chunks_exact(features.width);
    rows.flat_map(|row| row.iter().zip(&mean).map(|(&x, m)| (f64::from(x) - m) as f32)).collect()
}

/// The `k` nearest other objects of every object.
pub(super) fn nearest(features: &Features, k: usize) -> Vec<Neighbours> {
    by_row(features, |i, d_n| {
        let others = d_n.iter().enumerate().filter(|&(j, _)| j != i);
        let mut nearest = smallest(others.map(|(j, &d)| (j as u32, d)), k);
        // Products in single precision choose the neighbours; how far they are is summed anew.
        for (j, distance) in &mut nearest {
            *distance = distance_between(features.row(i), features.row(*j as usize));
        }
        nearest.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        nearest
    })
}

/// The `k` pairs of the smallest second, in its order.
pub(super) fn smallest(pairs: impl Iterator<Item = (u32, f32)>, k: usize) -> Neighbours {
    let mut found: Neighbours = Vec::with_capacity(k + 1);
    for (j, d) in pairs {
        if found.len() == k && found.last().is_none_or(|worst| d >= worst.1) {
            continue;
        }
        found.insert(found.partition_point(|other| other.1 <= d), (j, d));
        found.truncate(k);
    }
    found
}

fn distance_between(a: &[f32], b: &[f32]) -> f32 {
    let square = |(&a, &b): (&f32, &f32)| (f64::from(a) - f64::from(b)).powi(2);
    a.iter().zip(b).map(square).sum::<f64>().sqrt() as f32
}
