//! Attention in one kernel forward and two backward, on tensor cores: scores never leave the
//! registers of the warp that makes them (Dao 2023, "FlashAttention-2", arXiv:2307.08691).
//!
//! Factors are rounded to bf16; products, maxima, exponentials and sums are `f32`. Backward the
//! gradients of queries and those of keys and values are summed by kernels of their own, each in
//! one order, where one kernel for both would add to the queries' from many cubes as they come.

mod backward;
mod forward;
mod tiles;

use burn_backend::{DType, TensorMetadata, bf16};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::features::MmaConfig;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::mask::{Mask, Rules, visible};
use crate::kernels::tensors::{cube, cubes, room_of, units};
pub(super) use backward::backward;
pub(super) use forward::forward;
use tiles::{CREW, DEPTH, LANES, Lines, Octet, Pair, Quartet, ROWS, SIDE, TILE, read_tile};

/// Largest head: a warp's rows of it, and two products as wide, still fit the registers.
const LARGEST: usize = 128;

/// What kernels are told of the shape.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Shape {
    /// Tokens of a row.
    tokens: usize,
    /// Heads.
    heads: usize,
    /// Cubes that have work.
    count: usize,
    /// What scores are multiplied with.
    scale: f32,
    /// What scores that nobody may see are set to: less than any score.
    lowest: f32,
}

/// The part of the work that is a cube's own.
#[derive(CubeType, Clone, Copy)]
struct Place {
    /// Number of the row's first token among those of all rows.
    row: usize,
    head: usize,
    /// First token of the cube's block.
    first: usize,
}

/// The longest work first: under a causal mask the last queries', and the first keys'.
#[cube]
fn place(shape: &Shape, #[comptime] keys: bool) -> Place {
    let blocks = (shape.tokens + comptime![TILE - 1]) / TILE;
    let line = CUBE_POS / blocks;
    let mut block = CUBE_POS % blocks;
    if comptime![!keys] {
        block = blocks - 1 - block;
    }
    Place { row: line / shape.heads * shape.tokens, head: line % shape.heads, first: block * TILE }
}

/// The cube's head in one of the parts of an array `[b, t, parts, h, size]`.
#[cube]
fn lines(
    place: &Place,
    shape: &Shape,
    #[comptime] part: usize,
    #[comptime] parts: usize,
    #[comptime] size: usize,
) -> Lines {
    let step = shape.heads * comptime![parts * size];
    Lines { first: place.row * step + (shape.heads * part + place.head) * size, step }
}

/// Number of the line `[b, h, t]` of the cube's token `token`.
#[cube]
fn line(place: &Place, shape: &Shape, token: usize) -> usize {
    place.row * shape.heads + place.head * shape.tokens + token
}

/// First row of the warp among those of its cube.
#[cube]
fn warp() -> usize {
    UNIT_POS as usize / LANES * ROWS
}

/// Reads the tiles of keys and values from token `from` on, when the cube is done with what was
/// there.
#[cube]
fn read_keys(
    qkv: &Array<Octet>,
    keys: &mut SharedMemory<Pair>,
    values: &mut SharedMemory<Pair>,
    from: usize,
    place: &Place,
    shape: &Shape,
    #[comptime] size: usize,
) {
    let key_lines = lines(place, shape, 1usize, 3usize, size);
    let value_lines = lines(place, shape, 2usize, 3usize, size);
    sync_cube();
    read_tile(qkv, &key_lines, keys, from, shape.tokens, size);
    read_tile(qkv, &value_lines, values, from, shape.tokens, size);
    sync_cube();
}

/// Whether query and key are there and see each other.
#[allow(clippy::collapsible_if, reason = "in kernels `&&` computes both sides")]
#[cube]
fn seen(
    query: usize,
    key: usize,
    place: &Place,
    shape: &Shape,
    documents_bt: &Array<i32>,
    reach_bt: &Array<i32>,
    #[comptime] rules: Rules,
) -> bool {
    let mut seen = false.runtime();
    if query < shape.tokens {
        if key < shape.tokens {
            seen = visible(query, key, place.row, documents_bt, reach_bt, rules);
        }
    }
    seen
}

/// Why this device cannot, or not with heads of this size, in words for the user.
pub(super) fn obstacle<R: CubeRuntime>(client: &ComputeClient<R>, size: usize) -> Option<String> {
    let [m, n, k] = [ROWS, SIDE, DEPTH].map(|length| length as u32);
    let product = MmaConfig {
        a_type: bf16::cube_type(),
        b_type: bf16::cube_type(),
        cd_type: f32::cube_type(),
        m,
        n,
        k,
    };
    if !client.features().matmul.mma.contains(&product) {
        return Some(
            "this GPU has no tensor cores for bf16, which NVIDIA's have from compute capability \
             8.0 on: train.precision = \"bf16\" is computed without, and need not be faster than \
             \"f32\""
                .into(),
        );
    }
    let fits = size.is_multiple_of(DEPTH) && size <= LARGEST;
    (!fits).then(|| {
        format!(
            "heads are {size} numbers wide (width / heads): attention's scores go through the \
             GPU's memory, which takes longer; in bf16 they need not where that is a multiple of \
             {DEPTH}, {LARGEST} at most"
        )
    })
}

impl<R: CubeRuntime> Mask<R> {
    /// Cubes, and the shape as kernels take it, for `b` rows.
    fn laid_over(&self, b: usize) -> (CubeCount, ShapeLaunch<R>) {
        let count = b * self.heads * self.tokens.div_ceil(TILE);
        let shape = ShapeLaunch::new(self.tokens, self.heads, count, self.scale, f32::MIN);
        (cubes(count), shape)
    }
}

/// Unit by four numbers.
#[cube(launch_unchecked)]
fn round_kernel(x: &Array<Vector<f32, Const<4>>>, y: &mut Array<Quartet>, count: usize) {
    if ABSOLUTE_POS < count {
        y[ABSOLUTE_POS] = Quartet::cast_from(x[ABSOLUTE_POS]);
    }
}

/// Numbers that lie one after the other as factors that do, which Burn's own casts do not make
/// where rows are padded. A multiple of four of them.
pub(super) fn rounded<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    if x.dtype == DType::BF16 {
        return x;
    }
    let y = room_of(&x, x.shape(), DType::BF16);
    let count = x.shape().num_elements() / 4;
    // SAFETY: both have four times `count` numbers.
    unsafe {
        round_kernel::launch_unchecked::<R>(
            &x.client.clone(),
            units(count),
            cube(),
            x.into_array_arg(),
            y.clone().into_array_arg(),
            count,
        );
    }
    y
}

fn crew() -> CubeDim {
    CubeDim::new_1d(CREW as u32)
}
