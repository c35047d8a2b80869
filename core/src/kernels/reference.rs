//! Every kernel in plain Burn operations: slow, and the truth. What multiplies matrices does it
//! with the product of the kernels `K`.

use burn_tensor::{Bool, IndexingUpdateOp, Int, Tensor, backend::Backend};

use super::{AdamW, Attended, AttentionMask, Kernels, LinearGradients, Normalised, Slot};

/// √(2/π), of the tanh approximation of GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415).
pub const GELU_SCALE: f32 = 0.797_884_6;
/// The cubic coefficient of the same approximation.
pub const GELU_CUBIC: f32 = 0.044_715;

/// See [`Kernels::linear`](super::Kernels::linear).
pub fn linear<B: Backend, K: Kernels<B>>(
    x_ni: Tensor<B, 2>,
    w_oi: Tensor<B, 2>,
    b_o: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    let y_no = K::product(x_ni, w_oi.transpose());
    match b_o {
        Some(b_o) => y_no + b_o.unsqueeze(),
        None => y_no,
    }
}

/// See [`Kernels::linear_backward`](super::Kernels::linear_backward).
pub fn linear_backward<B: Backend, K: Kernels<B>>(
    x_ni: Tensor<B, 2>,
    w_oi: Tensor<B, 2>,
    dy_no: Tensor<B, 2>,
    input: bool,
    bias: bool,
) -> LinearGradients<B> {
    LinearGradients {
        dx_ni: input.then(|| K::product(dy_no.clone(), w_oi)),
        db_o: bias.then(|| K::column_sums(dy_no.clone())),
        dw_oi: K::product(dy_no.transpose(), x_ni),
    }
}

/// y = gain · (x - mean)/√(var + eps), var with the biased estimator (Ba et al. 2016,
/// arXiv:1607.06450).
pub fn layer_norm<B: Backend>(x_nd: Tensor<B, 2>, gain_d: Tensor<B, 1>, eps: f32) -> Normalised<B> {
    let mean_n1 = x_nd.clone().mean_dim(1);
    let centred_nd = x_nd - mean_n1.clone();
    let var_n1 = centred_nd.clone().powi_scalar(2).mean_dim(1);
    let rstd_n1 = (var_n1 + eps).sqrt().recip();
    Normalised {
        y_nd: centred_nd * rstd_n1.clone() * gain_d.unsqueeze(),
        mean_n: mean_n1.squeeze_dim(1),
        rstd_n: rstd_n1.squeeze_dim(1),
    }
}

/// With z = (x - mean)·rstd and g = dy·gain: dx = rstd·(g - mean(g) - z·mean(g·z)),
/// dgain = Σ dy·z.
pub fn layer_norm_backward<B: Backend>(
    x_nd: Tensor<B, 2>,
    gain_d: Tensor<B, 1>,
    mean_n: Tensor<B, 1>,
    rstd_n: Tensor<B, 1>,
    dy_nd: Tensor<B, 2>,
    onto_nd: Option<Tensor<B, 2>>,
) -> (Tensor<B, 2>, Tensor<B, 1>) {
    let rstd_n1 = rstd_n.unsqueeze_dim::<2>(1);
    let z_nd = (x_nd - mean_n.unsqueeze_dim::<2>(1)) * rstd_n1.clone();
    let dgain_d = (dy_nd.clone() * z_nd.clone()).sum_dim(0).squeeze_dim(0);
    let g_nd = dy_nd * gain_d.unsqueeze();
    let mean_g_n1 = g_nd.clone().mean_dim(1);
    let mean_gz_n1 = (g_nd.clone() * z_nd.clone()).mean_dim(1);
    let dx_nd = (g_nd - mean_g_n1 - z_nd * mean_gz_n1) * rstd_n1;
    match onto_nd {
        Some(onto_nd) => (onto_nd + dx_nd, dgain_d),
        None => (dx_nd, dgain_d),
    }
}

/// x/2 · (1 + tanh(√(2/π)·(x + 0.044715 x³))).
pub fn gelu<B: Backend>(x_nd: Tensor<B, 2>) -> Tensor<B, 2> {
    let inner_nd =
        (x_nd.clone() + x_nd.clone().powi_scalar(3).mul_scalar(GELU_CUBIC)).mul_scalar(GELU_SCALE);
    (x_nd * (inner_nd.tanh() + 1.0)).mul_scalar(0.5)
}

/// The derivative of [`gelu`] times `dy_nd`.
pub fn gelu_backward<B: Backend>(x_nd: Tensor<B, 2>, dy_nd: Tensor<B, 2>) -> Tensor<B, 2> {
    let x2_nd = x_nd.clone() * x_nd.clone();
    let inner_nd =
        (x_nd.clone() * (x2_nd.clone().mul_scalar(GELU_CUBIC) + 1.0)).mul_scalar(GELU_SCALE);
    let tanh_nd = inner_nd.tanh();
    let dinner_nd = (x2_nd.mul_scalar(3.0 * GELU_CUBIC) + 1.0).mul_scalar(GELU_SCALE);
    let sech2_nd = -(tanh_nd.clone() * tanh_nd.clone()) + 1.0;
    let slope_nd = (tanh_nd + 1.0 + x_nd * sech2_nd * dinner_nd).mul_scalar(0.5);
    slope_nd * dy_nd
}

/// See [`Kernels::relu`](super::Kernels::relu).
pub fn relu<B: Backend>(x_nd: Tensor<B, 2>) -> Tensor<B, 2> {
    x_nd.clamp_min(0.0)
}

/// `dy_nd` where the output was above zero, zero elsewhere.
pub fn relu_backward<B: Backend>(y_nd: Tensor<B, 2>, dy_nd: Tensor<B, 2>) -> Tensor<B, 2> {
    dy_nd.mask_fill(y_nd.lower_equal_elem(0.0), 0.0)
}

/// Queries, keys and values of `qkv_bte`, each `[b, h, t, d/h]`.
fn split_heads<B: Backend>(qkv_bte: Tensor<B, 3>, heads: usize) -> [Tensor<B, 4>; 3] {
    let [b, t, e] = qkv_bte.dims();
    let d = e / 3;
    [0, 1, 2].map(|part| {
        qkv_bte.clone().narrow(2, part * d, d).reshape([b, t, heads, d / heads]).swap_dims(1, 2)
    })
}

/// `[b, 1, t, t]`: true where a query (row) must not see a key (column).
fn hidden<B: Backend>(
    [b, t]: [usize; 2],
    mask: &AttentionMask<B>,
    device: &B::Device,
) -> Tensor<B, 4, Bool> {
    let mut hidden_b1tt = if mask.causal {
        Tensor::<B, 2, Bool>::tril_mask([t, t], 0, device).unsqueeze()
    } else {
        Tensor::<B, 4>::zeros([1, 1, t, t], device).greater_elem(0.5)
    };
    hidden_b1tt = hidden_b1tt.expand([b, 1, t, t]);
    if let (true, Some(reach_bt)) = (mask.causal, &mask.reach_bt) {
        let key_b1tt = Tensor::<B, 1, Int>::arange(0..t as i64, device)
            .reshape([1, 1, 1, t])
            .expand([b, 1, t, t]);
        let reach_b1tt = reach_bt.clone().reshape([b, 1, t, 1]).expand([b, 1, t, t]);
        hidden_b1tt = hidden_b1tt.bool_and(key_b1tt.greater_equal(reach_b1tt));
    }
    if let Some(documents_bt) = &mask.documents_bt {
        let query_b1t1 = documents_bt.clone().reshape([b, 1, t, 1]).expand([b, 1, t, t]);
        let key_b11t = documents_bt.clone().reshape([b, 1, 1, t]).expand([b, 1, t, t]);
        hidden_b1tt = hidden_b1tt.bool_or(query_b1t1.not_equal(key_b11t));
    }
    hidden_b1tt
}

/// softmax(q·kᵀ/√s + mask)·v per head, the T x T scores held whole.
pub fn attention<B: Backend, K: Kernels<B>>(
    qkv_bte: Tensor<B, 3>,
    heads: usize,
    mask: &AttentionMask<B>,
) -> Attended<B> {
    let [b, t, e] = qkv_bte.dims();
    let device = qkv_bte.device();
    let [q_bhts, k_bhts, v_bhts] = split_heads(qkv_bte, heads);
    let scale = 1.0 / ((e / 3 / heads) as f32).sqrt();
    let scores_bhtt = K::product(q_bhts, k_bhts.transpose()).mul_scalar(scale);
    let hidden_bhtt = hidden([b, t], mask, &device).expand([b, heads, t, t]);
    let scores_bhtt = scores_bhtt.mask_fill(hidden_bhtt, f32::NEG_INFINITY);
    let max_bht1 = scores_bhtt.clone().max_dim(3);
    let exp_bhtt = (scores_bhtt - max_bht1.clone()).exp();
    let sum_bht1 = exp_bhtt.clone().sum_dim(3);
    let out_bhts = K::product(exp_bhtt / sum_bht1.clone(), v_bhts);
    Attended {
        out_btd: out_bhts.swap_dims(1, 2).reshape([b, t, e / 3]),
        lse_bht: (sum_bht1.log() + max_bht1).squeeze_dim(3),
    }
}

/// With weights p = exp(q·kᵀ·scale - lse): dv = pᵀ·do, dp = do·vᵀ,
/// ds = p·(dp - Σ do·o), dq = ds·k·scale, dk = dsᵀ·q·scale (Dao et al. 2022,
/// arXiv:2205.14135, with the T x T matrices held whole).
pub fn attention_backward<B: Backend, K: Kernels<B>>(
    qkv_bte: Tensor<B, 3>,
    attended: Attended<B>,
    dout_btd: Tensor<B, 3>,
    heads: usize,
    mask: &AttentionMask<B>,
) -> Tensor<B, 3> {
    let [b, t, e] = qkv_bte.dims();
    let size = e / 3 / heads;
    let device = qkv_bte.device();
    let scale = 1.0 / (size as f32).sqrt();
    let to_heads = |x_btd: Tensor<B, 3>| x_btd.reshape([b, t, heads, size]).swap_dims(1, 2);
    let from_heads = |x_bhts: Tensor<B, 4>| x_bhts.swap_dims(1, 2).reshape([b, t, e / 3]);

    let [q_bhts, k_bhts, v_bhts] = split_heads(qkv_bte, heads);
    let dout_bhts = to_heads(dout_btd);
    let delta_bht1 = (dout_bhts.clone() * to_heads(attended.out_btd)).sum_dim(3);

    let scores_bhtt = K::product(q_bhts.clone(), k_bhts.clone().transpose()).mul_scalar(scale);
    let hidden_bhtt = hidden([b, t], mask, &device).expand([b, heads, t, t]);
    let p_bhtt =
        (scores_bhtt - attended.lse_bht.unsqueeze_dim::<4>(3)).exp().mask_fill(hidden_bhtt, 0.0);
    let dv_bhts = K::product(p_bhtt.clone().transpose(), dout_bhts.clone());
    let dp_bhtt = K::product(dout_bhts, v_bhts.transpose());
    let ds_bhtt = (p_bhtt * (dp_bhtt - delta_bht1)).mul_scalar(scale);
    let dq_bhts = K::product(ds_bhtt.clone(), k_bhts);
    let dk_bhts = K::product(ds_bhtt.transpose(), q_bhts);
    Tensor::cat(vec![from_heads(dq_bhts), from_heads(dk_bhts), from_heads(dv_bhts)], 2)
}

/// Mean over all elements of e²/2 where |e| < 1 and |e| - 1/2 elsewhere (Huber 1964), and
/// its gradient.
pub fn huber<B: Backend>(
    y_nf: Tensor<B, 2>,
    target_nf: Tensor<B, 2>,
) -> (Tensor<B, 1>, Tensor<B, 2>) {
    let [n, f] = y_nf.dims();
    let error_nf = y_nf - target_nf;
    let clipped_nf = error_nf.clone().clamp(-1.0, 1.0);
    let loss_nf = clipped_nf.clone() * (error_nf - clipped_nf.clone().mul_scalar(0.5));
    (loss_nf.mean(), clipped_nf.div_scalar((n * f) as f32))
}

/// With p = softmax(logits): the mean of -ln p\[code\], and (p - 1 at the code)/k.
pub fn cross_entropy<B: Backend>(
    logits_kv: Tensor<B, 2>,
    codes_k: Tensor<B, 1, Int>,
) -> (Tensor<B, 1>, Tensor<B, 2>) {
    let ([k, _], device) = (logits_kv.dims(), logits_kv.device());
    let codes_k1 = codes_k.unsqueeze_dim::<2>(1);
    let centred_kv = logits_kv.clone() - logits_kv.max_dim(1);
    let exp_kv = centred_kv.clone().exp();
    let sum_k1 = exp_kv.clone().sum_dim(1);
    let logp_k1 = centred_kv.gather(1, codes_k1.clone()) - sum_k1.clone().log();
    let ones_k1 = Tensor::full([k, 1], -1.0, &device);
    let dlogits_kv = (exp_kv / sum_k1).scatter(1, codes_k1, ones_k1, IndexingUpdateOp::Add);
    (logp_k1.mean().neg(), dlogits_kv.div_scalar(k as f32))
}

/// See [`Kernels::select_backward`](super::Kernels::select_backward).
pub fn select_backward<B: Backend>(
    rows: usize,
    indices_k: Tensor<B, 1, Int>,
    dy_kd: Tensor<B, 2>,
) -> Tensor<B, 2> {
    let zeros_rd = Tensor::zeros([rows, dy_kd.dims()[1]], &dy_kd.device());
    zeros_rd.select_assign(0, indices_k, dy_kd, IndexingUpdateOp::Add)
}

/// Sums over the first axis.
pub fn column_sums<B: Backend>(x_nd: Tensor<B, 2>) -> Tensor<B, 1> {
    x_nd.sum_dim(0).squeeze_dim(0)
}

/// The row after each row of `x_nf`; after the last row of each of `b` equal parts, a row of
/// `last_bf`.
pub fn next<B: Backend>(x_nf: Tensor<B, 2>, last_bf: Tensor<B, 2>) -> Tensor<B, 2> {
    let ([n, f], [b, _]) = (x_nf.dims(), last_bf.dims());
    let rows = n / b;
    if rows <= 1 {
        return last_bf;
    }
    let rest_brf = x_nf.reshape([b, rows, f]).narrow(1, 1, rows - 1);
    Tensor::cat(vec![rest_brf, last_bf.reshape([b, 1, f])], 1).reshape([n, f])
}

/// See [`Kernels::scale`](super::Kernels::scale).
pub fn scale<B: Backend>(x_nf: Tensor<B, 2>, by: Tensor<B, 1>) -> Tensor<B, 2> {
    x_nf * by.unsqueeze()
}

/// See [`Kernels::global_norm`](super::Kernels::global_norm).
pub fn global_norm<B: Backend>(grads: &[Tensor<B, 1>]) -> Tensor<B, 1> {
    let squares = grads.iter().map(|g| (g.clone() * g.clone()).sum());
    Tensor::cat(squares.collect(), 0).sum().sqrt()
}

/// value ← value·(1 - lr·decay) - lr·m̂/(√v̂ + eps), in the order PyTorch takes.
pub fn adamw<B: Backend>(slot: &mut Slot<B>, step: &AdamW) {
    let grad = slot.grad.clone().mul_scalar(step.grad_scale);
    let square = grad.clone() * grad.clone();
    slot.moment1 = slot.moment1.clone().mul_scalar(step.beta1) + grad.mul_scalar(1.0 - step.beta1);
    slot.moment2 =
        slot.moment2.clone().mul_scalar(step.beta2) + square.mul_scalar(1.0 - step.beta2);
    let (correction1, correction2) = step.corrections();
    let denominator =
        slot.moment2.clone().sqrt().mul_scalar(1.0 / correction2.sqrt()).add_scalar(step.eps);
    let decay = if slot.decay { 1.0 - step.lr * step.weight_decay } else { 1.0 };
    slot.value = slot.value.clone().mul_scalar(decay)
        - (slot.moment1.clone() / denominator).mul_scalar(step.lr / correction1);
}

impl AdamW {
    /// 1 - β₁ⁿ and 1 - β₂ⁿ, the bias corrections at step n.
    pub fn corrections(&self) -> (f32, f32) {
        let at = |beta: f32| (1.0 - f64::from(beta).powf(self.step as f64)) as f32;
        (at(self.beta1), at(self.beta2))
    }
}
