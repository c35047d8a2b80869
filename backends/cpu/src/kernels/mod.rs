//! The kernels of the CPU, one operation per file.

mod adamw;
mod attention;
mod gelu;
mod global_norm;
mod huber;
mod linear;
mod norm;
mod pool;
mod product;
mod relu;
mod scale;
pub mod simd;
mod sums;
mod tensors;
#[cfg(test)]
mod tests;

use astropt_core::kernels::{
    AdamW, Attended, AttentionMask, Kernels, LinearGradients, Normalised, Slot,
};
use burn_flex::Flex;
use burn_tensor::Tensor;

/// Fused kernels on burn-flex tensors.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuKernels;

impl Kernels<Flex> for CpuKernels {
    fn linear(
        x_ni: Tensor<Flex, 2>,
        w_oi: Tensor<Flex, 2>,
        b_o: Option<Tensor<Flex, 1>>,
    ) -> Tensor<Flex, 2> {
        linear::forward(x_ni, w_oi, b_o)
    }

    fn linear_backward(
        x_ni: Tensor<Flex, 2>,
        w_oi: Tensor<Flex, 2>,
        dy_no: Tensor<Flex, 2>,
        input: bool,
        bias: bool,
    ) -> LinearGradients<Flex> {
        linear::backward(x_ni, w_oi, dy_no, input, bias)
    }

    fn linear_onto(
        x_ni: Tensor<Flex, 2>,
        w_oi: Tensor<Flex, 2>,
        onto_no: Tensor<Flex, 2>,
    ) -> Tensor<Flex, 2> {
        linear::forward_onto(x_ni, w_oi, onto_no)
    }

    fn linear_gelu(x_ni: Tensor<Flex, 2>, w_oi: Tensor<Flex, 2>) -> [Tensor<Flex, 2>; 2] {
        linear::forward_gelu(x_ni, w_oi)
    }

    fn gelu_linear_backward(
        wide_ni: Tensor<Flex, 2>,
        gelu_ni: Tensor<Flex, 2>,
        w_oi: Tensor<Flex, 2>,
        dy_no: Tensor<Flex, 2>,
    ) -> [Tensor<Flex, 2>; 2] {
        linear::gelu_backward(wide_ni, gelu_ni, w_oi, dy_no)
    }

    fn relu(x_nd: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
        relu::forward(x_nd)
    }

    fn relu_backward(y_nd: Tensor<Flex, 2>, dy_nd: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
        relu::backward(y_nd, dy_nd)
    }

    fn layer_norm(x_nd: Tensor<Flex, 2>, gain_d: Tensor<Flex, 1>, eps: f32) -> Normalised<Flex> {
        norm::forward(x_nd, gain_d, eps)
    }

    fn layer_norm_backward(
        x_nd: Tensor<Flex, 2>,
        gain_d: Tensor<Flex, 1>,
        mean_n: Tensor<Flex, 1>,
        rstd_n: Tensor<Flex, 1>,
        dy_nd: Tensor<Flex, 2>,
        onto_nd: Option<Tensor<Flex, 2>>,
    ) -> (Tensor<Flex, 2>, Tensor<Flex, 1>) {
        norm::backward(x_nd, gain_d, mean_n, rstd_n, dy_nd, onto_nd)
    }

    fn gelu(x_nd: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
        gelu::forward(x_nd)
    }

    fn gelu_backward(x_nd: Tensor<Flex, 2>, dy_nd: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
        gelu::backward(x_nd, dy_nd)
    }

    fn attention(
        qkv_bte: Tensor<Flex, 3>,
        heads: usize,
        mask: &AttentionMask<Flex>,
    ) -> Attended<Flex> {
        attention::forward(qkv_bte, heads, mask)
    }

    fn attention_backward(
        qkv_bte: Tensor<Flex, 3>,
        attended: Attended<Flex>,
        dout_btd: Tensor<Flex, 3>,
        heads: usize,
        mask: &AttentionMask<Flex>,
    ) -> Tensor<Flex, 3> {
        attention::backward(qkv_bte, attended, dout_btd, heads, mask)
    }

    fn huber(
        y_nf: Tensor<Flex, 2>,
        target_nf: Tensor<Flex, 2>,
    ) -> (Tensor<Flex, 1>, Tensor<Flex, 2>) {
        huber::huber(y_nf, target_nf)
    }

    fn huber_next(
        y_nf: Tensor<Flex, 2>,
        x_nf: Tensor<Flex, 2>,
        last_bf: Tensor<Flex, 2>,
    ) -> (Tensor<Flex, 1>, Tensor<Flex, 2>) {
        huber::huber_next(y_nf, x_nf, last_bf)
    }

    fn scale(x_nf: Tensor<Flex, 2>, by: Tensor<Flex, 1>) -> Tensor<Flex, 2> {
        scale::scale(x_nf, by)
    }

    fn global_norm(grads: &[Tensor<Flex, 1>]) -> Tensor<Flex, 1> {
        global_norm::global_norm(grads)
    }

    fn adamw(slots: &mut [Slot<Flex>], step: &AdamW) {
        adamw::adamw(slots, step);
    }
}
