//! Distances between objects, a block of rows at a time, and nearest neighbours by them.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

/// Rows of distances held at a time by a thread. Fixed, so that sums round alike whatever the
/// number of threads.
const BLOCK: usize = 64;

/// An object's neighbours, nearest first: index and Euclidean distance.
pub(crate) type Neighbours = Vec<(u32, f32)>;

/// `work(i, d)` for every query i, in order, where `d` holds the squared Euclidean distances `[n]`
/// from it to all points; queries `[q, p]` and points `[n, p]` are row-major. Numbers far from 0
/// cancel: move them to mean 0 first.
pub(crate) fn by_row<T: Send>(
    x_qp: MatRef<'_, f32>,
    x_np: MatRef<'_, f32>,
    work: impl Fn(usize, &[f32]) -> T + Sync,
) -> Vec<T> {
    let (q, n) = (x_qp.nrows(), x_np.nrows());
    let square_n: Vec<f32> = x_np.row_iter().map(|row| row.squared_norm_l2()).collect();
    let block_of = |block: usize| {
        let rows = block * BLOCK..q.min((block + 1) * BLOCK);
        // |x - y|² = |x|² + |y|² - 2 x·y; a column a row of the block, so that it is contiguous.
        let mut d_nb = Mat::<f32>::zeros(n, rows.len());
        let block_bp = x_qp.subrows(rows.start, rows.len());
        matmul(&mut d_nb, Accum::Replace, x_np, block_bp.transpose(), -2.0, Par::Seq);
        let row = |(i, d_n): (usize, &mut [f32])| {
            let own = x_qp.row(i).squared_norm_l2();
            d_n.iter_mut().zip(&square_n).for_each(|(d, other)| *d = (*d + own + other).max(0.0));
            work(i, d_n)
        };
        let columns = d_nb.col_iter_mut().map(|column| column.try_as_col_major_mut());
        let columns = columns.flatten().map(|column| column.as_slice_mut());
        rows.zip(columns).map(row).collect::<Vec<T>>()
    };
    (0..q.div_ceil(BLOCK)).into_par_iter().flat_map_iter(block_of).collect()
}

/// The `k` pairs of the smallest second, in its order.
pub(crate) fn smallest(pairs: impl Iterator<Item = (u32, f32)>, k: usize) -> Neighbours {
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
