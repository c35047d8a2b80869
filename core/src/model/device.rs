//! A batch on the device.

use std::collections::BTreeMap;

use burn_backend::tensor::Device;
use burn_tensor::{Bool, Int, Tensor, TensorData};

use super::ModelConfig;
use crate::data::{Batch, Inputs, Pieces};
use crate::kernels::{AttentionMask, Differentiated, Platform};
use crate::tokens::{Positions, TokenSpec, Values};

type Plain<P, const D: usize> = Tensor<<P as Platform>::Backend, D>;

pub(super) type Indices<P> = Tensor<<P as Platform>::Backend, 1, Int>;

/// A batch on the device. What a modality has none of is left out: some devices take no empty
/// tensors.
pub(crate) struct DeviceBatch<P: Platform> {
    pub(super) rows: usize,
    pub(super) len: usize,
    pub(super) mask: AttentionMask<P::Backend>,
    /// Slots of delimiters, and rows of their table.
    pub(super) delimiters: Vec<(u32, u32)>,
    /// By modality, the tokens that the model reads.
    pub(super) read: BTreeMap<String, Read<P>>,
    /// By modality, those that it is to predict.
    pub(super) asked: BTreeMap<String, Asked<P>>,
}

/// The tokens of a modality that the model reads.
pub(super) struct Read<P: Platform> {
    pub(super) tokens: Tokens<P>,
    pub(super) places: Places<P>,
    /// Where each stands; `None`: they fill the grid.
    pub(super) slots: Option<Vec<u32>>,
    /// `[inputs, 1]`: whether a token is hidden.
    pub(super) masked: Option<Tensor<Differentiated<P>, 2, Bool>>,
}

/// What tokens are.
pub(super) enum Tokens<P: Platform> {
    Values(Plain<P, 2>),
    Codes(Indices<P>),
}

/// The tokens of a modality that are to be predicted.
pub(super) struct Asked<P: Platform> {
    pub(super) targets: Targets<P>,
    /// Slots that predict them; `None`: all.
    pub(super) slots: Option<Indices<P>>,
    pub(super) share: Option<f32>,
}

/// What is to be predicted.
pub(super) enum Targets<P: Platform> {
    /// These values.
    Own(Plain<P, 2>),
    /// The values after each of the first, and after the last of each row one of the second.
    Next(Plain<P, 2>, Plain<P, 2>),
    Codes(Indices<P>),
}

/// Positions of the tokens of a part.
pub(super) enum Places<P: Platform> {
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

pub(super) fn integers<P: Platform>(data: &[u32], device: &Device<P::Backend>) -> Indices<P> {
    let data: Vec<i64> = data.iter().map(|&x| i64::from(x)).collect();
    let shape = [data.len()];
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
        let (mut read, mut asked) = (BTreeMap::new(), BTreeMap::new());
        for (name, part) in parts {
            let spec = &model.modalities[&name];
            let shifted = part.is_shifted(rows);
            let Inputs { len: count, values, codes, indices, positions } = part.inputs;
            let (there, wanted) = (count > 0, part.targets > 0);
            let (tokens, targets) = match spec.values {
                Values::Continuous { width } => {
                    let others = if shifted { part.lasts } else { part.target_values };
                    let (own, others) =
                        rayon::join(|| Side::<P>::of(values), || Side::<P>::of(others));
                    let values = there.then(|| own.tensor(width, device));
                    let targets = wanted.then(|| others.tensor(width, device));
                    let targets = targets.map(|others| match (&values, shifted) {
                        (Some(values), true) => Targets::Next(values.clone(), others),
                        _ => Targets::Own(others),
                    });
                    (values.map(Tokens::Values), targets)
                }
                Values::Codes { .. } => (
                    there.then(|| Tokens::Codes(integers::<P>(&codes, device))),
                    wanted.then(|| Targets::Codes(integers::<P>(&part.target_codes, device))),
                ),
            };
            if let Some(tokens) = tokens {
                let full = part.input_slots.is_none();
                let places = Places::new(&indices, positions, full.then_some(len), spec, device);
                let masked = (!part.masked.is_empty()).then(|| {
                    let shape = [part.masked.len(), 1];
                    Tensor::from_data(TensorData::new(part.masked, shape), device)
                });
                let one = Read { tokens, places, slots: part.input_slots, masked };
                read.insert(name.clone(), one);
            }
            if let Some(targets) = targets {
                let slots = part.target_slots.map(|slots| integers::<P>(&slots, device));
                asked.insert(name, Asked { targets, slots, share: part.share });
            }
        }
        Self { rows, len, mask, delimiters, read, asked }
    }
}

impl<P: Platform> Places<P> {
    /// Those of a part's tokens; `row` is the length of rows that they fill.
    fn new(
        indices: &[u32],
        positions: Vec<f32>,
        row: Option<usize>,
        spec: &TokenSpec,
        device: &Device<P::Backend>,
    ) -> Self {
        match (spec.positions, row) {
            (Positions::Continuous { width }, _) => {
                Self::Continuous(floats::<P>(positions, width, device))
            }
            (Positions::Index { .. }, Some(len))
                if indices.chunks(len).all(|row| *row == indices[..len]) =>
            {
                Self::SameIndex(integers::<P>(&indices[..len], device))
            }
            (Positions::Index { .. }, _) => Self::Index(integers::<P>(indices, device)),
        }
    }
}
