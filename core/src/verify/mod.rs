//! Agreement with recorded answers of the Python AstroPT.
//!
//! A case is a folder: `case.json` (configuration and training schedule),
//! `case.safetensors` (inputs and answers), and the initial weights as
//! `weights.safetensors` or `ckpt.pt`. [`verify`] replays everything the case holds on any
//! [`Session`] and compares; what it does not understand counts as a disagreement, and so does what
//! it lacks: the Python program records outputs and the loss of every model, hidden states of those
//! that read continuous tokens causally, the training of all but masked ones, and of version 1 what
//! it generated. Other
//! recordings, such as the tokens of pictures, are compared by the modality that registered for
//! them ([`RecordingRule`](crate::seam::RecordingRule)).

mod case;
mod compare;
mod forward;
mod training;

use std::path::Path;

pub use compare::Comparison;

use crate::engine::Session;
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::seam::recording_rules;
use case::{Case, Weights};
use compare::Ledger;

/// Replays the case in the folder `case`, starting from its own weights or those in the
/// file `weights` (safetensors or `.pt`), on the session that `open` makes, and compares
/// every recorded quantity. The case agrees when all comparisons are
/// [ok](Comparison::ok).
///
/// From a `.pt` that carries one, the optimiser's state after the training is compared
/// too; where the case has `weights.safetensors` as well, the two must be equal.
///
/// # Errors
/// When a file is missing or broken, the model is not supported, the case holds nothing
/// to compare, or the device fails. A disagreement is no error.
pub fn verify(
    case: &Path,
    weights: Option<&Path>,
    open: &dyn Fn(&ModelConfig) -> Result<Box<dyn Session>>,
) -> Result<Vec<Comparison>> {
    if !case.join("case.json").is_file() {
        return recording(case);
    }
    let case = Case::load(case)?;
    let weights = Weights::load(&case, weights)?;
    let mut ledger = Ledger::new(&case.name, &case.recorded);
    weights.compare_sources(&case, &mut ledger);
    let mut session = open(&case.model)?;
    session.set_parameters(&weights.parameters)?;
    forward::replay(&case, session.as_mut(), &mut ledger)?;
    training::replay(&case, &weights, session.as_mut(), &mut ledger)?;
    if !ledger.compared_any() {
        return Err(Error::file(&case.folder, NOTHING));
    }
    Ok(ledger.finish())
}

/// Why a recording is refused that compares nothing.
const NOTHING: &str = "holds nothing that could be compared";

/// Compares recordings that are no case of a whole model, by the modality that knows them.
fn recording(path: &Path) -> Result<Vec<Comparison>> {
    std::fs::metadata(path).map_err(|e| Error::io("read", path, &e))?;
    let known = recording_rules().into_iter().find_map(|rule| (rule.replay)(path));
    let comparisons = known.unwrap_or_else(|| {
        let message = "holds no case.json, and nothing that a modality has recorded answers for; \
                       give the folder of a case";
        Err(Error::file(path, message))
    })?;
    if comparisons.is_empty() {
        return Err(Error::file(path, NOTHING));
    }
    Ok(comparisons)
}
