//! The kernels, on libtorch's own fused operations.

mod attention;
mod fused;
mod optimiser;
mod tensors;

use astropt_core::kernels::{
    AdamW, Attended, AttentionMask, Kernels, LinearGradients, Normalised, Slot,
};
use burn_tch::LibTorch;
use burn_tensor::{Int, Tensor};
use tch::{Kind, Reduction};

pub(crate) use fused::{Library, library, prepare};
use tensors::{fresh, raw, raw_int};

/// libtorch's operations on burn-tch tensors. With `BF16` linear layers and attention are what
/// PyTorch's autocast makes of them: factors are rounded to bf16, and so is every result, gradients
/// of weights included. Results are held in `f32` from there on, and biases and residuals added,
/// norms, activations and losses computed so.
#[derive(Clone, Copy, Debug, Default)]
pub struct LibTorchKernels<const BF16: bool = false>;

/// A tensor as a factor, and a result, which libtorch rounds as it rounds factors, as `f32`.
fn factor<const BF16: bool>(x: &tch::Tensor) -> tch::Tensor {
    if BF16 { x.to_kind(Kind::BFloat16) } else { x.shallow_clone() }
}

fn number<const BF16: bool>(x: tch::Tensor) -> tch::Tensor {
    if BF16 { x.to_kind(Kind::Float) } else { x }
}

/// How libtorch names the approximation of GELU.
const TANH: &str = "tanh";

type T<const D: usize> = Tensor<LibTorch, D>;

impl<const BF16: bool> Kernels<LibTorch> for LibTorchKernels<BF16> {
    fn product<const D: usize>(a: T<D>, b: T<D>) -> T<D> {
        fresh(number::<BF16>(factor::<BF16>(&raw(a)).matmul(&factor::<BF16>(&raw(b)))))
    }

    fn linear(x_ni: T<2>, w_oi: T<2>, b_o: Option<T<1>>) -> T<2> {
        let (x, w) = (factor::<BF16>(&raw(x_ni)), factor::<BF16>(&raw(w_oi)));
        let b = b_o.map(raw);
        fresh(match b {
            Some(b) if BF16 => number::<BF16>(x.linear(&w, None::<tch::Tensor>)) + b,
            b => number::<BF16>(x.linear(&w, b)),
        })
    }

    fn linear_backward(
        x_ni: T<2>,
        w_oi: T<2>,
        dy_no: T<2>,
        input: bool,
        bias: bool,
    ) -> LinearGradients<LibTorch> {
        let dy = raw(dy_no);
        let rounded = factor::<BF16>(&dy);
        let product =
            |a: &tch::Tensor, b: T<2>| fresh(number::<BF16>(a.mm(&factor::<BF16>(&raw(b)))));
        LinearGradients {
            dx_ni: input.then(|| product(&rounded, w_oi)),
            dw_oi: product(&rounded.tr(), x_ni),
            db_o: bias.then(|| fresh(dy.sum_dim_intlist(0, false, Kind::Float))),
        }
    }

    fn linear_onto(x_ni: T<2>, w_oi: T<2>, onto_no: T<2>) -> T<2> {
        if BF16 {
            return onto_no + Self::linear(x_ni, w_oi, None);
        }
        fresh(raw(onto_no).addmm(&raw(x_ni), &raw(w_oi).tr()))
    }

    fn layer_norm(x_nd: T<2>, gain_d: T<1>, eps: f32) -> Normalised<LibTorch> {
        let [n, d] = x_nd.dims().map(|n| n as i64);
        let (y, mean, rstd) = raw(x_nd).native_layer_norm(
            [d],
            Some(raw(gain_d)),
            None::<tch::Tensor>,
            f64::from(eps),
        );
        Normalised {
            y_nd: fresh(y),
            mean_n: fresh(mean.reshape([n])),
            rstd_n: fresh(rstd.reshape([n])),
        }
    }

    fn layer_norm_backward(
        x_nd: T<2>,
        gain_d: T<1>,
        mean_n: T<1>,
        rstd_n: T<1>,
        dy_nd: T<2>,
        onto_nd: Option<T<2>>,
    ) -> (T<2>, T<1>) {
        let (mean, rstd) = (raw(mean_n).unsqueeze(1), raw(rstd_n).unsqueeze(1));
        let (mut dx, dgain) =
            fused::layer_norm_backward(&raw(dy_nd), &raw(x_nd), &mean, &rstd, &raw(gain_d));
        if let Some(onto_nd) = onto_nd {
            let _ = dx.g_add_(&raw(onto_nd));
        }
        (fresh(dx), fresh(dgain))
    }

    fn gelu(x_nd: T<2>) -> T<2> {
        fresh(raw(x_nd).gelu(TANH))
    }

    fn gelu_backward(x_nd: T<2>, dy_nd: T<2>) -> T<2> {
        fresh(raw(x_nd).gelu_backward(&raw(dy_nd), TANH))
    }

    fn relu(x_nd: T<2>) -> T<2> {
        fresh(raw(x_nd).relu())
    }

    fn relu_backward(y_nd: T<2>, dy_nd: T<2>) -> T<2> {
        fresh(raw(y_nd).threshold_backward(&raw(dy_nd), 0.0))
    }

    fn attention(
        qkv_bte: T<3>,
        heads: usize,
        mask: &AttentionMask<LibTorch>,
    ) -> Attended<LibTorch> {
        attention::forward::<BF16>(qkv_bte, heads, mask)
    }

    fn attention_backward(
        qkv_bte: T<3>,
        attended: Attended<LibTorch>,
        dout_btd: T<3>,
        heads: usize,
        mask: &AttentionMask<LibTorch>,
    ) -> T<3> {
        attention::backward::<BF16>(qkv_bte, attended, dout_btd, heads, mask)
    }

    fn huber(y_nf: T<2>, target_nf: T<2>) -> (T<1>, T<2>) {
        let (y, target) = (raw(y_nf), raw(target_nf));
        let loss = y.huber_loss(&target, Reduction::Mean, 1.0);
        let one = loss.ones_like();
        let dy = y.huber_loss_backward(&one, &target, Reduction::Mean, 1.0);
        (fresh(loss.reshape([1])), fresh(dy))
    }

    fn cross_entropy(logits_kv: T<2>, codes_k: Tensor<LibTorch, 1, Int>) -> (T<1>, T<2>) {
        let (logits, codes) = (raw(logits_kv), raw_int(&codes_k));
        let logp = logits.log_softmax(1, Kind::Float);
        let (rows, place) = (logp.size()[0], codes.unsqueeze(1));
        let loss = logp.gather(1, &place, false).mean(Kind::Float).neg();
        let ones = tch::Tensor::full([rows, 1], -1.0, (Kind::Float, logp.device()));
        let slope = logp.exp().scatter_add(1, &place, &ones) / rows as f64;
        (fresh(loss.reshape([1])), fresh(slope))
    }

    fn global_norm(grads: &[T<1>]) -> T<1> {
        optimiser::global_norm(grads)
    }

    fn adamw(slots: &mut [Slot<LibTorch>], step: &AdamW) {
        optimiser::adamw(slots, step);
    }
}
