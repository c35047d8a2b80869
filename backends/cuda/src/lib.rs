//! The CUDA backend: burn-cuda's tensors with kernels of this crate, on NVIDIA GPUs.
//!
//! Registered as `cuda`. With the feature `linked` it computes, and needs no CUDA to be built:
//! the driver, the run-time compiler NVRTC and CUDA's headers are looked for when the backend is
//! asked for, and what is missing is said. Without the feature it only says how to build it.

#[cfg(not(feature = "linked"))]
mod absent;
#[cfg(feature = "linked")]
mod backend;
#[cfg(feature = "linked")]
pub mod kernels;
#[cfg(feature = "linked")]
mod monitor;
#[cfg(feature = "linked")]
mod settings;

#[cfg(feature = "linked")]
pub use backend::{Bf16Platform, CudaBackend, CudaPlatform};
#[cfg(feature = "linked")]
pub use kernels::tuning::keep_errors;
#[cfg(feature = "linked")]
pub use settings::prepare;
