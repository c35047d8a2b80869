//! Agreement with the recorded answers of the Python AstroPT, on plain Burn operations.
//! Without the recordings the tests say so and pass.

#![allow(clippy::print_stdout)] // a test's output is where its figures go

use std::fs;
use std::path::{Path, PathBuf};

use astropt_core::checkpoint::{pt, python, tensors};
use astropt_core::engine::{self, Session};
use astropt_core::kernels::{Platform, Reference};
use astropt_core::model::ModelConfig;
use astropt_core::verify::{Comparison, verify};
use astropt_core::{Error, Result};

#[derive(Clone, Debug)]
struct Plain;

impl Platform for Plain {
    type Backend = burn_flex::Flex;
    type Kernels = Reference;
}

fn open(model: &ModelConfig) -> Result<Box<dyn Session>> {
    engine::open::<Plain>(Default::default(), model)
}

/// The folder of a recorded case, or a printed line that it is not there.
fn case(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/golden").join(name);
    if !path.exists() {
        println!("skipped: no recorded case at {}", path.display());
        return None;
    }
    Some(path)
}

/// Prints the worst comparison of each kind.
fn summary(comparisons: &[Comparison]) {
    let kinds: std::collections::BTreeSet<String> = comparisons.iter().map(kind).collect();
    for wanted in kinds {
        let of_kind = comparisons.iter().filter(|c| kind(c) == wanted);
        let worst = of_kind.clone().map(|c| c.max_rel).fold(0.0, f64::max);
        let ok = of_kind.clone().filter(|c| c.ok).count();
        let all = of_kind.count();
        println!("{} {wanted}: {ok} of {all} ok, max_rel {worst:.2e}", comparisons[0].case);
    }
}

fn kind(comparison: &Comparison) -> String {
    let quantity = &comparison.quantity;
    let parts =
        if quantity.starts_with("optimiser.") || quantity.starts_with("train.") { 2 } else { 1 };
    quantity.split('.').take(parts).collect::<Vec<_>>().join(".")
}

fn agree(name: &str) {
    let Some(folder) = case(name) else { return };
    for file in ["weights.safetensors", "ckpt.pt"] {
        let comparisons = verify(&folder, Some(&folder.join(file)), &open).expect("replayed");
        println!("from {file}:");
        summary(&comparisons);
        for bad in comparisons.iter().filter(|c| !c.ok) {
            println!("{}", bad.to_json_line());
        }
        assert!(comparisons.iter().all(|c| c.ok), "{name} disagrees from {file}");
        let has = |start: &str| comparisons.iter().any(|c| c.quantity.starts_with(start));
        for start in ["outputs", "loss", "grad0_clipped.", "train.losses", "train.grad", "after."] {
            assert!(has(start), "{start} was not compared");
        }
        let from_checkpoint = file == "ckpt.pt";
        assert_eq!(has("optimiser.exp_avg."), from_checkpoint);
        assert_eq!(has("weights."), from_checkpoint);
    }
}

#[test]
fn v1_paper_agrees() {
    agree("v1_paper");
}

#[test]
fn v2_images_agrees() {
    agree("v2_images");
}

#[test]
fn v2_images_spectra_agrees() {
    agree("v2_images_spectra");
}

#[test]
fn v3_images_aim_agrees() {
    agree("v3_images_aim");
}

#[test]
fn v3_images_affine_agrees() {
    agree("v3_images_affine");
}

#[test]
fn v3_three_modalities_agrees() {
    agree("v3_three_modalities");
}

#[test]
fn v3_discrete_agrees() {
    agree("v3_discrete");
}

/// Its recording has no training.
#[test]
fn v3_images_mae_agrees() {
    let Some(folder) = case("v3_images_mae") else { return };
    for file in ["weights.safetensors", "ckpt.pt"] {
        let comparisons = verify(&folder, Some(&folder.join(file)), &open).expect("replayed");
        summary(&comparisons);
        assert!(comparisons.iter().all(|c| c.ok), "disagrees from {file}");
        let has = |name: &str| comparisons.iter().any(|c| c.quantity == name);
        assert!(has("outputs.images") && has("loss"));
    }
}

/// A copy of a recorded case that a test may change.
fn copy(name: &str) -> Option<(tempfile::TempDir, PathBuf)> {
    let from = case(name)?;
    let guard = tempfile::tempdir().expect("folder");
    let to = guard.path().join(name);
    fs::create_dir(&to).expect("folder");
    for file in ["case.json", "case.safetensors", "weights.safetensors", "ckpt.pt"] {
        fs::write(to.join(file), fs::read(from.join(file)).expect("read")).expect("written");
    }
    Some((guard, to))
}

fn refuse(folder: &Path, words: &str) {
    let error: Error = verify(folder, None, &open).expect_err("broken");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn without_weights_safetensors_the_checkpoint_is_used() {
    let Some((_guard, folder)) = copy("v1_paper") else { return };
    fs::remove_file(folder.join("weights.safetensors")).expect("removed");
    let comparisons = verify(&folder, None, &open).expect("replayed");
    assert!(comparisons.iter().all(|c| c.ok));
    fs::remove_file(folder.join("ckpt.pt")).expect("removed");
    refuse(&folder, "weights.safetensors");
}

#[test]
fn a_changed_weight_disagrees() {
    let Some((_guard, folder)) = copy("v3_images_affine") else { return };
    let path = folder.join("weights.safetensors");
    let (mut weights, metadata) = tensors::load_tensors(&path).expect("loaded");
    let weight = weights.get_mut("transformer.h.2.mlp.c_fc.weight").expect("there");
    weight.data[5] += 1e-2;
    tensors::save_tensors(&path, &weights, &metadata).expect("saved");
    let from_safetensors = verify(&folder, None, &open).expect("replayed");
    assert!(from_safetensors.iter().any(|c| !c.ok && c.quantity.starts_with("outputs")));
    // From the checkpoint all agrees but the comparison of the two files.
    let checkpoint = folder.join("ckpt.pt");
    let from_checkpoint = verify(&folder, Some(&checkpoint), &open).expect("replayed");
    let bad: Vec<_> = from_checkpoint.iter().filter(|c| !c.ok).collect();
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].quantity, "weights.transformer.h.2.mlp.c_fc.weight");
}

#[test]
fn a_weight_that_is_not_a_number_disagrees() {
    let Some((_guard, folder)) = copy("v3_images_affine") else { return };
    let path = folder.join("weights.safetensors");
    let (mut weights, metadata) = tensors::load_tensors(&path).expect("loaded");
    weights.get_mut("transformer.ln_f.weight").expect("there").data[0] = f32::NAN;
    tensors::save_tensors(&path, &weights, &metadata).expect("saved");
    let comparisons = verify(&folder, None, &open).expect("replayed");
    let bad = |start: &str| comparisons.iter().any(|c| !c.ok && c.quantity.starts_with(start));
    for start in ["outputs", "loss", "embed_ln_f", "grad0", "train.losses", "after"] {
        assert!(bad(start), "{start}");
    }
}

#[test]
fn a_quantity_that_is_not_understood_disagrees() {
    let Some((_guard, folder)) = copy("v1_paper") else { return };
    let path = folder.join("case.safetensors");
    let (mut recorded, metadata) = tensors::load_tensors(&path).expect("loaded");
    let loss = recorded["loss"].clone();
    recorded.insert("perplexity".into(), loss);
    tensors::save_tensors(&path, &recorded, &metadata).expect("saved");
    let comparisons = verify(&folder, None, &open).expect("replayed");
    let bad: Vec<_> = comparisons.iter().filter(|c| !c.ok).collect();
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].quantity, "perplexity");

    // A case with inputs alone proves nothing.
    recorded.retain(|name, _| name == "all_tokens");
    tensors::save_tensors(&path, &recorded, &metadata).expect("saved");
    refuse(&folder, "nothing that could be compared");
}

/// What a case lacks was not compared, whatever else agrees.
#[test]
fn a_case_that_lacks_an_answer_disagrees() {
    let Some((_guard, folder)) = copy("v3_three_modalities") else { return };
    let path = folder.join("case.safetensors");
    let (whole, metadata) = tensors::load_tensors(&path).expect("loaded");
    let lacks = ["outputs.spectra", "loss", "train.losses", "after.transformer.ln_f.weight"];
    let recorded = whole.into_iter().filter(|(name, _)| !lacks.contains(&name.as_str())).collect();
    tensors::save_tensors(&path, &recorded, &metadata).expect("saved");
    let comparisons = verify(&folder, None, &open).expect("replayed");
    let mut bad: Vec<_> =
        comparisons.iter().filter(|c| !c.ok).map(|c| c.quantity.as_str()).collect();
    bad.sort_unstable();
    let mut lacks = lacks;
    lacks.sort_unstable();
    assert_eq!(bad, lacks);
}

/// So are hidden states, what version 1 generated, and a training without its schedule.
#[test]
fn a_case_that_lacks_states_or_its_training_disagrees() {
    let states = ["embed_centre.spectra", "embed_ln_f.images"];
    let first = ["embedding_mean_first", "embedding_none_first", "generated"];
    for (name, gone, lacks) in [
        ("v3_three_modalities", &states[..], &states[..]),
        ("v1_paper", &["embedding", "generated"], &first),
        ("v2_images", &["train.", "after.", "grad0_clipped."], &["schedule"]),
    ] {
        let Some((_guard, folder)) = copy(name) else { return };
        let path = folder.join("case.safetensors");
        let (mut recorded, metadata) = tensors::load_tensors(&path).expect("loaded");
        recorded.retain(|name, _| !gone.iter().any(|start| name.starts_with(start)));
        tensors::save_tensors(&path, &recorded, &metadata).expect("saved");
        if lacks == ["schedule"] {
            let path = folder.join("case.json");
            let text = fs::read(&path).expect("read");
            let mut written: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
            written["schedule"] = serde_json::Value::Null;
            fs::write(&path, written.to_string()).expect("written");
        }
        let comparisons = verify(&folder, None, &open).expect("replayed");
        let mut bad: Vec<_> =
            comparisons.iter().filter(|c| !c.ok).map(|c| c.quantity.as_str()).collect();
        bad.sort_unstable();
        assert_eq!(bad, lacks, "{name}");
    }
}

#[test]
fn broken_cases_are_named() {
    let Some((_guard, folder)) = copy("v2_images") else { return };
    let whole = fs::read(folder.join("weights.safetensors")).expect("read");
    fs::write(folder.join("weights.safetensors"), &whole[..whole.len() / 2]).expect("written");
    refuse(&folder, "weights.safetensors");
    let answers = fs::read(folder.join("case.safetensors")).expect("read");
    fs::write(folder.join("case.safetensors"), &answers[..1000]).expect("written");
    refuse(&folder, "case.safetensors");
    fs::write(folder.join("case.json"), "{").expect("written");
    refuse(&folder, "case.json");
    fs::remove_file(folder.join("case.json")).expect("removed");
    refuse(&folder, "case.json");
    refuse(Path::new("/nowhere/at/all"), "check the path");
}

#[test]
fn weights_of_another_model_are_refused() {
    let (Some(one), Some(other)) = (case("v2_images"), case("v3_images_affine")) else { return };
    for file in ["weights.safetensors", "ckpt.pt"] {
        let error = verify(&one, Some(&other.join(file)), &open).expect_err("another model");
        assert!(error.to_string().contains(file), "{error}");
    }
}

/// Every recorded checkpoint reads, and its configuration comes back whole.
#[test]
fn recorded_checkpoints_read() {
    for (name, modalities) in [
        ("v1_paper", vec!["images"]),
        ("v2_images", vec!["images"]),
        ("v2_images_spectra", vec!["images", "spectra"]),
        ("v3_images_aim", vec!["images"]),
        ("v3_images_affine", vec!["images"]),
        ("v3_three_modalities", vec!["images", "photometry", "spectra"]),
        ("v3_discrete", vec!["aion_tokens"]),
    ] {
        let Some(folder) = case(name) else { return };
        let checkpoint = python::import(folder.join("ckpt.pt")).expect("read");
        let names: Vec<_> = checkpoint.model.modalities.keys().map(String::as_str).collect();
        assert_eq!(names, modalities, "{name}");
        assert_eq!(checkpoint.iteration, Some(12));
        assert_eq!(checkpoint.optimiser.expect("trained").steps, 12);
    }
    let Some(folder) = case("v3_images_mae") else { return };
    let file = pt::read_pt(folder.join("ckpt.pt")).expect("read");
    assert!(file.tensors(&["model"]).expect("tensors").contains_key("mask_token"));
}

/// Truncations at many offsets, then single flipped bits, through the whole import.
#[test]
fn damaged_checkpoints_are_errors_and_never_panics() {
    let Some(folder) = case("v3_three_modalities") else { return };
    let whole = fs::read(folder.join("ckpt.pt")).expect("read");
    let guard = tempfile::tempdir().expect("folder");
    let path = guard.path().join("damaged.pt");
    for k in 0..300 {
        let cut = if k < 100 { 40 * k } else { whole.len() * (k - 99) / 202 };
        fs::write(&path, &whole[..cut]).expect("written");
        let error = python::import(&path).expect_err("cut short").to_string();
        assert!(error.contains("damaged.pt"), "{error}");
    }
    let mut seed = 1u64;
    let mut refused = 0;
    for round in 0..1500 {
        let mut bytes = whole.clone();
        // The first 20 kB hold the pickle, the last 20 kB the zip's directory.
        let region = [0, bytes.len() - 20_000, 0][round % 3];
        for _ in 0..=round % 3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = region + (seed >> 33) as usize % 20_000;
            bytes[at] ^= 1 << (seed >> 29 & 7);
        }
        fs::write(&path, &bytes).expect("written");
        refused += usize::from(python::import(&path).is_err());
    }
    println!("{refused} of 1500 damaged checkpoints refused");
    #[cfg(target_os = "linux")]
    {
        let status = fs::read_to_string("/proc/self/status").expect("status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("peak");
        let kilobytes: usize = peak.trim().trim_end_matches(" kB").parse().expect("a number");
        assert!(kilobytes < 1 << 20, "{kilobytes} kB at most in use");
    }
    assert!(refused > 700);
}

/// As above, past the checksum that catches most damage in the zip.
#[test]
fn damaged_pickles_are_errors_and_never_panics() {
    let Some(folder) = case("v3_three_modalities") else { return };
    let whole = fs::read(folder.join("ckpt.pt")).expect("read");
    let start = whole.windows(3).position(|w| w == b"\x80\x02}").expect("the pickle");
    let pickle = &whole[start..start + 19_248];
    let mut seed = 7u64;
    for round in 0..20_000 {
        let mut bytes = pickle.to_vec();
        for _ in 0..=round % 4 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) as usize % bytes.len();
            bytes[at] = (seed >> 24) as u8;
        }
        if let Ok(value) = astropt_core::checkpoint::pickle::read_pickle(&bytes) {
            let _ = value.to_json(10_000);
        }
    }
    for cut in 0..pickle.len() {
        assert!(astropt_core::checkpoint::pickle::read_pickle(&pickle[..cut]).is_err());
    }
}
