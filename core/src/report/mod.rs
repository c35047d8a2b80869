//! The report of a run: one HTML file that needs nothing beside itself.
//!
//! [`render`] is a pure function of [`ReportInput`]: no clock, no files, no network. The page
//! makes no request (styles, charts and images are inside it) and runs no script; it follows
//! the reader's light or dark setting and fits a phone. Parts whose input is empty are left
//! out, so a report can be drawn while a run is still young.

mod audit;
mod curves;
mod emergence;
mod family;
mod figures;
mod forest;
mod frame;
mod input;
mod line;
mod page;
mod probes;
mod summary;
mod trends;

use crate::figures::format;

pub use family::{FamilyInput, render_family};
pub use figures::Figure;
pub use input::{Choice, CurvePoint, Preview, Rejected, ReportInput, RunFacts};
pub use page::render;
pub(crate) use trends::few_objects;

#[cfg(test)]
mod tests;
