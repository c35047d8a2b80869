//! Layer norm: a row by cube, and backward a piece of the rows.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::product::{Precision, launch_in};
use super::sums::{column_sums, sum_of_cube};
use super::tensors::{UNITS, cube, cubes, lengths, room, room_of};

#[cube(launch)]
fn norm_kernel<E: Float>(
    x_nd: &Array<f32>,
    gain_d: &Array<f32>,
    y_nd: &mut Array<E>,
    mean_n: &mut Array<f32>,
    rstd_n: &mut Array<f32>,
    eps: f32,
) {
    let mut shared = SharedMemory::<f32>::new(UNITS);
    let row = CUBE_POS;
    let d = gain_d.len();
    let step = CUBE_DIM as usize;
    let mut sum = 0.0f32;
    let mut k = UNIT_POS as usize;
    while k < d {
        sum += x_nd[row * d + k];
        k += step;
    }
    let mean = sum_of_cube(sum, &mut shared) / f32::cast_from(d);
    let mut square = 0.0f32;
    k = UNIT_POS as usize;
    while k < d {
        let centred = x_nd[row * d + k] - mean;
        square += centred * centred;
        k += step;
    }
    let variance = sum_of_cube(square, &mut shared) / f32::cast_from(d);
    let rstd = 1.0 / f32::sqrt(variance + eps);
    if row < mean_n.len() {
        k = UNIT_POS as usize;
        while k < d {
            y_nd[row * d + k] = E::cast_from((x_nd[row * d + k] - mean) * rstd * gain_d[k]);
            k += step;
        }
        if UNIT_POS == 0 {
            mean_n[row] = mean;
            rstd_n[row] = rstd;
        }
    }
}

/// See [`Kernels::layer_norm`](astropt_core::kernels::Kernels::layer_norm): y, as a factor of
/// `precision`, means, rstds.
pub(super) fn forward<R: CubeRuntime>(
    x_nd: CubeTensor<R>,
    gain_d: CubeTensor<R>,
    eps: f32,
    precision: Precision,
) -> [CubeTensor<R>; 3] {
    let [n, d] = lengths(&x_nd);
    let y_nd = room_of(&x_nd, [n, d], precision.dtype());
    let (mean_n, rstd_n) = (room(&x_nd, [n]), room(&x_nd, [n]));
    let launch = launch_in!(norm_kernel, R, precision);
    launch(
        &x_nd.client.clone(),
        cubes(n),
        cube(),
        x_nd.into_array_arg(),
        gain_d.into_array_arg(),
        y_nd.clone().into_array_arg(),
        mean_n.clone().into_array_arg(),
        rstd_n.clone().into_array_arg(),
        eps,
    );
    [y_nd, mean_n, rstd_n]
}

/// Rows of a piece of the gain's gradient, at least, and pieces there are of it, at most.
const ROWS: usize = 8;
const PIECES: usize = 1024;

/// A number for each of a unit's columns, zero.
#[cube]
fn zeros(#[comptime] columns: usize) -> Array<f32> {
    let mut zeros = Array::<f32>::new(columns);
    #[unroll]
    for k in 0..columns {
        zeros[k] = 0.0f32;
    }
    zeros
}

/// Writes a unit's columns of row `row`.
#[cube]
fn write_row(y_nd: &mut Array<f32>, row: usize, own: &Array<f32>, #[comptime] d: usize) {
    #[unroll]
    for k in 0..comptime![d.div_ceil(UNITS)] {
        let column = UNIT_POS as usize + comptime![k * UNITS];
        if column < d {
            y_nd[row * d + column] = own[k];
        }
    }
}

/// Cube by piece of the rows: the gradients for its inputs, on top of `onto_nd` where there is one,
/// and the piece's part of the gain's, Σ dy·z over its rows. A unit has every [`UNITS`]th column.
#[cube(launch)]
fn norm_backward_kernel<E: Float>(
    x_nd: &Array<f32>,
    gain_d: &Array<f32>,
    mean_n: &Array<f32>,
    rstd_n: &Array<f32>,
    dy_nd: &Array<E>,
    onto_nd: &Array<f32>,
    dx_nd: &mut Array<f32>,
    dgain_pd: &mut Array<f32>,
    pieces: usize,
    #[comptime] d: usize,
    #[comptime] onto: bool,
) {
    let mut shared = SharedMemory::<f32>::new(UNITS);
    let columns = comptime![d.div_ceil(UNITS)];
    let mut dgain = zeros(columns);
    let mut dy = Array::<f32>::new(columns);
    let mut z = Array::<f32>::new(columns);
    let unit = UNIT_POS as usize;
    let rows = mean_n.len();
    let mut row = CUBE_POS;
    if CUBE_POS >= pieces {
        row = rows;
    }
    while row < rows {
        let (mean, rstd) = (mean_n[row], rstd_n[row]);
        let mut sum_g = 0.0f32;
        let mut sum_gz = 0.0f32;
        #[unroll]
        for k in 0..columns {
            let column = unit + comptime![k * UNITS];
            if column < d {
                dy[k] = f32::cast_from(dy_nd[row * d + column]);
                z[k] = (x_nd[row * d + column] - mean) * rstd;
                let g = dy[k] * gain_d[column];
                sum_g += g;
                sum_gz += g * z[k];
                dgain[k] += dy[k] * z[k];
            }
        }
        let mean_g = sum_of_cube(sum_g, &mut shared) / f32::cast_from(d);
        let mean_gz = sum_of_cube(sum_gz, &mut shared) / f32::cast_from(d);
        #[unroll]
        for k in 0..columns {
            let column = unit + comptime![k * UNITS];
            if column < d {
                let mut dx = (dy[k] * gain_d[column] - mean_g - z[k] * mean_gz) * rstd;
                if comptime![onto] {
                    dx += onto_nd[row * d + column];
                }
                dx_nd[row * d + column] = dx;
            }
        }
        row += pieces;
    }
    if CUBE_POS < pieces {
        write_row(dgain_pd, CUBE_POS, &dgain, d);
    }
}

/// See [`Kernels::layer_norm_backward`](astropt_core::kernels::Kernels::layer_norm_backward);
/// `rows` are the input, means, rstds and the gradient of the output, which may be rounded.
pub(super) fn backward<R: CubeRuntime>(
    [x_nd, mean_n, rstd_n, dy_nd]: [CubeTensor<R>; 4],
    gain_d: CubeTensor<R>,
    onto_nd: Option<CubeTensor<R>>,
) -> [CubeTensor<R>; 2] {
    let [n, d] = lengths(&x_nd);
    let pieces = n.div_ceil(ROWS).min(PIECES);
    let (dx_nd, dgain_pd) = (room(&x_nd, [n, d]), room(&x_nd, [pieces, d]));
    let onto = onto_nd.is_some();
    // Nothing is read of what stands in for it.
    let onto_nd = onto_nd.unwrap_or_else(|| x_nd.clone());
    let launch = launch_in!(norm_backward_kernel, R, Precision::of(dy_nd.dtype));
    launch(
        &x_nd.client.clone(),
        cubes(pieces),
        cube(),
        x_nd.into_array_arg(),
        gain_d.into_array_arg(),
        mean_n.into_array_arg(),
        rstd_n.into_array_arg(),
        dy_nd.into_array_arg(),
        onto_nd.into_array_arg(),
        dx_nd.clone().into_array_arg(),
        dgain_pd.clone().into_array_arg(),
        pieces,
        d,
        onto,
    );
    [dx_nd, column_sums(dgain_pd)]
}
