//! Attention by blocks of queries: the scores of a block are held whole, those of all queries
//! never, so memory grows with the number of tokens and not with its square.
//!
//! Of a block, one product gives the scores, one kernel the weights, one product the output;
//! backward the weights are computed again from the scores and the logarithms of their sums (Dao
//! et al. 2022, arXiv:2205.14135). Under a causal mask keys after the block are left out.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeRuntime, IntElement};
use burn_tensor::Tensor;

use super::T;
use super::mask::{Mask, Rules, visible};
use crate::kernels::product::{Precision, launch_in};
use crate::kernels::sums::{largest_of_cube, sum_of_cube};
use crate::kernels::tensors::{UNITS, burn, cube, cubes, dense, lengths, room, room_of, units};

/// How queries are cut into blocks.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Scores that are held at a time, where the smallest block does not hold more.
    scores: usize,
    /// Queries of the smallest block; larger ones are multiples.
    queries: usize,
}

const CUT: Cut = Cut { scores: 1 << 24, queries: 64 };

/// Which keys a query sees, as kernels take it.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Seen {
    /// Number of the first query of the block in its row.
    first: usize,
    /// Queries of the block.
    queries: usize,
    /// Keys that are looked at.
    keys: usize,
    /// Tokens of a row.
    tokens: usize,
    /// Heads.
    heads: usize,
}

/// Whether the query of line `line` of the block's scores sees `key`.
#[cube]
fn sees(
    line: usize,
    key: usize,
    seen: &Seen,
    documents_bt: &Array<i32>,
    reach_bt: &Array<i32>,
    #[comptime] rules: Rules,
) -> bool {
    let query = seen.first + line % seen.queries;
    let row = line / seen.queries / seen.heads * seen.tokens;
    visible(query, key, row, documents_bt, reach_bt, rules)
}

/// Cube by line of scores: the weights and the logarithm of the sum of exponentials.
#[cube(launch)]
fn weights_kernel<E: Float>(
    scores: &Array<f32>,
    weights: &mut Array<E>,
    lse: &mut Array<f32>,
    documents_bt: &Array<i32>,
    reach_bt: &Array<i32>,
    seen: &Seen,
    scale: f32,
    lowest: f32,
    #[comptime] rules: Rules,
) {
    let mut shared = SharedMemory::<f32>::new(UNITS);
    let line = CUBE_POS;
    let keys = seen.keys;
    let step = CUBE_DIM as usize;
    let mut largest = lowest;
    let mut key = UNIT_POS as usize;
    while key < keys {
        let score = scores[line * keys + key] * scale;
        if sees(line, key, seen, documents_bt, reach_bt, rules) && score > largest {
            largest = score;
        }
        key += step;
    }
    let largest = largest_of_cube(largest, &mut shared);
    let mut sum = 0.0f32;
    key = UNIT_POS as usize;
    while key < keys {
        if sees(line, key, seen, documents_bt, reach_bt, rules) {
            sum += f32::exp(scores[line * keys + key] * scale - largest);
        }
        key += step;
    }
    let sum = sum_of_cube(sum, &mut shared);
    if line < lse.len() {
        key = UNIT_POS as usize;
        while key < keys {
            let mut weight = 0.0f32;
            if sees(line, key, seen, documents_bt, reach_bt, rules) {
                weight = f32::exp(scores[line * keys + key] * scale - largest) / sum;
            }
            weights[line * keys + key] = E::cast_from(weight);
            key += step;
        }
        if UNIT_POS == 0 {
            lse[line] = largest + f32::ln(sum);
        }
    }
}

/// Unit by score: the weight p = exp(score - lse) again, and ds = p·(dp - delta)·scale.
#[cube(launch)]
fn weights_backward_kernel<E: Float>(
    scores: &Array<f32>,
    dweights: &Array<f32>,
    lse: &Array<f32>,
    delta: &Array<f32>,
    weights: &mut Array<E>,
    dscores: &mut Array<E>,
    documents_bt: &Array<i32>,
    reach_bt: &Array<i32>,
    seen: &Seen,
    scale: f32,
    #[comptime] rules: Rules,
) {
    let at = ABSOLUTE_POS;
    if at < weights.len() {
        let line = at / seen.keys;
        let key = at % seen.keys;
        let mut weight = 0.0f32;
        let mut dscore = 0.0f32;
        if sees(line, key, seen, documents_bt, reach_bt, rules) {
            weight = f32::exp(scores[at] * scale - lse[line]);
            dscore = weight * (dweights[at] - delta[line]) * scale;
        }
        weights[at] = E::cast_from(weight);
        dscores[at] = E::cast_from(dscore);
    }
}

/// Neighbouring queries, and how many of the first keys they look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    first: usize,
    queries: usize,
    keys: usize,
}

/// Blocks of all queries but the last block's, and the last.
fn blocks([b, heads, t]: [usize; 3], rules: Rules, cut: Cut) -> (Vec<Block>, Block) {
    let queries = cut.scores / (b * heads * t) / cut.queries * cut.queries;
    let queries = queries.max(cut.queries);
    let block = |first: usize| {
        let queries = queries.min(t - first);
        let keys = if rules.backwards_only() { first + queries } else { t };
        Block { first, queries, keys }
    };
    let last = (t - 1) / queries * queries;
    ((0..last).step_by(queries).map(block).collect(), block(last))
}

impl<R: CubeRuntime> Mask<R> {
    fn seen(&self, block: Block) -> SeenLaunch<R> {
        SeenLaunch::new(block.first, block.queries, block.keys, self.tokens, self.heads)
    }

    /// Weights of a block, of the type of factors, and the logarithms of their sums.
    fn weights(
        &self,
        scores: CubeTensor<R>,
        block: Block,
        precision: Precision,
    ) -> [CubeTensor<R>; 2] {
        let [b, heads, queries, keys] = lengths(&scores);
        let weights = room_of(&scores, [b, heads, queries, keys], precision.dtype());
        let lse = room(&scores, [b, heads, queries]);
        let launch = launch_in!(weights_kernel, R, precision);
        launch(
            &scores.client.clone(),
            cubes(b * heads * queries),
            cube(),
            scores.into_array_arg(),
            weights.clone().into_array_arg(),
            lse.clone().into_array_arg(),
            self.documents_bt.clone().into_array_arg(),
            self.reach_bt.clone().into_array_arg(),
            self.seen(block),
            self.scale,
            f32::MIN,
            self.rules,
        );
        [weights, lse]
    }

    /// Weights of a block and gradients for its scores, of the type of factors; `lines` are
    /// logarithms and deltas.
    fn weights_backward(
        &self,
        scores: CubeTensor<R>,
        dweights: CubeTensor<R>,
        [lse, delta]: [CubeTensor<R>; 2],
        block: Block,
        precision: Precision,
    ) -> [CubeTensor<R>; 2] {
        let shape: [usize; 4] = lengths(&scores);
        let made = || room_of(&scores, shape, precision.dtype());
        let (weights, dscores) = (made(), made());
        let launch = launch_in!(weights_backward_kernel, R, precision);
        launch(
            &scores.client.clone(),
            units(shape.iter().product()),
            cube(),
            scores.into_array_arg(),
            dweights.into_array_arg(),
            lse.into_array_arg(),
            delta.into_array_arg(),
            weights.clone().into_array_arg(),
            dscores.clone().into_array_arg(),
            self.documents_bt.clone().into_array_arg(),
            self.reach_bt.clone().into_array_arg(),
            self.seen(block),
            self.scale,
            self.rules,
        );
        [weights, dscores]
    }
}

/// `[b, t, parts·d]` as factors `[b, h, t, s]`, one for each part.
fn split<R: CubeRuntime, I: IntElement, BT: BoolElement, const PARTS: usize>(
    x_bte: T<R, I, BT, 3>,
    heads: usize,
    precision: Precision,
) -> [T<R, I, BT, 4>; PARTS] {
    let [b, t, e] = x_bte.dims();
    let size = e / PARTS / heads;
    let parts = x_bte.reshape([b, t, PARTS, heads, size]).permute([2, 0, 3, 1, 4]);
    let parts: T<R, I, BT, 5> = burn(precision.round(dense(parts)));
    std::array::from_fn(|k| parts.clone().narrow(0, k, 1).reshape([b, heads, t, size]))
}

/// The product of factors, its numbers one after the other.
fn product<R: CubeRuntime, I: IntElement, BT: BoolElement>(
    precision: Precision,
    a: T<R, I, BT, 4>,
    b: T<R, I, BT, 4>,
) -> CubeTensor<R> {
    let [a, b] = [a, b].map(|factor| factor.into_primitive().tensor());
    precision.product(a, b, Precision::F32)
}

/// Blocks of neighbouring tokens as one tensor.
fn join<R: CubeRuntime, I: IntElement, BT: BoolElement, const D: usize>(
    mut blocks: Vec<T<R, I, BT, D>>,
) -> T<R, I, BT, D> {
    if blocks.len() == 1 { blocks.remove(0) } else { Tensor::cat(blocks, 2) }
}

/// The output `[b, t, d]` and the logarithms `[b, h, t]`.
pub(super) fn forward<R: CubeRuntime, I: IntElement, BT: BoolElement>(
    qkv_bte: T<R, I, BT, 3>,
    mask: &Mask<R>,
    precision: Precision,
) -> (T<R, I, BT, 3>, T<R, I, BT, 3>) {
    forward_cut(qkv_bte, mask, precision, CUT)
}

fn forward_cut<R: CubeRuntime, I: IntElement, BT: BoolElement>(
    qkv_bte: T<R, I, BT, 3>,
    mask: &Mask<R>,
    precision: Precision,
    cut: Cut,
) -> (T<R, I, BT, 3>, T<R, I, BT, 3>) {
    let ([b, t, e], heads) = (qkv_bte.dims(), mask.heads);
    let [q_bhts, k_bhts, v_bhts] = split(qkv_bte, heads, precision);
    let (mut outs, mut lses) = (Vec::new(), Vec::new());
    let (before, last) = blocks([b, heads, t], mask.rules, cut);
    for block in before.into_iter().chain([last]) {
        let keys_bhsu = k_bhts.clone().narrow(2, 0, block.keys).transpose();
        let queries = q_bhts.clone().narrow(2, block.first, block.queries);
        let scores = product(precision, queries, keys_bhsu);
        let [weights, lse] = mask.weights(scores, block, precision);
        let values_bhus = v_bhts.clone().narrow(2, 0, block.keys);
        outs.push(burn(product::<R, I, BT>(precision, burn(weights), values_bhus)));
        lses.push(burn(lse));
    }
    let out_bhts: T<R, I, BT, 4> = join(outs);
    (out_bhts.swap_dims(1, 2).reshape([b, t, e / 3]), join(lses))
}

/// The gradient `[b, t, 3·d]`; `lines` are logarithms and deltas.
pub(super) fn backward<R: CubeRuntime, I: IntElement, BT: BoolElement>(
    qkv_bte: T<R, I, BT, 3>,
    lines: [T<R, I, BT, 3>; 2],
    dout_btd: T<R, I, BT, 3>,
    mask: &Mask<R>,
    precision: Precision,
) -> T<R, I, BT, 3> {
    backward_cut(qkv_bte, lines, dout_btd, mask, precision, CUT)
}

fn backward_cut<R: CubeRuntime, I: IntElement, BT: BoolElement>(
    qkv_bte: T<R, I, BT, 3>,
    [lse_bht, delta_bht]: [T<R, I, BT, 3>; 2],
    dout_btd: T<R, I, BT, 3>,
    mask: &Mask<R>,
    precision: Precision,
    cut: Cut,
) -> T<R, I, BT, 3> {
    let ([b, t, e], heads) = (qkv_bte.dims(), mask.heads);
    let [q_bhts, k_bhts, v_bhts] = split(qkv_bte, heads, precision);
    let [dout_bhts] = split(dout_btd, heads, precision);
    // Of a block the gradients for its queries, and its part of those for the keys and values that
    // it looks at.
    let gradients = |block: Block| -> [T<R, I, BT, 4>; 3] {
        let own = |x_bhts: &T<R, I, BT, 4>| x_bhts.clone().narrow(2, block.first, block.queries);
        let keys = |x_bhts: &T<R, I, BT, 4>| x_bhts.clone().narrow(2, 0, block.keys);
        let line =
            |x_bht: &T<R, I, BT, 3>| dense(x_bht.clone().narrow(2, block.first, block.queries));
        let scores = product(precision, own(&q_bhts), keys(&k_bhts).transpose());
        let dweights = product(precision, own(&dout_bhts), keys(&v_bhts).transpose());
        let lines = [line(&lse_bht), line(&delta_bht)];
        let [weights, dscores]: [T<R, I, BT, 4>; 2] =
            mask.weights_backward(scores, dweights, lines, block, precision).map(burn);
        [
            product(precision, dscores.clone(), keys(&k_bhts)),
            product(precision, dscores.transpose(), own(&q_bhts)),
            product(precision, weights.transpose(), own(&dout_bhts)),
        ]
        .map(burn)
    };
    // The last block looks at all keys; those before it add to the first of them.
    let (before, last) = blocks([b, heads, t], mask.rules, cut);
    let [dq, mut dk_bhts, mut dv_bhts] = gradients(last);
    let mut dqs = vec![dq];
    for block in before.into_iter().rev() {
        let [dq, dk_bhus, dv_bhus] = gradients(block);
        dqs.push(dq);
        dk_bhts = onto_first(dk_bhts, dk_bhus);
        dv_bhts = onto_first(dv_bhts, dv_bhus);
    }
    dqs.reverse();
    let parts = [join(dqs), dk_bhts, dv_bhts].map(|x| x.unsqueeze::<5>());
    let dqkv_pbhts: T<R, I, BT, 5> = Tensor::cat(parts.into(), 0);
    dqkv_pbhts.permute([1, 3, 0, 2, 4]).reshape([b, t, e])
}

/// `all` with `first` added to its first tokens.
fn onto_first<R: CubeRuntime, I: IntElement, BT: BoolElement>(
    all: T<R, I, BT, 4>,
    first: T<R, I, BT, 4>,
) -> T<R, I, BT, 4> {
    let (t, u) = (all.dims()[2], first.dims()[2]);
    let sum = all.clone().narrow(2, 0, u) + first;
    if u == t { sum } else { Tensor::cat(vec![sum, all.narrow(2, u, t - u)], 2) }
}

#[cfg(test)]
mod tests {
    use astropt_core::kernels::{Attended, Kernels as _};
    use astropt_core::testkit::kernels::{AttentionCase, close};
    use burn_cuda::CudaDevice;

    use super::super::delta;
    use super::*;
    use crate::CudaPlatform;
    use crate::kernels::ExactReference;
    use crate::kernels::tuning::testing::gpu;

    const CAUSAL: Rules = Rules { causal: true, documents: false, reach: false };

    #[test]
    fn blocks_hold_all_queries_and_what_they_see() {
        for (shape, rules) in [
            ([8, 12, 1024], CAUSAL),
            ([1, 1, 7], CAUSAL),
            ([1, 1, 64], CAUSAL),
            ([2, 4, 70_000], Rules { reach: true, ..CAUSAL }),
            ([64, 8, 4096], Rules { causal: false, ..CAUSAL }),
        ] {
            let [b, heads, t] = shape;
            let (before, last) = blocks(shape, rules, CUT);
            let mut first = 0;
            for block in before.into_iter().chain([last]) {
                assert_eq!(block.first, first);
                first += block.queries;
                assert!(block.keys == if rules == CAUSAL { first } else { t });
                let scores = b * heads * block.queries * block.keys;
                assert!(scores <= CUT.scores || block.queries <= CUT.queries, "{block:?}");
            }
            assert_eq!((first, last.keys), (t, t));
        }
    }

    /// Blocks of 16 queries, the last of 8, against one of all: the same numbers, but for the order
    /// in which blocks add to the gradients of keys and values.
    fn several_are_as_one(case: &AttentionCase, precision: Precision, device: &CudaDevice) {
        let agree = |check: Result<(), String>| {
            check.unwrap_or_else(|wrong| panic!("{case:?} {precision:?}: {wrong}"));
        };
        let ((qkv, dout), heads) = (case.inputs::<CudaPlatform>(device), case.heads);
        let seen = case.mask::<CudaPlatform>(device);
        let of = qkv.clone().into_primitive().tensor();
        let mask = Mask::new(&seen, &of, [heads, case.t, case.size]);
        let small = Cut { scores: 0, queries: 16 };
        assert_eq!(blocks([case.b, heads, case.t], mask.rules, small).0.len(), 2);
        let (out, lse) = forward_cut(qkv.clone(), &mask, precision, CUT);
        let (cut_out, cut_lse) = forward_cut(qkv.clone(), &mask, precision, small);
        agree(close("output", &cut_out, &out));
        agree(close("logarithms", &cut_lse, &lse));
        let delta = burn(delta(dense(dout.clone()), dense(out.clone()), heads));
        let backward = |cut: Cut| {
            let lines = [lse.clone(), delta.clone()];
            backward_cut(qkv.clone(), lines, dout.clone(), &mask, precision, cut)
        };
        let gradient = backward(small);
        agree(close("gradient", &gradient, &backward(CUT)));
        if precision == Precision::F32 {
            let truth = ExactReference::attention(qkv.clone(), heads, &seen);
            agree(close("output", &cut_out, &truth.out_btd));
            let attended = Attended { out_btd: out, lse_bht: lse };
            let truth = ExactReference::attention_backward(qkv, attended, dout, heads, &seen);
            agree(close("gradient", &gradient, &truth));
        }
    }

    /// Rows that CubeCL pads, of several heads, and of more than one batch row.
    #[test]
    fn several_blocks_are_as_one() {
        let Some(device) = gpu() else { return };
        let (b, t, heads, size, scale, seed) = (2, 40, 2, 20, 2.0, 7);
        for (causal, document, prefix) in [(true, 0, 0), (true, 23, 0), (true, 23, 9)] {
            let case = AttentionCase { b, t, heads, size, causal, document, prefix, scale, seed };
            several_are_as_one(&case, Precision::F32, &device);
            several_are_as_one(&case, Precision::Bf16, &device);
        }
    }
}
