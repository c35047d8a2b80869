//! How the modalities of a checkpoint that another program wrote are found among ours.

use crate::checkpoint::python::JsonMap;
use crate::tokens::TokenSpec;

/// A modality as a checkpoint of the Python AstroPT describes it.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    /// What the checkpoint calls it.
    pub name: &'a str,
    /// Its tokens, as far as the model's parameters decide them. `max_tokens` is the longest
    /// sequence that the model was made for.
    pub spec: &'a TokenSpec,
    /// Side of a patch or samples of a window, where it is stated.
    pub patch: Option<usize>,
    /// The training script's settings; often empty.
    pub config: &'a JsonMap,
}

impl Described<'_> {
    /// The loss weight as a recipe would write it.
    pub fn loss_weight(&self) -> toml::Value {
        let weight = self.spec.loss_weight;
        weight.to_string().parse().unwrap_or(f64::from(weight)).into()
    }
}

/// A modality's table that makes such tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proposal {
    /// What the checkpoint states.
    pub stated: toml::Table,
    /// What it does not state and is taken for granted, until the user says otherwise.
    pub assumed: Vec<Assumption>,
}

/// A value that a checkpoint does not state.
#[derive(Clone, Debug, PartialEq)]
pub struct Assumption {
    /// Key of the modality's table.
    pub key: &'static str,
    /// The value that is assumed.
    pub value: toml::Value,
    /// Why this one.
    pub why: &'static str,
}

/// How to import modalities of one kind.
pub struct ImportRule {
    /// The kind it proposes.
    pub kind: &'static str,
    /// Whether it takes what no other rule takes.
    pub fallback: bool,
    /// The table, without `kind`, if the kind makes such tokens.
    pub propose: fn(&Described<'_>) -> Option<Proposal>,
}

inventory::collect!(ImportRule);

/// The linked rules: by kind, fallbacks last.
pub fn import_rules() -> Vec<&'static ImportRule> {
    let mut rules: Vec<_> = inventory::iter::<ImportRule>().collect();
    rules.sort_by_key(|rule| (rule.fallback, rule.kind));
    rules
}

/// Registers how `astropt import` finds a modality: its kind and a function that proposes
/// its table. A rule with `fallback` is asked after all others.
///
/// ```ignore
/// register_import!("codes", propose);
/// ```
#[macro_export]
macro_rules! register_import {
    ($kind:literal, $propose:expr) => {
        $crate::register_import!($kind, $propose, false);
    };
    ($kind:literal, $propose:expr, fallback) => {
        $crate::register_import!($kind, $propose, true);
    };
    ($kind:literal, $propose:expr, $fallback:literal) => {
        $crate::inventory::submit! {
            $crate::seam::ImportRule { kind: $kind, fallback: $fallback, propose: $propose }
        }
    };
}
