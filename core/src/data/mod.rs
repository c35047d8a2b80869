//! Objects to batches.

mod batch;

pub use batch::{Batch, Part, Purpose, Row};
