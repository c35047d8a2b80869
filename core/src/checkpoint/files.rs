//! Files that appear whole or not at all: written beside their place under a hidden name,
//! flushed to the disk, then renamed. Whatever goes wrong before the rename leaves the old
//! file as it was and nothing new behind.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Buffer between the writer and the disk, in bytes.
const BUFFER: usize = 1 << 20;
/// How hidden names begin: of what is being written, of what stepped aside for it, and of what is
/// being deleted.
pub(crate) const PARTIAL: &str = ".partial.";
const REPLACED: &str = ".replaced.";
const PRUNED: &str = ".pruned.";

/// A file being written, which appears at its path when [committed](Self::commit) and
/// leaves nothing behind when dropped before.
pub struct AtomicFile {
    file: BufWriter<tempfile::NamedTempFile>,
    path: PathBuf,
}

impl AtomicFile {
    /// Starts the file `path`. Its mode is what any new file of this user gets (0644 under
    /// the usual umask).
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let file = builder(&path, 0o666)?
            .tempfile_in(folder_of(&path))
            .map_err(|e| Error::io("write", &path, &e))?;
        Ok(Self { file: BufWriter::with_capacity(BUFFER, file), path })
    }

    /// Where the file will appear.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Flushes the file to the disk and puts it in place, replacing an older one.
    ///
    /// # Errors
    /// The operating system's refusal; what was at the path is then as it was.
    pub fn commit(self) -> Result<()> {
        let path = &self.path;
        let failed = |what: &'static str| move |e: std::io::Error| Error::io(what, path, &e);
        let file = self.file.into_inner().map_err(|e| Error::io("write", path, e.error()))?;
        file.as_file().sync_all().map_err(failed("write"))?;
        file.persist(path).map_err(|e| Error::io("put in place", path, &e.error))?;
        sync_folder(&folder_of(path)).map_err(failed("flush the folder of"))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

/// Writes the file `path` with what `fill` writes, replacing an older one in one step.
///
/// # Errors
/// What `fill` answers, or the operating system's refusal with the path; `path` is then
/// as it was.
pub fn write_atomic(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    fill(&mut file)?;
    file.commit()
}

/// Writes the file `path` with `bytes`; see [`write_atomic`].
///
/// # Errors
/// The operating system's refusal with the path; `path` is then as it was.
pub fn write_bytes(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    write_atomic(path, |file| file.write_all(bytes).map_err(|e| Error::io("write", path, &e)))
}

/// Fills the folder `path`: `fill` writes into a hidden folder beside it, which then takes
/// its place. An older folder of that name is replaced.
///
/// # Errors
/// What `fill` answers, or the operating system's refusal with the path; `path` is then
/// as it was.
pub fn write_folder_atomic(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let failed = |what: &'static str| move |e: std::io::Error| Error::io(what, path, &e);
    let parent = folder_of(path);
    let filled = builder(path, 0o777)?.tempdir_in(&parent).map_err(failed("create"))?;
    fill(filled.path()).map_err(|error| as_if_in(path, filled.path(), error))?;
    sync_tree(filled.path()).map_err(failed("write"))?;
    put_folder(filled, path, &parent).map_err(failed("put in place"))?;
    sync_folder(&parent).map_err(failed("flush the folder of"))
}

/// An error about a file in the hidden folder, told as if it were in its place.
fn as_if_in(place: &Path, hidden: &Path, error: Error) -> Error {
    match error {
        Error::File { path, message } => match path.strip_prefix(hidden) {
            Ok(inside) => Error::File { path: place.join(inside), message },
            Err(_) => Error::File { path, message },
        },
        other => other,
    }
}

/// Renames `filled` to `path`, in one step where the system can swap two folders. Elsewhere a
/// folder cannot be renamed onto a filled one, so the older one steps aside first and comes back
/// should the rename fail, or at the next [`sweep`] should the process be killed between.
fn put_folder(filled: tempfile::TempDir, path: &Path, parent: &Path) -> std::io::Result<()> {
    if !path.try_exists()? {
        fs::rename(filled.path(), path)?;
        let _ = filled.keep(); // it is no longer where the guard would look for it
        return Ok(());
    }
    if swap(filled.path(), path) {
        return filled.close(); // deletes the older one
    }
    let aside = tempfile::Builder::new().prefix(REPLACED).tempdir_in(parent)?;
    let older = aside.path().join(path.file_name().unwrap_or_default());
    fs::rename(path, &older)?;
    if let Err(error) = fs::rename(filled.path(), path) {
        if fs::rename(&older, path).is_err() {
            let _ = aside.keep(); // better a hidden copy than none
        }
        return Err(error);
    }
    let _ = filled.keep();
    Ok(())
}

/// Swaps two folders in one step; `false` where the system cannot.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn swap(one: &Path, other: &Path) -> bool {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).is_ok()
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn swap(_one: &Path, _other: &Path) -> bool {
    false
}

/// Checks that nothing is at `path`, which a command was asked to write.
///
/// # Errors
/// When something is.
pub(crate) fn nothing_there(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) => Err(Error::Misuse(format!(
            "{} is there already; choose another name, or move it away",
            path.display()
        ))),
    }
}

/// A name beside `path` for what is to become it once other files are whole too; where that does not
/// come, [`sweep`] deletes it.
pub(crate) fn until_whole(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    path.with_file_name(format!("{PARTIAL}{name}"))
}

/// Deletes what a killed process left half written or half deleted in `folder`, and puts back what
/// it had set aside. Nobody else may be writing there.
///
/// # Errors
/// When something cannot be deleted.
pub(crate) fn sweep(folder: &Path) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("read", folder, &e)),
    };
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(REPLACED) {
            put_back(&path, folder).map_err(|e| Error::io("put back", &path, &e))?;
        }
        if [PARTIAL, REPLACED, PRUNED].iter().any(|hidden| name.starts_with(hidden)) {
            let gone =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            gone.map_err(|e| Error::io("delete", &path, &e))?;
        }
    }
    Ok(())
}

/// Moves what lies in `aside` to `folder`, where nothing has taken its place.
fn put_back(aside: &Path, folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(aside)? {
        let entry = entry?;
        let place = folder.join(entry.file_name());
        if !place.try_exists()? {
            fs::rename(entry.path(), place)?;
        }
    }
    Ok(())
}

/// Takes the folder `path` out of sight in one step, then deletes it.
///
/// # Errors
/// When it cannot be deleted.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("delete", path, &e);
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let hidden = path.with_file_name(format!("{PRUNED}{name}"));
    if hidden.exists() {
        fs::remove_dir_all(&hidden).map_err(failed)?;
    }
    fs::rename(path, &hidden).map_err(failed)?;
    fs::remove_dir_all(&hidden).map_err(failed)
}

/// Makes hidden siblings of `path`, created with `mode` less the umask.
fn builder(path: &Path, mode: u32) -> Result<tempfile::Builder<'static, 'static>> {
    if path.file_name().is_none() {
        return Err(Error::file(path, "is no name for a file; add one"));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(PARTIAL);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    Ok(builder)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Makes a rename in `folder` survive a power cut.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn sync_tree(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("folder");
        let mut names: Vec<_> =
            entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn put(text: &'static str) -> impl FnOnce(&mut dyn Write) -> Result<()> {
        move |file| file.write_all(text.as_bytes()).map_err(|e| Error::Failed(e.to_string()))
    }

    #[test]
    fn a_file_is_replaced_whole_with_the_mode_of_any_new_file() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.json");
        write_atomic(&path, put("old")).expect("written");
        write_atomic(&path, put("new")).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "new");
        assert_eq!(names(folder.path()), ["a.json"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let plain = folder.path().join("plain");
            fs::write(&plain, "x").expect("written");
            let mode = |p: &Path| fs::metadata(p).expect("metadata").permissions().mode();
            assert_eq!(mode(&path), mode(&plain));
        }
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.json");
        write_atomic(&path, put("old")).expect("written");
        let error = write_atomic(&path, |file| {
            put("half")(file)?;
            Err(Error::Failed("stop".into()))
        });
        assert_eq!(error.expect_err("stops").to_string(), "stop");
        assert_eq!(fs::read_to_string(&path).expect("read"), "old");
        assert_eq!(names(folder.path()), ["a.json"]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let error = write_atomic(folder.path().join("no/a.json"), put("x")).expect_err("none");
        assert!(error.to_string().contains("no/a.json"), "{error}");
        assert!(error.to_string().contains("check the path"), "{error}");
        assert!(write_atomic("/", put("x")).is_err());
    }

    #[test]
    fn a_full_disk_is_said_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.json");
        let error = write_atomic(&path, |_| {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            Err(Error::io("write", &path, &full))
        });
        assert!(error.expect_err("full").to_string().contains("free some space"));
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_folder_is_filled_or_not_there() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("step-1");
        let write = |name: &'static str| {
            move |tmp: &Path| {
                fs::create_dir(tmp.join("in")).map_err(|e| Error::Failed(e.to_string()))?;
                fs::write(tmp.join("in").join(name), name).map_err(|e| Error::Failed(e.to_string()))
            }
        };
        write_folder_atomic(&path, write("a")).expect("written");
        write_folder_atomic(&path, write("b")).expect("replaced");
        assert_eq!(names(&path.join("in")), ["b"]);
        let failing = write_folder_atomic(&path, |_| Err(Error::Failed("stop".into())));
        assert!(failing.is_err());
        assert_eq!(names(folder.path()), ["step-1"]);
        assert_eq!(names(&path.join("in")), ["b"]);
    }
    #[test]
    fn what_a_killed_process_left_is_swept() {
        let folder = tempfile::tempdir().expect("folder");
        let at = |name: &str| folder.path().join(name);
        for name in [".partial.a", ".replaced.b/best", ".replaced.c/figures", ".pruned.step-1"] {
            fs::create_dir_all(at(name)).expect("made");
            fs::write(at(name).join("f"), name).expect("written");
        }
        fs::write(at(".partial.d"), "half").expect("written");
        fs::write(at(".hidden"), "mine").expect("written");
        fs::create_dir(at("figures")).expect("made");
        sweep(folder.path()).expect("swept");
        assert_eq!(names(folder.path()), [".hidden", "best", "figures"]);
        assert!(at("best/f").exists() && !at("figures/f").exists(), "newer figures stay");
        remove_folder(&at("best")).expect("deleted");
        assert_eq!(names(folder.path()), [".hidden", "figures"]);
        sweep(&at("none")).expect("nothing to sweep");
    }
}
