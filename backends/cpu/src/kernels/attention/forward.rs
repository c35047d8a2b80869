//! One head forward, with a running maximum and sum per query (Milakov & Gimelshein 2018,
//! arXiv:1805.02867).

use super::tiles::{Mask, Tile};
use super::{HIDDEN, HeadRows, Shared, Sizes, carve, scratch_space};
use crate::kernels::product::Product;
use crate::kernels::simd::{Simd, Task};

/// Queries per block and keys per tile: the scores of a tile fill half the first cache.
const BLOCK: usize = 64;

/// One head of one row.
pub(super) struct Head<'a> {
    pub(super) sizes: Sizes,
    pub(super) qkv: &'a [f32],
    pub(super) row: usize,
    pub(super) head: usize,
    pub(super) mask: Mask<'a>,
    pub(super) scratch: &'a mut Vec<f32>,
    /// `[b, t, d]`, of which this head's columns of this row are written.
    pub(super) out: Shared,
    /// `[t]`
    pub(super) lse: &'a mut [f32],
}

/// What is known of one block of queries so far.
struct State<'a> {
    /// `[s, BLOCK]` scaled queries.
    queries: &'a mut [f32],
    /// `[BLOCK, BLOCK]` scores, then weights; a row per key.
    scores: &'a mut [f32],
    /// `[s, BLOCK]` weighted values.
    values: &'a mut [f32],
    /// `[BLOCK]` largest score.
    max: &'a mut [f32],
    /// `[BLOCK]` sum of weights relative to it.
    sum: &'a mut [f32],
}

impl Task for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Sizes { t, d, size } = self.sizes;
        let part = |part| HeadRows {
            data: &self.qkv[self.sizes.offset(self.row, self.head, 3, part)..],
            stride: 3 * d,
            size,
        };
        let count = 2 * t * size + (2 * size + BLOCK + 2) * BLOCK;
        let mut rest = scratch_space(self.scratch, count);
        let keys = carve(&mut rest, t * size);
        let values = carve(&mut rest, t * size);
        part(1).gather(0, t, size, 1.0, keys);
        part(2).gather(0, t, size, 1.0, values);
        let mut state = State {
            queries: carve(&mut rest, size * BLOCK),
            scores: carve(&mut rest, BLOCK * BLOCK),
            values: carve(&mut rest, size * BLOCK),
            max: carve(&mut rest, BLOCK),
            sum: carve(&mut rest, BLOCK),
        };
        let out_at = self.sizes.offset(self.row, self.head, 1, 0);
        for query in (0..t).step_by(BLOCK) {
            let end = t.min(query + BLOCK);
            state.start(part(0), query, end, self.sizes.query_scale());
            for tile in self.mask.tiles(query, BLOCK) {
                state.scores::<S>(simd, tile, &keys[tile.key * size..], size);
                if tile.masked {
                    self.mask.hide(tile, query, BLOCK, state.scores, HIDDEN);
                }
                state.weights::<S>(simd, tile, size);
                if tile.masked {
                    self.mask.hide(tile, query, BLOCK, state.scores, 0.0);
                }
                state.gather::<S>(simd, tile, &values[tile.key * size..], size);
            }
            for (lane, i) in (query..end).enumerate() {
                // SAFETY: no other task has this head of this row.
                let out = unsafe { self.out.at(out_at + i * d, size) };
                let scale = 1.0 / state.sum[lane];
                for (k, out) in out.iter_mut().enumerate() {
                    *out = state.values[k * BLOCK + lane] * scale;
                }
                let log2 = state.max[lane] + state.sum[lane].log2();
                self.lse[i] = log2 * std::f32::consts::LN_2;
            }
        }
    }
}

impl State<'_> {
    /// Forgets the block before and takes the queries `from..to`.
    #[inline(always)]
    fn start(&mut self, rows: HeadRows<'_>, from: usize, to: usize, scale: f32) {
        self.queries.fill(0.0);
        for (lane, i) in (from..to).enumerate() {
            for (k, x) in rows.token(i).iter().enumerate() {
                self.queries[k * BLOCK + lane] = x * scale;
            }
        }
        self.values.fill(0.0);
        self.max.fill(HIDDEN);
        self.sum.fill(0.0);
    }

    /// Scores of a tile whose keys begin at `keys`.
    #[inline(always)]
    fn scores<S: Simd>(&mut self, simd: S, tile: Tile, keys: &[f32], size: usize) {
        assert!(tile.keys * size <= keys.len() && size * BLOCK == self.queries.len());
        // SAFETY: keys are `[keys, s]`, queries `[s, BLOCK]` and scores `[BLOCK, BLOCK]`.
        unsafe {
            simd.product(&Product {
                rows: tile.keys,
                columns: BLOCK - tile.lane,
                depth: size,
                a: keys.as_ptr(),
                a_row: size,
                a_column: 1,
                b: self.queries.as_ptr().add(tile.lane),
                b_row: BLOCK,
                c: self.scores.as_mut_ptr().add(tile.lane),
                c_row: BLOCK,
                add: false,
            });
        }
    }

    /// Turns scores into weights relative to the new maximum, which the sums and the
    /// values so far are brought down to.
    #[inline(always)]
    fn weights<S: Simd>(&mut self, simd: S, tile: Tile, size: usize) {
        assert!(self.scores.len() >= tile.keys * BLOCK && self.values.len() == size * BLOCK);
        // SAFETY: all addresses are of whole vectors within a row of `BLOCK` lanes of
        // scores, values, maxima or sums.
        unsafe {
            for lane in (tile.lane..BLOCK).step_by(S::LANES) {
                let scores = self.scores.as_mut_ptr().add(lane);
                let (max_at, sum_at) =
                    (self.max.as_mut_ptr().add(lane), self.sum.as_mut_ptr().add(lane));
                let old = simd.load(max_at);
                let mut max = old;
                for key in 0..tile.keys {
                    max = simd.max(max, simd.load(scores.add(key * BLOCK)));
                }
                // Where all is hidden so far, weights vanish as they should.
                let base = simd.max(max, simd.splat(HIDDEN / 2.0));
                let fade = simd.exp2(simd.sub(old, max));
                let mut sum = simd.mul(simd.load(sum_at), fade);
                for key in 0..tile.keys {
                    let at = scores.add(key * BLOCK);
                    let weight = simd.exp2(simd.sub(simd.load(at), base));
                    simd.store(at, weight);
                    sum = simd.add(sum, weight);
                }
                simd.store(max_at, max);
                simd.store(sum_at, sum);
                let values = self.values.as_mut_ptr().add(lane);
                for k in 0..size {
                    let at = values.add(k * BLOCK);
                    simd.store(at, simd.mul(simd.load(at), fade));
                }
            }
        }
    }

    /// Adds the weighted values of a tile whose values begin at `values`.
    #[inline(always)]
    fn gather<S: Simd>(&mut self, simd: S, tile: Tile, values: &[f32], size: usize) {
        assert!(tile.keys * size <= values.len() && size * BLOCK == self.values.len());
        // SAFETY: values are `[keys, s]`, weights `[BLOCK, BLOCK]`, the sums `[s, BLOCK]`.
        unsafe {
            simd.product(&Product {
                rows: size,
                columns: BLOCK - tile.lane,
                depth: tile.keys,
                a: values.as_ptr(),
                a_row: 1,
                a_column: size,
                b: self.scores.as_ptr().add(tile.lane),
                b_row: BLOCK,
                c: self.values.as_mut_ptr().add(tile.lane),
                c_row: BLOCK,
                add: true,
            });
        }
    }
}
