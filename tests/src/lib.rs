//! What the tests share: the program, run as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The workspace's folder.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace")
}

/// The `astropt` program, built by the cargo that runs these tests (at no cost when it is
/// up to date).
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--release", "--locked", "--package", "astropt"])
            .args(["--message-format", "json"])
            .current_dir(workspace())
            .output()
            .expect("cargo runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let messages = String::from_utf8_lossy(&built.stdout).into_owned();
        let executable = messages
            .split("\"executable\":\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .last()
            .expect("cargo names the executable");
        PathBuf::from(executable)
    })
}

/// Runs the program with `arguments` in the folder `folder`.
pub fn astropt(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).current_dir(folder).output().expect("the program runs")
}

/// Standard output of a call that must succeed.
pub fn succeeds(folder: &Path, arguments: &[&str]) -> String {
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
pub fn fails(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = astropt(folder, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "astropt {}: {stderr}", arguments.join(" "));
    assert!(!stderr.contains("panicked"), "{stderr}");
    let error = stderr.lines().rfind(|line| line.starts_with("error: "));
    error.unwrap_or_else(|| panic!("no error line: {stderr}")).to_owned()
}

/// The folder `name` of the recorded data beside the workspace, if it is there; says so
/// when it is not.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = workspace().parent()?.join("shared").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}
