//! The ledger and its audit: what trained a model can be proved, and what was changed is found.

use std::path::Path;

use serde_json::Value;

use crate::bad_input::{on_pictures, pictures};
use crate::one_writer::{endless, wait_for};
use crate::program::{fails, succeeds, unlist};
use crate::run::small;

fn lines(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("ledger.jsonl")).expect("readable");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Puts `lines` in place of the ledger, as one would who knows of checksums.
fn forge(run: &Path, lines: &[Value]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(run.join("ledger.jsonl"), text).expect("writable");
    unlist(run);
}

#[test]
fn an_audit_says_what_trained_a_model_and_how_often() {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(folder.path(), &small("pretrain", "r", &["--set", "train.steps=9"]));
    let json = succeeds(folder.path(), &["audit", "r", "--json", "-q", "--counts", "c.csv"]);
    let found: Value = serde_json::from_str(&json).expect("JSON");
    let number = |key: &str| found[key].as_u64().unwrap_or_else(|| panic!("{key}: {found}"));
    assert_eq!((number("steps"), number("draws"), number("stood_in")), (9, 288, 0));
    let (train, held) =
        (number("train_objects"), number("validation_objects") + number("test_objects"));
    assert_eq!(train + held, 200);
    // Two epochs and a part of the third: every object once an epoch.
    assert_eq!((number("least"), number("most")), (288 / train, 288_u64.div_ceil(train)));
    assert_eq!(number("trained_objects"), train);
    let counts = std::fs::read_to_string(folder.path().join("c.csv")).expect("readable");
    assert!(counts.starts_with("id,split,times\n"), "{counts}");
    let rows: Vec<Vec<&str>> = counts.lines().skip(1).map(|l| l.split(',').collect()).collect();
    let sum: u64 = rows.iter().map(|row| row[2].parse::<u64>().expect("a number")).sum();
    assert_eq!((rows.len(), sum), (200, 288));
    assert!(rows.iter().all(|row| (row[1] == "train") == (row[2] != "0")), "{counts}");
    let text = succeeds(folder.path(), &["audit", "r"]);
    assert!(text.contains("each position once") && text.contains("none of the"), "{text}");
    // The manifest and the last checkpoint have the chain's end.
    let end = lines(&folder.path().join("r")).pop().expect("a line")["chain"].clone();
    assert_eq!(found["chain"], end);
    for name in ["manifest.json", "checkpoints/step-000009/state.json"] {
        let text = std::fs::read_to_string(folder.path().join("r").join(name)).expect("readable");
        assert!(text.contains(end.as_str().expect("a text")), "{name}");
    }
}

/// The chain does not depend on workers, nor on how a step is cut into micro-batches.
#[test]
fn the_ledger_is_the_same_for_any_number_of_workers_and_micro_batches() {
    let folder = tempfile::tempdir().expect("a folder");
    let of = |out: &str, workers: &str, micro: &str| {
        let set = ["--set", workers, "--set", micro];
        succeeds(folder.path(), &small("pretrain", out, &set));
        std::fs::read(folder.path().join(out).join("ledger.jsonl")).expect("readable")
    };
    let one = of("a", "train.workers=1", "train.micro_batch=32");
    assert!(one == of("b", "train.workers=3", "train.micro_batch=4"));
}

#[test]
fn what_was_changed_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("r");
    succeeds(folder.path(), &small("pretrain", "r", &["--set", "train.checkpoints={every=2}"]));
    let own = lines(&run);
    // A flipped letter is noticed before anything is replayed.
    let text = std::fs::read_to_string(run.join("ledger.jsonl")).expect("readable");
    std::fs::write(run.join("ledger.jsonl"), text.replacen("a", "b", 1)).expect("writable");
    let error = fails(folder.path(), &["audit", "r"], 1);
    assert!(error.contains("ledger.jsonl") && error.contains("is not what was written"), "{error}");

    let audit = |lines: &[Value]| {
        forge(&run, lines);
        fails(folder.path(), &["audit", "r"], 1)
    };
    let mut left_out = own.clone();
    left_out.remove(2);
    assert!(audit(&left_out).contains("where step 3 was due"), "{}", audit(&left_out));
    let mut other = own.clone();
    other[3]["instead"] = serde_json::json!({ "100": 1 });
    assert!(audit(&other).contains("rejected.csv does not list"), "{}", audit(&other));
    let mut other = own.clone();
    other[3]["chain"] = other[2]["chain"].clone();
    assert!(audit(&other).contains("step 4 was taken on other objects"), "{}", audit(&other));
    // A ledger that ends before a checkpoint, and one that is gone.
    assert!(audit(&own[..3]).contains("step-000004"), "{}", audit(&own[..3]));
    std::fs::remove_file(run.join("ledger.jsonl")).expect("there");
    let error = fails(folder.path(), &["audit", "r"], 1);
    assert!(error.contains("keeps no ledger"), "{error}");
    forge(&run, &own);
    succeeds(folder.path(), &["audit", "r"]);
    // A ledger of other objects does not lead to this checkpoint.
    let mut other = own.clone();
    other[5]["chain"] = own[4]["chain"].clone();
    forge(&run, &other);
    let error = fails(folder.path(), &["pretrain", "--resume", "--out", "r"], 1);
    assert!(error.contains("does not lead to the checkpoint"), "{error}");
}

/// A checkpoint that is not what was written proves nothing.
#[test]
fn an_audit_reads_the_checkpoints() {
    let folder = tempfile::tempdir().expect("a folder");
    succeeds(folder.path(), &small("pretrain", "r", &["--set", "train.checkpoints={every=2}"]));
    for name in ["step-000002/optimizer.safetensors", "best/model.safetensors"] {
        let path = folder.path().join("r/checkpoints").join(name);
        let bytes = std::fs::read(&path).expect("readable");
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 1;
        std::fs::write(&path, damaged).expect("writable");
        let error = fails(folder.path(), &["audit", "r"], 1);
        assert!(error.contains(name) && error.contains("is not what was written"), "{error}");
        std::fs::remove_file(&path).expect("deleted");
        let error = fails(folder.path(), &["audit", "r"], 1);
        assert!(error.contains(name), "{error}");
        std::fs::write(&path, bytes).expect("mended");
    }
    // What a checkpoint is of is in it, whatever its folder is called.
    let (from, to) = ("step-000006", "step-000008");
    let rename = |from: &str, to: &str| {
        let all = folder.path().join("r/checkpoints");
        std::fs::rename(all.join(from), all.join(to)).expect("renamed");
    };
    rename(from, to);
    for words in [&["audit", "r"][..], &["pretrain", "--resume", "--out", "r"]] {
        let error = fails(folder.path(), words, 1);
        assert!(error.contains("is the checkpoint after step 6"), "{error}");
    }
    rename(to, from);
    std::fs::write(folder.path().join("r/checkpoints/best/state.json"), "{}").expect("written");
    for words in [&["audit", "r"][..], &["embed", "r", "--checkpoint", "best"]] {
        let error = fails(folder.path(), words, 1);
        assert!(error.contains("best/state.json"), "{error}");
    }
    std::fs::remove_dir_all(folder.path().join("r/checkpoints/best")).expect("deleted");
    succeeds(folder.path(), &["audit", "r"]);
}

/// Runs from before there was a ledger go on, and the audit says from where on it can prove.
#[test]
fn a_run_without_a_ledger_goes_on_and_is_told_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("r");
    succeeds(folder.path(), &small("pretrain", "r", &[]));
    std::fs::remove_file(run.join("ledger.jsonl")).expect("there");
    unlist(&run);
    for checkpoint in ["step-000000", "step-000006", "best"] {
        let path = run.join("checkpoints").join(checkpoint).join("state.json");
        unlist(path.parent().expect("a checkpoint"));
        let text = std::fs::read_to_string(&path).expect("readable");
        let mut state: Value = serde_json::from_str(&text).expect("JSON");
        let state = state.as_object_mut().expect("a table");
        state.retain(|of, _| of != "ledger" && of != "metrics");
        std::fs::write(&path, serde_json::to_string(state).expect("JSON")).expect("writable");
    }
    let longer = ["pretrain", "--resume", "--out", "r", "-q", "--set", "train.steps=8"];
    succeeds(folder.path(), &longer);
    let text = succeeds(folder.path(), &["audit", "r"]);
    assert!(text.contains("2 steps on 64 draws"), "{text}");
    assert!(text.contains("not proved: steps 1 to 6"), "{text}");
}

/// Objects that cannot be used, and what stood in for them.
#[test]
fn stand_ins_are_in_the_ledger() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = pictures(folder.path(), 40);
    for name in ["g003.png", "g007.png", "g011.png"] {
        std::fs::write(data.join(name), "not a picture").expect("writable");
    }
    let more = ["--set", "train.max_rejected=0.2", "--set", "train.steps=12"];
    succeeds(folder.path(), &on_pictures("data", &more));
    let found = succeeds(folder.path(), &["audit", "r", "--json", "-q"]);
    let found: Value = serde_json::from_str(&found).expect("JSON");
    assert!(found["stood_in"].as_u64().is_some_and(|n| n >= 1), "{found}");
    // The data may lie elsewhere now, and must be the same.
    std::fs::rename(&data, folder.path().join("moved")).expect("moved");
    succeeds(folder.path(), &["audit", "r", "--data", "moved"]);
    std::fs::remove_file(folder.path().join("moved/g001.png")).expect("there");
    let error = fails(folder.path(), &["audit", "r", "--data", "moved"], 1);
    assert!(error.contains("r was started on other objects"), "{error}");
}

/// What the ledger says of a step is in `rejected.csv` before it, whenever the process is killed.
#[test]
fn a_killed_run_proves_its_stand_ins() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = pictures(folder.path(), 40);
    for name in ["g003.png", "g007.png", "g011.png"] {
        std::fs::write(data.join(name), "not a picture").expect("writable");
    }
    let rarely =
        ["--set", "train.eval_every=1000000", "--set", "train.checkpoints={every=1000000}"];
    let more = [&["--set", "train.max_rejected=0.2"][..], &rarely].concat();
    let mut child = endless(folder.path(), &on_pictures("data", &more));
    let ledger = folder.path().join("r/ledger.jsonl");
    wait_for("a stand-in", || {
        std::fs::read_to_string(&ledger).is_ok_and(|text| text.contains("instead"))
    });
    child.kill().expect("killed");
    child.wait().expect("ended");
    let text = succeeds(folder.path(), &["audit", "r"]);
    assert!(text.contains("no checkpoint after a step carries the chain yet"), "{text}");
    assert!(text.contains("--resume goes on from step 0 and takes them again"), "{text}");
}
