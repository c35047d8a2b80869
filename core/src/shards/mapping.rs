//! A file mapped into memory: one of the few places outside kernels where unsafe code stands.

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::SystemTime;

#[cfg(unix)]
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::error::{Error, Result};

/// A whole file, read-only. It is not kept open: data of thousands of shards would need as many
/// file handles.
pub(super) struct Mapping {
    map: memmap2::Mmap,
    path: PathBuf,
    /// The file as it was opened.
    state: State,
}

/// What tells a file from another, and from itself once it was written again.
#[derive(PartialEq, Eq)]
struct State {
    identity: Option<(u64, u64)>,
    length: u64,
    /// When it was written last.
    written: Option<SystemTime>,
}

impl State {
    fn of(file: &Metadata) -> Self {
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt;
            Some((file.dev(), file.ino()))
        };
        #[cfg(not(unix))]
        let identity = None;
        Self { identity, length: file.len(), written: file.modified().ok() }
    }
}

impl Mapping {
    /// Maps `path`.
    ///
    /// # Errors
    /// When it cannot be opened or mapped.
    #[allow(unsafe_code)] // no way to map a file is safe in Rust's sense; see below
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::io("open", path, &e);
        let file = File::open(path).map_err(failed)?;
        let state = State::of(&file.metadata().map_err(failed)?);
        say_what_a_bus_error_is();
        // SAFETY: the bytes must not change while they are mapped. Shards are written once,
        // under another name, renamed into place and never written again by this program; that
        // somebody else does is noticed when the next object is read, and what lies past the end
        // of a file that was cut ends the program. Any bytes are valid as the plain numbers they
        // are read as.
        let map = unsafe { memmap2::Mmap::map(&file) };
        Ok(Self { map: map.map_err(failed)?, path: path.to_owned(), state })
    }

    /// Whether the file is still there, as long as it was, and was not written since.
    pub(super) fn unchanged(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|now| State::of(&now) == self.state)
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// Where a mapped file was cut short between a check and the reading, the system raises SIGBUS,
/// which ends a program without a word; this program says what happened first.
#[cfg(unix)]
#[allow(unsafe_code)]
fn say_what_a_bus_error_is() {
    const WORDS: &[u8] =
        b"\nerror: a shard of the converted data was cut short, or its disk failed, \
        while it was read; copy the data again, and go on from the last checkpoint with --resume\n";
    extern "C" fn tell(_: nix::libc::c_int) {
        let _ = nix::unistd::write(std::io::stderr(), WORDS);
        // SAFETY: _exit(2) may be called at any time.
        unsafe { nix::libc::_exit(1) }
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let action = SigAction::new(SigHandler::Handler(tell), SaFlags::empty(), SigSet::all());
        // SAFETY: the handler calls write(2) and _exit(2) alone, which POSIX allows in one. It stands
        // in the place of the one before and not behind it: Rust's own gives the signal its default
        // back, by which another thread that reads the file would end the program without a word.
        let registered = unsafe { sigaction(Signal::SIGBUS, &action) };
        // Without it there are no words; all else is the same.
        let _ = registered;
    });
}

#[cfg(not(unix))]
fn say_what_a_bus_error_is() {}
