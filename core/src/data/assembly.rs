//! Sequences to batches: where each token stands, what predicts it, and what it sees.

use std::collections::BTreeMap;
use std::ops::Range;

use super::batch::{Batch, Inputs, Part, Row, Sight};
use super::sequence::{Sequence, Task};
use crate::error::{Error, Result};
use crate::tokens::{TokenSpec, Tokens};

/// How sequences become batches.
#[derive(Clone, Copy, Debug)]
pub struct Assembly<'a> {
    /// The tokens of every modality that may occur.
    pub specs: &'a BTreeMap<String, TokenSpec>,
    /// Whether learned tokens begin and end the spans.
    pub delimiters: bool,
    /// Whether tokens see those after them where nothing else is said ([`Task::Read`],
    /// [`Task::Masked`]).
    pub full: bool,
    /// Slots of a row, where several sequences may share one.
    pub row_length: Option<usize>,
}

/// Where a sequence goes.
#[derive(Clone, Copy, Debug)]
struct Place {
    row: usize,
    /// First slot within the row.
    start: usize,
    /// Slots it takes.
    slots: usize,
}

impl Assembly<'_> {
    /// Chains `sequences` into a batch. Those that share rows are packed longest first, so
    /// the ids of the batch may come in another order. Values are not read: that they are
    /// finite is for whoever made them to see to ([`Tokens::check`]).
    ///
    /// # Errors
    /// When a span does not fit its specification, a sequence is too short to predict
    /// anything, or longer than a packed row.
    pub fn batch(&self, sequences: &[Sequence<'_>]) -> Result<Batch> {
        let mut places = self.places(sequences)?;
        places.sort_by_key(|(_, place)| (place.row, place.start));
        let mut batch = Batch {
            rows: places.last().map_or(0, |(_, place)| place.row + 1),
            len: places.iter().map(|(_, place)| place.start + place.slots).max().unwrap_or(0),
            ids: places.iter().map(|&(k, _)| sequences[k].id.to_owned()).collect(),
            sight: Sight { full: self.full, ..Sight::default() },
            ..Batch::default()
        };
        for &(k, place) in &places {
            self.push(&mut batch, &sequences[k], place)?;
        }
        self.look(&mut batch, sequences, &places);
        batch.drop_identity_slots();
        Ok(batch)
    }

    /// Slots of `sequence`: its tokens and delimiters, less the last where that is a target
    /// only.
    fn slots(&self, sequence: &Sequence<'_>) -> Result<usize> {
        let elements = sequence.tokens() + delimiters(self.delimiters, sequence.spans.len());
        let (drop, least) = match &sequence.task {
            Task::Read => (0, 1),
            Task::Masked(mask) => {
                if mask.len() != sequence.tokens() || !mask.contains(&true) {
                    let message = "its mask hides nothing, or is of another length";
                    return Err(Error::object(sequence.id, message));
                }
                (0, 1)
            }
            Task::Next | Task::After(_) => (1, 2),
        };
        if elements < least {
            let message = format!("{elements} tokens, at least {least} needed");
            return Err(Error::object(sequence.id, message));
        }
        Ok(elements - drop)
    }

    /// A place for each sequence: a row of its own, or in rows of `row_length` slots the
    /// first with room, longest first.
    fn places(&self, sequences: &[Sequence<'_>]) -> Result<Vec<(usize, Place)>> {
        let mut sized = Vec::new();
        for (k, sequence) in sequences.iter().enumerate() {
            sized.push((k, self.slots(sequence)?));
        }
        let Some(row_length) = self.row_length else {
            let own = |(k, slots)| (k, Place { row: k, start: 0, slots });
            return Ok(sized.into_iter().map(own).collect());
        };
        sized.sort_by_key(|&(_, slots)| std::cmp::Reverse(slots));
        let (mut filled, mut places) = (Vec::<usize>::new(), Vec::new());
        for (k, slots) in sized {
            if slots > row_length {
                return Err(Error::object(
                    sequences[k].id,
                    format!("{slots} tokens do not fit a row of stream.row_length = {row_length}"),
                ));
            }
            let row = filled.iter().position(|&n| n + slots <= row_length);
            let row = row.unwrap_or_else(|| {
                filled.push(0);
                filled.len() - 1
            });
            places.push((k, Place { row, start: filled[row], slots }));
            filled[row] += slots;
        }
        Ok(places)
    }

    /// Adds the spans of `sequence` at `place`.
    fn push(&self, batch: &mut Batch, sequence: &Sequence<'_>, place: Place) -> Result<()> {
        let first_slot = place.row * batch.len + place.start;
        let (mut at, mut token) = (0, 0);
        for (name, tokens) in sequence.spans {
            let blame = |message: String| Error::object(sequence.id, message);
            let spec = self.specs.get(name);
            let spec = spec.ok_or_else(|| blame(format!("the model has no modality {name:?}")))?;
            tokens.check_shape(spec).map_err(|e| blame(format!("modality {name}: {e}")))?;
            let kind = self.specs.keys().take_while(|known| *known != name).count() as u32;
            if self.delimiters {
                batch.delimiters.push(((first_slot + at) as u32, 2 * kind));
                at += 1;
            }
            let span = Span { tokens, at, token, first_slot, inputs: place.slots };
            span.push(batch.parts.entry(name.clone()).or_default(), &sequence.task);
            at += tokens.len;
            token += tokens.len;
            if self.delimiters && at < place.slots {
                batch.delimiters.push(((first_slot + at) as u32, 2 * kind + 1));
                at += 1;
            }
        }
        Ok(())
    }

    /// Says which slots see which.
    fn look(&self, batch: &mut Batch, sequences: &[Sequence<'_>], places: &[(usize, Place)]) {
        let grid = batch.slots();
        let ragged = places.iter().any(|(_, place)| place.slots < batch.len);
        if self.row_length.is_some() || (self.full && ragged) {
            let mut documents = vec![0; grid];
            for (number, (_, place)) in places.iter().enumerate() {
                let first = place.row * batch.len + place.start;
                documents[first..first + place.slots].fill(number as u32 + 1);
            }
            batch.sight.documents = Some(documents);
        }
        if sequences.iter().any(|sequence| matches!(sequence.task, Task::After(_))) {
            batch.sight.full = false;
            let mut reach = vec![0; grid];
            for &(k, place) in places {
                if let Task::After(first) = sequences[k].task {
                    let slots = place.row * batch.len + place.start;
                    let before = self.elements_before(sequences[k].spans, first);
                    let end = place.start + before.min(place.slots);
                    reach[slots..slots + place.slots].fill(end as u32);
                }
            }
            batch.sight.reach = Some(reach);
        }
    }

    /// Tokens and delimiters that stand before token `token` of a sequence of `spans`, counted
    /// from 0.
    fn elements_before(&self, spans: &Row, token: usize) -> usize {
        let ends = spans.iter().scan(0, |end, (_, tokens)| {
            *end += tokens.len;
            Some(*end)
        });
        let before = ends.take_while(|&end| end <= token).count();
        token + if self.delimiters { 2 * before + 1 } else { 0 }
    }
}

/// Delimiters of a sequence of `spans` spans, where there are `any`. The end of the last span
/// closes nothing and is left out.
pub(super) fn delimiters(any: bool, spans: usize) -> usize {
    if any { (2 * spans).saturating_sub(1) } else { 0 }
}

/// A span on its way into a [`Part`].
struct Span<'a> {
    tokens: &'a Tokens,
    /// Its first token among the elements of its sequence, delimiters counted.
    at: usize,
    /// Its first token among the tokens of its sequence.
    token: usize,
    /// Slot of the sequence's first element.
    first_slot: usize,
    /// Elements of the sequence that are inputs.
    inputs: usize,
}

impl Span<'_> {
    fn push(&self, part: &mut Part, task: &Task) {
        let inputs = self.tokens.len.min(self.inputs - self.at);
        let slot = |k: usize| (self.first_slot + self.at + k) as u32;
        part.inputs.extend(self.tokens, 0..inputs);
        part.input_slots.get_or_insert_default().extend((0..inputs).map(slot));
        match task {
            Task::Read => {}
            Task::Masked(mask) => {
                let mask = &mask[self.token..self.token + self.tokens.len];
                part.masked.extend_from_slice(mask);
                for (k, _) in mask.iter().enumerate().filter(|(_, hidden)| **hidden) {
                    part.aim(self.tokens, k..k + 1, slot(k));
                }
            }
            Task::Next | Task::After(_) => {
                if matches!(task, Task::Next) && self.tokens.len > 0 {
                    part.lasts.push(self.tokens.values_of(&(self.tokens.len - 1..self.tokens.len)));
                }
                // The first element of a sequence is predicted by nothing.
                let unprompted = usize::from(self.at == 0);
                let prefix = if let Task::After(first) = task { *first } else { 0 };
                let skip = prefix.saturating_sub(self.token).max(unprompted).min(self.tokens.len);
                if skip < self.tokens.len {
                    part.aim(self.tokens, skip..self.tokens.len, slot(skip) - 1);
                }
            }
        }
    }
}

impl Inputs {
    /// Appends tokens `range` of `tokens`, whose numbers stay where they are.
    fn extend(&mut self, tokens: &Tokens, range: Range<usize>) {
        self.len += range.len();
        self.values.push(tokens.values_of(&range));
        self.codes.extend_from_slice(tokens.part(&tokens.codes, &range));
        self.indices.extend_from_slice(tokens.part(&tokens.indices, &range));
        self.positions.extend_from_slice(tokens.part(&tokens.positions, &range));
    }
}

impl Part {
    /// Adds tokens `range` of `tokens` to the targets, predicted from `slot` on.
    fn aim(&mut self, tokens: &Tokens, range: Range<usize>, slot: u32) {
        self.targets += range.len();
        let slots = self.target_slots.get_or_insert_default();
        slots.extend((slot..).take(range.len()));
        self.target_tokens.extend(range.clone().map(|k| k as u32));
        self.target_values.push(tokens.values_of(&range));
        self.target_codes.extend_from_slice(tokens.part(&tokens.codes, &range));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Purpose;
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

    fn spans(lengths: &[(&str, usize)]) -> Row {
        lengths.iter().map(|&(name, len)| (name.to_owned(), span(len, 0.0))).collect()
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
        assert!(part.is_shifted(2));
        assert_eq!(part.lasts, [4., 5., 14., 15.]);
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
        assert!(!a.is_shifted(1) && !b.is_shifted(1));
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

    #[test]
    fn delimiters_stand_around_spans_and_prompt_their_first_tokens() {
        let specs = specs();
        let assembly = Assembly { specs: &specs, delimiters: true, full: false, row_length: None };
        // begin a, a, a, end a, begin b, b, (b is a target only)
        let spans = spans(&[("a", 2), ("b", 2)]);
        let batch = assembly.batch(&[Sequence { id: "x", spans: &spans, task: Task::Next }]);
        let batch = batch.expect("fits");
        assert_eq!(batch.len, 6);
        assert_eq!(batch.delimiters, [(0, 0), (3, 1), (4, 2)]);
        assert_eq!(batch.parts["a"].input_slots, Some(vec![1, 2]));
        assert_eq!(batch.parts["a"].target_slots, Some(vec![0, 1]));
        assert_eq!(batch.parts["b"].input_slots, Some(vec![5]));
        assert_eq!(batch.parts["b"].target_slots, Some(vec![4, 5]));
        assert_eq!(batch.token_slots(), [[1, 2, 5]]);
        let read = assembly.batch(&[Sequence { id: "x", spans: &spans, task: Task::Read }]);
        assert_eq!(read.expect("fits").token_slots(), [[1, 2, 5, 6]]);
    }

    #[test]
    fn masked_tokens_are_predicted_where_they_stand() {
        let specs = specs();
        let assembly = Assembly { specs: &specs, delimiters: false, full: true, row_length: None };
        let mask = vec![false, true, true, false];
        let (x, y) = (spans(&[("a", 3), ("b", 1)]), spans(&[("a", 2)]));
        let sequences = [
            Sequence { id: "x", spans: &x, task: Task::Masked(mask) },
            Sequence { id: "y", spans: &y, task: Task::Masked(vec![true, false]) },
        ];
        let batch = assembly.batch(&sequences).expect("fits");
        let a = &batch.parts["a"];
        assert_eq!(a.masked, [false, true, true, true, false]);
        assert_eq!(a.target_slots, Some(vec![1, 2, 4]));
        assert_eq!(a.target_values, [2., 3., 4., 5., 0., 1.]);
        assert_eq!(batch.parts["b"].targets, 0);
        // The padding of the shorter row is out of sight.
        assert_eq!(batch.sight.documents, Some(vec![1, 1, 1, 1, 2, 2, 0, 0]));
        assert!(batch.sight.full);
    }

    #[test]
    fn only_what_comes_after_the_prefix_is_predicted() {
        let specs = specs();
        let assembly = Assembly { specs: &specs, delimiters: false, full: true, row_length: None };
        let spans = spans(&[("a", 3), ("b", 2)]);
        let batch = assembly.batch(&[Sequence { id: "x", spans: &spans, task: Task::After(2) }]);
        let batch = batch.expect("fits");
        assert_eq!(batch.parts["a"].target_slots, Some(vec![1]));
        assert_eq!(batch.parts["b"].target_slots, Some(vec![2, 3]));
        assert_eq!(batch.sight, Sight { full: false, documents: None, reach: Some(vec![2; 4]) });
    }

    #[test]
    fn a_prefix_is_of_tokens_whatever_delimits_the_spans() {
        let specs = specs();
        let spans = spans(&[("a", 3), ("b", 2)]);
        let batch = |delimiters: bool, first: usize| {
            let assembly = Assembly { specs: &specs, delimiters, full: true, row_length: None };
            let batch =
                assembly.batch(&[Sequence { id: "x", spans: &spans, task: Task::After(first) }]);
            batch.expect("fits")
        };
        let targets =
            |batch: &Batch| ["a", "b"].map(|name| batch.parts[name].target_tokens.clone());
        for first in 1..5 {
            assert_eq!(targets(&batch(true, first)), targets(&batch(false, first)), "{first}");
        }
        // begin a, a, a, a, end a, begin b, b, (b is a target only)
        for (first, reach) in [(1, 2), (2, 3), (3, 6), (4, 7)] {
            let batch = batch(true, first);
            let firsts = batch.parts.values().filter_map(|part| part.target_slots.clone());
            let target = firsts.flatten().min().expect("a target");
            // All before the first token that is predicted, which is so from the last of it.
            assert_eq!(target + 1, reach, "{first}");
            assert_eq!(batch.sight.reach, Some(vec![reach; 7]), "{first}");
        }
    }

    #[test]
    fn a_begin_prompts_even_the_only_token() {
        let specs = specs();
        let assembly = Assembly { specs: &specs, delimiters: true, full: false, row_length: None };
        let spans = spans(&[("b", 1)]);
        let batch = assembly.batch(&[Sequence { id: "x", spans: &spans, task: Task::Next }]);
        let batch = batch.expect("fits");
        assert_eq!((batch.len, &batch.delimiters[..]), (1, &[(0, 2)][..]));
        assert_eq!((batch.parts["b"].inputs.len, batch.parts["b"].targets), (0, 1));
    }

    #[test]
    fn whole_objects_share_rows_and_do_not_see_each_other() {
        let specs = specs();
        let assembly =
            Assembly { specs: &specs, delimiters: false, full: false, row_length: Some(6) };
        let rows = [3, 6, 4, 2].map(|len| spans(&[("a", len)]));
        let sequence = |(id, spans)| Sequence { id, spans, task: Task::Next };
        let sequences: Vec<_> = ["x", "y", "z", "w"].into_iter().zip(&rows).map(sequence).collect();
        let batch = assembly.batch(&sequences).expect("fits");
        // Slots: y 5 and w 1 fill the first row, z 3 and x 2 share the second.
        assert_eq!((batch.rows, batch.len), (2, 6));
        assert_eq!(batch.ids, ["y", "w", "z", "x"]);
        let documents = batch.sight.documents.expect("packed");
        assert_eq!(documents, [1, 1, 1, 1, 1, 2, 3, 3, 3, 4, 4, 0]);
        assert_eq!(batch.parts["a"].inputs.indices, [0, 1, 2, 3, 4, 0, 0, 1, 2, 0, 1]);
        assert_eq!(batch.parts["a"].targets, 11);
        let spans = spans(&[("a", 8)]);
        let long = assembly.batch(&[Sequence { id: "long", spans: &spans, task: Task::Next }]);
        assert!(long.expect_err("too long").to_string().contains("long"));
    }
}
