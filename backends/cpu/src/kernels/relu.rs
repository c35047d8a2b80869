//! ReLU, in place where nobody else holds the numbers.

use burn_flex::Flex;
use burn_tensor::Tensor;
use rayon::prelude::*;

use super::tensors::{CHUNK, Dense};

/// See [`Kernels::relu`](astropt_core::kernels::Kernels::relu).
pub(super) fn forward(x_nd: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
    let mut x = Dense::new(x_nd);
    x.to_mut().par_chunks_mut(CHUNK).for_each(|chunk| {
        // Not `max`, which would hide a NaN.
        chunk.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x });
    });
    x.into_tensor()
}

/// See [`Kernels::relu_backward`](astropt_core::kernels::Kernels::relu_backward).
pub(super) fn backward(y_nd: Tensor<Flex, 2>, dy_nd: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
    let (y, mut dy) = (Dense::new(y_nd), Dense::new(dy_nd));
    let chunks = dy.to_mut().par_chunks_mut(CHUNK).zip(y.par_chunks(CHUNK));
    chunks.for_each(|(dy, y)| {
        dy.iter_mut().zip(y).for_each(|(dy, y)| *dy = if *y <= 0.0 { 0.0 } else { *dy });
    });
    dy.into_tensor()
}
