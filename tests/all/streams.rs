//! Streams of several modalities: what an embedding and a validation loss may not depend on, and
//! what a stream refuses.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use astropt_core::data::StreamConfig;
use astropt_core::embed::Embeddings;
use astropt_core::probe::ProbeSettings;
use astropt_core::recipe::{EmbedConfig, ProbeConfig, SplitConfig};
use astropt_core::seam::ConfigType;
use serde_json::Value as Json;

use crate::faults::{pretrain, table};
use crate::program::{astropt, fails, succeeds, workspace};

/// Two objects with the same data under different ids have the same embedding.
#[test]
fn an_embedding_does_not_depend_on_the_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    table(at); // for the recipe
    let mut rows = String::from("id,split,a,b,c,d\n");
    for k in 0..40 {
        let (x, split) = (f64::from(k) * 0.37, if k % 8 == 5 { "val" } else { "train" });
        for twin in ["one", "other"] {
            let numbers = [x.sin(), x.cos(), (2.0 * x).sin(), (3.0 * x).cos()];
            let numbers = numbers.map(|number| number.to_string()).join(",");
            writeln!(rows, "{twin}-{k:02},{split},{numbers}").expect("a text");
        }
    }
    std::fs::write(at.join("numbers.csv"), rows).expect("writable");
    succeeds(at, &pretrain("r", &["stream.order='shuffled'", "train.steps=8"]));
    succeeds(at, &["embed", "r", "-q"]);
    for file in ["embeddings.parquet", "embeddings-random-init.parquet"] {
        let found = Embeddings::read_parquet(at.join("r").join(file)).expect("readable");
        let width = found.width();
        let vector = |id: &str| {
            let row = found.ids.iter().position(|known| known == id).expect("embedded");
            &found.vectors[row * width..][..width]
        };
        let apart = |a: &str, b: &str| {
            let pairs = vector(a).iter().zip(vector(b));
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        for k in 0..40 {
            let (one, other) = (format!("one-{k:02}"), format!("other-{k:02}"));
            assert!(apart(&one, &other) < 1e-5, "{file}, {k}: {}", apart(&one, &other));
        }
        assert!(apart("one-00", "one-04") > 1e-3, "{file}: all are alike");
    }
}

/// Three modalities, of which one object in three lacks the first and one in four the second.
const SPARSE: &str = r#"
extends = "numbers.toml"
name = "sparse"
[modality.c]
kind = "scalar"
columns = ["e"]
"#;
const VALIDATING: usize = 130;

/// The catalogue of [`SPARSE`], and by modality the losses of predicting zero of all tokens that are
/// no first one of an object in `val`.
fn sparse(folder: &Path) -> BTreeMap<&'static str, Vec<f64>> {
    table(folder);
    std::fs::write(folder.join("sparse.toml"), SPARSE).expect("writable");
    let mut losses = BTreeMap::<_, Vec<f64>>::new();
    let mut rows = String::from("id,split,a,b,c,d,e\n");
    for k in 0..VALIDATING + 40 {
        let split = if k < VALIDATING { "val" } else { "train" };
        let x = k as f64;
        let spans = [
            ("a", (k % 3 != 0).then(|| vec![x.sin(), x.cos()]), 2),
            ("b", (k % 4 != 0).then(|| vec![(x * x).sin(), 3.0 * x.cos()]), 2),
            ("c", Some(vec![0.3 * (x / 7.0).sin()]), 1),
        ];
        let cells = spans.iter().map(|(_, numbers, width)| match numbers {
            Some(numbers) => numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(","),
            None => ",".repeat(width - 1),
        });
        writeln!(rows, "o{k:03},{split},{}", cells.collect::<Vec<_>>().join(",")).expect("a text");
        let there = spans.iter().filter_map(|(name, numbers, _)| Some((*name, numbers.as_ref()?)));
        for (name, numbers) in there.skip(1).filter(|_| split == "val") {
            let huber = |x: &f64| if x.abs() < 1.0 { 0.5 * x * x } else { x.abs() - 0.5 };
            let sum: f64 = numbers.iter().map(huber).sum();
            losses.entry(name).or_default().push(sum / numbers.len() as f64);
        }
    }
    std::fs::write(folder.join("numbers.csv"), rows).expect("writable");
    losses
}

/// The evaluation before the first step is of the same model whatever the micro-batch, and is one
/// number whether objects are evaluated one at a time or two. A modality that nothing predicts
/// counts for nothing.
#[test]
fn a_validation_loss_does_not_depend_on_the_groups() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let zero = sparse(at);
    // "a" comes first wherever it is.
    assert_eq!(zero.keys().copied().collect::<Vec<_>>(), ["b", "c"]);
    let mean = |losses: &Vec<f64>| losses.iter().sum::<f64>() / losses.len() as f64;
    let zero = (100.0 * mean(&zero["b"]) + mean(&zero["c"])) / 2.0;
    let mut found = Vec::new();
    for (out, micro_batch, groups) in [("one", 1, 130), ("two", 4, 65)] {
        let micro_batch = format!("train.micro_batch={micro_batch}");
        let mut arguments = pretrain(out, &["train.steps=4", &micro_batch]);
        // What lacks a modality has one token, which nothing predicts, where it lacks two.
        let set = ["--set", "train.max_rejected=0.2", "--set", "modality.a.loss_weight=7.0"];
        arguments.extend(set);
        arguments[1] = "sparse.toml";
        succeeds(at, &arguments);
        let metrics = std::fs::read_to_string(at.join(out).join("metrics.jsonl")).expect("there");
        let lines = metrics.lines().map(|line| serde_json::from_str::<Json>(line).expect("JSON"));
        let evaluations: Vec<Json> = lines.filter(|line| line["event"] == "validation").collect();
        let first = evaluations.first().expect("before the first step").clone();
        assert_eq!(first["step"], 0);
        assert_eq!(first["modalities"].as_object().map(|losses| losses.len()), Some(2), "{first}");
        let text = std::fs::read_to_string(at.join(out).join("validation.json")).expect("there");
        let last: Json = serde_json::from_str(&text).expect("JSON");
        let batches = last["batches"].as_array().expect("a list");
        assert!(batches.len() <= groups && batches.len() > groups / 2, "{}", batches.len());
        let number = |value: &Json| value.as_f64().expect("a number");
        let sum: f64 = batches.iter().map(|batch| number(&batch[0]) * number(&batch[1])).sum();
        let objects: f64 = batches.iter().map(|batch| number(&batch[1])).sum();
        let whole = number(&evaluations.last().expect("the last")["loss"]);
        assert!((sum / objects - whole).abs() < 1e-9 * whole, "{} {whole}", sum / objects);
        found.push((number(&first["loss"]), number(&first["zero_loss"])));
    }
    let [one, two] = found[..] else { panic!("two evaluations: {found:?}") };
    assert!((one.0 - two.0).abs() < 1e-5 * one.0, "{one:?} {two:?}");
    for (_, stated) in [one, two] {
        assert!((stated - zero).abs() < 1e-5 * zero, "{stated} for {zero}");
    }
}

/// An object that fits no packed row is left out of training as any other that cannot be used, and
/// the audit agrees; it is validated on and embedded. A single token is predicted from its begin.
#[test]
fn what_fits_no_row_is_left_out_of_training_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    table(at); // for the recipe
    std::fs::write(at.join("sparse.toml"), SPARSE).expect("writable");
    let mut rows = String::from("id,split,a,b,c,d,e\n");
    for k in 0..60 {
        let (x, validates) = (f64::from(k), k % 10 == 5);
        let split = if validates { "val" } else { "train" };
        let two = format!("{},{}", x.sin(), x.cos());
        let a = if validates || k == 7 { &two } else { "," };
        let b = if k == 8 { "," } else { &two };
        writeln!(rows, "o{k:03},{split},{a},{b},{}", (2.0 * x).sin()).expect("a text");
    }
    std::fs::write(at.join("numbers.csv"), rows).expect("writable");
    // A row holds two tokens and three delimiters, for the last token is no input. An epoch is of 54
    // objects, and 8 steps together read 64.
    let stream = ["stream.delimiters='begin-end'", "stream.packing='rows'", "stream.row_length=4"];
    let more = [&stream[..], &["train.max_rejected=0.05", "train.steps=8"]].concat();
    let mut arguments = pretrain("r", &more);
    arguments[1] = "sparse.toml";
    let output = astropt(at, &arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("warning: with stream.row_length = 4"), "{told}");
    let listed = || std::fs::read_to_string(at.join("r/rejected.csv")).expect("there");
    assert_eq!(listed().lines().count(), 2, "{}", listed());
    for part in ["o007", "3 tokens and 5 delimiters", "7 places", "stream.row_length = 4"] {
        assert!(listed().contains(part), "no {part} in: {}", listed());
    }
    succeeds(at, &["audit", "r", "-q"]);
    succeeds(at, &["pretrain", "--resume", "--out", "r", "-q", "--set", "train.steps=16"]);
    succeeds(at, &["audit", "r", "-q"]);
    assert_eq!(listed().lines().count(), 2, "{}", listed());
    succeeds(at, &["embed", "r", "-q"]);
    let found = Embeddings::read_parquet(at.join("r/embeddings.parquet")).expect("readable");
    assert_eq!(found.ids.len(), 60);
}

#[test]
fn what_a_stream_cannot_do_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |set: &[&str]| {
        let mut arguments = vec!["recipes", "crts"];
        set.iter().for_each(|set| arguments.extend(["--set", set]));
        fails(folder.path(), &arguments, 2)
    };
    let error = refused(&["stream.row_length=10"]);
    assert!(error.contains("stream.packing"), "{error}");
    let error = refused(&["stream.packing='rows'", "stream.row_length=0"]);
    assert!(error.contains("stream.row_length is 0"), "{error}");
    let error = refused(&["objective.kind='autoregressive'", "objective.ratio=0.5"]);
    assert!(error.contains("unknown \"ratio\""), "{error}");
    // A position also tells where the next token stands, which may be one that is left out.
    let error = refused(&["stream.keep=0.5"]);
    assert!(error.contains("modality.light-curve") && error.contains("next = false"), "{error}");
    for sound in ["modality.light-curve.next=false", "stream.keep=1.0"] {
        succeeds(folder.path(), &["recipes", "crts", "--set", "stream.keep=0.5", "--set", sound]);
    }
}

/// docs/RECIPES.md has a row for every key of the sections that it describes.
#[test]
fn the_page_of_recipes_has_every_key() {
    let page = std::fs::read_to_string(workspace().join("docs/RECIPES.md")).expect("readable");
    let sections = [
        ("[stream]", ConfigType::of::<StreamConfig>()),
        ("[split]", ConfigType::of::<SplitConfig>()),
        ("[embed]", ConfigType::of::<EmbedConfig>()),
        ("[probe]", ConfigType::of::<ProbeConfig>()),
        ("[probe.fit]", ConfigType::of::<ProbeSettings>()),
    ];
    for (section, config) in sections {
        let start = if section == "[probe.fit]" { "| key of `" } else { "## `" };
        let (_, text) = page.split_once(&format!("{start}{section}`")).expect(section);
        let text = text.split("\n## ").next().unwrap_or_default();
        let keys = (config.keys)();
        assert!(keys.len() > 3, "{section}: {keys:?}");
        for key in keys {
            assert!(text.contains(&format!("\n| `{key}` |")), "{section} {key}");
        }
    }
}
