//! Euclidean norm of all gradients taken together.

use burn_flex::Flex;
use burn_tensor::Tensor;
use rayon::prelude::*;

use super::pool::Buffer;
use super::simd::{self, Simd, Task};
use super::tensors::{CHUNK, Dense, tensor};

/// Elements summed in single precision before their sum is added in double.
const RUN: usize = 1024;

struct Squares<'a>(&'a [f32]);

impl Task for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f64 {
        let mut total = 0.0;
        for run in self.0.chunks(RUN) {
            let zeros = [simd.splat(0.0)];
            let [sum] = simd::fold(
                simd,
                [run],
                0.0,
                zeros,
                #[inline(always)]
                |[sum], [x]| [simd.fma(x, x, sum)],
            );
            total += f64::from(simd.sum(sum));
        }
        total
    }
}

/// See [`Kernels::global_norm`](astropt_core::kernels::Kernels::global_norm).
pub(super) fn global_norm(grads: &[Tensor<Flex, 1>]) -> Tensor<Flex, 1> {
    let grads: Vec<Dense> = grads.iter().cloned().map(Dense::new).collect();
    let chunks: Vec<&[f32]> = grads.iter().flat_map(|grad| grad.chunks(CHUNK)).collect();
    let sums: Vec<f64> = chunks.par_iter().map(|chunk| simd::run(Squares(chunk))).collect();
    let mut norm = Buffer::new(1);
    norm[0] = sums.iter().sum::<f64>().sqrt() as f32;
    tensor(norm, [1])
}
