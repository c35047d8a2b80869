//! AVX-512 and AVX2 with fused multiply-add.

use std::arch::x86_64::*;

use super::{Simd, Task};
use crate::kernels::product::Product;

/// A processor with AVX-512F.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

/// A processor with AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

/// # Safety
/// The processor has AVX-512F.
#[target_feature(enable = "avx512f,avx2,fma")]
pub(super) unsafe fn run_avx512<T: Task>(task: T) -> T::Output {
    task.run(Avx512(()))
}

/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2<T: Task>(task: T) -> T::Output {
    task.run(Avx2(()))
}

/// # Safety
/// As [`Product::compute`].
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn product_avx512(simd: Avx512, product: &Product) {
    // SAFETY: as the caller promises.
    unsafe { product.compute(simd) }
}

/// # Safety
/// As [`Product::compute`].
#[target_feature(enable = "avx2,fma")]
unsafe fn product_avx2(simd: Avx2, product: &Product) {
    // SAFETY: as the caller promises.
    unsafe { product.compute(simd) }
}

/// Methods that are one instruction.
macro_rules! instructions {
    ($vector:ty; $($name:ident($($arg:ident),*) = $call:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $vector),*) -> $vector {
            // SAFETY: `self` exists only where the processor has the instruction.
            unsafe { $call }
        }
    )*};
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

impl Simd for Avx512 {
    const LANES: usize = 16;
    const MAX_COLUMNS: usize = 6;
    type V = __m512;

    instructions! { __m512;
        add(a, b) = _mm512_add_ps(a, b);
        sub(a, b) = _mm512_sub_ps(a, b);
        mul(a, b) = _mm512_mul_ps(a, b);
        div(a, b) = _mm512_div_ps(a, b);
        fma(a, b, c) = _mm512_fmadd_ps(a, b, c);
        min(a, b) = _mm512_min_ps(a, b);
        max(a, b) = _mm512_max_ps(a, b);
        sqrt(a) = _mm512_sqrt_ps(a);
        round(a) = _mm512_roundscale_ps::<NEAREST>(a);
        scale2(a, n) = _mm512_scalef_ps(a, n);
    }

    unsafe fn product(self, product: &Product) {
        // SAFETY: as `self` exists, and as the caller promises.
        unsafe { product_avx512(self, product) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: `self` exists only where the processor has the instruction.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::V {
        // SAFETY: as `self` exists, and as the caller promises.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: Self::V) {
        // SAFETY: as `self` exists, and as the caller promises.
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        // SAFETY: `self` exists only where the processor has the instructions.
        unsafe { _mm512_reduce_add_ps(a) }
    }
}

impl Simd for Avx2 {
    const LANES: usize = 8;
    const MAX_COLUMNS: usize = 3;
    type V = __m256;

    instructions! { __m256;
        add(a, b) = _mm256_add_ps(a, b);
        sub(a, b) = _mm256_sub_ps(a, b);
        mul(a, b) = _mm256_mul_ps(a, b);
        div(a, b) = _mm256_div_ps(a, b);
        fma(a, b, c) = _mm256_fmadd_ps(a, b, c);
        min(a, b) = _mm256_min_ps(a, b);
        max(a, b) = _mm256_max_ps(a, b);
        sqrt(a) = _mm256_sqrt_ps(a);
        round(a) = _mm256_round_ps::<NEAREST>(a);
        scale2(a, n) = {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        };
    }

    unsafe fn product(self, product: &Product) {
        // SAFETY: as `self` exists, and as the caller promises.
        unsafe { product_avx2(self, product) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: `self` exists only where the processor has the instruction.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::V {
        // SAFETY: as `self` exists, and as the caller promises.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: Self::V) {
        // SAFETY: as `self` exists, and as the caller promises.
        unsafe { _mm256_storeu_ps(to, v) }
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        // SAFETY: `self` exists only where the processor has the instructions.
        unsafe {
            let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(quarter, _mm_shuffle_ps::<1>(quarter, quarter)))
        }
    }
}
