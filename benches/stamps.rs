//! Stamps of the synthetic survey on one core, everything on: galaxies with arms, field stars
//! and galaxies, noise, artefacts, colours.
//!
//! `cargo bench -p astropt-modalities --bench stamps`

#![allow(missing_docs, clippy::unwrap_used)] // criterion's macros; a bench may panic

use std::path::Path;

use astropt_core::seam::SourceConfig;
use astropt_modalities::sources::synthetic::SyntheticConfig;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Stamps of an iteration: enough that their mean is the survey's.
const STAMPS: usize = 100;

fn stamps(c: &mut Criterion) {
    let mut group = c.benchmark_group("synthetic");
    group.sample_size(10).throughput(Throughput::Elements(STAMPS as u64));
    for size in [64, 256, 512] {
        let config = format!("objects = {STAMPS}\nsize = {size}\nseed = 1");
        let config: SyntheticConfig = toml::from_str(&config).unwrap();
        let source = config.open(Path::new("")).unwrap();
        group.bench_function(format!("{size} x {size}"), |bench| {
            bench.iter(|| (0..STAMPS).map(|k| source.read(k).unwrap().fields.len()).sum::<usize>());
        });
    }
    group.bench_function("labels", |bench| {
        let source = SyntheticConfig { ..toml::from_str("objects = 100").unwrap() };
        let source = source.open(Path::new("")).unwrap();
        bench.iter(|| (0..STAMPS).map(|k| source.labels(k).len()).sum::<usize>());
    });
}

criterion_group!(benches, stamps);
criterion_main!(benches);
