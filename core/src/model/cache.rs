//! Reading a row piece by piece: the keys and values of what was read are kept, so that a
//! new token costs one token's work and its attention, not the whole row's again.

use burn_tensor::{Bool, Tensor, activation};

use super::config::ModelConfig;
use super::device::DeviceBatch;
use super::forward::{
    Float, NORM_EPS, Weights, attention_layer, block_mlp, decode_as, embed, final_norm,
};
use crate::kernels::ops::AttentionLayer;
use crate::kernels::{AttentionMask, Kernels, Platform};

type Plain<P, const D: usize> = Tensor<<P as Platform>::Backend, D>;

/// What is kept of the tokens read so far, the same number in every row.
pub(crate) struct Cache<P: Platform> {
    /// Per block, keys and values `[b, h, t, s]`.
    blocks: Vec<[Plain<P, 4>; 2]>,
    /// Final states of the last token of each row, `[b, d]`.
    last_bd: Option<Float<P, 2>>,
}

impl<P: Platform> Cache<P> {
    /// Nothing read yet.
    pub(crate) fn new() -> Self {
        Self { blocks: Vec::new(), last_bd: None }
    }

    /// Number of rows being read; 0 before the first token.
    pub(crate) fn rows(&self) -> usize {
        self.last_bd.as_ref().map_or(0, |last_bd| last_bd.dims()[0])
    }

    /// Reads the tokens of `batch`, which go on where the rows ended. Every slot of the
    /// batch must be filled.
    pub(crate) fn read(
        &mut self,
        batch: &DeviceBatch<P>,
        model: &ModelConfig,
        weights: &Weights<P>,
    ) {
        let mut x_nd = embed(batch, model, weights);
        for index in 0..model.layers {
            let layer = attention_layer(index, weights);
            let layer = AttentionLayer {
                gain_d: layer.gain_d.inner(),
                enter_ed: layer.enter_ed.inner(),
                leave_dd: layer.leave_dd.inner(),
            };
            let x_plain_nd = x_nd.inner();
            let [n, d] = x_plain_nd.dims();
            let (_, qkv_ne) = layer.project::<P::Kernels>(x_plain_nd.clone(), NORM_EPS);
            let qkv_bte = qkv_ne.reshape([batch.rows, n / batch.rows, 3 * d]);
            let out_nd = self.attend(index, qkv_bte, model.heads, &batch.mask).reshape([n, d]);
            let y_nd = P::Kernels::linear_onto(out_nd, layer.leave_dd, x_plain_nd);
            x_nd = block_mlp(Tensor::from_inner(y_nd), index, weights);
        }
        let [n, d] = x_nd.dims();
        let len = n / batch.rows;
        let last_b1d = x_nd.reshape([batch.rows, len, d]).narrow(1, len - 1, 1);
        self.last_bd = Some(final_norm(last_b1d.reshape([batch.rows, d]), weights));
    }

    /// What the modality `name`'s decoder makes of the last token: the next one.
    pub(crate) fn predict_next(
        &self,
        name: &str,
        model: &ModelConfig,
        weights: &Weights<P>,
    ) -> Option<Float<P, 2>> {
        self.last_bd.clone().map(|last_bd| decode_as(name, last_bd, model, weights))
    }

    /// Attention of new tokens to those in the cache and, causally, to each other; of the
    /// first tokens to each other as `mask` says.
    fn attend(
        &mut self,
        index: usize,
        qkv_bte: Plain<P, 3>,
        heads: usize,
        mask: &AttentionMask<P::Backend>,
    ) -> Plain<P, 3> {
        let [b, t, e] = qkv_bte.dims();
        let d = e / 3;
        let part = |k: usize| {
            let x_btd = qkv_bte.clone().narrow(2, k * d, d);
            x_btd.reshape([b, t, heads, d / heads]).swap_dims(1, 2)
        };
        let [q_bhts, k_bhts, v_bhts] = [0, 1, 2].map(part);
        let Some(kept) = self.blocks.get_mut(index) else {
            self.blocks.push([k_bhts, v_bhts]);
            return P::Kernels::attention(qkv_bte, heads, mask).out_btd;
        };
        kept[0] = Tensor::cat(vec![kept[0].clone(), k_bhts], 2);
        kept[1] = Tensor::cat(vec![kept[1].clone(), v_bhts], 2);
        let [k_bhus, v_bhus] = kept.clone();
        let all = k_bhus.dims()[2];
        let scale = 1.0 / ((d / heads) as f32).sqrt();
        let scores_bhtu = P::Kernels::product(q_bhts, k_bhus.transpose()).mul_scalar(scale);
        // New token k sees the cache, the new tokens before it, and itself.
        let hidden_tu =
            Tensor::<_, 2, Bool>::tril_mask([t, all], (all - t) as i64, &scores_bhtu.device());
        let hidden_bhtu = hidden_tu.unsqueeze::<4>().expand([b, heads, t, all]);
        let weights_bhtu =
            activation::softmax(scores_bhtu.mask_fill(hidden_bhtu, f32::NEG_INFINITY), 3);
        P::Kernels::product(weights_bhtu, v_bhus).swap_dims(1, 2).reshape([b, t, d])
    }
}
