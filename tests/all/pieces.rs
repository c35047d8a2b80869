//! Micro-batches are how much of a step fits in memory: what is learnt may not depend on them.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::parallel::{can, together_succeeds};
use crate::program::succeeds;
use crate::run::small;

/// Four columns, each a modality: `x` is known of one object in twelve.
const RECIPE: &str = r#"
name = "rare"
summary = "A modality that few objects have"
[source]
kind = "table"
layout = "wide"
object = "id"
path = "rare.csv"
[modality.a]
kind = "scalar"
columns = ["a"]
[modality.b]
kind = "scalar"
columns = ["b"]
[modality.x]
kind = "scalar"
columns = ["x"]
[split]
validation_fraction = 0.2
test_fraction = 0.0
[model]
layers = 1
heads = 2
width = 16
tokeniser = "aim"
[train]
steps = 3
batch = 32
micro_batch = 32
peak_lr = 1e-3
final_lr = 1e-4
warmup_steps = 1
decay_steps = 3
weight_decay = 0.1
clip = 1.0
eval_every = 3
eval_batches = 0
checkpoints = { every = 3 }
[embed]
layer = "last"
tokens = "all"
pooling = "mean"
"#;

fn recipe(at: &Path) {
    let mut rows = String::from("id,a,b,x\n");
    for k in 0..240 {
        let [a, b, x] = [0.37, 0.91, 1.7].map(|f: f64| (f * f64::from(k)).sin());
        let x = if k % 12 == 0 { format!("{:.4}", 2.0 * x) } else { String::new() };
        writeln!(rows, "s{k:03},{a:.4},{b:.4},{x}").expect("a text");
    }
    std::fs::write(at.join("rare.csv"), rows).expect("writable");
    std::fs::write(at.join("rare.toml"), RECIPE).expect("writable");
}

/// Losses, losses of the modalities and norms of all steps.
fn numbers(run: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let steps: Vec<Value> = lines.filter(|line| line["event"] == "train").collect();
    assert!(steps.len() >= 3);
    let of = |line: &Value| {
        let modalities = line["modalities"].as_object().expect("modalities").clone();
        let all = modalities.into_iter().map(|(_, loss)| loss);
        let all: Vec<Value> =
            all.chain([line["loss"].clone(), line["grad_norm"].clone()]).collect();
        all.into_iter().map(|number| number.as_f64().expect("a number"))
    };
    steps.iter().flat_map(of).collect()
}

fn close(one: &[f64], other: &[f64]) {
    assert_eq!(one.len(), other.len());
    for (a, b) in one.iter().zip(other) {
        assert!((a - b).abs() <= 1e-5 * a.abs().max(1e-3), "{one:?}\n{other:?}");
    }
}

/// However a step is cut up, a modality's loss is the mean over all its targets in the step, and
/// the step's is the mean over the modalities that are in it: few objects weigh what they would in
/// one piece.
#[test]
fn the_size_of_micro_batches_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    recipe(at);
    let run = |out: &str, more: &[&str]| {
        succeeds(at, &[&["pretrain", "rare.toml", "--out", out], more].concat());
        numbers(&at.join(out))
    };
    let whole = run("whole", &[]);
    for (k, stream) in ["", "stream.order=shuffled", "objective.kind=prefix"].iter().enumerate() {
        let set = if stream.is_empty() { vec![] } else { vec!["--set", *stream] };
        let whole = if k == 0 { whole.clone() } else { run(&format!("whole-{k}"), &set) };
        for size in [8, 1] {
            let micro = format!("train.micro_batch={size}");
            let more = [&set[..], &["--set", &micro]].concat();
            close(&whole, &run(&format!("{k}-{size}"), &more));
        }
    }
    if can() {
        let more = ["--set", "train.micro_batch=8"];
        let call = [&["pretrain", "rare.toml", "--out", "two"][..], &more].concat();
        together_succeeds(at, 2, &call);
        close(&whole, &numbers(&at.join("two")));
    }
}

/// Of one modality that is the same in all objects, too, where tokens are left out of it at random.
#[test]
fn nor_does_it_where_tokens_are_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let run = |out: &str, size: &str| {
        let micro = format!("train.micro_batch={size}");
        let more = ["--set", "stream.keep=0.1", "--set", &micro];
        succeeds(at, &small("pretrain", out, &more));
        numbers(&at.join(out))
    };
    let whole = run("whole", "32");
    close(&whole, &run("eight", "8"));
    close(&whole, &run("four", "4"));
}
