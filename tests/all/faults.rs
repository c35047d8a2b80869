//! Steps whose numbers are wrong: a catalogue with a number that no loss can hold.

use std::path::Path;

use crate::program::{astropt, fails, succeeds};
use crate::run::small;

const OBJECTS: usize = 70;
/// Its numbers are finite, and 100 times them are not.
const BAD: &str = "o033";

const RECIPE: &str = r#"
name = "numbers"
summary = "Two numbers from two others"
[source]
kind = "table"
path = "numbers.csv"
object = "id"
layout = "wide"
[modality.a]
kind = "scalar"
columns = ["a", "b"]
[modality.b]
kind = "scalar"
columns = ["c", "d"]
loss_weight = 100.0
[split]
column = "split"
[model]
layers = 1
heads = 2
width = 16
tokeniser = "aim"
[train]
steps = 16
batch = 8
micro_batch = 4
peak_lr = 1e-3
final_lr = 1e-4
warmup_steps = 2
decay_steps = 16
weight_decay = 0.1
clip = 1.0
eval_every = 4
eval_batches = 0
checkpoints = { every = 4 }
[embed]
layer = "last"
tokens = "all"
pooling = "mean"
"#;

/// The recipe and its table; an epoch is eight steps, so the bad object comes twice in a run.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    table(folder.path());
    folder
}

pub(crate) fn table(folder: &Path) {
    let mut table = String::from("id,split,a,b,c,d\n");
    for k in 0..OBJECTS {
        let x = (k as f64 * 0.7).sin();
        let split = if k % 12 == 5 { "val" } else { "train" };
        let id = format!("o{k:03}");
        let c = if id == BAD { "3.3e38".into() } else { format!("{}", x * x) };
        table += &format!("{id},{split},{x},{},{c},{c}\n", (k as f64).cos());
    }
    std::fs::write(folder.join("numbers.csv"), table).expect("writable");
    std::fs::write(folder.join("numbers.toml"), RECIPE).expect("writable");
}

pub(crate) fn pretrain<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["pretrain", "numbers.toml", "--quiet", "--out", out];
    more.iter().for_each(|set| arguments.extend(["--set", set]));
    arguments
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("writable");
    for entry in std::fs::read_dir(from).expect("readable").flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(std::fs::copy(&path, &to).expect("writable")),
        }
    }
}

fn faults(run: &Path) -> Vec<serde_json::Value> {
    let text = String::from_utf8(read(&run.join("faults.jsonl"))).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// All that two runs of one plan must have in common.
pub(crate) fn state(run: &Path) -> Vec<Vec<u8>> {
    let last = run.join("checkpoints/step-000016");
    let files = ["model.safetensors", "optimizer.safetensors", "state.json"].map(|f| last.join(f));
    let beside = ["metrics.jsonl", "faults.jsonl"].map(|name| run.join(name));
    files.iter().chain(&beside).map(|path| read(path)).collect()
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_at_the_step_with_the_objects_named() {
    let folder = folder();
    let error = fails(folder.path(), &pretrain("r", &[]), 1);
    assert!(error.contains(BAD) && error.contains("inf"), "{error}");
    assert!(error.contains("train.faults.on=skip"), "{error}");
    let run = folder.path().join("r");
    let fault = &faults(&run)[0];
    assert_eq!(fault["done"], "stopped");
    assert_eq!(fault["ids"].as_array().map(Vec::len), Some(4), "a micro-batch: {fault}");
    let step = fault["step"].as_u64().expect("a step");
    let saved = run.join(format!("checkpoints/step-{:06}/state.json", step - 1));
    assert!(saved.exists(), "the model before the step");
    // It goes on as its error says, and ends as one that skipped from the beginning.
    let resume = ["pretrain", "-q", "--resume", "--out", "r", "--set", "train.faults.on=skip"];
    succeeds(folder.path(), &resume);
    succeeds(folder.path(), &pretrain("skipped", &["train.faults.on=skip"]));
    assert!(state(&run) == state(&folder.path().join("skipped")));
}

/// A skipped step leaves no trace in the model but that it is not there; rolling back and passing
/// it over gives the same bytes; and each goes on after an interruption as if there was none.
#[test]
fn skipping_and_rolling_back_are_exact_and_resume_exactly() {
    let folder = folder();
    let roll_back = "train.faults={on='roll-back'}";
    let wide = "train.faults={on='roll-back',passes=2}";
    let skip = "train.faults={on='skip'}";
    let jumpy = "train.faults={on='skip',norm_above=1.01,window=3,limit=100}";
    for (name, policy) in [("skip", skip), ("back", roll_back), ("wide", wide), ("jumpy", jumpy)] {
        succeeds(folder.path(), &pretrain(name, &[policy]));
        let whole = folder.path().join(name);
        let listed = faults(&whole);
        assert!(listed.len() >= 2, "the bad object comes twice: {listed:?}");
        let named = |fault: &serde_json::Value| fault["ids"].to_string().contains(BAD);
        assert!(listed.iter().filter(|fault| named(fault)).count() >= 2, "{listed:?}");
        for cut in ["000004", "000008", "000012"] {
            // All that a run leaves behind that is killed before its next checkpoint.
            let out = format!("{name}-{cut}");
            let run = folder.path().join(&out);
            copy(&whole, &run);
            for saved in std::fs::read_dir(run.join("checkpoints")).expect("there").flatten() {
                let step = saved.file_name().to_string_lossy().replace("step-", "");
                if step.as_str() > cut && step != "best" {
                    std::fs::remove_dir_all(saved.path()).expect("there");
                }
            }
            succeeds(folder.path(), &["pretrain", "-q", "--resume", "--out", &out]);
            assert!(state(&run) == state(&whole), "{out}");
        }
    }
    let model = |name: &str| {
        read(&folder.path().join(name).join("checkpoints/step-000016/optimizer.safetensors"))
    };
    assert!(model("skip") == model("back"), "the same steps are left out");
    assert!(model("back") != model("wide"), "and here one more before each");
    assert!(model("skip") != model("jumpy"), "and here those of large gradients");
    let jumpy = faults(&folder.path().join("jumpy"));
    assert!(jumpy.iter().any(|fault| fault["what"].to_string().contains("above the limit")));
    // What was skipped is no step of the optimiser, and no line of the metrics.
    let metrics =
        String::from_utf8(read(&folder.path().join("skip/metrics.jsonl"))).expect("UTF-8");
    let steps = metrics.lines().filter(|line| line.contains("\"train\"")).count();
    assert_eq!(steps, 16 - faults(&folder.path().join("skip")).len());
    assert!(!metrics.contains("null"), "{metrics}");
}

#[test]
fn too_many_faults_stop_the_run_all_the_same() {
    let folder = folder();
    for on in ["skip", "roll-back"] {
        let policy = format!("train.faults={{on='{on}',limit=1}}");
        let error = fails(folder.path(), &pretrain(on, &[&policy]), 1);
        assert!(
            error.contains("fault number 2") && error.contains("train.faults.limit"),
            "{error}"
        );
        assert_eq!(faults(&folder.path().join(on)).len(), 2);
    }
    for key in ["train.faults.norm_above", "train.faults.loss_above"] {
        let error = fails(folder.path(), &pretrain("r", &[&format!("{key}=0.5")]), 2);
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn a_validation_loss_that_is_not_finite_ends_the_run_before_its_first_step() {
    let folder = folder();
    let path = folder.path().join("numbers.csv");
    let table = String::from_utf8(read(&path)).expect("UTF-8");
    let moved = table.replace(&format!("{BAD},train"), &format!("{BAD},val"));
    std::fs::write(&path, moved).expect("writable");
    let error = fails(folder.path(), &pretrain("r", &["train.faults.on=skip"]), 1);
    assert!(error.contains("validation loss") && error.contains(BAD), "{error}");
}

#[test]
fn a_modality_that_says_nothing_is_told_of() {
    let folder = folder();
    let path = folder.path().join("numbers.csv");
    let table = String::from_utf8(read(&path)).expect("UTF-8");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        let constant = if cells[0] == "id" { "a,b" } else { "7,7" };
        format!("{},{},{constant},{},{}\n", cells[0], cells[1], cells[4], cells[5])
    };
    let table: String = table.lines().map(row).collect();
    std::fs::write(&path, table.replace("3.3e38", "0.5")).expect("writable");
    let mut arguments = pretrain("r", &[]);
    arguments.retain(|&argument| argument != "--quiet");
    let output = astropt(folder.path(), &arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("tokens of a that"), "{said}");
    let listed = faults(&folder.path().join("r"));
    assert_eq!(listed.len(), 1, "once: {listed:?}");
    assert_eq!((&listed[0]["done"], &listed[0]["modality"]), (&"reported".into(), &"a".into()));
}

/// A black picture among others is rejected, or used where the recipe says so.
#[test]
fn a_blank_picture_is_rejected_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = crate::bad_input::pictures(folder.path(), 30);
    image::RgbImage::new(32, 32).save(data.join("g004.png")).expect("writable");
    let steps = ["train.steps=12", "train.eval_batches=0", "train.max_rejected=0.2"];
    let steps: Vec<&str> = steps.iter().flat_map(|set| ["--set", set]).collect();
    succeeds(folder.path(), &crate::bad_input::on_pictures("data", &steps));
    let rejected =
        || String::from_utf8(read(&folder.path().join("r/rejected.csv"))).expect("UTF-8");
    assert!(
        rejected().contains("g004") && rejected().contains("train.faults.dead"),
        "{}",
        rejected()
    );
    let keep = ["--overwrite", "--set", "train.faults.dead=keep"];
    succeeds(folder.path(), &crate::bad_input::on_pictures("data", &[&steps[..], &keep].concat()));
    assert!(!rejected().contains("g004"), "{}", rejected());
}

/// So is one of which a band is missing, from files and from converted data of either precision.
#[test]
fn a_picture_without_a_band_is_rejected_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let data = crate::bad_input::pictures(at, 30);
    for (name, bands) in [("g004", [0, 1, 1]), ("g009", [0, 1, 0])] {
        let path = data.join(format!("{name}.png"));
        let mut picture = image::open(&path).expect("a picture").to_rgb8();
        picture.pixels_mut().for_each(|pixel| (0..3).for_each(|k| pixel.0[k] *= bands[k]));
        picture.save(&path).expect("writable");
    }
    let sets = ["train.steps=12", "train.eval_batches=0", "train.max_rejected=0.2"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    for (out, dtype) in [("c", "f32"), ("h", "f16")] {
        let mut convert = crate::bad_input::on_pictures("data", &sets);
        convert[0] = "convert";
        let place = convert.iter().position(|&word| word == "--out").expect("--out");
        convert[place + 1] = out;
        succeeds(at, &[&convert[..], &["--dtype", dtype]].concat());
    }
    let mut arguments = [&sets[..], &["--overwrite"]].concat();
    for from in ["data", "c", "h"] {
        let output = astropt(at, &crate::bad_input::on_pictures(from, &arguments));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let rejected = String::from_utf8(read(&at.join("r/rejected.csv"))).expect("UTF-8");
        assert_eq!(rejected.lines().count(), 3, "{from}: {rejected}");
        assert!(rejected.contains("g004") && rejected.contains("g009"), "{from}: {rejected}");
        assert!(rejected.contains("band 0 of 0 to 2"), "{from}: {rejected}");
        // And told of when the first is met, and at the end.
        assert!(said.contains("the first object that cannot be used"), "{from}: {said}");
        assert!(said.contains("2 of 30 objects could not be used"), "{from}: {said}");
    }
    arguments.extend(["--set", "train.faults.dead=keep"]);
    succeeds(at, &crate::bad_input::on_pictures("data", &arguments));
    let rejected = String::from_utf8(read(&at.join("r/rejected.csv"))).expect("UTF-8");
    assert_eq!(rejected.lines().count(), 1, "{rejected}");
}

/// What was left out is not counted as seen.
#[test]
fn a_report_tells_of_steps_that_were_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let skip = ["--set", "train.faults.on=skip", "--set", "train.faults.norm_above=1.0001"];
    let more = ["--set", "train.faults.limit=100", "--set", "train.steps=12"];
    succeeds(folder.path(), &small("run", "r", &[skip, more].concat()));
    let ledger = std::fs::read_to_string(folder.path().join("r/ledger.jsonl")).expect("there");
    let left_out = ledger.lines().filter(|line| line.contains("\"objects\":0")).count();
    assert!(left_out > 0 && left_out < 12, "{ledger}");
    let report = std::fs::read_to_string(folder.path().join("r/report.html")).expect("there");
    assert!(report.contains(&format!("{left_out} of 12 (faults.jsonl says why)")), "{left_out}");
    let seen = format!(">{}</p><p class=\"name\">objects seen", 32 * (12 - left_out));
    assert!(report.contains(&seen), "{seen}");
}
