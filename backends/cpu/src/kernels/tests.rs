//! Every kernel against the reference (the suite of core's testkit), at every vector level and
//! on random shapes, and on one thread as on many.

use astropt_core::kernels::{AdamW, Kernels, Reference};
use astropt_core::testkit::Check;
use astropt_core::testkit::kernels::{self as suite, AttentionCase, Numbers, close};
use burn_flex::{Flex, FlexDevice};
use burn_tensor::Tensor;
use proptest::prelude::*;

use super::CpuKernels;
use super::simd::testing::at_every_level;
use crate::CpuPlatform;

const DEVICE: FlexDevice = FlexDevice;

fn numbers<const D: usize>(tensor: &Tensor<Flex, D>) -> Vec<f32> {
    suite::numbers(tensor).expect("f32")
}

fn passes(check: Check) {
    check.unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[test]
fn the_kernels_agree_with_the_reference() {
    at_every_level(|_| passes(suite::check::<CpuPlatform>(&DEVICE)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn linear(n in 1usize..90, i in 1usize..70, o in 1usize..70, bias: bool, seed: u64) {
        passes(suite::linear::<CpuPlatform, Reference>(&DEVICE, n, i, o, bias, seed));
    }

    #[test]
    fn layer_norm(n in 1usize..300, d in 1usize..200, seed: u64) {
        at_every_level(|_| passes(suite::layer_norm::<CpuPlatform, Reference>(&DEVICE, n, d, seed)));
    }

    #[test]
    fn gelu(n in 1usize..60, d in 1usize..700, scale in 0.1f32..30.0, seed: u64) {
        at_every_level(|_| passes(suite::gelu::<CpuPlatform, Reference>(&DEVICE, n, d, scale, seed)));
        passes(suite::relu::<CpuPlatform, Reference>(&DEVICE, n, d, seed));
    }

    #[test]
    fn huber(n in 1usize..60, f in 1usize..700, seed: u64) {
        at_every_level(|_| passes(suite::huber::<CpuPlatform, Reference>(&DEVICE, n, f, seed)));
    }

    #[test]
    fn optimiser(
        lengths in prop::collection::vec(1usize..40_000, 1..5),
        step in 1u64..2000,
        seed: u64,
    ) {
        at_every_level(|_| passes(suite::optimiser::<CpuPlatform, Reference>(&DEVICE, &lengths, step, seed)));
    }

    #[test]
    fn attention(
        b in 1usize..3,
        t in 1usize..150,
        heads in 1usize..4,
        size in prop::sample::select(vec![1usize, 3, 8, 16, 17, 32, 64, 80, 100, 128]),
        causal: bool,
        document in 0usize..80,
        prefix in 0usize..90,
        scale in 0.1f32..4.0,
        seed: u64,
    ) {
        let case = AttentionCase { b, t, heads, size, causal, document, prefix, scale, seed };
        at_every_level(|_| passes(case.check::<CpuPlatform, Reference>(&DEVICE)));
    }
}

#[test]
fn long_rows_of_small_heads() {
    let (b, t, heads, size, scale, seed) = (1, 1024, 2, 16, 1.0, 7);
    for (document, prefix) in [(0, 0), (300, 500)] {
        let case = AttentionCase { b, t, heads, size, causal: true, document, prefix, scale, seed };
        passes(case.check::<CpuPlatform, Reference>(&DEVICE));
    }
}

/// More rows than one task takes, and a rest.
#[test]
fn linear_of_many_rows() {
    passes(suite::linear::<CpuPlatform, Reference>(&DEVICE, 1500, 40, 30, true, 1));
}

/// Views whose numbers lie apart or start late are read as what they show.
#[test]
fn views_are_read_as_they_look() {
    let mut draw = Numbers::new(3);
    let x = draw.tensor([40, 30], 1.0, &DEVICE);
    for view in [x.clone().transpose(), x.clone().narrow(0, 5, 20), x.narrow(1, 5, 20)] {
        passes(close("gelu", &CpuKernels::gelu(view.clone()), &Reference::gelu(view.clone())));
        let w = draw.tensor([view.dims()[1], 9], 1.0, &DEVICE).transpose();
        let ours = CpuKernels::linear(view.clone(), w.clone(), None);
        passes(close("linear", &ours, &Reference::linear(view, w, None)));
    }
}

/// The bytes of the results of all kernels on tensors large enough to be cut into pieces.
fn everything() -> Vec<Vec<f32>> {
    let mut draw = Numbers::new(11);
    let mut out = Vec::new();
    let (x, w) = (draw.tensor([2000, 128], 1.0, &DEVICE), draw.tensor([200, 128], 1.0, &DEVICE));
    let (b, dy) = (draw.tensor([200], 1.0, &DEVICE), draw.tensor([2000, 200], 1.0, &DEVICE));
    out.push(numbers(&CpuKernels::linear(x.clone(), w.clone(), Some(b))));
    let grads = CpuKernels::linear_backward(x.clone(), w, dy.clone(), true, true);
    out.push(numbers(&grads.dx_ni.expect("asked for")));
    out.push(numbers(&grads.dw_oi));
    out.push(numbers(&grads.db_o.expect("asked for")));
    let gain = draw.tensor([128], 1.0, &DEVICE);
    let normal = CpuKernels::layer_norm(x.clone(), gain.clone(), 1e-5);
    let (dx, dgain) = CpuKernels::layer_norm_backward(
        x.clone(),
        gain,
        normal.mean_n,
        normal.rstd_n,
        x.clone(),
        None,
    );
    out.extend([numbers(&normal.y_nd), numbers(&dx), numbers(&dgain)]);
    out.push(numbers(&CpuKernels::gelu(x.clone())));
    let (loss, dy) = CpuKernels::huber(dy.clone(), dy * 0.5);
    out.extend([numbers(&loss), numbers(&dy)]);
    let mut slots = suite::slots::<CpuPlatform>(&DEVICE, &[100_000, 3, 50_000], &mut draw);
    let grads: Vec<_> = slots.iter().map(|slot| slot.grad.clone()).collect();
    out.push(numbers(&CpuKernels::global_norm(&grads)));
    let step = AdamW {
        lr: 0.01,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 3,
        grad_scale: 1.0,
    };
    CpuKernels::adamw(&mut slots, &step);
    out.extend(slots.iter().map(|slot| numbers(&slot.value)));
    let (b, t, heads, size, scale, seed) = (2, 200, 3, 16, 1.0, 5);
    let case =
        AttentionCase { b, t, heads, size, causal: true, document: 0, prefix: 0, scale, seed };
    let ((qkv, dout), mask) =
        (case.inputs::<CpuPlatform>(&DEVICE), case.mask::<CpuPlatform>(&DEVICE));
    let attended = CpuKernels::attention(qkv.clone(), heads, &mask);
    out.push(numbers(&attended.out_btd));
    out.push(numbers(&CpuKernels::attention_backward(qkv, attended, dout, heads, &mask)));
    out
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    at_every_level(|level| {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads").install(everything)
        };
        let one = on(1);
        for threads in [2, 3, 5] {
            for (k, (a, b)) in one.iter().zip(&on(threads)).enumerate() {
                let same = a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "result {k} differs on {threads} threads with {level}");
            }
        }
    });
}
