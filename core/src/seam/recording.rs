//! Recorded answers of another program that a modality knows how to compare.

use std::path::Path;

use crate::error::Result;
use crate::verify::Comparison;

/// How `astropt verify` compares recordings that are no case of a whole model.
pub struct RecordingRule {
    /// The modality's kind.
    pub kind: &'static str,
    /// Compares what is recorded at a path, if it is of this kind: `None` for anything else.
    pub replay: fn(&Path) -> Option<Result<Vec<Comparison>>>,
}

inventory::collect!(RecordingRule);

/// The linked rules, by kind.
pub fn recording_rules() -> Vec<&'static RecordingRule> {
    let mut rules: Vec<_> = inventory::iter::<RecordingRule>().collect();
    rules.sort_by_key(|rule| rule.kind);
    rules
}

/// Registers how `astropt verify` compares what a modality makes with what another program has
/// recorded of it: its kind and a function from a path to comparisons.
///
/// ```ignore
/// register_recording!("galaxy-image", replay);
/// ```
#[macro_export]
macro_rules! register_recording {
    ($kind:literal, $replay:expr) => {
        $crate::inventory::submit! {
            $crate::seam::RecordingRule { kind: $kind, replay: $replay }
        }
    };
}
