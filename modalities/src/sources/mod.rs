//! Sources: files, or nothing but a seed, -> observations.

pub mod axes;
pub mod bytes;
pub mod decode;
pub mod fits;
pub mod hdf5;
pub mod hub;
pub mod image_folder;
pub mod join;
mod labels;
mod listing;
mod lru;
pub mod npz;
pub mod parquet;
mod shorthand;
pub mod synthetic;
pub mod table;
mod tabular;
mod units;
