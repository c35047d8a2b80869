//! Attention whose memory grows with the number of tokens and not with its square.
//!
//! In bf16 it is one kernel where the GPU's tensor cores take bf16 and heads are of a size that
//! fits ([`fused`]); else, and in `f32`, blocks of queries ([`blocks`]).

mod blocks;
mod fused;
mod mask;

use std::sync::Once;

use astropt_core::kernels::AttentionMask;
use astropt_core::progress;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, IntElement};
use burn_tensor::Tensor;

use super::product::{Precision, launch_in};
use super::tensors::{burn, cube, dense, lengths, room, units};
use mask::Mask;

type T<R, I, BT, const D: usize> = Tensor<CubeBackend<R, f32, I, BT>, D>;

/// See [`Kernels::attention`](astropt_core::kernels::Kernels::attention): the output `[b, t, d]`
/// and the logarithms `[b, h, t]`.
pub(super) fn forward<R: CubeRuntime, I: IntElement, BT: BoolElement>(
    qkv_bte: T<R, I, BT, 3>,
    heads: usize,
    mask: &AttentionMask<CubeBackend<R, f32, I, BT>>,
    precision: Precision,
) -> (T<R, I, BT, 3>, T<R, I, BT, 3>) {
    let [_, t, e] = qkv_bte.dims();
    let of = qkv_bte.clone().into_primitive().tensor();
    let mask = Mask::new(mask, &of, [heads, t, e / 3 / heads]);
    if precision == Precision::Bf16 && fits(&of, &mask) {
        let [out_btd, lse_bht] = fused::forward(fused::rounded(dense(qkv_bte)), &mask);
        return (burn(out_btd), burn(lse_bht));
    }
    blocks::forward(qkv_bte, &mask, precision)
}

/// See [`Kernels::attention_backward`](astropt_core::kernels::Kernels::attention_backward):
/// `attended` are the output and the logarithms.
pub(super) fn backward<R: CubeRuntime, I: IntElement, BT: BoolElement>(
    qkv_bte: T<R, I, BT, 3>,
    [out_btd, lse_bht]: [T<R, I, BT, 3>; 2],
    dout_btd: T<R, I, BT, 3>,
    heads: usize,
    mask: &AttentionMask<CubeBackend<R, f32, I, BT>>,
    precision: Precision,
) -> T<R, I, BT, 3> {
    let [_, t, e] = qkv_bte.dims();
    let lse = dense(lse_bht);
    let mask = Mask::new(mask, &lse, [heads, t, e / 3 / heads]);
    if precision == Precision::Bf16 && fits(&lse, &mask) {
        let [qkv, out, dout] = [qkv_bte, out_btd, dout_btd].map(|x| fused::rounded(dense(x)));
        let delta = delta(dout.clone(), out, heads);
        return burn(fused::backward(qkv, dout, [lse, delta], &mask));
    }
    let [out, dout] =
        [out_btd, dout_btd].map(|x| Precision::F32.rounded(x.into_primitive().tensor()));
    let delta_bht = delta(dout.clone(), out, heads);
    blocks::backward(qkv_bte, [burn(lse), burn(delta_bht)], burn(dout), &mask, precision)
}

/// Whether it is one kernel in bf16. Where it is not, which costs time, the user hears why, once.
fn fits<R: CubeRuntime>(of: &CubeTensor<R>, mask: &Mask<R>) -> bool {
    static ONCE: Once = Once::new();
    let obstacle = fused::obstacle(&of.client, mask.size);
    if let Some(obstacle) = &obstacle {
        ONCE.call_once(|| progress::warn(obstacle));
    }
    obstacle.is_none()
}

/// Unit by line: Σ dout·out over the numbers of a head.
#[cube(launch)]
fn delta_kernel<E: Float>(
    dout_btd: &Array<E>,
    out_btd: &Array<E>,
    delta_bht: &mut Array<f32>,
    tokens: usize,
    heads: usize,
    size: usize,
) {
    let line = ABSOLUTE_POS;
    if line < delta_bht.len() {
        let token = line % tokens;
        let head = line / tokens % heads;
        let row = line / tokens / heads;
        let first = ((row * tokens + token) * heads + head) * size;
        let mut sum = 0.0f32;
        for k in first..first + size {
            sum += f32::cast_from(dout_btd[k]) * f32::cast_from(out_btd[k]);
        }
        delta_bht[line] = sum;
    }
}

/// Σ dout·out over each head, `[b, h, t]`, of two tensors of one type.
fn delta<R: CubeRuntime>(
    dout_btd: CubeTensor<R>,
    out_btd: CubeTensor<R>,
    heads: usize,
) -> CubeTensor<R> {
    let [b, t, d] = lengths(&out_btd);
    let delta_bht = room(&out_btd, [b, heads, t]);
    let launch = launch_in!(delta_kernel, R, Precision::of(dout_btd.dtype));
    launch(
        &out_btd.client.clone(),
        units(b * heads * t),
        cube(),
        dout_btd.into_array_arg(),
        out_btd.into_array_arg(),
        delta_bht.clone().into_array_arg(),
        t,
        heads,
        d / heads,
    );
    delta_bht
}
