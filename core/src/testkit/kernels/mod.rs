//! The behaviour suite of kernels: each of a platform's kernels, forward and backward, against
//! the reference on the same Burn backend.
//!
//! ```ignore
//! #[test]
//! fn the_kernels_agree_with_the_reference() {
//!     testkit::kernels::check::<MyPlatform>(&MyDevice::default()).expect("agreement");
//! }
//! ```
//!
//! [`check`] and [`check_rounded`] ask every kernel on shapes that have caught mistakes; the
//! functions beside them check one on one shape, for tests that draw shapes at random.

mod attention;
mod elementwise;
mod linear;
mod nans;
mod numbers;
mod optimiser;

use burn_backend::tensor::Device;
use burn_tensor::Tensor;

use super::{Check, ensure};
use crate::kernels::{Kernels, Platform, Reference};

/// Largest difference allowed where factors are rounded to bf16, relative to the largest magnitude:
/// each of the two and what is made of them is off by 0.2% of itself at most, and a chain of such
/// kernels adds that up.
const ROUNDED: f32 = 2e-2;

pub use attention::AttentionCase;
use attention::MASKS;
pub use elementwise::{column_sums, cross_entropy, gelu, huber, layer_norm, relu, select};
pub use linear::linear;
pub use nans::not_numbers;
use numbers::TOLERANCE;
pub use numbers::{Numbers, close, numbers};
pub use optimiser::{optimiser, slots, sums};

type T<P, const D: usize> = Tensor<<P as Platform>::Backend, D>;

/// All kernels on many shapes.
///
/// # Errors
/// The first number that differs: of which kernel and shape, and by how much.
pub fn check<P: Platform>(device: &Device<P::Backend>) -> Check {
    check_against::<P, Reference>(device)
}

/// The same against the truth `R`: the reference with another product, for Burn backends that
/// multiply with fewer digits than `f32` has.
///
/// # Errors
/// The first number that differs: of which kernel and shape, and by how much.
pub fn check_against<P: Platform, R: Kernels<P::Backend>>(device: &Device<P::Backend>) -> Check {
    // The last has rows that are longer than kernels on GPUs have threads for one.
    let sizes = [[1, 1, 1], [2, 3, 5], [33, 64, 48], [700, 40, 30], [3, 300, 140]];
    matrices::<P, R>(device, &sizes, TOLERANCE)?;
    let shapes = [(1, 1, 1, 4), (2, 37, 3, 16), (1, 130, 2, 17), (2, 64, 2, 64), (1, 300, 1, 8)];
    attention::cases(&shapes, &MASKS, [1.0, 4.0])
        .try_for_each(|case| case.check::<P, R>(device))?;
    not_numbers::<P>(device)
}

/// Kernels of a platform that rounds factors to bf16, against the truth `R` in `f32`: within what
/// that explains where factors are multiplied, and as closely as ever elsewhere.
///
/// # Errors
/// The first number that differs by more.
pub fn check_rounded<P: Platform, R: Kernels<P::Backend>>(device: &Device<P::Backend>) -> Check {
    // A new shape is a new product to tune, which takes its time: one that does not fit tensor cores.
    // Whole models have those that do.
    matrices::<P, R>(device, &[[33, 70, 48]], ROUNDED)?;
    // Heads of sixteens, as tensor cores take them, and others; rows that fill blocks and do not.
    // Kernels are compiled for size and mask: all of the masks on one size, and on the others the
    // plain causal one of the paper's heads of 64, or that with all there is.
    let small = [(1, 1, 1, 16), (2, 37, 3, 16), (1, 130, 2, 16)];
    let plain = [(2, 70, 1, 64), (1, 37, 2, 80)];
    let wide = [(2, 128, 2, 64), (1, 70, 1, 128), (2, 70, 1, 20)];
    attention::cases(&small, &MASKS, [1.0, 2.0])
        .chain(attention::cases(&plain, &MASKS[..1], [2.0, 1.0]))
        .chain(attention::cases(&wide, &MASKS[5..], [2.0, 1.0]))
        .try_for_each(|case| case.check_rounded::<P, R>(device))?;
    linear::long_sums::<P, R>(device)?;
    attention::long_sums::<P, R>(device)?;
    not_numbers::<P>(device)
}

/// All kernels but attention on `n` rows of `i` and of `o` numbers each, where products may be off
/// by `tolerance`.
fn matrices<P: Platform, R: Kernels<P::Backend>>(
    device: &Device<P::Backend>,
    sizes: &[[usize; 3]],
    tolerance: f32,
) -> Check {
    for (k, &[n, i, o]) in sizes.iter().enumerate() {
        let seed = k as u64;
        linear::layers::<P, R>(device, [n, i, o], k % 2 == 0, seed, tolerance)?;
        layer_norm::<P, R>(device, n, i, seed)?;
        gelu::<P, R>(device, n, i, [0.5, 3.0, 30.0][k % 3], seed)?;
        relu::<P, R>(device, n, i, seed)?;
        huber::<P, R>(device, n, o, seed)?;
        // Of one code alone the loss is zero, which nothing is relative to.
        cross_entropy::<P, R>(device, n, o + 1, seed)?;
        column_sums::<P, R>(device, n, i, seed)?;
        select::<P, R>(device, o, n, i, seed)?;
        optimiser::<P, R>(device, &[n * i, o, 7 * i * o], 1 + 100 * seed, seed)?;
    }
    // More rows than sixteen bits can count.
    select::<P, R>(device, 70_000, 400, 2, 0)?;
    sums::<P>(device)
}
