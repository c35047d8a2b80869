//! Which files of a folder are this program's: what it may replace there, and delete.

use std::path::{Path, PathBuf};

use crate::checkpoint::{checksums, format};
use crate::error::{Error, Result};
use crate::family::FAMILY;

use super::saved::step_of;

/// Files of a run or a family, by their whole names; the manifest last, see [`clear`].
const FILES: [&str; 13] = [
    "recipe.toml",
    "metrics.jsonl",
    "timings.jsonl",
    "faults.jsonl",
    "ledger.jsonl",
    "validation.json",
    "rejected.csv",
    "probes.json",
    "emergence.json",
    "report.html",
    FAMILY,
    checksums::FILE,
    MANIFEST,
];
/// The manifest of a run.
pub(super) const MANIFEST: &str = "manifest.json";
/// Lists what was generated, with its files.
pub(crate) const GENERATED: &str = "generated.json";
/// The folder of figures.
const FIGURES: &str = "figures";
/// Figures that reports have.
const FIGURE_NAMES: [&str; 6] = ["order", "loss", "maps", "gains", "emergence", "layers"];

/// Which names are ours.
type Names = fn(&str) -> bool;

/// Folders of a run, and what of each is ours.
const FOLDERS: [(&str, Names); 3] = [
    ("checkpoints", |name| name == "best" || step_of(name).is_some()),
    ("previews", |name| {
        let step = name.strip_prefix("step-").and_then(|name| name.strip_suffix(".png"));
        step.is_some_and(digits) || name == checksums::FILE
    }),
    (FIGURES, |name| {
        let figure = name.strip_suffix(".svg").or_else(|| name.strip_suffix(".png"));
        figure.is_some_and(|figure| FIGURE_NAMES.contains(&figure))
    }),
];

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether `name` is a file of embeddings.
pub(crate) fn is_embedding(name: &str) -> bool {
    let whole = [".parquet", ".npy", ".ids.txt", "-raw.parquet", "-random-init.parquet"];
    name.strip_prefix("embeddings").is_some_and(|rest| {
        let counted = rest.strip_prefix("-random-init-").and_then(|k| k.strip_suffix(".parquet"));
        whole.contains(&rest) || counted.is_some_and(digits)
    })
}

/// Whether `name` is a file of TensorBoard's events, as [`EventFile`](crate::train) names them.
fn is_events(name: &str) -> bool {
    let rest = name.strip_prefix("events.out.tfevents.");
    rest.is_some_and(|rest| rest.split('.').all(digits))
}

fn is_ours(name: &str) -> bool {
    FILES.contains(&name) || is_embedding(name) || is_events(name)
}

/// Whether this program made `folder`: a run, a family, embeddings, or what was generated. Pictures
/// and tables in it are no data.
pub fn is_made(folder: &Path) -> bool {
    let stamps = [
        (MANIFEST, format::KEY),
        (FAMILY, format::KEY),
        (checksums::FILE, "\"xxh3\""),
        (GENERATED, "\"prompt\""),
    ];
    stamps.iter().any(|(name, stamp)| {
        std::fs::read_to_string(folder.join(name)).is_ok_and(|text| text.contains(stamp))
    })
}

/// What may lie in a folder that this program is to write into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A run that was begun and has no manifest yet.
    Run,
    /// A family.
    Family,
    /// Embeddings that are no run's own.
    Embeddings,
    /// What was generated, where a run's own folder does not hold it.
    Generated,
}

impl Work {
    /// Whether what is called `name` at `path` is of such work before.
    fn has(self, name: &str, path: &Path) -> bool {
        let empty = || std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        name == checksums::FILE
            || match self {
                Self::Run => name == "recipe.toml" || empty(),
                Self::Family => [FAMILY, "report.html", FIGURES].contains(&name),
                // Of what they do not write nothing is in their way.
                Self::Embeddings | Self::Generated => true,
            }
    }
}

/// Checks that `folder` lies in no run, which replaces its files and folders as it goes on.
///
/// # Errors
/// With the run.
pub(crate) fn in_no_run(folder: &Path) -> Result<()> {
    let inside = std::path::absolute(folder).ok().and_then(|path| {
        let mut above = path.ancestors().skip(1);
        let stamped = |path: &&Path| {
            std::fs::read_to_string(path.join(MANIFEST)).is_ok_and(|t| t.contains(format::KEY))
        };
        above.find(stamped).map(Path::to_owned)
    });
    match inside {
        None => Ok(()),
        Some(run) => Err(Error::Misuse(format!(
            "{} lies in the run {}; choose a folder outside with --out",
            folder.display(),
            run.display()
        ))),
    }
}

/// Checks that nothing is in `folder` that this program would write over and that is not of the
/// same `work`, which begins with a record of its files.
///
/// # Errors
/// With the first file or folder that has the name of one of ours, or when the folder is a run's.
pub(crate) fn nothing_foreign(folder: &Path, work: Work) -> Result<()> {
    in_no_run(folder)?;
    if work == Work::Generated {
        return match folder.join(MANIFEST).exists() {
            false => Ok(()),
            true => Err(Error::Misuse(format!(
                "{} is a run; choose another folder with --out, or leave it out",
                folder.display()
            ))),
        };
    }
    let recorded = folder.join(checksums::FILE).exists();
    let is_folder = |name: &str| FOLDERS.iter().any(|(folder, _)| *folder == name);
    let mut found = names(folder)?.into_iter().filter(|(name, _)| is_ours(name) || is_folder(name));
    match found.find(|(name, path)| !recorded || !work.has(name, path)) {
        None => Ok(()),
        Some((name, path)) => Err(Error::Misuse(format!(
            "{} is in the way: it is not of this work, which would write a {name} of its own there; \
             choose another folder with --out, or move it away",
            path.display()
        ))),
    }
}

/// Deletes what this program wrote into `folder`, and nothing else; the manifest last, so that
/// what a killed process leaves is not mistaken for an empty folder.
///
/// # Errors
/// When something cannot be deleted.
pub(super) fn clear(folder: &Path) -> Result<()> {
    for (name, ours) in FOLDERS {
        clear_folder(&folder.join(name), ours)?;
    }
    let mut paths: Vec<_> = names(folder)?
        .into_iter()
        .filter(|(name, path)| is_ours(name) && name != FAMILY && path.is_file())
        .map(|(_, path)| path)
        .collect();
    paths.sort_by_key(|path| path.ends_with(MANIFEST));
    paths.iter().try_for_each(|path| delete(path))
}

/// Deletes the embeddings in `folder`.
///
/// # Errors
/// When one cannot be deleted.
pub(crate) fn clear_embeddings(folder: &Path) -> Result<()> {
    let mut all = names(folder)?.into_iter();
    all.try_for_each(|(name, path)| if is_embedding(&name) { delete(&path) } else { Ok(()) })
}

/// Deletes the figures of the run in `folder`.
///
/// # Errors
/// When one cannot be deleted.
pub(crate) fn clear_figures(folder: &Path) -> Result<()> {
    let figures = FOLDERS.into_iter().filter(|(name, _)| *name == FIGURES);
    figures.into_iter().try_for_each(|(name, ours)| clear_folder(&folder.join(name), ours))
}

/// Deletes what is `ours` of the folder `path`, and the folder unless somebody else's files are in
/// it.
fn clear_folder(path: &Path, ours: Names) -> Result<()> {
    let (own, others): (Vec<_>, Vec<_>) = names(path)?.into_iter().partition(|(n, _)| ours(n));
    own.iter().try_for_each(|(_, path)| delete(path))?;
    if others.is_empty() && path.is_dir() { delete(path) } else { Ok(()) }
}

fn delete(path: &Path) -> Result<()> {
    // What is but named here stays where it is.
    let real = path.is_dir() && !path.is_symlink();
    let gone = if real { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    gone.map_err(|e| Error::io("delete", path, &e))
}

/// What a folder holds; nothing when it is not there.
fn names(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let name =
        |entry: std::fs::DirEntry| Some((entry.file_name().into_string().ok()?, entry.path()));
    match std::fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().filter_map(name).collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io("read", folder, &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, name).expect("written");
    }

    #[test]
    fn only_our_own_files_are_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        let ours = [
            "manifest.json",
            "report.html",
            "embeddings-random-init-2.parquet",
            "events.out.tfevents.179.29",
            "checkpoints/step-000003/model.safetensors",
            "previews/step-000003.png",
            "figures/loss.svg",
        ];
        let theirs = [
            "recipe.toml.bak",
            "embeddings_backup.npy",
            "embeddings-random-init-mine.parquet",
            "events.out.tfevents.mine",
            "figures_paper/loss.svg",
            "figures/paper.tex",
            "checkpoints/notes.txt",
            "previews_old/a.png",
        ];
        ours.iter().chain(&theirs).for_each(|name| put(folder.path(), name));
        clear(folder.path()).expect("cleared");
        for name in ours {
            assert!(!folder.path().join(name).exists(), "{name} is left");
        }
        for name in theirs {
            assert!(folder.path().join(name).exists(), "{name} is gone");
        }
        assert!(!folder.path().join("previews").exists(), "an empty folder goes");
    }

    #[test]
    fn folders_that_this_program_made_are_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("data")).expect("made");
        std::fs::write(at("data/manifest.json"), "{\"files\": 3}").expect("written");
        assert!(!is_made(&at("data")) && !is_made(&at("nowhere")));
        for (name, text) in [
            ("manifest.json", "{\"astropt_format\": 2}"),
            ("checksums.json", "{\"xxh3\": {}}"),
            ("generated.json", "[{\"prompt\": 5}]"),
        ] {
            let made = at("made").with_extension(name);
            std::fs::create_dir(&made).expect("made");
            std::fs::write(made.join(name), text).expect("written");
            assert!(is_made(&made), "{name}");
        }
    }

    #[test]
    fn a_folder_of_somebody_elses_is_left_alone() {
        for name in ["recipe.toml", "report.html", "figures/a.pdf", "embeddings.npy", "family.json"]
        {
            let folder = tempfile::tempdir().expect("a folder");
            put(folder.path(), "notes.txt");
            let look = || nothing_foreign(folder.path(), Work::Run);
            look().expect("nothing in the way");
            put(folder.path(), name);
            let error = look().expect_err("in the way").to_string();
            assert!(error.contains("is in the way") && error.contains("--out"), "{error}");
            put(folder.path(), checksums::FILE);
            assert_eq!(look().is_ok(), name == "recipe.toml", "{name}: of a run that was begun");
        }
        // Neither embeddings of another model nor what lies in a run.
        let folder = tempfile::tempdir().expect("a folder");
        put(folder.path(), "e/embeddings.parquet");
        put(folder.path(), "e/checksums.json");
        let look = |work| nothing_foreign(&folder.path().join("e"), work);
        look(Work::Embeddings).expect("such work");
        assert!(look(Work::Run).is_err());
        put(folder.path(), "manifest.json");
        look(Work::Embeddings).expect("somebody else's manifest");
        std::fs::write(folder.path().join("manifest.json"), "{\"astropt_format\": 2}")
            .expect("written");
        let error = look(Work::Embeddings).expect_err("in a run").to_string();
        assert!(error.contains("lies in the run"), "{error}");
    }
}
