//! The tanh approximation of GELU.
//!
//! With u = √(2/π)·(x + 0.044715 x³), x/2·(1 + tanh u) = x·σ(2u), and
//! σ(2u) = 1/(1 + e^(-2u)) takes one exponential and one division.

use astropt_core::kernels::reference::{GELU_CUBIC, GELU_SCALE};
use burn_flex::Flex;
use burn_tensor::Tensor;
use rayon::prelude::*;

use super::pool::Buffer;
use super::simd::{self, Simd, Task};
use super::tensors::{CHUNK, Dense, tensor};

/// σ(2u) and x².
#[inline(always)]
fn sigmoid<S: Simd>(simd: S, x: S::V) -> (S::V, S::V) {
    let one = simd.splat(1.0);
    let x2 = simd.mul(x, x);
    let cubic = simd.fma(x2, simd.splat(GELU_CUBIC), one);
    let minus_2u =
        simd.mul(simd.mul(x, simd.splat(-2.0 * GELU_SCALE * std::f32::consts::LOG2_E)), cubic);
    (simd.div(one, simd.add(one, simd.exp2(minus_2u))), x2)
}

struct Forward<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Task for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        simd::map(
            simd,
            [self.x],
            self.y,
            #[inline(always)]
            |[x]| simd.mul(x, sigmoid(simd, x).0),
        );
    }
}

struct Backward<'a> {
    x: &'a [f32],
    /// The gradient of the output on entry, of the input on return.
    dy: &'a mut [f32],
}

impl Task for Backward<'_> {
    type Output = ();

    /// The derivative is σ + x·σ·(1 - σ)·2u', with u' = √(2/π)·(1 + 3·0.044715 x²).
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let one = simd.splat(1.0);
        simd::update(
            simd,
            self.dy,
            [self.x],
            #[inline(always)]
            |dy, [x]| {
                let (sigma, x2) = sigmoid(simd, x);
                let twice_du = simd.fma(
                    x2,
                    simd.splat(6.0 * GELU_CUBIC * GELU_SCALE),
                    simd.splat(2.0 * GELU_SCALE),
                );
                let slope = simd.mul(simd.mul(x, simd.sub(one, sigma)), twice_du);
                simd.mul(dy, simd.fma(sigma, slope, sigma))
            },
        );
    }
}

/// `y` becomes the GELU of `x`.
pub(super) fn of_block(x: &[f32], y: &mut [f32]) {
    let chunks = y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK));
    chunks.for_each(|(y, x)| simd::run(Forward { x, y }));
}

/// The gradient `dy` of the output becomes that of the input `x`.
pub(super) fn backward_of_block(x: &[f32], dy: &mut [f32]) {
    let chunks = dy.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK));
    chunks.for_each(|(dy, x)| simd::run(Backward { x, dy }));
}

/// See [`Kernels::gelu`](astropt_core::kernels::Kernels::gelu).
pub(super) fn forward(x_nd: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
    let shape = x_nd.dims();
    let x = Dense::new(x_nd);
    let mut y = Buffer::new(x.len());
    of_block(&x, &mut y);
    tensor(y, shape)
}

/// See [`Kernels::gelu_backward`](astropt_core::kernels::Kernels::gelu_backward).
pub(super) fn backward(x_nd: Tensor<Flex, 2>, dy_nd: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
    let x = Dense::new(x_nd);
    let mut dy = Dense::new(dy_nd);
    backward_of_block(&x, dy.to_mut());
    dy.into_tensor()
}
