//! Kernels that treat every number alone: GELU, the Huber loss, AdamW.

use astropt_core::kernels::AdamW;
use astropt_core::kernels::reference::{GELU_CUBIC, GELU_SCALE};
use burn_backend::bf16;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::product::{Precision, launch_in};
use super::sums::{sum_of_cube, total};
use super::tensors::{UNITS, cube, cubes, lengths, room, room_of, units};

/// (1 + tanh u)/2 as 1/(1 + exp(-2 u)), with u the inner function of GELU's approximation: one
/// exponential, and exact where GPUs have only a coarse tanh.
#[cube]
fn gate(x: f32) -> f32 {
    let inner = GELU_SCALE * x * (1.0 + GELU_CUBIC * x * x);
    1.0 / (1.0 + f32::exp(-2.0 * inner))
}

#[cube(launch)]
fn gelu_kernel<E: Float>(x: &Array<E>, y: &mut Array<E>) {
    if ABSOLUTE_POS < y.len() {
        let x = f32::cast_from(x[ABSOLUTE_POS]);
        y[ABSOLUTE_POS] = E::cast_from(x * gate(x));
    }
}

/// See [`Kernels::gelu`](astropt_core::kernels::Kernels::gelu), of factors of `precision`.
pub(super) fn gelu<R: CubeRuntime>(x_nd: CubeTensor<R>, precision: Precision) -> CubeTensor<R> {
    let [n, d] = lengths(&x_nd);
    let y_nd = room_of(&x_nd, [n, d], precision.dtype());
    let client = x_nd.client.clone();
    let (x, y) = (x_nd.into_array_arg(), y_nd.clone().into_array_arg());
    let launch = launch_in!(gelu_kernel, R, precision);
    launch(&client, units(n * d), cube(), x, y);
    y_nd
}

#[cube(launch)]
fn gelu_backward_kernel<E: Float>(x: &Array<E>, dy: &Array<E>, dx: &mut Array<E>) {
    if ABSOLUTE_POS < dx.len() {
        let x = f32::cast_from(x[ABSOLUTE_POS]);
        let dy = f32::cast_from(dy[ABSOLUTE_POS]);
        let gate = gate(x);
        let dinner = GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * x * x);
        let slope = gate + 2.0 * x * gate * (1.0 - gate) * dinner;
        dx[ABSOLUTE_POS] = E::cast_from(slope * dy);
    }
}

/// See [`Kernels::gelu_backward`](astropt_core::kernels::Kernels::gelu_backward), of factors of
/// `precision`.
pub(super) fn gelu_backward<R: CubeRuntime>(
    x_nd: CubeTensor<R>,
    dy_nd: CubeTensor<R>,
    precision: Precision,
) -> CubeTensor<R> {
    let [n, d] = lengths(&x_nd);
    let dx_nd = room_of(&x_nd, [n, d], precision.dtype());
    let client = x_nd.client.clone();
    let (x, dy) = (x_nd.into_array_arg(), dy_nd.into_array_arg());
    let launch = launch_in!(gelu_backward_kernel, R, precision);
    launch(&client, units(n * d), cube(), x, dy, dx_nd.clone().into_array_arg());
    dx_nd
}

#[cube(launch)]
fn onto_kernel(branch: &Array<bf16>, onto: &Array<f32>, y: &mut Array<f32>) {
    if ABSOLUTE_POS < y.len() {
        y[ABSOLUTE_POS] = onto[ABSOLUTE_POS] + f32::cast_from(branch[ABSOLUTE_POS]);
    }
}

/// `onto_nd` and a branch in bf16, added in `f32`.
pub(super) fn onto<R: CubeRuntime>(
    branch_nd: CubeTensor<R>,
    onto_nd: CubeTensor<R>,
) -> CubeTensor<R> {
    let [n, d] = lengths(&onto_nd);
    let y_nd = room(&onto_nd, [n, d]);
    onto_kernel::launch::<R>(
        &onto_nd.client.clone(),
        units(n * d),
        cube(),
        branch_nd.into_array_arg(),
        onto_nd.into_array_arg(),
        y_nd.clone().into_array_arg(),
    );
    y_nd
}

/// Cube by piece: gradients, and the sum of the piece's losses.
#[cube(launch)]
fn huber_kernel(
    y: &Array<f32>,
    target: &Array<f32>,
    dy: &mut Array<f32>,
    losses: &mut Array<f32>,
    weight: f32,
) {
    let mut shared = SharedMemory::<f32>::new(UNITS);
    let mut loss = 0.0f32;
    let mut k = CUBE_POS * CUBE_DIM as usize + UNIT_POS as usize;
    while k < y.len() {
        let error = y[k] - target[k];
        // Comparisons that a NaN fails leave it as it is.
        let mut clipped = error;
        if error > 1.0 {
            clipped = f32::new(1.0);
        }
        if error < -1.0 {
            clipped = f32::new(-1.0);
        }
        loss += clipped * (error - 0.5 * clipped);
        dy[k] = clipped * weight;
        k += losses.len() * CUBE_DIM as usize;
    }
    let loss = sum_of_cube(loss, &mut shared);
    if UNIT_POS == 0 && CUBE_POS < losses.len() {
        losses[CUBE_POS] = loss;
    }
}

/// See [`Kernels::huber`](astropt_core::kernels::Kernels::huber).
pub(super) fn huber<R: CubeRuntime>(
    y_nf: CubeTensor<R>,
    target_nf: CubeTensor<R>,
) -> [CubeTensor<R>; 2] {
    let [n, f] = lengths(&y_nf);
    let pieces = (n * f).div_ceil(8 * UNITS).clamp(1, 1024);
    let (dy_nf, losses) = (room(&y_nf, [n, f]), room(&y_nf, [pieces]));
    let weight = 1.0 / (n * f) as f32;
    huber_kernel::launch::<R>(
        &y_nf.client.clone(),
        cubes(pieces),
        cube(),
        y_nf.into_array_arg(),
        target_nf.into_array_arg(),
        dy_nf.clone().into_array_arg(),
        losses.clone().into_array_arg(),
        weight,
    );
    [total(losses, weight, false), dy_nf]
}

/// One step of AdamW in place, in the order PyTorch takes.
#[cube(launch)]
fn adamw_kernel(
    value: &mut Array<f32>,
    grad: &Array<f32>,
    moment1: &mut Array<f32>,
    moment2: &mut Array<f32>,
    grad_scale: f32,
    beta1: f32,
    beta2: f32,
    keep: f32,
    rate: f32,
    root: f32,
    eps: f32,
) {
    let k = ABSOLUTE_POS;
    if k < value.len() {
        let g = grad[k] * grad_scale;
        let first = moment1[k] * beta1 + g * (1.0 - beta1);
        let second = moment2[k] * beta2 + g * g * (1.0 - beta2);
        moment1[k] = first;
        moment2[k] = second;
        value[k] = value[k] * keep - rate * first / (f32::sqrt(second) * root + eps);
    }
}

/// One parameter's step: `value` and the moments are written to.
pub(super) fn adamw<R: CubeRuntime>(
    [value, grad, moment1, moment2]: [CubeTensor<R>; 4],
    decay: bool,
    step: &AdamW,
) {
    let (correction1, correction2) = step.corrections();
    let [length] = lengths(&value);
    adamw_kernel::launch::<R>(
        &value.client.clone(),
        units(length),
        cube(),
        value.into_array_arg(),
        grad.into_array_arg(),
        moment1.into_array_arg(),
        moment2.into_array_arg(),
        step.grad_scale,
        step.beta1,
        step.beta2,
        if decay { 1.0 - step.lr * step.weight_decay } else { 1.0 },
        step.lr / correction1,
        1.0 / correction2.sqrt(),
        step.eps,
    );
}
