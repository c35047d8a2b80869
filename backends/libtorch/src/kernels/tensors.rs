//! From Burn's tensors to libtorch's and back.
//!
//! burn-tch counts who holds a buffer and writes to it in place when nobody else does. It
//! sees only tensors that were made through it: [`raw`] leaves its books, so what is handed
//! to [`fresh`] must not share memory with a tensor that Burn knows.

use burn_tch::{LibTorch, TchTensor};
use burn_tensor::{Int, Tensor, TensorPrimitive};

/// The libtorch tensor within.
pub(super) fn raw<const D: usize>(tensor: Tensor<LibTorch, D>) -> tch::Tensor {
    primitive(tensor).tensor
}

/// What burn-tch keeps of a tensor.
pub(super) fn primitive<const D: usize>(tensor: Tensor<LibTorch, D>) -> TchTensor {
    tensor.into_primitive().tensor()
}

/// The libtorch tensor of whole numbers within.
pub(super) fn raw_int<const D: usize>(tensor: &Tensor<LibTorch, D, Int>) -> tch::Tensor {
    tensor.clone().into_primitive().tensor
}

/// A tensor of Burn of one that nothing else refers to.
pub(super) fn fresh<const D: usize>(tensor: tch::Tensor) -> Tensor<LibTorch, D> {
    Tensor::from_primitive(TensorPrimitive::Float(TchTensor::new(tensor)))
}

/// A tensor that may be written to: the one within where nobody else holds it, else a copy.
pub(super) fn owned<const D: usize>(tensor: Tensor<LibTorch, D>) -> tch::Tensor {
    let tensor = primitive(tensor);
    if tensor.can_mut() && tensor.tensor.is_contiguous() {
        tensor.tensor
    } else {
        let mut copy = tensor.tensor.contiguous().empty_like();
        copy.copy_(&tensor.tensor);
        copy
    }
}
