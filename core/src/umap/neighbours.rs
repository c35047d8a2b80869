//! Nearest neighbours among all objects.

use faer::MatRef;

use crate::probe::Features;
use crate::probe::distances::{Neighbours, by_row, smallest};

/// `work(i, d)` for every object i, in order, where `d` holds the squared distances `[n]` from
/// i to all objects, itself among them.
pub(super) fn from_each<T: Send>(
    features: &Features,
    work: impl Fn(usize, &[f32]) -> T + Sync,
) -> Vec<T> {
    let x_np = centred(features);
    let x_np = MatRef::from_row_major_slice(&x_np, features.n, features.width);
    by_row(x_np, x_np, work)
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
    from_each(features, |i, d_n| {
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

fn distance_between(a: &[f32], b: &[f32]) -> f32 {
    let square = |(&a, &b): (&f32, &f32)| (f64::from(a) - f64::from(b)).powi(2);
    a.iter().zip(b).map(square).sum::<f64>().sqrt() as f32
}
