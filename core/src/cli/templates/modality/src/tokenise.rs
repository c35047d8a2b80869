//! Observation -> tokens, and back.

use astropt_core::observation::{Array, Data, Field, Observation, like_unit};
use astropt_core::seam::Modality;
use astropt_core::tokens::{Positions, TokenSpec, Tokens, Values};
use astropt_core::{Error, Result};

use crate::config::Config;

/// The tokeniser that [`Config`] builds.
#[derive(Debug)]
pub struct Tokeniser {
    config: Config,
    spec: TokenSpec,
}

impl Tokeniser {
    /// The tokeniser of a configuration that has been checked.
    pub(crate) fn new(config: Config) -> Self {
        let tokens = config.samples / config.window;
        // PHYSICS: what a token is. `Values::Codes` are integers of a vocabulary;
        // `Positions::Continuous` are numbers such as a wavelength or a time, one position a
        // token. `max_tokens` is the longest span an object can have.
        let spec = TokenSpec {
            values: Values::Continuous { width: config.window },
            positions: Positions::Index { max: tokens },
            loss_weight: config.loss_weight,
            max_tokens: tokens,
        };
        Self { config, spec }
    }

    /// Whether the numbers of `tokens` can be brought back to the samples' own unit.
    // PHYSICS: where something is measured on each object and taken out, the answer is
    // `!tokens.affine.is_empty()`: of tokens that a model made it is not known.
    fn has_units(&self, _tokens: &Tokens) -> bool {
        true
    }

    /// The object's samples as a network likes them, of order 1; `None` when it has none.
    fn numbers(&self, observation: &Observation) -> Result<Option<Vec<f32>>> {
        let Config { field: name, unit, samples, offset, scale, .. } = &self.config;
        let Some(field) = observation.fields.get(name) else { return Ok(None) };
        let refuse =
            |what: String| Err(Error::object(&observation.id, format!("field {name:?} {what}")));
        let Array { shape, data } = &field.array;
        if shape[..] != [*samples] || data.len() != *samples {
            return refuse(format!(
                "has shape {shape:?} and {} numbers; `samples` is {samples}",
                data.len()
            ));
        }
        // PHYSICS: units. Convert them here, or refuse what you would have to guess.
        if let (Some(unit), Some(stated)) = (unit, &field.unit)
            && !like_unit(unit, stated)
        {
            return refuse(format!("is in {stated:?}, not in {unit:?} as `unit` says"));
        }
        // PHYSICS: the transform; `detokenise` must undo it.
        let numbers: Vec<f32> =
            data.to_f64().iter().map(|x| ((x - offset) / scale) as f32).collect();
        // PHYSICS: bad values. Tokens must be finite: refuse the object, leave such tokens
        // out, or fill them in, and say which in the documentation of `Config`.
        match numbers.iter().position(|x| !x.is_finite()) {
            Some(bad) => refuse(format!("has no usable number at sample {bad}")),
            None => Ok(Some(numbers)),
        }
    }
}

impl Modality for Tokeniser {
    fn spec(&self) -> TokenSpec {
        self.spec.clone()
    }

    fn tokenise(&self, observation: &Observation) -> Result<Option<Tokens>> {
        let tokens = |values: Vec<f32>| {
            let (len, values) = (self.spec.max_tokens, values.into());
            Tokens { len, values, indices: (0..len as u32).collect(), ..Tokens::default() }
        };
        Ok(self.numbers(observation)?.map(tokens))
    }

    /// The samples `[n]` in their own unit.
    fn detokenise(&self, tokens: &Tokens) -> Result<Array> {
        tokens.check(&self.spec)?;
        let Config { offset, scale, .. } = self.config;
        let numbers: Vec<f64> =
            tokens.values.iter().map(|&y| f64::from(y) * scale + offset).collect();
        Array::new(vec![numbers.len()], Data::F64(numbers))
    }

    /// The samples as the field they were read from, in the unit that the recipe states if they
    /// are in it.
    fn reconstruct(&self, tokens: &Tokens) -> Result<Option<Observation>> {
        let unit = self.config.unit.clone().filter(|_| self.has_units(tokens));
        let field = Field { array: self.detokenise(tokens)?, unit };
        let fields = [(self.config.field.clone(), field)].into();
        Ok(Some(Observation { fields, ..Observation::default() }))
    }

    /// What a probe on the embedding has to beat: here the samples themselves.
    fn raw_features(&self, observation: &Observation) -> Result<Option<Vec<f32>>> {
        self.numbers(observation)
    }
}
