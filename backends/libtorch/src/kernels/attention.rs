//! Attention by libtorch: flash attention on CPU, memory-efficient attention on CUDA (where
//! libtorch's flash attention knows no single precision). With `BF16` queries, keys, values and
//! the output's gradient are rounded to bf16 first, weights and their gradients before they are
//! multiplied, and output and gradients as they are written (on the CPU after every 512 tokens or
//! fewer that are added to them); scores, logarithms and the sums of weights are `f32`.

use std::sync::Once;

use astropt_core::kernels::{Attended, AttentionMask, reference};
use astropt_core::progress;
use burn_tch::LibTorch;
use burn_tensor::Tensor;
use tch::{Device, Kind};

use super::tensors::{fresh, raw, raw_int};
use super::{LibTorchKernels, factor, fused, number};

/// Tokens that the keys of a bias are padded to, and those of the logarithms, on CUDA.
const BIAS_ALIGNMENT: i64 = 16;
const LSE_ALIGNMENT: i64 = 32;

/// Queries, keys and values on their way through libtorch.
struct Heads {
    /// Each `[b, h, t, s]`, views of one tensor.
    qkv: [tch::Tensor; 3],
    /// `[b, h, t, t]`, with one mask for all heads: 0 where a key is seen, -∞ elsewhere.
    bias: Option<tch::Tensor>,
    /// Whether libtorch masks what comes later; a bias does it otherwise.
    causal: bool,
    scale: f64,
}

impl Heads {
    fn new<const BF16: bool>(
        qkv_bte: Tensor<LibTorch, 3>,
        heads: usize,
        mask: &AttentionMask<LibTorch>,
    ) -> Self {
        let [b, t, e] = qkv_bte.dims().map(|n| n as i64);
        let heads = heads as i64;
        let size = e / 3 / heads;
        let split =
            factor::<BF16>(&raw(qkv_bte)).reshape([b, t, 3, heads, size]).permute([2, 0, 3, 1, 4]);
        let like = (split.kind(), split.device());
        let bias = bias(mask, [b, t], like).map(|bias| bias.expand([b, heads, t, t], false));
        Self {
            qkv: [0, 1, 2].map(|part| split.select(0, part)),
            causal: mask.causal && bias.is_none(),
            bias,
            scale: 1.0 / (size as f64).sqrt(),
        }
    }

    /// `[b, t, d]` as `[b, h, t, s]`.
    fn split<const BF16: bool>(&self, x_btd: Tensor<LibTorch, 3>) -> tch::Tensor {
        let [b, t, d] = x_btd.dims().map(|n| n as i64);
        let heads = self.qkv[0].size()[1];
        factor::<BF16>(&raw(x_btd)).reshape([b, t, heads, d / heads]).transpose(1, 2)
    }
}

/// `[b, 1, t, t]` numbers to add to scores; none where causal order is all there is to say.
fn bias(
    mask: &AttentionMask<LibTorch>,
    [b, t]: [i64; 2],
    (kind, device): (Kind, Device),
) -> Option<tch::Tensor> {
    if mask.documents_bt.is_none() && (mask.reach_bt.is_none() || !mask.causal) {
        return None;
    }
    let places = tch::Tensor::arange(t, (Kind::Int64, device));
    let (queries, keys) = (places.reshape([1, t, 1]), places.reshape([1, 1, t]));
    let mut hidden = if mask.causal {
        keys.gt_tensor(&queries)
    } else {
        tch::Tensor::zeros([1, 1, 1], (Kind::Bool, device))
    };
    if let (true, Some(reach_bt)) = (mask.causal, &mask.reach_bt) {
        let beyond = keys.ge_tensor(&raw_int(reach_bt).reshape([b, t, 1]));
        hidden = hidden.logical_and(&beyond);
    }
    if let Some(documents_bt) = &mask.documents_bt {
        let documents = raw_int(documents_bt);
        let other = documents.reshape([b, t, 1]).ne_tensor(&documents.reshape([b, 1, t]));
        hidden = hidden.logical_or(&other);
    }
    // Rows begin where CUDA's kernels can read them.
    let padded = (t + BIAS_ALIGNMENT - 1) / BIAS_ALIGNMENT * BIAS_ALIGNMENT;
    let bias = tch::Tensor::zeros([b, t, padded], (kind, device)).narrow(2, 0, t);
    let _ = bias.shallow_clone().masked_fill_(&hidden.expand([b, t, t], false), f64::NEG_INFINITY);
    Some(bias.reshape([b, 1, t, t]))
}

/// Whether the reference must do, which holds all scores at once: CUDA's kernels read heads
/// sixteen bytes at a time. It is warned of once.
fn by_reference<const BF16: bool>(qkv_bte: &Tensor<LibTorch, 3>, heads: usize) -> bool {
    let size = qkv_bte.dims()[2] / 3 / heads;
    let (multiple, precision) = if BF16 { (8, "bf16") } else { (4, "f32") };
    if !on_cuda(qkv_bte) || size.is_multiple_of(multiple) {
        return false;
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        progress::warn(&format!(
            "heads of {size} numbers do not fit libtorch's attention on GPUs, which takes \
             multiples of {multiple} in {precision}; it is computed with all scores held at once, \
             in memory that grows with the square of the tokens. Choose model.width and \
             model.heads so that width / heads is a multiple of {multiple}, or --backend cuda"
        ));
    });
    true
}

/// See [`Kernels::attention`](astropt_core::kernels::Kernels::attention).
pub(super) fn forward<const BF16: bool>(
    qkv_bte: Tensor<LibTorch, 3>,
    heads: usize,
    mask: &AttentionMask<LibTorch>,
) -> Attended<LibTorch> {
    let cuda = on_cuda(&qkv_bte);
    if by_reference::<BF16>(&qkv_bte, heads) {
        return reference::attention::<_, LibTorchKernels<BF16>>(qkv_bte, heads, mask);
    }
    let [b, t, e] = qkv_bte.dims().map(|n| n as i64);
    let Heads { qkv: [q, k, v], bias, causal, scale } = Heads::new::<BF16>(qkv_bte, heads, mask);
    let (out, lse) = if cuda {
        let (out, lse, _, _) = tch::Tensor::internal_scaled_dot_product_efficient_attention(
            &q, &k, &v, bias, true, 0.0, causal, scale,
        );
        (out, lse.narrow(2, 0, t))
    } else {
        tch::Tensor::internal_scaled_dot_product_flash_attention_for_cpu(
            &q, &k, &v, 0.0, causal, bias, scale,
        )
    };
    let out = number::<BF16>(out.transpose(1, 2).reshape([b, t, e / 3]));
    Attended { out_btd: fresh(out), lse_bht: fresh(lse) }
}

/// See [`Kernels::attention_backward`](astropt_core::kernels::Kernels::attention_backward).
pub(super) fn backward<const BF16: bool>(
    qkv_bte: Tensor<LibTorch, 3>,
    attended: Attended<LibTorch>,
    dout_btd: Tensor<LibTorch, 3>,
    heads: usize,
    mask: &AttentionMask<LibTorch>,
) -> Tensor<LibTorch, 3> {
    let cuda = on_cuda(&qkv_bte);
    if by_reference::<BF16>(&qkv_bte, heads) {
        return reference::attention_backward::<_, LibTorchKernels<BF16>>(
            qkv_bte, attended, dout_btd, heads, mask,
        );
    }
    let [b, t, e] = qkv_bte.dims().map(|n| n as i64);
    let split = Heads::new::<BF16>(qkv_bte, heads, mask);
    let (out, dout) = (split.split::<BF16>(attended.out_btd), split.split::<BF16>(dout_btd));
    let lse = raw(attended.lse_bht);
    let Heads { qkv: [q, k, v], bias, causal, scale } = split;
    let gradients = if cuda {
        let pad = (LSE_ALIGNMENT - t % LSE_ALIGNMENT) % LSE_ALIGNMENT;
        let lse = lse.constant_pad_nd([0, pad]).contiguous();
        let bias = bias.as_ref();
        fused::efficient_attention_backward(&dout, [&q, &k, &v], bias, [&out, &lse], causal, scale)
    } else {
        let (dq, dk, dv) =
            tch::Tensor::internal_scaled_dot_product_flash_attention_for_cpu_backward(
                &dout, &q, &k, &v, &out, &lse, 0.0, causal, bias, scale,
            );
        [dq, dk, dv]
    };
    let joined = gradients.map(|gradient| gradient.transpose(1, 2).reshape([b, t, e / 3]));
    fresh(number::<BF16>(tch::Tensor::cat(&joined, 2)))
}

fn on_cuda(x: &Tensor<LibTorch, 3>) -> bool {
    matches!(x.device(), burn_tch::LibTorchDevice::Cuda(_))
}
