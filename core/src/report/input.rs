//! What a report is made of.

use std::collections::BTreeMap;

use super::figures::Figure;
use crate::probe::{Emergence, ProbeTable};

/// Everything a report shows. Empty texts, zeros and `None` mean "not known" and are left
/// out of the page.
#[derive(Clone, Debug, Default)]
pub struct ReportInput {
    /// Name of the run.
    pub title: String,
    /// One line on what was done.
    pub subtitle: String,
    /// What objects are called, in the plural: `galaxies`. Empty: `objects`.
    pub objects: String,
    /// Where, when and on what the run was.
    pub run: RunFacts,
    /// What the model is asked, as a sentence without its end: `Each token is predicted from
    /// those before it in the stream`, which an empty text says too.
    pub task: String,
    /// Name of the loss, such as `Huber`.
    pub loss_name: String,
    /// What the loss is measured in, as the end of a sentence: `in units of each patch's own
    /// standard deviation`.
    pub loss_meaning: String,
    /// The loss of predicting zero everywhere, on the validation objects.
    pub zero_loss: Option<f64>,
    /// The course of the training, in order of step.
    pub curve: Vec<CurvePoint>,
    /// Images of targets and predictions, in order of step.
    pub previews: Vec<Preview>,
    /// Probes of the embeddings.
    pub probes: Option<ProbeTable>,
    /// Probes of other checkpoints and layers.
    pub emergence: Option<Emergence>,
    /// Unit by label, such as `mag`.
    pub units: BTreeMap<String, String>,
    /// How the probed embeddings were made: layer, tokens, pooling.
    pub embeddings: BTreeMap<String, String>,
    /// Figures, in the order they are shown.
    pub figures: Vec<Figure>,
    /// Objects that could not be used.
    pub rejected: Rejected,
    /// Choices the recipe made where there is more than one tradition.
    pub choices: Vec<Choice>,
    /// The recipe as the user wrote it.
    pub recipe_written: String,
    /// The recipe with every value filled in.
    pub recipe_resolved: String,
}

/// Where, when and on what a run was.
#[derive(Clone, Debug, Default)]
pub struct RunFacts {
    /// Program and version.
    pub program: String,
    /// The command that started it.
    pub command: String,
    /// Backend that did the arithmetic.
    pub backend: String,
    /// The device's own name.
    pub device: String,
    /// Type of the numbers: `f32`, `bf16 autocast`.
    pub precision: String,
    /// Machine and operating system.
    pub host: String,
    /// When it started, as text with the time zone.
    pub started: String,
    /// When it ended.
    pub finished: String,
    /// Time it ran, in seconds, pauses between resumed parts not counted.
    pub seconds: f64,
    /// Optimiser steps taken.
    pub steps: u64,
    /// Objects in the training split.
    pub objects_train: u64,
    /// Objects in the validation split.
    pub objects_validation: u64,
    /// Objects seen in training, repetitions counted.
    pub objects_seen: u64,
    /// Tokens seen in training.
    pub tokens: u64,
    /// Trainable parameters.
    pub parameters: u64,
    /// Floating-point operations of the training; 6 N D where not measured.
    pub flops: f64,
    /// Anything else worth keeping, name and value: data revision, seed, energy.
    pub more: Vec<(String, String)>,
}

/// The training at one step. What was not measured at that step is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CurvePoint {
    /// Steps taken before this one.
    pub step: u64,
    /// Loss on the step's training objects.
    pub train: Option<f64>,
    /// Loss on the validation objects.
    pub validation: Option<f64>,
    /// Learning rate.
    pub lr: Option<f64>,
    /// Global norm of the gradient before clipping.
    pub grad_norm: Option<f64>,
    /// Training tokens a second.
    pub tokens_per_second: Option<f64>,
}

/// An image made during training.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Steps taken when it was made.
    pub step: u64,
    /// The PNG file's bytes: target on the left, prediction on the right.
    pub png: Vec<u8>,
    /// What it shows; empty: target and prediction.
    pub caption: String,
}

/// Objects that could not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// How many.
    pub count: u64,
    /// Some of them, id and reason.
    pub examples: Vec<(String, String)>,
}

/// A choice the recipe made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Name of the choice, such as `D2 probe split`.
    pub name: String,
    /// What was chosen.
    pub choice: String,
    /// What that means for the numbers.
    pub meaning: String,
}
