//! The images of the Python AstroPT.

use astropt_core::seam::{Assumption, Described, Proposal};
use astropt_core::tokens::{Positions, Values};

astropt_core::register_import!("galaxy-image", propose);

/// Tokens are patches of an image when they have a table of positions and whole pixels of a
/// square patch of more than one.
fn propose(of: &Described<'_>) -> Option<Proposal> {
    let Values::Continuous { width } = of.spec.values else { return None };
    let Positions::Index { max } = of.spec.positions else { return None };
    let patch = of.patch.filter(|&side| side > 1)?;
    let area = patch.checked_mul(patch)?;
    if width == 0 || !width.is_multiple_of(area) {
        return None;
    }
    let side = max.isqrt();
    let mut proposal = Proposal::default();
    let numbers = [("patch", patch), ("bands", width / area), ("positions", max)];
    for (key, number) in numbers {
        proposal.stated.insert(key.to_owned(), i64::try_from(number).ok()?.into());
    }
    proposal.stated.insert("loss_weight".to_owned(), of.loss_weight());
    let size = i64::try_from(side.checked_mul(patch)?).ok()?;
    let mut assume = |key, value, why| proposal.assumed.push(Assumption { key, value, why });
    assume("size", size.into(), "the largest square image that the position table has room for");
    assume("standardise", "patch".into(), "what the program does in every version");
    assume("axes", "file".into(), "\"hub\" if it was trained from the Hugging Face hub");
    match of.config.get("spiral").and_then(|spiral| spiral.as_bool()) {
        Some(true) => stated_order(&mut proposal, "spiral"),
        Some(false) => stated_order(&mut proposal, "raster"),
        None => assume("order", "spiral".into(), "what the published models were trained with"),
    }
    Some(proposal)
}

fn stated_order(proposal: &mut Proposal, order: &str) {
    proposal.stated.insert("order".to_owned(), order.into());
}
