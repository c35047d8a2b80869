//! Objects to batches: splits, order, reading, chaining, and the workers that do it.

mod batch;
mod dataset;
mod loader;
mod order;
mod split;

pub use batch::{Batch, Part, Purpose, Row};
pub use dataset::{Dataset, Loaded, Rejected};
pub use loader::Loader;
pub use split::{Split, Splits, unit_hash};
