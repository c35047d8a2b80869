//! Sources: files, or nothing but a seed, -> observations.

pub mod decode;
pub mod image_folder;
pub mod synthetic;
