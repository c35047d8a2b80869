//! Training from Parquet files as the Hugging Face hub has them.

use std::path::Path;
use std::process::Command;

use crate::program::{program, succeeds, workspace};

/// The commits that a branch is at first and later.
const COMMITS: [&str; 2] =
    ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"];

/// A recipe for the small galaxies that are kept with the tests of the source.
fn recipe(folder: &Path, source: &str) {
    let text = format!(
        "name = \"hf\"\nextends = \"galaxy-grz\"\ndefault_scale = \"tiny\"\n[source]\n{source}\n\
         [modality.images]\nsize = 4\npatch = 2\npositions = 4\n\
         [split]\nvalidation_fraction = 0.2\ntest_fraction = 0.1\n\
         [scale.tiny]\nmodel = {{ layers = 1, heads = 1, width = 8 }}\n\
         [train]\nsteps = 6\nbatch = 4\nmicro_batch = 2\nwarmup_steps = 1\ndecay_steps = 6\n\
         eval_every = 3\neval_batches = 1\n"
    );
    std::fs::write(folder.join("hf.toml"), text).expect("written");
}

/// The same bytes with one worker and with three, though parts are held and let go of in
/// another order.
#[test]
fn runs_on_shards_are_reproducible() {
    let folder = tempfile::tempdir().expect("a folder");
    let shards = workspace().join("modalities/tests/fixtures/parquet/hf");
    let source = format!("kind = \"parquet\"\npath = {shards:?}\nbuffer = \"8kB\"");
    recipe(folder.path(), &source);
    for (out, workers) in [("a", "train.workers=1"), ("b", "train.workers=3")] {
        let arguments = ["pretrain", "hf.toml", "--out", out, "--quiet", "--set", workers];
        succeeds(folder.path(), &arguments);
    }
    for name in ["metrics.jsonl", "checkpoints/step-000006/optimizer.safetensors"] {
        let [a, b] = ["a", "b"].map(|out| std::fs::read(folder.path().join(out).join(name)));
        assert_eq!(a.expect("written"), b.expect("written"), "{name}");
    }
}

#[test]
fn without_a_network_the_hub_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    recipe(folder.path(), "kind = \"hub\"");
    let output = Command::new(program())
        .args(["pretrain", "hf.toml", "--data", "Smith42/galaxies", "--out", "r"])
        .current_dir(folder.path())
        .env("HF_HOME", folder.path())
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .expect("the program runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    let said = error.contains("Smith42/galaxies at main was never fetched to here");
    assert!(said && error.contains("unset it") && !error.contains("panicked"), "{error}");
}

/// Runs the program without a network; standard error of a call that must succeed.
fn offline(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program())
        .args(arguments)
        .current_dir(folder)
        .env("HF_HOME", folder)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .expect("the program runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {told}");
    told
}

#[test]
fn a_run_goes_on_with_the_commit_that_it_began_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    recipe(at, "kind = \"hub\"\nrepo = \"owner/stars\"\nsplit = \"train\"");
    let cache = at.join("hub/datasets--owner--stars");
    let shards = workspace().join("modalities/tests/fixtures/parquet/hf/data");
    let names = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"];
    for (commit, order) in COMMITS.iter().zip([[0, 1], [1, 0]]) {
        let place = cache.join("snapshots").join(commit).join("data");
        std::fs::create_dir_all(&place).expect("a folder");
        for (name, from) in names.iter().zip(order) {
            std::fs::copy(shards.join(names[from]), place.join(name)).expect("copied");
        }
    }
    let branch = |commit: &str| {
        std::fs::create_dir_all(cache.join("refs")).expect("a folder");
        std::fs::write(cache.join("refs/main"), commit).expect("written");
    };
    let text = |name: &str| std::fs::read_to_string(at.join(name)).expect(name);
    branch(COMMITS[0]);
    offline(at, &["pretrain", "hf.toml", "--out", "whole"]);
    let told = offline(at, &["pretrain", "hf.toml", "--out", "r", "--set", "train.steps=3"]);
    assert!(!told.contains("by now"), "{told}");
    let pinned = |commit: &str| format!("pinned = \"owner/stars@main:{commit}\"");
    assert!(text("r/recipe.toml").contains(&pinned(COMMITS[0])), "{}", text("r/recipe.toml"));
    branch(COMMITS[1]);
    let told = offline(at, &["pretrain", "--resume", "--out", "r", "--set", "train.steps=6"]);
    assert!(told.contains("main is at bbbbbbbbbbbb by now; aaaaaaaaaaaa is read"), "{told}");
    assert_eq!(text("r/metrics.jsonl"), text("whole/metrics.jsonl"));
    for words in [&["embed", "r"][..], &["audit", "r"], &["generate", "r", "--objects", "1"]] {
        offline(at, words);
    }
    // A new run reads what is there now.
    offline(at, &["pretrain", "hf.toml", "--out", "new"]);
    assert!(text("new/recipe.toml").contains(&pinned(COMMITS[1])));
    assert_ne!(text("new/metrics.jsonl"), text("whole/metrics.jsonl"));
    // So does a conversion, but for one that has begun.
    offline(at, &["convert", "hf.toml", "--out", "c"]);
    assert!(text("c/astropt-index.json").contains(COMMITS[1]));
}
