//! `[probe]` of a recipe.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::data::Split;
use crate::probe::{Method, Nuisance, ProbeSettings, Task};

/// `[probe]`: what the embedding is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// Labels to predict; empty takes the `tasks`, and where none of them can be computed, every
    /// label.
    pub labels: Vec<String>,
    /// Labels that are computed from the objects' own, by name: one of them, or the difference of
    /// two, as `g_r = "mag_g - mag_r"`. One that an object has by that name already is left. Where
    /// `labels` lists none, they are what is probed.
    pub tasks: BTreeMap<String, Task>,
    /// Which objects fit the probe and which score it.
    pub protocol: ProbeProtocol,
    /// Parts that the scored objects are cut into by a hash of their ids (or of `split.group`):
    /// each part is predicted by a fit on the protocol's fitting objects and all other parts.
    /// 0: scored objects are never fitted on.
    pub folds: usize,
    /// Whether every checkpoint of the run is embedded and probed too: when in training a label
    /// becomes known.
    pub checkpoints: bool,
    /// Whether every block of the model is probed too: where a label is known best.
    pub layers: bool,
    /// Other models that read the same labels from the same objects, beside `fit.method`: `knn`,
    /// `mlp`, `ols` or `ridge`.
    pub beside: Vec<Method>,
    /// What should not matter, such as the telescope, `{ label = "dec", at = [32.4] }` or the sky
    /// tile, `{ ra = "ra", dec = "dec", degrees = 1.0 }`: whether the embedding tells it, and how
    /// far probes drop on values that they were not fitted on.
    pub nuisance: Vec<Nuisance>,
    /// How labels are prepared, fitted and scored.
    pub fit: ProbeSettings,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            labels: Vec::new(),
            tasks: BTreeMap::new(),
            protocol: ProbeProtocol::default(),
            folds: 0,
            checkpoints: false,
            layers: false,
            beside: vec![Method::Knn],
            nuisance: Vec::new(),
            fit: ProbeSettings::default(),
        }
    }
}

/// Which objects fit a probe and which score it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeProtocol {
    /// Fit on training objects, score on validation objects.
    TrainValidation,
    /// Fit on validation objects, score on test objects (what the paper says).
    #[default]
    ValidationTest,
    /// Fit on training and validation objects, score on test objects.
    TrainTest,
    /// Validation and test objects together, cut in halves by a hash of their ids (what
    /// the paper's program did).
    Halves,
}

impl ProbeProtocol {
    /// The splits whose objects are fitted on or scored.
    pub fn splits(self) -> &'static [Split] {
        match self {
            Self::TrainValidation => &[Split::Train, Split::Validation],
            Self::ValidationTest | Self::Halves => &[Split::Validation, Split::Test],
            Self::TrainTest => &[Split::Train, Split::Validation, Split::Test],
        }
    }
}
