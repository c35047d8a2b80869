//! The way to the LibTorch backend.
//!
//! A program linked with libtorch does not start where the library is missing, or lacks a name that
//! it is linked with: the system's loader ends it before its first line, in words that help nobody. So
//! `astropt` is not linked with it. Where the backend is asked for, it tries whether
//! `astropt-libtorch` beside it starts, and becomes that program. Where it does not start,
//! the backend registered here says why, and what to do.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use astropt_core::cli::asks_for;
use astropt_core::engine::{Precision, Session};
use astropt_core::model::ModelConfig;
use astropt_core::seam::{Backend, Device};
use astropt_core::{Error, Result, parallel, register_backend};

use crate::program::{LIBTORCH, WHO};

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
        // A recipe that was found since may ask for it. Processes that have met would not meet again.
        if cfg!(feature = "libtorch") && parallel::world().size() > 1 {
            let met = "it is loaded before processes meet, and these have met: start them with \
                       --backend libtorch";
            let _ = REASON.set(met.into());
        }
        become_it();
        Err(Self::reason())
    }

    fn precisions(&self) -> &'static [Precision] {
        &[Precision::F32, Precision::Bf16]
    }

    fn open(&self, _index: usize, _model: &ModelConfig) -> Result<Box<dyn Session>> {
        Err(Self::reason())
    }
}

/// Becomes `astropt-libtorch` if the command line, or the recipe that it names, asks for what only it
/// has and it starts; otherwise returns.
pub(crate) fn hand_over() {
    if asks_for("libtorch", std::env::args_os()) {
        become_it();
    }
}

/// Becomes `astropt-libtorch`, or keeps why it does not.
fn become_it() {
    if !cfg!(feature = "libtorch") || REASON.get().is_some() {
        return;
    }
    let program = match beside() {
        Ok(program) => program,
        Err(error) => {
            let _ = REASON.set(format!("cannot tell where {PROGRAM} lies: {error}"));
            return;
        }
    };
    let build = "`cargo build --release --features libtorch`";
    let reason = match Command::new(&program).arg("--version").env(WHO, "1").output() {
        Ok(output)
            if output.status.success() && output.stdout.trim_ascii() == LIBTORCH.as_bytes() =>
        {
            let arguments = std::env::args_os().skip(1);
            let error = Command::new(&program).arg0("astropt").args(arguments).exec();
            format!("{} does not start: {error}", program.display())
        }
        Ok(output) if output.status.success() => format!(
            "{} is another program than {LIBTORCH}; {build} makes the one that belongs there",
            program.display()
        ),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            let words = match words.trim() {
                // A library that is cut short ends whoever loads it.
                "" => format!("{PROGRAM} ended without a word: {}", output.status),
                words => words.replace(&format!("{}: ", program.display()), ""),
            };
            format!(
                "LibTorch cannot be loaded ({words}); make it anew with \
                 `backends/libtorch/setup.sh DIR` in an empty folder, or name in LD_LIBRARY_PATH a \
                 folder with the libraries of PyTorch 2.9.0"
            )
        }
        Err(error) => format!(
            "{} does not start: {error}; it is built with astropt by {build} and belongs beside it",
            program.display()
        ),
    };
    let _ = REASON.set(reason);
}

fn beside() -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(PROGRAM))
}

#[cfg(test)]
mod tests {
    use super::asks_for;

    #[test]
    fn only_what_asks_for_the_backend_is_handed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let recipe = |name: &str, of: &str| {
            let text = format!("extends = 'galaxy-grz'\nname = '{name}'\n{of}");
            let place = folder.path().join(format!("{name}.toml"));
            std::fs::write(&place, text).expect("writable");
            place.to_str().expect("a name in UTF-8").to_owned()
        };
        let mixed = recipe("mixed", "[scale.demo-M]\nbackend = 'libtorch'\n");
        let asks = |words: &[&str]| {
            asks_for("libtorch", ["astropt"].iter().chain(words).map(|word| (*word).into()))
        };
        for words in [
            &["run", "efigi", "--backend", "libtorch"][..],
            &["bench", "train", "--backend=libtorch:1"],
            &["bench", "train", "--set", "backend='libtorch:0'"],
            &["pretrain", "efigi", "--set", "backend=libtorch"],
            &["--json", "doctor"],
            &["scale", &mixed, "--scales", "demo-S,demo-M"],
        ] {
            assert!(asks(words), "{words:?}");
        }
        for words in [
            &["run", "efigi", "--backend", "cpu"][..],
            &["run", "efigi", "--backend", "cpu", "--set", "backend=libtorch"],
            &["run", "libtorch", "--out", "libtorch"],
            &["scale", &mixed, "--scales", "demo-S,demo-L"],
            &["inspect", "doctor"],
            &["no such command", "--backend", "libtorch"],
            &[],
        ] {
            assert!(!asks(words), "{words:?}");
        }
    }
}
