//! A run goes on as it was begun, and a family's models are of one recipe and the same data: what a
//! recipe says otherwise by now is refused, or told of.

use std::path::Path;

use serde_json::Value;

use crate::faults::{pretrain, table};
use crate::program::{astropt, fails, succeeds};
use crate::run::{SMALL, small};

fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).expect("there");
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replacen(from, to, 1)).expect("writable");
}

/// What a successful call says to a person.
fn told(at: &Path, arguments: &[&str]) -> String {
    let output = astropt(at, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {said}", arguments.join(" "));
    said
}

#[test]
fn a_recipe_that_was_changed_is_not_taken_for_the_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    table(at);
    let skip = "train.faults.on=skip";
    succeeds(at, &pretrain("r", &[skip]));
    let steps = || std::fs::read_to_string(at.join("r/manifest.json")).expect("there");
    let resume = ["pretrain", "./numbers.toml", "--resume", "--out", "r", "--set", skip];
    assert!(!told(at, &resume).contains("warning"));

    let recipe = at.join("numbers.toml");
    edit(&recipe, "\nbatch = 8", "\nbatch = 16");
    let error = fails(at, &resume, 2);
    assert!(error.contains("train.batch is 16 in the recipe now and 8 in the run"), "{error}");
    // Without the recipe's name it goes on as it was begun.
    succeeds(at, &["pretrain", "--resume", "--out", "r", "-q"]);
    edit(&recipe, "\nbatch = 16", "\nbatch = 8");
    edit(&recipe, "\nsteps = 16", "\nsteps = 20");
    let said = told(at, &resume);
    assert!(said.contains("train.steps is 20 in the recipe now and 16 in the run"), "{said}");
    assert!(!steps().contains("\"steps\": 20"), "{said}");
    let said = told(at, &[&resume[..], &["--set", "train.steps=20"]].concat());
    assert!(!said.contains("in the recipe now"), "{said}");
    assert!(steps().contains("\"steps\": 20"));

    // Where the power comes from is no matter of training.
    let said = told(at, &[&resume[..], &["--set", "cost.grid=50"]].concat());
    assert!(steps().contains("\"grid\": 50.0") && !said.contains("cost.grid is"), "{said}");

    edit(&recipe, "[train]", "[scale.s]\nas = 'coded'\n[train]");
    let scaled = ["pretrain", "numbers.toml", "--scale", "s"];
    let error = fails(at, &scaled, 2);
    assert!(error.contains("numbers.toml") && error.contains("a scale cannot choose"), "{error}");

    succeeds(at, &small("pretrain", "s", &[]));
    let mut other = small("pretrain", "s", &["--resume"]);
    let scale = other.iter().position(|word| *word == "demo").expect("a scale");
    other[scale] = "demo-L";
    let error = fails(at, &other, 2);
    assert!(error.contains("the scale is demo-L in the recipe now and demo in the run"), "{error}");
    succeeds(at, &small("pretrain", "s", &["--resume"]));
}

#[test]
fn models_of_another_recipe_or_other_data_join_no_family() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let recipe = at.join("mine.toml");
    std::fs::write(&recipe, "extends = \"galaxy-grz\"\n[train]\nweight_decay = 0.1\n")
        .expect("writable");
    let scale = |scales: &str, more: &[&str]| -> Vec<String> {
        let begin = ["scale", "./mine.toml", "--scales", scales, "--out", "f", "--json"];
        begin
            .iter()
            .chain(&["--data", "c"])
            .chain(&SMALL[2..])
            .chain(more)
            .map(|&word| word.to_owned())
            .collect()
    };
    let words = |all: &[String]| all.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    let run = |all: Vec<String>| {
        let text = words(&all);
        succeeds(at, &text.lines().collect::<Vec<_>>())
    };
    let refused = |all: Vec<String>, code: i32| {
        let text = words(&all);
        fails(at, &text.lines().collect::<Vec<_>>(), code)
    };
    succeeds(at, &small("convert", "c", &[]));
    run(scale("demo-S", &[]));
    edit(&recipe, "weight_decay = 0.1", "weight_decay = 0.2");
    let error = refused(scale("demo-S,demo-M", &["--resume"]), 2);
    assert!(error.contains("no longer what demo-S was begun by: train.weight_decay"), "{error}");
    assert!(!at.join("f/demo-M").exists());
    // Where none begins anew, a person is told.
    let said = told(at, &["scale", "./mine.toml", "--scales", "demo-S", "--resume", "--out", "f"]);
    assert!(said.contains("the family goes on as it was begun"), "{said}");

    edit(&recipe, "weight_decay = 0.2", "weight_decay = 0.1");
    std::fs::rename(at.join("c"), at.join("first")).expect("moved");
    succeeds(at, &small("convert", "c", &["--set", "source.seed=2"]));
    let error = refused(scale("demo-S,demo-M", &["--resume"]), 1);
    assert!(error.contains("f/demo-S was started on other"), "{error}");
    std::fs::remove_dir_all(at.join("c")).expect("there");
    std::fs::rename(at.join("first"), at.join("c")).expect("moved");
    let family: Value =
        serde_json::from_str(&run(scale("demo-S,demo-M", &["--resume"]))).expect("JSON");
    assert!(family["members"][1]["trained"].is_object(), "{family}");
}
