//! Tokens without what was measured on their object and taken out.

use super::Sample;
use crate::seam::Modality;
use crate::testkit::{Check, calm, ensure};
use crate::tokens::Tokens;

/// Numbers of which the affine is not known, as of tokens that a model made, are not in the data's
/// unit, and `reconstruct` does not say that they are.
pub(super) fn check_without_affine(
    modality: &dyn Modality,
    sample: &Sample<'_>,
    tokens: &Tokens,
) -> Check {
    if tokens.affine.is_empty() {
        return Ok(());
    }
    let bare = Tokens { affine: Vec::new(), ..tokens.clone() };
    // To refuse them is an answer too.
    let told = calm("reconstruct", || modality.reconstruct(&bare))?.ok().flatten();
    let field = told.as_ref().and_then(|told| told.fields.get(sample.field));
    let unit = field.and_then(|field| field.unit.as_deref());
    ensure(unit.is_none(), || {
        format!(
            "reconstruct gives {:?} in {:?} where the tokens have no affine, as those that a model \
             made: without it the numbers are standardised, and have no unit",
            sample.field,
            unit.unwrap_or_default()
        )
    })
}
