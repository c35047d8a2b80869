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
    for set in [
        "source.size=32",
        "modality.images.size=32",
        "probe.labels=['redshift','disc','g_r']",
        "probe.nuisance=['telescope']",
    ] {
        arguments.extend(["--set", set]);
    }
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
    // Groups are many however few objects are held out; the micro-batch has all of these.
    for member in members {
        let groups = member["trained"]["batches"].as_array().expect("groups");
        assert!(groups.len() >= 20 && groups.iter().all(|group| group[1] == 1), "{member}");
    }
    assert!(members[2]["predicted"]["right"].is_boolean(), "{family}");
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
    for text in ["data:image/svg+xml", "D1 Correlation", "Does telescope matter", "minus foretold"]
    {
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
    let error = fails(folder.path(), &["pretrain", "--resume", "--out", "f"], 2);
    assert!(error.contains("astropt run --resume --out f"), "{error}");
    what_a_family_was_begun_with_counts(folder.path(), &resumed);
    a_family_is_named_by_its_folder(folder.path());
    scales_past_saturation_are_left_out(folder.path());
}

/// Of the family that is trained in `at`/f, which `family` tells of: nothing of it has to be said
/// again to go on with it.
fn what_a_family_was_begun_with_counts(at: &Path, family: &Value) {
    let go_on = |more: &[&str]| {
        let line = ["run", "--resume", "--out", "f", "--json", "--quiet"];
        serde_json::from_str::<Value>(&succeeds(at, &[&line, more].concat())).expect("JSON")
    };
    let read = |name: &str| std::fs::read(at.join("f").join(name)).expect("there");
    let told = ["demo-S/probes.json", "demo-L/embeddings.parquet", "family.json"];
    let before = told.map(read);
    assert_eq!(go_on(&[])["members"], family["members"]);
    assert!(before == told.map(read), "what is done was done again");

    // A model that has not begun yet is trained as the others were.
    std::fs::remove_dir_all(at.join("f/demo-L")).expect("there");
    let again = go_on(&[]);
    assert_eq!(again["members"][2]["trained"]["loss"], family["members"][2]["trained"]["loss"]);
    assert_eq!(again["members"][2]["recipe"], family["members"][2]["recipe"]);

    let refused = ["run", "--resume", "--out", "f", "--set", "modality.images.patch=16"];
    let error = fails(at, &refused, 2);
    assert!(error.contains("a new family") && error.contains("train.steps"), "{error}");
    let error = fails(at, &["run", "--resume", "--out", "f", "--set", "train.steps=2"], 2);
    assert!(error.contains("6 steps already"), "{error}");
    assert!(told.map(read)[0] == before[0]);

    let longer = go_on(&["--set", "train.steps=8"]);
    for (member, was) in [0, 1, 2].map(|k| (&longer["members"][k], &family["members"][k])) {
        assert_eq!((&member["steps"], &member["parameters"]), (&8.into(), &was["parameters"]));
        let ratio = |of: &Value| of["trained"]["tokens"].as_f64().expect("tokens");
        assert!((ratio(member) / ratio(was) - 8.0 / 6.0).abs() < 1e-9, "{member}");
    }
}

/// Of the family that is trained in `at`/f.
fn a_family_is_named_by_its_folder(at: &Path) {
    let path = at.join("f/report.html");
    let before = std::fs::read_to_string(&path).expect("a report");
    std::fs::remove_file(&path).expect("there");
    succeeds(at, &["report", "f", "--quiet"]);
    assert!(std::fs::read_to_string(&path).expect("a report") == before);
    let seen = succeeds(at, &["inspect", "f"]);
    assert!(seen.contains("a family of models") && seen.contains("demo-M"), "{seen}");

    // Probed otherwise, its report has the words of what was done.
    for scale in ["demo-S", "demo-M"] {
        let run = format!("f/{scale}");
        succeeds(at, &["probe", &run, "--quiet", "--set", "probe.protocol=halves"]);
    }
    succeeds(at, &["report", "f", "--quiet"]);
    let report = std::fs::read_to_string(&path).expect("a report");
    assert!(report.contains("demo-S: validation and test together, halved"), "two ways to probe");
    assert!(!report.contains("Probes against scale"), "and no gains from one to the other");
    succeeds(at, &["probe", "f/demo-L", "--quiet", "--set", "probe.protocol=halves"]);
    succeeds(at, &["report", "f", "--quiet"]);
    let report = std::fs::read_to_string(&path).expect("a report");
    assert!(report.contains("Probes against scale") && !report.contains("demo-S: validation"));
}

#[test]
fn a_family_says_what_it_will_cost_and_how_to_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let endless = ["--set", "train.steps=1000000", "--walltime", "2s"];
    let mut arguments = scale(&endless);
    arguments.retain(|argument| *argument != "--quiet");
    let output = astropt(folder.path(), &arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{said}");
    let forecast = said.split_once("forecast:").expect("a forecast").1;
    let texts = ["demo-S", "demo-M", "demo-L", "processor core", "g CO2 per kWh", "Not in the"];
    for text in texts {
        assert!(forecast.contains(text), "{text}: {said}");
    }
    assert!(forecast.contains("--resume --out f"), "{said}");
    assert!(!folder.path().join("f/demo-M").exists(), "the second model was begun");
}

#[test]
fn scales_come_once_and_in_the_order_of_their_compute() {
    let folder = tempfile::tempdir().expect("a folder");
    let named = |names| {
        let mut arguments = scale(&[]);
        arguments[3] = names;
        fails(folder.path(), &arguments, 2)
    };
    let error = named("demo-L,demo-S,demo-M");
    assert!(error.contains("--scales demo-S,demo-M,demo-L"), "{error}");
    let error = named("demo-S,demo-S");
    assert!(error.contains("demo-S twice"), "{error}");
    let error = fails(folder.path(), &["run", "galaxy-grz"], 2);
    assert!(error.contains("--data"), "{error}");
    assert!(!folder.path().join("f").exists() && !folder.path().join("runs").exists());
}

/// Of the family that is trained in `at`/f, with other losses: as if the second model had reached
/// what the third did.
fn scales_past_saturation_are_left_out(at: &Path) {
    for (scale, loss) in [("demo-S", 0.3), ("demo-M", 0.2502), ("demo-L", 0.25)] {
        say_loss(&at.join("f").join(scale), loss);
    }
    let mut arguments = scale(&["--resume", "--stop-at-saturation", "--set", "train.steps=8"]);
    arguments[3] = "demo-S,demo-M,demo-L,demo";
    // What recipe it is of stands in its record.
    arguments.remove(1);
    let family: Value = serde_json::from_str(&succeeds(at, &arguments)).expect("JSON");
    assert!(family["members"][3]["trained"].is_null(), "{family}");
    assert_eq!(family["members"][3]["unfinished"], "left out: saturated there");
    let none = ["scale", "--resume", "--out", "nowhere", "--scales", "demo-S,demo-M"];
    let error = fails(at, &none, 2);
    assert!(error.contains("nowhere holds no family") && error.contains("recipe"), "{error}");
    let turn = family["compute"]["saturation"]["value"].as_f64().expect("it is saturated");
    assert!(family["members"][1]["trained"]["flops"].as_f64() > Some(0.1 * turn), "{turn:e}");
    assert!(!at.join("f/demo").exists());

    // Where ten times as much never lowers it by what is asked for, no scale is worth it.
    for (scale, loss) in [("demo-S", 0.3), ("demo-M", 0.29), ("demo-L", 0.28)] {
        say_loss(&at.join("f").join(scale), loss);
    }
    arguments.extend(["--least-gain", "0.9"]);
    let family: Value = serde_json::from_str(&succeeds(at, &arguments)).expect("JSON");
    assert!(family["members"][3]["trained"].is_null(), "{family}");
    assert_eq!(family["compute"]["saturation"]["value"], 0.0);
    let report = std::fs::read_to_string(at.join("f/report.html")).expect("a report");
    assert!(report.contains("Saturated at every size trained"));
    // And it stays told when the report is drawn anew.
    succeeds(at, &["report", "f", "--quiet"]);
    let report = std::fs::read_to_string(at.join("f/report.html")).expect("a report");
    assert!(report.contains("demo (left out: saturated there)"));
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
    // Small numbers keep their digits.
    let text = succeeds(folder.path(), &["run", "galaxy-grz", "--demo", "--plan"]);
    let smallest = text.lines().find(|line| line.trim_start().starts_with("demo-S"));
    let cells: Vec<&str> = smallest.expect("a row").split("  ").collect();
    assert!(cells.iter().any(|cell| cell.trim().starts_with("0.00")), "{text}");
    assert!(!text.contains('<') && text.contains("Not in the forecast: the making"), "{text}");
    the_forecast_knows_precision_and_devices(folder.path(), &json);
    let error = fails(folder.path(), &["run", "galaxy-grz", "--plan", "--set", "cost.grids=1"], 2);
    assert!(error.contains("did you mean \"grid\""), "{error}");
}

/// Of the paper's family, forecast in `at` as `one` says: in f32 and on one device.
fn the_forecast_knows_precision_and_devices(at: &Path, one: &Value) {
    let plan = |more: &[&str]| {
        let output = astropt(at, &[&["run", "galaxy-grz", "--plan"], more].concat());
        assert!(output.status.success());
        let text = |of: &[u8]| String::from_utf8_lossy(of).into_owned();
        (text(&output.stdout), text(&output.stderr))
    };
    let hours = |text: &str| {
        let json: Value = serde_json::from_str(text).expect("JSON");
        json["models"][7]["hours"].as_f64().expect("hours")
    };
    let whole = one["models"][7]["hours"].as_f64().expect("hours");
    // An H100's tensor cores in bf16, and the rest of it in f32.
    let (bf16, _) = plan(&["--json", "--set", "train.precision=bf16"]);
    assert!((whole / hours(&bf16) - 989.4 / 66.9).abs() < 1e-9);
    let (words, _) = plan(&[]);
    assert!(words.contains("66.9 TFLOP/s in f32"), "{words}");
    assert!(words.contains("with --set train.precision=bf16"), "{words}");
    let (words, _) = plan(&["--set", "train.precision=bf16"]);
    assert!(words.contains("989.4 TFLOP/s in bf16") && !words.contains("with --set"), "{words}");
    // Of 320 objects in micro-batches of 8 no more than 40 devices have any.
    let (many, said) = plan(&["--json", "--set", "cost.devices=1000"]);
    assert!((whole / hours(&many) - 40.0).abs() < 1e-9);
    assert!(said.contains("of 1000 devices 960 have nothing to do"), "{said}");
    let (thirty, said) = plan(&["--json", "--set", "cost.devices=30"]);
    assert!((whole / hours(&thirty) - 20.0).abs() < 1e-9 && said.is_empty(), "{said}");
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
    assert!(published.contains("the layer before the last"), "why the last block is penultimate");
    let demo = succeeds(folder.path(), &["recipes", "galaxy-grz", "--scale", "demo-S"]);
    let beside = demo.split_once("beside = [").expect("probes beside").1.split(']').next();
    assert!(beside.is_some_and(|of| of.contains("knn") && of.contains("mlp")), "{demo}");
    let mixed = recipe(&["--set", "as=published", "--set", "train.steps=7"]);
    assert!(mixed.contains("steps = 7") && mixed.contains("validation-test"), "{mixed}");
    // What extends a recipe with variants keeps its own word.
    let efigi = succeeds(folder.path(), &["recipes", "efigi", "--set", "as=published"]);
    assert!(efigi.contains("steps = 800"), "{efigi}");
    // And says so.
    let demo = ["recipes", "galaxy-grz", "--scale", "demo-S", "--set", "as=published"];
    let output = astropt(folder.path(), &demo);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("probe.protocol, train.steps stay"), "{said}");
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

#[test]
fn a_recipe_that_extends_another_says_which_variant_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("writable");
    };
    let base = "name = 'mine'\nextends = 'galaxy-grz'\n";
    let resolved = |name: &str, more: &[&str]| {
        succeeds(folder.path(), &[&["recipes", name, "--scale", "1M"], more].concat())
    };
    write("plain.toml", base);
    write("mine.toml", &format!("{base}as = 'published'\n"));
    let set = resolved("plain.toml", &["--set", "as=published"]);
    assert!(set.contains("validation-test") && set.contains("as = \"published\""), "{set}");
    assert_eq!(resolved("mine.toml", &[]), set);
    assert_ne!(resolved("plain.toml", &[]), set);
    // The command line has the last word.
    let coded = resolved("mine.toml", &["--set", "as=coded"]);
    assert_eq!(coded, resolved("plain.toml", &[]));
    // So has what extends a recipe that extends another; its own variants stand beside.
    write("again.toml", "name = 'mine'\nextends = 'mine.toml'\nas = 'coded'\n");
    assert_eq!(resolved("again.toml", &[]), coded);
    let own = "[variant.short]\ntrain.steps = 7\n";
    write("own.toml", &format!("{base}as = 'short'\n{own}"));
    let short = resolved("own.toml", &[]);
    assert!(short.contains("steps = 7") && short.contains("\"halves\""), "{short}");
    write("other.toml", &format!("{base}as = 'published'\n{own}"));
    assert_eq!(resolved("other.toml", &[]), set);
    // What no recipe of them has is refused where it stands.
    write("wrong.toml", &format!("{base}as = 'nosuch'\n"));
    let error = fails(folder.path(), &["recipes", "wrong.toml", "--scale", "1M"], 2);
    assert!(error.contains("wrong.toml:3:1") && error.contains("\"nosuch\""), "{error}");
    assert!(error.contains("coded, published"), "{error}");
    // A resolved recipe is read again as it is.
    write("resolved.toml", &set);
    assert!(resolved_again(folder.path()).contains("as = \"published\""));
}

/// `resolved.toml` in `folder`, read once more.
fn resolved_again(folder: &std::path::Path) -> String {
    succeeds(folder, &["recipes", "resolved.toml"])
}
