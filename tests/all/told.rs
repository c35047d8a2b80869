//! What is left out of data, or missing in them, is told: a warning that `--quiet` leaves standing.

use std::path::Path;
use std::process::Command;

use crate::faults::{pretrain, table};
use crate::parallel::{can, together};
use crate::program::{astropt, fails, program, succeeds, workspace};
use crate::recipes::npy;

/// The warnings of an `inspect` of `path` by the source `kind`, with these keys set, that must succeed.
fn warnings(folder: &Path, path: &str, kind: &str, set: &[&str]) -> Vec<String> {
    let mut arguments = vec!["inspect", path, "--source", kind, "--quiet"];
    set.iter().for_each(|set| arguments.extend(["--set", set]));
    let output = astropt(folder, &arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {told}");
    told.lines().filter(|line| line.starts_with("warning: ")).map(str::to_owned).collect()
}

fn fixture(name: &str) -> String {
    workspace().join("modalities/tests/fixtures").join(name).display().to_string()
}

/// The one warning of such an `inspect`, with these words in it.
fn one(folder: &Path, path: &str, kind: &str, set: &[&str], words: &[&str]) {
    let told = warnings(folder, path, kind, set);
    assert_eq!(told.len(), 1, "{path}: {told:?}");
    for word in words {
        assert!(told[0].contains(word), "no {word} in: {told:?}");
    }
}

#[test]
fn labels_that_rows_disagree_on_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    std::fs::create_dir(at.join("d")).expect("a folder");
    for name in ["a.png", "b.png"] {
        let picture = image::RgbImage::from_pixel(4, 4, image::Rgb([9, 8, 7]));
        picture.save(at.join("d").join(name)).expect("written");
    }
    let labels = |rows: &str| {
        std::fs::write(at.join("d/labels.csv"), format!("name,z,ra\n{rows}")).expect("written");
    };
    labels("a,1.5,10\na,2.5,10\nb,3,20\n");
    let words = ["labels left out: \"z\" of 1 object(s)", "labels.csv", "disagree"];
    one(at, "d", "image-folder", &[], &words);
    labels("a,1.5,10\na,1.5,10\nb,3,20\n");
    assert!(warnings(at, "d", "image-folder", &[]).is_empty(), "the same twice is no dispute");
}

#[test]
fn labels_of_a_later_file_alone_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let later = fixture("odd/later");
    let flux = "source.fields.flux.dataset=flux";
    let words = ["labels left out", "\"z\" (not in the first file, but in b.h5)"];
    one(folder.path(), &later, "hdf5", &[flux], &words);
    let named = [flux, "source.labels=['mag']"];
    assert!(warnings(folder.path(), &later, "hdf5", &named).is_empty(), "the recipe says which");
}

#[test]
fn several_texts_in_a_cell_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = ["source.objects=row", "source.label_hdu=1", "source.fields={z={column='z'}}"];
    let words = ["labels left out", "\"dim\"", "\"length\"", "\"sstr\"", "several texts"];
    one(folder.path(), &fixture("odd/texts.fits"), "fits", &set, &words);
}

#[test]
fn shards_that_are_announced_and_missing_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let shards = fixture("parquet/hf/data");
    let name = "train-00001-of-00002.parquet";
    std::fs::copy(Path::new(&shards).join(name), at.join(name)).expect("copied");
    let words = ["shards are missing", "train-00000-of-00002", "a part of the dataset"];
    one(at, ".", "parquet", &["source.split=train"], &words);
    one(at, ".", "parquet", &[], &words);
    assert!(warnings(at, &shards, "parquet", &["source.split=train"]).is_empty(), "all are there");
    assert!(warnings(at, name, "parquet", &[]).is_empty(), "one file is asked for");
}

#[test]
fn parts_that_are_joined_by_place_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for name in ["a.npy", "b.npy"] {
        let numbers = (0..10_u8).map(|k| f32::from(k).to_le_bytes());
        std::fs::write(at.join(name), npy("<f4", "10", numbers)).expect("written");
    }
    let part = |name: &str| {
        format!("source.parts.{name}={{kind='npz',path='{name}.npy',fields={{{name}='{name}'}}}}")
    };
    let words = ["the parts a and b name no objects", "their places in the files"];
    one(at, ".", "join", &[&part("a"), &part("b")], &words);
}

#[test]
fn probes_that_cannot_be_are_told_before_the_training() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    table(at);
    let told = |name: &str| {
        let set = format!("probe.labels=['{name}']");
        let output = astropt(at, &pretrain(name, &[&set, "train.steps=1"]));
        assert!(output.status.success());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        told.lines()
            .filter(|line| line.contains("no object looked at has"))
            .map(str::to_owned)
            .collect()
    };
    let unknown: Vec<String> = told("clas");
    assert!(unknown.len() == 1 && unknown[0].contains("clas\""), "{unknown:?}");
}

/// A mistyped column leaves a modality out of every object, and nothing else says so.
#[test]
fn a_modality_that_no_object_has_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    table(at);
    let mistyped = "modality.w={kind='scalar',columns=['splt']}";
    let train = pretrain("r", &[mistyped, "train.steps=1"]);
    let convert = ["convert", "numbers.toml", "--quiet", "--out", "c", "--set", mistyped];
    for arguments in [&train[..], &convert[..]] {
        let output = astropt(at, arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        let line = told.lines().find(|line| line.contains("modality.w: none of the"));
        let line = line.unwrap_or_else(|| panic!("nothing of the modality w: {told}"));
        for words in ["warning: ", "no \"splt\" (did you mean \"split\"?)", "there are a, b, c, d"]
        {
            assert!(line.contains(words), "no {words} in: {line}");
        }
        assert!(!told.contains("modality.a: none"), "{told}");
    }
}

/// What was never predicted is told when the training is over, and not made.
#[test]
fn what_the_model_did_not_learn_to_make_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    table(at);
    let lacking = "modality.w={kind='scalar',columns=['splt']}";
    let weightless = "modality.v={kind='scalar',columns=['d'],loss_weight=0.0}";
    let train = pretrain("r", &[lacking, weightless, "train.steps=1"]);
    let output = astropt(at, &train);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    let unpredicted = |name: &str| told.contains(&format!("modality.{name}: never predicted in"));
    // The first of each sequence is one token, which nothing comes before.
    assert_eq!(["a", "b", "v", "w"].map(unpredicted), [true, false, false, true], "{told}");
    let make = |name| ["generate", "r", "--make", name, "--given", "b", "--objects", "1"];
    let error = fails(at, &make("w"), 2);
    for words in ["w was never predicted in steps 1 to 1", "no training object had it", ": b"] {
        assert!(error.contains(words), "no {words} in: {error}");
    }
    let error = fails(at, &make("v"), 2);
    assert!(error.contains("modality.v.loss_weight is 0"), "{error}");
    // Of a run without metrics nobody knows.
    std::fs::remove_file(at.join("r/metrics.jsonl")).expect("deleted");
    succeeds(at, &make("v"));
}

/// None of several processes tells of what it alone has not met.
#[test]
fn processes_tell_what_none_of_them_predicted() {
    if !can() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    table(at);
    let lacking = "modality.w={kind='scalar',columns=['splt']}";
    let output = together(at, 2, &pretrain("r", &[lacking, "train.steps=1"]));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    // Before the training all look at the same objects.
    assert_eq!(told.matches("modality.w: none of the").count(), 1, "{told}");
    assert_eq!(told.matches("modality.w: never predicted in").count(), 1, "{told}");
    assert!(!told.contains("modality.b: "), "{told}");
}

#[test]
fn a_limit_on_the_size_of_files_ends_in_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    table(at);
    let limited = format!("ulimit -f 40; exec '{}' \"$@\"", program().display());
    let arguments = pretrain("r", &[]);
    let output = Command::new("bash")
        .args(["-c", &limited, "astropt"])
        .args(&arguments)
        .current_dir(at)
        .output()
        .expect("bash runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("file too large"), "{told}");
}

#[test]
fn a_stray_text_among_numbers_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    table(at);
    let path = at.join("numbers.csv");
    let text = std::fs::read_to_string(&path).expect("there");
    let labelled = |k: usize, line: &str| match k {
        0 => format!("{line},z\n"),
        5 => format!("{line},unknown\n"),
        _ => format!("{line},{k}.5\n"),
    };
    let labelled: String = text.lines().enumerate().map(|(k, line)| labelled(k, line)).collect();
    std::fs::write(&path, labelled).expect("written");
    let set = ["train.steps=2", "train.faults.on='skip'", "probe.protocol='train-validation'"];
    let set = [&set[..], &["probe.labels=['z']"]].concat();
    let mut run = pretrain("r", &set);
    run[0] = "run";
    let output = astropt(at, &run);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("\"z\" is a number of") && told.contains("\"unknown\" of 1"), "{told}");
}
