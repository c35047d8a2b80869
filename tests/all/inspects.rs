//! `inspect` of everything that a run, a conversion and an import leave: each in a screen, by
//! what it is.

use std::path::Path;

use crate::bad_input::{on_pictures, pictures};
use crate::program::{fails, shared, succeeds, workspace};
use crate::run::small;

/// Lines of a screen, title and all.
const SCREEN: usize = 70;
/// Columns of one.
const WIDE: usize = 200;

fn shown(folder: &Path, path: &str) -> String {
    let text = succeeds(folder, &["inspect", path]);
    assert!(text.lines().count() <= SCREEN, "{path} fits no screen:\n{text}");
    let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    assert!(widest <= WIDE, "{path} is {widest} columns wide:\n{text}");
    let json = succeeds(folder, &["inspect", path, "--json"]);
    let json: serde_json::Value = serde_json::from_str(json.trim()).expect("JSON");
    assert_eq!(json["path"], path);
    text
}

fn has(folder: &Path, path: &str, words: &[&str]) {
    let text = shown(folder, path);
    for word in words {
        assert!(text.contains(word), "{path} has no {word}:\n{text}");
    }
}

/// Every file below `folder`, and every folder.
fn all(folder: &Path, out: &mut Vec<String>, root: &Path) {
    for entry in std::fs::read_dir(folder).expect("readable").flatten() {
        let path = entry.path();
        let name = path.strip_prefix(root).expect("below").display().to_string();
        out.push(name);
        if path.is_dir() {
            all(&path, out, root);
        }
    }
}

#[test]
fn everything_that_a_run_leaves_is_shown_by_what_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(at, &small("run", "r", &[]));
    has(at, "r", &["a run", "6 of 6 steps", "138 train, 28 validation, 34 test", "probes.json"]);
    has(at, "r/manifest.json", &["the manifest of a run", "pretrain", "modality.images.patch"]);
    has(at, "r/metrics.jsonl", &["losses of a training", "lowest validation loss", "1 to 6"]);
    has(at, "r/timings.jsonl", &["speed of a training", "tokens/s", "waiting for data"]);
    has(at, "r/ledger.jsonl", &["which objects", "objects drawn", "192", "160 to 191", "audit"]);
    has(at, "r/checksums.json", &["checksums", "probes.json", "as written"]);
    has(at, "r/probes.json", &["what the embeddings know", "redshift", "R² raw features"]);
    has(at, "r/validation.json", &["last evaluation", "objects", "34"]);
    has(at, "r/embeddings.parquet", &["138 train", "numbers an object  24", "redshift", "least"]);
    has(at, "r/embeddings.ids.txt", &["ids of the objects", "synthetic-000000", "200"]);
    has(at, "r/rejected.csv", &["could not be used"]);
    has(at, "r/report.html", &["browser"]);
    has(at, "r/.lock", &["who writes it", "none"]);
    has(at, "r/checkpoints", &["the checkpoints of a run", "step-000006", "best", "yes"]);
    has(at, "r/previews", &["previews of a run", "step-000003.png"]);
    has(at, "r/figures", &["figures", "maps.svg"]);
    let last = "r/checkpoints/step-000006";
    has(at, &format!("{last}/state.json"), &["tokens read", "12096", "lowest validation loss"]);
    has(at, &format!("{last}/optimizer.safetensors"), &["AdamW", "steps taken", "decoders.images"]);
    let check = ["self-check", "synthetic-", "image [64, 64, 3]", "64 images"];
    has(at, &format!("{last}/selfcheck.safetensors"), &check);
    let whole = ["2 objects, preparation and model", "the model's is right"];
    has(at, &format!("{last}/model.safetensors"), &whole);
    // And nothing of it is answered by an error.
    let mut names = Vec::new();
    all(&at.join("r"), &mut names, at);
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        shown(at, &name);
    }
    // A changed byte shows.
    std::fs::write(at.join("r/validation.json"), "{}").expect("writable");
    has(at, "r/checksums.json", &["not what was written"]);
}

#[test]
fn converted_data_are_shown_whole_and_by_their_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    pictures(at, 30);
    std::fs::write(at.join("data/g007.png"), "not a picture").expect("writable");
    let more = ["--set", "train.max_rejected=0.2", "--shard-size", "100KB"];
    let mut convert = on_pictures("data", &more);
    convert[0] = "convert";
    let out = convert.iter().position(|&word| word == "--out").expect("--out");
    convert[out + 1] = "c";
    succeeds(at, &convert);
    let whole = [
        "converted data",
        "image-folder data",
        "unusable",
        "galaxy-image",
        "192 numbers",
        "shard-00000.safetensors",
        "2 objects, which self-checks carry on",
        "g000",
    ];
    has(at, "c", &whole);
    has(at, "c/astropt-index.json", &whole);
    has(at, "c/shard-00000.json", &["the listing of a shard", "objects", "unusable: ", "g007"]);
    has(at, "c/shard-00000.safetensors", &["a shard of converted data", "images tokens"]);
    let kept = ["before they were converted", "[32, 32, 3]", "g000"];
    has(at, "c/astropt-originals.safetensors", &kept);
    has(at, "c/rejected.csv", &["g007", "a new run takes the mended ones in"]);
    std::fs::remove_file(at.join("c/shard-00001.safetensors")).expect("there");
    has(at, "c", &["missing"]);
    // As it is while it is made.
    let index = std::fs::read_to_string(at.join("c/astropt-index.json")).expect("there");
    let index: serde_json::Value = serde_json::from_str(&index).expect("JSON");
    let mut head = index["head"].clone();
    head["astropt_format"] = 2.into();
    std::fs::write(at.join("c/astropt-unfinished.json"), head.to_string()).expect("writable");
    std::fs::remove_file(at.join("c/astropt-index.json")).expect("there");
    has(at, "c", &["the beginning of a conversion", "in whole shards"]);
    has(at, "c/astropt-unfinished.json", &["the beginning of a conversion"]);
}

#[test]
fn files_of_others_are_shown_or_refused_in_a_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let put = |name: &str, text: &str| std::fs::write(at.join(name), text).expect("writable");
    put("state.json", r#"{"theirs": 1, "list": [1, 2]}"#);
    has(at, "state.json", &["JSON", "theirs", "2 entries"]);
    put("log.jsonl", "{\"a\": 1}\n{\"a\": 2}\n");
    has(at, "log.jsonl", &["lines of JSON", "2"]);
    put("README.md", "# Mine\n");
    has(at, "README.md", &["a text", "# Mine"]);
    put("broken.json", "{");
    assert!(fails(at, &["inspect", "broken.json"], 1).contains("no whole JSON"));
    put("metrics.jsonl", "{\"loss\": 1}\n");
    assert!(fails(at, &["inspect", "metrics.jsonl"], 1).contains("no file of losses"));
    std::fs::create_dir(at.join("empty")).expect("made");
    has(at, "empty", &["a folder", "entries"]);
    has(at, ".", &["a folder", "state.json", "empty/"]);
    has(workspace(), "tests/golden", &["recorded cases", "v1_paper"]);
}

#[test]
fn the_recorded_data_are_all_shown() {
    for name in ["data", "golden"] {
        let Some(root) = shared(name) else { return };
        let mut names = Vec::new();
        all(&root, &mut names, &root);
        // Of a folder with hundreds of files of one kind the first ones stand for all.
        let mut seen = std::collections::BTreeMap::<(String, String), usize>::new();
        for name in names {
            let path = Path::new(&name);
            let of = |part: Option<&std::ffi::OsStr>| {
                part.unwrap_or_default().to_string_lossy().into_owned()
            };
            let parent = of(path.parent().map(Path::as_os_str));
            let count = seen.entry((parent, of(path.extension()))).or_default();
            *count += 1;
            if *count <= 2 || root.join(path).is_dir() {
                shown(&root, &name);
            }
        }
    }
}

/// It is the error of whoever knows the file that is shown, not that others do not.
#[test]
fn a_picture_that_is_cut_short_is_said_to_be_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = std::fs::read(workspace().join("fuzz/seeds/baseline.jpg")).expect("there");
    std::fs::write(folder.path().join("a.jpg"), &whole[..whole.len() / 2]).expect("written");
    let error = fails(folder.path(), &["inspect", "a.jpg"], 1);
    assert!(error.contains("image-folder: the JPEG cannot be decoded"), "{error}");
    assert!(error.contains("cut short") && !error.contains("as a Parquet file does"), "{error}");
    std::fs::write(folder.path().join("a.parquet"), "no table").expect("written");
    let error = fails(folder.path(), &["inspect", "a.parquet"], 1);
    assert!(error.contains("Parquet"), "{error}");
}
