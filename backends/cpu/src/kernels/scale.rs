//! A tensor times one number, in place.

use burn_flex::Flex;
use burn_tensor::Tensor;
use rayon::prelude::*;

use super::simd::{self, Simd, Task};
use super::tensors::{CHUNK, Dense};

struct Scale<'a>(&'a mut [f32], f32);

impl Task for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let factor = simd.splat(self.1);
        simd::update(
            simd,
            self.0,
            [],
            #[inline(always)]
            |x, []| simd.mul(x, factor),
        );
    }
}

/// See [`Kernels::scale`](astropt_core::kernels::Kernels::scale).
pub(super) fn scale(x_nf: Tensor<Flex, 2>, by: Tensor<Flex, 1>) -> Tensor<Flex, 2> {
    let factor = Dense::new(by)[0];
    if factor == 1.0 {
        return x_nf;
    }
    let mut x = Dense::new(x_nf);
    x.to_mut().par_chunks_mut(CHUNK).for_each(|chunk| simd::run(Scale(chunk, factor)));
    x.into_tensor()
}
