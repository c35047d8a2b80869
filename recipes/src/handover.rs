//! The way to the LibTorch backend.
//!
//! A program linked with libtorch does not start where the library is missing or of another
//! version: the system's loader ends it before its first line, in words that help nobody. So
//! `astropt` is not linked with it. Where the backend is asked for, it tries whether
//! `astropt-libtorch` beside it starts, and becomes that program. Where it does not start,
//! the backend registered here says why, and what to do.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use astropt_core::engine::{Precision, Session};
use astropt_core::model::ModelConfig;
use astropt_core::seam::{Backend, Device};
use astropt_core::{Error, Result, register_backend};

register_backend!("libtorch", "LibTorch (PyTorch's library), on GPUs and CPU", Absent);

const PROGRAM: &str = "astropt-libtorch";

const NOT_BUILT: &str = "this program was built without LibTorch; make a libtorch with \
    `backends/libtorch/setup.sh target/libtorch` and build with \
    `LIBTORCH=$PWD/target/libtorch cargo build --release --features libtorch`";

/// Why `astropt-libtorch` does not start.
static REASON: OnceLock<String> = OnceLock::new();

/// Stands for the backend where it cannot be had.
struct Absent;

impl Absent {
    fn reason() -> Error {
        Error::Failed(REASON.get().map_or(NOT_BUILT, String::as_str).to_owned())
    }
}

impl Backend for Absent {
    fn devices(&self) -> Result<Vec<Device>> {
        Err(Self::reason())
    }

    fn precisions(&self) -> &'static [Precision] {
        &[Precision::F32, Precision::Bf16]
    }

    fn open(&self, _index: usize, _model: &ModelConfig) -> Result<Box<dyn Session>> {
        Err(Self::reason())
    }
}

/// Becomes `astropt-libtorch` if the command line asks for what only it has and it starts;
/// otherwise returns.
pub(crate) fn hand_over() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
    if !cfg!(feature = "libtorch") || !concerns(&words) {
        return;
    }
    let program = match beside() {
        Ok(program) => program,
        Err(error) => {
            let _ = REASON.set(format!("cannot tell where {PROGRAM} lies: {error}"));
            return;
        }
    };
    let reason = match Command::new(&program).arg("--version").output() {
        Ok(output) if output.status.success() => {
            let error = Command::new(&program).arg0("astropt").args(&arguments).exec();
            format!("{} does not start: {error}", program.display())
        }
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            format!(
                "LibTorch cannot be loaded ({}); make it again with \
                 `backends/libtorch/setup.sh DIR`, or name in LD_LIBRARY_PATH a folder with \
                 the libraries of PyTorch 2.9.0",
                words.trim().trim_start_matches(&format!("{}: ", program.display()))
            )
        }
        Err(error) => format!(
            "{} does not start: {error}; it is built with astropt by \
             `cargo build --release --features libtorch` and belongs beside it",
            program.display()
        ),
    };
    let _ = REASON.set(reason);
}

/// Whether the words name the backend, or ask what there is.
fn concerns<W: AsRef<str>>(words: &[W]) -> bool {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let named = |value: &str| value == "libtorch" || value.starts_with("libtorch:");
    let chosen = words.windows(2).any(|pair| pair[0] == "--backend" && named(pair[1]))
        || words.iter().filter_map(|word| word.strip_prefix("--backend=")).any(named);
    let command = words.iter().find(|word| !word.starts_with('-'));
    chosen || command == Some(&"doctor")
}

fn beside() -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(PROGRAM))
}

#[cfg(test)]
mod tests {
    use super::concerns;

    #[test]
    fn only_what_names_the_backend_is_handed_over() {
        for words in [
            &["run", "efigi", "--backend", "libtorch"][..],
            &["bench", "train", "--backend=libtorch:1"],
            &["--json", "doctor"],
        ] {
            assert!(concerns(words), "{words:?}");
        }
        for words in [
            &["run", "efigi", "--backend", "cpu"][..],
            &["run", "libtorch", "--out", "libtorch"],
            &["inspect", "doctor"],
            &[],
        ] {
            assert!(!concerns(words), "{words:?}");
        }
    }
}
