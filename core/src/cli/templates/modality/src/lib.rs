//! The modality `new-modality` for AstroPT.
//!
//! ```text
//! samples [n] -> (x - offset) / scale -> windows of w -> tokens [n / w, w]
//! ```
//!
//! [`config`] is what a recipe can say, [`tokenise`] the way to tokens and back. A program
//! that links this crate (`use astropt_new_modality as _;`) can name `kind = "new-modality"` in
//! its recipes. Comments that start with PHYSICS mark what to make your own.

pub mod config;
pub mod tokenise;
