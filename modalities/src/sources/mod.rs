//! Sources: files, or nothing but a seed, -> observations.

pub mod bytes;
pub mod decode;
pub mod hub;
pub mod image_folder;
pub mod parquet;
pub mod synthetic;
