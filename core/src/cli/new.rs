//! `astropt new`: a crate to start from.
//!
//! `templates/modality` is the crate as it would be for a modality named `new-modality`; its
//! words are replaced, and nothing else. Data to try it on are made here.

use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::args::NewModalityArgs;
use super::output::Output;
use crate::checkpoint::{write_bytes, write_folder_atomic};
use crate::error::{Error, Result};
use crate::seam::modalities;

/// The files of `templates/modality`, by the path they get.
const FILES: [(&str, &str); 10] = [
    (".gitignore", include_str!("templates/modality/gitignore")),
    ("Cargo.toml", include_str!("templates/modality/Cargo.toml.template")),
    ("README.md", include_str!("templates/modality/README.md")),
    ("rustfmt.toml", include_str!("../../../rustfmt.toml")),
    ("recipe.toml", include_str!("templates/modality/recipe.toml")),
    ("src/config.rs", include_str!("templates/modality/src/config.rs")),
    ("src/lib.rs", include_str!("templates/modality/src/lib.rs")),
    ("src/main.rs", include_str!("templates/modality/src/main.rs")),
    ("src/tokenise.rs", include_str!("templates/modality/src/tokenise.rs")),
    ("tests/conformance.rs", include_str!("templates/modality/tests/conformance.rs")),
];
/// The crates of AstroPT that a plugin's program links: where they stand in a checkout.
const CRATES: [(&str, &str); 3] = [
    ("ASTROPT-CORE", "core"),
    ("ASTROPT-CPU", "backends/cpu"),
    ("ASTROPT-MODALITIES", "modalities"),
];
/// Names whose package, `astropt-NAME`, is or may be AstroPT's own, and that of the templates.
const RESERVED: [&str; 9] =
    ["core", "cpu", "cuda", "fuzz", "libtorch", "modalities", "mpi", "new-modality", "tests"];
/// Longest name.
const MAX_NAME: usize = 40;

/// Where the new crate finds AstroPT.
enum Origin {
    /// A checkout on this machine.
    Checkout(PathBuf),
    /// The URL of a repository.
    Git(String),
}

impl Origin {
    /// What `--astropt` names; without it, the checkout that the current folder is in.
    fn find(asked: Option<&str>) -> Result<Self> {
        if let Some(url) = asked.filter(|a| a.contains("://") || a.starts_with("git@")) {
            return Ok(Self::Git(url.to_owned()));
        }
        let Some(path) = asked.map(Path::new) else {
            let here = std::env::current_dir().map_err(|e| Error::io("find", ".", &e))?;
            let found = here.ancestors().find(|folder| is_checkout(folder));
            return found.map(|folder| Self::Checkout(folder.to_owned())).ok_or_else(|| {
                Error::Misuse(
                    "the new crate needs AstroPT's own: say where its repository is with \
                     --astropt PATH or --astropt https://…"
                        .to_owned(),
                )
            });
        };
        let path = path.canonicalize().map_err(|e| Error::io("find AstroPT in", path, &e))?;
        if is_checkout(&path) {
            return Ok(Self::Checkout(path));
        }
        Err(Error::Misuse(format!(
            "--astropt {}: that is no checkout of AstroPT, which holds core/, modalities/ and \
             backends/cpu/",
            path.display()
        )))
    }

    /// A dependency on the crate in `folder`, as Cargo.toml writes it between braces.
    fn dependency(&self, folder: &str) -> String {
        let (key, value) = match self {
            Self::Checkout(path) => ("path", path.join(folder).display().to_string()),
            Self::Git(url) => ("git", url.clone()),
        };
        format!("{key} = {}", toml::Value::String(value))
    }

    /// The checkout's `Cargo.lock`: the new crate starts with the versions it was tested with.
    fn lock(&self) -> Option<Vec<u8>> {
        let Self::Checkout(path) = self else { return None };
        std::fs::read(path.join("Cargo.lock")).ok()
    }
}

fn is_checkout(folder: &Path) -> bool {
    CRATES.iter().all(|(_, place)| folder.join(place).join("Cargo.toml").is_file())
}

/// `astropt new modality`.
pub(super) fn modality(args: &NewModalityArgs, output: Output) -> Result<()> {
    let name = args.name.as_str();
    check_name(name)?;
    let origin = Origin::find(args.astropt.as_deref())?;
    let package = format!("astropt-{name}");
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(&package));
    if out.symlink_metadata().is_ok() {
        return Err(Error::Misuse(format!(
            "{} is there already and stays as it is; choose another folder with --out",
            out.display()
        )));
    }
    write_folder_atomic(&out, |folder| write(folder, name, &origin))?;
    output.result(&json!({ "path": out, "package": package }), || {
        format!(
            "wrote {0}, a crate with the modality {name:?}; it works as it stands:\n  \
             cd {0}\n  cargo test --release\n  cargo run --release -- run recipe.toml\n\
             then make it your own where its comments say PHYSICS",
            out.display()
        )
    })
}

/// Refuses what is no kebab-case name, or is taken.
fn check_name(name: &str) -> Result<()> {
    let refuse = |why: String| Err(Error::Misuse(format!("the name {name:?} {why}")));
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let words = name.split('-').all(|word| !word.is_empty() && word.chars().all(plain));
    if !words || !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.len() > MAX_NAME {
        return refuse(format!(
            "will not do; write lower-case words joined by hyphens, such as radio-visibilities, \
             {MAX_NAME} letters at most"
        ));
    }
    if let Some(plugin) = modalities().iter().find(|plugin| plugin.info.kind == name) {
        return refuse(format!(
            "is taken by the modality of {}; choose another",
            plugin.info.package
        ));
    }
    if RESERVED.contains(&name) {
        return refuse("is kept for AstroPT itself; choose another".to_owned());
    }
    Ok(())
}

/// Writes the crate into `folder`.
fn write(folder: &Path, name: &str, origin: &Origin) -> Result<()> {
    for place in ["src", "tests", "data"] {
        let place = folder.join(place);
        std::fs::create_dir(&place).map_err(|e| Error::io("make the folder", &place, &e))?;
    }
    for (place, template) in FILES {
        write_bytes(folder.join(place), render(template, name, origin).as_bytes())?;
    }
    if let Some(lock) = origin.lock() {
        write_bytes(folder.join("Cargo.lock"), &lock)?;
    }
    let (samples, labels) = waves();
    write_bytes(folder.join("data/samples.csv"), samples.as_bytes())?;
    write_bytes(folder.join("data/labels.csv"), labels.as_bytes())
}

fn render(template: &str, name: &str, origin: &Origin) -> String {
    let named =
        template.replace("new-modality", name).replace("new_modality", &name.replace('-', "_"));
    CRATES.iter().fold(named, |text, (mark, folder)| text.replace(mark, &origin.dependency(folder)))
}

/// Objects in the made-up data, and samples of each.
const OBJECTS: usize = 200;
const SAMPLES: usize = 32;

/// Sine waves with noise, and their periods in samples: two tables of CSV.
fn waves() -> (String, String) {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut samples = String::from("object,value\n");
    let mut labels = String::from("object,period\n");
    for object in 0..OBJECTS {
        let period = random.random_range(4.0..16.0f64);
        let phase = random.random_range(0.0..std::f64::consts::TAU);
        labels += &format!("wave-{object:03},{period:.3}\n");
        for t in 0..SAMPLES {
            let angle = std::f64::consts::TAU * t as f64 / period + phase;
            let noise = random.random_range(-0.1..0.1);
            samples += &format!("wave-{object:03},{:.3}\n", angle.sin() + noise);
        }
    }
    (samples, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_and_not_taken() {
        for name in ["pulsar", "radio-visibilities", "x2", "type-1a"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let long = "a".repeat(MAX_NAME + 1);
        for name in [
            "",
            "-",
            "a--b",
            "a-",
            "2x",
            "Pulsar",
            "a_b",
            "a b",
            "../a",
            "é",
            "core",
            "mpi",
            long.as_str(),
        ] {
            let error = check_name(name).expect_err(name);
            assert_eq!(error.exit_code(), 2, "{name}");
        }
    }

    /// No mark of the templates is left in what they make.
    #[test]
    fn every_mark_is_replaced() {
        let origin = Origin::Git("https://example.org/a\"b".into());
        for (place, template) in FILES {
            let text = render(template, "radio-pulse", &origin);
            for mark in ["new-modality", "new_modality", "ASTROPT-"] {
                assert!(!text.contains(mark), "{place}: {mark}");
            }
        }
        let manifest = render(FILES[1].1, "radio-pulse", &origin);
        let table: toml::Table = manifest.parse().expect("TOML");
        let git = table["dependencies"]["astropt-core"]["git"].as_str();
        assert_eq!(git, Some("https://example.org/a\"b"));
    }
}
