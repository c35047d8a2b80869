//! How long an object may be that is to fit a packed row (`stream.row_length`).

use std::collections::BTreeMap;

use super::assembly::delimiters;
use super::batch::Row;
use crate::tokens::TokenSpec;

/// What a packed row holds of one object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Slots of a row.
    pub(super) length: usize,
    /// Whether learned tokens begin and end the spans.
    pub(super) delimiters: bool,
    /// Tokens at an object's end that are only predicted and take no slot.
    pub(super) unread: usize,
}

impl Room {
    /// Whether an object of these `spans` fits. Spans are counted whole: what `stream.keep` leaves
    /// out of them differs from epoch to epoch, and which objects are used does not.
    ///
    /// # Errors
    /// Its tokens against the length of a row, and what to do.
    pub(super) fn check(&self, spans: &Row) -> Result<(), String> {
        let tokens: usize = spans.iter().map(|(_, tokens)| tokens.len).sum();
        let between = delimiters(self.delimiters, spans.len());
        let slots = (tokens + between).saturating_sub(self.unread);
        if slots <= self.length {
            return Ok(());
        }
        let with =
            if self.delimiters { format!(" and {between} delimiters") } else { String::new() };
        let less = if self.unread > 0 { " (less the last, which is only predicted)" } else { "" };
        Err(format!(
            "its {tokens} tokens{with}{less} take {slots} places and do not fit a row of \
             stream.row_length = {}; to train on it too, start a new run with a row_length of \
             {slots} or more, or without one",
            self.length
        ))
    }

    /// What is not used of objects whose spans are as long as their specifications allow; `None`
    /// where all of them fit.
    pub(super) fn beyond(&self, specs: &BTreeMap<String, TokenSpec>) -> Option<String> {
        let longest: usize = specs.values().map(|spec| spec.max_tokens).sum();
        let between = delimiters(self.delimiters, specs.len());
        let held = self.length + self.unread;
        if longest + between <= held {
            return None;
        }
        let (and, also) = match self.delimiters {
            true => (" and delimiters", format!(" and {between} delimiters")),
            false => ("", String::new()),
        };
        Some(format!(
            "with stream.row_length = {} an object may have {held} tokens{and}, and one of all \
             modalities can have {longest} tokens{also}: longer ones are not trained on and count \
             as unusable",
            self.length
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Assembly, Objective, Sequence};
    use crate::tokens::{Positions, Tokens, Values};

    fn specs() -> BTreeMap<String, TokenSpec> {
        let spec = TokenSpec {
            values: Values::Codes { vocabulary: 9 },
            positions: Positions::Index { max: 40 },
            loss_weight: 1.0,
            max_tokens: 20,
        };
        ["a", "b"].map(|name| (name.to_owned(), spec.clone())).into()
    }

    fn spans(lengths: [usize; 2]) -> Row {
        let span = |len: usize| Tokens {
            len,
            codes: vec![1; len],
            indices: (0..len as u32).collect(),
            ..Tokens::default()
        };
        let [a, b] = lengths.map(span);
        vec![("a".to_owned(), a), ("b".to_owned(), b)]
    }

    const OBJECTIVES: [Objective; 3] = [
        Objective::Autoregressive,
        Objective::Masked { ratio: 0.5 },
        Objective::Prefix { least: 0.0, most: 0.9 },
    ];

    #[test]
    fn what_fits_is_what_the_assembly_packs() {
        let specs = specs();
        let length = 10;
        for objective in OBJECTIVES {
            for delimiters in [false, true] {
                let room = Room { length, delimiters, unread: objective.unread() };
                let full = !objective.is_causal();
                let row_length = Some(length);
                let assembly = Assembly { specs: &specs, delimiters, full, row_length };
                for last in 1..12 {
                    let spans = spans([3, last]);
                    let task = objective.task("x", 3 + last, 0);
                    let packed = assembly.batch(&[Sequence { id: "x", spans: &spans, task }]);
                    assert_eq!(room.check(&spans).is_ok(), packed.is_ok(), "{objective:?} {last}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_numbers() {
        let room = Room { length: 10, delimiters: true, unread: 1 };
        let message = room.check(&spans([3, 9])).expect_err("14 places");
        for part in ["12 tokens", "3 delimiters", "14 places", "row_length = 10", "14 or more"] {
            assert!(message.contains(part), "no {part} in: {message}");
        }
        let plain = Room { length: 10, delimiters: false, unread: 0 };
        let message = plain.check(&spans([3, 9])).expect_err("12 places");
        assert!(message.contains("12 places") && !message.contains("delimiters"), "{message}");
        assert!(!message.contains("predicted"), "{message}");
    }

    #[test]
    fn rows_that_hold_the_longest_object_are_not_told_of() {
        let beyond = |length: usize, delimiters: bool, unread: usize| {
            Room { length, delimiters, unread }.beyond(&specs())
        };
        assert_eq!(beyond(40, false, 0), None);
        assert_eq!(beyond(39, false, 1), None);
        assert_eq!(beyond(42, true, 1), None);
        let told = beyond(41, true, 1).expect("too short");
        assert!(told.contains("42 tokens and delimiters"), "{told}");
        assert!(told.contains("40 tokens and 3 delimiters"), "{told}");
        let told = beyond(20, false, 1).expect("too short");
        assert!(told.contains("have 21 tokens, ") && told.contains("have 40 tokens: "), "{told}");
    }
}
