//! Sources: files, or nothing but a seed, -> observations.

pub mod axes;
pub mod decode;
pub mod fits;
mod guard;
pub mod hdf5;
pub mod image_folder;
mod labels;
mod listing;
pub mod synthetic;
mod table;
