//! Files a model is kept in: written whole or not at all, and read without trusting them.
//!
//! - [`files`]: writing so that a reader never meets half a file.
//! - [`tensors`], [`arrays`]: safetensors, the program's own format.
//! - [`format`]: its version; `checksums`: what its bytes were; `finite`: numbers that are none.
//! - [`pt`]: PyTorch's `.pt`, read through [`pickle`] without executing anything.
//! - [`pt_writer`], [`pickle_writer`]: the same, written.
//! - `recorded`: observations that are kept to be tokenised again.
//! - [`python`]: checkpoints of the Python AstroPT, by their names and configuration.
//! - [`export`]: the same, written.

pub mod arrays;
pub(crate) mod checksums;
pub mod export;
pub mod files;
pub(crate) mod finite;
pub mod format;
mod graph;
mod layout;
mod numbers;
pub mod pickle;
pub mod pickle_writer;
pub mod pt;
pub mod pt_writer;
pub mod python;
pub(crate) mod recorded;
pub mod tensors;
mod value;

pub use files::{AtomicFile, write_atomic, write_bytes, write_folder_atomic};
pub use tensors::{load_tensors, save_tensors};
