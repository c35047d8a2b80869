//! From Burn's tensors to CubeCL's and back, and how kernels are laid over them.

use burn_backend::{DType, Shape, TensorMetadata};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, IntElement};
use burn_tensor::{Int, Tensor, TensorPrimitive};

/// Units that work together on a row or a piece of a tensor: a power of two.
pub(super) const UNITS: usize = 128;

/// Most cubes along an axis that every runtime takes. In the tests of this crate so few that kernels
/// are laid over several rows of them, of which the last is seldom full, without tensors that take
/// minutes.
const LINE: usize = if cfg!(test) { 3 } else { 32_768 };

/// The tensor within, its numbers one after the other. On CUDA, rows that are no multiple of 512
/// bytes lie apart until then.
pub(super) fn dense<R, I, BT, const D: usize>(
    tensor: Tensor<CubeBackend<R, f32, I, BT>, D>,
) -> CubeTensor<R>
where
    R: CubeRuntime,
    I: IntElement,
    BT: BoolElement,
{
    into_contiguous(tensor.into_primitive().tensor())
}

/// The whole numbers of a tensor as kernels read them: as `i32`, one after the other.
pub(super) fn dense_int<R, I, BT, const D: usize>(
    tensor: Tensor<CubeBackend<R, f32, I, BT>, D, Int>,
) -> CubeTensor<R>
where
    R: CubeRuntime,
    I: IntElement,
    BT: BoolElement,
{
    let tensor = tensor.into_primitive();
    // In this order: what is cast may have its rows apart.
    into_contiguous(if tensor.dtype == DType::I32 { tensor } else { cast(tensor, DType::I32) })
}

/// The tensor as Burn has it.
pub(super) fn burn<R, I, BT, const D: usize>(
    tensor: CubeTensor<R>,
) -> Tensor<CubeBackend<R, f32, I, BT>, D>
where
    R: CubeRuntime,
    I: IntElement,
    BT: BoolElement,
{
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

/// Room for a tensor of `f32` beside `of`, its numbers one after the other.
pub(super) fn room<R: CubeRuntime, S: Into<Shape>>(of: &CubeTensor<R>, shape: S) -> CubeTensor<R> {
    room_of(of, shape, DType::F32)
}

/// The same of numbers of another type.
pub(super) fn room_of<R: CubeRuntime, S: Into<Shape>>(
    of: &CubeTensor<R>,
    shape: S,
    dtype: DType,
) -> CubeTensor<R> {
    let shape = shape.into();
    let numbers = shape.num_elements();
    // Kernels count in `u32`, and beyond it begin anew without a word.
    assert!(
        u32::try_from(numbers).is_ok(),
        "a tensor of {numbers} numbers is more than kernels can count: a smaller train.micro_batch or \
         embed.batch takes fewer"
    );
    let handle = of.client.empty(numbers * dtype.size());
    CubeTensor::new_contiguous(of.client.clone(), of.device.clone(), shape, handle, dtype)
}

/// The same numbers, which lie one after the other, in another shape.
pub(super) fn reshaped<R: CubeRuntime, S: Into<Shape>>(
    tensor: CubeTensor<R>,
    shape: S,
) -> CubeTensor<R> {
    let CubeTensor { client, handle, device, dtype, .. } = tensor;
    CubeTensor::new_contiguous(client, device, shape.into(), handle, dtype)
}

/// The lengths of a tensor's axes.
pub(super) fn lengths<R: CubeRuntime, const D: usize>(tensor: &CubeTensor<R>) -> [usize; D] {
    tensor.shape().dims()
}

/// So many cubes, as rows of what every runtime takes; the last row may have cubes too many.
pub(super) fn cubes(count: usize) -> CubeCount {
    let line = count.clamp(1, LINE);
    CubeCount::Static(line as u32, count.div_ceil(line) as u32, 1)
}

/// Cubes with a unit for each of `count` numbers.
pub(super) fn units(count: usize) -> CubeCount {
    cubes(count.div_ceil(UNITS))
}

/// [`UNITS`] along one axis.
pub(super) fn cube() -> CubeDim {
    CubeDim::new_1d(UNITS as u32)
}
