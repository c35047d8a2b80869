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

/// The way out where texts are to be a field of a source that has no `codes`.
const NO_CODES: &str = "of texts such as names of bands make integers (0, 1, 2) in the file, or \
                        write them as Parquet or CSV, whose sources number them by `codes`";
