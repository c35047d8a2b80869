//! Objects to batches: splits, order, reading, chaining, and the workers that do it.

mod assembly;
mod batch;
mod dataset;
mod loader;
mod objects;
mod order;
mod pieces;
mod sequence;
mod split;
mod stream;

pub use assembly::Assembly;
pub use batch::{Batch, Inputs, Part, Purpose, Row, Sight};
pub(crate) use dataset::too_many_rejected;
pub use dataset::{Dataset, Excerpt, Loaded, Rejected};
pub use loader::Loader;
pub use objects::Objects;
pub use pieces::Pieces;
pub use sequence::{Objective, Sequence, Task};
pub use split::{Split, Splits, group_key, unit_hash};
pub use stream::{Delimiters, OrderWord, Packing, SpanOrder, StreamConfig};
