//! Files a model is kept in: written whole or not at all, and read without trusting them.
//!
//! - [`files`]: writing so that a reader never meets half a file.
//! - [`tensors`]: safetensors, the program's own format.
//! - [`pt`]: PyTorch's `.pt`, read through [`pickle`] without executing anything.
//! - [`python`]: checkpoints of the Python AstroPT, by their names and configuration.

pub mod files;
mod graph;
mod numbers;
pub mod pickle;
pub mod pt;
pub mod python;
pub mod tensors;
mod value;

pub use files::{AtomicFile, write_atomic, write_bytes, write_folder_atomic};
pub use tensors::{load_tensors, save_tensors};
