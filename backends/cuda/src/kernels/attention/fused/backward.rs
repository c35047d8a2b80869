//! The gradients, by a kernel for queries and one for keys and values.

use burn_backend::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::super::mask::{Mask, Rules};
use super::tiles::{
    Octet, Pair, Products, Quartet, SIDE, Sums, TILE, add_products, no_products, products,
    read_rows, read_tile, rounded, tile_step, write_rows,
};
use super::{Place, Shape, crew, line, lines, place, read_keys, seen, warp};
use crate::kernels::tensors::{lengths, room_of};

/// Logarithms and deltas of [`TILE`] lines.
#[derive(CubeType)]
struct Statistics {
    lse: SharedMemory<f32>,
    delta: SharedMemory<f32>,
}

#[cube]
impl Statistics {
    fn new() -> Statistics {
        Statistics { lse: SharedMemory::<f32>::new(TILE), delta: SharedMemory::<f32>::new(TILE) }
    }
}

/// Reads logarithms and deltas of [`TILE`] lines from token `from` on; zero where there is none.
#[cube]
fn read_lines(
    lse_bht: &Array<f32>,
    delta_bht: &Array<f32>,
    statistics: &mut Statistics,
    from: usize,
    place: &Place,
    shape: &Shape,
) {
    let unit = UNIT_POS as usize;
    if unit < TILE {
        statistics.lse[unit] = 0.0f32;
        statistics.delta[unit] = 0.0f32;
        if from + unit < shape.tokens {
            let line = line(place, shape, from + unit);
            statistics.lse[unit] = lse_bht[line];
            statistics.delta[unit] = delta_bht[line];
        }
    }
}

/// Scores become weights p = exp(score - lse) again, and their gradients dp those of scores,
/// ds = p·(dp - delta)·scale. With `turned` rows are keys and columns queries.
#[cube]
fn weigh_again(
    scores: &mut Products,
    gradients: &mut Products,
    statistics: &Statistics,
    from: usize,
    place: &Place,
    shape: &Shape,
    documents_bt: &Array<i32>,
    reach_bt: &Array<i32>,
    #[comptime] rules: Rules,
    #[comptime] turned: bool,
) {
    let lane = UNIT_POS_PLANE as usize;
    #[unroll]
    for side in 0..comptime![TILE / SIDE] {
        #[unroll]
        for half in 0..2usize {
            let mut pair = scores.index(side)[half];
            let mut gradient = gradients.index(side)[half];
            #[unroll]
            for k in 0..2usize {
                let row = warp() + lane / 4 + comptime![half * SIDE];
                let column = lane % 4 * 2 + comptime![side * SIDE + k];
                let mut line = row;
                let mut query = place.first + row;
                let mut key = from + column;
                if comptime![turned] {
                    line = column;
                    query = from + column;
                    key = place.first + row;
                }
                let mut weight = 0.0f32;
                let mut dscore = 0.0f32;
                if seen(query, key, place, shape, documents_bt, reach_bt, rules) {
                    weight = f32::exp(pair[k] * shape.scale - statistics.lse[line]);
                    dscore = weight * (gradient[k] - statistics.delta[line]) * shape.scale;
                }
                pair[k] = weight;
                gradient[k] = dscore;
            }
            scores.index_mut(side)[half] = pair;
            gradients.index_mut(side)[half] = gradient;
        }
    }
}

/// Cube by block of queries: their gradients, the first part of `dqkv_bte`.
#[cube(launch_unchecked)]
fn queries_backward_kernel(
    qkv_pairs: &Array<Pair>,
    qkv_octets: &Array<Octet>,
    dout_pairs: &Array<Pair>,
    lse_bht: &Array<f32>,
    delta_bht: &Array<f32>,
    dqkv_bte: &mut Array<Quartet>,
    documents_bt: &Array<i32>,
    reach_bt: &Array<i32>,
    shape: &Shape,
    #[comptime] size: usize,
    #[comptime] rules: Rules,
) {
    let mut keys = SharedMemory::<Pair>::new(comptime![TILE * tile_step(size)]);
    let mut values = SharedMemory::<Pair>::new(comptime![TILE * tile_step(size)]);
    let mut statistics = Statistics::new();
    if CUBE_POS < shape.count {
        let place = place(shape, false);
        let query = place.first + warp();
        let tokens = shape.tokens;
        let query_lines = lines(&place, shape, 0usize, 3usize, size);
        let queries = read_rows(qkv_pairs, &query_lines, query, tokens, size);
        let dout_lines = lines(&place, shape, 0usize, 1usize, size);
        let dout = read_rows(dout_pairs, &dout_lines, query, tokens, size);
        read_lines(lse_bht, delta_bht, &mut statistics, place.first, &place, shape);
        let mut dqueries = no_products(size);
        let mut end = tokens;
        if comptime![rules.backwards_only()] {
            end = place.first + TILE;
        }
        let mut from = 0usize;
        while from < end {
            read_keys(qkv_octets, &mut keys, &mut values, from, &place, shape, size);
            let mut scores = products(&queries, &keys, size);
            let mut dscores = products(&dout, &values, size);
            weigh_again(
                &mut scores,
                &mut dscores,
                &statistics,
                from,
                &place,
                shape,
                documents_bt,
                reach_bt,
                rules,
                false,
            );
            add_products(&rounded(&dscores), &keys, &mut dqueries, size);
            from += TILE;
        }
        write_rows(&dqueries, &Sums::new(1.0f32), dqkv_bte, &query_lines, query, tokens, size);
    }
}

/// Cube by block of keys: their gradients and their values', the other parts of `dqkv_bte`.
#[cube(launch_unchecked)]
fn keys_backward_kernel(
    qkv_pairs: &Array<Pair>,
    qkv_octets: &Array<Octet>,
    dout_octets: &Array<Octet>,
    lse_bht: &Array<f32>,
    delta_bht: &Array<f32>,
    dqkv_bte: &mut Array<Quartet>,
    documents_bt: &Array<i32>,
    reach_bt: &Array<i32>,
    shape: &Shape,
    #[comptime] size: usize,
    #[comptime] rules: Rules,
) {
    let mut queries = SharedMemory::<Pair>::new(comptime![TILE * tile_step(size)]);
    let mut dout = SharedMemory::<Pair>::new(comptime![TILE * tile_step(size)]);
    let mut statistics = Statistics::new();
    if CUBE_POS < shape.count {
        let place = place(shape, true);
        let (key, tokens) = (place.first + warp(), shape.tokens);
        let key_lines = lines(&place, shape, 1usize, 3usize, size);
        let value_lines = lines(&place, shape, 2usize, 3usize, size);
        let keys = read_rows(qkv_pairs, &key_lines, key, tokens, size);
        let values = read_rows(qkv_pairs, &value_lines, key, tokens, size);
        let mut dkeys = no_products(size);
        let mut dvalues = no_products(size);
        let query_lines = lines(&place, shape, 0usize, 3usize, size);
        let dout_lines = lines(&place, shape, 0usize, 1usize, size);
        let mut from = 0usize;
        if comptime![rules.backwards_only()] {
            from = place.first;
        }
        while from < tokens {
            sync_cube();
            read_tile(qkv_octets, &query_lines, &mut queries, from, tokens, size);
            read_tile(dout_octets, &dout_lines, &mut dout, from, tokens, size);
            read_lines(lse_bht, delta_bht, &mut statistics, from, &place, shape);
            sync_cube();
            let mut scores = products(&keys, &queries, size);
            let mut dscores = products(&values, &dout, size);
            weigh_again(
                &mut scores,
                &mut dscores,
                &statistics,
                from,
                &place,
                shape,
                documents_bt,
                reach_bt,
                rules,
                true,
            );
            add_products(&rounded(&scores), &dout, &mut dvalues, size);
            add_products(&rounded(&dscores), &queries, &mut dkeys, size);
            from += TILE;
        }
        write_rows(&dkeys, &Sums::new(1.0f32), dqkv_bte, &key_lines, key, tokens, size);
        write_rows(&dvalues, &Sums::new(1.0f32), dqkv_bte, &value_lines, key, tokens, size);
    }
}

/// The gradient `[b, t, 3·d]` of factors `[b, t, 3·d]`, rounded; `dout` is rounded too, and the
/// last are logarithms and deltas.
pub(crate) fn backward<R: CubeRuntime>(
    qkv: CubeTensor<R>,
    dout: CubeTensor<R>,
    [lse, delta]: [CubeTensor<R>; 2],
    mask: &Mask<R>,
) -> CubeTensor<R> {
    let [b, t, e] = lengths(&qkv);
    let dqkv = room_of(&qkv, [b, t, e], DType::BF16);
    // SAFETY: as forward; the two kernels write different parts of `dqkv`, and together all.
    unsafe {
        let (count, shape) = mask.laid_over(b);
        queries_backward_kernel::launch_unchecked::<R>(
            &qkv.client.clone(),
            count,
            crew(),
            qkv.clone().into_array_arg(),
            qkv.clone().into_array_arg(),
            dout.clone().into_array_arg(),
            lse.clone().into_array_arg(),
            delta.clone().into_array_arg(),
            dqkv.clone().into_array_arg(),
            mask.documents_bt.clone().into_array_arg(),
            mask.reach_bt.clone().into_array_arg(),
            shape,
            mask.size,
            mask.rules,
        );
        let (count, shape) = mask.laid_over(b);
        keys_backward_kernel::launch_unchecked::<R>(
            &qkv.client.clone(),
            count,
            crew(),
            qkv.clone().into_array_arg(),
            qkv.into_array_arg(),
            dout.into_array_arg(),
            lse.into_array_arg(),
            delta.into_array_arg(),
            dqkv.clone().into_array_arg(),
            mask.documents_bt.clone().into_array_arg(),
            mask.reach_bt.clone().into_array_arg(),
            shape,
            mask.size,
            mask.rules,
        );
    }
    dqkv
}
