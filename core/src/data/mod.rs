//! Objects to batches: splits, order, reading, chaining, and the workers that do it.

mod assembly;
mod batch;
mod dataset;
mod draw;
mod loader;
mod objects;
mod order;
mod pieces;
mod place;
mod rejections;
mod sequence;
mod split;
mod stream;
mod tile;
mod units;
mod witness;

pub use assembly::Assembly;
pub use batch::{Batch, Inputs, Part, Purpose, Row, Sight};
pub(crate) use dataset::MAX_SUBSTITUTES;
pub use dataset::{Dataset, Excerpt, Loaded, Rejected};
pub use draw::Drawn;
pub use loader::Loader;
pub use objects::Objects;
pub use pieces::Pieces;
pub(crate) use rejections::{SharedRejections, too_many_rejected};
pub use sequence::{Objective, Sequence, Task};
pub use split::{Split, Splits, group_key, split_key, unit_hash};
pub use stream::{Delimiters, OrderWord, Packing, SpanOrder, StreamConfig};
pub(crate) use tile::check_degrees;
pub use tile::{TileConfig, pixel, position};
pub(crate) use units::other_label_unit;
pub use witness::Witnesses;
