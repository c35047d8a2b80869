//! The targets on mutated seeds, without a fuzzer: what a stable toolchain can do. Each
//! target runs for `ASTROPT_FUZZ_SECONDS` (2 if unset); `ASTROPT_FUZZ_SEED` starts elsewhere,
//! and `ASTROPT_FUZZ_TARGET` runs one target.

use std::alloc::System;
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use astropt_fuzz::{TARGETS, Target, seeds};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// More memory than any of these small files may take ends the process.
const MEMORY: usize = 2 << 30;
/// A file of some kilobytes that takes longer is a bomb that worked.
const PATIENCE: Duration = Duration::from_secs(20);
/// Numbers that readers stumble over.
const BAD: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

#[global_allocator]
static MEMORY_USED: cap::Cap<System> = cap::Cap::new(System, usize::MAX);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn mutated_files_do_no_harm() {
    MEMORY_USED.set_limit(MEMORY).expect("little is used so far");
    let only = std::env::var("ASTROPT_FUZZ_TARGET").ok();
    let mut failures = Vec::new();
    for (name, target) in TARGETS {
        if only.as_ref().is_none_or(|only| only == name) {
            failures.extend(attack(name, target));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Runs a target until its time is up or an input does harm, which is kept in a file.
fn attack(name: &str, target: Target) -> Option<String> {
    let seeds = seeds::of(name);
    assert!(!seeds.is_empty(), "no seeds for {name}");
    for seed in &seeds {
        let _ = target(&seed.bytes);
    }
    let time = Duration::from_secs(setting("ASTROPT_FUZZ_SECONDS", 2));
    let mut rng = ChaCha8Rng::seed_from_u64(setting("ASTROPT_FUZZ_SEED", 0));
    // Kept before each run, so that it is there should the process be killed.
    let kept = std::env::temp_dir().join(format!("astropt-fuzz-{name}"));
    let (started, mut runs) = (Instant::now(), 0u64);
    while started.elapsed() < time {
        let mut bytes = seeds[rng.random_range(0..seeds.len())].bytes.clone();
        for _ in 0..rng.random_range(1..6) {
            mutate(&mut bytes, &mut rng);
        }
        std::fs::write(&kept, &bytes).expect("writable");
        let begun = Instant::now();
        let outcome = catch_unwind(|| drop(target(&bytes)));
        if outcome.is_err() {
            return Some(format!("{name} panicked; the input is {}", kept.display()));
        }
        if begun.elapsed() > PATIENCE {
            return Some(format!("{name} took {:?} for {}", begun.elapsed(), kept.display()));
        }
        runs += 1;
    }
    println!("{name}: {runs} files, at most {} MB", MEMORY_USED.max_allocated() >> 20);
    std::fs::remove_file(&kept).ok();
    None
}

fn mutate(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    if bytes.is_empty() {
        bytes.push(rng.random());
        return;
    }
    // Headers come first in most formats: half of the changes go there.
    let reach = if rng.random() { bytes.len() } else { bytes.len().min(512) };
    let at = rng.random_range(0..reach);
    match rng.random_range(0..7) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = rng.random(),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..(at + rng.random_range(1..16)).min(bytes.len()))),
        4 => {
            let from = rng.random_range(0..bytes.len());
            let part = bytes[from..(from + 16).min(bytes.len())].to_vec();
            drop(bytes.splice(at..at, part));
        }
        5 => {
            let size = [1, 2, 4, 8][rng.random_range(0..4)];
            let mut number = BAD[rng.random_range(0..BAD.len())].to_le_bytes();
            if rng.random() {
                number[..size].reverse();
            }
            let end = (at + size).min(bytes.len());
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
        _ => {
            // Another digit, where sizes are written as text.
            if let Some(digit) = bytes[at..].iter_mut().find(|b| b.is_ascii_digit()) {
                *digit = b'0' + rng.random_range(0..10u8);
            }
        }
    }
}
