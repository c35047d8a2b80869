//! Tokens: what a modality makes of an observation, and the description of them that the
//! model is built from.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::numbers::Numbers;

/// What the tokens of a modality look like. The model's encoder, decoder and position
/// layers for the modality follow from this alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// What a token is.
    pub values: Values,
    /// How a token is placed.
    pub positions: Positions,
    /// Weight of this modality's loss among the modalities of a stream.
    pub loss_weight: f32,
    /// The longest span, in tokens, that one object can have.
    pub max_tokens: usize,
}

/// What a token is, and with that the loss of predicting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Values {
    /// A vector of `width` numbers, predicted under the Huber loss (delta 1).
    Continuous {
        /// Numbers per token.
        width: usize,
    },
    /// An integer below `vocabulary`, predicted under the cross-entropy.
    Codes {
        /// Number of codes.
        vocabulary: usize,
    },
}

/// How a token is placed in its span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Positions {
    /// A row of a learned table with `max` rows.
    Index {
        /// Rows of the table.
        max: usize,
    },
    /// A vector of `width` numbers, such as a window's wavelengths, encoded by a layer.
    Continuous {
        /// Numbers per position.
        width: usize,
    },
}

impl Values {
    /// Numbers of a token, or codes of the vocabulary.
    pub fn size(self) -> usize {
        match self {
            Self::Continuous { width } => width,
            Self::Codes { vocabulary } => vocabulary,
        }
    }
}

impl Positions {
    /// Rows of the table, or numbers of a position.
    pub fn size(self) -> usize {
        match self {
            Self::Index { max } => max,
            Self::Continuous { width } => width,
        }
    }
}

impl std::fmt::Display for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Continuous { width } => write!(f, "{width} numbers"),
            Self::Codes { vocabulary } => write!(f, "codes of {vocabulary}"),
        }
    }
}

impl std::fmt::Display for Positions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index { max } => write!(f, "table of {max}"),
            Self::Continuous { width } => write!(f, "{width} numbers"),
        }
    }
}

/// The tokens of one object in one modality: a span, in the order the model reads it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens {
    /// Number of tokens, T.
    pub len: usize,
    /// `[T, width]` numbers, row-major; empty for codes.
    pub values: Numbers,
    /// `[T]` codes; empty for continuous values.
    pub codes: Vec<u32>,
    /// `[T]` indices into the position table; empty for continuous positions.
    pub indices: Vec<u32>,
    /// `[T, width]` continuous positions; empty for indices.
    pub positions: Vec<f32>,
    /// `[T, 2]`: offset and scale removed from each token, so that
    /// `value * scale + offset` is in the modality's own units. Empty when nothing was, or
    /// when it is not known, as of tokens that a model made.
    pub affine: Vec<[f32; 2]>,
}

impl Tokens {
    /// Keeps the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        let per_token = |all: usize| all / self.len;
        self.values.truncate(len * per_token(self.values.len()));
        self.positions.truncate(len * per_token(self.positions.len()));
        self.codes.truncate(len);
        self.indices.truncate(len);
        self.affine.truncate(len);
        self.len = len;
    }

    /// What belongs to the tokens `range` in `all`, one of these tokens' buffers.
    pub(crate) fn part<'a, T>(&self, all: &'a [T], range: &Range<usize>) -> &'a [T] {
        let width = all.len() / self.len.max(1);
        &all[range.start * width..range.end * width]
    }

    /// The values of tokens `range`, without a copy where they are shared.
    pub(crate) fn values_of(&self, range: &Range<usize>) -> Numbers {
        let width = self.values.len() / self.len.max(1);
        self.values.part(range.start * width..range.end * width)
    }

    /// Appends tokens `range` of `more`, which must be there.
    pub fn extend(&mut self, more: &Self, range: Range<usize>) {
        self.len += range.len();
        self.values.extend_from_slice(more.part(&more.values, &range));
        self.codes.extend_from_slice(more.part(&more.codes, &range));
        self.indices.extend_from_slice(more.part(&more.indices, &range));
        self.positions.extend_from_slice(more.part(&more.positions, &range));
        self.affine.extend_from_slice(more.part(&more.affine, &range));
    }

    /// Tokens `first..first + len`, which must be there.
    pub fn slice(&self, first: usize, len: usize) -> Self {
        let mut out = Self::default();
        out.extend(self, first..first + len);
        out
    }

    /// The tokens at `places`, which must be there, in that order.
    pub fn select(&self, places: &[usize]) -> Self {
        let mut out = Self::default();
        places.iter().for_each(|&place| out.extend(self, place..place + 1));
        out
    }

    /// Checks that the buffers agree with `spec` and hold only finite numbers.
    ///
    /// # Errors
    /// Says which buffer disagrees and how.
    pub fn check(&self, spec: &TokenSpec) -> Result<()> {
        self.check_shape(spec)?;
        match first_not_finite(&self.values) {
            Some(i) => Err(Error::Failed(format!("value {i} is not finite"))),
            None => Ok(()),
        }
    }

    /// [`check`](Self::check) without reading the values, which are most of the numbers.
    pub(crate) fn check_shape(&self, spec: &TokenSpec) -> Result<()> {
        let (values, codes) = match spec.values {
            Values::Continuous { width } => (self.len * width, 0),
            Values::Codes { .. } => (0, self.len),
        };
        let (indices, positions) = match spec.positions {
            Positions::Index { .. } => (self.len, 0),
            Positions::Continuous { width } => (0, self.len * width),
        };
        let sizes = [
            ("values", self.values.len(), values),
            ("codes", self.codes.len(), codes),
            ("indices", self.indices.len(), indices),
            ("positions", self.positions.len(), positions),
        ];
        for (name, found, expected) in sizes {
            if found != expected {
                return Err(Error::Failed(format!(
                    "{name} holds {found} numbers, {expected} expected for {} tokens",
                    self.len
                )));
            }
        }
        if !self.affine.is_empty() && self.affine.len() != self.len {
            return Err(Error::Failed(format!(
                "affine holds {} pairs for {} tokens",
                self.affine.len(),
                self.len
            )));
        }
        if self.len == 0 || self.len > spec.max_tokens {
            return Err(Error::Failed(format!(
                "{} tokens, 1 to {} expected",
                self.len, spec.max_tokens
            )));
        }
        self.check_places(spec)
    }

    fn check_places(&self, spec: &TokenSpec) -> Result<()> {
        if let Some(i) = first_not_finite(&self.positions) {
            return Err(Error::Failed(format!("position {i} is not finite")));
        }
        if let Values::Codes { vocabulary } = spec.values
            && let Some(code) = self.codes.iter().find(|&&c| c as usize >= vocabulary)
        {
            return Err(Error::Failed(format!(
                "code {code} is not below the vocabulary of {vocabulary}"
            )));
        }
        if let Positions::Index { max } = spec.positions
            && let Some(index) = self.indices.iter().find(|&&i| i as usize >= max)
        {
            return Err(Error::Failed(format!(
                "position {index} is not below the table's {max} rows"
            )));
        }
        Ok(())
    }
}

/// Index of the first number that is infinite or not a number.
pub(crate) fn first_not_finite(numbers: &[f32]) -> Option<usize> {
    // A block is read whole, without a way out, so that it is read many numbers at a time.
    let block = 1024;
    let finite = |block: &[f32]| block.iter().fold(true, |all, x| all & x.is_finite());
    let bad = numbers.chunks(block).position(|block| !finite(block))? * block;
    numbers[bad..].iter().position(|x| !x.is_finite()).map(|k| bad + k)
}
