//! Sums in a fixed order, so that the same numbers give the same sum every time.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::tensors::{UNITS, cube, cubes, lengths, reshaped, room, units};

/// Rows that a partial sum over rows takes, at least, and pieces there are of them, at most.
const ROWS: usize = 32;
const PIECES: usize = 256;

/// The sum of `value` over all units of a cube, known to all of them. All must take part.
#[cube]
pub(super) fn sum_of_cube(value: f32, shared: &mut SharedMemory<f32>) -> f32 {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut half = CUBE_DIM as usize / 2;
    while half > 0 {
        if unit < half {
            let other = shared[unit + half];
            shared[unit] += other;
        }
        sync_cube();
        half /= 2;
    }
    let sum = shared[0];
    sync_cube();
    sum
}

/// The largest `value` of all units of a cube, known to all of them. All must take part.
#[cube]
pub(super) fn largest_of_cube(value: f32, shared: &mut SharedMemory<f32>) -> f32 {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut half = CUBE_DIM as usize / 2;
    while half > 0 {
        if unit < half {
            let other = shared[unit + half];
            if other > shared[unit] {
                shared[unit] = other;
            }
        }
        sync_cube();
        half /= 2;
    }
    let largest = shared[0];
    sync_cube();
    largest
}

/// Unit by column, cube by piece: the sums of the columns of a piece of the rows.
#[cube(launch)]
fn column_sums_kernel(
    x_nd: &Array<f32>,
    sums_pd: &mut Array<f32>,
    n: usize,
    d: usize,
    rows: usize,
) {
    let place = ABSOLUTE_POS;
    if place < sums_pd.len() {
        let column = place % d;
        let first = place / d * rows;
        let mut end = first + rows;
        if end > n {
            end = n;
        }
        let mut sum = 0.0f32;
        for row in first..end {
            sum += x_nd[row * d + column];
        }
        sums_pd[place] = sum;
    }
}

/// Sums of the columns: `[n, d]` to `[d]`.
pub(super) fn column_sums<R: CubeRuntime>(mut x_nd: CubeTensor<R>) -> CubeTensor<R> {
    let [mut n, d] = lengths(&x_nd);
    loop {
        let rows = if n <= 2 * ROWS { n } else { n.div_ceil(PIECES).max(ROWS) };
        let pieces = n.div_ceil(rows);
        let sums_pd = room(&x_nd, [pieces, d]);
        column_sums_kernel::launch::<R>(
            &x_nd.client.clone(),
            units(pieces * d),
            cube(),
            x_nd.into_array_arg(),
            sums_pd.clone().into_array_arg(),
            n,
            d,
            rows,
        );
        if pieces == 1 {
            return reshaped(sums_pd, [d]);
        }
        (x_nd, n) = (sums_pd, pieces);
    }
}

/// Cube by piece: the sum of a piece's squares, put at `at` and after.
#[cube(launch)]
fn squares_kernel(x: &Array<f32>, sums: &mut Array<f32>, at: usize, pieces: usize) {
    let mut shared = SharedMemory::<f32>::new(UNITS);
    let piece = CUBE_POS;
    let mut sum = 0.0f32;
    let mut k = piece * CUBE_DIM as usize + UNIT_POS as usize;
    while k < x.len() {
        sum += x[k] * x[k];
        k += pieces * CUBE_DIM as usize;
    }
    let sum = sum_of_cube(sum, &mut shared);
    if UNIT_POS == 0 && piece < pieces {
        sums[at + piece] = sum;
    }
}

/// One cube: the sum of all numbers times `factor`, or the root of it.
#[cube(launch)]
fn total_kernel(x: &Array<f32>, total: &mut Array<f32>, factor: f32, #[comptime] root: bool) {
    let mut shared = SharedMemory::<f32>::new(UNITS);
    let mut sum = 0.0f32;
    let mut k = UNIT_POS as usize;
    while k < x.len() {
        sum += x[k];
        k += CUBE_DIM as usize;
    }
    let sum = sum_of_cube(sum, &mut shared) * factor;
    if UNIT_POS == 0 {
        if comptime![root] {
            total[0] = f32::sqrt(sum);
        } else {
            total[0] = sum;
        }
    }
}

/// The sum of a few numbers times a factor, `[1]`; with `root`, its root.
pub(super) fn total<R: CubeRuntime>(x: CubeTensor<R>, factor: f32, root: bool) -> CubeTensor<R> {
    let total = room(&x, [1]);
    let client = x.client.clone();
    let (x, out) = (x.into_array_arg(), total.clone().into_array_arg());
    total_kernel::launch::<R>(&client, cubes(1), cube(), x, out, factor, root);
    total
}

/// See [`Kernels::global_norm`](astropt_core::kernels::Kernels::global_norm): a launch a tensor
/// and one for the sum.
pub(super) fn global_norm<R: CubeRuntime>(grads: Vec<CubeTensor<R>>) -> CubeTensor<R> {
    let pieces = |grad: &CubeTensor<R>| {
        let [length] = lengths(grad);
        length.div_ceil(8 * UNITS).clamp(1, PIECES)
    };
    let count: usize = grads.iter().map(pieces).sum();
    let sums = room(&grads[0], [count]);
    let mut at = 0;
    for grad in grads {
        let pieces = pieces(&grad);
        let client = grad.client.clone();
        let (x, out) = (grad.into_array_arg(), sums.clone().into_array_arg());
        squares_kernel::launch::<R>(&client, cubes(pieces), cube(), x, out, at, pieces);
        at += pieces;
    }
    total(sums, 1.0, true)
}
