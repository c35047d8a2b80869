//! The kernels of the CPU, one operation per file.

pub mod simd;

use astropt_core::kernels::Kernels;
use burn_flex::Flex;

/// Fused kernels on burn-flex tensors.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuKernels;

impl Kernels<Flex> for CpuKernels {}
