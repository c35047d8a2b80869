//! Layer norm: a row by cube.

use burn_backend::bf16;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::product::Precision;
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
    let launch = match precision {
        Precision::F32 => norm_kernel::launch::<f32, R>,
        Precision::Bf16 => norm_kernel::launch::<bf16, R>,
    };
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

/// The gradient for the input, on top of `onto_nd` where there is one, and dy·z, whose columns
/// sum to the gradient for the gain.
#[cube(launch)]
fn norm_backward_kernel(
    x_nd: &Array<f32>,
    gain_d: &Array<f32>,
    mean_n: &Array<f32>,
    rstd_n: &Array<f32>,
    dy_nd: &Array<f32>,
    onto_nd: &Array<f32>,
    dx_nd: &mut Array<f32>,
    dyz_nd: &mut Array<f32>,
    #[comptime] onto: bool,
) {
    let mut shared = SharedMemory::<f32>::new(UNITS);
    let row = CUBE_POS;
    let d = gain_d.len();
    let step = CUBE_DIM as usize;
    let mut sum_g = 0.0f32;
    let mut sum_gz = 0.0f32;
    let mut mean = 0.0f32;
    let mut rstd = 0.0f32;
    if row < mean_n.len() {
        mean = mean_n[row];
        rstd = rstd_n[row];
    }
    let mut k = UNIT_POS as usize;
    while k < d {
        let at = row * d + k;
        let g = dy_nd[at] * gain_d[k];
        sum_g += g;
        sum_gz += g * (x_nd[at] - mean) * rstd;
        k += step;
    }
    let mean_g = sum_of_cube(sum_g, &mut shared) / f32::cast_from(d);
    let mean_gz = sum_of_cube(sum_gz, &mut shared) / f32::cast_from(d);
    if row < mean_n.len() {
        k = UNIT_POS as usize;
        while k < d {
            let at = row * d + k;
            let dy = dy_nd[at];
            let z = (x_nd[at] - mean) * rstd;
            let mut dx = (dy * gain_d[k] - mean_g - z * mean_gz) * rstd;
            if comptime![onto] {
                dx += onto_nd[at];
            }
            dx_nd[at] = dx;
            dyz_nd[at] = dy * z;
            k += step;
        }
    }
}

/// See [`Kernels::layer_norm_backward`](astropt_core::kernels::Kernels::layer_norm_backward);
/// `rows` are the input, means, rstds and the gradient of the output.
pub(super) fn backward<R: CubeRuntime>(
    [x_nd, mean_n, rstd_n, dy_nd]: [CubeTensor<R>; 4],
    gain_d: CubeTensor<R>,
    onto_nd: Option<CubeTensor<R>>,
) -> [CubeTensor<R>; 2] {
    let [n, d] = lengths(&x_nd);
    let (dx_nd, dyz_nd) = (room(&x_nd, [n, d]), room(&x_nd, [n, d]));
    let onto = onto_nd.is_some();
    // Nothing is read of what stands in for it.
    let onto_nd = onto_nd.unwrap_or_else(|| dy_nd.clone());
    norm_backward_kernel::launch::<R>(
        &x_nd.client.clone(),
        cubes(n),
        cube(),
        x_nd.into_array_arg(),
        gain_d.into_array_arg(),
        mean_n.into_array_arg(),
        rstd_n.into_array_arg(),
        dy_nd.into_array_arg(),
        onto_nd.into_array_arg(),
        dx_nd.clone().into_array_arg(),
        dyz_nd.clone().into_array_arg(),
        onto,
    );
    [dx_nd, column_sums(dyz_nd)]
}
