//! One process writes a run at a time, and stops when it is told to or its time is over.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{astropt, fails, program, succeeds};
use crate::run::small;

/// A training without end in the folder `r`, its first checkpoint written.
pub(crate) fn endless(folder: &Path, arguments: &[&str]) -> Child {
    begun(Command::new(program()), folder, arguments)
}

fn begun(mut program: Command, folder: &Path, arguments: &[&str]) -> Child {
    let child = program
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
    let long = ["--walltime", "6s", "--set", "train.steps=1000000"];
    let error = fails(folder.path(), &small("pretrain", "r", &long), 75);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert!(error.contains("ahead of the walltime of 6s"), "{error}");
    assert!(error.contains("--resume --out r"), "{error}");
    let steps = |text: &str| -> u64 {
        let step = text.split("after step ").nth(1).and_then(|rest| rest.split(' ').next());
        step.and_then(|step| step.parse().ok()).unwrap_or_else(|| panic!("{text}"))
    };
    let first = steps(&error);
    let saved = folder.path().join(format!("r/checkpoints/step-{first:06}"));
    assert!(saved.exists());
    // It goes on from there, and what was saved between goes once a later one stands.
    let again = ["pretrain", "--resume", "--out", "r", "-q", "--walltime", "3s"];
    let second = steps(&fails(folder.path(), &again, 75));
    assert!(second > first, "{second} after {first}");
    assert!(!saved.exists(), "the checkpoint of the first stop");
    for wrong in ["soon", "0s"] {
        let output = astropt(folder.path(), &["pretrain", "galaxy-grz", "--walltime", wrong]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("3h50m"), "{wrong}");
    }
}

fn signal(child: &Child, name: &str) {
    let kill = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
}

fn steps(folder: &Path) -> usize {
    std::fs::read_to_string(folder.join("r/metrics.jsonl")).map_or(0, |text| text.lines().count())
}

/// A terminal that closes stops a run in good order, which `nohup` keeps it from.
#[test]
fn hangups_save_and_stop_and_nohup_is_honoured() {
    let folder = tempfile::tempdir().expect("a folder");
    // These tests may run under nohup themselves.
    let mut hears = Command::new("env");
    hears.args(["--default-signal=HUP", "true"]).stderr(Stdio::null());
    if !hears.status().is_ok_and(|status| status.success()) {
        println!("skipped: env cannot set signals here");
        return;
    }
    let mut program_that_hears = Command::new("env");
    program_that_hears.arg("--default-signal=HUP").arg(program());
    let child = begun(program_that_hears, folder.path(), &small("pretrain", "r", &[]));
    // Twice, as a shell and the terminal itself send it.
    ["-HUP", "-HUP"].iter().for_each(|name| signal(&child, name));
    let (code, said) = ended(child);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("stopped by SIGHUP") && said.contains("--resume --out r"), "{said}");

    let words = ["pretrain", "--resume", "--out", "r", "-q"];
    let command = format!("trap '' HUP; exec {} {}", program().display(), words.join(" "));
    let before = steps(folder.path());
    let child = Command::new("sh")
        .args(["-c", &command])
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    wait_for("a step", || steps(folder.path()) > before);
    signal(&child, "-HUP");
    let then = steps(folder.path());
    wait_for("further steps", || steps(folder.path()) > then + 2);
    signal(&child, "-TERM");
    let (code, said) = ended(child);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("stopped by SIGTERM after step"), "{said}");
}

/// What is deleted or exchanged under a running training is noticed within a step, and nothing is
/// written over what took its place.
#[test]
fn a_run_whose_files_are_taken_away_stops() {
    for (name, what) in [
        (".lock", "its lock was deleted"),
        ("metrics.jsonl", "metrics.jsonl: was deleted or replaced"),
        ("ledger.jsonl", "ledger.jsonl: was deleted or replaced"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let child = endless(folder.path(), &small("pretrain", "r", &[]));
        std::fs::remove_file(folder.path().join("r").join(name)).expect("deleted");
        let (code, said) = ended(child);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(what) && said.contains("--resume --out r"), "{said}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (run, away) = (folder.path().join("r"), folder.path().join("away"));
    let child = endless(folder.path(), &small("pretrain", "r", &[]));
    std::fs::rename(&run, &away).expect("moved");
    std::fs::create_dir(&run).expect("made");
    std::fs::write(run.join("manifest.json"), "another's").expect("written");
    let (code, said) = ended(child);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is another folder") || said.contains("is gone"), "{said}");
    let left = std::fs::read_to_string(run.join("manifest.json")).expect("readable");
    assert_eq!(left, "another's");
    assert_eq!(std::fs::read_dir(&run).expect("readable").count(), 1, "nothing else is written");
}
