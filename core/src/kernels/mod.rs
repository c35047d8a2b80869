//! The operations that decide the speed, forward and backward, on plain (not
//! differentiated) tensors.
//!
//! Every operation has a default in plain Burn operations ([`reference`]): correct on any
//! backend, and the truth that tests compare with. A backend overrides what it can do
//! better. [`ops`] makes differentiable operations of them.
//!
//! Shapes are named by suffixes: `b` rows of a batch, `t` tokens of a row, `n` = b·t, `d`
//! width of the model, `h` heads, `i`/`o` inputs and outputs of a layer.

pub mod across;
pub mod ops;
pub mod reference;

use std::sync::Arc;

use burn_autodiff::Autodiff;
use burn_backend::tensor::Device;
use burn_tensor::{Int, Tensor, backend::Backend};

use crate::data::Uploads;
use crate::error::Result;
use crate::parallel::Ranks;

/// A Burn backend with the kernels to use on it.
pub trait Platform: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// The Burn backend.
    type Backend: Backend;
    /// Its kernels.
    type Kernels: Kernels<Self::Backend>;
    /// Whether it computes in the host's memory: the numbers of a batch are then put side by side
    /// where they are used, and otherwise by the workers that prepare batches.
    const ON_HOST: bool = false;

    /// What brings batches onto `device` beside what the calling thread computes there, where the
    /// platform can. What it uploads are tensors `Tensor<Self::Backend, 1>`.
    ///
    /// # Errors
    /// When the device fails.
    fn uploads(device: &Device<Self::Backend>) -> Result<Option<Arc<dyn Uploads>>> {
        let _ = device;
        Ok(None)
    }
}

/// The differentiated backend of a platform.
pub type Differentiated<P> = Autodiff<<P as Platform>::Backend>;

/// Which tokens of its row a token attends to.
#[derive(Clone, Debug)]
pub struct AttentionMask<B: Backend> {
    /// Only to itself and to the tokens before it; otherwise to all.
    pub causal: bool,
    /// `[b, t]` document numbers: only to tokens of its own document. `None`: a row is one
    /// document.
    pub documents_bt: Option<Tensor<B, 2, Int>>,
    /// `[b, t]`, with `causal`: also to the first so many tokens of its row.
    pub reach_bt: Option<Tensor<B, 2, Int>>,
}

impl<B: Backend> AttentionMask<B> {
    /// The mask of the autoregressive objective on rows of one document each.
    pub fn causal() -> Self {
        Self { causal: true, documents_bt: None, reach_bt: None }
    }
}

/// What [`Kernels::attention`] returns.
#[derive(Clone, Debug)]
pub struct Attended<B: Backend> {
    /// `[b, t, d]` values averaged under the attention weights, heads side by side.
    pub out_btd: Tensor<B, 3>,
    /// `[b, h, t]` natural logarithm of the sum of exponentials of each query's scaled
    /// scores: all the backward pass needs to rebuild the weights.
    pub lse_bht: Tensor<B, 3>,
}

/// What [`Kernels::layer_norm`] returns.
#[derive(Clone, Debug)]
pub struct Normalised<B: Backend> {
    /// `[n, d]` normalised rows times the gain.
    pub y_nd: Tensor<B, 2>,
    /// `[n]` means of the rows.
    pub mean_n: Tensor<B, 1>,
    /// `[n]` reciprocals of the rows' standard deviations, epsilon included.
    pub rstd_n: Tensor<B, 1>,
}

/// What [`Kernels::linear_backward`] returns.
#[derive(Clone, Debug)]
pub struct LinearGradients<B: Backend> {
    /// `[n, i]` gradient for the input, when asked for.
    pub dx_ni: Option<Tensor<B, 2>>,
    /// `[o, i]` gradient for the weight.
    pub dw_oi: Tensor<B, 2>,
    /// `[o]` gradient for the bias, when asked for.
    pub db_o: Option<Tensor<B, 1>>,
}

/// One parameter with what AdamW knows of it, all flattened.
#[derive(Clone, Debug)]
pub struct Slot<B: Backend> {
    /// The parameter.
    pub value: Tensor<B, 1>,
    /// Its gradient, before clipping.
    pub grad: Tensor<B, 1>,
    /// Running mean of the gradient.
    pub moment1: Tensor<B, 1>,
    /// Running mean of the squared gradient.
    pub moment2: Tensor<B, 1>,
    /// Whether weight decay applies (tensors of two and more dimensions).
    pub decay: bool,
}

/// One step of AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101).
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the running mean of gradients.
    pub beta1: f32,
    /// Decay of the running mean of squared gradients.
    pub beta2: f32,
    /// Added to the denominator.
    pub eps: f32,
    /// Weight decay, applied to [`Slot::decay`] parameters and scaled by `lr`.
    pub weight_decay: f32,
    /// Number of this step, counted from 1, for the bias correction.
    pub step: u64,
    /// Factor on every gradient (from clipping by global norm).
    pub grad_scale: f32,
}

/// The operations. Each default is the reference; see [`reference`] for the formulas.
///
/// A backend may round what other kernels alone read (it says so below) as they round what they
/// multiply. So `x_ni` and `dy_no` of linear layers, `dy_nd` of a norm or an activation, and all of
/// attention's inputs may be rounded, also in a narrower type; residuals (`onto`), parameters,
/// losses and their gradients are not.
pub trait Kernels<B: Backend>: std::fmt::Debug + Send + Sync + Sized + 'static {
    /// The product of two matrices, or of as many as the leading axes hold; they may be views,
    /// transposed ones for instance. What the defaults of this trait multiply with.
    fn product<const D: usize>(a: Tensor<B, D>, b: Tensor<B, D>) -> Tensor<B, D> {
        a.matmul(b)
    }

    /// `y_no = x_ni · w_oiᵀ + b_o`.
    fn linear(x_ni: Tensor<B, 2>, w_oi: Tensor<B, 2>, b_o: Option<Tensor<B, 1>>) -> Tensor<B, 2> {
        reference::linear::<B, Self>(x_ni, w_oi, b_o)
    }

    /// [`linear`](Self::linear) without bias, for other kernels alone to read: its numbers may be
    /// rounded as theirs round what they multiply.
    fn linear_within(x_ni: Tensor<B, 2>, w_oi: Tensor<B, 2>) -> Tensor<B, 2> {
        Self::linear(x_ni, w_oi, None)
    }

    /// Gradients of [`linear`](Self::linear) for the gradient `dy_no` of its output; for
    /// the input only when `input`, for the bias only when `bias`.
    fn linear_backward(
        x_ni: Tensor<B, 2>,
        w_oi: Tensor<B, 2>,
        dy_no: Tensor<B, 2>,
        input: bool,
        bias: bool,
    ) -> LinearGradients<B> {
        reference::linear_backward::<B, Self>(x_ni, w_oi, dy_no, input, bias)
    }

    /// Gradients of [`linear`](Self::linear) without bias for its input and its weights: the first
    /// for other kernels alone to read, as [`linear_within`](Self::linear_within).
    fn linear_backward_within(
        x_ni: Tensor<B, 2>,
        w_oi: Tensor<B, 2>,
        dy_no: Tensor<B, 2>,
    ) -> [Tensor<B, 2>; 2] {
        let gradients = Self::linear_backward(x_ni, w_oi.clone(), dy_no.clone(), true, false);
        // A kernel may forget the gradient that it was asked for; the product is the same.
        [gradients.dx_ni.unwrap_or_else(|| Self::product(dy_no, w_oi)), gradients.dw_oi]
    }

    /// `onto_no + x_ni · w_oiᵀ`: a layer that ends a residual branch.
    fn linear_onto(x_ni: Tensor<B, 2>, w_oi: Tensor<B, 2>, onto_no: Tensor<B, 2>) -> Tensor<B, 2> {
        onto_no + Self::linear(x_ni, w_oi, None)
    }

    /// A linear layer and the [`gelu`](Self::gelu) of its output: both, for backward needs
    /// both. For other kernels alone to read, as [`linear_within`](Self::linear_within).
    fn linear_gelu(x_ni: Tensor<B, 2>, w_oi: Tensor<B, 2>) -> [Tensor<B, 2>; 2] {
        let wide_no = Self::linear(x_ni, w_oi, None);
        [wide_no.clone(), Self::gelu(wide_no)]
    }

    /// Gradients of `gelu(wide_ni) · w_oiᵀ` for `wide_ni` and `w_oi`; `gelu_ni` is the GELU
    /// of `wide_ni`.
    fn gelu_linear_backward(
        wide_ni: Tensor<B, 2>,
        gelu_ni: Tensor<B, 2>,
        w_oi: Tensor<B, 2>,
        dy_no: Tensor<B, 2>,
    ) -> [Tensor<B, 2>; 2] {
        let [dgelu_ni, dw_oi] = Self::linear_backward_within(gelu_ni, w_oi, dy_no);
        [Self::gelu_backward(wide_ni, dgelu_ni), dw_oi]
    }

    /// Layer normalisation over the last axis with a gain and no bias.
    fn layer_norm(x_nd: Tensor<B, 2>, gain_d: Tensor<B, 1>, eps: f32) -> Normalised<B> {
        reference::layer_norm(x_nd, gain_d, eps)
    }

    /// [`layer_norm`](Self::layer_norm) for a linear layer alone to read: `y_nd` may be rounded as
    /// that rounds what it multiplies.
    fn layer_norm_within(x_nd: Tensor<B, 2>, gain_d: Tensor<B, 1>, eps: f32) -> Normalised<B> {
        Self::layer_norm(x_nd, gain_d, eps)
    }

    /// Gradients of [`layer_norm`](Self::layer_norm) for input and gain; that for the input
    /// on top of `onto_nd`. `dy_nd` may be of
    /// [`linear_backward_within`](Self::linear_backward_within).
    fn layer_norm_backward(
        x_nd: Tensor<B, 2>,
        gain_d: Tensor<B, 1>,
        mean_n: Tensor<B, 1>,
        rstd_n: Tensor<B, 1>,
        dy_nd: Tensor<B, 2>,
        onto_nd: Option<Tensor<B, 2>>,
    ) -> (Tensor<B, 2>, Tensor<B, 1>) {
        reference::layer_norm_backward(x_nd, gain_d, mean_n, rstd_n, dy_nd, onto_nd)
    }

    /// The tanh approximation of GELU.
    fn gelu(x_nd: Tensor<B, 2>) -> Tensor<B, 2> {
        reference::gelu(x_nd)
    }

    /// Gradient of [`gelu`](Self::gelu) for its input `x_nd`.
    fn gelu_backward(x_nd: Tensor<B, 2>, dy_nd: Tensor<B, 2>) -> Tensor<B, 2> {
        reference::gelu_backward(x_nd, dy_nd)
    }

    /// max(x, 0).
    fn relu(x_nd: Tensor<B, 2>) -> Tensor<B, 2> {
        reference::relu(x_nd)
    }

    /// Gradient of [`relu`](Self::relu) for its input, from its output `y_nd`.
    fn relu_backward(y_nd: Tensor<B, 2>, dy_nd: Tensor<B, 2>) -> Tensor<B, 2> {
        reference::relu_backward(y_nd, dy_nd)
    }

    /// Scaled dot-product attention. `qkv_bte` holds queries, keys and values side by side
    /// (e = 3 d), the heads contiguous within each; scores are scaled by 1/√(d/heads). The output
    /// is for other kernels alone to read, as [`linear_within`](Self::linear_within).
    fn attention(qkv_bte: Tensor<B, 3>, heads: usize, mask: &AttentionMask<B>) -> Attended<B> {
        reference::attention::<B, Self>(qkv_bte, heads, mask)
    }

    /// Gradient of [`attention`](Self::attention) for `qkv_bte`, for other kernels alone to read.
    /// `dout_btd` may be of [`linear_backward_within`](Self::linear_backward_within).
    fn attention_backward(
        qkv_bte: Tensor<B, 3>,
        attended: Attended<B>,
        dout_btd: Tensor<B, 3>,
        heads: usize,
        mask: &AttentionMask<B>,
    ) -> Tensor<B, 3> {
        reference::attention_backward::<B, Self>(qkv_bte, attended, dout_btd, heads, mask)
    }

    /// Mean Huber loss (delta 1) over all elements, and its gradient for `y_nf`.
    fn huber(y_nf: Tensor<B, 2>, target_nf: Tensor<B, 2>) -> (Tensor<B, 1>, Tensor<B, 2>) {
        reference::huber(y_nf, target_nf)
    }

    /// [`huber`](Self::huber) of tokens that predict the next: the target of a row is the row
    /// after it in `x_nf`, and for the last row of each of `b` equal parts a row of `last_bf`.
    fn huber_next(
        y_nf: Tensor<B, 2>,
        x_nf: Tensor<B, 2>,
        last_bf: Tensor<B, 2>,
    ) -> (Tensor<B, 1>, Tensor<B, 2>) {
        Self::huber(y_nf, reference::next(x_nf, last_bf))
    }

    /// Mean over `k` rows of -ln softmax(`logits_kv`)\[code\], and its gradient for `logits_kv`.
    fn cross_entropy(
        logits_kv: Tensor<B, 2>,
        codes_k: Tensor<B, 1, Int>,
    ) -> (Tensor<B, 1>, Tensor<B, 2>) {
        reference::cross_entropy(logits_kv, codes_k)
    }

    /// Gradient of `x_rd.select(0, indices_k)` for `x_rd`, which has `rows` rows: the sum of the rows of
    /// `dy_kd` whose index a row is, and zero where there is none.
    fn select_backward(
        rows: usize,
        indices_k: Tensor<B, 1, Int>,
        dy_kd: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        reference::select_backward(rows, indices_k, dy_kd)
    }

    /// Sums of the columns: `[n, d]` to `[d]`.
    fn column_sums(x_nd: Tensor<B, 2>) -> Tensor<B, 1> {
        reference::column_sums(x_nd)
    }

    /// `x_nf` times the one number of `by`.
    fn scale(x_nf: Tensor<B, 2>, by: Tensor<B, 1>) -> Tensor<B, 2> {
        reference::scale(x_nf, by)
    }

    /// Euclidean norm of all gradients taken together, `[1]`.
    fn global_norm(grads: &[Tensor<B, 1>]) -> Tensor<B, 1> {
        reference::global_norm(grads)
    }

    /// Replaces gradients by their sums over all processes of `ranks`, the same bytes on each. The
    /// default goes through the host's memory; a backend whose devices reach each other may do
    /// without.
    ///
    /// # Errors
    /// When the device or the other processes fail.
    fn sum_over(grads: &mut [Tensor<B, 1>], ranks: &dyn Ranks) -> Result<()> {
        across::sum_over(grads, ranks)
    }

    /// One AdamW step over all parameters: updates `value` and both moments of each slot.
    fn adamw(slots: &mut [Slot<B>], step: &AdamW) {
        for slot in slots {
            reference::adamw(slot, step);
        }
    }
}

/// The reference itself as kernels for any Burn backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

impl<B: Backend> Kernels<B> for Reference {}
