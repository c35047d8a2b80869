//! `astropt new modality`: the crate it writes works as it stands.

use std::path::Path;
use std::process::Command;

use crate::program::{fails, program, succeeds, workspace};

/// Tests a crate that stands alone, in the workspace's target folder: it shares with the
/// examples what it builds.
fn cargo_test(folder: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = program().ancestors().nth(2).expect("the program is in target/release");
    let output = Command::new(cargo)
        .args(["test", "--release", "--offline"])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("cargo runs");
    let text = [output.stdout, output.stderr].map(|t| String::from_utf8_lossy(&t).into_owned());
    assert!(output.status.success(), "{}", text.concat());
}

#[test]
fn the_crate_passes_its_own_tests() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkout = workspace().to_str().expect("UTF-8");
    let arguments = ["new", "modality", "radio-pulse", "--astropt", checkout, "--json"];
    let json = succeeds(folder.path(), &arguments);
    let written: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(written["package"], "astropt-radio-pulse");
    let package = folder.path().join("astropt-radio-pulse");
    cargo_test(&package);
}

#[test]
fn nothing_is_overwritten_and_no_name_is_taken_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("mine"), "precious").expect("writable");
    let checkout = workspace().to_str().expect("UTF-8");
    for (arguments, expected) in [
        (&["radio-pulse", "--out", "mine", "--astropt", checkout][..], "mine is there already"),
        (&["spectrum", "--astropt", checkout], "taken by the modality of astropt-modalities"),
        (&["core", "--astropt", checkout], "kept for AstroPT"),
        (&["Radio Pulse", "--astropt", checkout], "lower-case"),
        (&["radio-pulse"], "--astropt PATH"),
        (&["radio-pulse", "--astropt", "."], "no checkout"),
    ] {
        let arguments = [&["new", "modality"], arguments].concat();
        let error = fails(folder.path(), &arguments, 2);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    assert_eq!(std::fs::read(folder.path().join("mine")).expect("readable"), b"precious");
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1);
}
