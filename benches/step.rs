//! Whole training steps on the CPU: the 1M-parameter model at the two shapes that
//! AstroPT is trained in.
//!
//! `cargo bench -p astropt-cpu --bench step`

#![allow(missing_docs, clippy::unwrap_used)] // criterion's macros; a bench may panic

use std::collections::BTreeMap;

use astropt_core::data::{Batch, Inputs, Part};
use astropt_core::engine::{HostTensor, Session, StateDict, StepSettings};
use astropt_core::model::{ModelConfig, Tokeniser};
use astropt_core::seam::Backend as _;
use astropt_core::tokens::{Positions, TokenSpec, Values};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reproducible numbers around 0.
fn numbers(count: usize, scale: f32) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        scale * ((state >> 40) as f32 / (1 << 23) as f32 - 1.0)
    };
    (0..count).map(|_| next()).collect()
}

fn session(width: usize, token: usize) -> Box<dyn Session> {
    let spec = TokenSpec {
        values: Values::Continuous { width: token },
        positions: Positions::Index { max: 1024 },
        loss_weight: 1.0,
        max_tokens: 1024,
    };
    let model = ModelConfig {
        layers: 4,
        heads: 8,
        width,
        tokeniser: Tokeniser::Aim,
        modalities: BTreeMap::from([("images".to_owned(), spec)]),
        mask_token: false,
        delimiters: false,
    };
    let mut session = astropt_cpu::Cpu.open(0, &model).unwrap();
    let parameters = model.parameters().into_iter().map(|p| {
        let data = numbers(p.elements(), 0.03);
        (p.name, HostTensor { shape: p.shape, data })
    });
    session.set_parameters(&parameters.collect::<StateDict>()).unwrap();
    session
}

fn batch(rows: usize, len: usize, token: usize) -> Batch {
    let n = rows * len;
    let part = Part {
        inputs: Inputs {
            len: n,
            values: numbers(n * token, 1.0).into(),
            indices: (0..rows).flat_map(|_| 0..len as u32).collect(),
            ..Inputs::default()
        },
        targets: n,
        target_values: numbers(n * token, 1.0).into(),
        ..Part::default()
    };
    let parts = BTreeMap::from([("images".to_owned(), part)]);
    Batch { rows, len, parts, ids: vec![String::new(); rows], ..Batch::default() }
}

fn steps(c: &mut Criterion) {
    let settings = StepSettings::new(1e-4);
    let mut group = c.benchmark_group("step");
    group.sample_size(10);
    for (rows, len, token) in [(8, 1024, 768), (64, 120, 192)] {
        let (mut session, batch) = (session(128, token), batch(rows, len, token));
        group.throughput(Throughput::Elements((rows * len) as u64));
        group.bench_function(format!("{rows}x{len} tokens of {token}"), |bench| {
            bench.iter(|| {
                session.accumulate(batch.clone(), 1.0).unwrap();
                session.step(&settings).unwrap()
            });
        });
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
