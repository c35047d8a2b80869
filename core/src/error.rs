//! The errors a user can meet. Each names what is wrong, where, and the way out.

use std::path::{Path, PathBuf};

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Exit code of work that was stopped (`EX_TEMPFAIL` of BSD's sysexits: to be tried again).
const INTERRUPTED: u8 = 75;

/// What went wrong, in one sentence a user can act on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The command or the recipe asks for something that cannot be (exit code 2).
    #[error("{0}")]
    Misuse(String),
    /// A place in a recipe, with the file, line and column it was written at.
    #[error("{place}: {message}")]
    Recipe {
        /// `file:line:column`, or the `--set` argument that holds the value.
        place: String,
        /// What is wrong there and what would be right.
        message: String,
    },
    /// A file that cannot be read or does not hold what it should.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// A file that the system can do nothing with now, which is no fault of the file: too many are
    /// open, or its disk does not answer.
    #[error("{}: {message}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// What the system said and what to do.
        message: String,
    },
    /// One object of a source that cannot be used; counted, listed and skipped.
    #[error("object {id}: {message}")]
    Object {
        /// Id of the object.
        id: String,
        /// Why it cannot be used.
        message: String,
    },
    /// The work was interrupted by the user.
    #[error("{0}")]
    Interrupted(String),
    /// A device has no more memory, in its own words.
    #[error(
        "the device has no more memory ({0}); a smaller train.micro_batch or embed.batch, or \
         train.recompute = true, needs less of it, and other programs may hold some"
    )]
    OutOfMemory(String),
    /// A device that cannot go on.
    #[error("{0}")]
    Device(String),
    /// Another process writes to the folder.
    #[error("{0}")]
    Held(String),
    /// Anything else that ended the work.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// Whether it is no single object's or file's fault, so that skipping that one would hide
    /// it: a network that is down, a system out of file handles, or the user's wish to stop.
    pub fn ends_work(&self) -> bool {
        match self {
            Self::System { .. }
            | Self::Failed(_)
            | Self::Interrupted(_)
            | Self::Held(_)
            | Self::OutOfMemory(_)
            | Self::Device(_) => true,
            Self::Misuse(_) | Self::Recipe { .. } | Self::File { .. } | Self::Object { .. } => {
                false
            }
        }
    }

    /// An error about `path`.
    pub fn file(path: impl AsRef<Path>, message: impl ToString) -> Self {
        Self::File { path: path.as_ref().to_owned(), message: message.to_string() }
    }

    /// An error about the object `id`.
    pub fn object(id: impl ToString, message: impl ToString) -> Self {
        Self::Object { id: id.to_string(), message: message.to_string() }
    }

    /// An operating-system error while doing `what` to `path`, with the way out where the
    /// cause is a common one. One that would be met with any file
    /// [ends the work](Self::ends_work).
    pub fn io(what: &str, path: impl AsRef<Path>, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        let advice = match error.kind() {
            Kind::NotFound => "; check the path",
            Kind::PermissionDenied => "; check its permissions",
            Kind::StorageFull | Kind::QuotaExceeded => {
                "; free some space there, or choose a folder on another disk"
            }
            Kind::NotADirectory | Kind::AlreadyExists => {
                "; a file stands where a folder is wanted, or the other way round"
            }
            Kind::ReadOnlyFilesystem => "; choose another folder with --out",
            _ => systemic(error).unwrap_or_default(),
        };
        // Temporary files wrap the cause to add their own path, which no user has chosen.
        let cause = match error.raw_os_error() {
            None if error.get_ref().is_some() && error.kind() == Kind::NotFound => {
                "there is no such file or folder".to_owned()
            }
            None if error.get_ref().is_some() => error.kind().to_string(),
            _ => error.to_string(),
        };
        let (path, message) = (path.as_ref().to_owned(), format!("cannot {what}: {cause}{advice}"));
        match systemic(error) {
            // Each object that is read meanwhile would be booked as unusable.
            Some(_) => Self::System { path, message },
            None => Self::File { path, message },
        }
    }

    /// The same error of training in other words: all that may tell how to go on. One that tells of
    /// another process, with the command it was started by, does not.
    pub(crate) fn reworded(self, words: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Interrupted(what) => Self::Interrupted(words(what)),
            Self::Failed(what) => Self::Failed(words(what)),
            Self::Misuse(what) => Self::Misuse(words(what)),
            Self::File { path, message } => Self::File { path, message: words(message) },
            other => other,
        }
    }

    /// Exit code of the process that ends with this error: 2 for misuse, 75 for work that was
    /// stopped and goes on when asked to, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Misuse(_) | Self::Recipe { .. } => 2,
            Self::Interrupted(_) => INTERRUPTED,
            _ => 1,
        }
    }
}

/// The way out of an error that is the system's and no file's; `None` of others.
fn systemic(error: &std::io::Error) -> Option<&'static str> {
    use std::io::ErrorKind as Kind;
    #[cfg(unix)]
    match error.raw_os_error() {
        Some(nix::libc::EMFILE) => return Some("; `ulimit -n` shows the limit, and raises it"),
        Some(nix::libc::ENFILE) => return Some("; all programs together have too many open"),
        Some(nix::libc::EIO) => return Some("; see whether its disk is sound and still there"),
        _ => {}
    }
    match error.kind() {
        Kind::StaleNetworkFileHandle | Kind::TimedOut => {
            Some("; see whether the disk that it lies on is still there")
        }
        Kind::OutOfMemory => Some("; free some memory"),
        _ => None,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use nix::libc;

    #[test]
    fn what_the_system_cannot_do_is_no_files_fault() {
        let met = |code| Error::io("read", "a.fits", &std::io::Error::from_raw_os_error(code));
        let system =
            [libc::EMFILE, libc::ENFILE, libc::EIO, libc::ESTALE, libc::ETIMEDOUT, libc::ENOMEM];
        for code in system {
            let error = met(code);
            assert!(error.ends_work(), "{error}");
            let said = error.to_string();
            assert!(said.starts_with("a.fits: cannot read: ") && said.contains("; "), "{said}");
        }
        assert!(met(libc::EMFILE).to_string().contains("ulimit -n"));
        for code in [libc::ENOENT, libc::EACCES, libc::EISDIR, libc::ENOSPC, libc::EROFS] {
            let error = met(code);
            assert!(matches!(error, Error::File { .. }), "{error}");
        }
    }
}
