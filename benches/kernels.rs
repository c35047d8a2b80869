//! Every CPU kernel at the shapes of the 1M-parameter model (8 rows of 1024 tokens, width
//! 128, 8 heads), next to the reference where that takes less than a second.
//!
//! `cargo bench -p astropt-cpu --bench kernels`

#![allow(missing_docs, clippy::unwrap_used)] // criterion's macros; a bench may panic

use astropt_core::kernels::{AdamW, AttentionMask, Kernels, Reference, Slot};
use astropt_cpu::kernels::CpuKernels;
use burn_flex::{Flex, FlexDevice};
use burn_tensor::{Distribution, Tensor, TensorData};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const B: usize = 8;
const T: usize = 1024;
const D: usize = 128;

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &FlexDevice)
}

fn attention(c: &mut Criterion) {
    let causal = AttentionMask::causal();
    let full = AttentionMask { causal: false, ..causal.clone() };
    // Four documents a row, as where short objects share rows.
    let of = |k: usize| (k % T * 4 / T) as i32;
    let documents = (0..B * T).map(of).collect::<Vec<_>>();
    let documents = Tensor::from_data(TensorData::new(documents, [B, T]), &FlexDevice);
    let packed = AttentionMask { documents_bt: Some(documents), ..causal.clone() };
    for (name, mask, b, t, heads, size) in [
        ("causal", &causal, B, T, 8, 16),
        ("full", &full, B, T, 8, 16),
        ("four documents a row", &packed, B, T, 8, 16),
        ("causal", &causal, 64, 120, 8, 16),
        ("causal", &causal, 2, T, 8, 64),
        ("causal", &causal, 2, T, 4, 80),
    ] {
        let d = heads * size;
        let title = format!("attention {b}x{t}, {heads} heads of {size}, {name}");
        let mut group = c.benchmark_group(title);
        group.sample_size(10);
        let (qkv, dout) = (random([b, t, 3 * d]), random([b, t, d]));
        group.bench_function("forward", |bench| {
            bench.iter(|| CpuKernels::attention(qkv.clone(), heads, mask));
        });
        let attended = CpuKernels::attention(qkv.clone(), heads, mask);
        group.bench_function("backward", |bench| {
            bench.iter(|| {
                let (qkv, dout) = (qkv.clone(), dout.clone());
                CpuKernels::attention_backward(qkv, attended.clone(), dout, heads, mask)
            });
        });
    }
}

fn linear(c: &mut Criterion) {
    let n = B * T;
    for (i, o) in [(D, 3 * D), (D, D), (D, 4 * D), (4 * D, D), (768, 4 * D), (4 * D, 768)] {
        let mut group = c.benchmark_group(format!("linear {n}x{i} to {o}"));
        group.sample_size(10);
        let (x, w, dy) = (random([n, i]), random([o, i]), random([n, o]));
        group.bench_function("forward", |bench| {
            bench.iter(|| CpuKernels::linear(x.clone(), w.clone(), None));
        });
        group.bench_function("weights backward", |bench| {
            bench.iter(|| {
                let (x, w, dy) = (x.clone(), w.clone(), dy.clone());
                CpuKernels::linear_backward(x, w, dy, false, false)
            });
        });
        group.bench_function("backward", |bench| {
            bench.iter(|| {
                let (x, w, dy) = (x.clone(), w.clone(), dy.clone());
                CpuKernels::linear_backward(x, w, dy, true, false)
            });
        });
    }
}

/// The layers of `K` that are products and something more.
fn fused<K: Kernels<Flex>>(c: &mut Criterion, name: &str) {
    let mut group = c.benchmark_group(name);
    group.sample_size(10);
    let n = B * T;
    let (x, wide, onto) = (random([n, D]), random([n, 4 * D]), random([n, D]));
    let (up, down) = (random([4 * D, D]), random([D, 4 * D]));
    group.bench_function("linear and residual sum", |bench| {
        bench.iter_batched(
            || onto.clone() + 0.0,
            |onto| K::linear_onto(wide.clone(), down.clone(), onto),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("linear and GELU", |bench| {
        bench.iter(|| K::linear_gelu(x.clone(), up.clone()));
    });
    let [wide, gelu] = K::linear_gelu(x.clone(), up.clone());
    group.bench_function("GELU and linear backward", |bench| {
        bench.iter(|| {
            K::gelu_linear_backward(wide.clone(), gelu.clone(), down.clone(), onto.clone())
        });
    });
}

/// The element-wise kernels of `K`.
fn element_wise<K: Kernels<Flex>>(c: &mut Criterion, name: &str) {
    let mut group = c.benchmark_group(name);
    group.sample_size(10);
    let n = B * T;
    let (x, dy, gain) = (random([n, D]), random([n, D]), random([D]));
    group.bench_function("layer norm forward", |bench| {
        bench.iter(|| K::layer_norm(x.clone(), gain.clone(), 1e-5));
    });
    let normal = K::layer_norm(x.clone(), gain.clone(), 1e-5);
    group.bench_function("layer norm backward", |bench| {
        let (mean, rstd) = (&normal.mean_n, &normal.rstd_n);
        // Gradients of a training step have one owner, whose memory may be used again.
        bench.iter_batched(
            || dy.clone() + 0.0,
            |dy| {
                let (mean, rstd) = (mean.clone(), rstd.clone());
                K::layer_norm_backward(x.clone(), gain.clone(), mean, rstd, dy, None)
            },
            BatchSize::LargeInput,
        );
    });
    let (x, dy) = (random([n, 4 * D]), random([n, 4 * D]));
    group.bench_function("GELU forward", |bench| bench.iter(|| K::gelu(x.clone())));
    group.bench_function("GELU backward", |bench| {
        bench.iter_batched(
            || dy.clone() + 0.0,
            |dy| K::gelu_backward(x.clone(), dy),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("ReLU forward", |bench| bench.iter(|| K::relu(x.clone())));
    group.bench_function("ReLU backward", |bench| {
        bench.iter_batched(
            || dy.clone() + 0.0,
            |dy| K::relu_backward(x.clone(), dy),
            BatchSize::LargeInput,
        );
    });
    let (y, target) = (random([n, 768]), random([n, 768]));
    group.bench_function("Huber", |bench| {
        bench.iter_batched(
            || y.clone() + 0.0,
            |y| K::huber(y, target.clone()),
            BatchSize::LargeInput,
        );
    });
    let by = random([1]);
    group.bench_function("scale", |bench| {
        bench.iter_batched(|| y.clone() + 0.0, |y| K::scale(y, by.clone()), BatchSize::LargeInput);
    });
}

/// The optimiser over two million parameters.
fn optimiser<K: Kernels<Flex>>(c: &mut Criterion, name: &str) {
    let mut group = c.benchmark_group(name);
    group.sample_size(10);
    let slot = || Slot {
        value: random([1 << 17]),
        grad: random([1 << 17]),
        moment1: random([1 << 17]),
        moment2: random([1 << 17]).abs(),
        decay: true,
    };
    let mut slots: Vec<Slot<Flex>> = (0..16).map(|_| slot()).collect();
    let grads: Vec<_> = slots.iter().map(|slot| slot.grad.clone()).collect();
    group.bench_function("global norm", |bench| bench.iter(|| K::global_norm(&grads)));
    drop(grads);
    let step = AdamW {
        lr: 1e-4,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 10,
        grad_scale: 1.0,
    };
    group.bench_function("AdamW", |bench| bench.iter(|| K::adamw(&mut slots, &step)));
}

fn both(c: &mut Criterion) {
    fused::<CpuKernels>(c, "cpu");
    fused::<Reference>(c, "reference");
    element_wise::<CpuKernels>(c, "cpu");
    element_wise::<Reference>(c, "reference");
    optimiser::<CpuKernels>(c, "cpu");
    optimiser::<Reference>(c, "reference");
}

criterion_group!(benches, attention, linear, both);
criterion_main!(benches);
