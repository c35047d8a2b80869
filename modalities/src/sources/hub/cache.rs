//! The folder that files from the hub are kept in, laid out as Python's `huggingface_hub`
//! has it, so that either finds what the other has fetched:
//!
//! ```text
//! datasets--owner--name/blobs/HASH                     the files
//!                       blobs/HASH.incomplete          a file on its way
//!                       snapshots/COMMIT/PATH          links to blobs
//!                       refs/REVISION                  the commit of a branch
//! .locks/datasets--owner--name/HASH.lock               held while a file is fetched
//! .locks/datasets--owner--name/HASH.astropt            see below
//! ```
//!
//! The last marks a file that this program has fetched: its time of change is when the file
//! was used last, it holds the paths of the links, and who uses the file holds a shared lock
//! on it. Only marked files are ever deleted.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use astropt_core::{Error, Result};

use super::listing::{Hash, Listing, RemoteFile};

/// Ending of the files that mark what may be deleted.
const MARK: &str = "astropt";
/// Longest mark or reference that is read, in bytes.
const MAX_NOTE: u64 = 1 << 20;

/// The files of one dataset.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    /// The folder of all datasets.
    root: PathBuf,
    /// `datasets--owner--name`.
    folder: String,
}

/// A file that stays in place while this lives.
#[derive(Debug)]
pub(super) struct InUse(#[allow(dead_code, reason = "held for its lock")] Option<File>);

/// A file that may be deleted.
#[derive(Debug)]
struct Marked {
    mark: PathBuf,
    blob: PathBuf,
    size: u64,
    used: SystemTime,
}

fn failed<'a>(what: &'a str, path: &'a Path) -> impl Fn(std::io::Error) -> Error + 'a {
    move |error| Error::io(what, path, &error)
}

impl Cache {
    pub(super) fn new(root: &Path, repo: &str) -> Self {
        let folder = format!("datasets--{}", repo.replace('/', "--"));
        Self { root: root.to_owned(), folder }
    }

    fn repo(&self) -> PathBuf {
        self.root.join(&self.folder)
    }

    fn locks(&self) -> PathBuf {
        self.root.join(".locks").join(&self.folder)
    }

    pub(super) fn blob(&self, hash: &Hash) -> PathBuf {
        self.repo().join("blobs").join(hash.name())
    }

    /// Where the bytes of a file on its way are kept.
    pub(super) fn incomplete(&self, hash: &Hash) -> PathBuf {
        self.blob(hash).with_extension("incomplete")
    }

    fn mark(&self, hash: &Hash) -> PathBuf {
        self.locks().join(format!("{}.{MARK}", hash.name()))
    }

    /// Where a file is found under its own name.
    pub(super) fn snapshot(&self, commit: &str, path: &str) -> PathBuf {
        self.repo().join("snapshots").join(commit).join(path)
    }

    /// Makes the folders.
    ///
    /// # Errors
    /// When that is not allowed.
    pub(super) fn prepare(&self) -> Result<()> {
        for folder in [self.repo().join("blobs"), self.locks()] {
            fs::create_dir_all(&folder).map_err(failed("create the cache's folder", &folder))?;
        }
        Ok(())
    }

    /// The file if it is here, whole, under its own name; it is linked where only that is
    /// missing.
    pub(super) fn find(&self, listing: &Listing, file: &RemoteFile) -> Option<PathBuf> {
        let whole = |path: &Path| fs::metadata(path).is_ok_and(|m| m.len() == file.size);
        let snapshot = self.snapshot(&listing.commit, &file.path);
        if whole(&snapshot) {
            return Some(snapshot);
        }
        whole(&self.blob(&file.hash)).then_some(())?;
        self.link(listing, file).ok()
    }

    /// Makes the file known under its own name; hands back where.
    ///
    /// # Errors
    /// When that is not allowed.
    pub(super) fn link(&self, listing: &Listing, file: &RemoteFile) -> Result<PathBuf> {
        let snapshot = self.snapshot(&listing.commit, &file.path);
        let folder = snapshot.parent().unwrap_or(&snapshot);
        fs::create_dir_all(folder).map_err(failed("create the cache's folder", folder))?;
        // From the folder of snapshots/COMMIT/a/b up to the dataset's.
        let up = "../".repeat(2 + file.path.matches('/').count());
        let target = format!("{up}blobs/{}", file.hash.name());
        let beside = tempfile::Builder::new().prefix(".link.").tempdir_in(folder);
        let beside = beside.map_err(failed("link the file", &snapshot))?;
        let link = beside.path().join("link");
        // A link is made beside its place and renamed: another process may do the same.
        symlink(&target, &link, &self.blob(&file.hash))
            .and_then(|()| fs::rename(&link, &snapshot))
            .map_err(failed("link the file", &snapshot))?;
        Ok(snapshot)
    }

    /// Keeps the commit of a branch, for when the hub cannot be asked.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn remember(&self, listing: &Listing) -> Result<()> {
        if listing.revision == listing.commit {
            return Ok(());
        }
        let path = self.repo().join("refs").join(&listing.revision);
        let folder = path.parent().unwrap_or(&path);
        fs::create_dir_all(folder).map_err(failed("create the cache's folder", folder))?;
        astropt_core::checkpoint::write_bytes(&path, listing.commit.as_bytes())
    }

    /// The commit that a branch was at when it was asked for last.
    pub(super) fn recall(&self, revision: &str) -> Option<String> {
        let known = self.repo().join("snapshots").join(revision).is_dir();
        if known && super::address::is_hash(revision, 40) {
            return Some(revision.to_owned());
        }
        let note = read_note(&self.repo().join("refs").join(revision))?;
        Some(note.trim().to_owned()).filter(|commit| super::address::is_hash(commit, 40))
    }

    /// The lock that whoever fetches a file holds.
    ///
    /// # Errors
    /// When it cannot be made, or another process holds it (`None`).
    pub(super) fn try_lock(&self, hash: &Hash) -> Result<Option<File>> {
        let path = self.locks().join(format!("{}.lock", hash.name()));
        let file = open_or_create(&path).map_err(failed("lock the file", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::io("lock the file", &path, &error)),
        }
    }

    /// Marks a file as fetched by this program.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(super) fn set_mark(&self, listing: &Listing, file: &RemoteFile) -> Result<()> {
        let path = self.mark(&file.hash);
        let mut note = read_note(&path).unwrap_or_default();
        let link = format!("{}/{}\n", listing.commit, file.path);
        if note.lines().any(|line| line == link.trim_end()) {
            return Ok(());
        }
        note.push_str(&link);
        // In place: the locks of those who use the file are on this very file.
        open_or_create(&path)
            .and_then(|mut mark| mark.write_all(note.as_bytes()))
            .map_err(failed("mark the file", &path))
    }

    /// Keeps a file in place, and notes that it was used. What others have fetched is not
    /// ours to delete and needs no more than to be there.
    ///
    /// # Errors
    /// When the file is being deleted (`None`) or the lock cannot be had.
    pub(super) fn take(&self, hash: &Hash) -> Result<Option<InUse>> {
        let path = self.mark(hash);
        let Ok(mark) = File::options().read(true).write(true).open(&path) else {
            return Ok(Some(InUse(None)));
        };
        match mark.try_lock_shared() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                return Err(Error::io("lock the file", &path, &error));
            }
            Ok(()) => {}
        }
        // A file system that keeps no times evicts in another order, and that is all.
        let _ = mark.set_modified(SystemTime::now());
        Ok(Some(InUse(Some(mark))))
    }

    /// Deletes marked files of all datasets, the one used longest ago first, until `wanted`
    /// more bytes fit into `budget`. Files in use or of a hash that `keep` names stay.
    /// Whether there is room now.
    pub(super) fn make_room(&self, budget: u64, wanted: u64, keep: &dyn Fn(&str) -> bool) -> bool {
        let mut marked = self.marked();
        marked.sort_by_key(|file| file.used);
        let mut held: u64 = marked.iter().map(|file| file.size).sum();
        for file in marked {
            if held.saturating_add(wanted) <= budget {
                break;
            }
            let hash = file.blob.file_name().unwrap_or_default().to_string_lossy();
            if !keep(&hash) && delete(&file) {
                held -= file.size;
            }
        }
        held.saturating_add(wanted) <= budget
    }

    /// The files that this program has fetched.
    fn marked(&self) -> Vec<Marked> {
        let folders = fs::read_dir(self.root.join(".locks")).into_iter().flatten().flatten();
        let marks = folders.flat_map(|folder| {
            fs::read_dir(folder.path())
                .into_iter()
                .flatten()
                .flatten()
                .map(move |mark| (folder.file_name(), mark.path()))
        });
        let file = |(folder, mark): (std::ffi::OsString, PathBuf)| {
            mark.extension().filter(|e| *e == MARK)?;
            let blob = self.root.join(folder).join("blobs").join(mark.file_stem()?);
            let used = fs::metadata(&mark).and_then(|m| m.modified()).ok()?;
            let size = fs::metadata(&blob).map_or(0, |m| m.len());
            Some(Marked { mark, blob, size, used })
        };
        marks.filter_map(file).collect()
    }
}

/// Deletes a file with its links, unless someone uses it.
fn delete(file: &Marked) -> bool {
    let Ok(mark) = File::options().read(true).write(true).open(&file.mark) else { return false };
    if mark.try_lock().is_err() {
        return false;
    }
    let snapshots = file.blob.ancestors().nth(2).map(|repo| repo.join("snapshots"));
    for link in read_note(&file.mark).unwrap_or_default().lines() {
        if let Some(snapshots) = &snapshots
            && super::address::is_safe(link)
        {
            let _ = fs::remove_file(snapshots.join(link)); // it may be gone already
        }
    }
    let gone = fs::remove_file(&file.blob).is_ok() || !file.blob.exists();
    gone && fs::remove_file(&file.mark).is_ok()
}

fn open_or_create(path: &Path) -> std::io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

fn read_note(path: &Path) -> Option<String> {
    let mut note = String::new();
    File::open(path).ok()?.take(MAX_NOTE).read_to_string(&mut note).ok()?;
    Some(note)
}

#[cfg(unix)]
fn symlink(target: &str, link: &Path, _blob: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Where links need rights that people lack, the file itself takes the place.
#[cfg(not(unix))]
fn symlink(_target: &str, link: &Path, blob: &Path) -> std::io::Result<()> {
    fs::hard_link(blob, link).or_else(|_| fs::copy(blob, link).map(drop))
}
