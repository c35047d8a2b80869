//! A run's data are its own: what was exchanged, lost or written over is noticed.

use std::path::Path;

use crate::bad_input::{on_pictures, pictures};
use crate::one_writer::{ended, endless, wait_for};
use crate::program::{astropt, fails, succeeds};
use crate::run::small;

/// Every picture under the name of the one before.
pub(crate) fn exchange(data: &Path, count: u32) {
    let path = |k: u32| data.join(format!("g{:03}.png", k % count));
    let all: Vec<_> = (0..count).map(|k| std::fs::read(path(k)).expect("readable")).collect();
    (1..).zip(&all).for_each(|(k, bytes)| std::fs::write(path(k), bytes).expect("writable"));
}

#[test]
fn rows_that_were_exchanged_are_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = pictures(folder.path(), 30);
    succeeds(folder.path(), &on_pictures("data", &[]));
    exchange(&data, 30);
    let longer = ["pretrain", "--resume", "--out", "r", "--set", "train.steps=4"];
    let make = ["generate", "r", "--objects", "1"];
    let words = [&longer[..], &["audit", "r"], &["embed", "r"], &make];
    for words in words {
        let error = fails(folder.path(), words, 1);
        assert!(error.contains("holds something else under its id"), "{words:?}: {error}");
    }
    exchange(&data, 30);
    let error = fails(folder.path(), &["audit", "r"], 1);
    assert!(error.contains("other data"), "{error}");
    (0..28).for_each(|_| exchange(&data, 30));
    words.iter().for_each(|words| drop(succeeds(folder.path(), words)));
}

/// A run that lies among its own data takes none of its pictures for one of them, and no picture is
/// written among them.
#[test]
fn a_runs_own_pictures_are_no_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = pictures(folder.path(), 30);
    let mut arguments = on_pictures(".", &["--set", "train.eval_split='validation'"]);
    arguments[5] = "runs/mine";
    succeeds(&data, &arguments);
    assert!(data.join("runs/mine/previews/step-000002.png").exists());
    let make = ["generate", "runs/mine", "--objects", "2", "--out", "made", "-q"];
    succeeds(&data, &make);
    succeeds(&data, &["audit", "runs/mine", "-q"]);
    succeeds(&data, &["pretrain", "--resume", "--out", "runs/mine", "--set", "train.steps=4"]);
    let more = on_pictures(".", &[]);
    succeeds(&data, &more);
    let manifest = std::fs::read_to_string(data.join("r/manifest.json")).expect("there");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    let objects = manifest["objects"].as_object().expect("splits");
    assert_eq!(objects.values().filter_map(serde_json::Value::as_u64).sum::<u64>(), 30);

    for words in [
        &["generate", "runs/mine", "--objects", "2", "--out", ".", "-q"][..],
        &["embed", "runs/mine", "--out", "../data", "-q"],
    ] {
        let error = fails(&data, words, 2);
        assert!(error.contains("is the folder of the data"), "{error}");
    }
    // A folder of pictures would be passed over with what is written there.
    std::fs::create_dir(data.join("north")).expect("made");
    std::fs::copy(data.join("g001.png"), data.join("north/n1.png")).expect("copied");
    let north = ["embed", "runs/mine", "--out", "north", "-q"];
    assert!(fails(&data, &north, 2).contains("lies among the data and holds files"));
    std::fs::remove_dir_all(data.join("north")).expect("there");
    let family = ["scale", "galaxy-grz", "--scales", "1M", "--data", ".", "--out", ".", "-q"];
    assert!(fails(&data, &family, 2).contains("is the folder of the data"));
    assert!(!data.join("family.json").exists() && !data.join("checksums.json").exists());
    let mut here = on_pictures(".", &[]);
    here[5] = ".";
    assert!(fails(&data, &here, 2).contains("is the folder of the data"));
    let inside = ["generate", "runs/mine", "--objects", "2", "--out", "runs/mine/previews", "-q"];
    assert!(fails(&data, &inside, 2).contains("lies in the run"));
    let conversion = ["convert", "galaxy-grz", "--data", ".", "--out", "runs/mine/c"];
    assert!(fails(&data, &conversion, 2).contains("lies in the run"));
}

/// The same pictures under other ids: which of them trained the model is not known.
#[test]
fn objects_under_other_names_are_told_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let data = pictures(at, 30);
    succeeds(at, &on_pictures("data", &[]));
    // What was said at the beginning may be said again, the data too.
    let again = astropt(at, &on_pictures("data", &["--resume"]));
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.success() && !said.contains("in the recipe now"), "{said}");
    std::fs::create_dir(at.join("above")).expect("made");
    std::fs::rename(&data, at.join("above/data")).expect("moved");
    for (place, told) in [("above", true), ("above/data", false)] {
        let output = astropt(at, &["embed", "r", "--data", place, "--out", "e", "-q"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert_eq!(said.contains("not the objects that the model was trained on"), told, "{said}");
    }
}

#[test]
fn another_conversion_is_no_way_to_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(at, &small("convert", "c", &["--shard-size", "700KB"]));
    succeeds(at, &small("pretrain", "r", &["--data", "c"]));
    std::fs::rename(at.join("c"), at.join("first")).expect("moved");
    succeeds(at, &small("convert", "c", &["--set", "source.seed=2"]));
    for words in [&["pretrain", "--resume", "--out", "r"][..], &["audit", "r"]] {
        let error = fails(at, words, 1);
        assert!(error.contains("was started on other"), "{error}");
    }
    std::fs::remove_dir_all(at.join("c")).expect("there");
    std::fs::rename(at.join("first"), at.join("c")).expect("moved");
    succeeds(at, &["audit", "r"]);
}

/// A mapped shard that is cut short or written over: the run ends, and does not go on with what
/// lies there now.
#[test]
fn a_shard_that_changes_while_it_is_read_ends_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(at, &small("convert", "c", &["--shard-size", "700KB"]));
    let shard = at.join("c/shard-00001.safetensors");
    let whole = std::fs::read(&shard).expect("readable");
    let damaged: [&dyn Fn(); 2] = [
        &|| {
            let file = std::fs::File::options().write(true).open(&shard).expect("writable");
            file.set_len(5000).expect("cut");
        },
        &|| {
            use std::io::{Seek, SeekFrom, Write};
            let mut file = std::fs::File::options().write(true).open(&shard).expect("writable");
            file.seek(SeekFrom::Start(whole.len() as u64 / 2)).expect("there");
            file.write_all(&[7; 4096]).expect("writable");
        },
    ];
    for damage in damaged {
        let more = ["--data", "c", "--set", "train.eval_every=1000000"];
        let child = endless(at, &small("pretrain", "r", &more));
        // An epoch is five steps, in which every shard is opened.
        let ledger = at.join("r/ledger.jsonl");
        let steps = || std::fs::read_to_string(&ledger).map_or(0, |text| text.lines().count());
        wait_for("two epochs", || steps() > 10);
        damage();
        let (code, said) = ended(child);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("written while it was read") || said.contains("cut short"), "{said}");
        assert!(said.contains("--resume") && !said.contains("panicked"), "{said}");
        std::fs::write(&shard, &whole).expect("mended");
        succeeds(at, &["audit", "r"]);
        std::fs::remove_dir_all(at.join("r")).expect("there");
    }
}

/// What is read where it is found is missed where it was.
#[test]
fn lost_baselines_and_changed_faults_are_missed() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("r");
    succeeds(folder.path(), &small("run", "r", &[]));
    for name in ["embeddings-random-init.parquet", "embeddings-raw.parquet"] {
        let bytes = std::fs::read(run.join(name)).expect("readable");
        std::fs::remove_file(run.join(name)).expect("there");
        for words in [["probe", "r"], ["audit", "r"]] {
            let error = fails(folder.path(), &words, 1);
            assert!(error.contains(name) && error.contains("is gone"), "{error}");
        }
        std::fs::write(run.join(name), bytes).expect("mended");
    }
    let preview = run.join("previews/step-000003.png");
    let bytes = std::fs::read(&preview).expect("readable");
    std::fs::remove_file(&preview).expect("there");
    let error = fails(folder.path(), &["report", "r"], 1);
    assert!(error.contains("step-000003.png"), "{error}");
    std::fs::write(&preview, bytes).expect("mended");
    // Embeddings that are older than the model are told of.
    let longer = ["pretrain", "--resume", "--out", "r", "-q", "--set", "train.steps=8"];
    succeeds(folder.path(), &longer);
    let output = crate::program::astropt(folder.path(), &["probe", "r", "-q"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("are of step 6") && said.contains("step 8"), "{said}");
}

/// Data that are gone for a while exclude nobody.
#[test]
fn a_folder_of_data_that_is_gone_ends_the_run_and_no_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = pictures(folder.path(), 30);
    let set = ["--set", "train.max_rejected=0.5"];
    let child = endless(folder.path(), &on_pictures("data", &set));
    let away = folder.path().join("away");
    std::fs::rename(&data, &away).expect("moved");
    let (code, said) = ended(child);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("moved, emptied or unmounted while it was read"), "{said}");
    std::fs::rename(&away, &data).expect("moved back");
    let rejected = std::fs::read_to_string(folder.path().join("r/rejected.csv")).expect("there");
    assert_eq!(rejected.lines().count(), 1, "{rejected}");
    let steps = succeeds(folder.path(), &["audit", "r", "--json", "-q"]);
    assert!(steps.contains("\"stood_in\":0"), "{steps}");
}

/// The gradient of a run whose learning rate is far too high explodes, and by itself nobody goes
/// on with that.
#[test]
fn an_exploding_gradient_ends_a_run_by_default() {
    let folder = tempfile::tempdir().expect("a folder");
    let rate = ["--set", "train.peak_lr=10", "--set", "train.final_lr=10"];
    let long = ["--set", "train.steps=40", "--set", "train.clip=0"];
    let error = fails(folder.path(), &small("pretrain", "r", &[rate, long].concat()), 1);
    assert!(error.contains("on objects synthetic-") && error.contains("peak_lr"), "{error}");
    assert!(folder.path().join("r/faults.jsonl").exists());
}
