//! The folder of a run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lock::RunLock;
use super::manifest::{Manifest, StageRecord};
use super::ours::{self, MANIFEST};
use super::saved::{BEST, Contents, Saved, consistent, name_of, step_of};
use crate::checkpoint::files::sweep;
use crate::checkpoint::{checksums, write_bytes, write_folder_atomic};
use crate::data::Rejected;
use crate::error::{Error, Result};
use crate::family::FAMILY;
use crate::parallel::Ranks;
use crate::progress;

const RECIPE: &str = "recipe.toml";
const CHECKPOINTS: &str = "checkpoints";
const PREVIEWS: &str = "previews";
const REJECTED: &str = "rejected.csv";

/// Folders in a run's that files are written into, beside its own.
const WRITTEN_INTO: [&str; 3] = [CHECKPOINTS, PREVIEWS, "generated"];

/// A run's folder, open to read or, where it was [created](Self::create) or
/// [opened to write](Self::open_to_write), locked against every other writer until it is dropped.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    lock: Option<Arc<RunLock>>,
}

impl RunFolder {
    /// Starts a run of `manifest`'s plan in the folder `path`.
    ///
    /// # Errors
    /// When the folder holds a run already (unless `overwrite`), a family, or other files that the
    /// run would write over, is being written by another process or cannot be written.
    pub fn create(path: &Path, manifest: &Manifest, overwrite: bool) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(|e| Error::io("make the folder", path, &e))?;
        let run = Self::locked(path)?;
        if run.path.join(MANIFEST).exists() {
            if !overwrite {
                return Err(Error::Misuse(format!(
                    "{} holds a run already; go on with --resume, start anew with --overwrite, or \
                     choose another folder with --out",
                    path.display()
                )));
            }
            ours::clear(path)?;
        } else if path.join(FAMILY).exists() {
            return Err(Error::Misuse(format!(
                "{} holds a family of models; choose another folder with --out",
                path.display()
            )));
        } else {
            ours::nothing_foreign(path, ours::Work::Run)?;
        }
        // The first of all, so that the folder is known to be ours and the record missed when gone.
        checksums::list(path, &[])?;
        for folder in [run.path.join(CHECKPOINTS), run.path.join(PREVIEWS)] {
            std::fs::create_dir_all(&folder)
                .map_err(|e| Error::io("make the folder", &folder, &e))?;
        }
        run.write_manifest(manifest)?;
        Ok(run)
    }

    /// Whether the folder `path` holds a run.
    pub(crate) fn is_run(path: &Path) -> bool {
        path.join(MANIFEST).exists()
    }

    /// The folder `path`, in which a run is or will be, to read.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), lock: None }
    }

    /// Opens the run in the folder `path` to read.
    ///
    /// # Errors
    /// When there is none, one of a newer format, or one that contradicts itself.
    pub fn open(path: &Path) -> Result<(Self, Manifest)> {
        let manifest = manifest(path)?;
        Ok((Self::at(path), manifest))
    }

    /// Opens the run in the folder `path` to write, and clears away what a killed process left
    /// half written.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when another process is writing the run.
    pub fn open_to_write(path: &Path) -> Result<(Self, Manifest)> {
        manifest(path)?; // where there is no run nothing is locked
        let run = Self::locked(path)?;
        Ok((run, manifest(path)?))
    }

    /// Opens the run in the folder `path` as one of the processes that work on it together: one
    /// of them to write, the others to read.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`open_to_write`](Self::open_to_write).
    pub(crate) fn open_together(path: &Path, ranks: &dyn Ranks) -> Result<(Self, Manifest)> {
        if ranks.rank() == 0 { Self::open_to_write(path) } else { Self::open(path) }
    }

    pub(super) fn locked(path: &Path) -> Result<Self> {
        let lock = RunLock::take(path)?;
        sweep(path)?;
        WRITTEN_INTO.iter().try_for_each(|name| sweep(&path.join(name)))?;
        Ok(Self { path: path.to_owned(), lock: Some(Arc::new(lock)) })
    }

    /// Whether the folder is still the one that was locked; a folder that is only read always is.
    pub(crate) fn is_ours(&self) -> bool {
        self.lock.as_ref().is_none_or(|lock| lock.is_of(&self.path))
    }

    /// Notices that the folder was moved or deleted while the run wrote into it: what is written
    /// into an open file goes on without a complaint.
    ///
    /// # Errors
    /// When it was; `step` is the last that was taken.
    pub(crate) fn still_there(&self, step: u64) -> Result<()> {
        let manifest = self.path.join(MANIFEST);
        match std::fs::metadata(&manifest) {
            Ok(_) if self.is_ours() => Ok(()),
            Ok(_) => Err(Error::file(
                &self.path,
                format!(
                    "is another folder, or its lock was deleted, after step {step}: another process \
                     may write the run too"
                ),
            )),
            Err(e) => Err(Error::file(
                &self.path,
                format!(
                    "is gone or cannot be read after step {step} ({MANIFEST}: {e}): it was moved, \
                     deleted or unmounted while the run wrote into it"
                ),
            )),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file `name` in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The file `name` in the folder, compared with its checksum if that is recorded; else it may
    /// not be there.
    ///
    /// # Errors
    /// When it is another than was written, or gone.
    pub fn verified(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        checksums::check_listed(&path)?;
        Ok(path)
    }

    /// Writes the manifest, and the recipe it resolves beside it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        let text = manifest.to_text()?;
        write_bytes(self.path.join(RECIPE), manifest.plan.recipe.as_bytes())?;
        write_bytes(self.path.join(MANIFEST), text.as_bytes())
    }

    /// Writes the manifest with one more stage, which is not over yet: what it has taken so far
    /// stays known, however it ends.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_running(&self, manifest: &Manifest, stage: StageRecord) -> Result<()> {
        let text = manifest.with(stage)?.to_text()?;
        write_bytes(self.path.join(MANIFEST), text.as_bytes())
    }

    /// The whole checkpoints, by step.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<Saved>> {
        let mut out = Vec::new();
        for entry in entries(&self.path.join(CHECKPOINTS))? {
            let name = entry.file_name();
            let step = name.to_str().and_then(step_of);
            if let Some(step) = step {
                out.push(Saved { step, path: entry.path() });
            }
        }
        out.sort_by_key(|saved| saved.step);
        Ok(out)
    }

    /// Steps before the last whole checkpoint; 0 where there is none.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn taken(&self) -> Result<u64> {
        Ok(self.checkpoints()?.last().map_or(0, |saved| saved.step))
    }

    /// The checkpoint a user names: `last`, `best` or a step.
    ///
    /// # Errors
    /// When there is none of that name; lists those there are.
    pub fn checkpoint(&self, name: &str) -> Result<Saved> {
        let all = self.checkpoints()?;
        let found = match name {
            "last" => all.last().cloned(),
            "best" => self.best()?,
            step => all.iter().find(|saved| Some(saved.step) == step.parse().ok()).cloned(),
        };
        found.ok_or_else(|| {
            let steps: Vec<_> = all.iter().map(|saved| saved.step.to_string()).collect();
            Error::Misuse(format!(
                "{} has no checkpoint {name:?}; it has {}",
                self.path.display(),
                if steps.is_empty() { "none".to_owned() } else { steps.join(", ") }
            ))
        })
    }

    /// The checkpoint of the lowest validation loss, where there is one.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn best(&self) -> Result<Option<Saved>> {
        let path = self.path.join(CHECKPOINTS).join(BEST);
        if !path.exists() {
            return Ok(None);
        }
        let saved = Saved { step: 0, path };
        let step = saved.state()?.step;
        Ok(Some(Saved { step, ..saved }))
    }

    /// Saves a checkpoint after `contents.state.step` steps, whole or not at all; `best`
    /// replaces the best-validation copy instead.
    ///
    /// # Errors
    /// When it cannot be written; no half of it is left then.
    pub(crate) fn save(&self, contents: Contents<'_>, best: bool) -> Result<PathBuf> {
        let step = contents.state.step;
        let name = if best { BEST.to_owned() } else { name_of(step) };
        let path = self.path.join(CHECKPOINTS).join(name);
        write_folder_atomic(&path, |folder| contents.write(folder))?;
        Ok(path)
    }

    /// Saves a preview drawn after `step` steps.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_preview(&self, step: u64, png: &[u8]) -> Result<()> {
        let folder = self.path.join(PREVIEWS);
        std::fs::create_dir_all(&folder).map_err(|e| Error::io("make the folder", &folder, &e))?;
        let name = format!("step-{step:06}.png");
        checksums::rewritten(&folder, &[&name], || write_bytes(folder.join(&name), png))
    }

    /// The previews, by step.
    ///
    /// # Errors
    /// When the folder cannot be read, or one is not what was written.
    pub fn previews(&self) -> Result<Vec<(u64, PathBuf)>> {
        checksums::none_lost(&self.path.join(PREVIEWS), "")?;
        let mut out: Vec<_> = entries(&self.path.join(PREVIEWS))?
            .into_iter()
            .filter_map(|entry| {
                let name = entry.file_name();
                let step = name.to_str()?.strip_prefix("step-")?.strip_suffix(".png")?;
                Some((step.parse().ok()?, entry.path()))
            })
            .collect();
        out.sort();
        out.iter().try_for_each(|(_, path)| checksums::check_listed(path))?;
        Ok(out)
    }

    /// Lists the unusable objects in `rejected.csv`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_rejected(&self, rejected: &Rejected) -> Result<()> {
        let bytes = csv_bytes(rejected).map_err(|e| Error::Failed(e.to_string()))?;
        if std::fs::read(self.path.join(REJECTED)).is_ok_and(|before| before == bytes) {
            return Ok(());
        }
        checksums::rewritten(&self.path, &[REJECTED], || {
            write_bytes(self.path.join(REJECTED), &bytes)
        })
    }

    /// The unusable objects listed so far.
    ///
    /// # Errors
    /// When `rejected.csv` is there but cannot be read.
    pub fn read_rejected(&self) -> Result<Rejected> {
        let path = self.verified(REJECTED)?;
        if !path.exists() {
            return Ok(Rejected::new());
        }
        let broken = |e: csv::Error| Error::file(&path, format!("is not a table of ids: {e}"));
        let mut table = csv::Reader::from_path(&path).map_err(broken)?;
        table.deserialize().collect::<std::result::Result<_, _>>().map_err(broken)
    }
}

fn manifest(path: &Path) -> Result<Manifest> {
    let file = path.join(MANIFEST);
    if !file.exists() {
        return Err(Error::Misuse(format!(
            "{} holds no run ({MANIFEST} is missing); `astropt run` or `astropt pretrain` makes one",
            path.display()
        )));
    }
    let manifest = Manifest::read(&file)?;
    consistent(&file, &manifest.plan)?;
    let record = path.join(checksums::FILE);
    if manifest.checksums && !record.exists() {
        return Err(checksums::missing(&record, "this run's files"));
    }
    let recipe = path.join(RECIPE);
    if std::fs::read(&recipe).is_ok_and(|text| text != manifest.plan.recipe.as_bytes()) {
        progress::warn(&format!(
            "{} was changed; what counts is the recipe in {MANIFEST}",
            recipe.display()
        ));
    }
    Ok(manifest)
}

/// What a folder holds; nothing when it is not there.
fn entries(folder: &Path) -> Result<Vec<std::fs::DirEntry>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io("read", folder, &e)),
    }
}

/// Lists unusable objects in `rejected.csv` of the folder `path`.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_rejected(path: &Path, rejected: &Rejected) -> Result<()> {
    let bytes = csv_bytes(rejected).map_err(|e| Error::Failed(e.to_string()))?;
    write_bytes(path.join(REJECTED), &bytes)
}

fn csv_bytes(rejected: &Rejected) -> std::result::Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["id", "reason"])?;
    for (id, reason) in rejected {
        table.write_record([id, reason])?;
    }
    Ok(table.into_inner()?)
}
