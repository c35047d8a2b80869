//! Where data lie: whether they are still there is not a question of one object.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// The file or folder of the data, as it was when they were opened.
pub(super) struct Place {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Place {
    pub(super) fn of(path: PathBuf) -> Self {
        Self { identity: identity(&path), path }
    }

    /// Whether `error`, of one object, is one of the place: the folder is gone or another, as where
    /// a disk was unmounted, or that of the object's file is gone or empty.
    pub(super) fn is_gone(&self, error: &Error) -> bool {
        if !self.path.exists() || identity(&self.path) != self.identity {
            return true;
        }
        let Error::File { path, .. } = error else { return false };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.is_some_and(|folder| match std::fs::read_dir(folder) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        })
    }
}

/// What tells a folder from another of the same name.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|of| (of.dev(), of.ino()))
}

#[cfg(not(unix))]
fn identity(_path: &Path) -> Option<(u64, u64)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_exchanged_or_emptied_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, images) = (folder.path().join("d"), folder.path().join("d/images"));
        let broken = Error::file(images.join("a.png"), "is no image");
        std::fs::create_dir_all(&images).expect("writable");
        std::fs::write(images.join("a.png"), "no image").expect("writable");
        let place = Place::of(data.clone());
        assert!(!place.is_gone(&broken), "the fault of one object");
        assert!(!place.is_gone(&Error::object("a", "is blank")));
        std::fs::remove_file(images.join("a.png")).expect("there");
        assert!(place.is_gone(&broken), "an empty folder");
        std::fs::remove_dir(&images).expect("there");
        assert!(place.is_gone(&broken));
        std::fs::rename(&data, folder.path().join("away")).expect("moved");
        assert!(place.is_gone(&broken));
        std::fs::create_dir(&data).expect("writable");
        assert!(place.is_gone(&Error::object("a", "is blank")), "another folder");
    }
}
