//! Whole runs, small.

use std::path::Path;

use crate::faults::{pretrain, table};
use crate::program::{astropt, fails, succeeds};

/// A demo that takes seconds, of its smallest model.
pub(crate) const SMALL: [&str; 25] = [
    "--scale",
    "demo-S",
    "--quiet",
    "--set",
    "source.objects=200",
    "--set",
    "source.size=64",
    "--set",
    "modality.images.size=64",
    "--set",
    "modality.images.patch=8",
    "--set",
    "train.steps=6",
    "--set",
    "train.decay_steps=6",
    "--set",
    "train.peak_lr=1e-3",
    "--set",
    "train.warmup_steps=2",
    "--set",
    "train.eval_every=3",
    "--set",
    "train.batch=32",
    "--set",
    "probe.beside=['knn']",
];

pub(crate) fn small<'a>(command: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![command, "galaxy-grz", "--out", out];
    arguments.extend(SMALL);
    arguments.extend(more);
    arguments
}

fn whole(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn a_run_leaves_what_the_readme_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    // Of more blocks than two, whose middle one is not the last.
    let more = ["--json", "--set", "model.layers=4"];
    let json = succeeds(folder.path(), &small("run", "r", &more));
    let result: serde_json::Value = serde_json::from_str(json.trim()).expect("JSON");
    assert_eq!(result["steps"], 6);
    let run = folder.path().join("r");
    for name in [
        "recipe.toml",
        "manifest.json",
        "metrics.jsonl",
        "timings.jsonl",
        "rejected.csv",
        "checkpoints/step-000000/model.safetensors",
        "checkpoints/step-000006/optimizer.safetensors",
        "checkpoints/step-000006/state.json",
        "checkpoints/best/model.safetensors",
        "previews/step-000006.png",
        "embeddings.parquet",
        "embeddings.npy",
        "probes.json",
        "figures/order.png",
        "figures/maps.svg",
        "report.html",
    ] {
        assert!(run.join(name).exists(), "{name} is missing");
    }
    let events = std::fs::read_dir(&run).expect("readable").flatten();
    assert!(events.into_iter().any(|e| e.file_name().to_string_lossy().contains("tfevents")));
    let report = String::from_utf8(whole(&run, "report.html")).expect("UTF-8");
    assert!(report.contains("<svg") && report.contains("data:image/png;base64,"));
    assert!(!report.contains("src=\"http"), "the report asks for nothing from outside");
    // The spiral of the paper's program: from the middle to the right and up, ending top left.
    let order = String::from_utf8(whole(&run, "figures/order.svg")).expect("UTF-8");
    assert!(order.contains("from row 5, column 4 to row 1, column 1"), "{}", &order[..400]);

    let error = fails(folder.path(), &small("run", "r", &[]), 2);
    assert!(error.contains("--resume") && error.contains("--overwrite"), "{error}");
    stages_run_alone(folder.path());
}

/// Embedding, probing and reporting again, by themselves, with other choices.
fn stages_run_alone(folder: &Path) {
    let before = whole(&folder.join("r"), "embeddings.npy");
    succeeds(folder, &["embed", "r", "--quiet"]);
    assert_eq!(before, whole(&folder.join("r"), "embeddings.npy"), "the same embeddings again");
    let middle = ["embed", "r", "-q", "--set", "embed.layer=middle", "--checkpoint", "best"];
    succeeds(folder, &[&middle[..], &["--out", "middle"]].concat());
    assert_ne!(before, whole(&folder.join("middle"), "embeddings.npy"));
    assert!(!folder.join("r/probes.json").exists(), "probes of older embeddings are gone");
    let table = succeeds(folder, &["probe", "r", "--set", "probe.fit.method=ridge"]);
    assert!(table.contains("random-init") && table.contains("raw features"), "{table}");
    succeeds(folder, &["probe", "r", "--embeddings", "middle"]);
    let keys = ["checkpoints=true", "layers=true", "beside=['mlp']", "labels=['redshift', 'disc']"];
    let keys = keys.map(|key| format!("probe.{key}"));
    let set = keys.iter().flat_map(|key| ["--set", key]);
    let table = succeeds(folder, &["probe", "r"].into_iter().chain(set).collect::<Vec<_>>());
    for text in ["R² by step", "R² by block", "R² by MLP", "R², telescope unseen"] {
        assert!(table.contains(text), "{text} is not in {table}");
    }
    succeeds(folder, &["report", "r"]);
    let report = String::from_utf8(whole(&folder.join("r"), "report.html")).expect("UTF-8");
    assert!(report.contains("When and where it knows them"));
    for figure in ["emergence", "layers"] {
        assert!(folder.join(format!("r/figures/{figure}.png")).exists(), "{figure}");
    }
    assert!(report.contains("method = &quot;ridge&quot;"), "the report has the recipe probed with");
    let error = fails(folder, &["embed", "r", "--set", "train.steps=3"], 2);
    assert!(error.contains("embed."), "{error}");
    let error = fails(folder, &["embed", "r", "--checkpoint", "5"], 2);
    assert!(error.contains("0, 6"), "{error}");
}

/// The same recipe gives the same bytes, whatever the number of workers.
#[test]
fn runs_are_reproducible() {
    let folder = tempfile::tempdir().expect("a folder");
    for (out, workers) in [("a", "train.workers=1"), ("b", "train.workers=3")] {
        succeeds(folder.path(), &small("pretrain", out, &["--set", workers]));
    }
    let [a, b] = ["a", "b"].map(|out| folder.path().join(out));
    for name in ["metrics.jsonl", "ledger.jsonl", "checkpoints/step-000006/optimizer.safetensors"] {
        assert_eq!(whole(&a, name), whole(&b, name), "{name}");
    }
    // The metadata have the recipe, and with it the number of workers.
    let parameters = |run: &Path| {
        let path = run.join("checkpoints/step-000006/model.safetensors");
        astropt_core::checkpoint::load_tensors(path).expect("readable").0
    };
    assert!(parameters(&a) == parameters(&b));
}

#[test]
fn overwriting_keeps_what_is_not_ours() {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(folder.path(), &small("pretrain", "r", &["--set", "train.steps=1"]));
    let note = folder.path().join("r/notes.txt");
    std::fs::write(&note, "mine").expect("writable");
    let output = astropt(folder.path(), &small("pretrain", "r", &["--overwrite"]));
    assert!(output.status.success());
    assert!(note.exists() && folder.path().join("r/checkpoints/step-000006").exists());
    assert!(!folder.path().join("r/checkpoints/step-000001").exists());
}

#[test]
fn what_is_not_probed_need_not_be_embedded() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    table(at);
    let held_out = "embed.splits=['validation','test']";
    succeeds(at, &pretrain("r", &["train.steps=2", "train.faults.on='skip'", held_out]));
    let own = succeeds(at, &["embed", "r", "-q"]);
    assert!(own.starts_with("6 embeddings"), "{own}");
    let lacks = ["embed", "r", "-q", "--set", "embed.splits=['test']"];
    assert!(fails(at, &lacks, 2).contains("leaves out validation objects"));
    // Splits are of the run's objects: of other data all are wanted.
    let others = ["embed", "r", "-q", "--data", "numbers.csv", "--out", "e"];
    let others = succeeds(at, &others);
    assert!(others.starts_with("70 embeddings") || others.starts_with("69 embeddings"), "{others}");
}
