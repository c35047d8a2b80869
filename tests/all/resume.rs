//! A run that goes on ends in the same bytes as one never stopped.

use std::path::Path;

use crate::program::{astropt, fails, succeeds};

use crate::run::small;

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The parameters and optimiser after 6 steps, and the metrics.
fn state(run: &Path) -> Vec<Vec<u8>> {
    ["model.safetensors", "optimizer.safetensors", "state.json"]
        .iter()
        .map(|name| read(run, &format!("checkpoints/step-000006/{name}")))
        .chain([read(run, "metrics.jsonl")])
        .collect()
}

#[test]
fn a_resumed_run_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let every = ["--set", "train.checkpoints={every=2}"];
    succeeds(folder.path(), &small("pretrain", "whole", &every));
    succeeds(folder.path(), &small("pretrain", "cut", &every));
    let cut = folder.path().join("cut");
    // What a machine that fails after step 4 leaves behind: a half-written later
    // checkpoint, and metrics of steps that are lost.
    std::fs::remove_dir_all(cut.join("checkpoints/step-000006")).expect("there");
    std::fs::create_dir(cut.join("checkpoints/.partial.x")).expect("writable");
    succeeds(folder.path(), &["pretrain", "--resume", "--out", "cut", "--quiet"]);
    assert_eq!(state(&folder.path().join("whole")), state(&cut));
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(folder.path(), &small("pretrain", "r", &[]));
    let model = folder.path().join("r/checkpoints/step-000006/model.safetensors");
    let bytes = std::fs::read(&model).expect("readable");
    std::fs::write(&model, &bytes[..bytes.len() / 2]).expect("writable");
    let error = fails(folder.path(), &["pretrain", "--resume", "--out", "r"], 1);
    assert!(error.contains("step-000006/model.safetensors"), "{error}");
    let error = fails(folder.path(), &["embed", "r"], 1);
    assert!(error.contains("step-000006/model.safetensors"), "{error}");
}

#[test]
fn a_resumed_run_keeps_its_model() {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(folder.path(), &small("pretrain", "r", &[]));
    let arguments = ["pretrain", "--resume", "--out", "r", "--set", "model.width=32"];
    let error = fails(folder.path(), &arguments, 2);
    assert!(error.contains("model.width=32"), "{error}");
    let longer = ["pretrain", "--resume", "--out", "r", "-q", "--set", "train.steps=8"];
    assert!(astropt(folder.path(), &longer).status.success());
    assert!(folder.path().join("r/checkpoints/step-000008").exists());
}

#[test]
fn a_run_goes_on_with_its_own_data_and_recipe_only() {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(folder.path(), &small("pretrain", "r", &[]));
    let resume = ["pretrain", "--resume", "--out", "r"];
    let error = fails(folder.path(), &[&resume[..], &["efigi"]].concat(), 2);
    assert!(error.contains("galaxy-grz"), "{error}");
    let error = fails(folder.path(), &[&resume[..], &["--set", "train.steps=3"]].concat(), 2);
    assert!(error.contains("6 steps already"), "{error}");
    // Other objects under the same recipe.
    let manifest = folder.path().join("r/manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("readable");
    let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    json["data_digest"] = "0".into();
    std::fs::write(&manifest, json.to_string()).expect("writable");
    let error = fails(folder.path(), &resume, 1);
    assert!(error.contains("manifest.json: is not what was written"), "{error}");
    json.as_object_mut().expect("a table").remove("xxh3");
    std::fs::write(&manifest, json.to_string()).expect("writable");
    let error = fails(folder.path(), &resume, 1);
    assert!(error.contains("other objects"), "{error}");
}

/// An interrupt finishes the step, saves, and says how to go on.
#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_says_how_to_go_on() {
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = small("pretrain", "r", &["--set", "train.steps=100000"]);
    let child = Command::new(crate::program::program())
        .args(arguments)
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let first = folder.path().join("r/checkpoints/step-000000/state.json");
    let patience = std::time::Instant::now();
    while !first.exists() && patience.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    let output = child.wait_with_output().expect("ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("--resume --out r"), "{stderr}");
    let saved = std::fs::read_dir(folder.path().join("r/checkpoints")).expect("readable");
    assert!(saved.count() >= 2, "a checkpoint of the last step");
}
