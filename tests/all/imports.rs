//! `import`: what is refused, what comes back from safetensors, and a run without data.

use std::path::{Path, PathBuf};

use astropt_core::checkpoint::export::{PythonExport, export};
use astropt_core::checkpoint::load_tensors;
use astropt_core::checkpoint::python::{Layout, read};
use astropt_core::data::Objective;
use astropt_core::engine::{OptimiserState, StateDict, StepSettings};

use crate::bad_input::pictures;
use crate::checkpoints::scramble;
use crate::faults::{pretrain, table};
use crate::program::{astropt, fails, succeeds, workspace};
use crate::run::small;

/// A recorded checkpoint of the Python program that is in the repository.
fn recorded() -> PathBuf {
    workspace().join("tests/golden/v1_paper/ckpt.pt")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The recorded checkpoint with its numbers changed, written anew.
fn changed(folder: &Path, change: impl FnOnce(&mut StateDict, &mut OptimiserState)) {
    let mut found = read(recorded()).expect("reads");
    let mut optimiser = found.optimiser.take().expect("there");
    change(&mut found.parameters, &mut optimiser);
    let step = StepSettings {
        lr: 1e-4,
        betas: [0.9, 0.95],
        eps: 1e-8,
        weight_decay: 0.1,
        clip: 1.0,
        norm_limit: None,
        loss_limit: None,
    };
    let of = PythonExport {
        model: &found.model,
        objective: &Objective::Autoregressive,
        parameters: &found.parameters,
        optimiser: &optimiser,
        step: &step,
        iteration: 12,
        best_loss: None,
        patches: &[("images".to_owned(), 4)].into(),
        settings: &found.settings,
    };
    export(folder.join("bad.pt"), Layout::V1, &of).expect("writes");
}

#[test]
fn parameters_that_are_no_numbers_are_refused_by_their_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let import = ["import", "bad.pt", "--out", "r"];
    changed(folder.path(), |parameters, _| {
        let weight = parameters.get_mut("encoders.images.0.weight").expect("there");
        weight.data[3] = f32::NAN;
        weight.data[7] = f32::INFINITY;
    });
    let error = fails(folder.path(), &import, 1);
    // By the name that the file has for it.
    assert!(error.contains("transformer.wte.0.weight has 2 of 1536 values"), "{error}");
    assert!(
        error.contains("NaN or infinite") && error.contains("checkpoint from before"),
        "{error}"
    );
    assert!(!folder.path().join("r/manifest.json").exists(), "nothing is left");
    let shown = succeeds(folder.path(), &["inspect", "bad.pt"]);
    assert!(shown.contains("transformer.wte.0.weight has 2 of 1536 values"), "{shown}");

    changed(folder.path(), |_, optimiser| {
        let moment = optimiser.moment2.get_mut("encoders.images.0.weight").expect("there");
        moment.data[0] = f32::NAN;
    });
    let error = fails(folder.path(), &import, 1);
    assert!(error.contains("exp_avg_sq of transformer.wte.0.weight has 1 of 1536"), "{error}");
    assert!(error.contains("--fresh-optimiser"), "{error}");
    let told = succeeds(folder.path(), &[&import[..], &["--fresh-optimiser"]].concat());
    assert!(told.contains("without the optimiser's state"), "{told}");

    // Finite, and so large that what comes of them is not.
    changed(folder.path(), |parameters, _| {
        for (_, tensor) in parameters.iter_mut().filter(|(name, _)| name.starts_with("decoders")) {
            tensor.data.iter_mut().for_each(|x| *x = 3e38);
        }
    });
    let error = fails(folder.path(), &[&import[..], &["--overwrite"]].concat(), 1);
    assert!(error.contains("answers NaN or infinite numbers all the same"), "{error}");
}

#[test]
fn a_folder_that_holds_a_run_is_told_with_ways_out_that_exist() {
    let folder = tempfile::tempdir().expect("a folder");
    let import = ["import", text(&recorded()), "--out", "r"].map(str::to_owned);
    let import: Vec<&str> = import.iter().map(String::as_str).collect();
    succeeds(folder.path(), &import);
    let error = fails(folder.path(), &import, 2);
    assert!(error.contains("r holds a run already; replace it with --overwrite"), "{error}");
    assert!(error.contains("`astropt pretrain --resume --out r`"), "{error}");
    let help = succeeds(folder.path(), &["import", "--help"]);
    assert!(help.contains("--overwrite") && !help.contains("--resume"), "{help}");
    succeeds(folder.path(), &[&import[..], &["--overwrite"]].concat());
}

#[test]
fn a_run_without_data_says_how_it_gets_some_and_takes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    pictures(folder.path(), 40);
    let checkpoint = recorded();
    let mut import = vec!["import", text(&checkpoint), "--out", "r"];
    let sets = [
        "train={batch=8,micro_batch=8,steps=14,warmup_steps=1,decay_steps=20,eval_batches=2}",
        "split.validation_fraction=0.3",
    ];
    import.extend(sets.iter().flat_map(|set| ["--set", set]));
    succeeds(folder.path(), &import);
    let among = ["import", text(&checkpoint), "--out", "data", "--data", "data"];
    assert!(fails(folder.path(), &among, 2).contains("is the folder of the data"));
    let resume = ["pretrain", "--resume", "--out", "r", "-q"];
    let error = fails(folder.path(), &resume, 2);
    assert!(error.contains("r has no data yet, for it was imported without any"), "{error}");
    assert!(error.contains("`astropt pretrain --resume --out r --data PATH`"), "{error}");
    for command in [&["embed", "r"][..], &["generate", "r"], &["audit", "r"]] {
        let error = astropt(folder.path(), command);
        let error = String::from_utf8_lossy(&error.stderr).into_owned();
        assert!(!error.contains("(give"), "{command:?} took the stand-in for a path: {error}");
    }
    let error = fails(folder.path(), &["embed", "r"], 2);
    assert!(error.contains("no data yet") && error.contains("--data PATH"), "{error}");
    let shown = succeeds(folder.path(), &["inspect", "r"]);
    assert!(shown.contains("none yet: give it data with"), "{shown}");
    // What it says works, and is kept.
    succeeds(folder.path(), &["embed", "r", "--data", "data", "--out", "e", "-q"]);
    succeeds(folder.path(), &[&resume[..], &["--data", "data"]].concat());
    assert!(folder.path().join("r/checkpoints/step-000014/model.safetensors").exists());
    succeeds(folder.path(), &["embed", "r", "-q"]);
}

/// Parameters bit by bit, by name.
fn bits(path: &Path) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    let (tensors, _) = load_tensors(path).expect("loads");
    let bits = |data: &[f32]| data.iter().map(|x| x.to_bits()).collect();
    tensors.into_iter().map(|(name, t)| (name, t.shape, bits(&t.data))).collect()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).expect("there")).expect("JSON")
}

#[test]
fn what_is_exported_as_safetensors_comes_back_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(at, &small("pretrain", "r", &["--set", "train.checkpoints={list=[6]}"]));
    // Into the run's own folder, whose checksums do not list it.
    let export = ["--to", "safetensors", "--out", "r/x.safetensors"];
    succeeds(at, &[&["export", "r"][..], &export].concat());
    let told = succeeds(at, &["import", "r/x.safetensors", "--out", "back"]);
    assert!(told.contains("6 steps taken, without the optimiser's state"), "{told}");
    let last = "checkpoints/step-000006";
    let [a, b] = ["r", "back"].map(|run| at.join(run).join(last));
    assert!(bits(&a.join("model.safetensors")) == bits(&b.join("model.safetensors")));
    let [mine, theirs] = ["r", "back"].map(|run| json(&at.join(run).join("manifest.json")));
    assert_eq!(mine["plan"], theirs["plan"], "plan and preprocessing");
    let state = |run: &Path| json(&run.join("state.json"));
    for key in ["step", "tokens", "best_loss", "best_step"] {
        assert_eq!(state(&a)[key], state(&b)[key], "{key}");
    }
    // Out again, the file is the same but for what it says of the ledger, which stayed behind.
    let out = ["--to", "safetensors", "--out", "y.safetensors"];
    succeeds(at, &[&["export", "back"][..], &out].concat());
    assert!(bits(&at.join("r/x.safetensors")) == bits(&at.join("y.safetensors")));
    // It embeds and goes on; its plan may change as a resumed run's may.
    succeeds(at, &["embed", "back", "-q"]);
    let more = ["--set", "train.steps=8", "-q"];
    succeeds(at, &[&["pretrain", "--resume", "--out", "back"][..], &more].concat());
    let import = ["import", "y.safetensors", "--out", "other"];
    let error = fails(at, &[&import[..], &["--recipe", "efigi"]].concat(), 2);
    assert!(error.contains("brings its own recipe"), "{error}");
    let error = fails(at, &[&import[..], &["--set", "model.width=8"]].concat(), 2);
    assert!(error.contains("model.width=8"), "{error}");
    let mut bytes = std::fs::read(at.join("y.safetensors")).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(at.join("y.safetensors"), bytes).expect("writable");
    let error = fails(at, &import, 1);
    assert!(error.contains("are not what was written"), "{error}");
}

#[test]
fn other_safetensors_are_refused_with_what_they_lack() {
    let folder = tempfile::tempdir().expect("a folder");
    let bare = workspace().join("tests/golden/v2_images/weights.safetensors");
    let error = fails(folder.path(), &["import", text(&bare), "--out", "r"], 1);
    assert!(error.contains("bare parameters of a model of astropt-2"), "{error}");
    assert!(error.contains("import the .pt checkpoint"), "{error}");
    let case = workspace().join("tests/golden/v2_images/case.safetensors");
    fails(folder.path(), &["import", text(&case), "--out", "r"], 1);
    std::fs::write(folder.path().join("cut.safetensors"), b"1234567").expect("writable");
    fails(folder.path(), &["import", "cut.safetensors", "--out", "r"], 1);
    assert!(!folder.path().join("r").exists(), "nothing is left");
}

#[test]
fn the_self_check_of_an_imported_model_reaches_its_preparation() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    pictures(at, 12);
    succeeds(at, &["import", text(&recorded()), "--out", "r"]);
    let shown = succeeds(at, &["inspect", "r/checkpoints/step-000012/selfcheck.safetensors"]);
    assert!(shown.contains("image [27, 27, 3]"), "{shown}");
    let embed = ["embed", "r", "--data", "data", "--out", "e", "-q"];
    succeeds(at, &embed);
    // Another order of patches: the tokens are as many, and of the same width.
    scramble(&at.join("r"), "step-000012");
    let error = fails(at, &embed, 1);
    assert!(error.contains("fails its self-check: the images tokens"), "{error}");
    succeeds(at, &[&embed[..], &["--no-self-check"]].concat());
}

/// What the Python program's files have no word for goes with them: what prepares the data.
#[test]
fn what_is_exported_to_python_brings_its_preparation_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let own = ["modality.images.order=raster", "modality.images.standardise=none"];
    let own = own.map(|set| ["--set", set]).concat();
    succeeds(at, &small("pretrain", "r", &own));
    succeeds(at, &["export", "r", "--to", "astropt-1", "--out", "r.pt"]);
    let told = succeeds(at, &["import", "r.pt", "--out", "back"]);
    assert!(!told.contains("assumed: modality"), "{told}");
    let plan = |run: &str| json(&at.join(run).join("manifest.json"))["plan"]["modalities"].clone();
    assert_eq!(plan("r"), plan("back"));
    assert_eq!(plan("back")["images"]["order"], "raster");
    // Another recipe is for what the file does not state; what --set says counts more.
    succeeds(at, &["import", "r.pt", "--recipe", "galaxy-grz", "--out", "again"]);
    assert_eq!(plan("r"), plan("again"));
    let patch = ["--set", "modality.images.standardise=patch"];
    succeeds(at, &[&["import", "r.pt", "--out", "other"][..], &patch].concat());
    assert_eq!(plan("other")["images"]["standardise"], "patch");
}

#[test]
fn an_order_that_python_does_not_know_is_not_exported() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    table(at);
    let set = ["train.steps=1", "train.faults.on='skip'", "stream.order=['b','a']"];
    succeeds(at, &pretrain("r", &set));
    let export = ["export", "r", "--to", "astropt-3", "--out", "r.pt"];
    let error = fails(at, &export, 2);
    assert!(error.contains("stream.order") && error.contains("safetensors"), "{error}");
    assert!(!at.join("r.pt").exists());
}
