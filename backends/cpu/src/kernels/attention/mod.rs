//! Attention in tiles of queries and keys: the T x T scores never exist (Dao et al. 2022,
//! arXiv:2205.14135), and tiles that the mask hides are never visited.
//!
//! A tile is held transposed, a row per key and a lane per query, so that the maximum, the
//! sum and the normalisation of every query are lanes of a vector, and all but two of the
//! products run over full vectors whatever the size of a head is.
//!
//! Exponentials are powers of two: queries are scaled by log₂e/√s beforehand.

mod backward;
mod forward;
mod tiles;

use astropt_core::kernels::{Attended, AttentionMask};
use burn_flex::Flex;
use burn_tensor::Tensor;
use rayon::prelude::*;

use super::pool::Buffer;
use super::simd;
use super::tensors::{Dense, tensor};
use tiles::{HostMask, Mask};

/// Stands for minus infinity among scores; its half is still below any score.
const HIDDEN: f32 = -1e30;

/// The sizes of a call.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Tokens of a row.
    t: usize,
    /// Width of the model.
    d: usize,
    /// Numbers of a head, s.
    size: usize,
}

impl Sizes {
    /// Factor on queries: log₂e/√s.
    fn query_scale(&self) -> f32 {
        std::f32::consts::LOG2_E / (self.size as f32).sqrt()
    }

    /// Where the numbers of `head` in row `b` begin in an array with `parts` · d numbers
    /// per token, in part `part`.
    fn offset(&self, b: usize, head: usize, parts: usize, part: usize) -> usize {
        b * self.t * self.d * parts + part * self.d + head * self.size
    }
}

/// A strided view of one head of one row: its vector of token i begins at i · `stride`.
#[derive(Clone, Copy)]
struct HeadRows<'a> {
    data: &'a [f32],
    stride: usize,
    size: usize,
}

impl HeadRows<'_> {
    fn token(&self, i: usize) -> &[f32] {
        &self.data[i * self.stride..][..self.size]
    }

    /// Tokens `from..to` side by side in `out`, `width` numbers apart, times `scale`.
    fn gather(&self, from: usize, to: usize, width: usize, scale: f32, out: &mut [f32]) {
        for (token, out) in (from..to).zip(out.chunks_exact_mut(width)) {
            for (x, out) in self.token(token).iter().zip(out) {
                *out = x * scale;
            }
        }
    }
}

/// An array whose heads are written by different threads.
#[derive(Clone, Copy)]
struct Shared(*mut f32, usize);

// SAFETY: only `Shared::at` gives access, and its callers keep to their own head.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(buffer: &mut [f32]) -> Self {
        Self(buffer.as_mut_ptr(), buffer.len())
    }

    /// `size` numbers from `at` on.
    ///
    /// # Safety
    /// The array is still there and nobody else reads or writes these numbers.
    unsafe fn at<'a>(self, at: usize, size: usize) -> &'a mut [f32] {
        assert!(at + size <= self.1);
        // SAFETY: within the array, and as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), size) }
    }
}

fn sizes(qkv_bte: &Tensor<Flex, 3>, heads: usize) -> (usize, Sizes) {
    let [b, t, e] = qkv_bte.dims();
    (b, Sizes { t, d: e / 3, size: e / 3 / heads })
}

/// See [`Kernels::attention`](astropt_core::kernels::Kernels::attention).
pub(super) fn forward(
    qkv_bte: Tensor<Flex, 3>,
    heads: usize,
    mask: &AttentionMask<Flex>,
) -> Attended<Flex> {
    let (b, sizes) = sizes(&qkv_bte, heads);
    let qkv = Dense::new(qkv_bte);
    let mask = HostMask::new(mask);
    let mut out = Buffer::new(b * sizes.t * sizes.d);
    let mut lse = Buffer::new(b * heads * sizes.t);
    let shared = Shared::new(&mut out);
    let tasks = lse.par_chunks_mut(sizes.t.max(1)).enumerate();
    tasks.for_each_init(Vec::new, |scratch, (task, lse)| {
        let (row, head) = (task / heads, task % heads);
        let mask = Mask::new(&mask, row, sizes.t);
        simd::run(forward::Head { sizes, qkv: &qkv, row, head, mask, scratch, out: shared, lse });
    });
    Attended {
        out_btd: tensor(out, [b, sizes.t, sizes.d]),
        lse_bht: tensor(lse, [b, heads, sizes.t]),
    }
}

/// See [`Kernels::attention_backward`](astropt_core::kernels::Kernels::attention_backward).
pub(super) fn backward(
    qkv_bte: Tensor<Flex, 3>,
    attended: Attended<Flex>,
    dout_btd: Tensor<Flex, 3>,
    heads: usize,
    mask: &AttentionMask<Flex>,
) -> Tensor<Flex, 3> {
    let (b, sizes) = sizes(&qkv_bte, heads);
    let (qkv, dout) = (Dense::new(qkv_bte), Dense::new(dout_btd));
    let (out, lse) = (Dense::new(attended.out_btd), Dense::new(attended.lse_bht));
    let mask = HostMask::new(mask);
    let mut dqkv = Buffer::new(b * sizes.t * 3 * sizes.d);
    let shared = Shared::new(&mut dqkv);
    let tasks = lse.par_chunks(sizes.t.max(1)).enumerate();
    tasks.for_each_init(Vec::new, |scratch, (task, lse)| {
        let (row, head) = (task / heads, task % heads);
        let mask = Mask::new(&mask, row, sizes.t);
        let head = backward::Head {
            sizes,
            qkv: &qkv,
            out: &out,
            dout: &dout,
            lse,
            row,
            head,
            mask,
            dqkv: shared,
        };
        simd::run(backward::Work { head, scratch });
    });
    tensor(dqkv, [b, sizes.t, 3 * sizes.d])
}

/// Splits `count` numbers off the front of `rest`.
fn carve<'a>(rest: &mut &'a mut [f32], count: usize) -> &'a mut [f32] {
    let (front, back) = std::mem::take(rest).split_at_mut(count);
    *rest = back;
    front
}

/// `scratch` with at least `count` numbers, from a multiple of 64 bytes on.
fn scratch_space(scratch: &mut Vec<f32>, count: usize) -> &mut [f32] {
    const LINE: usize = 16;
    if scratch.len() < count + LINE {
        scratch.resize(count + LINE, 0.0);
    }
    let skip = scratch.as_ptr().align_offset(64).min(LINE);
    &mut scratch[skip..skip + count]
}
