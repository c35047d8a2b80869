//! The shape of a model, its parameters, and what a token costs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::tokens::{Positions, TokenSpec, Values};

/// Name of the parameter that stands for hidden tokens, `[1, 1, d]`.
pub(crate) const MASK_TOKEN: &str = "mask_token";
/// Name of the table of delimiters, `[2 · modalities, d]`: row 2k begins a span of modality
/// k in alphabetical order, row 2k + 1 ends it.
pub(crate) const DELIMITERS: &str = "delimiters.weight";
/// Largest number of layers, heads or width: far above any model trained so far.
const MAX_SIZE: usize = 1 << 17;
/// Largest token, vocabulary or position table.
const MAX_TOKEN_SIZE: usize = 1 << 26;

/// Everything that decides which parameters a model has and how they are used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Transformer blocks, L.
    pub layers: usize,
    /// Attention heads, h; divides the width.
    pub heads: usize,
    /// Width of the residual stream, d.
    pub width: usize,
    /// Kind of encoder and decoder around the blocks.
    pub tokeniser: Tokeniser,
    /// Tokens by modality name; alphabetical order is the order of the parameters.
    pub modalities: BTreeMap<String, TokenSpec>,
    /// Whether there is a learned token that stands for hidden ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mask_token: bool,
    /// Whether there are learned tokens that begin and end the spans of each modality.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delimiters: bool,
}

/// Encoder and decoder of continuous tokens of f numbers, for a model of width d.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tokeniser {
    /// The paper's. In: linear f→d, ReLU, linear d→d, ReLU. Out: linear d→2d, ReLU, 2d→d,
    /// ReLU, d→f. All with biases.
    Paper,
    /// As AIM (El-Nouby et al. 2024, arXiv:2401.08541). In: linear f→4d, GELU, 4d→d; out:
    /// d→4d, GELU, 4d→f. No biases.
    Aim,
    /// One linear layer each, no bias.
    Affine,
}

/// How a parameter is drawn before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// All zero.
    Zeros,
    /// All one.
    Ones,
}

/// One parameter: name, shape and initial distribution. Weights of linear layers are
/// `[out, in]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Name in checkpoints.
    pub name: String,
    /// Length of every axis.
    pub shape: Vec<usize>,
    /// Initial distribution.
    pub init: Init,
}

impl ParameterSpec {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().fold(1, |n, &axis| n.saturating_mul(axis))
    }

    /// Whether it is a position table, which the paper's parameter counts leave out.
    pub fn is_position_table(&self) -> bool {
        self.name.starts_with("embedders.") && self.name.ends_with(".wpe.weight")
    }
}

/// One linear layer of an encoder or decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) name: &'static str,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) bias: bool,
    pub(crate) activation: Activation,
}

/// What follows a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    None,
    Relu,
    Gelu,
}

impl Tokeniser {
    /// The layers that take a token of `f` numbers to the width `d`.
    pub(crate) fn encoder(self, f: usize, d: usize) -> Vec<Layer> {
        use Activation::{Gelu, None, Relu};
        match self {
            Self::Paper => vec![layer("0", f, d, true, Relu), layer("2", d, d, true, Relu)],
            Self::Aim => {
                vec![layer("c_fc", f, 4 * d, false, Gelu), layer("c_proj", 4 * d, d, false, None)]
            }
            Self::Affine => vec![layer("c_fc", f, d, false, None)],
        }
    }

    /// The layers that take the width `d` to a token of `f` numbers.
    pub(crate) fn decoder(self, f: usize, d: usize) -> Vec<Layer> {
        use Activation::{Gelu, None, Relu};
        match self {
            Self::Paper => vec![
                layer("0", d, 2 * d, true, Relu),
                layer("2", 2 * d, d, true, Relu),
                layer("4", d, f, true, None),
            ],
            Self::Aim => {
                vec![layer("c_fc", d, 4 * d, false, Gelu), layer("c_proj", 4 * d, f, false, None)]
            }
            Self::Affine => vec![layer("c_fc", d, f, false, None)],
        }
    }
}

fn layer(
    name: &'static str,
    inputs: usize,
    outputs: usize,
    bias: bool,
    activation: Activation,
) -> Layer {
    Layer { name, inputs, outputs, bias, activation }
}

impl ModelConfig {
    /// Checks that the numbers fit together.
    ///
    /// # Errors
    /// Names the number that does not and what would.
    pub fn check(&self) -> Result<()> {
        let positive = [("layers", self.layers), ("heads", self.heads), ("width", self.width)];
        for (name, value) in positive {
            if value == 0 || value > MAX_SIZE {
                return Err(Error::Misuse(format!(
                    "model.{name} is {value}; it must lie between 1 and {MAX_SIZE}"
                )));
            }
        }
        if !self.width.is_multiple_of(self.heads) {
            return Err(Error::Misuse(format!(
                "model.width = {} is not a multiple of model.heads = {}",
                self.width, self.heads
            )));
        }
        if self.modalities.is_empty() {
            return Err(Error::Misuse(
                "the model has no modality; add a [modality.NAME] table".into(),
            ));
        }
        for (name, spec) in &self.modalities {
            let sizes = [spec.values.size(), spec.positions.size(), spec.max_tokens];
            if let Some(size) = sizes.iter().find(|&&size| size > MAX_TOKEN_SIZE) {
                return Err(Error::Misuse(format!(
                    "modality.{name} asks for a table or token of {size} rows or numbers; at most \
                     {MAX_TOKEN_SIZE}"
                )));
            }
        }
        Ok(())
    }

    /// Every parameter, in a fixed order.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        let mut out = Vec::new();
        for (name, spec) in &self.modalities {
            match spec.values {
                Values::Continuous { width } => {
                    let layers = self.tokeniser.encoder(width, self.width);
                    self.push_layers(&mut out, &format!("encoders.{name}"), &layers);
                }
                Values::Codes { vocabulary } => self.push(
                    &mut out,
                    format!("encoders.{name}.wpe.weight"),
                    vec![vocabulary, self.width],
                ),
            }
            match spec.positions {
                Positions::Index { max } => {
                    let table = format!("embedders.{name}.wpe.weight");
                    self.push(&mut out, table, vec![max, self.width]);
                }
                Positions::Continuous { width } => {
                    let layers = self.tokeniser.encoder(width, self.width);
                    self.push_layers(&mut out, &format!("embedders.{name}"), &layers);
                }
            }
        }
        let d = self.width;
        if self.mask_token {
            self.push(&mut out, MASK_TOKEN.into(), vec![1, 1, d]);
        }
        if self.delimiters {
            self.push(&mut out, DELIMITERS.into(), vec![2 * self.modalities.len(), d]);
        }
        for block in 0..self.layers {
            let prefix = format!("transformer.h.{block}");
            push_gain(&mut out, format!("{prefix}.ln_1.weight"), d);
            self.push(&mut out, format!("{prefix}.attn.c_attn.weight"), vec![3 * d, d]);
            self.push(&mut out, format!("{prefix}.attn.c_proj.weight"), vec![d, d]);
            push_gain(&mut out, format!("{prefix}.ln_2.weight"), d);
            self.push(&mut out, format!("{prefix}.mlp.c_fc.weight"), vec![4 * d, d]);
            self.push(&mut out, format!("{prefix}.mlp.c_proj.weight"), vec![d, 4 * d]);
        }
        push_gain(&mut out, "transformer.ln_f.weight".into(), d);
        for (name, spec) in &self.modalities {
            let layers = match spec.values {
                Values::Continuous { width } => self.tokeniser.decoder(width, d),
                Values::Codes { vocabulary } => Tokeniser::Affine.decoder(vocabulary, d),
            };
            self.push_layers(&mut out, &format!("decoders.{name}"), &layers);
        }
        out
    }

    /// Weights are N(0, 0.02), those named `c_proj` N(0, 0.02/√(2L)) (PAPER: the GPT-2
    /// initialisation).
    fn push(&self, out: &mut Vec<ParameterSpec>, name: String, shape: Vec<usize>) {
        let std = if name.ends_with("c_proj.weight") {
            0.02 / ((2 * self.layers) as f32).sqrt()
        } else {
            0.02
        };
        out.push(ParameterSpec { name, shape, init: Init::Normal(std) });
    }

    fn push_layers(&self, out: &mut Vec<ParameterSpec>, prefix: &str, layers: &[Layer]) {
        for layer in layers {
            let shape = vec![layer.outputs, layer.inputs];
            self.push(out, format!("{prefix}.{}.weight", layer.name), shape);
            if layer.bias {
                out.push(ParameterSpec {
                    name: format!("{prefix}.{}.bias", layer.name),
                    shape: vec![layer.outputs],
                    init: Init::Zeros,
                });
            }
        }
    }

    /// Number of parameters without position tables: what the paper counts, N.
    pub fn parameter_count(&self) -> usize {
        let counted = self.parameters().into_iter().filter(|p| !p.is_position_table());
        counted.fold(0, |n, p| n.saturating_add(p.elements()))
    }

    /// Floating-point operations of one training step per token, 6 N: the paper's measure,
    /// attention not counted.
    pub fn train_flops_per_token(&self) -> f64 {
        6.0 * self.parameter_count() as f64
    }
}

fn push_gain(out: &mut Vec<ParameterSpec>, name: String, width: usize) {
    out.push(ParameterSpec { name, shape: vec![width], init: Init::Ones });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paper(layers: usize, heads: usize, width: usize) -> ModelConfig {
        let spec = TokenSpec {
            values: Values::Continuous { width: 768 },
            positions: Positions::Index { max: 1024 },
            loss_weight: 1.0,
            max_tokens: 1024,
        };
        ModelConfig {
            layers,
            heads,
            width,
            tokeniser: Tokeniser::Paper,
            modalities: BTreeMap::from([("images".to_owned(), spec)]),
            mask_token: false,
            delimiters: false,
        }
    }

    /// The family of the paper, counted without the position table.
    #[test]
    fn parameter_counts_are_the_papers() {
        for (layers, heads, width, expected) in [
            (4, 8, 128, 1_067_520),
            (6, 8, 256, 5_444_864),
            (6, 8, 384, 11_951_616),
            (6, 8, 512, 20_981_504),
            (12, 12, 768, 89_087_232),
            (24, 16, 1024, 308_861_696),
            (16, 8, 2048, 829_502_208),
            (26, 32, 2560, 2_081_572_608),
        ] {
            assert_eq!(paper(layers, heads, width).parameter_count(), expected);
        }
    }

    #[test]
    fn a_width_that_the_heads_do_not_divide_is_refused() {
        let error = paper(1, 3, 128).check().expect_err("3 does not divide 128");
        assert!(error.to_string().contains("model.heads = 3"), "{error}");
    }
}
