//! Training that would not fit into memory is refused before it starts, in a sentence that says
//! what to change.

use std::process::Command;

use crate::bad_input::{on_pictures, pictures};
use crate::program::{fails, program};
use crate::run::small;

/// The micro-batch that an error advises.
fn advised(error: &str) -> u64 {
    let (_, rest) = error.split_once("train.micro_batch=").unwrap_or_else(|| panic!("{error}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

#[test]
fn a_micro_batch_that_does_not_fit_is_refused_with_one_that_does() {
    let folder = tempfile::tempdir().expect("a folder");
    // 16 million objects of 64 tokens: terabytes on any machine that runs this.
    let set = ["train.batch=16777216", "train.micro_batch=16777216"];
    let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
    let mut arguments = small("pretrain", "r", &[]);
    arguments.truncate(arguments.len() - 2); // without its own batch
    arguments.extend(&set);
    let error = fails(folder.path(), &arguments, 2);
    assert!(
        error.contains("GB for a micro-batch of 16777216") && error.contains("free"),
        "{error}"
    );
    assert!(error.contains("train.recompute=true"), "{error}");
    let size = advised(&error);
    assert!((1..16_777_216).contains(&size) && 16_777_216 % size == 0, "{error}");
    assert!(!folder.path().join("r").exists(), "nothing half-written");
}

#[test]
fn a_model_that_fits_with_no_micro_batch_is_told_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = ["--set", "model={layers=40,heads=64,width=16384}"];
    let error = fails(folder.path(), &small("pretrain", "r", &set), 2);
    assert!(error.contains("smaller model"), "{error}");
}

/// Memory that is refused while it trains, here by a limit of the address space, ends the run in
/// a sentence too.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_is_refused_in_mid_run_is_told_with_what_to_try() {
    let folder = tempfile::tempdir().expect("a folder");
    pictures(folder.path(), 30);
    let set = [
        "model={layers=8,heads=4,width=512}",
        "train.batch=768",
        "train.micro_batch=768",
        "train.memory_check=false",
    ];
    let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
    // Now and then it is not a tensor that finds no more room but some small block of the program,
    // which nothing can tell of; not so under three limits.
    let told = [2_500_000, 2_350_000, 2_650_000].into_iter().find_map(|kib| {
        let limited = format!("ulimit -v {kib}; exec '{}' \"$@\" --overwrite", program().display());
        let output = Command::new("sh")
            .args(["-c", &limited, "sh"])
            .args(on_pictures("data", &set))
            .current_dir(folder.path())
            .output()
            .expect("sh runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !error.contains("panicked"), "{error}");
        (output.status.code() == Some(1)).then_some(error)
    });
    let error = told.expect("one of three ends in a sentence");
    assert!(error.contains("has no more memory"), "{error}");
    let said = error.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default();
    assert_eq!(advised(said), 384, "{error}");
}
