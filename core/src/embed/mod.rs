//! Embeddings and the files they go to.
//!
//! The contract: an [`Embeddings`] table holds one row an object (id, split, labels and a
//! vector of the same shape for all). [`ParquetSink`] streams rows to a Parquet file that
//! appears whole or not at all; [`Embeddings::read_parquet`] reads it back, so that probing
//! needs nothing of the run but this one file.

mod made;
mod npy;
mod pass;
mod read;
mod sink;
mod table;

pub use npy::NpySink;
pub(crate) use pass::describe;
pub use pass::{Target, Written, embed, features, raw_features};
pub use sink::{ParquetSink, Rows, column_unit};
pub use table::{Description, Embeddings, LabelColumns, LabelKind, label_columns};
