//! A run that goes on ends in the same bytes as one never stopped.

use std::path::Path;

use crate::program::{astropt, fails, succeeds, unlist};

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
    assert!(state(&folder.path().join("whole")) == state(&cut));
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

/// What a run has written line by line leads to its checkpoint, or is told of.
#[test]
fn metrics_that_were_lost_are_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(folder.path(), &small("pretrain", "r", &[]));
    let (run, resume) = (folder.path().join("r"), ["pretrain", "--resume", "--out", "r", "-q"]);
    let longer = [&resume[..], &["--set", "train.steps=7"]].concat();
    let metrics = run.join("metrics.jsonl");
    let text = std::fs::read_to_string(&metrics).expect("readable");
    std::fs::remove_file(&metrics).expect("deleted");
    // A run that ended in good order lists it; one that was killed does not, as it was open then.
    let error = fails(folder.path(), &longer, 1);
    assert!(error.contains("metrics.jsonl: is gone"), "{error}");
    unlist(&run);
    std::fs::write(&metrics, text.lines().take(3).collect::<Vec<_>>().join("\n") + "\n")
        .expect("writable");
    let error = fails(folder.path(), &longer, 1);
    assert!(error.contains("metrics.jsonl: is not what it was"), "{error}");
    std::fs::remove_file(&metrics).expect("deleted");
    let output = astropt(folder.path(), &longer);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("warning: r/metrics.jsonl is gone"), "{said}");
}

/// A run whose checkpoints are gone is not begun anew under its own ledger.
#[test]
fn checkpoints_that_are_gone_are_missed() {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(folder.path(), &small("pretrain", "r", &[]));
    let run = folder.path().join("r");
    let ledger = read(&run, "ledger.jsonl");
    for step in ["step-000000", "step-000006"] {
        std::fs::remove_dir_all(run.join("checkpoints").join(step)).expect("there");
    }
    let error = fails(folder.path(), &["pretrain", "--resume", "--out", "r"], 1);
    assert!(
        error.contains("no checkpoint to go on from") && error.contains("--overwrite"),
        "{error}"
    );
    assert!(ledger == read(&run, "ledger.jsonl"));
}

/// What is done after training ends at the first signal and at a walltime, and says how to go on.
#[test]
fn the_stages_after_training_stop_when_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    // Enough for every stage to last longer than the signal needs.
    let more = ["--set", "source.objects=500", "--set", "train.steps=2"];
    let run = folder.path().join("r");
    succeeds(folder.path(), &small("pretrain", "r", &more));
    let words = ["run", "--resume", "--out", "r", "-q"];
    let reaches = [".partial.", "embeddings.npy", "embeddings-raw.parquet", "probes.json"];
    let mut stopped = 0;
    for what in reaches {
        let mut child = std::process::Command::new(crate::program::program())
            .args(words)
            .current_dir(folder.path())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        let there = || {
            let names = std::fs::read_dir(&run).expect("readable").flatten();
            names.map(|e| e.file_name()).any(|name| name.display().to_string().starts_with(what))
        };
        while !there() && child.try_wait().expect("waits").is_none() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let _ =
            std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        let output = child.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            continue; // it was faster than the signal
        }
        assert_eq!(output.status.code(), Some(75), "{said}");
        assert!(said.contains("stopped by SIGTERM") && said.contains("--resume --out r"), "{said}");
        stopped += 1;
    }
    assert!(stopped > 0, "every stage was too fast");
    succeeds(folder.path(), &words);
}

/// Checkpoints by the clock are an insurance: they change nothing, and go.
#[test]
fn checkpoints_by_the_clock_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let often = ["--set", "train.checkpoints={minutes=1e-6}"];
    succeeds(folder.path(), &small("pretrain", "often", &often));
    succeeds(
        folder.path(),
        &small("pretrain", "never", &["--set", "train.checkpoints={minutes=0}"]),
    );
    let [often, never] = ["often", "never"].map(|name| folder.path().join(name));
    // But for the plan in it, the model is the same too.
    let numbers = |run| state(run).split_off(1);
    assert!(numbers(&often) == numbers(&never));
    let names = |run: &Path| {
        let all = std::fs::read_dir(run.join("checkpoints")).expect("readable").flatten();
        let mut names: Vec<_> = all.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&often), names(&never));
    // A run that dies has them.
    let endless = ["--set", "train.checkpoints={minutes=1e-6}"];
    let mut child = crate::one_writer::endless(folder.path(), &small("pretrain", "r", &endless));
    let run = folder.path().join("r");
    let last =
        || names(&run).into_iter().rfind(|name| name.display().to_string().starts_with("step"));
    crate::one_writer::wait_for("a checkpoint", || {
        last().is_some_and(|name| name != "step-000000")
    });
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(names(&run).len() <= 4, "the first, the best, the last, one half written");
    let resume = ["pretrain", "--resume", "--out", "r", "--walltime", "3s"];
    let error = fails(folder.path(), &resume, 75);
    assert!(error.contains("ahead of the walltime of 3s after step"), "{error}");
}

/// A second signal ends a program at once that the first cannot stop, for it waits for a file.
#[cfg(unix)]
#[test]
fn a_second_interrupt_ends_at_once_without_a_word() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().expect("a folder");
    let made = Command::new("mkfifo").arg("stars.npz").current_dir(folder.path()).status();
    assert!(made.expect("mkfifo runs").success());
    let mut child = Command::new(crate::program::program())
        .args(["pretrain", "stars", "--data", "stars.npz", "--out", "r"])
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut said = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut until = |words: &str| {
        let mut lines = said.by_ref().map(|line| line.expect("text"));
        assert!(lines.any(|line| line.contains(words)), "{words}");
    };
    let id = child.id().to_string();
    let interrupt = || {
        let kill = Command::new("kill").args(["-INT", &id]).status();
        assert!(kill.expect("kill runs").success());
    };
    until("forecast");
    interrupt();
    until("once more");
    // So soon it would be the same wish.
    std::thread::sleep(std::time::Duration::from_millis(500));
    interrupt();
    crate::one_writer::wait_for("the end", || child.try_wait().expect("a child").is_some());
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert!(said.next().is_none(), "nothing more is said");
}

/// An interrupt finishes the step, saves, and says how to go on.
#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_says_how_to_go_on() {
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = small("pretrain", "r", &["--backend", "cpu", "--set", "train.steps=100000"]);
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
    // Twice at once, as `timeout -s INT` sends it, is one wish.
    let id = child.id().to_string();
    let kill = Command::new("kill").args(["-INT", &id, &id]).status();
    assert!(kill.expect("kill runs").success());
    let output = child.wait_with_output().expect("ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{stderr}");
    assert!(stderr.contains("--resume --backend cpu --out r"), "{stderr}");
    let saved = std::fs::read_dir(folder.path().join("r/checkpoints")).expect("readable");
    assert!(saved.count() >= 2, "a checkpoint of the last step");
}
