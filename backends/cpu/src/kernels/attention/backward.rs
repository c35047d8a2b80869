//! One head backward: the weights of every tile are computed again from the logarithms of
//! the sums that the forward pass kept.

use super::tiles::{Mask, Tile};
use super::{HIDDEN, HeadRows, Shared, Sizes, carve, scratch_space};
use crate::kernels::product::Product;
use crate::kernels::simd::{Simd, Task};

/// Queries per block and keys per tile.
const BLOCK: usize = 64;

/// One head of one row.
pub(super) struct Head<'a> {
    pub(super) sizes: Sizes,
    pub(super) qkv: &'a [f32],
    pub(super) out: &'a [f32],
    pub(super) dout: &'a [f32],
    /// `[t]`
    pub(super) lse: &'a [f32],
    pub(super) row: usize,
    pub(super) head: usize,
    pub(super) mask: Mask<'a>,
    /// `[b, t, 3 d]`, of which this head's columns of this row are written.
    pub(super) dqkv: Shared,
}

/// The work on a head, in the scratch space of its thread.
pub(super) struct Work<'a> {
    pub(super) head: Head<'a>,
    pub(super) scratch: &'a mut Vec<f32>,
}

/// What all blocks of queries share. `w` is s rounded up to whole vectors.
struct Keys<'a> {
    /// `[t, s]`
    keys: &'a mut [f32],
    /// `[t, s]`
    values: &'a mut [f32],
    /// `[t, w]` gradient of the keys, but for a factor.
    dkeys: &'a mut [f32],
    /// `[t, w]` gradient of the values.
    dvalues: &'a mut [f32],
}

/// One block of queries.
struct Queries<'a> {
    /// `[s, BLOCK]` scaled queries.
    across: &'a mut [f32],
    /// `[BLOCK, w]` the same.
    along: &'a mut [f32],
    /// `[s, BLOCK]` gradient of the output.
    dout_across: &'a mut [f32],
    /// `[BLOCK, w]` the same.
    dout_along: &'a mut [f32],
    /// `[s, BLOCK]` gradient of the queries, but for a factor.
    dqueries: &'a mut [f32],
    /// `[BLOCK]` logarithm to base 2 of the sum of weights.
    lse: &'a mut [f32],
    /// `[BLOCK]` Σ do·o.
    delta: &'a mut [f32],
}

/// One tile, a row per key.
struct Weights<'a> {
    /// `[BLOCK, BLOCK]` scores, then weights.
    weights: &'a mut [f32],
    /// `[BLOCK, BLOCK]` gradient of the weights, then of the scores.
    gradient: &'a mut [f32],
}

impl Task for Work<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { head, scratch } = self;
        let Sizes { t, size, .. } = head.sizes;
        let w = size.next_multiple_of(S::LANES);
        let count = 2 * t * (size + w) + (3 * size + 2 * w + 2 + 2 * BLOCK) * BLOCK;
        // The numbers beyond s in rows of w only ever reach other such numbers.
        let mut rest = scratch_space(scratch, count);
        let mut all = Keys {
            keys: carve(&mut rest, t * size),
            values: carve(&mut rest, t * size),
            dkeys: carve(&mut rest, t * w),
            dvalues: carve(&mut rest, t * w),
        };
        let mut block = Queries {
            across: carve(&mut rest, size * BLOCK),
            along: carve(&mut rest, BLOCK * w),
            dout_across: carve(&mut rest, size * BLOCK),
            dout_along: carve(&mut rest, BLOCK * w),
            dqueries: carve(&mut rest, size * BLOCK),
            lse: carve(&mut rest, BLOCK),
            delta: carve(&mut rest, BLOCK),
        };
        let mut tile_space = Weights {
            weights: carve(&mut rest, BLOCK * BLOCK),
            gradient: carve(&mut rest, BLOCK * BLOCK),
        };
        head.part(1).gather(0, t, size, 1.0, all.keys);
        head.part(2).gather(0, t, size, 1.0, all.values);
        all.dkeys.fill(0.0);
        all.dvalues.fill(0.0);
        for query in (0..t).step_by(BLOCK) {
            head.start(&mut block, query, w);
            for tile in head.mask.tiles(query, BLOCK) {
                tile_space.scores::<S>(simd, tile, &block, &all, size);
                if tile.masked {
                    head.mask.hide(tile, query, BLOCK, tile_space.weights, HIDDEN);
                }
                tile_space.softmax::<S>(simd, tile, &block);
                if tile.masked {
                    head.mask.hide(tile, query, BLOCK, tile_space.weights, 0.0);
                    head.mask.hide(tile, query, BLOCK, tile_space.gradient, 0.0);
                }
                tile_space.gradients::<S>(simd, tile, &mut block, &mut all, [size, w]);
            }
            head.finish_queries(&block, query);
        }
        head.finish_keys(&all, w);
    }
}

impl Head<'_> {
    /// Queries, keys or values of this head.
    fn part(&self, part: usize) -> HeadRows<'_> {
        let data = &self.qkv[self.sizes.offset(self.row, self.head, 3, part)..];
        HeadRows { data, stride: 3 * self.sizes.d, size: self.sizes.size }
    }

    /// Takes the block of queries from `query` on. Lanes beyond the last query are zero, so
    /// they add nothing anywhere.
    #[inline(always)]
    fn start(&self, block: &mut Queries<'_>, query: usize, w: usize) {
        let Sizes { t, d, size } = self.sizes;
        let end = t.min(query + BLOCK);
        let at = self.sizes.offset(self.row, self.head, 1, 0);
        let queries = self.part(0);
        let out = HeadRows { data: &self.out[at..], stride: d, size };
        let dout = HeadRows { data: &self.dout[at..], stride: d, size };
        for lanes in [
            &mut *block.across,
            &mut *block.along,
            &mut *block.dout_across,
            &mut *block.dout_along,
            &mut *block.dqueries,
            &mut *block.lse,
            &mut *block.delta,
        ] {
            lanes.fill(0.0);
        }
        queries.gather(query, end, w, self.sizes.query_scale(), block.along);
        dout.gather(query, end, w, 1.0, block.dout_along);
        for (lane, i) in (query..end).enumerate() {
            for k in 0..size {
                block.across[k * BLOCK + lane] = block.along[lane * w + k];
                block.dout_across[k * BLOCK + lane] = block.dout_along[lane * w + k];
            }
            block.lse[lane] = self.lse[i] * std::f32::consts::LOG2_E;
            block.delta[lane] = out.token(i).iter().zip(dout.token(i)).map(|(o, g)| o * g).sum();
        }
    }

    #[inline(always)]
    fn finish_queries(&self, block: &Queries<'_>, query: usize) {
        let Sizes { t, d, size } = self.sizes;
        let at = self.sizes.offset(self.row, self.head, 3, 0);
        let scale = 1.0 / (size as f32).sqrt();
        for (lane, i) in (query..t.min(query + BLOCK)).enumerate() {
            // SAFETY: no other task has this head of this row.
            let out = unsafe { self.dqkv.at(at + i * 3 * d, size) };
            for (k, out) in out.iter_mut().enumerate() {
                *out = block.dqueries[k * BLOCK + lane] * scale;
            }
        }
    }

    #[inline(always)]
    fn finish_keys(&self, all: &Keys<'_>, w: usize) {
        let Sizes { t, d, size } = self.sizes;
        // Queries were scaled by log₂e/√s, of which 1/√s is wanted.
        for (part, from, scale) in
            [(1, &*all.dkeys, std::f32::consts::LN_2), (2, &*all.dvalues, 1.0)]
        {
            let at = self.sizes.offset(self.row, self.head, 3, part);
            for (i, from) in (0..t).zip(from.chunks_exact(w)) {
                // SAFETY: no other task has this head of this row.
                let out = unsafe { self.dqkv.at(at + i * 3 * d, size) };
                for (out, from) in out.iter_mut().zip(from) {
                    *out = from * scale;
                }
            }
        }
    }
}

impl Weights<'_> {
    /// Scores k·q, and the gradient of the weights, v·do.
    #[inline(always)]
    fn scores<S: Simd>(
        &mut self,
        simd: S,
        tile: Tile,
        block: &Queries<'_>,
        all: &Keys<'_>,
        size: usize,
    ) {
        for (a, b, c) in [
            (&*all.keys, &*block.across, &mut *self.weights),
            (&*all.values, &*block.dout_across, &mut *self.gradient),
        ] {
            let a = &a[tile.key * size..][..tile.keys * size];
            assert!(b.len() == size * BLOCK && c.len() >= tile.keys * BLOCK);
            // SAFETY: `a` is `[keys, s]`, `b` `[s, BLOCK]` and `c` `[BLOCK, BLOCK]`.
            unsafe {
                simd.product(&Product {
                    rows: tile.keys,
                    columns: BLOCK - tile.lane,
                    depth: size,
                    a: a.as_ptr(),
                    a_row: size,
                    a_column: 1,
                    b: b.as_ptr().add(tile.lane),
                    b_row: BLOCK,
                    c: c.as_mut_ptr().add(tile.lane),
                    c_row: BLOCK,
                    add: false,
                });
            }
        }
    }

    /// Weights p = 2^(score - lse) and gradients of scores p·(gradient - delta).
    #[inline(always)]
    fn softmax<S: Simd>(&mut self, simd: S, tile: Tile, block: &Queries<'_>) {
        assert!(
            self.weights.len() >= tile.keys * BLOCK && self.gradient.len() >= tile.keys * BLOCK
        );
        // SAFETY: all addresses are of whole vectors within a row of `BLOCK` lanes.
        unsafe {
            for lane in (tile.lane..BLOCK).step_by(S::LANES) {
                let lse = simd.load(block.lse.as_ptr().add(lane));
                let delta = simd.load(block.delta.as_ptr().add(lane));
                let (weights, gradient) =
                    (self.weights.as_mut_ptr().add(lane), self.gradient.as_mut_ptr().add(lane));
                for key in 0..tile.keys {
                    let (p_at, g_at) = (weights.add(key * BLOCK), gradient.add(key * BLOCK));
                    let p = simd.exp2(simd.sub(simd.load(p_at), lse));
                    let g = simd.sub(simd.load(g_at), delta);
                    simd.store(p_at, p);
                    simd.store(g_at, simd.mul(p, g));
                }
            }
        }
    }

    /// Adds the tile's part of all three gradients.
    #[inline(always)]
    fn gradients<S: Simd>(
        &mut self,
        simd: S,
        tile: Tile,
        block: &mut Queries<'_>,
        all: &mut Keys<'_>,
        [size, w]: [usize; 2],
    ) {
        for (a, b, c) in [
            (&*self.weights, &*block.dout_along, &mut *all.dvalues),
            (&*self.gradient, &*block.along, &mut *all.dkeys),
        ] {
            let c = &mut c[tile.key * w..][..tile.keys * w];
            assert!(a.len() >= tile.keys * BLOCK && b.len() == BLOCK * w);
            // SAFETY: `a` is `[BLOCK, BLOCK]`, `b` `[BLOCK, w]` and `c` `[keys, w]`.
            unsafe {
                simd.product(&Product {
                    rows: tile.keys,
                    columns: w,
                    depth: BLOCK - tile.lane,
                    a: a.as_ptr().add(tile.lane),
                    a_row: BLOCK,
                    a_column: 1,
                    b: b.as_ptr().add(tile.lane * w),
                    b_row: w,
                    c: c.as_mut_ptr(),
                    c_row: w,
                    add: true,
                });
            }
        }
        let keys = &all.keys[tile.key * size..][..tile.keys * size];
        assert!(block.dqueries.len() == size * BLOCK);
        // SAFETY: keys are `[keys, s]`, the gradient `[BLOCK, BLOCK]`, the sums `[s, BLOCK]`.
        unsafe {
            simd.product(&Product {
                rows: size,
                columns: BLOCK - tile.lane,
                depth: tile.keys,
                a: keys.as_ptr(),
                a_row: 1,
                a_column: size,
                b: self.gradient.as_ptr().add(tile.lane),
                b_row: BLOCK,
                c: block.dqueries.as_mut_ptr().add(tile.lane),
                c_row: BLOCK,
                add: true,
            });
        }
    }
}
