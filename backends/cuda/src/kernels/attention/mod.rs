//! Attention whose memory grows with the number of tokens and not with its square.
//!
//! In bf16 it is one kernel where the GPU's tensor cores take bf16 and heads are of a size that
//! fits ([`fused`]); else, and in `f32`, blocks of queries ([`blocks`]).

mod blocks;
mod fused;
mod mask;

use astropt_core::kernels::AttentionMask;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, IntElement};
use burn_tensor::Tensor;

use super::product::Precision;
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
    if precision == Precision::Bf16 && fused::takes(&of, &mask) {
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
    let dout = dense(dout_btd.clone());
    let mask = Mask::new(mask, &dout, [heads, t, e / 3 / heads]);
    let delta_bht = delta(dout, dense(out_btd), heads);
    if precision == Precision::Bf16 && fused::takes(&delta_bht, &mask) {
        let [qkv_bte, dout_btd] = [qkv_bte, dout_btd].map(|x| fused::rounded(dense(x)));
        return burn(fused::backward(qkv_bte, dout_btd, [dense(lse_bht), delta_bht], &mask));
    }
    blocks::backward(qkv_bte, [lse_bht, burn(delta_bht)], dout_btd, &mask, precision)
}

/// Unit by line: Σ dout·out over the numbers of a head.
#[cube(launch)]
fn delta_kernel(
    dout_btd: &Array<f32>,
    out_btd: &Array<f32>,
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
            sum += dout_btd[k] * out_btd[k];
        }
        delta_bht[line] = sum;
    }
}

/// Σ dout·out over each head, `[b, h, t]`.
fn delta<R: CubeRuntime>(
    dout_btd: CubeTensor<R>,
    out_btd: CubeTensor<R>,
    heads: usize,
) -> CubeTensor<R> {
    let [b, t, d] = lengths(&out_btd);
    let delta_bht = room(&out_btd, [b, heads, t]);
    delta_kernel::launch::<R>(
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
