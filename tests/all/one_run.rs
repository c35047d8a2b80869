//! What lies in a run's folder is that run's: no checkpoint, manifest or embedding of another passes
//! for it, and nobody else's files are written over or deleted.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::bad_input::pictures;
use crate::one_writer::wait_for;
use crate::program::{astropt, fails, program, succeeds, unlist};
use crate::run::small;

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").args([from, to]).status().expect("cp runs");
    assert!(done.success());
}

/// Puts the checkpoint `name` of the run `from` in the place of that of `to`.
fn exchange(from: &Path, to: &Path, name: &str) {
    let place = to.join("checkpoints").join(name);
    std::fs::remove_dir_all(&place).expect("there");
    copy(&from.join("checkpoints").join(name), &place);
}

#[test]
fn a_checkpoint_or_a_manifest_of_another_run_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let every = ["--set", "train.checkpoints.every=3"];
    succeeds(at, &small("pretrain", "a", &every));
    let faster = [&every[..], &["--set", "train.peak_lr=3e-3"]].concat();
    succeeds(at, &small("pretrain", "b", &faster));
    let (a, b) = (at.join("a"), at.join("b"));
    let resume = |run| ["pretrain", "--resume", "-q", "--set", "train.steps=8", "--out", run];

    copy(&a, &at.join("last"));
    exchange(&b, &at.join("last"), "step-000006");
    let commands: [&[&str]; 5] = [
        &["audit", "last"],
        &["embed", "last"],
        &["generate", "last", "--objects", "1"],
        &["export", "last", "--to", "safetensors", "--out", "x.safetensors"],
        &resume("last"),
    ];
    for command in commands {
        let error = fails(at, command, 1);
        assert!(error.contains("another training") && error.contains("train.peak_lr"), "{error}");
    }
    copy(&a, &at.join("best"));
    exchange(&b, &at.join("best"), "best");
    for command in [&["audit", "best"][..], &["embed", "best", "--checkpoint", "best"]] {
        assert!(fails(at, command, 1).contains("another training"));
    }
    // The recipe is the same, the data are not: the best model is told by its loss.
    succeeds(at, &small("pretrain", "c", &[&every[..], &["--set", "source.seed=9"]].concat()));
    copy(&a, &at.join("lost"));
    exchange(&at.join("c"), &at.join("lost"), "best");
    for command in [&["audit", "lost"][..], &["embed", "lost", "--checkpoint", "best"]] {
        assert!(fails(at, command, 1).contains("its validation loss is"));
    }
    // The other way round: going on by another recipe would jump.
    copy(&a, &at.join("by"));
    std::fs::copy(b.join("manifest.json"), at.join("by/manifest.json")).expect("copied");
    for command in [&["audit", "by"][..], &resume("by")] {
        assert!(fails(at, command, 1).contains("train.peak_lr"));
    }
    // Losses that did not lead to the checkpoint, whatever the record says of them.
    copy(&a, &at.join("told"));
    let metrics = at.join("told/metrics.jsonl");
    let text = std::fs::read_to_string(&metrics).expect("there");
    std::fs::write(&metrics, text.replacen("\"loss\":0.", "\"loss\":0.1", 1)).expect("writable");
    unlist(&at.join("told"));
    for command in [&["audit", "told"][..], &["embed", "told"]] {
        let error = fails(at, command, 1);
        assert!(error.contains("metrics.jsonl: is not what it was"), "{error}");
    }
    // A run that went on with what it may change is still one.
    succeeds(at, &resume("a"));
    succeeds(at, &["audit", "a", "-q"]);
}

#[test]
fn embeddings_of_other_settings_do_not_pass_for_the_recipes() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    // Of more blocks than two, whose middle one is not the last.
    let blocks = ["--set", "model.layers=3"];
    let labels = ["--set", "probe.labels=['redshift', 'disc']"];
    succeeds(at, &small("run", "r", &[blocks, labels].concat()));
    let run = at.join("r");
    // Killed once the embeddings of the first untrained model are there.
    let mut embed = Command::new(program())
        .args([
            "embed",
            "r",
            "-q",
            "--set",
            "embed.layer=middle",
            "--set",
            "embed.random_inits=200",
        ])
        .current_dir(at)
        .stderr(Stdio::null())
        .spawn()
        .expect("runs");
    let second = run.join("embeddings-random-init-2.parquet");
    wait_for("a second untrained model", || second.exists());
    embed.kill().expect("killed");
    embed.wait().expect("ended");
    assert!(!run.join("probes.json").exists() && !run.join("report.html").exists());
    let error = fails(at, &["probe", "r", "-q"], 1);
    assert!(error.contains("embeddings.parquet: is not there"), "{error}");

    // Killed before the manifest knew of the settings.
    let manifest = std::fs::read(run.join("manifest.json")).expect("there");
    succeeds(at, &["embed", "r", "-q", "--set", "embed.layer=middle"]);
    std::fs::write(run.join("manifest.json"), manifest).expect("writable");
    for command in [&["probe", "r", "-q"][..], &["report", "r", "-q"]] {
        let error = fails(at, command, 1);
        assert!(error.contains("layer = middle") && error.contains("astropt embed"), "{error}");
    }
    // Of another model, though its step and settings are the same.
    succeeds(at, &small("pretrain", "s", &[&blocks[..], &["--set", "train.seed=5"]].concat()));
    succeeds(at, &["embed", "s", "-q"]);
    copy(&at.join("s/embeddings.parquet"), &at.join("r/embeddings.parquet"));
    unlist(&run);
    assert!(fails(at, &["probe", "r", "-q"], 1).contains("of another model"));
    // Settings stay, whatever the checkpoint was saved with.
    succeeds(at, &["embed", "r", "-q", "--set", "embed.layer=middle"]);
    succeeds(at, &["embed", "r", "-q"]);
    succeeds(at, &["probe", "r", "-q"]);
    let report = succeeds(at, &["inspect", "r/embeddings.parquet"]);
    assert!(report.contains("middle"), "{report}");
}

/// Losses over other objects do not tell which model is better, and a best model of steps that are
/// taken again is still the run's.
#[test]
fn over_other_objects_the_best_model_is_chosen_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let keys = ["--set", "train.checkpoints.every=2", "--set", "train.eval_batches=1"];
    succeeds(at, &small("pretrain", "r", &keys));
    // As if it had been killed after the validation of step 6.
    std::fs::remove_dir_all(at.join("r/checkpoints/step-000006")).expect("there");
    let resume = ["pretrain", "--resume", "--out", "r", "--set", "train.eval_batches=0"];
    let output = astropt(at, &resume);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("the best model is chosen anew"), "{said}");
    let metrics = std::fs::read_to_string(at.join("r/metrics.jsonl")).expect("there");
    let line = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let last = metrics.lines().map(line).rfind(|line| line["event"] == "validation");
    let state = std::fs::read_to_string(at.join("r/checkpoints/best/state.json")).expect("there");
    assert_eq!(line(&state)["best_loss"], last.expect("validated")["loss"]);
    succeeds(at, &["audit", "r", "-q"]);
    succeeds(at, &["embed", "r", "--checkpoint", "best", "-q"]);
    // Over the same objects as before nothing is chosen anew.
    let output = astropt(at, &[&resume[..], &["--set", "train.steps=9"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("chosen anew"), "{said}");
}

/// A file of somebody's.
fn put(at: &Path, name: &str) {
    let path = at.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, "mine").expect("written");
}

/// Checks that it is as it was.
fn mine(at: &Path, name: &str) {
    assert_eq!(std::fs::read(at.join(name)).expect("there"), b"mine", "{name}");
}

#[test]
fn nobody_elses_files_are_written_over_or_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(at, &small("pretrain", "r", &[]));
    let put = |name: &str| put(at, name);
    let mine = |name: &str| mine(at, name);
    let theirs = ["my/report.html", "my/figures/paper.tex", "own/recipe.toml", "fam/report.html"];
    theirs.iter().for_each(|name| put(name));
    let error = fails(at, &["embed", "r", "--out", "my", "-q"], 2);
    assert!(error.contains("is in the way"), "{error}");
    let error = fails(at, &small("pretrain", "own", &["--overwrite"]), 2);
    assert!(error.contains("own/recipe.toml is in the way"), "{error}");
    let family = ["scale", "galaxy-grz", "--demo", "--out", "fam", "-q"];
    assert!(fails(at, &family, 2).contains("fam/report.html is in the way"));
    let error = fails(at, &["embed", "r", "--out", "r", "-q"], 2);
    assert!(error.contains("is of a run"), "{error}");
    theirs.iter().for_each(|name| mine(name));
    // Embeddings of one model are none of a run's that begins beside them, nor are they in one.
    succeeds(at, &["embed", "r", "--out", "alone", "-q"]);
    let error = fails(at, &small("pretrain", "alone", &[]), 2);
    assert!(error.contains("is in the way"), "{error}");
    let error = fails(at, &["embed", "r", "--out", "r/previews", "-q"], 2);
    assert!(error.contains("lies in the run"), "{error}");
    let beside = ["r/embeddings_backup.npy", "r/recipe.toml.bak", "r/checkpoints/notes.txt"];
    beside.iter().for_each(|name| put(name));
    succeeds(at, &small("pretrain", "r", &["--overwrite"]));
    beside.iter().for_each(|name| mine(name));
    // Embeddings of one's own folder are made anew there, and what is beside them stays.
    succeeds(at, &["embed", "r", "--out", "e", "-q"]);
    put("e/report.html");
    // What a process left that was killed there goes.
    put("e/.partial.x");
    succeeds(at, &["embed", "r", "--out", "e", "-q"]);
    mine("e/report.html");
    assert!(!at.join("e/.partial.x").exists());
    assert!(astropt(at, &["probe", "r", "--embeddings", "e", "-q"]).status.success());
}

#[test]
fn what_is_asked_for_is_not_written_over_what_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(at, &small("pretrain", "r", &[]));
    let put = |name: &str| put(at, name);
    let mine = |name: &str| mine(at, name);
    // What commands are asked to write is not there before.
    put("counts.csv");
    assert!(fails(at, &["audit", "r", "--counts", "counts.csv"], 2).contains("is there already"));
    put("g/images.npy");
    let generate = ["generate", "r", "--objects", "2", "--prompt", "5", "--out", "g", "-q"];
    assert!(fails(at, &generate, 2).contains("is there already"));
    let left = std::fs::read_dir(at.join("g")).expect("there").flatten();
    let left = left.filter(|entry| entry.file_name() != ".lock").count();
    assert_eq!(left, 1, "nothing is left of a call that was refused");
    put("tokens.safetensors");
    let picture = pictures(at, 1).join("g000.png");
    let picture = picture.to_str().expect("UTF-8");
    let size = ["--set", "modality.images.size=32"];
    let tokenise = ["tokenise", "--recipe", "efigi", picture, "--out", "tokens.safetensors"];
    let tokenise = [&tokenise[..], &size].concat();
    assert!(fails(at, &tokenise, 2).contains("is there already"));
    let written = ["counts.csv", "g/images.npy", "tokens.safetensors"];
    written.iter().for_each(|name| mine(name));
    // Nor is it being written by another process.
    std::fs::remove_file(at.join("g/images.npy")).expect("there");
    succeeds(at, &generate);
    let lock = std::fs::File::open(at.join("g/.lock")).expect("there");
    lock.lock().expect("free again");
    assert!(fails(at, &generate, 1).contains("is being written by"));
    drop(lock);
    succeeds(at, &generate);
}
