//! Token streams: objects' spans chained into sequences, sequences into the rows of a batch.
//!
//! The token at position i of a sequence predicts the token at i + 1, whatever modality that
//! is, through that modality's decoder: the last token of one span prompts the first of
//! the next, and the last token of a sequence predicts nothing. Where tokens are masked
//! each is predicted at its own place.

use std::collections::BTreeMap;

use super::assembly::Assembly;
use super::draw::Drawn;
use super::pieces::Pieces;
use super::sequence::{Sequence, Task};
use super::uploads::Uploads;
use crate::error::Result;
use crate::tokens::{TokenSpec, Tokens};

/// The spans of one object in stream order: modality name and tokens.
pub type Row = Vec<(String, Tokens)>;

/// Rows of tokens, ready for the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Number of rows, B.
    pub rows: usize,
    /// Slots per row, T; shorter rows are padded at their end.
    pub len: usize,
    /// Inputs and targets by modality, in alphabetical order.
    pub parts: BTreeMap<String, Part>,
    /// Ids of the objects, row after row.
    pub ids: Vec<String>,
    /// The draws of training that its objects are, in the order of their positions; empty in
    /// batches that are no training's.
    pub drawn: Vec<Drawn>,
    /// Slots of delimiters, and which: 2k begins a span of modality k (in alphabetical
    /// order), 2k + 1 ends it.
    pub delimiters: Vec<(u32, u32)>,
    /// Which slots see which.
    pub sight: Sight,
}

/// Which slots of a row see which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// A slot sees those after it too.
    pub full: bool,
    /// `[B T]` number of the sequence in each slot, 0 in padding: slots see only their own.
    /// `None`: a row is one sequence, and padding is out of sight.
    pub documents: Option<Vec<u32>>,
    /// `[B T]`: each slot also sees its row's first so many slots.
    pub reach: Option<Vec<u32>>,
}

/// The tokens of one modality in a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// Tokens the model reads, all rows one after the other.
    pub inputs: Inputs,
    /// Where in the B x T grid (row·T + position) each input stands. `None`: input k is
    /// at slot k and the grid is full.
    pub input_slots: Option<Vec<u32>>,
    /// For each input whether the model sees a mask in its place. Empty: none is masked.
    pub masked: Vec<bool>,
    /// Number of tokens to predict.
    pub targets: usize,
    /// What the mean loss over them counts in the batch's loss, before the modality's weight.
    /// `None`: modalities count alike, and together one.
    pub share: Option<f32>,
    /// `[targets]` the place of each target within its span.
    pub target_tokens: Vec<u32>,
    /// `[targets, width]` values to predict; empty for codes.
    pub target_values: Pieces,
    /// `[targets]` codes to predict; empty for continuous values.
    pub target_codes: Vec<u32>,
    /// `[spans, width]` values of the last token of each span whose tokens are predicted from
    /// those before; with the inputs they hold all targets where the part
    /// [is shifted](Self::is_shifted).
    pub lasts: Pieces,
    /// Slot of the token that predicts each target. `None`: target k is predicted at
    /// slot k and every slot predicts.
    pub target_slots: Option<Vec<u32>>,
}

/// The tokens of one modality that the model reads; as [`Tokens`], of many objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// Number of tokens.
    pub len: usize,
    /// `[len, width]` numbers, where the objects hold them; empty for codes.
    pub values: Pieces,
    /// `[len]` codes; empty for continuous values.
    pub codes: Vec<u32>,
    /// `[len]` rows of the position table; empty for continuous positions.
    pub indices: Vec<u32>,
    /// `[len, width]` continuous positions; empty for indices.
    pub positions: Vec<f32>,
}

impl Part {
    /// Whether the targets of each of the `rows` are the inputs after its first and then its
    /// one of [`lasts`](Self::lasts), so that a device needs no copy of them.
    pub(crate) fn is_shifted(&self, rows: usize) -> bool {
        let (inputs, lasts) = (&self.inputs, self.lasts.len());
        // One modality fills the grid, and every row is one sequence.
        self.input_slots.is_none()
            && self.target_slots.is_none()
            && self.targets == inputs.len
            && lasts > 0
            && lasts * inputs.len == rows * inputs.values.len()
    }
}

/// What a batch of plain rows is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Next-token prediction: the last token of a row is a target and no input.
    Predict,
    /// Reading hidden states: every token is an input and there are no targets.
    Read,
}

impl Batch {
    /// Chains `rows` (with their objects' ids), one to a row, without delimiters and with
    /// causal attention. `specs` describes the tokens of every modality that may occur.
    ///
    /// # Errors
    /// As [`Assembly::batch`].
    pub fn assemble(
        rows: &[(String, Row)],
        specs: &BTreeMap<String, TokenSpec>,
        purpose: Purpose,
    ) -> Result<Self> {
        let task = || match purpose {
            Purpose::Predict => Task::Next,
            Purpose::Read => Task::Read,
        };
        let sequences: Vec<_> =
            rows.iter().map(|(id, spans)| Sequence { id, spans, task: task() }).collect();
        let assembly = Assembly { specs, delimiters: false, full: false, row_length: None };
        assembly.batch(&sequences)
    }

    /// Puts the numbers of each modality side by side, as a device fetches them.
    pub fn gather(&mut self) {
        self.numbers().for_each(Pieces::gather);
    }

    /// Brings the numbers of each modality onto a device, before they are wanted there; those that
    /// it has no room for are [gathered](Self::gather).
    ///
    /// # Errors
    /// When the device fails.
    pub fn upload(&mut self, uploads: &dyn Uploads) -> Result<()> {
        self.numbers().try_for_each(|numbers| numbers.upload(uploads))
    }

    /// The numbers that a device needs.
    fn numbers(&mut self) -> impl Iterator<Item = &mut Pieces> {
        let rows = self.rows;
        self.parts.values_mut().flat_map(move |part| {
            let shifted = part.is_shifted(rows);
            let others = if shifted { &mut part.lasts } else { &mut part.target_values };
            [&mut part.inputs.values, others]
        })
    }

    /// Number of slots, rows times slots per row, padding included.
    pub fn slots(&self) -> usize {
        self.rows * self.len
    }

    /// For each row the slots within it that hold tokens, ascending; delimiters and padding
    /// left out.
    pub fn token_slots(&self) -> Vec<Vec<usize>> {
        let mut out = vec![Vec::new(); self.rows];
        for part in self.parts.values() {
            let all = 0..part.inputs.len as u32;
            let slots = part.input_slots.clone().unwrap_or_else(|| all.collect());
            for slot in slots.into_iter().map(|slot| slot as usize) {
                out[slot / self.len].push(slot % self.len);
            }
        }
        out.iter_mut().for_each(|row| row.sort_unstable());
        out
    }

    /// One modality that fills the grid needs no gathering: says so with `None`.
    pub(super) fn drop_identity_slots(&mut self) {
        let grid = self.rows * self.len;
        let identity = |slots: &Option<Vec<u32>>| {
            slots.as_ref().is_some_and(|slots| {
                slots.len() == grid && slots.iter().enumerate().all(|(k, &s)| k == s as usize)
            })
        };
        for part in self.parts.values_mut() {
            if identity(&part.input_slots) {
                part.input_slots = None;
            }
            if identity(&part.target_slots) {
                part.target_slots = None;
            }
        }
    }
}
