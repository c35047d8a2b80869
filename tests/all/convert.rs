//! `astropt convert`, and training from what it wrote.

use std::collections::BTreeMap;
use std::path::Path;

use astropt_core::checkpoint::arrays::{load_arrays, save_arrays};
use astropt_core::observation::Data;
use astropt_core::run::RunLock;
use serde_json::Value;

use crate::bad_input::{on_pictures, pictures};
use crate::checkpoints::scramble;
use crate::program::{astropt, fails, program, succeeds, workspace};
use crate::run::small;

fn whole(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every file of a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("readable").flatten();
    entries.map(|e| (e.file_name().to_string_lossy().into_owned(), whole(&e.path()))).collect()
}

/// Converts the demo's galaxies into several shards.
fn converted(folder: &Path, out: &str) {
    succeeds(folder, &small("convert", out, &["--shard-size", "700KB"]));
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&whole(path)).expect("JSON")
}

#[test]
fn training_from_converted_data_is_the_same_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    converted(at, "c");
    assert!(at.join("c/shard-00001.safetensors").exists(), "several shards");
    assert!(!at.join("c/astropt-unfinished.json").exists());
    succeeds(at, &small("run", "original", &[]));
    succeeds(at, &small("run", "tokens", &["--data", "c"]));
    let names = [
        "metrics.jsonl",
        "checkpoints/step-000006/optimizer.safetensors",
        "previews/step-000006.png",
        "embeddings.npy",
        "probes.json",
        "rejected.csv",
    ];
    for name in names {
        let [a, b] = ["original", "tokens"].map(|run| whole(&at.join(run).join(name)));
        assert!(a == b, "{name} differs");
    }
    // The labels and splits too.
    let objects = |run: &str| json(&at.join(run).join("manifest.json"))["data_digest"].clone();
    assert_eq!(objects("original"), objects("tokens"));
    let shown = succeeds(at, &["inspect", "c"]);
    assert!(shown.contains("tokenised") && shown.contains("200"), "{shown}");
}

#[test]
fn an_interrupted_conversion_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    converted(at, "c");
    let first = files(&at.join("c"));
    // As it lies when the second shard was being written: its file is there, its listing not.
    let mut head = json(&at.join("c/astropt-index.json"))["head"].clone();
    head["astropt_format"] = 2.into();
    for (name, _) in first.iter().filter(|(name, _)| !name.starts_with("shard-00000")) {
        std::fs::remove_file(at.join("c").join(name)).expect("deletable");
    }
    std::fs::write(at.join("c/shard-00001.safetensors"), "half").expect("writable");
    std::fs::write(at.join("c/astropt-unfinished.json"), head.to_string()).expect("writable");
    let error = fails(at, &small("pretrain", "r", &["--data", "c"]), 1);
    assert!(error.contains("not finished"), "{error}");
    let error = fails(at, &small("convert", "c", &["--shard-size", "900KB"]), 2);
    assert!(error.contains("shard_bytes is 700000 in the data and 900000 now"), "{error}");
    converted(at, "c");
    assert!(files(&at.join("c")) == first, "another conversion");
    let error = fails(at, &small("convert", "c", &["--shard-size", "700KB"]), 2);
    assert!(error.contains("converted data already"), "{error}");
    std::fs::remove_file(at.join("c/astropt-index.json")).expect("deletable");
    let error = fails(at, &small("convert", "c", &["--shard-size", "700KB"]), 2);
    assert!(error.contains("shards without their index"), "{error}");
}

/// The rows behind the ids are others when the same command is given again.
#[test]
fn a_conversion_does_not_go_on_with_other_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let data = pictures(at, 30);
    let mut arguments = on_pictures("data", &["--shard-size", "30KB"]);
    arguments[0] = "convert";
    let place = arguments.iter().position(|&word| word == "--out").expect("--out");
    arguments[place + 1] = "c";
    succeeds(at, &arguments);
    let first = files(&at.join("c"));
    assert!(first.contains_key("shard-00004.json"), "{:?}", first.keys());
    // As it lies when the process was killed after two shards.
    {
        let mut head = json(&at.join("c/astropt-index.json"))["head"].clone();
        head["astropt_format"] = 2.into();
        let begun = |name: &str| name.starts_with("shard-00000") || name.starts_with("shard-00001");
        for name in first.keys().filter(|name| !begun(name) && *name != ".lock") {
            std::fs::remove_file(at.join("c").join(name)).expect("deletable");
        }
        std::fs::write(at.join("c/astropt-unfinished.json"), head.to_string()).expect("writable");
    }
    let exchange = || crate::same_data::exchange(&data, 30);
    exchange();
    let error = fails(at, &arguments, 1);
    assert!(error.contains("a conversion of other data"), "{error}");
    assert!(error.contains("holds something else under its id"), "{error}");
    (0..29).for_each(|_| exchange());
    std::fs::rename(data.join("g000.png"), at.join("away.png")).expect("moved");
    std::fs::write(data.join("g000.png"), "not a picture").expect("writable");
    // An object that was converted and is broken now.
    let error = fails(at, &[&arguments[..], &["--set", "train.max_rejected=0.2"]].concat(), 1);
    assert!(error.contains("g000") && error.contains("could be read then"), "{error}");
    std::fs::rename(at.join("away.png"), data.join("g000.png")).expect("moved back");
    succeeds(at, &arguments);
    assert!(files(&at.join("c")) == first, "another conversion");
}

/// Two conversions do not write one folder, nor do two embeddings.
#[test]
fn one_process_writes_a_folder_of_results() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(at, &small("pretrain", "r", &[]));
    for out in ["c", "e"] {
        std::fs::create_dir(at.join(out)).expect("made");
    }
    let held = ["c", "e"].map(|out| RunLock::take(&at.join(out)).expect("locked"));
    let owner = format!("process {}", std::process::id());
    let embed = ["embed", "r", "-q", "--out", "e"];
    for words in [&small("convert", "c", &[])[..], &embed] {
        let error = fails(at, words, 1);
        assert!(error.contains("is being written by") && error.contains(&owner), "{error}");
    }
    drop(held);
    succeeds(at, &small("convert", "c", &[]));
    succeeds(at, &embed);
    // A folder of other files is left without a lock.
    std::fs::create_dir(at.join("mine")).expect("made");
    std::fs::write(at.join("mine/notes.txt"), "mine").expect("writable");
    let error = fails(at, &small("convert", "mine", &[]), 2);
    assert!(error.contains("holds other files") && !at.join("mine/.lock").exists(), "{error}");
}

#[test]
fn the_number_of_workers_changes_nothing_and_half_precision_halves() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for (out, workers) in [("a", "1"), ("b", "3")] {
        succeeds(at, &small("convert", out, &["--workers", workers]));
    }
    assert!(files(&at.join("a")) == files(&at.join("b")));
    succeeds(at, &small("convert", "h", &["--dtype", "f16"]));
    let size = |out: &str| whole(&at.join(out).join("shard-00000.safetensors")).len();
    assert!(10 * size("h") < 6 * size("a"), "{} and {}", size("h"), size("a"));
    succeeds(at, &small("pretrain", "r", &["--data", "h"]));
}

/// What of data is not taken is said, though the work goes on.
#[test]
fn labels_of_several_objects_and_packed_files_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for half in ["x", "y"] {
        pictures(&at.join("data").join(half), 15);
    }
    let labels = "name,z\ng000,1\ng001,1\nx/data/g002,2\n";
    std::fs::write(at.join("data/labels.csv"), labels).expect("writable");
    std::fs::write(at.join("data/more.png.bz2"), "packed").expect("writable");
    let mut arguments = on_pictures("data", &[]);
    arguments[0] = "convert";
    let output = astropt(at, &arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let lines = ["2 row(s) of ", "1 file(s) such as "].map(|words| {
        told.lines().find(|line| line.starts_with("warning: ") && line.contains(words))
    });
    let [labels, packed] = lines.map(|line| line.unwrap_or_else(|| panic!("{told}")));
    assert!(labels.contains("name several objects alike, such as \"g000\""), "{labels}");
    assert!(packed.contains("more.png.bz2") && packed.contains("bunzip2"), "{packed}");
}

/// Columns within structs are shown under the names that recipes give them.
#[test]
fn columns_within_structs_are_inspected_and_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = workspace().join("modalities/tests/fixtures/parquet/mmu/0000.parquet");
    let table = table.display().to_string();
    let shown = succeeds(folder.path(), &["inspect", &table]);
    let line = |name: &str| {
        let found = shown.lines().find(|line| line.split_whitespace().next() == Some(name));
        found.unwrap_or_else(|| panic!("no {name}: {shown}"))
    };
    assert!(line("spectrum.flux").contains("lists of f32"), "{shown}");
    assert!(line("spectrum.lambda").contains("Angstrom"), "{shown}");
    assert!(line("image.flux").contains("lists of lists of lists of f32"), "{shown}");
    assert!(line("lightcurve.band").contains("lists of text"), "{shown}");
    assert!(!shown.contains("Struct(") && !shown.contains("List("), "{shown}");
    let wrong = ["--source", "parquet", "--set", "source.fields.flux=spectrum.fluxx"];
    let error = fails(folder.path(), &[&["inspect", &table][..], &wrong].concat(), 1);
    let there = "it has spectrum.flux, spectrum.lambda, spectrum.mask";
    assert!(error.contains("no column \"spectrum.fluxx\"") && error.contains(there), "{error}");
}

/// FITS images of `count` times 32 x 32 numbers near `level`, and a recipe that takes them as they are.
fn faint(folder: &Path, count: u32, level: f32) {
    let data = folder.join("data");
    std::fs::create_dir_all(&data).expect("writable");
    let cards = [("SIMPLE", "T"), ("BITPIX", "-32"), ("NAXIS", "2"), ("NAXIS1", "32")];
    let card = |(key, value): &(&str, &str)| format!("{:<80}", format!("{key:<8}= {value:>20}"));
    let header: String = cards.iter().chain(&[("NAXIS2", "32")]).map(card).collect();
    for k in 0..count {
        let mut bytes = format!("{:<2880}", format!("{header}END")).into_bytes();
        let pixel = |i: u32| level * (1.0 + ((i * 37 + k * 11) % 101) as f32 / 300.0);
        (0..1024).for_each(|i| bytes.extend_from_slice(&pixel(i).to_be_bytes()));
        bytes.resize(2880 + 5760, 0);
        std::fs::write(data.join(format!("g{k}.fits")), bytes).expect("writable");
    }
    let recipe = "name = \"faint\"\nextends = \"galaxy-grz\"\n[source]\nkind = \"fits\"\n\
                  path = \"data\"\n[modality.images]\nsize = 32\npatch = 8\nbands = 1\n\
                  positions = 16\nstandardise = \"none\"\n";
    std::fs::write(folder.join("faint.toml"), recipe).expect("writable");
}

#[test]
fn numbers_too_small_for_half_precision_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    faint(at, 8, 1e-7);
    let convert = |dtype, out| ["convert", "faint.toml", "--dtype", dtype, "--out", out];
    let error = fails(at, &convert("f16", "h"), 1);
    let said = ["object g", "numbers of images are too small for --dtype f16", "--dtype f32"];
    assert!(said.iter().all(|words| error.contains(words)), "{error}");
    assert!(!at.join("h/astropt-index.json").exists());
    succeeds(at, &convert("f32", "c"));
    faint(at, 8, 1e-3);
    succeeds(at, &convert("f16", "l"));
    // As of a conversion from before they were refused: what the data were made of is too small.
    let originals = at.join("l/astropt-originals.safetensors");
    let (mut arrays, metadata) = load_arrays(&originals).expect("loads");
    let Some(Data::F32(pixels)) = arrays.get_mut("raw.0.image").map(|array| &mut array.data) else {
        panic!("no pixels");
    };
    pixels.iter_mut().for_each(|pixel| *pixel *= 1e-4);
    save_arrays(&originals, &arrays, &metadata).expect("saves");
    let train = ["pretrain", "faint.toml", "--data", "l", "--out", "r"];
    let error = fails(at, &train, 1);
    let (_, hash) = error.split_once("its hash is ").expect("said");
    let mut index = json(&at.join("l/astropt-index.json"));
    index["originals"] = hash.split(',').next().into();
    std::fs::write(at.join("l/astropt-index.json"), index.to_string()).expect("writable");
    let error = fails(at, &train, 1);
    assert!(error.contains("lost what it was converted from: of object g"), "{error}");
    assert!(error.contains("too small for --dtype f16"), "{error}");
}

#[test]
fn another_recipe_is_refused_with_what_differs() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    converted(at, "c");
    let more = ["--data", "c", "--set", "modality.images.patch=16"];
    let error = fails(at, &small("pretrain", "r", &more), 2);
    assert!(error.contains("modality.images.patch is 8 in the data and 16 now"), "{error}");
    let weight = ["--data", "c", "--set", "modality.images.loss_weight=2.0"];
    succeeds(at, &small("pretrain", "r", &weight));
}

#[test]
fn unusable_objects_are_counted_as_in_training() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let data = pictures(at, 30);
    std::fs::write(data.join("g007.png"), "not a picture").expect("writable");
    let arguments = |command: &'static str, data: &'static str, out: &'static str| {
        let more = ["--set", "train.max_rejected=0.2", "--set", "train.steps=8"];
        let mut all = on_pictures(data, &more);
        all[0] = command;
        let at = all.iter().position(|&word| word == "--out").expect("--out");
        all[at + 1] = out;
        all
    };
    let mut strict = arguments("convert", "data", "c");
    strict.extend(["--set", "train.max_rejected=0.0"]);
    let error = fails(at, &strict, 1);
    assert!(error.contains("g007") && error.contains("max_rejected"), "{error}");
    succeeds(at, &arguments("convert", "data", "c"));
    succeeds(at, &arguments("pretrain", "data", "original"));
    succeeds(at, &arguments("pretrain", "c", "tokens"));
    for name in ["metrics.jsonl", "rejected.csv"] {
        let [a, b] = ["original", "tokens"].map(|run| whole(&at.join(run).join(name)));
        assert!(a == b, "{name} differs");
    }
    let rejected = String::from_utf8(whole(&at.join("c/rejected.csv"))).expect("UTF-8");
    assert!(rejected.contains("g007"), "{rejected}");
}

#[test]
fn damaged_files_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(at, &small("convert", "c", &[]));
    let train = || fails(at, &small("pretrain", "r", &["--data", "c", "--overwrite"]), 1);
    let damage = |name: &str, change: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let path = at.join("c").join(name);
        let sound = whole(&path);
        let mut bytes = sound.clone();
        change(&mut bytes);
        std::fs::write(&path, bytes).expect("writable");
        let error = train();
        assert!(error.contains(expected) && error.contains(name), "{error}");
        std::fs::write(&path, sound).expect("writable");
    };
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let replace = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| {
            let text = String::from_utf8(bytes.clone()).expect("UTF-8");
            assert!(text.contains(from), "{from}");
            *bytes = text.replacen(from, to, 1).into_bytes();
        }
    };
    let (shard, index) = ("shard-00000.safetensors", "astropt-index.json");
    damage(shard, &flip, "is not what was converted");
    damage(shard, &cut, "is not what was converted");
    damage(shard, &Vec::clear, "is not what was converted");
    damage("shard-00000.json", &flip, "shard-00000.json");
    damage("shard-00000.json", &cut, "is not a listing of converted objects");
    damage(index, &cut, "is not an index of converted data");
    // The head's count, not that of the source's configuration.
    let count = replace("\"objects\": 200,\n    \"ids\"", "\"objects\": 201,\n    \"ids\"");
    damage(index, &count, "claims 201 objects");
    damage(
        index,
        &replace("\"astropt_format\": 2", "\"astropt_format\": 9"),
        "use a newer program",
    );
    std::fs::remove_file(at.join("c").join(shard)).expect("deletable");
    assert!(train().contains(shard));
}

/// The program with `words`, started by a shell that has set a `limit`: exit code and standard error.
#[cfg(unix)]
fn limited(folder: &Path, limit: &str, words: &[&str]) -> (Option<i32>, String) {
    let script = format!("ulimit {limit}; exec \"$0\" \"$@\"");
    let mut command = std::process::Command::new("bash");
    command.args(["-c", &script]).arg(program()).args(words).current_dir(folder);
    let output = command.output().expect("bash runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Shards are not kept open, and one that is missing is told before the first step.
#[cfg(unix)]
#[test]
fn more_shards_than_a_process_may_open_files_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(at, &small("convert", "c", &["--shard-size", "100KB"]));
    let last = at.join("c/shard-00099.safetensors");
    assert!(last.exists(), "a hundred shards");
    // Every object of an epoch is read: none may be left out.
    let all = ["--data", "c", "--set", "train.max_rejected=0.0"];
    let (code, said) = limited(at, "-n 64", &small("pretrain", "r", &all));
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("cannot be used") && !said.contains("left out"), "{said}");
    std::fs::remove_file(&last).expect("there");
    let error = fails(at, &small("pretrain", "missing", &all), 1);
    assert!(error.contains("shard-00099.safetensors: is missing"), "{error}");
    assert!(error.contains("copy it again") && !error.contains("cannot be used"), "{error}");
    std::fs::write(&last, "cut").expect("writable");
    let error = fails(at, &small("pretrain", "cut", &all), 1);
    let words = ["shard-00099.safetensors: is not what was converted", "it has 3 bytes"];
    assert!(words.iter().all(|words| error.contains(words)), "{error}");
}

/// A limit on the size of files fails the write, of whichever command.
#[cfg(unix)]
#[test]
fn a_limit_on_the_size_of_files_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    pictures(at, 1);
    let sets = on_pictures("data", &[]);
    let sets = sets.windows(2).filter(|pair| pair[0] == "--set" && pair[1].starts_with("modality"));
    let words = ["tokenise", "--recipe", "galaxy-grz", "data/g000.png", "--out", "t.safetensors"];
    let words: Vec<&str> = words.into_iter().chain(sets.flatten().copied()).collect();
    let (code, said) = limited(at, "-f 1", &words);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("error: ") && said.contains("file too large"), "{said}");
    succeeds(at, &words);
}

/// The preprocessing of a model that was trained on converted data is checked when it is loaded,
/// and that of the data when they are opened.
#[test]
fn self_checks_reach_what_was_converted() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for (out, dtype) in [("c", "f32"), ("h", "f16")] {
        succeeds(at, &small("convert", out, &["--dtype", dtype]));
        let run = format!("run-{out}");
        succeeds(at, &small("pretrain", &run, &["--data", out]));
        let check = format!("{run}/checkpoints/step-000006/selfcheck.safetensors");
        let shown = succeeds(at, &["inspect", &check]);
        assert!(shown.contains("image [64, 64, 3]"), "{shown}");
        succeeds(at, &["embed", &run, "-q"]);
    }
    // The order of patches is scrambled in the checkpoint: tokens alone would not show it.
    scramble(&at.join("run-c"), "step-000006");
    let export = ["export", "run-c", "--to", "astropt-1", "--out", "x.pt"];
    let error = fails(at, &export, 1);
    assert!(error.contains("fails its self-check: the images tokens"), "{error}");
    // Another preprocessing than the data's, which their settings do not tell: as if the program
    // had changed since.
    let originals = at.join("c/astropt-originals.safetensors");
    let sound = whole(&originals);
    let (mut arrays, metadata) = load_arrays(&originals).expect("loads");
    if let Some(Data::U8(pixels)) = arrays.get_mut("raw.0.image").map(|array| &mut array.data) {
        pixels.reverse();
    }
    save_arrays(&originals, &arrays, &metadata).expect("saves");
    let train = ["--data", "c", "--overwrite"];
    let error = fails(at, &small("pretrain", "r", &train), 1);
    assert!(error.contains("originals.safetensors: is not what was converted"), "{error}");
    let mut index = json(&at.join("c/astropt-index.json"));
    let (_, hash) = error.split_once("its hash is ").expect("said");
    index["originals"] = hash.split(',').next().into();
    std::fs::write(at.join("c/astropt-index.json"), index.to_string()).expect("writable");
    let error = fails(at, &small("pretrain", "r", &train), 1);
    assert!(error.contains("other preprocessing than this program's"), "{error}");
    assert!(error.contains("object synthetic-000000, the images tokens"), "{error}");
    // Data from before there were originals are taken as they were.
    std::fs::write(&originals, sound).expect("writable");
    index.as_object_mut().expect("an object").remove("originals");
    std::fs::write(at.join("c/astropt-index.json"), index.to_string()).expect("writable");
    succeeds(at, &small("pretrain", "old", &["--data", "c"]));
    let check = "old/checkpoints/step-000006/selfcheck.safetensors";
    let shown = succeeds(at, &["inspect", check]);
    assert!(shown.contains("its preparation is not checked"), "{shown}");
}
