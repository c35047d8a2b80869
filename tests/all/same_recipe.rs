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
    let scale = other.iter().position(|word| *word == "demo-S").expect("a scale");
    other[scale] = "demo-L";
    let error = fails(at, &other, 2);
    assert!(
        error.contains("the scale is demo-L in the recipe now and demo-S in the run"),
        "{error}"
    );
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

/// What a recipe says itself stands over the scales of the recipe that it extends, and its own scales
/// over that.
#[test]
fn a_recipe_is_not_overruled_by_the_scales_it_inherits() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let write = |name: &str, text: &str| std::fs::write(at.join(name), text).expect("writable");
    let resolved = |name: &str, scale: &str| -> toml::Table {
        let text = succeeds(at, &["recipes", name, "--scale", scale, "--data", "."]);
        toml::from_str(&text).expect("a recipe")
    };
    let number = |recipe: &toml::Table, table: &str, key: &str| match &recipe[table][key] {
        toml::Value::Integer(number) => *number as f64,
        other => other.as_float().expect("a number"),
    };
    let own = "[train]\npeak_lr = 3e-4\n[model]\nwidth = 32\n[scale.5M]\nmodel.layers = 9\n\
               [scale.mine]\nextends = '1M'\ntrain.peak_lr = 7e-4\n";
    write("mine.toml", &format!("name = 'mine'\nextends = 'efigi'\n{own}"));
    for (scale, layers, peak) in
        [("small", 4.0, 3e-4), ("1M", 4.0, 3e-4), ("5M", 9.0, 3e-4), ("mine", 4.0, 7e-4)]
    {
        let recipe = resolved("mine.toml", scale);
        assert_eq!(number(&recipe, "model", "width"), 32.0, "{scale}");
        assert_eq!(number(&recipe, "model", "heads"), 8.0, "{scale}: of the scale it inherits");
        assert_eq!(number(&recipe, "model", "layers"), layers, "{scale}");
        assert_eq!(number(&recipe, "train", "peak_lr"), peak, "{scale}");
    }
    // So does a variant of its own; one that it inherits says no more than it did.
    let variant = "as = 'slow'\n[variant.slow]\ntrain.peak_lr = 1e-5\n";
    write("slow.toml", &format!("name = 'slow'\nextends = 'galaxy-grz'\n{variant}"));
    let slow = resolved("slow.toml", "1M");
    assert_eq!(number(&slow, "train", "peak_lr"), 1e-5);
    assert_eq!(number(&slow, "train", "final_lr"), 1e-4, "of the scale");
    // What extends that has its word before it, and another source keeps none of a scale's.
    let source = "[source]\nkind = 'fits'\npath = '.'\n";
    write("last.toml", &format!("name = 'last'\nextends = 'slow.toml'\n{source}"));
    let demo = succeeds(at, &["recipes", "last.toml", "--demo"]);
    assert!(demo.contains("kind = \"fits\"") && !demo.contains("objects = 6000"), "{demo}");
}

/// One command for a script that a queue starts again: it begins what is not there, goes on with what
/// is, and says which.
#[test]
fn a_script_that_is_started_again_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let mut again = small("pretrain", "r", &["--resume-if-begun"]);
    again.retain(|word| *word != "--quiet" && *word != "-q");
    let said = told(at, &again);
    assert!(said.contains("holds no run yet: it begins"), "{said}");
    let metrics = || std::fs::read_to_string(at.join("r/metrics.jsonl")).expect("there");
    let first = metrics();
    let said = told(at, &again);
    assert!(said.contains("has begun: it goes on"), "{said}");
    assert_eq!(metrics(), first, "nothing is left to do");
    // Not so where it is not said: a run is neither overwritten nor gone on with unasked.
    fails(at, &small("pretrain", "r", &[]), 2);
    fails(at, &small("pretrain", "elsewhere", &["--resume"]), 2);
    let both = astropt(at, &small("pretrain", "r", &["--resume-if-begun", "--overwrite"]));
    assert_eq!(both.status.code(), Some(2));
}
