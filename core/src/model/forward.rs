//! The forward pass, on the differentiated backend. Where no parameter asks for gradients
//! nothing is kept, so reading hidden states runs the same code.

use std::collections::BTreeMap;

use burn_backend::tensor::Device;
use burn_tensor::{Bool, Int, Tensor, TensorData, activation};

use super::config::{Activation, DELIMITERS, Layer as Linear, MASK_TOKEN, ModelConfig, Tokeniser};
use crate::data::{Batch, Part, Pieces};
use crate::engine::Layer;
use crate::kernels::ops::{self, AttentionLayer, AttentionSettings, MlpLayer};
use crate::kernels::{AttentionMask, Differentiated, Platform};
use crate::tokens::{Positions, Values};

/// Epsilon of every layer norm.
pub(super) const NORM_EPS: f32 = 1e-5;

pub(super) type Float<P, const D: usize> = Tensor<Differentiated<P>, D>;
type Plain<P, const D: usize> = Tensor<<P as Platform>::Backend, D>;

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

/// A batch on the device.
pub(crate) struct DeviceBatch<P: Platform> {
    pub(super) rows: usize,
    len: usize,
    pub(super) mask: AttentionMask<P::Backend>,
    /// Slots of delimiters, and rows of their table.
    delimiters: Vec<(u32, u32)>,
    parts: BTreeMap<String, DevicePart<P>>,
}

/// One modality of a batch on the device.
struct DevicePart<P: Platform> {
    values: Option<Plain<P, 2>>,
    codes: Option<Indices<P>>,
    places: Places<P>,
    input_slots: Option<Vec<u32>>,
    /// `[inputs, 1]`: whether a token is hidden.
    masked: Option<Tensor<Differentiated<P>, 2, Bool>>,
    target_values: Option<Targets<P>>,
    target_codes: Option<Indices<P>>,
    target_slots: Option<Indices<P>>,
    targets: usize,
    share: Option<f32>,
}

/// The losses of a batch, each `[1]`.
pub(crate) struct BatchLosses<P: Platform> {
    /// The mean over modalities, each times its weight.
    pub(crate) total: Float<P, 1>,
    /// Unweighted, by modality.
    pub(crate) modalities: BTreeMap<String, Float<P, 1>>,
    /// What is descended: the total, or the sum of the batch's [shares](Part::share) of a step's.
    pub(crate) descended: Float<P, 1>,
}

type Indices<P> = Tensor<Differentiated<P>, 1, Int>;

/// The values to predict.
enum Targets<P: Platform> {
    /// On their own.
    Own(Plain<P, 2>),
    /// The values after each, and after the last of each row one of these.
    Next(Plain<P, 2>),
}

/// Positions of the tokens of a part.
enum Places<P: Platform> {
    /// Rows of the table, one per token.
    Index(Indices<P>),
    /// The same rows of the table in every row of the batch.
    SameIndex(Indices<P>),
    /// Continuous positions.
    Continuous(Plain<P, 2>),
}

fn floats<P: Platform>(data: Vec<f32>, width: usize, device: &Device<P::Backend>) -> Plain<P, 2> {
    let shape = [data.len() / width, width];
    Tensor::from_data(TensorData::new(data, shape), device)
}

/// Numbers that are on the device, or side by side on the host.
enum Side<P: Platform> {
    Device(Plain<P, 1>),
    Host(Vec<f32>),
}

impl<P: Platform> Side<P> {
    fn of(numbers: Pieces) -> Self {
        let there = numbers.uploaded().and_then(|uploaded| uploaded.tensor());
        there.map_or_else(|| Self::Host(numbers.into_vec()), Self::Device)
    }

    fn tensor(self, width: usize, device: &Device<P::Backend>) -> Plain<P, 2> {
        match self {
            Self::Device(tensor) => {
                let rows = tensor.dims()[0] / width;
                tensor.reshape([rows, width])
            }
            Self::Host(numbers) => floats::<P>(numbers, width, device),
        }
    }
}

fn integers<P: Platform>(data: &[u32], device: &Device<P::Backend>) -> Indices<P> {
    let data: Vec<i64> = data.iter().map(|&x| i64::from(x)).collect();
    let shape = [data.len()];
    Tensor::from_data(TensorData::new(data, shape), device)
}

impl<P: Platform> DeviceBatch<P> {
    /// Uploads `batch` for `model`.
    pub(crate) fn new(batch: Batch, model: &ModelConfig, device: &Device<P::Backend>) -> Self {
        let Batch { rows, len, parts, delimiters, sight, .. } = batch;
        let per_slot = |numbers: Vec<u32>| {
            let data: Vec<i64> = numbers.into_iter().map(i64::from).collect();
            Tensor::from_data(TensorData::new(data, [rows, len]), device)
        };
        let mask = AttentionMask {
            causal: !sight.full,
            documents_bt: sight.documents.map(per_slot),
            reach_bt: sight.reach.map(per_slot),
        };
        let parts = parts.into_iter().map(|(name, part)| {
            let part = DevicePart::new(part, [rows, len], &model.modalities[&name], device);
            (name, part)
        });
        Self { rows, len, mask, delimiters, parts: parts.collect() }
    }
}

impl<P: Platform> DevicePart<P> {
    fn new(
        part: Part,
        [rows, len]: [usize; 2],
        spec: &crate::tokens::TokenSpec,
        device: &Device<P::Backend>,
    ) -> Self {
        let shifted = part.is_shifted(rows);
        let inputs = part.inputs;
        let (mut values, mut codes, mut target_values, mut target_codes) = (None, None, None, None);
        match spec.values {
            Values::Continuous { width } => {
                let others = if shifted { part.lasts } else { part.target_values };
                let (read, others) =
                    rayon::join(|| Side::<P>::of(inputs.values), || Side::<P>::of(others));
                values = Some(read.tensor(width, device));
                let others = others.tensor(width, device);
                target_values =
                    Some(if shifted { Targets::Next(others) } else { Targets::Own(others) });
            }
            Values::Codes { .. } => {
                codes = Some(integers::<P>(&inputs.codes, device));
                target_codes = Some(integers::<P>(&part.target_codes, device));
            }
        }
        let places = match spec.positions {
            Positions::Continuous { width } => {
                Places::Continuous(floats::<P>(inputs.positions, width, device))
            }
            Positions::Index { .. } => {
                let first_row = &inputs.indices[..len.min(inputs.indices.len())];
                let same = part.input_slots.is_none()
                    && inputs.indices.chunks(len).all(|row| row == first_row);
                if same {
                    Places::SameIndex(integers::<P>(first_row, device))
                } else {
                    Places::Index(integers::<P>(&inputs.indices, device))
                }
            }
        };
        Self {
            values,
            codes,
            places,
            input_slots: part.input_slots,
            masked: (!part.masked.is_empty()).then(|| {
                let shape = [part.masked.len(), 1];
                Tensor::from_data(TensorData::new(part.masked, shape), device)
            }),
            target_values,
            target_codes,
            target_slots: part.target_slots.as_ref().map(|slots| integers::<P>(slots, device)),
            targets: part.targets,
            share: part.share,
        }
    }
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
    part: &DevicePart<P>,
    rows: usize,
    model: &ModelConfig,
    weights: &Weights<P>,
) -> Float<P, 2> {
    let spec = &model.modalities[name];
    let encoder = format!("encoders.{name}");
    let x_nd = match (&part.values, &part.codes) {
        (Some(values), _) => layers(
            Tensor::from_inner(values.clone()),
            &model.tokeniser.encoder(values.dims()[1], model.width),
            &encoder,
            weights,
        ),
        (None, Some(codes)) => {
            weights.matrix(&format!("{encoder}.wpe.weight")).select(0, codes.clone())
        }
        (None, None) => unreachable!("a part has values or codes: {spec:?}"),
    };
    let x_nd = match &part.masked {
        None => x_nd,
        Some(masked_n1) => {
            let [n, d] = x_nd.dims();
            let mask_nd = weights.vector(MASK_TOKEN).reshape([1, d]).expand([n, d]);
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
        Places::Index(indices) => x_nd + table().select(0, indices.clone()),
        Places::SameIndex(indices) => {
            let [n, d] = x_nd.dims();
            let positions_1td = table().select(0, indices.clone()).unsqueeze::<3>();
            (x_nd.reshape([rows, n / rows, d]) + positions_1td).reshape([n, d])
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
    for (name, part) in &batch.parts {
        let x_nd = embed_part(name, part, batch.rows, model, weights);
        match &part.input_slots {
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
    let device = parts[0].device();
    parts.push(Tensor::zeros([1, model.width], &device)); // what an empty slot reads
    let sources: Vec<u32> = source_of_slot.iter().map(|s| s.unwrap_or(offset as u32)).collect();
    Tensor::cat(parts, 0).select(0, integers::<P>(&sources, &device))
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
    ops::layer_norm::<P>(x_nd, weights.vector("transformer.ln_f.weight"), NORM_EPS)
}

/// For each modality with targets, the decoder's outputs `[targets, width]` from the final
/// states `[b·t, d]`.
pub(crate) fn decode<P: Platform>(
    states_nd: &Float<P, 2>,
    batch: &DeviceBatch<P>,
    model: &ModelConfig,
    weights: &Weights<P>,
) -> BTreeMap<String, Float<P, 2>> {
    let with_targets = batch.parts.iter().filter(|(_, part)| part.targets > 0);
    let outputs = with_targets.map(|(name, part)| {
        let hidden_kd = match &part.target_slots {
            None => states_nd.clone(),
            Some(slots) => states_nd.clone().select(0, slots.clone()),
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
        let part = &batch.parts[&name];
        let loss = match (&part.target_values, &part.values, &part.target_codes) {
            (Some(Targets::Own(targets)), ..) => ops::huber::<P>(output, targets.clone()),
            (Some(Targets::Next(lasts)), Some(values), _) => {
                ops::huber_next::<P>(output, values.clone(), lasts.clone())
            }
            (None, _, Some(codes)) => cross_entropy::<P>(output, codes.clone()),
            _ => unreachable!("a part has values or codes"),
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

fn sum<P: Platform>(mut losses: Vec<Float<P, 1>>) -> Float<P, 1> {
    if losses.len() == 1 { losses.remove(0) } else { Tensor::cat(losses, 0).sum() }
}

/// Mean over targets of -log softmax(logits)[code].
fn cross_entropy<P: Platform>(logits_kv: Float<P, 2>, codes_k: Indices<P>) -> Float<P, 1> {
    let logp_kv = activation::log_softmax(logits_kv, 1);
    logp_kv.gather(1, codes_k.unsqueeze_dim(1)).mean().neg()
}
