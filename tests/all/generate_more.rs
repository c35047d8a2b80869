//! `astropt generate` on objects of several modalities: what is given, in which order, to which
//! objects, and that nothing of the truth is in what is made.

use std::path::Path;

use serde_json::Value;

use crate::program::{astropt, fails, succeeds};
use crate::recipes::npy;

const OBJECTS: usize = 40;
/// Samples of a spectrum, which fill no whole number of windows.
const SAMPLES: usize = 30;

/// What makes up an object is standardised as it is by default: each on its own.
const RECIPE: &str = r#"
name = "three"
summary = "Light curves, images, a number and spectra of made-up objects"
[source]
kind = "npz"
ids = "id"
fields = { flux = "flux", image = "image", time = "time", value = "value" }
labels = "labels.csv"
name_column = "id"
[modality.curve]
kind = "time-series"
positions = { affine = 10.0 }
max_tokens = 12
bad = "drop"
min_samples = 4
short = "absent"
[modality.image]
kind = "galaxy-image"
size = 8
patch = 4
bands = 1
[modality.number]
kind = "scalar"
columns = ["x"]
[modality.spectrum]
kind = "spectrum"
samples = 30
window = 8
[split]
validation_fraction = 0.5
test_fraction = 0.0
[model]
layers = 1
heads = 2
width = 16
tokeniser = "aim"
[train]
steps = 4
batch = 8
micro_batch = 8
peak_lr = 1e-3
final_lr = 1e-4
warmup_steps = 2
decay_steps = 4
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

pub(crate) const SHUFFLED: &str = "[stream]\norder = \"shuffled\"\n";

/// The arrays in `folder`, those of `scaled` 1024 times as large. Every third object has no
/// light curve, every second no number.
fn arrays(folder: &Path, scaled: &str) {
    arrays_of(folder, &(0..OBJECTS).collect::<Vec<_>>(), scaled);
}

/// The same of the objects `ids`.
pub(crate) fn arrays_of(folder: &Path, ids: &[usize], scaled: &str) {
    let at = folder.join("arrays");
    std::fs::create_dir_all(&at).expect("writable");
    let put = |name: &str, axes: &str, numbers: Vec<f32>| {
        let shape = format!("{}{axes}", ids.len());
        let bytes = npy("<f4", &shape, numbers.into_iter().map(f32::to_le_bytes));
        std::fs::write(at.join(format!("{name}.npy")), bytes).expect("writable");
    };
    let noise = |object: usize, k: usize| ((object * 131 + k * 37) % 101) as f32 / 50.0 - 0.9;
    let made = |name: &str, n: usize, level: f32| -> Vec<f32> {
        let factor = if name == scaled { 1024.0 } else { 1.0 };
        let number = |(object, k)| factor * (level + noise(object, k));
        let objects = ids.iter().flat_map(|&object| (0..n).map(move |k| (object, k)));
        objects.map(number).collect()
    };
    put("flux", &format!(", {SAMPLES}"), made("flux", SAMPLES, 5.0));
    put("image", ", 8, 8", made("image", 64, 2.0));
    put("time", ", 10", (0..ids.len() * 10).map(|k| (k % 10) as f32 * 3.0).collect());
    let mut curves = made("value", 10, 18.0);
    curves.chunks_mut(10).step_by(3).for_each(|curve| curve.fill(f32::NAN));
    // With a sample less, who has a number has as many tokens as who has none.
    curves.chunks_mut(10).skip(1).step_by(2).for_each(|curve| curve[9] = f32::NAN);
    put("value", ", 10", curves);
    let bytes = ids.iter().map(|&id| (id as i32).to_le_bytes());
    let bytes = npy("<i4", &ids.len().to_string(), bytes);
    std::fs::write(at.join("id.npy"), bytes).expect("writable");
    let number = |k: usize| if k.is_multiple_of(2) { String::new() } else { format!("0.{k}") };
    let lines: String = ids.iter().map(|&k| format!("{k},{}\n", number(k))).collect();
    std::fs::write(folder.join("labels.csv"), format!("id,x\n{lines}")).expect("writable");
}

/// A run `r` of the recipe with `more` in it, on the data in `d`.
pub(crate) fn trained(at: &Path, more: &str) {
    arrays(&at.join("d"), "");
    std::fs::write(at.join("three.toml"), format!("{RECIPE}{more}")).expect("writable");
    succeeds(at, &["pretrain", "three.toml", "--data", "d/arrays", "--out", "r", "--quiet"]);
}

/// What a call says of each object.
pub(crate) fn lines(at: &Path, arguments: &[&str]) -> Vec<Value> {
    let call = [&["generate", "r", "--json"], arguments].concat();
    let text = succeeds(at, &call);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn given(line: &Value) -> Vec<&str> {
    let given = line["given"].as_array().expect("a list");
    given.iter().filter_map(Value::as_str).collect()
}

#[test]
fn nothing_of_the_truth_is_in_what_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    trained(at, SHUFFLED);
    for (made, field, file) in
        [("spectrum", "flux", "table"), ("image", "image", "array"), ("curve", "value", "table")]
    {
        arrays(&at.join(made), field);
        let bytes = |data: &str, out: &str| -> Vec<Vec<u8>> {
            let lines =
                lines(at, &["--make", made, "--objects", "3", "--data", data, "--out", out]);
            assert_eq!(lines.len(), 3);
            let path = |line: &Value| at.join(line[file].as_str().expect("a file"));
            lines.iter().map(|line| std::fs::read(path(line)).expect("there")).collect()
        };
        let own = bytes("d/arrays", &format!("{made}-1"));
        let scaled = bytes(&format!("{made}/arrays"), &format!("{made}-1024"));
        assert!(own == scaled, "{made} knows how bright the object is");
    }
    // As many samples as the object has, not as its windows.
    let line = &lines(at, &["--make", "spectrum", "--objects", "1"])[0];
    let table = std::fs::read_to_string(at.join(line["table"].as_str().expect("a table")));
    assert_eq!(table.expect("there").lines().count(), 1 + SAMPLES);
}

#[test]
fn a_listed_order_is_kept_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    trained(at, "[stream]\norder = [\"spectrum\", \"image\", \"number\", \"curve\"]\n");
    let error = fails(at, &["generate", "r", "--make", "spectrum", "--given", "image"], 2);
    for word in ["image stands after spectrum", "give none", "\"shuffled\""] {
        assert!(error.contains(word), "{error}");
    }
    let error = fails(at, &["generate", "r", "--make", "image", "--given", "curve"], 2);
    assert!(error.contains("what can be given is spectrum"), "{error}");
    // By default what comes before; of the first its own beginning.
    for line in lines(at, &["--make", "image"]) {
        assert_eq!((given(&line), &line["prompt"]), (vec!["spectrum"], &Value::from(0)));
    }
    for line in lines(at, &["--make", "spectrum"]) {
        assert_eq!((given(&line), &line["prompt"]), (vec![], &Value::from(2)));
    }
    for line in lines(at, &["--make", "image", "--given", "none", "--prompt", "1"]) {
        assert_eq!((given(&line), &line["prompt"]), (vec![], &Value::from(1)));
    }
    let call = ["generate", "r", "--make", "number", "--given", "spectrum"];
    let said = String::from_utf8_lossy(&astropt(at, &call).stderr).into_owned();
    assert!(said.contains("image is not given"), "{said}");
}

#[test]
fn what_an_object_lacks_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    trained(at, SHUFFLED);
    let numbers = lines(at, &["--make", "number", "--objects", "12"]);
    assert_eq!(numbers.len(), 12);
    for line in &numbers {
        let id: usize = line["id"].as_str().and_then(|id| id.parse().ok()).expect("a number");
        assert_eq!(line["error"].is_null(), id.is_multiple_of(2), "{line}");
    }
    // A light curve is measured when it is: nothing but another object says when that may be.
    let call = ["generate", "r", "--make", "curve", "--objects", "10", "--json"];
    let output = astropt(at, &call);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("passed over") && said.contains("it has no curve"), "{said}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let ids: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|line| line["id"].as_str().expect("an id").to_owned())
        .collect();
    assert!(ids.len() >= 5 && ids.iter().all(|id| id.parse::<usize>().expect("whole") % 3 != 0));
    let lacking = ["generate", "r", "--make", "curve", "--object", "3"];
    assert!(fails(at, &lacking, 1).contains("--like ID"));
    let like = lines(at, &["--make", "curve", "--object", "3", "--like", "4"]);
    assert_eq!((&like[0]["tokens"], &like[0]["error"]), (&Value::from(10), &Value::Null));
    let error = fails(at, &[&lacking[..], &["--like", "6"]].concat(), 2);
    assert!(error.contains("--like 6: it has no curve"), "{error}");
    let error = fails(at, &[&lacking[..], &["--like", "4", "--prompt", "2"]].concat(), 1);
    assert!(error.contains("first tokens could be given"), "{error}");
    let error = fails(at, &["generate", "r", "--make", "curve", "--temperature", "1"], 2);
    assert!(error.contains("use --noise"), "{error}");
}

#[test]
fn objects_of_different_layouts_are_read_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    trained(at, "[stream]\norder = \"shuffled\"\ndelimiters = \"begin-end\"\n");
    let spectra = lines(at, &["--make", "spectrum", "--objects", "15"]);
    assert_eq!(spectra.len(), 15);
    let layouts: std::collections::BTreeSet<usize> =
        spectra.iter().map(|line| given(line).len()).collect();
    assert!(layouts.len() > 1, "all have as many spans: {layouts:?}");
}

/// That tokens are those which training would predict is for the suite of backends to see.
#[test]
fn masked_and_prefix_runs_are_read_as_they_were_trained() {
    for kind in ["masked", "prefix"] {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        trained(at, &format!("[objective]\nkind = \"{kind}\"\n"));
        let spectra = lines(at, &["--make", "spectrum", "--prompt", "1", "--objects", "2"]);
        assert_eq!(spectra.len(), 2);
        assert!(spectra.iter().all(|line| line["error"].as_f64().is_some_and(|e| e > 0.0)));
        let call = ["generate", "r", "--make", "image", "--given", "spectrum"];
        if kind == "masked" {
            // What is hidden is read from both sides.
            succeeds(at, &call);
            let ask = |given: &str| {
                let call = ["generate", "r", "--make", "spectrum", "--given", given];
                let ran = astropt(at, &call);
                assert!(ran.status.success());
                String::from_utf8_lossy(&ran.stderr)
                    .contains("of an object's tokens are to be made")
            };
            assert!(ask("number") && !ask("image"));
        } else {
            assert!(fails(at, &call, 2).contains("spectrum stands after image"));
        }
    }
}
