//! Converted data: what a recipe's modalities make of a source, in files that are mapped into
//! memory and read without being decoded again. docs/FORMATS.md describes the files.
//!
//! - [`convert()`]: writes them; an interrupted conversion can go on.
//! - `originals`: a few objects as they were before.
//! - `outline`: what a folder holds, for a person.
//! - `source`: the source `tokenised`, which reads them back.
//! - `index`, `writer`, `reader`: the files themselves.

mod convert;
mod index;
mod mapping;
mod originals;
mod outline;
mod reader;
mod source;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};

pub use convert::{Converted, Settings, convert};
pub use index::Precision;
pub(crate) use outline::{
    Object, Outline, Part, ShardOutline, kept, outline, outline_of, shard_tokens,
};
pub use source::TokenisedConfig;

/// The kind of the source that reads converted data.
pub const KIND: &str = "tokenised";
/// What was converted, and the shards with their hashes; written last.
const INDEX: &str = "astropt-index.json";
/// Stands in the place of [`INDEX`] until all shards are there.
const UNFINISHED: &str = "astropt-unfinished.json";

/// Whether `path` is a folder of converted data, finished or not.
pub fn is_converted(path: &Path) -> bool {
    [INDEX, UNFINISHED].iter().any(|name| path.join(name).is_file())
}

/// The tokens of shard `number`.
fn shard_path(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("shard-{number:05}.safetensors"))
}

/// The objects of shard `number`.
fn listing_path(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("shard-{number:05}.json"))
}

/// xxh3, 128 bits, in hexadecimal digits.
fn hash(bytes: &[u8]) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(bytes))
}
