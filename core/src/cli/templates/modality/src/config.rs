//! What a recipe's `[modality.NAME]` table of kind `new-modality` can say.

use astropt_core::seam::{Modality, ModalityConfig};
use astropt_core::{Error, Result, register_modality};
use serde::{Deserialize, Serialize};

use crate::tokenise::Tokeniser;

/// Most samples of an object: bounds what a recipe can ask memory for.
const MAX_SAMPLES: usize = 1 << 24;

/// Configuration of the modality `new-modality`.
// PHYSICS: a key for every choice that an astronomer would want to state. Keys without a
// default must be in every recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Field of the observation that is read. An object without it lacks the modality.
    #[serde(default = "default_field")]
    pub field: String,
    /// Unit of the samples. A file that states another is refused; one that states none is
    /// taken at the recipe's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Samples of an object.
    pub samples: usize,
    /// Samples of a token; divides `samples`.
    pub window: usize,
    /// Sample value that becomes 0, in the samples' unit.
    #[serde(default)]
    pub offset: f64,
    /// Difference from `offset` that becomes 1: about the spread of the samples.
    #[serde(default = "default_scale")]
    pub scale: f64,
    /// Weight of this modality's loss among those of a recipe.
    #[serde(default = "default_loss_weight")]
    pub loss_weight: f32,
}

fn default_field() -> String {
    "samples".into()
}

fn default_scale() -> f64 {
    1.0
}

fn default_loss_weight() -> f32 {
    1.0
}

#[typetag::serde(name = "new-modality")]
impl ModalityConfig for Config {
    /// Refuses values that contradict each other, each by its key and with the way out.
    fn build(&self) -> Result<Box<dyn Modality>> {
        let refuse = |message: String| Err(Error::Misuse(message));
        let Self { samples, window, offset, scale, loss_weight, .. } = self;
        if !(1..=MAX_SAMPLES).contains(samples) {
            return refuse(format!("`samples` is {samples}; 1 to {MAX_SAMPLES} can be"));
        }
        if *window == 0 || !samples.is_multiple_of(*window) {
            return refuse(format!("`window` is {window}; it must divide `samples`, {samples}"));
        }
        if !(offset.is_finite() && scale.is_finite() && *scale > 0.0) {
            return refuse(format!(
                "`offset` is {offset} and `scale` {scale}; both must be finite and `scale` above 0"
            ));
        }
        if !(loss_weight.is_finite() && *loss_weight >= 0.0) {
            return refuse(format!("`loss_weight` is {loss_weight}; it must be 0 or more"));
        }
        Ok(Box::new(Tokeniser::new(self.clone())))
    }
}

register_modality!(
    "new-modality",
    "Samples -> windows", // PHYSICS: one line for `astropt plugins`
    "samples = 32\nwindow = 4",
    Config
);
