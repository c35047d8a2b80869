//! Every kernel against the reference, on every GPU that NVIDIA's driver shows here, laid over several
//! rows of cubes as those of large models are.

use astropt_core::kernels::{Kernels as _, Platform};
use astropt_core::testkit::kernels::{Numbers, check_against, check_rounded, numbers};
use burn_tensor::Tensor;

use super::ExactReference;
use super::tuning::testing::gpus;
use crate::{Bf16Platform, CudaPlatform};

type B = <CudaPlatform as Platform>::Backend;

#[test]
fn the_kernels_agree_with_the_reference() {
    for device in gpus() {
        check_against::<CudaPlatform, ExactReference>(&device)
            .unwrap_or_else(|wrong| panic!("{device:?}: {wrong}"));
    }
}

#[test]
fn the_kernels_in_bf16_agree_with_the_reference() {
    for device in gpus() {
        check_rounded::<Bf16Platform, ExactReference>(&device)
            .unwrap_or_else(|wrong| panic!("{device:?}: {wrong}"));
    }
}

/// The other tests take the product for granted: their reference has the same.
#[test]
fn products_in_f32_are_those_of_double_precision() {
    for device in gpus() {
        for (outer, m, k, n) in [(1, 1, 1, 1), (1, 70, 33, 65), (6, 5, 130, 17), (2, 129, 1, 64)] {
            let mut draw = Numbers::new(k as u64);
            let a: Tensor<B, 3> = draw.tensor([outer, m, k], 1.0, &device);
            let b: Tensor<B, 3> = draw.tensor([outer, k, n], 1.0, &device);
            let truth = product(&a, &b, k);
            let views = |x: &Tensor<B, 3>| {
                // What stands side by side in the one stands below each other in the other.
                let turned = x.clone().swap_dims(1, 2).into_data();
                [x.clone(), Tensor::from_data(turned, &device).swap_dims(1, 2)]
            };
            for (a, b) in views(&a).into_iter().flat_map(|a| views(&b).map(|b| (a.clone(), b))) {
                let ours =
                    numbers(&ExactReference::product(a, b)).unwrap_or_else(|e| panic!("{e}"));
                assert_eq!(ours.len(), truth.len());
                for (at, (x, y)) in ours.iter().zip(&truth).enumerate() {
                    let error = (f64::from(*x) - y).abs();
                    assert!(error <= 1e-6 * k as f64, "{outer} {m} {k} {n}: {at}: {x}, not {y}");
                }
            }
        }
    }
}

fn product(a: &Tensor<B, 3>, b: &Tensor<B, 3>, k: usize) -> Vec<f64> {
    let ([outer, m, _], n) = (a.dims(), b.dims()[2]);
    let [a, b] = [a, b].map(|x| numbers(x).unwrap_or_else(|e| panic!("{e}")));
    let term = |o: usize, i: usize, j: usize, l: usize| {
        f64::from(a[(o * m + i) * k + l]) * f64::from(b[(o * k + l) * n + j])
    };
    let at = |x: usize| (x / (m * n), x / n % m, x % n);
    (0..outer * m * n).map(at).map(|(o, i, j)| (0..k).map(|l| term(o, i, j, l)).sum()).collect()
}
