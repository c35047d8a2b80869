//! Huber loss and its gradient in one pass.

use burn_flex::Flex;
use burn_tensor::Tensor;
use rayon::prelude::*;

use super::pool::Buffer;
use super::simd::{self, Simd, Task};
use super::tensors::{CHUNK, Dense, tensor};

/// Elements summed in single precision before their sum is added in double.
const RUN: usize = 1024;

struct Huber<'a> {
    /// The prediction on entry, the gradient on return.
    y: &'a mut [f32],
    target: &'a [f32],
    scale: f32,
}

impl Task for Huber<'_> {
    /// Sum of the losses.
    type Output = f64;

    /// With c = e clipped to [-1, 1], the loss is c·(e - c/2) and its slope c.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f64 {
        let mut total = 0.0;
        for (y, target) in self.y.chunks_mut(RUN).zip(self.target.chunks(RUN)) {
            let sum = std::cell::Cell::new(simd.splat(0.0));
            simd::update(
                simd,
                y,
                [target],
                #[inline(always)]
                |y, [target]| {
                    let error = simd.sub(y, target);
                    let clipped = simd.min(simd.splat(1.0), simd.max(simd.splat(-1.0), error));
                    let rest = simd.fma(clipped, simd.splat(-0.5), error);
                    sum.set(simd.fma(clipped, rest, sum.get()));
                    simd.mul(clipped, simd.splat(self.scale))
                },
            );
            total += f64::from(simd.sum(sum.get()));
        }
        total
    }
}

/// See [`Kernels::huber`](astropt_core::kernels::Kernels::huber).
pub(super) fn huber(
    y_nf: Tensor<Flex, 2>,
    target_nf: Tensor<Flex, 2>,
) -> (Tensor<Flex, 1>, Tensor<Flex, 2>) {
    let mut y = Dense::new(y_nf);
    let target = Dense::new(target_nf);
    let count = target.len() as f64;
    let scale = (1.0 / count) as f32;
    let chunks = y.to_mut().par_chunks_mut(CHUNK).zip(target.par_chunks(CHUNK));
    let sums: Vec<f64> = chunks.map(|(y, target)| simd::run(Huber { y, target, scale })).collect();
    let mut loss = Buffer::new(1);
    loss[0] = (sums.iter().sum::<f64>() / count) as f32;
    (tensor(loss, [1]), y.into_tensor())
}
