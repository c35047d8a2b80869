//! The engine: the model and its optimiser on a device, behind an object-safe [`Session`].
//!
//! A session is generic inside ([`open`] over any [`Platform`](crate::kernels::Platform))
//! and plain outside: host arrays in, host arrays out. Training, embedding, probing and
//! verifying are written once against [`Session`] and know no backend.

mod gradient;
mod guard;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use guard::quieten;
pub use guard::{Guarded, Listener, calm, gave_up};
pub use session::{open, open_mixed};

use crate::data::{Batch, Uploads};
use crate::error::Result;
use crate::model::ModelConfig;
use crate::parallel::Ranks;

/// Named arrays on the host: parameters, gradients or moments.
pub type StateDict = BTreeMap<String, HostTensor>;

/// A dense row-major `f32` array on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Length of every axis.
    pub shape: Vec<usize>,
    /// `shape.product()` numbers.
    pub data: Vec<f32>,
}

/// What an optimiser step needs beside the gradients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSettings {
    /// Learning rate of this step.
    pub lr: f64,
    /// AdamW's decays of the two running means.
    pub betas: [f64; 2],
    /// AdamW's epsilon.
    pub eps: f64,
    /// Decay of tensors of two and more dimensions.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 clips nothing.
    pub clip: f64,
    /// Largest global norm, before clipping, with which a step is taken at all; any finite one
    /// when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_limit: Option<f64>,
    /// Largest loss of a micro-batch with which a step is taken at all; any finite one when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_limit: Option<f64>,
}

impl StepSettings {
    /// Those of the paper, at the learning rate `lr`.
    pub fn new(lr: f64) -> Self {
        let (betas, eps) = ([0.9, 0.95], 1e-8);
        Self { lr, betas, eps, weight_decay: 0.1, clip: 1.0, norm_limit: None, loss_limit: None }
    }

    /// Whether a step of this gradient and these losses is taken: never one with numbers that
    /// are not finite, which would end all learning.
    pub fn takes(&self, grad_norm: f32, losses: &[Losses]) -> bool {
        let limit = self.norm_limit.unwrap_or(f64::INFINITY);
        grad_norm.is_finite()
            && f64::from(grad_norm) <= limit
            && losses.iter().all(|losses| self.bears(losses.total))
    }

    /// Whether the loss of a micro-batch is such that a step may be taken.
    pub fn bears(&self, loss: f32) -> bool {
        loss.is_finite() && f64::from(loss) <= self.loss_limit.unwrap_or(f64::INFINITY)
    }
}

/// The loss of a batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Weighted losses summed over modalities, divided by their number.
    pub total: f32,
    /// Unweighted loss by modality.
    pub modalities: BTreeMap<String, f32>,
}

/// What [`Session::step`] reports.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Loss of each micro-batch accumulated since the last step.
    pub losses: Vec<Losses>,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f32,
    /// Whether the step was taken; see [`StepSettings::takes`].
    pub taken: bool,
}

/// AdamW's state: running means under the parameters' names, and the steps taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OptimiserState {
    /// Running means of the gradients.
    pub moment1: StateDict,
    /// Running means of the squared gradients.
    pub moment2: StateDict,
    /// Steps taken.
    pub steps: u64,
}

/// What training multiplies in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    F32,
    /// The factors of linear layers and attention are rounded to bf16, for tensor cores.
    /// Parameters, sums, norms, softmax and losses are single precision all the same.
    Bf16,
}

impl Precision {
    /// Its name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// A place in the model where hidden states are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layer {
    /// The output of this block, counted from 0.
    Block(usize),
    /// After the final layer norm.
    Final,
}

/// A model on a device. Batches may be queued: what [`accumulate`](Self::accumulate)
/// starts, [`step`](Self::step) waits for.
pub trait Session: Send {
    /// Shape of the model.
    fn model(&self) -> &ModelConfig;

    /// The parameters, `model().parameters()` by name.
    ///
    /// # Errors
    /// When the device fails.
    fn parameters(&self) -> Result<StateDict>;

    /// Sets all parameters.
    ///
    /// # Errors
    /// When one is missing, unknown or of another shape; nothing is changed then.
    fn set_parameters(&mut self, parameters: &StateDict) -> Result<()>;

    /// State of the optimiser; empty moments before the first step.
    ///
    /// # Errors
    /// When the device fails.
    fn optimiser(&self) -> Result<OptimiserState>;

    /// Sets the state of the optimiser.
    ///
    /// # Errors
    /// When a moment is missing, unknown or of another shape; nothing is changed then.
    fn set_optimiser(&mut self, state: &OptimiserState) -> Result<()>;

    /// Whether the device computes in the host's memory, so that there is nothing to be won by
    /// [gathering](Batch::gather) a batch before it is handed over.
    fn on_host(&self) -> bool {
        false
    }

    /// What brings batches onto the device while it computes, for a thread that prepares what
    /// [`accumulate`](Self::accumulate) is handed; `None` where the device takes a batch when its
    /// turn has come.
    ///
    /// # Errors
    /// When the device fails.
    fn uploads(&mut self) -> Result<Option<Arc<dyn Uploads>>> {
        Ok(None)
    }

    /// Runs `batch` forward and backward and adds its gradient times `scale` to the sum: that of
    /// the mean over its modalities, or of what its parts [share](crate::data::Part::share).
    ///
    /// # Errors
    /// When the batch does not fit the model or the device fails.
    fn accumulate(&mut self, batch: Batch, scale: f32) -> Result<()>;

    /// Whether [`accumulate`](Self::accumulate) runs each block a second time in backward
    /// rather than keep its activations: the same gradients with less memory, for about a
    /// third more arithmetic. Off at first.
    fn set_recompute(&mut self, recompute: bool);

    /// What [`accumulate`](Self::accumulate) multiplies in; [`Precision::F32`] at first. What is
    /// evaluated, predicted and read is computed in `f32` always.
    ///
    /// # Errors
    /// When the backend does not know it; nothing is changed then.
    fn set_precision(&mut self, precision: Precision) -> Result<()>;

    /// The gradients accumulated since the last step, before clipping.
    ///
    /// # Errors
    /// When the device fails.
    fn gradients(&self) -> Result<StateDict>;

    /// Replaces the gradients accumulated since the last step by their sums over all processes
    /// of `ranks`, each of which calls it. Where `settings` do not [bear](StepSettings::bears) a
    /// loss of one the sums are not finite, so that all [take](StepSettings::takes) the step or
    /// none.
    ///
    /// # Errors
    /// When the device or the other processes fail.
    fn sum_gradients(&mut self, ranks: &dyn Ranks, settings: &StepSettings) -> Result<()>;

    /// Clips the accumulated gradient, takes one AdamW step with it and forgets it. A step that
    /// the settings [do not take](StepSettings::takes) changes no parameter and no moment.
    ///
    /// # Errors
    /// When nothing was accumulated or the device fails.
    fn step(&mut self, settings: &StepSettings) -> Result<StepReport>;

    /// Loss of `batch`, no gradients.
    ///
    /// # Errors
    /// When the batch does not fit the model or the device fails.
    fn evaluate(&mut self, batch: &Batch) -> Result<Losses>;

    /// For each modality of the batch that has targets, the decoder's outputs
    /// `[targets, width]` (logits for codes), by name.
    ///
    /// # Errors
    /// When the batch does not fit the model or the device fails.
    fn predict(&mut self, batch: &Batch) -> Result<StateDict>;

    /// Hidden states `[rows, len, width]` of `batch` at `layer`; the blocks after it are
    /// not run.
    ///
    /// # Errors
    /// When the batch does not fit the model or the device fails.
    fn hidden(&mut self, batch: &Batch, layer: Layer) -> Result<HostTensor>;

    /// Reads tokens: the first call starts rows, later ones go on where they ended, at the
    /// cost of the new tokens alone. Every row must have the same number of tokens.
    ///
    /// # Errors
    /// When the batch does not fit the model or the rows being read, or the device fails.
    fn read(&mut self, batch: &Batch) -> Result<()>;

    /// The next token of every row being read, as `modality`'s decoder predicts it:
    /// `[rows, width]`, logits for codes.
    ///
    /// # Errors
    /// When nothing was read, the model has no such modality, or the device fails.
    fn predict_next(&mut self, modality: &str) -> Result<HostTensor>;

    /// Forgets the rows being read.
    fn forget(&mut self);
}
