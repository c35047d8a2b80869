//! The LibTorch backend: Burn's `tch` tensors with libtorch's own fused operations, on CPU
//! and CUDA.
//!
//! Registered as `libtorch` when the feature `linked` is on, which wants libtorch at build
//! (see `setup.sh` beside this crate, or the page docs/BACKENDS.md); without it the crate is
//! empty.

#[cfg(feature = "linked")]
mod backend;
#[cfg(feature = "linked")]
pub mod kernels;
#[cfg(feature = "linked")]
mod version;

#[cfg(feature = "linked")]
pub use backend::{Bf16Platform, LibTorchBackend, LibTorchPlatform};
