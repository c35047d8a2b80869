//! `[reference]`: published numbers that a report sets beside its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What another work has published of the same experiment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reference {
    /// The work, such as `Smith et al. 2024, arXiv:2405.14930`. Empty: there is none, whatever
    /// else stands here.
    pub source: String,
    /// What keeps its numbers from being compared with these, as a sentence.
    pub caveat: String,
    /// Emissions of all its trainings, in kilograms of carbon dioxide.
    pub co2_kg: Option<f64>,
    /// Validation loss by scale.
    pub loss: BTreeMap<String, f64>,
    /// The scale whose gains `tasks` has.
    pub gain_at: Option<String>,
    /// The scale that those gains are over.
    pub gain_over: Option<String>,
    /// Probes by label.
    pub tasks: BTreeMap<String, ReferenceTask>,
    /// Where its words and its program disagree, or leave a point open.
    pub points: Vec<ReferencePoint>,
}

/// A point on which a published work can be followed in more than one way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferencePoint {
    /// Its number, such as `D2`.
    pub id: String,
    /// What it is about: the name of one of the report's choices, which says what was done here.
    pub about: String,
    /// What the published text says.
    pub paper: String,
    /// What the published program did.
    pub program: String,
    /// What was done here, where it is no choice.
    #[serde(default)]
    pub here: String,
    /// Why what is done here is what a text says, where its words are others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// What was published of one label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceTask {
    /// The correlation of its gains with the logarithm of the compute.
    pub rho: f64,
    /// Its gain at the scale `gain_at`.
    pub gain: f64,
}

impl Reference {
    /// The reference, if there is one.
    pub fn stated(&self) -> Option<&Self> {
        (!self.source.is_empty()).then_some(self)
    }
}
