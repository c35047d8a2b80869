//! The sections of a recipe that core reads itself. Unknown keys are refused everywhere.

use serde::{Deserialize, Serialize};

use super::checkpoints::CheckpointSchedule;
use super::faults::FaultPolicy;
use crate::data::{Split, TileConfig};
use crate::engine::{Precision, StepSettings};
use crate::error::{Error, Result};
use crate::model::Tokeniser;

/// `[split]`: which objects train, validate and test. Always by a property of the object,
/// never by its position in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplitConfig {
    /// Label that names the split of each object. Unset: by a hash of the object's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Values of `column` that mean training.
    pub train: Vec<String>,
    /// Values of `column` that mean validation.
    pub validation: Vec<String>,
    /// Values of `column` that mean test.
    pub test: Vec<String>,
    /// Label whose value is hashed in place of the id, so that objects that share it stay
    /// together: several observations of one source. Objects without it go by their id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Equal-area tile of the sky that is hashed in place of the id, so that neighbours stay
    /// together, such as `{ ra = "ra", dec = "dec", degrees = 1.0 }`. Objects without
    /// coordinates go by their id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tile: Option<TileConfig>,
    /// Fraction of the objects that validate, when split by hash.
    pub validation_fraction: f64,
    /// Fraction of the objects that test, when split by hash.
    pub test_fraction: f64,
    /// Seed of the hash.
    pub seed: u64,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self {
            column: None,
            train: vec!["train".into()],
            validation: vec!["val".into(), "validation".into(), "valid".into()],
            test: vec!["test".into()],
            group: None,
            tile: None,
            validation_fraction: 0.01,
            test_fraction: 0.01,
            seed: 0,
        }
    }
}

/// `[model]`: the transformer. Its input and output follow from the modalities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Encoder and decoder of tokens: `paper`, `aim` or `affine`.
    pub tokeniser: Tokeniser,
}

/// Most threads that may read data: more than any machine has cores.
const MAX_WORKERS: usize = 1024;

/// `[train]`: the optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Optimiser steps.
    pub steps: u64,
    /// Objects per step.
    pub batch: usize,
    /// Objects per forward and backward pass; divides `batch`.
    pub micro_batch: usize,
    /// Seed of the initial weights and of the order of objects.
    #[serde(default)]
    pub seed: u64,
    /// Learning rate after the warm-up.
    pub peak_lr: f64,
    /// Learning rate from `decay_steps` on.
    pub final_lr: f64,
    /// Steps of linear warm-up; step 0 has learning rate 0.
    pub warmup_steps: u64,
    /// Step at which the cosine reaches `final_lr`.
    pub decay_steps: u64,
    /// AdamW's decays of the running means.
    #[serde(default = "betas")]
    pub betas: [f64; 2],
    /// AdamW's epsilon.
    #[serde(default = "eps")]
    pub eps: f64,
    /// Weight decay, on tensors of two and more dimensions.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 clips nothing.
    pub clip: f64,
    /// Steps between evaluations on validation objects (also done before the first step
    /// and after the last).
    pub eval_every: u64,
    /// Micro-batches per evaluation, at most; 0 takes every validation object.
    pub eval_batches: usize,
    /// Whose objects they are: `validation`, or `test` as in the paper's program.
    #[serde(default = "eval_split")]
    pub eval_split: Split,
    /// Validation objects shown as target | prediction at each evaluation.
    #[serde(default = "previews")]
    pub previews: usize,
    /// When to save, beside the first step and the last.
    #[serde(default)]
    pub checkpoints: CheckpointSchedule,
    /// `f32`, or `bf16` for factors of products rounded to bf16 and all else in `f32`: for GPUs.
    #[serde(default)]
    pub precision: Precision,
    /// Whether blocks are run again in backward rather than their activations kept: less
    /// memory, about a third more arithmetic, the same numbers.
    #[serde(default)]
    pub recompute: bool,
    /// Largest fraction of the objects that may be unusable before the run stops.
    #[serde(default = "max_rejected")]
    pub max_rejected: f64,
    /// What is done about a step whose numbers are wrong.
    #[serde(default)]
    pub faults: FaultPolicy,
    /// Whether a run is refused that needs more memory than there is, as it is reckoned
    /// beforehand; otherwise this is only said.
    #[serde(default = "memory_check")]
    pub memory_check: bool,
    /// Threads that read and tokenise; the order of objects does not depend on it.
    #[serde(default = "workers")]
    pub workers: usize,
}

fn betas() -> [f64; 2] {
    [0.9, 0.95]
}

fn eps() -> f64 {
    1e-8
}

fn eval_split() -> Split {
    Split::Validation
}

fn previews() -> usize {
    4
}

fn max_rejected() -> f64 {
    0.01
}

fn memory_check() -> bool {
    true
}

fn workers() -> usize {
    2
}

/// `[embed]`: where embeddings are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbedConfig {
    /// `last` (the last block's output), `middle` (block L/2's), `ln_f` (after the final
    /// norm) or the number of a block, counted from 0.
    pub layer: Choice,
    /// `all`, `first-N`, or N for the same.
    pub tokens: Choice,
    /// Splits whose objects are embedded; empty: all. Those that training saw are most of a survey,
    /// and a probe of held-out objects needs none of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<Split>,
    /// Modalities that are read; the others are not shown to the model. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modalities: Vec<String>,
    /// `mean` over tokens, `last` token, or `none` for every token.
    pub pooling: Pooling,
    /// Objects per forward pass.
    #[serde(default = "embed_batch")]
    pub batch: usize,
    /// Whose parameters: those after the last step or those of the lowest validation loss.
    #[serde(default)]
    pub checkpoint: CheckpointChoice,
    /// Untrained models that are embedded beside the trained one, with the seeds `train.seed`,
    /// `train.seed + 1`, and so on: what a probe has to beat is their mean.
    #[serde(default = "random_inits")]
    pub random_inits: usize,
}

fn embed_batch() -> usize {
    16
}

fn random_inits() -> usize {
    1
}

/// Most untrained models beside a trained one.
const MAX_RANDOM_INITS: usize = 1000;

/// Which checkpoint of a run is embedded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckpointChoice {
    /// The one after the last step.
    #[default]
    Last,
    /// The one of the lowest validation loss.
    Best,
}

impl CheckpointChoice {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Best => "best",
        }
    }
}

/// A word or a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a word or a whole number of 0 or more")]
pub enum Choice {
    /// A number.
    Number(usize),
    /// A word.
    Word(String),
}

/// How the tokens' hidden states become one embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The last token's.
    Last,
    /// All of them.
    None,
}

impl TrainConfig {
    /// A step at the learning rate `lr`.
    pub(crate) fn step_settings(&self, lr: f64) -> StepSettings {
        let Self { betas, eps, weight_decay, clip, .. } = *self;
        StepSettings { lr, betas, eps, weight_decay, clip, ..StepSettings::new(lr) }
    }

    /// Checks that the numbers fit together.
    ///
    /// # Errors
    /// The key and why its value cannot be.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        let positive = [
            ("batch", self.batch as f64),
            ("micro_batch", self.micro_batch as f64),
            ("eval_every", self.eval_every as f64),
            ("workers", self.workers as f64),
        ];
        for (key, value) in positive {
            if value < 1.0 {
                return Err((key, "must be at least 1".into()));
            }
        }
        if self.workers > MAX_WORKERS {
            return Err(("workers", format!("is {}; at most {MAX_WORKERS}", self.workers)));
        }
        if !self.batch.is_multiple_of(self.micro_batch) {
            let message = format!("{} does not divide batch = {}", self.micro_batch, self.batch);
            return Err(("micro_batch", message));
        }
        let finite = [
            ("peak_lr", self.peak_lr),
            ("final_lr", self.final_lr),
            ("weight_decay", self.weight_decay),
            ("clip", self.clip),
            ("eps", self.eps),
        ];
        for (key, value) in finite {
            if !value.is_finite() || value < 0.0 {
                return Err((key, format!("is {value}; it must be a number of 0 or more")));
            }
        }
        if self.eval_split == Split::Train {
            return Err((
                "eval_split",
                "must be validation or test, not what is trained on".into(),
            ));
        }
        if self.betas.iter().any(|beta| !(0.0..1.0).contains(beta)) {
            return Err(("betas", "must both be at least 0 and below 1".into()));
        }
        if !(0.0..=1.0).contains(&self.max_rejected) {
            return Err(("max_rejected", "is a fraction, 0 to 1".into()));
        }
        if self.decay_steps < self.warmup_steps {
            let message = format!("comes before warmup_steps = {}", self.warmup_steps);
            return Err(("decay_steps", message));
        }
        Ok(())
    }
}

impl SplitConfig {
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.column.is_some() && self.group.is_some() {
            return Err(("group", "is for splits by hash, and split.column is set".into()));
        }
        if let Some(tile) = &self.tile {
            if self.column.is_some() || self.group.is_some() {
                let message = "is for splits by hash, and split.column or split.group is set";
                return Err(("tile", message.into()));
            }
            tile.check().map_err(|message| ("tile", message))?;
        }
        for (key, fraction) in [
            ("validation_fraction", self.validation_fraction),
            ("test_fraction", self.test_fraction),
        ] {
            if !(0.0..1.0).contains(&fraction) {
                return Err((key, format!("is {fraction}; it must be at least 0 and below 1")));
            }
        }
        if self.validation_fraction + self.test_fraction >= 1.0 {
            return Err(("test_fraction", "leaves nothing to train on".into()));
        }
        Ok(())
    }
}

impl EmbedConfig {
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.batch == 0 {
            return Err(("batch", "must be at least 1".into()));
        }
        if !(1..=MAX_RANDOM_INITS).contains(&self.random_inits) {
            let message = format!("is {}; 1 to {MAX_RANDOM_INITS} are possible", self.random_inits);
            return Err(("random_inits", message));
        }
        Ok(())
    }

    /// Whether the modality `name` is read.
    pub fn reads(&self, name: &str) -> bool {
        self.modalities.is_empty() || self.modalities.iter().any(|read| read == name)
    }

    /// The layer to read in a model of `layers` blocks.
    ///
    /// # Errors
    /// When there is no such layer.
    pub fn layer(&self, layers: usize) -> Result<crate::engine::Layer> {
        use crate::engine::Layer;
        match &self.layer {
            Choice::Number(index) if *index < layers => Ok(Layer::Block(*index)),
            Choice::Word(word) if word == "last" => Ok(Layer::Block(layers - 1)),
            Choice::Word(word) if word == "middle" => Ok(Layer::Block(layers / 2)),
            Choice::Word(word) if word == "ln_f" => Ok(Layer::Final),
            other => Err(Error::Misuse(format!(
                "embed.layer = {other}; it is \"last\", \"middle\", \"ln_f\" or a block from 0 to {}",
                layers - 1
            ))),
        }
    }

    /// How many leading tokens to read; `None` for all.
    ///
    /// # Errors
    /// When the choice is neither `all`, `first-N` nor a positive number.
    pub fn tokens(&self) -> Result<Option<usize>> {
        let count = match &self.tokens {
            Choice::Word(word) if word == "all" => return Ok(None),
            Choice::Number(count) => Some(*count),
            Choice::Word(word) => word.strip_prefix("first-").and_then(|n| n.parse().ok()),
        };
        match count {
            Some(count) if count > 0 => Ok(Some(count)),
            _ => Err(Error::Misuse(format!(
                "embed.tokens = {}; it is \"all\", \"first-64\" or a number of tokens",
                self.tokens
            ))),
        }
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Word(word) => write!(f, "{word:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedding_choices_are_words_or_numbers() {
        let config = |layer: &str, tokens: &str| -> EmbedConfig {
            toml::from_str(&format!("layer = {layer}\ntokens = {tokens}\npooling = 'mean'"))
                .expect("valid")
        };
        use crate::engine::Layer;
        assert_eq!(config("'last'", "'all'").layer(4).expect("ok"), Layer::Block(3));
        assert_eq!(config("'middle'", "'all'").layer(4).expect("ok"), Layer::Block(2));
        assert_eq!(config("1", "5").tokens().expect("ok"), Some(5));
        assert_eq!(config("1", "'first-64'").tokens().expect("ok"), Some(64));
        assert!(config("4", "0").layer(4).is_err());
        assert!(config("'lats'", "'first-'").tokens().is_err());
    }
}
