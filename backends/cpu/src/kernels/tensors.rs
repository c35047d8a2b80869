//! Between Burn's tensors and slices.

use burn_backend::{DType, Shape};
use burn_flex::{Flex, FlexTensor, Layout};
use burn_tensor::{Tensor, TensorPrimitive};

use super::pool::Buffer;

/// Elements a task of element-wise work takes: small enough to stay in the second cache,
/// large enough to outweigh starting it. Not a function of the number of threads.
pub(crate) const CHUNK: usize = 16 << 10;

/// The numbers of a tensor, side by side.
pub(crate) struct Dense(FlexTensor);

impl Dense {
    /// Copies only where the tensor is a view with gaps.
    pub(crate) fn new<const D: usize>(tensor: Tensor<Flex, D>) -> Self {
        Self(tensor.into_primitive().tensor().to_contiguous())
    }

    /// To write to: copies where others hold the numbers too.
    pub(crate) fn to_mut(&mut self) -> &mut [f32] {
        self.0.storage_mut()
    }

    /// As a tensor again.
    pub(crate) fn into_tensor<const D: usize>(self) -> Tensor<Flex, D> {
        Tensor::from_primitive(TensorPrimitive::Float(self.0))
    }
}

impl std::ops::Deref for Dense {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.0.storage()
    }
}

/// A tensor of the numbers in `buffer`.
pub(crate) fn tensor<const D: usize>(buffer: Buffer, shape: [usize; D]) -> Tensor<Flex, D> {
    debug_assert_eq!(buffer.len(), shape.iter().product::<usize>());
    let layout = Layout::contiguous(Shape::new(shape));
    let primitive = FlexTensor::new(buffer.into_bytes(), layout, DType::F32);
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}
