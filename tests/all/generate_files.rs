//! What `astropt generate` writes where, and what it says of it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use astropt_core::data::unit_hash;

use crate::generate_more::{SHUFFLED, arrays_of, lines, trained};
use crate::program::{astropt, fails, succeeds};

/// Names of the files that `folder` holds, but for its lock.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("there").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != ".lock").collect()
}

#[test]
fn what_is_made_of_other_modalities_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    trained(at, SHUFFLED);
    let out = at.join("r/generated");
    lines(at, &["--make", "spectrum", "--objects", "3"]);
    let spectra = names(&out);
    assert_eq!(spectra.len(), 1 + 3 * 2, "a list, and of each a table and a picture: {spectra:?}");
    lines(at, &["--make", "number", "--objects", "3"]);
    assert!(spectra.is_subset(&names(&out)), "{:?}", names(&out));
    lines(at, &["--make", "image", "--objects", "2"]);
    let all = names(&out);
    assert!(all.contains("image.npy") && all.contains("image.ids.txt"), "{all:?}");

    let call = ["generate", "r", "--make", "spectrum", "--objects", "1"];
    let ran = astropt(at, &call);
    assert!(ran.status.success());
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(said.contains("the 6 files of spectrum"), "{said}");
    let left = names(&out);
    let others = |names: &BTreeSet<String>| {
        let others = names.iter().filter(|name| !name.starts_with("spectrum"));
        others.cloned().collect::<Vec<_>>()
    };
    assert_eq!(others(&left), others(&all));
    assert_eq!(left.len() - others(&left).len(), 2, "{left:?}");
    let list = std::fs::read(out.join("generated.json")).expect("a list");
    let list: Vec<Value> = serde_json::from_slice(&list).expect("JSON");
    let made: Vec<&str> = list.iter().filter_map(|one| one["modality"].as_str()).collect();
    let mut sorted = made.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["image", "image", "number", "number", "number", "spectrum"]);
    for one in &list {
        assert_eq!((&one["run"], &one["checkpoint"]), (&"r".into(), &"step 4".into()), "{one}");
        assert!(one["model"].as_str().is_some_and(|digest| !digest.is_empty()), "{one}");
        for kind in ["picture", "table", "array"] {
            let path = one[kind].as_str();
            assert!(path.is_none_or(|path| at.join(path).exists()), "{one}");
        }
    }
}

#[test]
fn what_cannot_be_made_or_is_not_held_out_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    trained(at, SHUFFLED);
    let call = ["generate", "r", "--make", "number", "--given", "none"];
    let error = fails(at, &call, 2);
    assert!(error.contains("cannot be made from nothing") && !error.contains("prompt"), "{error}");
    let error = fails(at, &[&call[..], &["--prompt", "1"]].concat(), 2);
    assert!(error.contains("after a prompt of 1"), "{error}");
    // Without wavelengths a spectrum's table says which sample is which.
    let line = &lines(at, &["--make", "spectrum", "--objects", "1"])[0];
    let table = std::fs::read_to_string(at.join(line["table"].as_str().expect("a table")));
    let table = table.expect("there");
    assert!(table.starts_with("flux,sample\n"), "{table}");
    assert!(table.trim_end().ends_with(",29"), "{table}");

    let call = ["pretrain", "three.toml", "--data", "d/arrays", "--out", "all", "--quiet"];
    let set = ["--set", "split.validation_fraction=0.0"];
    assert!(astropt(at, &[&call[..], &set].concat()).status.success());
    let ran = astropt(at, &["generate", "all", "--make", "image", "--objects", "1"]);
    assert!(ran.status.success());
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(said.contains("the validation split is empty"), "{said}");
}

/// Which split a new object falls in is chance: where nothing trains, none is refused for it.
#[test]
fn a_new_object_of_any_split_is_generated_and_embedded() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    trained(at, SHUFFLED);
    let call = ["pretrain", "three.toml", "--data", "d/arrays", "--out", "t", "--quiet"];
    let set = ["--set", "split.validation_fraction=0.3", "--set", "split.test_fraction=0.3"];
    succeeds(at, &[&call[..], &set].concat());
    for (name, share, said) in [
        ("test", 0.0..0.3, "objects of the test split"),
        ("validation", 0.3..0.6, ""),
        ("train", 0.6..1.0, "objects of the training split"),
    ] {
        let falls = |id: &usize| share.contains(&unit_hash(&id.to_string(), 0));
        let id = (1001..2000).step_by(2).find(falls).expect("one of many");
        arrays_of(&at.join(name), &[id], "");
        let (data, out) = (format!("{name}/arrays"), format!("{name}-made"));
        let call = ["generate", "t", "--make", "image", "--data", &data, "--out", &out];
        let ran = astropt(at, &call);
        let told = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success() && told.contains(said), "{name}: {told}");
        assert_eq!(told.contains("the validation split is empty"), name != "validation", "{told}");
        let ids = std::fs::read_to_string(at.join(&out).join("image.ids.txt")).expect("there");
        assert_eq!(ids.trim(), id.to_string());
        let out = format!("{name}-embedded");
        let text = succeeds(at, &["embed", "t", "--data", &data, "--out", &out, "--json"]);
        let result: Value = serde_json::from_str(text.trim()).expect("JSON");
        assert_eq!(result["objects"], 1);
        if name != "train" {
            let call = ["pretrain", "three.toml", "--data", &data, "--out", "none"];
            let error = fails(at, &[&call[..], &set].concat(), 1);
            assert!(error.contains("left for training"), "{error}");
        }
    }
}

#[test]
fn times_that_are_known_modulo_a_period_say_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    trained(at, SHUFFLED);
    let recipe = std::fs::read_to_string(at.join("three.toml")).expect("there");
    let periodic = recipe.replace("{ affine = 10.0 }", "{ periodic = [1.0, 10.0] }");
    assert!(periodic != recipe);
    std::fs::write(at.join("periodic.toml"), periodic).expect("writable");
    succeeds(at, &["pretrain", "periodic.toml", "--data", "d/arrays", "--out", "p", "--quiet"]);
    let call = ["generate", "p", "--make", "curve", "--objects", "3", "--quiet", "--json"];
    let ran = astropt(at, &call);
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{told}");
    assert_eq!(told.matches("counted from 0, modulo 10").count(), 1, "{told}");
    let text = String::from_utf8(ran.stdout).expect("UTF-8");
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["notes"]["time"], "counted from 0, modulo 10");
        let table = std::fs::read_to_string(at.join(line["table"].as_str().expect("a table")));
        let table = table.expect("there");
        assert!(table.starts_with("\"time, counted from 0, modulo 10\","), "{table}");
    }
}
