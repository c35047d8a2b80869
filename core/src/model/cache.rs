//! Reading a row piece by piece: the keys and values of what was read are kept, so that a
//! new token costs one token's work and its attention, not the whole row's again.

use burn_tensor::{Bool, Tensor, activation};

use super::config::ModelConfig;
use super::forward::{DeviceBatch, Float, Weights, block_with, decode_as, embed, final_norm};
use crate::kernels::{AttentionMask, Platform, ops};

/// What is kept of the tokens read so far, the same number in every row.
pub(crate) struct Cache<P: Platform> {
    /// Per block, keys and values `[b, h, t, s]`.
    blocks: Vec<[Float<P, 4>; 2]>,
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
            let attend = |qkv_bte| self.attend(index, qkv_bte, model.heads);
            x_nd = block_with(x_nd, index, batch.rows, weights, attend);
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

    /// Attention of new tokens to those in the cache and, causally, to each other.
    fn attend(&mut self, index: usize, qkv_bte: Float<P, 3>, heads: usize) -> Float<P, 3> {
        let [b, t, e] = qkv_bte.dims();
        let d = e / 3;
        let part = |k: usize| {
            let x_btd = qkv_bte.clone().narrow(2, k * d, d);
            x_btd.reshape([b, t, heads, d / heads]).swap_dims(1, 2)
        };
        let [q_bhts, k_bhts, v_bhts] = [0, 1, 2].map(part);
        let Some(kept) = self.blocks.get_mut(index) else {
            self.blocks.push([k_bhts, v_bhts]);
            return ops::attention::<P>(qkv_bte, heads, &AttentionMask::causal());
        };
        kept[0] = Tensor::cat(vec![kept[0].clone(), k_bhts], 2);
        kept[1] = Tensor::cat(vec![kept[1].clone(), v_bhts], 2);
        let [k_bhus, v_bhus] = kept.clone();
        let all = k_bhus.dims()[2];
        let scale = 1.0 / ((d / heads) as f32).sqrt();
        let scores_bhtu = q_bhts.matmul(k_bhus.transpose()).mul_scalar(scale);
        // New token k sees the cache, the new tokens before it, and itself.
        let hidden_tu =
            Tensor::<_, 2, Bool>::tril_mask([t, all], (all - t) as i64, &scores_bhtu.device());
        let hidden_bhtu = hidden_tu.unsqueeze::<4>().expand([b, heads, t, all]);
        let weights_bhtu =
            activation::softmax(scores_bhtu.mask_fill(hidden_bhtu, f32::NEG_INFINITY), 3);
        weights_bhtu.matmul(v_bhus).swap_dims(1, 2).reshape([b, t, d])
    }
}
