//! Token streams: objects' spans chained into rows, rows into a batch.
//!
//! The token at position i of a row predicts the token at i + 1, whatever modality that
//! is, through that modality's decoder: the last token of one span prompts the first of
//! the next, and the last token of a row predicts nothing.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::tokens::{TokenSpec, Tokens};

/// The spans of one object in stream order: modality name and tokens.
pub type Row = Vec<(String, Tokens)>;

/// Rows of tokens, ready for the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Number of rows, B.
    pub rows: usize,
    /// Tokens per row, T; shorter rows are padded at their end.
    pub len: usize,
    /// Inputs and targets by modality, in alphabetical order.
    pub parts: BTreeMap<String, Part>,
    /// Ids of the objects, one per row.
    pub ids: Vec<String>,
}

/// The tokens of one modality in a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// Tokens the model reads, all rows one after the other.
    pub inputs: Tokens,
    /// Where in the B x T grid (row·T + position) each input stands. `None`: input k is
    /// at slot k and the grid is full.
    pub input_slots: Option<Vec<u32>>,
    /// Number of tokens to predict.
    pub targets: usize,
    /// `[targets, width]` values to predict; empty for codes.
    pub target_values: Vec<f32>,
    /// `[targets]` codes to predict; empty for continuous values.
    pub target_codes: Vec<u32>,
    /// Slot of the token that predicts each target. `None`: target k is predicted at
    /// slot k and every slot predicts.
    pub target_slots: Option<Vec<u32>>,
}

/// What a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Next-token prediction: the last token of a row is a target and no input.
    Predict,
    /// Reading hidden states: every token is an input and there are no targets.
    Read,
}

impl Batch {
    /// Chains `rows` (with their objects' ids) into a batch. `specs` describes the tokens
    /// of every modality that may occur.
    ///
    /// # Errors
    /// When a span does not fit its specification, or a row is too short to predict.
    pub fn assemble(
        rows: &[(String, Row)],
        specs: &BTreeMap<String, TokenSpec>,
        purpose: Purpose,
    ) -> Result<Self> {
        let drop_last = usize::from(purpose == Purpose::Predict);
        let lengths: Vec<usize> = rows
            .iter()
            .map(|(_, spans)| spans.iter().map(|(_, tokens)| tokens.len).sum())
            .collect();
        for ((id, _), &length) in rows.iter().zip(&lengths) {
            if length <= drop_last {
                return Err(Error::object(
                    id,
                    format!("{length} tokens, at least {} needed", drop_last + 1),
                ));
            }
        }
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut batch = Self {
            rows: rows.len(),
            len: longest.saturating_sub(drop_last),
            parts: BTreeMap::new(),
            ids: rows.iter().map(|(id, _)| id.clone()).collect(),
        };
        for (row, (id, spans)) in rows.iter().enumerate() {
            let mut at = 0;
            for (name, tokens) in spans {
                let spec = specs.get(name).ok_or_else(|| {
                    Error::object(id, format!("the model has no modality {name:?}"))
                })?;
                tokens
                    .check(spec)
                    .map_err(|e| Error::object(id, format!("modality {name}: {e}")))?;
                let last_of_row = at + tokens.len == lengths[row];
                let inputs = tokens.len - if last_of_row { drop_last } else { 0 };
                batch.push(name, spec, tokens, row, at, inputs, purpose);
                at += tokens.len;
            }
        }
        batch.drop_identity_slots();
        Ok(batch)
    }

    #[allow(clippy::too_many_arguments)] // one call site; a struct would only rename them
    fn push(
        &mut self,
        name: &str,
        spec: &TokenSpec,
        tokens: &Tokens,
        row: usize,
        at: usize,
        inputs: usize,
        purpose: Purpose,
    ) {
        let first_slot = row * self.len + at;
        let part = self.parts.entry(name.to_owned()).or_insert_with(|| Part {
            input_slots: Some(Vec::new()),
            target_slots: Some(Vec::new()),
            ..Part::default()
        });
        let take = |all: &[f32], count: usize| -> usize { all.len() / tokens.len * count };
        part.inputs.len += inputs;
        part.inputs.values.extend_from_slice(&tokens.values[..take(&tokens.values, inputs)]);
        part.inputs.codes.extend(tokens.codes.iter().take(inputs));
        part.inputs.indices.extend(tokens.indices.iter().take(inputs));
        part.inputs
            .positions
            .extend_from_slice(&tokens.positions[..take(&tokens.positions, inputs)]);
        let slots = first_slot..first_slot + inputs;
        part.input_slots.get_or_insert_default().extend(slots.map(|s| s as u32));

        if purpose == Purpose::Predict {
            // The first token of a row is predicted by nothing.
            let skip = usize::from(at == 0);
            part.targets += tokens.len - skip;
            let from = take(&tokens.values, skip);
            part.target_values.extend_from_slice(&tokens.values[from..]);
            part.target_codes.extend(tokens.codes.iter().skip(skip));
            let slots = first_slot + skip - 1..first_slot + tokens.len - 1;
            part.target_slots.get_or_insert_default().extend(slots.map(|s| s as u32));
        }
        debug_assert!(spec.max_tokens >= tokens.len);
    }

    /// One modality that fills the grid needs no gathering: says so with `None`.
    fn drop_identity_slots(&mut self) {
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

    /// Number of slots, rows times tokens per row, padding included.
    pub fn slots(&self) -> usize {
        self.rows * self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{Positions, Values};

    fn spec() -> TokenSpec {
        TokenSpec {
            values: Values::Continuous { width: 2 },
            positions: Positions::Index { max: 9 },
            loss_weight: 1.0,
            max_tokens: 9,
        }
    }

    fn span(len: usize, first: f32) -> Tokens {
        Tokens {
            len,
            values: (0..2 * len).map(|k| first + k as f32).collect(),
            indices: (0..len as u32).collect(),
            ..Tokens::default()
        }
    }

    fn specs() -> BTreeMap<String, TokenSpec> {
        BTreeMap::from([("a".to_owned(), spec()), ("b".to_owned(), spec())])
    }

    #[test]
    fn one_full_modality_is_shifted_by_one_and_needs_no_slots() {
        let rows = [
            ("x".to_owned(), vec![("a".to_owned(), span(3, 0.0))]),
            ("y".to_owned(), vec![("a".to_owned(), span(3, 10.0))]),
        ];
        let batch = Batch::assemble(&rows, &specs(), Purpose::Predict).expect("fits");
        let part = &batch.parts["a"];
        assert_eq!((batch.rows, batch.len, part.targets), (2, 2, 4));
        assert_eq!(part.inputs.values, [0., 1., 2., 3., 10., 11., 12., 13.]);
        assert_eq!(part.target_values, [2., 3., 4., 5., 12., 13., 14., 15.]);
        assert_eq!(part.inputs.indices, [0, 1, 0, 1]);
        assert_eq!((&part.input_slots, &part.target_slots), (&None, &None));
    }

    #[test]
    fn the_last_token_of_a_span_prompts_the_first_of_the_next() {
        let row = vec![("a".to_owned(), span(2, 0.0)), ("b".to_owned(), span(2, 10.0))];
        let batch =
            Batch::assemble(&[("x".to_owned(), row)], &specs(), Purpose::Predict).expect("fits");
        let (a, b) = (&batch.parts["a"], &batch.parts["b"]);
        assert_eq!(batch.len, 3);
        assert_eq!(a.input_slots, Some(vec![0, 1]));
        assert_eq!(a.target_slots, Some(vec![0]));
        assert_eq!(b.input_slots, Some(vec![2]));
        assert_eq!(b.target_slots, Some(vec![1, 2]));
        assert_eq!(b.target_values, [10., 11., 12., 13.]);
    }

    #[test]
    fn shorter_rows_leave_their_slots_empty() {
        let rows = [
            ("x".to_owned(), vec![("a".to_owned(), span(2, 0.0))]),
            ("y".to_owned(), vec![("a".to_owned(), span(4, 10.0))]),
        ];
        let batch = Batch::assemble(&rows, &specs(), Purpose::Predict).expect("fits");
        assert_eq!(batch.len, 3);
        assert_eq!(batch.parts["a"].input_slots, Some(vec![0, 3, 4, 5]));
        assert_eq!(batch.parts["a"].target_slots, Some(vec![0, 3, 4, 5]));
    }

    #[test]
    fn reading_keeps_every_token_and_has_no_targets() {
        let rows = [("x".to_owned(), vec![("a".to_owned(), span(3, 0.0))])];
        let batch = Batch::assemble(&rows, &specs(), Purpose::Read).expect("fits");
        assert_eq!(batch.len, 3);
        assert_eq!(batch.parts["a"].inputs.len, 3);
        assert_eq!(batch.parts["a"].targets, 0);
    }

    #[test]
    fn a_row_that_cannot_predict_is_refused_with_its_id() {
        let rows = [("lonely".to_owned(), vec![("a".to_owned(), span(1, 0.0))])];
        let error = Batch::assemble(&rows, &specs(), Purpose::Predict).expect_err("too short");
        assert!(error.to_string().contains("lonely"), "{error}");
    }
}
