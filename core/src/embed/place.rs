//! Files that appear whole or not at all: written beside their place, synced, renamed.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Writes `bytes` to `path` as a whole: a reader sees the old file or the new, and never a
/// part of one. Missing parent folders are made.
///
/// # Errors
/// When the folder cannot be made or the file cannot be written.
pub fn write_whole(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let mut file = begin(path)?;
    file.write_all(bytes).map_err(|e| Error::io("write it", path, &e))?;
    commit(file, path)
}

/// Opens a temporary file in the folder of `path`; it vanishes unless committed.
pub(super) fn begin(path: &Path) -> Result<NamedTempFile> {
    let folder = folder(path);
    std::fs::create_dir_all(&folder).map_err(|e| Error::io("make the folder", &folder, &e))?;
    NamedTempFile::new_in(&folder).map_err(|e| Error::io("write into the folder", &folder, &e))
}

/// Syncs `file` and moves it to `path`.
pub(super) fn commit(file: NamedTempFile, path: &Path) -> Result<()> {
    let io = |what: &str, e: &std::io::Error| Error::io(what, path, e);
    // Temporary files are born private (0600); results are for everyone to read.
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))
        .and_then(|()| file.as_file().sync_all())
        .map_err(|e| io("write it", &e))?;
    file.persist(path).map_err(|e| io("move it into place", &e.error))?;
    // The rename itself is lasting only once the folder is on disk.
    File::open(folder(path)).and_then(|d| d.sync_all()).map_err(|e| io("sync its folder", &e))
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
