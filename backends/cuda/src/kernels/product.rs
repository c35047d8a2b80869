//! Products of matrices.
//!
//! Burn's own product tries what the GPU has and takes the fastest, which in single precision is
//! one on tensor cores: they round what they multiply to TF32, ten bits behind the point, and
//! which kernel is the fastest may change from run to run. What is asked for in `f32` is computed
//! in `f32` here, by the same kernel every time; products of numbers that are rounded to bf16
//! anyway take Burn's way.

use burn_backend::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::tensor::CubeTensor;

use super::tensors::{cubes, lengths, room_of};

/// What numbers are rounded to before they are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// To nothing.
    F32,
    /// To bf16; products and their sums are `f32`.
    Bf16,
}

/// How a kernel of runtime `R` that is generic over a type of numbers is launched for those of a
/// [`Precision`].
macro_rules! launch_in {
    ($kernel:ident, $runtime:ty, $precision:expr) => {
        match $precision {
            $crate::kernels::product::Precision::F32 => $kernel::launch::<f32, $runtime>,
            $crate::kernels::product::Precision::Bf16 => {
                $kernel::launch::<burn_backend::bf16, $runtime>
            }
        }
    };
}
pub(super) use launch_in;

impl Precision {
    /// That of numbers that are stored so.
    pub(super) fn of(dtype: DType) -> Self {
        if dtype == DType::BF16 { Self::Bf16 } else { Self::F32 }
    }

    /// The type that factors have.
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// A tensor as a factor. Where it was none yet, its rows may lie apart.
    pub(super) fn round<R: CubeRuntime>(self, x: CubeTensor<R>) -> CubeTensor<R> {
        if x.dtype == self.dtype() { x } else { cast(x, self.dtype()) }
    }

    /// A tensor as a factor, its numbers one after the other.
    pub(super) fn rounded<R: CubeRuntime>(self, x: CubeTensor<R>) -> CubeTensor<R> {
        into_contiguous(self.round(x))
    }

    /// The product of factors as a factor of `out`, its numbers one after the other: its sums are
    /// `f32`, and rounded as they are written. `f32` factors have it in `f32` alone. Factors may be
    /// views; their leading axes, two at most, are the same.
    pub(super) fn product<R: CubeRuntime>(
        self,
        a: CubeTensor<R>,
        b: CubeTensor<R>,
        out: Self,
    ) -> CubeTensor<R> {
        let dtype = out.dtype();
        let (a, b) = (self.round(a), self.round(b));
        let mut shape: Vec<usize> = a.meta.shape().to_vec();
        let last = shape.len() - 1;
        shape[last] = b.meta.shape()[last];
        let out = room_of(&a, shape, dtype);
        match self {
            Self::F32 => exact(a, b, out),
            // Autotune's last resort takes every shape, so there is a kernel for this one.
            Self::Bf16 => matmul(a, b, Some(out), MatmulStrategy::default(), dtype)
                .unwrap_or_else(|error| panic!("no kernel for a product in bf16: {error:?}")),
        }
    }
}

/// Rows and columns of the tile of the product that a cube computes, numbers along the axis that
/// is summed over that it holds at a time, and rows and columns of a unit's part of the tile.
const TILE: usize = 64;
const DEPTH: usize = 16;
const PART: usize = 4;
/// How far apart the places along the axis of the sum stand in shared memory. By [`TILE`] alone
/// neighbours that are read along it would be written to one bank of 32; a multiple of four numbers
/// is still read at once.
const STEP: usize = TILE + PART;
/// Units of a cube.
const CREW: usize = (TILE / PART) * (TILE / PART);

/// Reads a tile of a factor into `tile`: across the axis of the sum from `across` on, along it
/// from `along` on; zero beyond its ends. Neighbouring units read what stands side by side.
#[cube]
fn read_tile(
    x: &Tensor<f32>,
    tile: &mut SharedMemory<f32>,
    start: usize,
    across: usize,
    along: usize,
    #[comptime] across_axis: usize,
    #[comptime] along_axis: usize,
    #[comptime] deep: bool,
) {
    let width = x.shape(across_axis);
    let depth = x.shape(along_axis);
    let step_across = x.stride(across_axis);
    let step_along = x.stride(along_axis);
    #[unroll]
    for round in 0..comptime![TILE * DEPTH / CREW] {
        let k = round * CREW + UNIT_POS as usize;
        let mut at = k % TILE;
        let mut deepness = k / TILE;
        if comptime![deep] {
            at = k / DEPTH;
            deepness = k % DEPTH;
        }
        let mut value = 0.0f32;
        if across + at < width && along + deepness < depth {
            value = x[start + (across + at) * step_across + (along + deepness) * step_along];
        }
        tile[deepness * STEP + at] = value;
    }
}

/// Cube by tile of a matrix of the product. All tensors have four axes.
#[allow(clippy::manual_div_ceil, reason = "kernels have no `div_ceil`")]
#[cube(launch)]
fn product_kernel(
    a: &Tensor<f32>,
    b: &Tensor<f32>,
    out: &mut Tensor<f32>,
    #[comptime] a_deep: bool,
    #[comptime] b_deep: bool,
) {
    let mut a_tile = SharedMemory::<f32>::new(comptime![STEP * DEPTH]);
    let mut b_tile = SharedMemory::<f32>::new(comptime![STEP * DEPTH]);
    let mut sums = Array::<f32>::new(comptime![PART * PART]);
    #[unroll]
    for k in 0..comptime![PART * PART] {
        sums[k] = 0.0f32;
    }
    let rows = out.shape(2);
    let columns = out.shape(3);
    let tiles_across = (columns + TILE - 1) / TILE;
    let tiles = (rows + TILE - 1) / TILE * tiles_across;
    let matrix = CUBE_POS / tiles;
    let outer = matrix / out.shape(1);
    let inner = matrix % out.shape(1);
    let row = CUBE_POS % tiles / tiles_across * TILE;
    let column = CUBE_POS % tiles % tiles_across * TILE;
    let a_start = outer * a.stride(0) + inner * a.stride(1);
    let b_start = outer * b.stride(0) + inner * b.stride(1);
    let unit = UNIT_POS as usize;
    let down = unit / (TILE / PART) * PART;
    let across = unit % (TILE / PART) * PART;
    let mut along = 0usize;
    while along < a.shape(3) {
        read_tile(a, &mut a_tile, a_start, row, along, 2usize, 3usize, a_deep);
        read_tile(b, &mut b_tile, b_start, column, along, 3usize, 2usize, b_deep);
        sync_cube();
        for k in 0..DEPTH {
            #[unroll]
            for i in 0..PART {
                let left = a_tile[k * STEP + down + i];
                #[unroll]
                for j in 0..PART {
                    sums[i * PART + j] += left * b_tile[k * STEP + across + j];
                }
            }
        }
        sync_cube();
        along += DEPTH;
    }
    #[unroll]
    for i in 0..PART {
        #[unroll]
        for j in 0..PART {
            let below = row + down + i;
            let beside = column + across + j;
            if outer < out.shape(0) && below < rows && beside < columns {
                out[matrix * rows * columns + below * columns + beside] = sums[i * PART + j];
            }
        }
    }
}

/// The same tensor with four axes, the first of them of length one.
fn four_axes<R: CubeRuntime>(mut x: CubeTensor<R>) -> CubeTensor<R> {
    while x.meta.num_dims() < 4 {
        x.meta.insert(0, 1, 0);
    }
    x
}

/// Without tensor cores, every sum in the order of its axis.
fn exact<R: CubeRuntime>(a: CubeTensor<R>, b: CubeTensor<R>, out: CubeTensor<R>) -> CubeTensor<R> {
    let [a, b, wide] = [a, b, out.clone()].map(four_axes);
    let [outer, inner, rows, columns] = lengths(&wide);
    let tiles = rows.div_ceil(TILE) * columns.div_ceil(TILE);
    // Whether neighbours along the axis of the sum stand side by side.
    let (a_deep, b_deep) = (a.meta.strides()[3] == 1, b.meta.strides()[2] == 1);
    product_kernel::launch::<R>(
        &out.client.clone(),
        cubes(outer * inner * tiles),
        CubeDim::new_1d(CREW as u32),
        a.into_tensor_arg(),
        b.into_tensor_arg(),
        wide.into_tensor_arg(),
        a_deep,
        b_deep,
    );
    out
}
