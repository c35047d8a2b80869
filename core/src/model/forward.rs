//! The forward pass, on the differentiated backend. Where no parameter asks for gradients
//! nothing is kept, so reading hidden states runs the same code.

use std::collections::BTreeMap;

use burn_tensor::Tensor;

use super::config::{Activation, DELIMITERS, Layer as Linear, MASK_TOKEN, ModelConfig, Tokeniser};
use super::device::{DeviceBatch, Places, Read, Targets, Tokens, integers};
use crate::engine::Layer;
use crate::kernels::ops::{self, AttentionLayer, AttentionSettings, MlpLayer};
use crate::kernels::{Differentiated, Platform};
use crate::tokens::Values;

/// Gain of the last layer norm.
const FINAL_GAIN: &str = "transformer.ln_f.weight";
/// Epsilon of every layer norm.
pub(super) const NORM_EPS: f32 = 1e-5;

pub(super) type Float<P, const D: usize> = Tensor<Differentiated<P>, D>;

/// The parameters of one forward pass, by name, as leaves of the graph.
pub(crate) struct Weights<P: Platform> {
    pub(crate) vectors: BTreeMap<String, Float<P, 1>>,
    pub(crate) matrices: BTreeMap<String, Float<P, 2>>,
    /// Whether backward runs the blocks' forward again instead of keeping what it made
    /// (Chen et al. 2016, arXiv:1604.06174).
    pub(crate) recompute: bool,
}

impl<P: Platform> Weights<P> {
    fn vector(&self, name: &str) -> Float<P, 1> {
        self.vectors[name].clone()
    }

    fn matrix(&self, name: &str) -> Float<P, 2> {
        self.matrices[name].clone()
    }
}

/// The losses of a batch, each `[1]`.
pub(crate) struct BatchLosses<P: Platform> {
    /// The mean over modalities, each times its weight.
    pub(crate) total: Float<P, 1>,
    /// Unweighted, by modality.
    pub(crate) modalities: BTreeMap<String, Float<P, 1>>,
    /// What is descended: the total, or the sum of the batch's
    /// [shares](crate::data::Part::share) of a step's.
    pub(crate) descended: Float<P, 1>,
}

/// `prefix`'s layers one after the other.
fn layers<P: Platform>(
    mut x_ni: Float<P, 2>,
    layers: &[Linear],
    prefix: &str,
    weights: &Weights<P>,
) -> Float<P, 2> {
    let weight = |layer: &Linear| weights.matrix(&format!("{prefix}.{}.weight", layer.name));
    if let [enter, leave] = layers
        && [enter.activation, leave.activation] == [Activation::Gelu, Activation::None]
    {
        let layer = MlpLayer { norm: None, enter_fi: weight(enter), leave_of: weight(leave) };
        return ops::mlp::<P>(x_ni, layer, weights.recompute);
    }
    for layer in layers {
        let bias = layer.bias.then(|| weights.vector(&format!("{prefix}.{}.bias", layer.name)));
        x_ni = ops::linear::<P>(x_ni, weight(layer), bias);
        x_ni = match layer.activation {
            Activation::None => x_ni,
            Activation::Relu => ops::relu::<P>(x_ni),
            Activation::Gelu => unreachable!("a GELU stands between two layers without biases"),
        };
    }
    x_ni
}

/// Encoded tokens plus positions of one modality, `[inputs, d]`.
fn embed_part<P: Platform>(
    name: &str,
    part: &Read<P>,
    rows: usize,
    model: &ModelConfig,
    weights: &Weights<P>,
) -> Float<P, 2> {
    let encoder = format!("encoders.{name}");
    let x_nd = match &part.tokens {
        Tokens::Values(values) => layers(
            Tensor::from_inner(values.clone()),
            &model.tokeniser.encoder(values.dims()[1], model.width),
            &encoder,
            weights,
        ),
        Tokens::Codes(codes) => {
            ops::select::<P>(weights.matrix(&format!("{encoder}.wpe.weight")), codes.clone())
        }
    };
    let x_nd = match &part.masked {
        None => x_nd,
        Some(masked_n1) => {
            let [n, d] = x_nd.dims();
            let mask_nd = ops::rows::<P>(weights.vector(MASK_TOKEN), n);
            x_nd.mask_where(masked_n1.clone().expand([n, d]), mask_nd)
        }
    };
    let table = || weights.matrix(&format!("embedders.{name}.wpe.weight"));
    match &part.places {
        Places::Continuous(positions) => {
            let encoder = model.tokeniser.encoder(positions.dims()[1], model.width);
            let positions = Tensor::from_inner(positions.clone());
            x_nd + layers(positions, &encoder, &format!("embedders.{name}"), weights)
        }
        Places::Index(indices) => x_nd + ops::select::<P>(table(), indices.clone()),
        Places::SameIndex(indices) => {
            let [n, d] = x_nd.dims();
            let of_row = n / rows * d;
            let positions = ops::select::<P>(table(), indices.clone()).reshape([of_row]);
            (x_nd.reshape([rows, of_row]) + ops::rows::<P>(positions, rows)).reshape([n, d])
        }
    }
}

/// The residual stream at the entrance of the first block, `[b·t, d]`; zero in slots that
/// no token fills.
pub(crate) fn embed<P: Platform>(
    batch: &DeviceBatch<P>,
    model: &ModelConfig,
    weights: &Weights<P>,
) -> Float<P, 2> {
    let mut parts = Vec::new();
    let mut source_of_slot = vec![None; batch.rows * batch.len];
    let mut offset = 0;
    for (name, part) in &batch.read {
        let x_nd = embed_part(name, part, batch.rows, model, weights);
        match &part.slots {
            None => return x_nd, // this modality fills the grid
            Some(slots) => {
                for (k, &slot) in slots.iter().enumerate() {
                    source_of_slot[slot as usize] = Some((offset + k) as u32);
                }
            }
        }
        offset += x_nd.dims()[0];
        parts.push(x_nd);
    }
    if !batch.delimiters.is_empty() {
        for &(slot, which) in &batch.delimiters {
            source_of_slot[slot as usize] = Some(offset as u32 + which);
        }
        let table = weights.matrix(DELIMITERS);
        offset += table.dims()[0];
        parts.push(table);
    }
    let device = weights.vector(FINAL_GAIN).device();
    parts.push(Tensor::zeros([1, model.width], &device)); // what an empty slot reads
    let sources: Vec<u32> = source_of_slot.iter().map(|s| s.unwrap_or(offset as u32)).collect();
    ops::select::<P>(Tensor::cat(parts, 0), integers::<P>(&sources, &device))
}

/// Parameters of the attention half of block `index`.
pub(super) fn attention_layer<P: Platform>(
    index: usize,
    weights: &Weights<P>,
) -> AttentionLayer<Differentiated<P>> {
    let name = |part: &str| format!("transformer.h.{index}.{part}.weight");
    AttentionLayer {
        gain_d: weights.vector(&name("ln_1")),
        enter_ed: weights.matrix(&name("attn.c_attn")),
        leave_dd: weights.matrix(&name("attn.c_proj")),
    }
}

/// The other half of block `index`.
pub(super) fn block_mlp<P: Platform>(
    x_nd: Float<P, 2>,
    index: usize,
    weights: &Weights<P>,
) -> Float<P, 2> {
    let name = |part: &str| format!("transformer.h.{index}.{part}.weight");
    let layer = MlpLayer {
        norm: Some((weights.vector(&name("ln_2")), NORM_EPS)),
        enter_fi: weights.matrix(&name("mlp.c_fc")),
        leave_of: weights.matrix(&name("mlp.c_proj")),
    };
    ops::mlp::<P>(x_nd, layer, weights.recompute)
}

/// Hidden states `[b·t, d]` at `layer`; the blocks after it are not run.
pub(crate) fn states<P: Platform>(
    batch: &DeviceBatch<P>,
    model: &ModelConfig,
    weights: &Weights<P>,
    layer: Layer,
) -> Float<P, 2> {
    let mut x_nd = embed(batch, model, weights);
    let blocks = match layer {
        Layer::Block(index) => model.layers.min(index + 1),
        Layer::Final => model.layers,
    };
    let settings = AttentionSettings {
        heads: model.heads,
        mask: batch.mask.clone(),
        eps: NORM_EPS,
        recompute: weights.recompute,
    };
    for index in 0..blocks {
        x_nd = ops::attention::<P>(x_nd, batch.rows, attention_layer(index, weights), &settings);
        x_nd = block_mlp(x_nd, index, weights);
    }
    match layer {
        Layer::Block(_) => x_nd,
        Layer::Final => final_norm(x_nd, weights),
    }
}

/// The norm after the last block.
pub(crate) fn final_norm<P: Platform>(x_nd: Float<P, 2>, weights: &Weights<P>) -> Float<P, 2> {
    ops::layer_norm::<P>(x_nd, weights.vector(FINAL_GAIN), NORM_EPS)
}

/// For each modality with targets, the decoder's outputs `[targets, width]` from the final
/// states `[b·t, d]`.
pub(crate) fn decode<P: Platform>(
    states_nd: &Float<P, 2>,
    batch: &DeviceBatch<P>,
    model: &ModelConfig,
    weights: &Weights<P>,
) -> BTreeMap<String, Float<P, 2>> {
    let outputs = batch.asked.iter().map(|(name, part)| {
        let hidden_kd = match &part.slots {
            None => states_nd.clone(),
            Some(slots) => ops::select::<P>(states_nd.clone(), slots.clone()),
        };
        (name.clone(), decode_as(name, hidden_kd, model, weights))
    });
    outputs.collect()
}

/// Final states through the decoder of the modality `name`.
pub(super) fn decode_as<P: Platform>(
    name: &str,
    states_kd: Float<P, 2>,
    model: &ModelConfig,
    weights: &Weights<P>,
) -> Float<P, 2> {
    let decoder = match model.modalities[name].values {
        Values::Continuous { width } => model.tokeniser.decoder(width, model.width),
        Values::Codes { vocabulary } => Tokeniser::Affine.decoder(vocabulary, model.width),
    };
    layers(states_kd, &decoder, &format!("decoders.{name}"), weights)
}

/// The losses of the decoders' outputs.
pub(crate) fn losses<P: Platform>(
    outputs: BTreeMap<String, Float<P, 2>>,
    batch: &DeviceBatch<P>,
    model: &ModelConfig,
) -> BatchLosses<P> {
    let mut modalities = BTreeMap::new();
    let (mut weighted, mut shares) = (Vec::new(), Vec::new());
    for (name, output) in outputs {
        let part = &batch.asked[&name];
        let loss = match &part.targets {
            Targets::Own(targets) => ops::huber::<P>(output, targets.clone()),
            Targets::Next(values, lasts) => {
                ops::huber_next::<P>(output, values.clone(), lasts.clone())
            }
            Targets::Codes(codes) => ops::cross_entropy::<P>(output, codes.clone()),
        };
        let weight = model.modalities[&name].loss_weight;
        weighted.push(loss.clone().mul_scalar(weight));
        shares.extend(part.share.map(|share| loss.clone().mul_scalar(weight * share)));
        modalities.insert(name, loss);
    }
    let shared = shares.len() == weighted.len();
    let count = weighted.len() as f32;
    let total = sum::<P>(weighted).div_scalar(count);
    let descended = if shared { sum::<P>(shares) } else { total.clone() };
    BatchLosses { total, modalities, descended }
}

/// One after the other, for the same sum every time. There is one at least.
fn sum<P: Platform>(losses: Vec<Float<P, 1>>) -> Float<P, 1> {
    let mut losses = losses.into_iter();
    let first = losses.next().expect("a batch asks for something");
    losses.fold(first, |sum, loss| sum + loss)
}
