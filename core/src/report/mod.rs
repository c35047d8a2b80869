//! The report of a run.
mod input;
pub use input::{Choice, CurvePoint, Preview, Rejected, ReportInput, RunFacts};
/// tmp
pub fn render(_input: &ReportInput) -> String {
    String::new()
}
