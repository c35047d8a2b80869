//! The paper's figures, as drawings that need nothing beside themselves.
//!
//! Every function turns plain numbers into one standalone SVG: white ground, presentation
//! attributes alone, a title and a description for readers who do not see it, and as wide as a
//! column of a journal, so that its text can be read on a phone too. [`png`] makes a bitmap of
//! any of them with a font that the program carries, the same on every machine.
//!
//! | function | figure |
//! |---|---|
//! | [`spiral`] | 1: the order in which a stamp's patches are read |
//! | [`loss_curves`] | 2: loss against compute and tokens, and the law fitted to it |
//! | [`property_maps`] | 3: maps of embeddings coloured by properties |
//! | [`gains`] | 4: what probes gain with compute |
//! | [`score_curves`] | how well properties are known through training, or from layer to layer |

mod axes;
mod colour;
pub(crate) mod format;
mod gains;
mod loss;
mod maps;
mod png;
pub(crate) mod scale;
mod scores;
mod spiral;
mod svg;

pub use gains::{Gain, GainPanel, Gains, gains};
pub use loss::{FittedLaw, LossCurve, LossCurves, LossMark, loss_curves};
pub use maps::{MapColumn, MapProperty, PropertyMaps, property_maps};
pub use png::png;
pub use scores::{ScoreCurves, ScorePoint, ScoreSeries, score_curves};
pub use spiral::{Spiral, Stamp, spiral};

#[cfg(test)]
mod tests;
