//! The modality `tokens`: ready-made tokens, as another program made them.
//!
//! It reads the array `field` of an observation, `[T, width]` numbers or `[T]` codes, and
//! its positions from the array `FIELD_positions`: `[T]` indices (counted from 0 where there
//! is no such array) or `[T, position_width]` numbers.

use astropt_core::checkpoint::arrays::{token_arrays, tokens_from};
use astropt_core::observation::{Array, Data, Field, Observation};
use astropt_core::seam::{Described, Modality, ModalityConfig, Proposal};
use astropt_core::tokens::{Positions, TokenSpec, Tokens, Values};
use astropt_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::fields::example;

/// Tokens of an example at most.
const EXAMPLE_TOKENS: usize = 16;
/// Largest size of a token, a vocabulary, a table or a span.
const MAX_SIZE: usize = 1 << 26;

/// Configuration of the modality `tokens`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokensConfig {
    /// Field of the observation that holds the tokens.
    pub field: String,
    /// Numbers of a token; this or `vocabulary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Number of codes; this or `width`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<usize>,
    /// Rows of the position table; this or `position_width`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<usize>,
    /// Numbers of a position; this or `positions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_width: Option<usize>,
    /// Most tokens an object has.
    pub max_tokens: usize,
    /// Weight of this modality's loss.
    #[serde(default = "default_loss_weight")]
    pub loss_weight: f32,
}

fn default_loss_weight() -> f32 {
    1.0
}

#[typetag::serde(name = "tokens")]
impl ModalityConfig for TokensConfig {
    fn build(&self) -> Result<Box<dyn Modality>> {
        let one = |a: Option<usize>, b: Option<usize>, keys: &str| match (a, b) {
            (Some(0), _) | (_, Some(0)) => Err(Error::Misuse(format!("{keys} must be at least 1"))),
            (Some(_), Some(_)) | (None, None) => {
                Err(Error::Misuse(format!("set one of {keys}, not both or none")))
            }
            (Some(n), _) | (_, Some(n)) if n > MAX_SIZE => {
                Err(Error::Misuse(format!("{keys} may be at most {MAX_SIZE}")))
            }
            _ => Ok(()),
        };
        one(self.width, self.vocabulary, "`width` and `vocabulary`")?;
        one(self.positions, self.position_width, "`positions` and `position_width`")?;
        one(Some(self.max_tokens), None, "`max_tokens`")?;
        if self.positions.is_some_and(|rows| rows < self.max_tokens) {
            return Err(Error::Misuse("`positions` must be at least `max_tokens`".into()));
        }
        if !(self.loss_weight.is_finite() && self.loss_weight >= 0.0) {
            let weight = self.loss_weight;
            return Err(Error::Misuse(format!("`loss_weight` is {weight}; it must be 0 or more")));
        }
        let spec = TokenSpec {
            values: match self.vocabulary {
                Some(vocabulary) => Values::Codes { vocabulary },
                None => Values::Continuous { width: self.width.unwrap_or(1) },
            },
            positions: match self.positions {
                Some(max) => Positions::Index { max },
                None => Positions::Continuous { width: self.position_width.unwrap_or(1) },
            },
            loss_weight: self.loss_weight,
            max_tokens: self.max_tokens,
        };
        let positions = format!("{}_positions", self.field);
        Ok(Box::new(ReadyTokens { field: self.field.clone(), positions, spec }))
    }
}

astropt_core::register_modality!(
    "tokens",
    "Ready-made tokens, as another program made them",
    "field = \"tokens\"\nwidth = 16\npositions = 64\nmax_tokens = 64",
    TokensConfig
);

astropt_core::register_import!("tokens", propose, fallback);

/// Every model can read ready-made tokens.
fn propose(of: &Described<'_>) -> Option<Proposal> {
    let (values, size) = match of.spec.values {
        Values::Continuous { width } => ("width", width),
        Values::Codes { vocabulary } => ("vocabulary", vocabulary),
    };
    let (positions, rows) = match of.spec.positions {
        Positions::Index { max } => ("positions", max),
        Positions::Continuous { width } => ("position_width", width),
    };
    let mut stated = astropt_core::toml::Table::new();
    for (key, n) in [(values, size), (positions, rows), ("max_tokens", of.spec.max_tokens)] {
        stated.insert(key.to_owned(), i64::try_from(n).ok()?.into());
    }
    stated.insert("loss_weight".to_owned(), of.loss_weight());
    let assumed = vec![astropt_core::seam::Assumption {
        key: "field",
        value: of.name.into(),
        why: "no linked modality is known to make these tokens, so objects must bring them \
              ready-made in this field and FIELD_positions; a source of raw data needs \
              --modality NAME=KIND",
    }];
    Some(Proposal { stated, assumed })
}

/// The tokeniser that [`TokensConfig`] builds.
#[derive(Debug)]
struct ReadyTokens {
    field: String,
    positions: String,
    spec: TokenSpec,
}

impl Modality for ReadyTokens {
    fn spec(&self) -> TokenSpec {
        self.spec.clone()
    }

    fn tokenise(&self, observation: &Observation) -> Result<Option<Tokens>> {
        let Some(values) = observation.fields.get(&self.field) else { return Ok(None) };
        let positions = observation.fields.get(&self.positions).map(|field| &field.array);
        tokens_from(&self.field, &self.spec, &values.array, positions)
            .map(Some)
            .map_err(|message| Error::object(&observation.id, message))
    }

    /// Few tokens of small numbers, the first of them placed last.
    fn example(&self) -> Option<Observation> {
        let len = EXAMPLE_TOKENS.min(self.spec.max_tokens);
        let numbers = |width: usize| -> Vec<f32> {
            (0..len * width).map(|k| ((k * 7919) % 1013) as f32 / 506.0 - 1.0).collect()
        };
        let mut tokens = Tokens { len, ..Tokens::default() };
        match self.spec.values {
            Values::Continuous { width } => tokens.values = numbers(width).into(),
            Values::Codes { vocabulary } => {
                tokens.codes = (0..len).map(|k| ((k * 7919) % vocabulary) as u32).collect();
            }
        }
        match self.spec.positions {
            Positions::Index { .. } => tokens.indices = (0..len as u32).rev().collect(),
            Positions::Continuous { width } => tokens.positions = numbers(width),
        }
        let arrays = token_arrays(&self.field, &tokens, &self.spec).ok()?;
        let field = |(name, array)| (name, Field { array, unit: None });
        Some(Observation { fields: arrays.into_iter().map(field).collect(), ..example() })
    }

    fn detokenise(&self, tokens: &Tokens) -> Result<Array> {
        tokens.check(&self.spec)?;
        match self.spec.values {
            Values::Continuous { width } => {
                Array::new(vec![tokens.len, width], Data::F32(tokens.values.to_vec()))
            }
            Values::Codes { .. } => {
                let codes = tokens.codes.iter().map(|&code| i64::from(code)).collect();
                Array::new(vec![tokens.len], Data::I64(codes))
            }
        }
    }
}
