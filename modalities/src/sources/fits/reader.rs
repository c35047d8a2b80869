//! Bytes of one FITS file, wherever they are asked for: from the file itself, or from what it
//! was unpacked to.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use astropt_core::{Error, Result};

use super::unpack::{Content, Unpacked};

/// The least that is read from a file at a time: a few headers.
const AHEAD: u64 = 16 << 10;
/// What of a window stays allocated for the next read, in bytes.
const WINDOW: usize = 8 << 20;

/// An open FITS file.
pub(super) struct Reader {
    path: PathBuf,
    content: Arc<Content>,
    len: u64,
    packed: bool,
    /// What was read last and where it starts: columns of one table share their rows.
    window: Vec<u8>,
    start: u64,
}

impl Reader {
    /// Opens `path`. A file that is compressed as a whole is unpacked first, and with `keep`
    /// kept in `unpacked`, where more objects will be read from it.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or there is no room to unpack it.
    pub(super) fn open(path: &Path, unpacked: &Unpacked, keep: bool) -> Result<Self> {
        let fail = |error: std::io::Error| Error::io("read the FITS file", path, &error);
        let mut file = File::open(path).map_err(fail)?;
        let mut magic = [0; 2];
        let packed = file.read(&mut magic).map_err(fail)? == 2 && magic == [0x1f, 0x8b];
        file.rewind().map_err(fail)?;
        let (content, len) = match packed {
            true => unpacked.get(path, file, keep)?,
            false => {
                let len = file.metadata().map_err(fail)?.len();
                (Arc::new(Content::File(Mutex::new(file))), len)
            }
        };
        Ok(Self { path: path.to_owned(), content, len, packed, window: Vec::new(), start: 0 })
    }

    /// The file, as it was opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is compressed as a whole.
    pub(super) fn is_packed(&self) -> bool {
        self.packed
    }

    /// Length of the file in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The `len` bytes at `offset`. The caller bounds `len`.
    ///
    /// # Errors
    /// When the file ends before, or cannot be read.
    pub(super) fn at(&mut self, offset: u64, len: usize) -> Result<&[u8], String> {
        let end = offset.checked_add(len as u64).filter(|&end| end <= self.len);
        let end = end.ok_or_else(|| {
            format!(
                "the file ends at byte {}, before what its headers promise; it is cut short or \
                 damaged: fetch it again or remove it",
                self.len
            )
        })?;
        if let Content::Memory(bytes) = &*self.content {
            let range = offset as usize..end as usize;
            return bytes.get(range).ok_or_else(|| "a place beyond the file".to_owned());
        }
        if offset < self.start || end > self.start + self.window.len() as u64 {
            let wanted = (len as u64).max(AHEAD.min(self.len - offset));
            self.window.clear();
            if self.window.capacity() > WINDOW {
                self.window = Vec::new();
            }
            self.window.reserve_exact(wanted as usize);
            self.start = offset;
            self.content.fill(&mut self.window, offset, wanted)?;
        }
        let from = (offset - self.start) as usize;
        let bytes = self.window.get(from..from + len);
        bytes.ok_or_else(|| "the file became shorter while it was read".to_owned())
    }
}
