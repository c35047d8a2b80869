//! Training from Parquet files as the Hugging Face hub has them.

use std::path::Path;
use std::process::Command;

use crate::program::{program, succeeds, workspace};

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
