//! Checkpoints in and out: `import`, `export`, `inspect`, self-checks and format versions.

use std::path::{Path, PathBuf};

use crate::program::{astropt, fails, shared, succeeds, unlist, workspace};
use astropt_core::checkpoint::{load_tensors, save_tensors};

use crate::bad_input::pictures;
use crate::run::small;

/// Recorded checkpoints, the layout each is of, and their modalities' kinds.
const RECORDED: [(&str, &str); 8] = [
    ("v1_paper", "astropt-1"),
    ("v2_images", "astropt-2"),
    ("v2_images_spectra", "astropt-2"),
    ("v3_images_aim", "astropt-3"),
    ("v3_images_affine", "astropt-3"),
    ("v3_images_mae", "astropt-3"),
    ("v3_three_modalities", "astropt-3"),
    ("v3_discrete", "astropt-3"),
];

/// The folder of a recorded case: in the repository, or beside it.
fn recorded(name: &str) -> Option<PathBuf> {
    let own = workspace().join("tests/golden").join(name);
    if own.exists() { Some(own) } else { shared("golden").map(|golden| golden.join(name)) }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn tensors(run: &Path, file: &str) -> astropt_core::engine::StateDict {
    load_tensors(run.join("checkpoints/step-000012").join(file)).expect("loads").0
}

/// Import, export to the same layout, import again: the same numbers, bit by bit.
#[test]
fn every_recorded_checkpoint_goes_in_and_out_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, layout) in RECORDED {
        let Some(case) = recorded(name) else { return };
        let checkpoint = case.join("ckpt.pt");
        let (once, again) = (format!("{name}-once"), format!("{name}-again"));
        let file = format!("{name}.pt");
        let line = succeeds(folder.path(), &["import", text(&checkpoint), "--out", &once]);
        assert!(line.contains(&format!("from {layout}, 12 steps")), "{line}");
        succeeds(folder.path(), &["export", &once, "--to", layout, "--out", &file]);
        succeeds(folder.path(), &["import", &file, "--out", &again]);
        let (once, again) = (folder.path().join(&once), folder.path().join(&again));
        for part in ["model.safetensors", "optimizer.safetensors"] {
            let (a, b) = (tensors(&once, part), tensors(&again, part));
            assert!(!a.is_empty() || name == "v3_images_mae" && part.starts_with('o'), "{name}");
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
            for (key, tensor) in &a {
                let bits = |t: &[f32]| t.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(tensor.shape, b[key].shape, "{name} {key}");
                assert_eq!(bits(&tensor.data), bits(&b[key].data), "{name} {key}");
            }
        }
        // Exported again, the file is the same to the last byte.
        let second = format!("{name}-again.pt");
        let from = again.join("checkpoints/step-000012");
        succeeds(folder.path(), &["export", text(&from), "--to", layout, "--out", &second]);
        let read = |name: &str| std::fs::read(folder.path().join(name)).expect("readable");
        assert_eq!(read(&file), read(&second), "{name}");
    }
}

/// What was imported answers as recorded: its parameters, replayed by `verify`.
#[test]
fn an_imported_model_answers_as_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["v1_paper", "v3_images_aim", "v3_three_modalities"] {
        let Some(case) = recorded(name) else { return };
        succeeds(folder.path(), &["import", text(&case.join("ckpt.pt")), "--out", name]);
        let weights = folder.path().join(format!("{name}.safetensors"));
        let to = ["--to", "safetensors", "--out", text(&weights)];
        succeeds(folder.path(), &[&["export", name][..], &to].concat());
        succeeds(folder.path(), &["verify", text(&case), "--weights", text(&weights)]);
    }
}

#[test]
fn a_masked_autoencoder_embeds_and_goes_on() {
    let Some(case) = recorded("v3_images_mae") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    pictures(folder.path(), 40);
    let checkpoint = case.join("ckpt.pt");
    let mut import = vec!["import", text(&checkpoint), "--out", "r", "--data", "data"];
    let sets = [
        "train={batch=8,micro_batch=8,steps=14,warmup_steps=1,decay_steps=20,eval_batches=2}",
        "split.validation_fraction=0.3",
    ];
    import.extend(sets.iter().flat_map(|set| ["--set", set]));
    succeeds(folder.path(), &import);
    let recipe = std::fs::read_to_string(folder.path().join("r/recipe.toml")).expect("there");
    assert!(recipe.contains("kind = \"masked\"") && recipe.contains("ratio = 0.4"), "{recipe}");
    succeeds(folder.path(), &["pretrain", "--resume", "--out", "r", "-q"]);
    succeeds(folder.path(), &["embed", "r", "-q"]);
}

/// Training goes on where the Python program stopped, and embeds.
#[test]
fn an_imported_run_goes_on_and_embeds() {
    let Some(case) = recorded("v1_paper") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    pictures(folder.path(), 40);
    let checkpoint = case.join("ckpt.pt");
    let mut import = vec!["import", text(&checkpoint), "--out", "r", "--data", "data"];
    let sets = [
        "train={batch=8,micro_batch=8,steps=14,warmup_steps=1,decay_steps=20,eval_batches=2}",
        "split.validation_fraction=0.3",
    ];
    import.extend(sets.iter().flat_map(|set| ["--set", set]));
    let lines = succeeds(folder.path(), &import);
    assert!(lines.contains("assumed: modality.images.size = 24"), "{lines}");
    succeeds(folder.path(), &["pretrain", "--resume", "--out", "r", "-q"]);
    let run = folder.path().join("r");
    let state = std::fs::read_to_string(run.join("checkpoints/step-000014/state.json"));
    let state: serde_json::Value = serde_json::from_str(&state.expect("there")).expect("JSON");
    assert_eq!(state["step"], 14);
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).expect("there");
    assert!(metrics.lines().next().is_some_and(|line| line.contains("\"step\":13")), "{metrics}");
    let (_, steps) =
        load_tensors(run.join("checkpoints/step-000014/optimizer.safetensors")).expect("loads");
    assert_eq!(steps["steps"], "14");
    succeeds(folder.path(), &["embed", "r", "-q"]);
    assert!(run.join("embeddings.parquet").exists());
    // What went on can still be handed back.
    succeeds(folder.path(), &["export", "r", "--to", "astropt-1", "--out", "back.pt"]);
}

#[test]
fn what_the_user_says_of_a_modality_wins() {
    let Some(case) = recorded("v2_images") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoint = case.join("ckpt.pt");
    let import = ["import", text(&checkpoint), "--overwrite", "--out", "r", "--json"];
    let with = |more: &[&'static str]| [&import[..], more].concat();
    let json = succeeds(folder.path(), &with(&["--set", "modality.images.size=24"]));
    let json: serde_json::Value = serde_json::from_str(json.trim()).expect("JSON");
    let assumed = json["assumptions"].to_string();
    assert!(!assumed.contains("images.size") && assumed.contains("images.order"), "{assumed}");
    let json = succeeds(folder.path(), &with(&["--modality", "images=tokens"]));
    assert!(json.contains("\"images\":\"tokens\""), "{json}");
    for (more, words) in [
        (["--set", "modality.images.bands=1"], "makes tokens of 16 numbers"),
        (["--set", "modality.images.size=4096"], "positions"),
        (["--set", "model.width=64"], "model.*"),
        (["--modality", "images=spectre"], "spectre"),
        (["--modality", "spectra=tokens"], "it has images"),
        (["--modality", "images"], "NAME=KIND"),
    ] {
        let error = fails(folder.path(), &with(&more), 2);
        assert!(error.contains(words), "{more:?}: {error}");
    }
}

#[test]
fn a_layout_that_cannot_hold_the_model_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let sets = ["--set", "train.checkpoints={list=[6]}"];
    succeeds(folder.path(), &small("pretrain", "r", &sets));
    let to = |to| ["export", "r", "--to", to, "--out", "x.pt"];
    let error = fails(folder.path(), &to("astropt-3"), 2);
    assert!(error.contains("write astropt-1"), "{error}");
    assert!(!folder.path().join("x.pt").exists(), "nothing half-written");
    succeeds(folder.path(), &to("astropt-1"));
    succeeds(folder.path(), &["import", "x.pt", "--out", "back"]);
}

/// Replaces the metadata and tensors of the checkpoint's model file, as a tool would that knows
/// nothing of its checksum.
fn edit(
    run: &Path,
    change: impl FnOnce(
        &mut astropt_core::engine::StateDict,
        &mut std::collections::BTreeMap<String, String>,
    ),
) {
    let path = run.join("checkpoints/step-000006/model.safetensors");
    let (mut tensors, mut metadata) = load_tensors(&path).expect("loads");
    change(&mut tensors, &mut metadata);
    save_tensors(&path, &tensors, &metadata).expect("saves");
    unlist(&run.join("checkpoints/step-000006"));
}

/// Scrambles the order of patches in a run's manifest and in one of its checkpoints: as if the
/// program had changed since.
pub(crate) fn scramble(run: &Path, checkpoint: &str) {
    let scrambled = |plan: &mut serde_json::Value| {
        let images = plan["modalities"]["images"].as_object_mut().expect("there");
        assert_eq!(images.insert("order".into(), "raster".into()), Some("spiral".into()));
        images.remove("orientation");
        let recipe = plan["recipe"].as_str().expect("a text");
        let recipe = recipe.replace("order = \"spiral\"", "order = \"raster\"");
        plan["recipe"] = recipe.replace("orientation = \"astropt\"\n", "").into();
    };
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let path = run.join("manifest.json");
    let mut manifest = read(&std::fs::read_to_string(&path).expect("there"));
    scrambled(&mut manifest["plan"]);
    manifest.as_object_mut().expect("a table").remove("xxh3");
    std::fs::write(&path, manifest.to_string()).expect("writable");
    let folder = run.join("checkpoints").join(checkpoint);
    let model = folder.join("model.safetensors");
    let (tensors, mut metadata) = load_tensors(&model).expect("loads");
    let mut plan = read(&metadata["plan"]);
    scrambled(&mut plan);
    metadata.insert("plan".into(), plan.to_string());
    save_tensors(&model, &tensors, &metadata).expect("saves");
    unlist(&folder);
}

#[test]
fn one_flipped_bit_anywhere_in_a_checkpoint_is_caught() {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(folder.path(), &small("pretrain", "r", &[]));
    let last = folder.path().join("r/checkpoints/step-000006");
    let resume = ["pretrain", "--resume", "--out", "r", "--quiet"];
    let mut tried = 0;
    for entry in std::fs::read_dir(&last).expect("there").flatten() {
        let bytes = std::fs::read(entry.path()).expect("readable");
        for at in [bytes.len() / 3, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(entry.path(), &damaged).expect("writable");
            let error = fails(folder.path(), &resume, 1);
            let name = entry.file_name().display().to_string();
            assert!(error.contains(&name) || error.contains("checksums.json"), "{name}: {error}");
            tried += 1;
        }
        std::fs::write(entry.path(), &bytes).expect("writable");
    }
    assert_eq!(tried, 2 * 5, "two bits of every file");
    succeeds(folder.path(), &resume);
}

/// Without its record nothing would tell a damaged optimiser from a sound one.
#[test]
fn a_checkpoint_that_lost_its_checksums_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(folder.path(), &small("pretrain", "r", &[]));
    let last = folder.path().join("r/checkpoints/step-000006");
    std::fs::remove_file(last.join("checksums.json")).expect("there");
    let resume = ["pretrain", "--resume", "--out", "r", "-q", "--set", "train.steps=7"];
    let export = ["export", "r", "--to", "safetensors", "--out", "m.safetensors"];
    for command in [&resume[..], &["embed", "r"], &["audit", "r"], &export] {
        let error = fails(folder.path(), command, 1);
        assert!(error.contains("checksums.json: is gone") && error.contains("xxh3"), "{error}");
    }
    // So is a run that lost its own.
    let record = folder.path().join("r/checksums.json");
    let text = std::fs::read(&record).expect("there");
    std::fs::remove_file(&record).expect("there");
    for command in [&resume[..], &["report", "r"], &["probe", "r"], &["audit", "r"]] {
        let error = fails(folder.path(), command, 1);
        assert!(error.contains("r/checksums.json: is gone"), "{error}");
    }
    std::fs::write(&record, text).expect("writable");
    // Its model alone may be taken elsewhere.
    std::fs::copy(last.join("model.safetensors"), folder.path().join("model.safetensors"))
        .expect("copied");
    succeeds(folder.path(), &["inspect", "model.safetensors"]);
    unlist(&last);
    let output = astropt(folder.path(), &resume);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("warning: ") && said.contains("taken as it is"), "{said}");
}

/// It brings neither the ledger nor the losses of the run it was trained in, and nobody misses them.
#[test]
fn an_exported_model_trains_on_elsewhere_without_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(folder.path(), &small("pretrain", "r", &[]));
    succeeds(folder.path(), &["export", "r", "--to", "safetensors", "--out", "m.safetensors"]);
    succeeds(folder.path(), &["import", "m.safetensors", "--out", "n"]);
    let resume = ["pretrain", "--resume", "--out", "n", "-q", "--set", "train.steps=7"];
    let output = astropt(folder.path(), &resume);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("warning"), "{said}");
    let losses = std::fs::read_to_string(folder.path().join("n/metrics.jsonl")).expect("there");
    assert!(losses.lines().count() > 0 && !losses.contains("\"step\":6,"), "{losses}");
}

#[test]
fn scrambled_preprocessing_and_changed_parameters_are_caught() {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(folder.path(), &small("pretrain", "r", &[]));
    let run = folder.path().join("r");
    let embed = ["embed", "r", "--quiet"];
    let export = ["export", "r", "--to", "astropt-1", "--out", "x.pt"];
    let resume = ["pretrain", "--resume", "--out", "r", "--quiet"];
    succeeds(folder.path(), &embed);

    edit(&run, |tensors, _| {
        let bias = tensors.get_mut("decoders.images.4.bias").expect("there");
        bias.data.iter_mut().for_each(|x| *x += 0.01);
    });
    let generate = ["generate", "r", "--quiet", "--objects", "1"];
    for command in [&embed[..], &export, &generate, &resume] {
        let error = fails(folder.path(), command, 1);
        assert!(error.contains("step-000006: fails its self-check"), "{error}");
        assert!(error.contains("--no-self-check") && error.contains("outputs"), "{error}");
        succeeds(folder.path(), &[command, &["--no-self-check"]].concat());
    }

    edit(&run, |tensors, _| {
        let bias = tensors.get_mut("decoders.images.4.bias").expect("there");
        bias.data.iter_mut().for_each(|x| *x -= 0.01);
    });
    scramble(&run, "step-000006");
    let error = fails(folder.path(), &embed, 1);
    assert!(error.contains("self-check: the images tokens"), "{error}");
    assert!(error.contains("prepared otherwise"), "{error}");

    // Taken away, the check is missed; cut short, its file is named.
    let file = run.join("checkpoints/step-000006/selfcheck.safetensors");
    let bytes = std::fs::read(&file).expect("there");
    std::fs::write(&file, &bytes[..bytes.len() / 2]).expect("writable");
    for _ in 0..2 {
        let error = fails(folder.path(), &embed, 1);
        assert!(error.contains("selfcheck.safetensors"), "{error}");
        let _ = std::fs::remove_file(&file);
    }
}

/// A run of format 1, as the program wrote it before there was a format 2.
fn format_1(folder: &Path) -> PathBuf {
    let (from, to) = (workspace().join("tests/fixtures/format-1"), folder.join("old"));
    let last = "checkpoints/step-000002";
    std::fs::create_dir_all(to.join(last)).expect("writable");
    for place in ["", last] {
        for entry in std::fs::read_dir(from.join(place)).expect("there").flatten() {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), to.join(place).join(entry.file_name()))
                    .expect("copied");
            }
        }
    }
    to
}

#[test]
fn an_older_format_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = format_1(folder.path());
    let last = old.join("checkpoints/step-000002");
    for (path, what) in [(&old, "a run"), (&last, "a checkpoint")] {
        let text = succeeds(folder.path(), &["inspect", text(path)]);
        assert!(text.contains(what), "{text}");
    }
    let probe = ["probe", "old", "--set", "probe.labels=[\"redshift\"]"];
    succeeds(folder.path(), &probe);
    let embedded = astropt(folder.path(), &["embed", "old"]);
    let told = String::from_utf8_lossy(&embedded.stderr).into_owned();
    assert!(embedded.status.success() && told.contains("carries no self-check"), "{told}");
    let resume = ["pretrain", "--resume", "--out", "old", "-q", "--set", "train.steps=3"];
    succeeds(folder.path(), &resume);
    let manifest = std::fs::read_to_string(old.join("manifest.json")).expect("there");
    assert!(manifest.contains("\"astropt_format\": 2"), "migrated when written");
    assert!(old.join("checkpoints/step-000003/selfcheck.safetensors").exists());
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(folder.path(), &small("run", "r", &[]));
    let run = folder.path().join("r");
    [&run, &run.join("checkpoints/step-000006")].into_iter().for_each(|of| unlist(of));
    for (file, command) in [
        ("probes.json", ["report", "r"]),
        ("checkpoints/step-000006/state.json", ["inspect", "r/checkpoints/step-000006"]),
        ("manifest.json", ["embed", "r"]),
    ] {
        let path = run.join(file);
        let old = std::fs::read_to_string(&path).expect("there");
        let new = old.replace("\"astropt_format\": 2", "\"astropt_format\": 3");
        assert_ne!(old, new, "{file} states its format");
        std::fs::write(&path, new).expect("writable");
        let error = fails(folder.path(), &command, 1);
        assert!(error.contains(file) && error.contains("use a newer program"), "{error}");
        std::fs::write(&path, old).expect("writable");
    }
    edit(&run, |_, metadata| {
        metadata.insert("astropt_format".into(), "3".into());
    });
    let error = fails(folder.path(), &["embed", "r"], 1);
    assert!(error.contains("model.safetensors has") || error.contains("the format 3"), "{error}");
}

#[test]
fn inspect_shows_what_a_path_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    pictures(folder.path(), 7);
    let sets = ["--set", "train.checkpoints={list=[6]}"];
    succeeds(folder.path(), &small("run", "r", &sets));
    std::fs::write(folder.path().join("mine.toml"), "extends = 'efigi'\n").expect("writable");
    for (path, words) in [
        ("r", vec!["a run", "checkpoints", "modality.images.patch", "pretrain"]),
        ("r/checkpoints/step-000006", vec!["a checkpoint", "192 numbers"]),
        ("r/checkpoints/step-000006/model.safetensors", vec!["a checkpoint"]),
        ("r/checkpoints/step-000006/optimizer.safetensors", vec!["AdamW", "F32"]),
        ("r/embeddings.parquet", vec!["a table of embeddings", "pooling", "200"]),
        ("r/embeddings.npy", vec!["npz", "[200, 24]", "f32"]),
        ("mine.toml", vec!["a recipe", "aim", "efigi"]),
        ("data", vec!["image-folder", "[32, 32, 3]", "u8", "g000"]),
        ("data/g003.png", vec!["image-folder", "[32, 32, 3]"]),
    ] {
        let shown = succeeds(folder.path(), &["inspect", path]);
        assert!(shown.lines().count() <= 70, "{path} fits no screen:\n{shown}");
        for word in words {
            assert!(shown.contains(word), "{path} has no {word}:\n{shown}");
        }
        let json = succeeds(folder.path(), &["inspect", path, "--json"]);
        let json: serde_json::Value = serde_json::from_str(json.trim()).expect("JSON");
        assert_eq!(json["path"], path);
    }
    if let Some(case) = recorded("v1_paper") {
        let shown = succeeds(folder.path(), &["inspect", text(&case)]);
        assert!(shown.contains("a recorded case"), "{shown}");
        let shown = succeeds(folder.path(), &["inspect", text(&case.join("ckpt.pt"))]);
        assert!(shown.contains("astropt-1") && shown.contains("after 12 steps"), "{shown}");
    }
    std::fs::write(folder.path().join("notes.xyz"), "nothing").expect("writable");
    let error = fails(folder.path(), &["inspect", "notes.xyz"], 1);
    assert!(error.contains("no linked source"), "{error}");
    let error = fails(folder.path(), &["inspect", "nowhere"], 1);
    assert!(error.contains("nowhere"), "{error}");
}

/// The script that loads exported files with the Python program, where there is one.
#[test]
fn the_python_program_loads_what_is_exported() {
    let Some(python) = std::env::var_os("ASTROPT_PYTHON") else {
        println!("skipped: set ASTROPT_PYTHON to a Python with torch and astropt 2");
        return;
    };
    let Some(golden) = shared("golden") else { return };
    let output = std::process::Command::new(python)
        .arg(workspace().join("tests/python/check_export.py"))
        .arg("--astropt")
        .arg(crate::program::program())
        .arg("--golden")
        .arg(golden)
        .output()
        .expect("Python starts");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("all agree"), "{told}{errors}");
}
