//! What `astropt generate` writes where, and what it says of it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::generate_more::{SHUFFLED, lines, trained};
use crate::program::{astropt, fails};

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
