//! What the fused kernels are made of: rows of one factor in a warp's registers, tiles of the
//! other in memory that a cube shares, and products of the two on tensor cores.
//!
//! A cube is [`WARPS`] warps of [`LANES`] lanes; a warp has [`ROWS`] rows of its own, and every
//! warp goes through the same tiles of [`TILE`] tokens. Which lane holds which numbers of a
//! factor is that of `mma.m16n8k16` (NVIDIA, "PTX ISA", "Matrix Fragments for mma.m16n8k16"):
//! with `group = lane / 4` and `quad = lane % 4`, a lane holds of the left factor rows `group` and
//! `group + 8` at columns `2 quad`, `2 quad + 1` and those eight on; of the right one the same
//! places along the sum of column `group`; of the product rows `group` and `group + 8` at columns
//! `2 quad` and `2 quad + 1`. So a product that has been rounded is a left factor where it stands.

use burn_backend::bf16;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::cmma::MmaDefinition;
use burn_cubecl::cubecl::prelude::*;

/// Lanes of a warp.
pub(super) const LANES: usize = 32;
/// Warps of a cube.
pub(super) const WARPS: usize = 4;
/// Units of a cube.
pub(super) const CREW: usize = WARPS * LANES;
/// Rows of a warp.
pub(super) const ROWS: usize = 16;
/// Tokens of a tile; a cube's rows too.
pub(super) const TILE: usize = WARPS * ROWS;
/// Tokens along a product's side, and numbers along the axis it sums over.
pub(super) const SIDE: usize = 8;
pub(super) const DEPTH: usize = 16;

/// Two neighbours of a factor: what a register holds.
pub(super) type Pair = Vector<bf16, Const<2>>;
/// Eight neighbours: the most that is read at once.
pub(super) type Octet = Vector<bf16, Const<8>>;
/// Two neighbours of a product.
pub(super) type Sums = Vector<f32, Const<2>>;
/// Four neighbours of a result, which is a factor of what comes next.
pub(super) type Quartet = Vector<bf16, Const<4>>;

/// Products of a warp, [`SIDE`] columns each: rows `group` and `group + 8` of each.
pub(super) type Products = Sequence<Array<Sums>>;
/// A left factor, [`DEPTH`] columns each.
pub(super) type Rows = Sequence<Array<Pair>>;

/// Where the lines of a head stand in an array: that of token `k` at `first + k * step` numbers.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Lines {
    pub first: usize,
    pub step: usize,
}

/// Pairs from a token of a tile to the next. The four more than a token has let the lanes of a
/// warp read [`products`]' and [`add_products`]' factors from 32 different banks.
pub(super) fn tile_step(size: usize) -> usize {
    size / 2 + 4
}

/// Rows `row` and on of `x`, for each warp its own; zero where there is no token.
#[cube]
pub(super) fn read_rows(
    x: &Array<Pair>,
    lines: &Lines,
    row: usize,
    tokens: usize,
    #[comptime] size: usize,
) -> Rows {
    let lane = UNIT_POS_PLANE as usize;
    let mut rows = Sequence::<Array<Pair>>::new();
    #[unroll]
    for chunk in 0..comptime![size / DEPTH] {
        let mut registers = Array::<Pair>::new(4usize);
        #[unroll]
        for k in 0..4usize {
            let token = row + lane / 4 + comptime![k % 2 * SIDE];
            let column = comptime![chunk * DEPTH + k / 2 * SIDE] + lane % 4 * 2;
            let mut pair = Pair::zeroed();
            if token < tokens {
                pair = x[(lines.first + token * lines.step + column) / 2];
            }
            registers[k] = pair;
        }
        rows.push(registers);
    }
    rows
}

/// Reads the [`TILE`] tokens of `x` from `from` on; zero where there is none.
#[cube]
pub(super) fn read_tile(
    x: &Array<Octet>,
    lines: &Lines,
    tile: &mut SharedMemory<Pair>,
    from: usize,
    tokens: usize,
    #[comptime] size: usize,
) {
    #[unroll]
    for round in 0..comptime![TILE * size / 8 / CREW] {
        let piece = round * CREW + UNIT_POS as usize;
        let token = piece / comptime![size / 8];
        let octet = piece % comptime![size / 8];
        let mut numbers = Octet::zeroed();
        if from + token < tokens {
            numbers = x[(lines.first + (from + token) * lines.step) / 8 + octet];
        }
        #[unroll]
        for k in 0..4usize {
            let mut pair = Pair::zeroed();
            pair[0] = numbers[2 * k];
            pair[1] = numbers[2 * k + 1];
            tile[token * comptime![tile_step(size)] + octet * 4 + k] = pair;
        }
    }
}

/// Products that are zero, of so many columns.
#[cube]
pub(super) fn no_products(#[comptime] columns: usize) -> Products {
    let mut products = Sequence::<Array<Sums>>::new();
    #[unroll]
    for _ in 0..comptime![columns / SIDE] {
        let mut sums = Array::<Sums>::new(2usize);
        sums[0] = Sums::zeroed();
        sums[1] = Sums::zeroed();
        products.push(sums);
    }
    products
}

/// Each row with each token of the tile: their numbers' products, summed.
#[cube]
pub(super) fn products(
    rows: &Rows,
    tile: &SharedMemory<Pair>,
    #[comptime] size: usize,
) -> Products {
    let definition = MmaDefinition::<bf16, bf16, f32>::new(ROWS, SIDE, DEPTH);
    let lane = UNIT_POS_PLANE as usize;
    let mut products = no_products(TILE);
    #[unroll]
    for side in 0..comptime![TILE / SIDE] {
        let line = (side * SIDE + lane / 4) * comptime![tile_step(size)];
        #[unroll]
        for chunk in 0..comptime![size / DEPTH] {
            let mut factor = Array::<Pair>::new(2usize);
            #[unroll]
            for k in 0..2usize {
                factor[k] = tile[line + comptime![(chunk * DEPTH + k * SIDE) / 2] + lane % 4];
            }
            definition.execute_inplace(rows.index(chunk), &factor, products.index_mut(side));
        }
    }
    products
}

/// Products of a warp with a tile as a left factor.
#[cube]
pub(super) fn rounded(products: &Products) -> Rows {
    let mut rows = Sequence::<Array<Pair>>::new();
    #[unroll]
    for chunk in 0..comptime![TILE / DEPTH] {
        let mut registers = Array::<Pair>::new(4usize);
        #[unroll]
        for k in 0..4usize {
            registers[k] = Pair::cast_from(products.index(comptime![2 * chunk + k / 2])[k % 2]);
        }
        rows.push(registers);
    }
    rows
}

/// Adds to `onto` the tile's tokens, weighted by `weights`, those of each row.
///
/// Two tokens that are neighbours in the sum share a register and not a word of the tile, where
/// neighbours are numbers of one token. So two products of eight columns are taken together, of
/// which one has the even and one the odd of sixteen columns: their two factors are the words of
/// two tokens, put together anew. [`write_rows`] knows it.
#[cube]
pub(super) fn add_products(
    weights: &Rows,
    tile: &SharedMemory<Pair>,
    onto: &mut Products,
    #[comptime] size: usize,
) {
    let definition = MmaDefinition::<bf16, bf16, f32>::new(ROWS, SIDE, DEPTH);
    let lane = UNIT_POS_PLANE as usize;
    #[unroll]
    for chunk in 0..comptime![TILE / DEPTH] {
        #[unroll]
        for double in 0..comptime![size / DEPTH] {
            let mut even = Array::<Pair>::new(2usize);
            let mut odd = Array::<Pair>::new(2usize);
            #[unroll]
            for k in 0..2usize {
                let token = comptime![chunk * DEPTH + k * SIDE] + lane % 4 * 2;
                let word = token * comptime![tile_step(size)] + double * SIDE + lane / 4;
                let first = tile[word];
                let second = tile[word + comptime![tile_step(size)]];
                let mut pair = Pair::zeroed();
                pair[0] = first[0];
                pair[1] = second[0];
                even[k] = pair;
                let mut pair = Pair::zeroed();
                pair[0] = first[1];
                pair[1] = second[1];
                odd[k] = pair;
            }
            let weights = weights.index(chunk);
            definition.execute_inplace(weights, &even, onto.index_mut(comptime![2 * double]));
            definition.execute_inplace(weights, &odd, onto.index_mut(comptime![2 * double + 1]));
        }
    }
}

/// Writes what [`add_products`] made of rows `row` and on, each times a factor: that of row
/// `group` and that of row `group + 8`.
#[cube]
pub(super) fn write_rows(
    products: &Products,
    factors: &Sums,
    y: &mut Array<Quartet>,
    lines: &Lines,
    row: usize,
    tokens: usize,
    #[comptime] size: usize,
) {
    let lane = UNIT_POS_PLANE as usize;
    #[unroll]
    for half in 0..2usize {
        let token = row + lane / 4 + comptime![half * SIDE];
        if token < tokens {
            #[unroll]
            for double in 0..comptime![size / DEPTH] {
                let even = products.index(comptime![2 * double])[half];
                let odd = products.index(comptime![2 * double + 1])[half];
                let mut numbers = Vector::<f32, Const<4>>::zeroed();
                numbers[0] = even[0] * factors[half];
                numbers[1] = odd[0] * factors[half];
                numbers[2] = even[1] * factors[half];
                numbers[3] = odd[1] * factors[half];
                let start = lines.first + token * lines.step + comptime![double * DEPTH];
                y[start / 4 + lane % 4] = Quartet::cast_from(numbers);
            }
        }
    }
}

/// The sum over the four lanes that share a row, known to each.
#[cube]
pub(super) fn sum_of_row(value: f32) -> f32 {
    let value = value + plane_shuffle_xor(value, 1);
    value + plane_shuffle_xor(value, 2)
}

/// The largest of the four lanes that share a row, known to each.
#[cube]
pub(super) fn largest_of_row(value: f32) -> f32 {
    let mut largest = value;
    #[unroll]
    for k in 0..2u32 {
        let other = plane_shuffle_xor(largest, comptime![k + 1]);
        if other > largest {
            largest = other;
        }
    }
    largest
}
