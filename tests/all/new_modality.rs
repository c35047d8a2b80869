//! `astropt new modality`: the crate it writes works as it stands.

use std::path::Path;
use std::process::Command;

use crate::program::{fails, program, succeeds, workspace};

/// Tests a crate that stands alone, in the workspace's target folder, which may hold what it builds
/// on. AstroPT is built for it once more, and not optimised but for the kernels, which takes a
/// quarter of the time.
fn cargo_test(folder: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = program().ancestors().nth(2).expect("the program is in target/release");
    let mut command = Command::new(cargo);
    // What the cargo that runs this test says of this package: dependencies that ask for it (ring) would
    // be built again, and then once more by that cargo.
    let of_package = |name: &str| {
        ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"].iter().any(|p| name.starts_with(p))
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_package) {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["test", "--release", "--offline"])
        .args(["--config", "profile.release.package.astropt-core.opt-level=0"])
        .args(["--config", "profile.release.package.astropt-modalities.opt-level=0"])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("cargo runs");
    let text = [output.stdout, output.stderr].map(|t| String::from_utf8_lossy(&t).into_owned());
    assert!(output.status.success(), "{}", text.concat());
}

/// The fenced blocks of a page in `language`, in order.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let block = |part: &str| part.split("```").next().expect("an end").to_owned();
    page.split(&fence).skip(1).map(block).collect()
}

/// Stands for the end of a file.
const END: &str = "";

/// Replaces what stands from `start` to just before `end`, both of which must be there once.
fn replace(text: &mut String, start: &str, end: &str, by: &str) {
    assert_eq!(text.matches(start).count(), 1, "{start:?} is where the guide says");
    let from = text.find(start).expect("counted");
    let to = match end {
        END => text.len(),
        end => from + text[from..].find(end).unwrap_or_else(|| panic!("no {end:?}: {text}")),
    };
    text.replace_range(from..to, by);
}

/// Changes a file of the crate.
fn edit(package: &Path, name: &str, change: impl FnOnce(&mut String)) {
    let path = package.join(name);
    let mut text = std::fs::read_to_string(&path).expect("readable");
    change(&mut text);
    std::fs::write(&path, text).expect("writable");
}

/// What steps 3 to 6 of docs/ADDING-A-MODALITY.md say to do, with the page's own code.
fn follow_the_guide(package: &Path) {
    let guide = std::fs::read_to_string(workspace().join("docs/ADDING-A-MODALITY.md"));
    let guide = guide.expect("the guide");
    let code = blocks(&guide, "rust");
    let [field, taken, check, register, config, numbers, methods, table, test] = &code[..] else {
        panic!("the guide has {} blocks of Rust", code.len())
    };
    edit(package, "src/config.rs", |text| {
        let start = "    /// Sample value that becomes 0";
        replace(text, start, "    /// Weight of this modality's loss among", field);
        replace(text, "fn default_scale()", "fn default_loss_weight()", "");
        replace(text, "        let Self { samples, window, offset", "        if !(1..=MAX", taken);
        replace(text, "        if !(offset.is_finite()", "        if !(loss_weight", check);
        replace(text, "register_modality!(\n", END, register);
    });
    edit(package, "src/tokenise.rs", |text| {
        replace(text, "        let Config { field: name", "        let Some(field)", config);
        let end_of_numbers = "    }\n}\n\nimpl Modality";
        replace(text, "        // PHYSICS: the transform", end_of_numbers, numbers);
        replace(text, "    fn tokenise(&self", END, methods);
        text.push_str("}\n");
    });
    edit(package, "tests/conformance.rs", |text| {
        replace(text, "const TABLE", "\n// PHYSICS: an object", table);
        let end_of_test = "/// The program runs the recipe";
        replace(text, "// PHYSICS: a test for each", end_of_test, &format!("{test}\n"));
    });
    let tables = blocks(&guide, "toml");
    edit(package, "recipe.toml", |text| {
        replace(text, "[modality.radio-pulse]", "[split]", &format!("{}\n", tables[0]));
    });
}

/// The crate as it is written, and the same made one's own by the guide, from tests to what the
/// trained model generates.
#[test]
fn the_crate_passes_its_own_tests_before_and_after_the_guide() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkout = workspace().to_str().expect("UTF-8");
    let arguments = ["new", "modality", "radio-pulse", "--astropt", checkout, "--json"];
    let json = succeeds(folder.path(), &arguments);
    let written: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(written["package"], "astropt-radio-pulse");
    let package = folder.path().join("astropt-radio-pulse");
    cargo_test(&package);
    follow_the_guide(&package);
    cargo_test(&package);
    let own = program().with_file_name("astropt-radio-pulse");
    for arguments in [
        &["run", "recipe.toml", "--overwrite", "--quiet"][..],
        &["generate", "runs/radio-pulse", "--objects", "2"],
    ] {
        let output = Command::new(&own).args(arguments).current_dir(&package).output();
        let output = output.expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(package.join("runs/radio-pulse/report.html").exists());
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
