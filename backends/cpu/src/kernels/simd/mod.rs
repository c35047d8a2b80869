//! Vectors of `f32`, at the width the processor has.
//!
//! A kernel is written once over [`Simd`] as a [`Task`]; [`run`] compiles it for every
//! [`Level`] and calls the best one this processor has.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;

use super::product::Product;

/// How wide the processor's vectors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Sixteen numbers.
    Avx512,
    /// Eight numbers, with fused multiply-add.
    Avx2,
    /// Eight numbers in plain Rust.
    Portable,
}

impl Level {
    /// The best this processor has.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avx512 => "AVX-512",
            Self::Avx2 => "AVX2",
            Self::Portable => "portable vectors",
        })
    }
}

/// Work to be compiled for every vector width. Implementations mark [`run`](Self::run)
/// and all it calls, closures too, `#[inline(always)]`: only then do the vector
/// instructions of the level apply to them.
pub(crate) trait Task {
    /// What it returns.
    type Output;
    /// The work.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs `task` with this processor's vectors.
pub(crate) fn run<T: Task>(task: T) -> T::Output {
    #[cfg(test)]
    let level = testing::level();
    #[cfg(not(test))]
    let level = Level::best();
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: no level is chosen that `best` does not reach.
        Level::Avx512 => unsafe { x86::run_avx512(task) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: no level is chosen that `best` does not reach.
        Level::Avx2 => unsafe { x86::run_avx2(task) },
        _ => task.run(portable::Portable),
    }
}

/// The coefficients of 2^r on [-1/2, 1/2] by ascending power: the polynomial through the
/// Chebyshev nodes, within 1.1e-7 of it before rounding.
#[allow(clippy::excessive_precision, clippy::approx_constant)]
const EXP2: [f32; 6] = [
    1.000_000_119_209_289_6,
    0.693_147_182_464_599_6,
    0.240_221_068_263_053_9,
    0.055_503_569_543_361_664,
    0.009_676_031_768_321_991,
    0.001_339_086_331_427_097_3,
];

/// A vector instruction set. Holding a value of the type proves that the processor has it.
pub(crate) trait Simd: Copy + Send + Sync {
    /// Numbers in a vector.
    const LANES: usize;
    /// How many vectors wide a tile of accumulators may be (see `product`).
    const MAX_COLUMNS: usize;
    /// The vector.
    type V: Copy;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// The next [`LANES`](Self::LANES) numbers.
    ///
    /// # Safety
    /// They must be there.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// Writes the lanes.
    ///
    /// # Safety
    /// There must be room for them.
    unsafe fn store(self, to: *mut f32, v: Self::V);
    /// a + b.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a - b.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b + c.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The smaller of each pair; b where one is no number.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger of each pair; b where one is no number.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// √a.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// The nearest integer.
    fn round(self, a: Self::V) -> Self::V;
    /// a · 2^n for integers n in [-126, 127].
    fn scale2(self, a: Self::V, n: Self::V) -> Self::V;
    /// Sum of the lanes, in a fixed order.
    fn sum(self, a: Self::V) -> f32;
    /// [`Product::compute`], compiled once and called.
    ///
    /// # Safety
    /// As there.
    unsafe fn product(self, product: &Product);

    /// 2^x to 3e-7 of itself; below -125 as at -125, above 127 as at 127;
    /// what is no number stays none.
    #[inline(always)]
    fn exp2(self, x: Self::V) -> Self::V {
        let x = self.min(self.splat(127.0), self.max(self.splat(-125.0), x));
        let n = self.round(x);
        let r = self.sub(x, n);
        let mut y = self.splat(EXP2[5]);
        for k in (0..5).rev() {
            y = self.fma(y, r, self.splat(EXP2[k]));
        }
        self.scale2(y, n)
    }

    /// The numbers of a slice shorter than a vector, the other lanes `fill`.
    #[inline(always)]
    fn load_part(self, from: &[f32], fill: f32) -> Self::V {
        let mut lanes = [fill; 16];
        lanes[..from.len()].copy_from_slice(from);
        // SAFETY: no vector is wider than 16 lanes.
        unsafe { self.load(lanes.as_ptr()) }
    }

    /// Writes as many lanes as the slice, shorter than a vector, has room for.
    #[inline(always)]
    fn store_part(self, to: &mut [f32], v: Self::V) {
        let mut lanes = [0.0; 16];
        // SAFETY: no vector is wider than 16 lanes.
        unsafe { self.store(lanes.as_mut_ptr(), v) };
        to.copy_from_slice(&lanes[..to.len()]);
    }
}

/// A vector of each input, from `i` on.
///
/// # Safety
/// A whole vector is left in every input.
#[inline(always)]
unsafe fn load_all<S: Simd, const N: usize>(simd: S, inputs: [&[f32]; N], i: usize) -> [S::V; N] {
    let mut vectors = [simd.splat(0.0); N];
    for (vector, input) in vectors.iter_mut().zip(inputs) {
        // SAFETY: as the caller promises.
        *vector = unsafe { simd.load(input.as_ptr().add(i)) };
    }
    vectors
}

/// What is left of each input from `i` on, less than a vector.
#[inline(always)]
fn load_parts<S: Simd, const N: usize>(
    simd: S,
    inputs: [&[f32]; N],
    i: usize,
    fill: f32,
) -> [S::V; N] {
    let mut vectors = [simd.splat(0.0); N];
    for (vector, input) in vectors.iter_mut().zip(inputs) {
        *vector = simd.load_part(&input[i..], fill);
    }
    vectors
}

/// `out[i] = f(inputs[..][i])`, all slices of one length.
#[inline(always)]
pub(crate) fn map<S: Simd, const N: usize>(
    simd: S,
    inputs: [&[f32]; N],
    out: &mut [f32],
    f: impl Fn([S::V; N]) -> S::V,
) {
    assert!(inputs.iter().all(|input| input.len() == out.len()));
    let mut i = 0;
    while i + S::LANES <= out.len() {
        // SAFETY: a whole vector is left in every slice.
        unsafe {
            let v = f(load_all(simd, inputs, i));
            simd.store(out.as_mut_ptr().add(i), v);
        }
        i += S::LANES;
    }
    if i < out.len() {
        let v = f(load_parts(simd, inputs, i, 0.0));
        simd.store_part(&mut out[i..], v);
    }
}

/// `inout[i] = f(inout[i], inputs[..][i])`, all slices of one length.
#[inline(always)]
pub(crate) fn update<S: Simd, const N: usize>(
    simd: S,
    inout: &mut [f32],
    inputs: [&[f32]; N],
    f: impl Fn(S::V, [S::V; N]) -> S::V,
) {
    assert!(inputs.iter().all(|input| input.len() == inout.len()));
    let mut i = 0;
    while i + S::LANES <= inout.len() {
        // SAFETY: a whole vector is left in every slice.
        unsafe {
            let at = inout.as_mut_ptr().add(i);
            let v = f(simd.load(at), load_all(simd, inputs, i));
            simd.store(at, v);
        }
        i += S::LANES;
    }
    if i < inout.len() {
        let old = simd.load_part(&inout[i..], 0.0);
        let v = f(old, load_parts(simd, inputs, i, 0.0));
        simd.store_part(&mut inout[i..], v);
    }
}

/// `sums = f(sums, inputs[..][i])` over whole vectors; `fill` stands in for what is missing
/// from the last one.
#[inline(always)]
pub(crate) fn fold<S: Simd, const N: usize, const M: usize>(
    simd: S,
    inputs: [&[f32]; N],
    fill: f32,
    mut sums: [S::V; M],
    f: impl Fn([S::V; M], [S::V; N]) -> [S::V; M],
) -> [S::V; M] {
    let len = inputs[0].len();
    assert!(inputs.iter().all(|input| input.len() == len));
    let mut i = 0;
    while i + S::LANES <= len {
        // SAFETY: a whole vector is left in every slice.
        sums = unsafe { f(sums, load_all(simd, inputs, i)) };
        i += S::LANES;
    }
    if i < len {
        sums = f(sums, load_parts(simd, inputs, i, fill));
    }
    sums
}

#[cfg(test)]
pub(crate) mod testing {
    //! Tests run every level this processor has.

    use std::sync::{Mutex, PoisonError};

    use super::Level;

    static FORCED: Mutex<Option<Level>> = Mutex::new(None);
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    pub(super) fn level() -> Level {
        FORCED.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or_else(Level::best)
    }

    /// Calls `test` at every level up to the best; no other test forces a level meanwhile.
    pub(crate) fn at_every_level(test: impl Fn(Level)) {
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let all = [Level::Portable, Level::Avx2, Level::Avx512];
        let reached = all.iter().position(|&level| level == Level::best()).unwrap_or(0);
        for &level in &all[..=reached] {
            *FORCED.lock().unwrap_or_else(PoisonError::into_inner) = Some(level);
            test(level);
        }
        *FORCED.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp2<'a>(&'a [f32], &'a mut [f32]);

    impl Task for Exp2<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            map(
                simd,
                [self.0],
                self.1,
                #[inline(always)]
                |[x]| simd.exp2(x),
            );
        }
    }

    #[test]
    fn exp2_is_good_to_three_in_ten_million() {
        let xs: Vec<f32> = (-12_499..=12_699).map(|i| i as f32 / 100.0).collect();
        testing::at_every_level(|level| {
            let mut ys = vec![0.0; xs.len()];
            run(Exp2(&xs, &mut ys));
            for (&x, &y) in xs.iter().zip(&ys) {
                let truth = f64::from(x).exp2();
                let error = (f64::from(y) - truth).abs() / truth;
                assert!(error < 3e-7, "2^{x} = {y} with {level}, off by {error}");
            }
        });
    }

    #[test]
    fn exp2_vanishes_far_below_zero() {
        let mut y = [1.0; 3];
        run(Exp2(&[-1e30, -200.0, f32::NEG_INFINITY], &mut y));
        assert!(y.iter().all(|&y| (0.0..3e-38).contains(&y)), "{y:?}");
    }
}
