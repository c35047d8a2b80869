//! The output, by one kernel.

use burn_backend::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::super::mask::{Mask, Rules};
use super::tiles::{
    Octet, Pair, Products, Quartet, SIDE, Sums, TILE, add_products, largest_of_row, no_products,
    products, read_rows, rounded, sum_of_row, tile_step, write_rows,
};
use super::{Place, Shape, crew, line, lines, place, read_keys, seen, warp};
use crate::kernels::tensors::{lengths, room, room_of};

/// Scales the scores of queries `query` and on with the keys of a tile from `from` on.
#[cube]
fn scale_scores(
    scores: &mut Products,
    query: usize,
    from: usize,
    place: &Place,
    shape: &Shape,
    documents_bt: &Array<i32>,
    reach_bt: &Array<i32>,
    #[comptime] rules: Rules,
) {
    let lane = UNIT_POS_PLANE as usize;
    #[unroll]
    for side in 0..comptime![TILE / SIDE] {
        #[unroll]
        for half in 0..2usize {
            let mut pair = scores.index(side)[half];
            #[unroll]
            for k in 0..2usize {
                let token = query + lane / 4 + comptime![half * SIDE];
                let key = from + comptime![side * SIDE + k] + lane % 4 * 2;
                let mut score = shape.lowest;
                if seen(token, key, place, shape, documents_bt, reach_bt, rules) {
                    score = pair[k] * shape.scale;
                }
                pair[k] = score;
            }
            scores.index_mut(side)[half] = pair;
        }
    }
}

/// Scores become weights, as if the largest score so far were the largest of all; `out` and `sum`
/// are made smaller by what the largest has grown since.
#[cube]
fn weigh(
    scores: &mut Products,
    out: &mut Products,
    largest: &mut Array<f32>,
    sum: &mut Array<f32>,
    shape: &Shape,
    #[comptime] size: usize,
) {
    #[unroll]
    for half in 0..2usize {
        let mut top = largest[half];
        #[unroll]
        for side in 0..comptime![TILE / SIDE] {
            let pair = scores.index(side)[half];
            #[unroll]
            for k in 0..2usize {
                if pair[k] > top {
                    top = pair[k];
                }
            }
        }
        let top = largest_of_row(top);
        let shrunk = f32::exp(largest[half] - top);
        let mut part = 0.0f32;
        #[unroll]
        for side in 0..comptime![TILE / SIDE] {
            let mut pair = scores.index(side)[half];
            #[unroll]
            for k in 0..2usize {
                let mut weight = 0.0f32;
                // A score that is no number stays one.
                if pair[k] != shape.lowest {
                    weight = f32::exp(pair[k] - top);
                }
                part += weight;
                pair[k] = weight;
            }
            scores.index_mut(side)[half] = pair;
        }
        sum[half] = sum[half] * shrunk + part;
        largest[half] = top;
        #[unroll]
        for side in 0..comptime![size / SIDE] {
            let pair = out.index(side)[half];
            out.index_mut(side)[half] = pair * Sums::new(shrunk);
        }
    }
}

/// Cube by block of queries: their output and the logarithms of their weights' sums.
#[cube(launch_unchecked)]
fn forward_kernel(
    qkv_pairs: &Array<Pair>,
    qkv_octets: &Array<Octet>,
    out_btd: &mut Array<Quartet>,
    lse_bht: &mut Array<f32>,
    documents_bt: &Array<i32>,
    reach_bt: &Array<i32>,
    shape: &Shape,
    #[comptime] size: usize,
    #[comptime] rules: Rules,
) {
    let mut keys = SharedMemory::<Pair>::new(comptime![TILE * tile_step(size)]);
    let mut values = SharedMemory::<Pair>::new(comptime![TILE * tile_step(size)]);
    if CUBE_POS < shape.count {
        let place = place(shape, false);
        let query = place.first + warp();
        let tokens = shape.tokens;
        let queries = lines(&place, shape, 0usize, 3usize, size);
        let queries = read_rows(qkv_pairs, &queries, query, tokens, size);
        let mut out = no_products(size);
        let mut largest = Array::<f32>::new(2usize);
        let mut sum = Array::<f32>::new(2usize);
        #[unroll]
        for half in 0..2usize {
            largest[half] = shape.lowest;
            sum[half] = 0.0f32;
        }
        let mut end = tokens;
        if comptime![rules.backwards_only()] {
            end = place.first + TILE;
        }
        let mut from = 0usize;
        while from < end {
            read_keys(qkv_octets, &mut keys, &mut values, from, &place, shape, size);
            let mut scores = products(&queries, &keys, size);
            scale_scores(&mut scores, query, from, &place, shape, documents_bt, reach_bt, rules);
            weigh(&mut scores, &mut out, &mut largest, &mut sum, shape, size);
            add_products(&rounded(&scores), &values, &mut out, size);
            from += TILE;
        }
        let (lane, quad) = (UNIT_POS_PLANE as usize, UNIT_POS_PLANE % 4);
        let mut factors = Sums::zeroed();
        #[unroll]
        for half in 0..2usize {
            let total = sum_of_row(sum[half]);
            factors[half] = 1.0f32 / total;
            let token = query + lane / 4 + comptime![half * SIDE];
            if quad == 0 && token < tokens {
                lse_bht[line(&place, shape, token)] = largest[half] + f32::ln(total);
            }
        }
        let out_lines = lines(&place, shape, 0usize, 1usize, size);
        write_rows(&out, &factors, out_btd, &out_lines, query, tokens, size);
    }
}

/// The output `[b, t, d]`, rounded, and the logarithms `[b, h, t]` of factors `[b, t, 3·d]`.
pub(crate) fn forward<R: CubeRuntime>(qkv: CubeTensor<R>, mask: &Mask<R>) -> [CubeTensor<R>; 2] {
    let [b, t, e] = lengths(&qkv);
    let out = room_of(&qkv, [b, t, e / 3], DType::BF16);
    let lse = room(&qkv, [b, mask.heads, t]);
    let (count, shape) = mask.laid_over(b);
    // SAFETY: the kernel reads and writes tokens below the number of tokens of `b` rows only,
    // which all arrays have; `documents_bt` and `reach_bt` only where the rules say so.
    unsafe {
        forward_kernel::launch_unchecked::<R>(
            &qkv.client.clone(),
            count,
            crew(),
            qkv.clone().into_array_arg(),
            qkv.into_array_arg(),
            out.clone().into_array_arg(),
            lse.clone().into_array_arg(),
            mask.documents_bt.clone().into_array_arg(),
            mask.reach_bt.clone().into_array_arg(),
            shape,
            mask.size,
            mask.rules,
        );
    }
    [out, lse]
}
