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
    let (mut y, target) = (Dense::new(y_nf), Dense::new(target_nf));
    let count = target.len();
    let sums = chunks(y.to_mut(), &target, count);
    finish(y, &sums, count)
}

/// See [`Kernels::huber_next`](astropt_core::kernels::Kernels::huber_next).
pub(super) fn huber_next(
    y_nf: Tensor<Flex, 2>,
    x_nf: Tensor<Flex, 2>,
    last_bf: Tensor<Flex, 2>,
) -> (Tensor<Flex, 1>, Tensor<Flex, 2>) {
    let [b, f] = last_bf.dims();
    let (mut y, x, last) = (Dense::new(y_nf), Dense::new(x_nf), Dense::new(last_bf));
    let count = x.len();
    let part = (count / b.max(1)).max(1);
    let parts = y.to_mut().par_chunks_mut(part).zip(x.par_chunks(part));
    let sums: Vec<_> = parts
        .zip(last.par_chunks(f.max(1)))
        .flat_map_iter(|((y, x), last)| {
            let (rest, end) = y.split_at_mut(part - f);
            let mut sums = chunks(rest, &x[f..], count);
            sums.extend(chunks(end, last, count));
            sums
        })
        .collect();
    finish(y, &sums, count)
}

/// Sums of the losses of chunks of `y`, which becomes its gradient; the losses are averaged over
/// `count` numbers.
fn chunks(y: &mut [f32], target: &[f32], count: usize) -> Vec<f64> {
    let scale = (1.0 / count as f64) as f32;
    let chunks = y.par_chunks_mut(CHUNK).zip(target.par_chunks(CHUNK));
    chunks.map(|(y, target)| simd::run(Huber { y, target, scale })).collect()
}

fn finish(dy: Dense, sums: &[f64], count: usize) -> (Tensor<Flex, 1>, Tensor<Flex, 2>) {
    let mut loss = Buffer::new(1);
    loss[0] = (sums.iter().sum::<f64>() / count as f64) as f32;
    (tensor(loss, [1]), dy.into_tensor())
}
