//! Photometric spectral energy distributions (SEDs) for AstroPT: a third-party plugin.
//!
//! ```text
//! flux, error [bands] -> uJy -> (asinh(f / s), log10 of its error) -> one token a band [T, 2]
//!                                log10(wavelength / um)            -> its position     [T, 1]
//! ```
//!
//! A band that was not measured has no token, so that objects of different surveys share one
//! model. [`sed`] is the modality, [`black_bodies`] a source to try it on, [`unit`] the units
//! of photometry. A program that links this crate (`use astropt_sed as _;`) can name both
//! kinds in its recipes.

pub mod black_bodies;
pub mod config;
pub mod sed;
pub mod unit;
