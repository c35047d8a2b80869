//! Several scales of one recipe: `astropt scale`, and `astropt run` of a recipe with a family.

use std::path::Path;

use crate::program::{astropt, fails, succeeds, unlist};
use serde_json::Value;

use crate::run::SMALL;

/// Three small models; each is a run of six steps.
fn scale<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["scale", "galaxy-grz", "--scales", "demo-S,demo-M,demo-L"];
    arguments.extend(["--out", "f", "--json"]);
    arguments.extend(&SMALL[2..]); // without its own --scale
    arguments.extend(more);
    arguments
}

#[test]
fn a_family_is_trained_once_and_gone_on_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = succeeds(folder.path(), &scale(&[]));
    let family: Value = serde_json::from_str(&first).expect("JSON");
    let members = family["members"].as_array().expect("members");
    assert_eq!(members.len(), 3);
    let losses: Vec<f64> =
        members.iter().map(|m| m["trained"]["loss"].as_f64().expect("a loss")).collect();
    assert!(losses.iter().all(|loss| (0.1..1.0).contains(loss)), "{losses:?}");
    assert!(family["compute"]["law"]["b"].as_f64().is_some(), "three models have a law");
    let foretold = |k: usize| members[k]["predicted"]["loss"]["value"].as_f64();
    assert!(foretold(1).is_none() && foretold(2).is_some(), "two models foretell the third");
    let trends = family["trends"].as_array().expect("trends");
    assert!(trends.iter().any(|trend| trend["gains"].as_array().is_some_and(|g| g.len() == 3)));

    for figure in ["order", "loss", "maps", "gains"] {
        for ending in ["svg", "png"] {
            let path = folder.path().join(format!("f/figures/{figure}.{ending}"));
            assert!(path.exists(), "{} is missing", path.display());
        }
    }
    let report = std::fs::read_to_string(folder.path().join("f/report.html")).expect("a report");
    for text in ["data:image/svg+xml", "D1 Correlation", "Does telescope matter", "by k-NN"] {
        assert!(report.contains(text), "{text} is not in the report");
    }

    // Half a family goes on where it was: what is trained stays as it is, to the byte.
    let model = |scale: &str| {
        let last = folder.path().join("f").join(scale).join("checkpoints/step-000006");
        std::fs::read(last.join("model.safetensors")).expect("trained")
    };
    let (small, large) = (model("demo-S"), model("demo-L"));
    std::fs::remove_dir_all(folder.path().join("f/demo-L")).expect("there");
    let error = fails(folder.path(), &scale(&[]), 2);
    assert!(error.contains("--resume") && error.contains("--overwrite"), "{error}");
    let resumed = succeeds(folder.path(), &scale(&["--resume"]));
    assert_eq!((small, large), (model("demo-S"), model("demo-L")));
    let resumed: Value = serde_json::from_str(&resumed).expect("JSON");
    assert_eq!(resumed["members"][2]["trained"]["loss"], family["members"][2]["trained"]["loss"]);
    let error = fails(folder.path(), &["run", "--resume", "--out", "f"], 2);
    assert!(error.contains("family"), "{error}");
    scales_past_saturation_are_left_out(folder.path());
}

/// Of the family that is trained in `at`/f, with other losses: as if the second model had reached
/// what the third did.
fn scales_past_saturation_are_left_out(at: &Path) {
    for (scale, loss) in [("demo-S", 0.3), ("demo-M", 0.2502), ("demo-L", 0.25)] {
        say_loss(&at.join("f").join(scale), loss);
    }
    let mut arguments = scale(&["--resume", "--stop-at-saturation"]);
    arguments[3] = "demo-S,demo-M,demo-L,demo";
    let family: Value = serde_json::from_str(&succeeds(at, &arguments)).expect("JSON");
    assert!(family["members"][3]["trained"].is_null(), "{family}");
    let turn = family["compute"]["saturation"]["value"].as_f64().expect("it is saturated");
    assert!(family["members"][1]["trained"]["flops"].as_f64() > Some(0.1 * turn), "{turn:e}");
    assert!(!at.join("f/demo").exists());
}

/// Writes `loss` into what a run's files say of its last evaluation.
fn say_loss(run: &Path, loss: f64) {
    // Without it nobody sees that the files are not what was written.
    unlist(run);
    let path = run.join("metrics.jsonl");
    let text = std::fs::read_to_string(&path).expect("metrics");
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let last = lines.iter_mut().rev().find(|line| line["event"] == "validation");
    last.expect("an evaluation")["loss"] = loss.into();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, text).expect("writable");
    let path = run.join("validation.json");
    let text = std::fs::read_to_string(&path).expect("losses by micro-batch");
    let mut losses: Value = serde_json::from_str(&text).expect("JSON");
    for batch in losses["batches"].as_array_mut().expect("micro-batches") {
        batch[0] = loss.into();
    }
    std::fs::write(&path, losses.to_string()).expect("writable");
}

#[test]
fn the_papers_family_is_forecast_without_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = succeeds(folder.path(), &["run", "galaxy-grz", "--plan", "--json"]);
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let models = json["models"].as_array().expect("models");
    assert_eq!(models.len(), 8);
    // PAPER: log10 exaFLOP of the smallest and of the largest, 6 N D.
    for (model, log) in [(&models[0], -1.20), (&models[7], 2.09)] {
        let flops = model["flops"].as_f64().expect("FLOP");
        assert!(((flops / 1e18).log10() - log).abs() < 0.005, "{flops:e}");
    }
    let half = ["run", "galaxy-grz", "--plan", "--json", "--set", "cost.devices=2"];
    let two: Value = serde_json::from_str(&succeeds(folder.path(), &half)).expect("JSON");
    let hours = |json: &Value| json["models"][7]["hours"].as_f64().expect("hours");
    assert!((hours(&json) / hours(&two) - 2.0).abs() < 1e-9);
    let text = succeeds(folder.path(), &["run", "galaxy-grz", "--plan"]);
    assert!(text.contains("published: 120 kg CO2"), "{text}");
    let error = fails(folder.path(), &["run", "galaxy-grz", "--plan", "--set", "cost.grids=1"], 2);
    assert!(error.contains("did you mean \"grid\""), "{error}");
}

#[test]
fn a_recipe_is_read_as_coded_or_as_published() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = |more: &[&str]| {
        succeeds(folder.path(), &[&["recipes", "galaxy-grz", "--scale", "1M"], more].concat())
    };
    let coded = recipe(&[]);
    assert!(coded.contains("steps = 30000") && coded.contains("protocol = \"halves\""), "{coded}");
    assert!(coded.contains("as = \"coded\"") && !coded.contains("variant"), "{coded}");
    let published = recipe(&["--set", "as=published"]);
    assert!(published.contains("orientation = \"figure-1\""), "{published}");
    assert!(published.contains("steps = 26500"), "{published}");
    let mixed = recipe(&["--set", "as=published", "--set", "train.steps=7"]);
    assert!(mixed.contains("steps = 7") && mixed.contains("validation-test"), "{mixed}");
    // What extends a recipe with variants keeps its own word.
    let efigi = succeeds(folder.path(), &["recipes", "efigi", "--set", "as=published"]);
    assert!(efigi.contains("steps = 800"), "{efigi}");
    let wrong = astropt(folder.path(), &["recipes", "galaxy-grz", "--set", "as=printed"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("coded, published"));
}

#[test]
fn a_recipe_has_the_scales_it_lists_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = |text: &str| {
        std::fs::write(folder.path().join("mine.toml"), text).expect("writable");
    };
    let error = fails(folder.path(), &["run", "efigi", "--demo"], 2);
    assert!(error.contains("no demonstration") && error.contains("1M, 5M, small"), "{error}");
    let error = fails(folder.path(), &["run", "efigi", "--scale", "89M", "--data", "."], 2);
    assert!(error.contains("no scale \"89M\""), "{error}");
    recipe("name = 'mine'\nextends = 'efigi'\nscales = ['5M']\ndefault_scale = '5M'\n");
    let text = succeeds(folder.path(), &["recipes", "mine.toml", "--data", "."]);
    assert!(text.contains("width = 256") && !text.contains("scales"), "{text}");
    let error = fails(folder.path(), &["recipes", "mine.toml", "--data", ".", "--scale", "1M"], 2);
    assert!(error.contains("it has 5M"), "{error}");
    recipe("name = 'mine'\nextends = 'efigi'\nscales = ['6M']\n");
    let error = fails(folder.path(), &["recipes", "mine.toml", "--data", "."], 2);
    assert!(error.contains("mine.toml:3:1") && error.contains("\"6M\""), "{error}");
}
