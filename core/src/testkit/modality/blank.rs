//! Spans of which only the places are known, and how many there are.

use super::answer::uneven;
use super::{bits, tokenise};
use crate::seam::Modality;
use crate::testkit::{Check, calm, ensure};
use crate::tokens::Tokens;

/// How far a place of the blank span may be from the sample's, relative to numbers above 1.
const PLACES_WITHIN: f32 = 1e-5;

/// A blank span, where the modality gives one, is as `spec()` says, holds nothing but places, and
/// goes back as tokens that a model made do.
pub(super) fn check_blank(modality: &dyn Modality) -> Check {
    let Some(blank) = calm("blank", || modality.blank())? else { return Ok(()) };
    blank
        .check(&modality.spec())
        .map_err(|e| format!("its blank span is not as spec() says: {e}"))?;
    let empty = blank.values.iter().all(|&x| x == 0.0) && blank.codes.iter().all(|&k| k == 0);
    ensure(empty && blank.affine.is_empty(), || {
        "its blank span holds more than places: values and codes are 0, and it has no affine"
            .to_owned()
    })?;
    let again = calm("blank", || modality.blank())?;
    ensure(again.is_some_and(|again| bits(&again) == bits(&blank)), || {
        "blank() gives another span the next time".to_owned()
    })?;
    let back = |what, result: crate::Result<()>| {
        result.map_err(|e| format!("{what} refuses the modality's blank span: {e}"))
    };
    back("detokenise", calm("detokenise", || modality.detokenise(&blank).map(drop))?)?;
    back("reconstruct", calm("reconstruct", || modality.reconstruct(&blank).map(drop))?)?;
    back("preview", calm("preview", || modality.preview(&blank).map(drop))?)
}

/// The blank span is as long as the sample's at least and, where it is as long, stands where that
/// does.
pub(super) fn check_blank_places(modality: &dyn Modality, tokens: &Tokens) -> Check {
    let Some(blank) = calm("blank", || modality.blank())? else { return Ok(()) };
    ensure(blank.len >= tokens.len, || {
        format!("its blank span has {} tokens, the sample's {}", blank.len, tokens.len)
    })?;
    if blank.len > tokens.len {
        return Ok(());
    }
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= PLACES_WITHIN * a.abs().max(1.0);
    let alike = blank.positions.iter().zip(&tokens.positions).all(near);
    ensure(alike && blank.indices == tokens.indices, || {
        "its blank span, as long as the sample's, has its tokens at other places, or in another \
         order"
            .to_owned()
    })
}

/// Where all spans are said to be of one length, those that are not an object's own are.
pub(super) fn check_even(modality: &dyn Modality, tokens: &Tokens) -> Check {
    if !calm("is_even", || modality.is_even())? {
        return Ok(());
    }
    let check = |what: &str, span: Option<Tokens>| {
        let len = span.map_or(tokens.len, |span| span.len);
        ensure(len == tokens.len, || uneven(len, what))
    };
    check("its blank span", calm("blank", || modality.blank())?)?;
    let example = calm("example", || modality.example())?;
    let example = example.map(|example| tokenise(modality, &example)).transpose()?;
    check("its example", example.and_then(|tokens| tokens.ok().flatten()))
}
