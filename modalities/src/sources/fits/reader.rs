//! Bytes of one FITS file, wherever they are asked for: from the file itself, or from memory
//! where it was compressed as a whole.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use astropt_core::{Error, Result};

/// Largest size to which a `.fits.gz` is unpacked in memory, in bytes.
const MAX_UNPACKED: u64 = 1 << 30;
/// How many unpacked files are kept for the next object of the same file.
pub(super) const KEPT: usize = 2;
/// The least that is read from a file at a time: a few headers.
const AHEAD: u64 = 16 << 10;

/// An open FITS file.
pub(super) struct Reader {
    bytes: Bytes,
    len: u64,
    /// What was read last and where it starts: columns of one table share their rows.
    window: Vec<u8>,
    start: u64,
}

enum Bytes {
    File(File),
    Memory(Arc<Vec<u8>>),
}

/// Files unpacked a moment ago.
#[derive(Debug, Default)]
pub(super) struct Unpacked(Mutex<VecDeque<(PathBuf, Arc<Vec<u8>>)>>);

impl Reader {
    /// Opens `path`. A file that is compressed as a whole is unpacked, and kept in `unpacked`
    /// where more objects will be read from it.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or unpacks to more than 1 GiB.
    pub(super) fn open(path: &Path, unpacked: Option<&Unpacked>) -> Result<Self> {
        let fail = |error: std::io::Error| Error::io("read the FITS file", path, &error);
        let kept = |bytes: &Arc<Vec<u8>>| Self::memory(bytes.clone());
        if let Some(reader) = unpacked.and_then(|u| u.get(path)).as_ref().map(kept) {
            return Ok(reader);
        }
        let mut file = File::open(path).map_err(fail)?;
        let mut magic = [0; 2];
        let packed = file.read(&mut magic).map_err(fail)? == 2 && magic == [0x1f, 0x8b];
        file.rewind().map_err(fail)?;
        if !packed {
            let len = file.metadata().map_err(fail)?.len();
            return Ok(Self { bytes: Bytes::File(file), len, window: Vec::new(), start: 0 });
        }
        let bytes = Arc::new(unpack(path, file)?);
        if let Some(unpacked) = unpacked {
            unpacked.keep(path, &bytes);
        }
        Ok(Self::memory(bytes))
    }

    /// A file that is in memory.
    pub(super) fn memory(bytes: Arc<Vec<u8>>) -> Self {
        let len = bytes.len() as u64;
        Self { bytes: Bytes::Memory(bytes), len, window: Vec::new(), start: 0 }
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
        let file = match &mut self.bytes {
            Bytes::Memory(bytes) => {
                let range = offset as usize..end as usize;
                return bytes.get(range).ok_or_else(|| "a place beyond the file".to_owned());
            }
            Bytes::File(file) => file,
        };
        if offset < self.start || end > self.start + self.window.len() as u64 {
            let wanted = (len as u64).max(AHEAD.min(self.len - offset));
            self.window.clear();
            self.window.reserve_exact(wanted as usize);
            self.start = offset;
            file.seek(SeekFrom::Start(offset)).map_err(|e| format!("cannot seek: {e}"))?;
            file.take(wanted)
                .read_to_end(&mut self.window)
                .map_err(|e| format!("cannot read at byte {offset}: {e}"))?;
        }
        let from = (offset - self.start) as usize;
        let bytes = self.window.get(from..from + len);
        bytes.ok_or_else(|| "the file became shorter while it was read".to_owned())
    }
}

/// The content of a gzip file.
fn unpack(path: &Path, file: File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = flate2::read::MultiGzDecoder::new(std::io::BufReader::new(file))
        .take(MAX_UNPACKED + 1)
        .read_to_end(&mut bytes);
    if bytes.len() as u64 > MAX_UNPACKED {
        return Err(Error::file(
            path,
            format!(
                "unpacks to more than {} GiB, which is not held in memory; run gunzip on it \
                 first, or compress its images by tiles with fpack",
                MAX_UNPACKED >> 30
            ),
        ));
    }
    read.map_err(|error| {
        Error::file(
            path,
            format!("cannot be unpacked ({error}); it is cut short or damaged: fetch it again"),
        )
    })?;
    Ok(bytes)
}

impl Unpacked {
    fn get(&self, path: &Path) -> Option<Arc<Vec<u8>>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(p, _)| p == path).map(|(_, bytes)| bytes.clone())
    }

    fn keep(&self, path: &Path, bytes: &Arc<Vec<u8>>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(p, _)| p != path);
        kept.push_front((path.to_owned(), bytes.clone()));
        kept.truncate(KEPT);
    }
}
