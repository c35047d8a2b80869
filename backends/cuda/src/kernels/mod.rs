//! The kernels, written in CubeCL for any of its runtimes: this crate runs them on CUDA, and its
//! tests on Vulkan too, where a processor can stand in for a GPU.
//!
//! In `f32` every sum and product is taken in the same order every time; see [`product`] for what
//! that costs.

mod attention;
mod cross_entropy;
pub(crate) mod driver;
mod elementwise;
mod nccl;
mod norm;
mod product;
mod selection;
mod sums;
mod tensors;
#[cfg(test)]
mod tests;
pub(crate) mod tuning;
pub(crate) mod uploads;

use std::fmt::Debug;
use std::marker::PhantomData;

use astropt_core::error::Result;
use astropt_core::kernels::{
    AdamW, Attended, AttentionMask, Kernels, LinearGradients, Normalised, Slot, across,
};
use astropt_core::parallel::Ranks;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, IntElement};
use burn_tensor::{Int, Tensor};

use product::Precision;
use tensors::{burn, dense, dense_int};

/// How products are taken.
pub trait Products: Clone + Debug + Send + Sync + 'static {
    /// Whether factors are rounded to bf16 first.
    const BF16: bool;
}

/// Products of `f32`, without tensor cores.
#[derive(Clone, Copy, Debug)]
pub struct Exact;

impl Products for Exact {
    const BF16: bool = false;
}

/// Products of factors rounded to bf16, on tensor cores; their sums are `f32`. What kernels hand to
/// each other within a block is held in bf16; the residual stream, its gradient, those of parameters
/// and all else in `f32`.
#[derive(Clone, Copy, Debug)]
pub struct Bf16;

impl Products for Bf16 {
    const BF16: bool = true;
}

/// Kernels for any runtime of CubeCL.
#[derive(Clone, Copy, Debug, Default)]
pub struct CubeKernels<P = Exact>(PhantomData<P>);

impl<P: Products> CubeKernels<P> {
    const PRECISION: Precision = if P::BF16 { Precision::Bf16 } else { Precision::F32 };
}

/// The reference with products that are exact, for tests on GPUs: Burn's own are not.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExactReference;

type Cube<R, I, BT> = CubeBackend<R, f32, I, BT>;
type T<R, I, BT, const D: usize> = Tensor<Cube<R, I, BT>, D>;

/// The product of factors of `precision` as one of `out`.
fn product<R: CubeRuntime, I: IntElement, BT: BoolElement, const D: usize>(
    precision: Precision,
    a: T<R, I, BT, D>,
    b: T<R, I, BT, D>,
    out: Precision,
) -> T<R, I, BT, D> {
    let [a, b] = [a, b].map(|factor| factor.into_primitive().tensor());
    burn(precision.product(a, b, out))
}

fn layer_norm<R: CubeRuntime, I: IntElement, BT: BoolElement>(
    x_nd: T<R, I, BT, 2>,
    gain_d: T<R, I, BT, 1>,
    eps: f32,
    precision: Precision,
) -> Normalised<Cube<R, I, BT>> {
    let [y, mean, rstd] = norm::forward(dense(x_nd), dense(gain_d), eps, precision);
    Normalised { y_nd: burn(y), mean_n: burn(mean), rstd_n: burn(rstd) }
}

impl<R: CubeRuntime, I: IntElement, BT: BoolElement> Kernels<Cube<R, I, BT>> for ExactReference {
    fn product<const D: usize>(a: T<R, I, BT, D>, b: T<R, I, BT, D>) -> T<R, I, BT, D> {
        product(Precision::F32, a, b, Precision::F32)
    }
}

impl<P, R, I, BT> Kernels<Cube<R, I, BT>> for CubeKernels<P>
where
    P: Products,
    R: CubeRuntime,
    I: IntElement,
    BT: BoolElement,
{
    fn product<const D: usize>(a: T<R, I, BT, D>, b: T<R, I, BT, D>) -> T<R, I, BT, D> {
        product(Self::PRECISION, a, b, Precision::F32)
    }

    fn linear_within(x_ni: T<R, I, BT, 2>, w_oi: T<R, I, BT, 2>) -> T<R, I, BT, 2> {
        product(Self::PRECISION, x_ni, w_oi.transpose(), Self::PRECISION)
    }

    fn linear_onto(
        x_ni: T<R, I, BT, 2>,
        w_oi: T<R, I, BT, 2>,
        onto_no: T<R, I, BT, 2>,
    ) -> T<R, I, BT, 2> {
        let branch_no = Self::linear_within(x_ni, w_oi);
        match Self::PRECISION {
            Precision::F32 => onto_no + branch_no,
            Precision::Bf16 => burn(elementwise::onto(dense(branch_no), dense(onto_no))),
        }
    }

    fn linear_gelu(x_ni: T<R, I, BT, 2>, w_oi: T<R, I, BT, 2>) -> [T<R, I, BT, 2>; 2] {
        let wide_no = Self::linear_within(x_ni, w_oi);
        [wide_no.clone(), burn(elementwise::gelu(dense(wide_no), Self::PRECISION))]
    }

    fn gelu_linear_backward(
        wide_ni: T<R, I, BT, 2>,
        gelu_ni: T<R, I, BT, 2>,
        w_oi: T<R, I, BT, 2>,
        dy_no: T<R, I, BT, 2>,
    ) -> [T<R, I, BT, 2>; 2] {
        let precision = Self::PRECISION;
        let [dgelu_ni, dw_oi] = Self::linear_backward_within(gelu_ni, w_oi, dy_no);
        let wide_ni = precision.rounded(wide_ni.into_primitive().tensor());
        [burn(elementwise::gelu_backward(wide_ni, dense(dgelu_ni), precision)), dw_oi]
    }

    fn linear_backward_within(
        x_ni: T<R, I, BT, 2>,
        w_oi: T<R, I, BT, 2>,
        dy_no: T<R, I, BT, 2>,
    ) -> [T<R, I, BT, 2>; 2] {
        let precision = Self::PRECISION;
        // Rounded once for both products.
        let dy_no: T<R, I, BT, 2> = burn(precision.round(dy_no.into_primitive().tensor()));
        let dx_ni = product(precision, dy_no.clone(), w_oi, precision);
        [dx_ni, Self::product(dy_no.transpose(), x_ni)]
    }

    fn linear_backward(
        x_ni: T<R, I, BT, 2>,
        w_oi: T<R, I, BT, 2>,
        dy_no: T<R, I, BT, 2>,
        input: bool,
        bias: bool,
    ) -> LinearGradients<Cube<R, I, BT>> {
        // Rounded once for both products.
        let round = |x: T<R, I, BT, 2>| Self::PRECISION.round(x.into_primitive().tensor());
        let dy: T<R, I, BT, 2> = burn(round(dy_no.clone()));
        LinearGradients {
            dx_ni: input.then(|| Self::product(dy.clone(), w_oi)),
            dw_oi: Self::product(dy.transpose(), x_ni),
            db_o: bias.then(|| Self::column_sums(dy_no)),
        }
    }

    fn layer_norm(
        x_nd: T<R, I, BT, 2>,
        gain_d: T<R, I, BT, 1>,
        eps: f32,
    ) -> Normalised<Cube<R, I, BT>> {
        layer_norm(x_nd, gain_d, eps, Precision::F32)
    }

    fn layer_norm_within(
        x_nd: T<R, I, BT, 2>,
        gain_d: T<R, I, BT, 1>,
        eps: f32,
    ) -> Normalised<Cube<R, I, BT>> {
        layer_norm(x_nd, gain_d, eps, Self::PRECISION)
    }

    fn layer_norm_backward(
        x_nd: T<R, I, BT, 2>,
        gain_d: T<R, I, BT, 1>,
        mean_n: T<R, I, BT, 1>,
        rstd_n: T<R, I, BT, 1>,
        dy_nd: T<R, I, BT, 2>,
        onto_nd: Option<T<R, I, BT, 2>>,
    ) -> (T<R, I, BT, 2>, T<R, I, BT, 1>) {
        let rows = [dense(x_nd), dense(mean_n), dense(rstd_n), dense(dy_nd)];
        let [dx, dgain] = norm::backward(rows, dense(gain_d), onto_nd.map(dense));
        (burn(dx), burn(dgain))
    }

    fn gelu(x_nd: T<R, I, BT, 2>) -> T<R, I, BT, 2> {
        burn(elementwise::gelu(dense(x_nd), Precision::F32))
    }

    fn gelu_backward(x_nd: T<R, I, BT, 2>, dy_nd: T<R, I, BT, 2>) -> T<R, I, BT, 2> {
        burn(elementwise::gelu_backward(dense(x_nd), dense(dy_nd), Precision::F32))
    }

    fn attention(
        qkv_bte: T<R, I, BT, 3>,
        heads: usize,
        mask: &AttentionMask<Cube<R, I, BT>>,
    ) -> Attended<Cube<R, I, BT>> {
        let (out_btd, lse_bht) = attention::forward(qkv_bte, heads, mask, Self::PRECISION);
        Attended { out_btd, lse_bht }
    }

    fn attention_backward(
        qkv_bte: T<R, I, BT, 3>,
        attended: Attended<Cube<R, I, BT>>,
        dout_btd: T<R, I, BT, 3>,
        heads: usize,
        mask: &AttentionMask<Cube<R, I, BT>>,
    ) -> T<R, I, BT, 3> {
        let attended = [attended.out_btd, attended.lse_bht];
        attention::backward(qkv_bte, attended, dout_btd, heads, mask, Self::PRECISION)
    }

    fn huber(y_nf: T<R, I, BT, 2>, target_nf: T<R, I, BT, 2>) -> (T<R, I, BT, 1>, T<R, I, BT, 2>) {
        let [loss, dy] = elementwise::huber(dense(y_nf), dense(target_nf));
        (burn(loss), burn(dy))
    }

    fn cross_entropy(
        logits_kv: T<R, I, BT, 2>,
        codes_k: Tensor<Cube<R, I, BT>, 1, Int>,
    ) -> (T<R, I, BT, 1>, T<R, I, BT, 2>) {
        let [loss, dlogits] = cross_entropy::cross_entropy(dense(logits_kv), dense_int(codes_k));
        (burn(loss), burn(dlogits))
    }

    fn select_backward(
        rows: usize,
        indices_k: Tensor<Cube<R, I, BT>, 1, Int>,
        dy_kd: T<R, I, BT, 2>,
    ) -> T<R, I, BT, 2> {
        let dy_kd = Precision::F32.rounded(dy_kd.into_primitive().tensor());
        burn(selection::backward(rows, dense_int(indices_k), dy_kd))
    }

    fn column_sums(x_nd: T<R, I, BT, 2>) -> T<R, I, BT, 1> {
        burn(sums::column_sums(Precision::F32.rounded(x_nd.into_primitive().tensor())))
    }

    fn global_norm(grads: &[T<R, I, BT, 1>]) -> T<R, I, BT, 1> {
        burn(sums::global_norm(grads.iter().cloned().map(dense).collect()))
    }

    fn sum_over(grads: &mut [T<R, I, BT, 1>], ranks: &dyn Ranks) -> Result<()> {
        let Some(device) = grads.first().map(|grad| grad.device()) else { return Ok(()) };
        if !nccl::wanted() {
            return across::sum_over(grads, ranks);
        }
        let empty = Tensor::empty([1], &device);
        let take = |grad: &mut T<R, I, BT, 1>| own(dense(std::mem::replace(grad, empty.clone())));
        let tensors: Vec<_> = grads.iter_mut().map(take).collect();
        nccl::sum_over(&tensors, ranks)?;
        grads.iter_mut().zip(tensors).for_each(|(grad, sum)| *grad = burn(sum));
        Ok(())
    }

    fn adamw(slots: &mut [Slot<Cube<R, I, BT>>], step: &AdamW) {
        for slot in slots {
            let empty = Tensor::empty([1], &slot.value.device());
            let take =
                |tensor: &mut T<R, I, BT, 1>| own(dense(std::mem::replace(tensor, empty.clone())));
            let written = [&mut slot.value, &mut slot.moment1, &mut slot.moment2];
            let [value, moment1, moment2] = written.map(take);
            let grad = dense(slot.grad.clone());
            let tensors = [value.clone(), grad, moment1.clone(), moment2.clone()];
            elementwise::adamw(tensors, slot.decay, step);
            (slot.value, slot.moment1, slot.moment2) = (burn(value), burn(moment1), burn(moment2));
        }
    }
}

/// A tensor that may be written to: this one where nobody else holds it, else a copy.
fn own<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    if tensor.can_mut() { tensor } else { tensor.copy() }
}
