//! tmp
pub mod files;
mod numbers;
pub mod tensors;
pub use files::{write_atomic, write_bytes, write_folder_atomic};
pub use tensors::{load_tensors, save_tensors};
