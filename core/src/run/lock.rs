//! One writer a run: `.lock` in its folder says who.
//!
//! The lock is the operating system's own on the open file, so that it ends with its owner,
//! however that ended. Where two machines share a folder and not their locks, the owner's beats
//! count: it writes the file anew every [`BEAT`], and is taken for dead after [`STALE`] without.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::now;
use crate::error::{Error, Result};
use crate::progress::duration;

const FILE: &str = ".lock";
/// Time between two signs of life.
const BEAT: Duration = Duration::from_secs(20);
/// Time after which an owner on another machine is taken for dead.
const STALE: Duration = Duration::from_secs(300);

/// Who writes a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    host: String,
    pid: u32,
    started: String,
    command: String,
}

impl Owner {
    fn this() -> Self {
        let host = nix::unistd::gethostname().unwrap_or_default();
        Self {
            host: host.to_string_lossy().into_owned(),
            pid: std::process::id(),
            started: now(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
        }
    }

    fn describe(&self) -> String {
        let Self { host, pid, started, command } = self;
        format!("process {pid} on {host}, since {started} (`{command}`)")
    }
}

/// The right to write into a folder; given back when dropped, or when the process ends.
#[derive(Debug)]
pub struct RunLock {
    file: File,
    /// Dropped, it ends the thread that beats.
    beating: Option<Sender<()>>,
    beats: Option<JoinHandle<()>>,
}

impl RunLock {
    /// Takes the right to write into `folder`.
    ///
    /// # Errors
    /// When another process has it, or the folder cannot be written.
    pub fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|e| Error::io("lock the folder", &path, &e))?;
        match file.try_lock() {
            Ok(()) => {
                refuse_if_alive(folder, &path, &mut file, |owner, own| owner.host != own.host)?
            }
            Err(TryLockError::WouldBlock) => return Err(held(folder, read(&mut file).as_ref())),
            // A file system without locks: beats alone tell.
            Err(TryLockError::Error(_)) => refuse_if_alive(folder, &path, &mut file, |_, _| true)?,
        }
        let text = serde_json::to_string(&Owner::this()).map_err(|e| {
            Error::Failed(format!("cannot write who locks {}: {e}", path.display()))
        })?;
        let failed = |e: std::io::Error| Error::io("lock the folder", &path, &e);
        file.set_len(0).map_err(failed)?;
        put(&file, &text).map_err(failed)?;
        let (beating, stop) = channel();
        let beat = file.try_clone().map_err(failed)?;
        let beats = std::thread::spawn(move || {
            while stop.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                // A folder that is gone is noticed by those who write results into it.
                let _ = put(&beat, &text);
            }
        });
        Ok(Self { file, beating: Some(beating), beats: Some(beats) })
    }
}

impl RunLock {
    /// Whether a file of this name in a folder is its lock.
    pub(crate) fn is_file(name: &std::ffi::OsStr) -> bool {
        name == FILE
    }

    /// Whether this is still the lock of `folder`: its file was not deleted, and the folder not
    /// put in another's place.
    pub(super) fn is_of(&self, folder: &Path) -> bool {
        let place = |data: std::fs::Metadata| (data.dev(), data.ino());
        let named = std::fs::metadata(folder.join(FILE)).map(place);
        named.is_ok_and(|named| self.file.metadata().map(place).is_ok_and(|own| own == named))
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        drop(self.beating.take());
        if let Some(beats) = self.beats.take() {
            let _ = beats.join();
        }
        // The file stays: where it were deleted, two processes could lock two files of its name.
        let _ = self.file.set_len(0);
    }
}

/// Writes the file anew, by which its time of change is that of the file's own machine.
fn put(mut file: &File, text: &str) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())
}

fn read(file: &mut File) -> Option<Owner> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Refuses where the file names an owner that the lock does not tell of, as `untold` says, and
/// that has beaten of late.
fn refuse_if_alive(
    folder: &Path,
    path: &Path,
    file: &mut File,
    untold: impl Fn(&Owner, &Owner) -> bool,
) -> Result<()> {
    let Some(owner) = read(file) else { return Ok(()) };
    if !untold(&owner, &Owner::this()) {
        return Ok(());
    }
    // Both times are of the machine that has the files, whatever the clocks here say.
    let failed = |e: std::io::Error| Error::io("lock the folder", path, &e);
    let beaten = file.metadata().and_then(|data| data.modified()).map_err(failed)?;
    let fresh = tempfile::Builder::new().prefix(".partial.").tempfile_in(folder).map_err(failed)?;
    let here = fresh.as_file().metadata().and_then(|data| data.modified()).map_err(failed)?;
    let silent = here.duration_since(beaten).unwrap_or_default();
    if silent >= STALE {
        return Ok(());
    }
    Err(Error::Held(format!(
        "{} is being written by {}, last heard of {} ago; wait until it ends, or stop it. One that \
         has died is forgotten {} after its last sign of life",
        folder.display(),
        owner.describe(),
        duration(silent.as_secs_f64()),
        duration(STALE.as_secs_f64())
    )))
}

fn held(folder: &Path, owner: Option<&Owner>) -> Error {
    let owner = owner.map_or_else(|| "another process".to_owned(), Owner::describe);
    Error::Held(format!(
        "{} is being written by {owner}; wait until it ends, or stop it",
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_writer_at_a_time_and_the_next_when_it_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = RunLock::take(folder.path()).expect("free");
        let error = RunLock::take(folder.path()).expect_err("taken").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        drop(RunLock::take(folder.path()).expect("free again"));
        let left = std::fs::metadata(folder.path().join(FILE)).expect("it stays");
        assert_eq!(left.len(), 0);
    }

    /// Where locks are not shared, what the file says counts.
    #[test]
    fn an_owner_on_another_machine_is_believed_as_long_as_it_beats() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        let owner = Owner { host: "elsewhere".into(), pid: 7, ..Owner::this() };
        let text = serde_json::to_string(&owner).expect("JSON");
        std::fs::write(&path, &text).expect("written");
        let error = RunLock::take(folder.path()).expect_err("alive").to_string();
        assert!(error.contains("process 7 on elsewhere") && error.contains("5m00s"), "{error}");
        let file = OpenOptions::new().write(true).open(&path).expect("there");
        let old = std::time::SystemTime::now() - STALE - Duration::from_secs(1);
        file.set_modified(old).expect("set");
        drop(RunLock::take(folder.path()).expect("taken for dead"));
        // One on this machine whose lock is free has died.
        let owner = Owner { pid: 7, ..Owner::this() };
        std::fs::write(&path, serde_json::to_string(&owner).expect("JSON")).expect("written");
        drop(RunLock::take(folder.path()).expect("dead"));
    }
}
