//! The program, run as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The workspace's folder.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace")
}

/// The `astropt` program.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_astropt"))
}

/// Runs the program with `arguments` in the folder `folder`.
pub(crate) fn astropt(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).current_dir(folder).output().expect("the program runs")
}

/// Standard output of a call that must succeed.
pub(crate) fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let output = astropt(folder, arguments);
    assert!(
        output.status.success(),
        "astropt {}: {}\n{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The error of a call that must fail with exit code `code`: one line, and no panic.
pub(crate) fn fails(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = astropt(folder, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "astropt {}: {stderr}", arguments.join(" "));
    assert!(!stderr.contains("panicked"), "{stderr}");
    let error = stderr.lines().rfind(|line| line.starts_with("error: "));
    error.unwrap_or_else(|| panic!("no error line: {stderr}")).to_owned()
}

/// Takes the files of a checkpoint off its record, as one does who has changed them on purpose.
pub(crate) fn unlist(checkpoint: &Path) {
    std::fs::write(checkpoint.join("checksums.json"), "{\"xxh3\": {}}").expect("writable");
}

/// The folder `name` of the recorded data beside the workspace, if it is there; says so
/// when it is not.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let path = workspace().parent()?.join("shared").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}
