//! One process writes a run at a time, and stops when it is told to or its time is over.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{astropt, fails, program, succeeds};
use crate::run::small;

/// A training without end in the folder `r`, its first checkpoint written.
pub(crate) fn endless(folder: &Path, arguments: &[&str]) -> Child {
    let child = Command::new(program())
        .args(arguments)
        .args(["--set", "train.steps=1000000"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let first = folder.join("r/checkpoints/step-000000/state.json");
    let metrics = folder.join("r/metrics.jsonl");
    let step = || std::fs::read_to_string(&metrics).is_ok_and(|text| text.contains("\"train\""));
    wait_for("a first step", || first.exists() && step());
    child
}

pub(crate) fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let started = Instant::now();
    while !there() {
        assert!(started.elapsed() < Duration::from_secs(120), "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Exit code and standard error of a process that ends by itself.
pub(crate) fn ended(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn two_processes_do_not_write_one_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = endless(folder.path(), &small("pretrain", "r", &[]));
    let owner = format!("process {}", first.id());
    for writer in [
        &["pretrain", "--resume", "--out", "r"][..],
        &["run", "--resume", "--out", "r"],
        &["embed", "r"],
        &["probe", "r"],
        &["report", "r"],
        &["generate", "r"],
        &small("pretrain", "r", &["--overwrite"]),
    ] {
        let error = fails(folder.path(), writer, 1);
        assert!(error.contains(&owner) && error.contains("pretrain"), "{writer:?}: {error}");
    }
    // Who reads is not kept waiting, nor who writes elsewhere.
    for reader in [
        &["inspect", "r"][..],
        &["export", "r", "--to", "safetensors", "--out", "m.safetensors"],
        &["embed", "r", "--quiet", "--out", "elsewhere"],
    ] {
        succeeds(folder.path(), reader);
    }
    // A dead owner's lock is free at once.
    first.kill().expect("killed");
    first.wait().expect("ended");
    succeeds(folder.path(), &["embed", "r", "--quiet"]);
    let left = std::fs::read(folder.path().join("r/.lock")).expect("the lock's file stays");
    assert!(left.is_empty());
}

#[test]
fn a_walltime_saves_and_stops_ahead() {
    let folder = tempfile::tempdir().expect("a folder");
    let started = Instant::now();
    let long = ["--walltime", "8s", "--set", "train.steps=1000000"];
    let error = fails(folder.path(), &small("pretrain", "r", &long), 1);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(error.contains("ahead of the walltime of 8s"), "{error}");
    assert!(error.contains("--resume --out r"), "{error}");
    let steps = |text: &str| -> u64 {
        let step = text.split("after step ").nth(1).and_then(|rest| rest.split(' ').next());
        step.and_then(|step| step.parse().ok()).unwrap_or_else(|| panic!("{text}"))
    };
    let first = steps(&error);
    let saved = folder.path().join(format!("r/checkpoints/step-{first:06}"));
    assert!(saved.exists());
    // It goes on from there, and what was saved between goes once a later one stands.
    let again = ["pretrain", "--resume", "--out", "r", "-q", "--walltime", "8s"];
    let second = steps(&fails(folder.path(), &again, 1));
    assert!(second > first, "{second} after {first}");
    assert!(!saved.exists(), "the checkpoint of the first stop");
    let (wrong, code) = (["pretrain", "galaxy-grz", "--walltime", "soon"], 2);
    assert_eq!(astropt(folder.path(), &wrong).status.code(), Some(code));
}
