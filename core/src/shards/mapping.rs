//! A file mapped into memory: the one place outside kernels where unsafe code stands.

use std::fs::File;
use std::path::Path;

use crate::error::{Error, Result};

/// A whole file, read-only.
pub(super) struct Mapping(memmap2::Mmap);

impl Mapping {
    /// Maps `path`.
    ///
    /// # Errors
    /// When it cannot be opened or mapped.
    #[allow(unsafe_code)] // no way to map a file is safe in Rust's sense; see below
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::io("open", path, &e);
        let file = File::open(path).map_err(failed)?;
        // SAFETY: the bytes must not change while they are mapped. Shards are written once,
        // under another name, renamed into place and never written again by this program;
        // whoever changes one while it is read may crash the reader, as docs/FORMATS.md says.
        // Any bytes are valid as the plain numbers they are read as.
        let map = unsafe { memmap2::Mmap::map(&file) };
        map.map(Self).map_err(failed)
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
