//! Disks that fill, that cannot be written and that vanish, and data that turn bad: the run stops
//! or goes on as it should, and the last good checkpoint is intact.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bad_input::{on_pictures, pictures};
use crate::one_writer::{ended, endless, wait_for};
use crate::program::{astropt, fails, succeeds};
use crate::run::small;

/// A file system in memory, unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// `None`, said, where this user may mount nothing.
    fn new(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir(at).expect("writable");
        let mounted = mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], at);
        if !mounted {
            println!("skipped: this user cannot mount a file system on {}", at.display());
        }
        mounted.then(|| Self(at.to_owned()))
    }

    fn remount(&self, options: &str) {
        assert!(mount(&["-o", &format!("remount,{options}")], &self.0), "remounted");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    let output = Command::new("mount").args(arguments).arg(at).output();
    output.is_ok_and(|output| output.status.success())
}

/// Names of the run's checkpoints, hidden leftovers too.
fn checkpoints(run: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(run.join("checkpoints")).expect("readable").flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Stops a run at its next step.
fn interrupt(child: &std::process::Child) {
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
}

#[test]
fn a_full_disk_stops_the_run_and_leaves_its_checkpoints() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = Mounted::new(&folder.path().join("disk"), "6M") else { return };
    let every = ["--set", "train.checkpoints={every=1}", "--set", "train.steps=20"];
    let error = fails(folder.path(), &small("pretrain", "disk/r", &every), 1);
    assert!(error.contains("free some space"), "{error}");
    assert!(error.contains("is kept") && error.contains("--resume --out disk/r"), "{error}");
    let run = folder.path().join("disk/r");
    let names = checkpoints(&run);
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
    let last = names.iter().rfind(|name| name.starts_with("step-")).expect("a checkpoint");
    assert_ne!(last, "step-000020");
    // With space again the run goes on from there, to what a larger disk would have had.
    disk.remount("size=256M");
    succeeds(folder.path(), &["pretrain", "--resume", "--out", "disk/r", "-q"]);
    succeeds(folder.path(), &["audit", "disk/r"]);
    succeeds(folder.path(), &small("pretrain", "whole", &every));
    for name in ["metrics.jsonl", "checkpoints/step-000020/optimizer.safetensors"] {
        let [a, b] = ["disk/r", "whole"]
            .map(|run| std::fs::read(folder.path().join(run).join(name)).expect("readable"));
        assert!(a == b, "{name} differs");
    }
    // One that is kept short lives on the small disk.
    let keep = ["--set", "train.checkpoints={every=1,keep=2}", "--set", "train.steps=20"];
    std::fs::remove_dir_all(&run).expect("deleted");
    disk.remount("size=6M");
    succeeds(folder.path(), &small("pretrain", "disk/r", &keep));
    assert_eq!(checkpoints(&run), ["best", "step-000019", "step-000020"]);
}

/// The zip that a `.pt` file is adds no word of its own.
#[test]
fn an_export_that_fills_the_disk_is_one_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let Some(_disk) = Mounted::new(&at.join("disk"), "64K") else { return };
    succeeds(at, &small("pretrain", "r", &["--set", "model={layers=2,heads=2,width=256}"]));
    let output = astropt(at, &["export", "r", "--to", "astropt-1", "--out", "disk/x.pt", "-q"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("free some space") && !told.contains("archive"), "{told}");
    let left: Vec<_> = std::fs::read_dir(at.join("disk")).expect("readable").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_read_only_folder_is_told_before_work_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = Mounted::new(&folder.path().join("disk"), "64M") else { return };
    succeeds(folder.path(), &small("pretrain", "disk/r", &[]));
    let before = checkpoints(&folder.path().join("disk/r"));
    disk.remount("ro");
    for words in [
        &small("pretrain", "disk/new", &[])[..],
        &["pretrain", "--resume", "--out", "disk/r"],
        &["embed", "disk/r"],
        &["report", "disk/r"],
    ] {
        let error = fails(folder.path(), words, 1);
        assert!(error.contains("disk/") && error.contains("ead-only"), "{error}");
        assert!(error.contains("--out"), "{error}");
    }
    succeeds(folder.path(), &["inspect", "disk/r"]);
    succeeds(folder.path(), &["audit", "disk/r"]);
    disk.remount("rw");
    assert_eq!(checkpoints(&folder.path().join("disk/r")), before);
    let longer = ["pretrain", "--resume", "--out", "disk/r", "-q", "--set", "train.steps=8"];
    succeeds(folder.path(), &longer);
}

#[test]
fn a_folder_that_vanishes_stops_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let (run, away) = (folder.path().join("r"), folder.path().join("away"));
    let child = endless(folder.path(), &small("pretrain", "r", &[]));
    std::fs::rename(&run, &away).expect("moved");
    let (code, said) = ended(child);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("error: r: is gone") && said.contains("--resume"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(!run.exists(), "nothing was written where it was");
    let arguments = ["pretrain", "--resume", "--out", "away", "-q", "--set", "train.steps=6"];
    let mut child = endless_resumed(folder.path(), "away");
    child.kill().expect("killed");
    child.wait().expect("ended");
    let output = astropt(folder.path(), &arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    // It may have taken more than six steps before it was moved.
    assert!(output.status.success() || said.contains("steps already"), "{said}");
    // Deleted outright.
    let mut child = endless(folder.path(), &small("pretrain", "r", &["--overwrite"]));
    while std::fs::remove_dir_all(&run).is_err() {
        assert!(child.try_wait().expect("waits").is_none() || !run.exists());
    }
    let (code, said) = ended(child);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("r") && !said.contains("panicked"), "{said}");
}

fn endless_resumed(folder: &Path, out: &str) -> std::process::Child {
    let child = Command::new(crate::program::program())
        .args(["pretrain", "--resume", "--out", out, "-q"])
        .current_dir(folder)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    let lock = folder.join(out).join(".lock");
    let own = format!("\"pid\":{},", child.id());
    wait_for("the lock", || std::fs::read_to_string(&lock).is_ok_and(|text| text.contains(&own)));
    child
}

/// One object that turns bad is replaced and listed, and the run goes on; when more turn bad than
/// the recipe allows it stops, what was learnt is saved, and it goes on once the data are mended.
#[test]
fn data_that_turn_bad_are_replaced_within_the_budget_and_stop_the_run_beyond() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = pictures(folder.path(), 30);
    let set = ["--set", "train.max_rejected=0.1", "--set", "train.eval_every=100000"];
    let child = endless(folder.path(), &on_pictures("data", &set));
    let ledger = folder.path().join("r/ledger.jsonl");
    let first: Vec<Vec<u8>> = ["g004.png", "g009.png", "g010.png"]
        .iter()
        .map(|name| {
            let bytes = std::fs::read(data.join(name)).expect("readable");
            std::fs::write(data.join(name), "bad").expect("writable");
            bytes
        })
        .collect();
    assert_eq!(first.len(), 3);
    wait_for("a stand-in", || {
        std::fs::read_to_string(&ledger).is_ok_and(|text| text.contains("instead"))
    });
    interrupt(&child);
    let (_, said) = ended(child);
    assert!(said.contains("--resume --out r"), "{said}");
    let rejected = std::fs::read_to_string(folder.path().join("r/rejected.csv")).expect("there");
    assert!(["g004", "g009", "g010"].iter().any(|id| rejected.contains(id)), "{rejected}");
    succeeds(folder.path(), &["audit", "r"]);

    // The rest goes bad while the run reads it.
    let child = endless_resumed(folder.path(), "r");
    let spoilt: Vec<(PathBuf, Vec<u8>)> = std::fs::read_dir(&data)
        .expect("readable")
        .flatten()
        .map(|entry| (entry.path(), std::fs::read(entry.path()).expect("readable")))
        .collect();
    spoilt.iter().for_each(|(path, _)| std::fs::write(path, "bad").expect("writable"));
    let status = child.wait_with_output().expect("ends").status;
    assert_eq!(status.code(), Some(1));
    succeeds(folder.path(), &["export", "r", "--to", "safetensors", "--out", "m.safetensors"]);
    spoilt.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).expect("writable"));
    succeeds(folder.path(), &["audit", "r"]);
    let mut child = endless_resumed(folder.path(), "r");
    let before = std::fs::read_to_string(&ledger).expect("readable").lines().count();
    wait_for("further steps", || {
        std::fs::read_to_string(&ledger).is_ok_and(|text| text.lines().count() > before)
    });
    child.kill().expect("killed");
    child.wait().expect("ended");
}
