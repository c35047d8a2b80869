//! A recipe says what it is computed on, unless the command line does.

use std::path::Path;
use std::process::Command;

use crate::program::{astropt, fails, succeeds};
use crate::run::small;

/// A recipe for a backend that no program has.
const ELSEWHERE: &str = "extends = 'galaxy-grz'\nname = 'elsewhere'\nbackend = 'nowhere:1'\n";

fn backend_in(run: &Path) -> serde_json::Value {
    let manifest = std::fs::read(run.join("manifest.json")).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    manifest["plan"]["backend"].clone()
}

#[test]
fn a_recipe_chooses_where_the_command_line_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, run) = (folder.path(), folder.path().join("run"));
    std::fs::write(root.join("elsewhere.toml"), ELSEWHERE).expect("writable");
    let mut train = small("pretrain", "run", &[]);
    train[1] = "elsewhere.toml";
    let refused = |arguments: &[&str]| {
        let error = fails(root, arguments, 2);
        assert!(error.contains("backend = \"nowhere:1\" of the recipe"), "{error}");
        assert!(error.contains("--backend NAME computes on another"), "{error}");
    };
    refused(&train);
    assert!(!run.exists(), "what is refused leaves nothing");
    succeeds(root, &[&train[..], &["--backend", "cpu"]].concat());
    assert_eq!(backend_in(&run), "nowhere:1");
    // What follows asks the recipe again, which going on may change.
    refused(&["embed", "run"]);
    succeeds(root, &["embed", "run", "--backend", "cpu:0"]);
    succeeds(root, &["pretrain", "--resume", "--out", "run", "--set", "backend=cpu"]);
    assert_eq!(backend_in(&run), "cpu");
    succeeds(root, &["embed", "run"]);
}

#[test]
fn what_is_no_device_is_told_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = ["bench", "train", "--scale", "1M", "--steps", "1", "--tokens", "8", "--set"];
    let of = |set| [&bench[..], &[set]].concat();
    succeeds(folder.path(), &of("backend=cpu:0"));
    let error = fails(folder.path(), &of("backend=cpu:7"), 2);
    assert!(error.contains("cpu has 1 device(s)"), "{error}");
    for wrong in ["backend=cpu:x", "backend=3", "backend=''"] {
        let error = fails(folder.path(), &of(wrong), 2);
        assert!(error.contains("backend"), "{error}");
    }
    let error = fails(folder.path(), &of("backend=cqu"), 2);
    assert!(error.contains("did you mean \"cpu\""), "{error}");
}

/// A forecast computes nothing: a recipe may be of another machine. What is typed must be there.
#[test]
fn a_forecast_refuses_a_backend_that_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("elsewhere.toml"), ELSEWHERE).expect("writable");
    let forecast = ["run", "elsewhere.toml", "--plan"];
    succeeds(folder.path(), &forecast);
    for (wrong, words) in [("cqu", "did you mean \"cpu\""), ("cpu:x", "no device number")] {
        let error = fails(folder.path(), &[&forecast[..], &["--backend", wrong]].concat(), 2);
        assert!(error.contains(words), "{error}");
    }
}

/// What lies where the program with LibTorch should lie may be anything, also this very program.
#[test]
fn another_program_is_not_taken_for_libtorchs() {
    if !cfg!(feature = "libtorch") {
        println!("skipped: built without the feature libtorch");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let [own, beside] = ["astropt", "astropt-libtorch"].map(|name| folder.path().join(name));
    let put = |place: &Path| {
        let program = env!("CARGO_BIN_EXE_astropt");
        std::fs::hard_link(program, place)
            .or_else(|_| std::fs::copy(program, place).map(drop))
            .expect("a program");
    };
    put(&own);
    let refused = || {
        let bench = ["bench", "train", "--scale", "1M", "--backend", "libtorch"];
        let done = Command::new(&own).args(bench).output().expect("it starts");
        let error = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{error}");
        assert!(error.contains("astropt-libtorch is another program than"), "{error}");
    };
    put(&beside);
    refused();
    std::fs::remove_file(&beside).expect("deletable");
    std::fs::copy("/bin/true", &beside).expect("a program");
    refused();
}

/// Only what is to be trained is asked for: a model that is finished, or left for later, may be of a
/// backend that this program has not.
#[test]
fn a_family_asks_for_what_it_trains() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let mixed = "extends = 'galaxy-grz'\nname = 'mixed'\n[scale.demo-M]\nbackend = 'nowhere'\n";
    std::fs::write(root.join("mixed.toml"), mixed).expect("writable");
    let scale = small_family("mixed.toml");
    let error = fails(root, &scale, 2);
    assert!(error.contains("backend = \"nowhere\" of the recipe"), "{error}");
    assert!(!root.join("family").exists(), "what is refused leaves nothing");
    succeeds(root, &[&scale[..], &["--backend", "cpu"]].concat());
    let resume = ["scale", "--resume", "--out", "family"];
    succeeds(root, &resume);
    std::fs::remove_dir_all(root.join("family/demo-M")).expect("removable");
    succeeds(root, &[&resume[..], &["--scales", "demo-S"]].concat());
    let error = fails(root, &resume, 2);
    assert!(error.contains("backend = \"nowhere\" of the recipe"), "{error}");
}

/// [`small`] of two models of `recipe`.
fn small_family(recipe: &'static str) -> Vec<&'static str> {
    let mut scale = small("scale", "family", &["--scales", "demo-S,demo-M"]);
    scale[1] = recipe;
    scale.retain(|word| !["--scale", "demo-S"].contains(word));
    scale
}

/// What lies in a program of its own is found by all commands, also where only the checkpoint that
/// they read names it.
#[test]
fn libtorch_is_handed_over_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    if !succeeds(root, &["doctor"]).contains("libtorch:0") {
        println!("skipped: this program has no libtorch");
        return;
    }
    succeeds(root, &small("pretrain", "run", &["--set", "backend=libtorch"]));
    let manifest = std::fs::read_to_string(root.join("run/manifest.json")).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    assert_eq!(manifest["stages"][0]["backend"], "libtorch");
    let export = ["export", "run/checkpoints/step-000006", "--to", "safetensors", "--out", "model"];
    succeeds(root, &export);
    // Nothing names the backend that it was trained on.
    succeeds(root, &small("pretrain", "again", &["--backend", "libtorch"]));
    let more = ["pretrain", "--resume", "--out", "again", "--set", "train.steps=7"];
    let output = astropt(root, &more);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("--backend libtorch goes on there"), "{told}");
    // What names it is not told of, and a family's later models are asked before the first is trained.
    let more = ["pretrain", "--resume", "--out", "again", "--set", "backend=libtorch"];
    let output = astropt(root, &more);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !told.contains("goes on there"), "{told}");
    let mixed = "extends = 'galaxy-grz'\nname = 'mixed'\n[scale.demo-M]\nbackend = 'libtorch'\n";
    std::fs::write(root.join("mixed.toml"), mixed).expect("writable");
    succeeds(root, &small_family("mixed.toml"));
}
