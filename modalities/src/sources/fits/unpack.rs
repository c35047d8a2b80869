//! Files that are compressed as a whole, unpacked: small ones in memory, others on disk.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use astropt_core::{Error, Result, progress, stop};

use crate::sources::bytes::ByteSize;

/// Disk that one unpacked file may take, where the recipe does not say, in bytes.
pub(super) const DISK_BUDGET: ByteSize = ByteSize(32_000_000_000);
/// How many unpacked files are kept for the next object of the same file.
pub(super) const KEPT: usize = 2;
/// Largest size to which a file is unpacked in memory, in bytes.
const IN_MEMORY: u64 = 8 << 20;
/// Bytes unpacked at a time.
const STEP: usize = 256 << 10;

/// The bytes of a file.
#[derive(Debug)]
pub(super) enum Content {
    /// A file on disk, one reader at a time.
    File(Mutex<File>),
    /// A small file, unpacked.
    Memory(Vec<u8>),
}

impl Content {
    /// Fills `window` with the `len` bytes at `offset`, or with what there is of them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn fill(
        &self,
        window: &mut Vec<u8>,
        offset: u64,
        len: u64,
    ) -> std::result::Result<(), String> {
        match self {
            Self::Memory(bytes) => {
                let end = offset.saturating_add(len).min(bytes.len() as u64);
                window.extend_from_slice(bytes.get(offset as usize..end as usize).unwrap_or(&[]));
            }
            Self::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let failed = |e| format!("cannot read at byte {offset}: {e}");
                file.seek(SeekFrom::Start(offset)).map_err(failed)?;
                (&mut *file).take(len).read_to_end(window).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// A file that was unpacked, and its length.
type Whole = (Arc<Content>, u64);
/// A file that one thread unpacks while others that want it wait.
type Slot = Arc<Mutex<Option<Whole>>>;

/// Files unpacked a moment ago, those used last first.
#[derive(Debug)]
pub(super) struct Unpacked {
    budget: ByteSize,
    kept: Mutex<VecDeque<(PathBuf, Slot)>>,
}

impl Unpacked {
    /// Where a file may take `budget` of disk.
    pub(super) fn new(budget: Option<ByteSize>) -> Self {
        Self { budget: budget.unwrap_or(DISK_BUDGET), kept: Mutex::default() }
    }

    /// What the packed `file` at `path` holds, and its length. With `keep` it is kept for the
    /// next who asks.
    ///
    /// # Errors
    /// As [`unpack`].
    pub(super) fn get(&self, path: &Path, file: File, keep: bool) -> Result<Whole> {
        let unpacked = || unpack(path, file, self.budget, &mut Room::in_folder);
        if !keep {
            return unpacked();
        }
        let slot = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let known = kept.iter().position(|(p, _)| p == path).and_then(|k| kept.remove(k));
            let entry = known.unwrap_or_else(|| (path.to_owned(), Slot::default()));
            let slot = entry.1.clone();
            kept.push_front(entry);
            kept.truncate(KEPT);
            slot
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(whole) = &*slot {
            return Ok(whole.clone());
        }
        Ok(slot.insert(unpacked()?).clone())
    }

    /// Whether the file at `path` is kept.
    pub(super) fn keeps(&self, path: &Path) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().any(|(p, _)| p == path)
    }
}

/// A file without a name, which is gone when it is closed, however the program ends.
struct Room {
    file: File,
    folder: PathBuf,
}

impl Room {
    /// In the folder for temporary files: TMPDIR, else /var/tmp, which is on a disk where /tmp
    /// may be in memory.
    fn in_folder() -> Result<Self> {
        static TOLD: AtomicBool = AtomicBool::new(false);
        let var = Path::new("/var/tmp");
        let folder = match std::env::var_os("TMPDIR") {
            None if var.is_dir() => var.to_owned(),
            _ => std::env::temp_dir(),
        };
        if !TOLD.swap(true, Ordering::Relaxed) {
            progress::say(&format!(
                "FITS files that are compressed as a whole (.gz) are unpacked in {}; TMPDIR names \
                 another folder, and files compressed by tiles (fpack) need none",
                folder.display()
            ));
        }
        let file = tempfile::tempfile_in(&folder)
            .map_err(|e| Error::io("make a temporary file there (TMPDIR)", &folder, &e))?;
        Ok(Self { file, folder })
    }

    fn write(&mut self, bytes: &[u8], path: &Path, len: u64) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| {
            Error::file(
                path,
                format!(
                    "cannot be unpacked in {} beyond {} MB ({error}); set TMPDIR to a folder with \
                     more room, or compress its images by tiles with fpack",
                    self.folder.display(),
                    len / 1_000_000
                ),
            )
        })
    }
}

/// The content of a gzip file and its length. What does not begin as a FITS file is not unpacked
/// any further: its header says what is wrong.
///
/// # Errors
/// When it is damaged, unpacks to more than `budget`, or there is no room for it.
fn unpack(
    path: &Path,
    file: File,
    budget: ByteSize,
    room: &mut dyn FnMut() -> Result<Room>,
) -> Result<Whole> {
    let mut packed = flate2::read::MultiGzDecoder::new(std::io::BufReader::new(file));
    let mut step = vec![0; STEP];
    let (mut memory, mut disk, mut len): (Vec<u8>, Option<Room>, u64) = (Vec::new(), None, 0);
    loop {
        if stop::asked() {
            return Err(stop::stopped(" while a file was unpacked"));
        }
        let read = packed.read(&mut step).map_err(|error| {
            Error::file(
                path,
                format!("cannot be unpacked ({error}); it is cut short or damaged: fetch it again"),
            )
        })?;
        let bytes = step.get(..read).unwrap_or_default();
        let before = len;
        len += read as u64;
        if len > budget.0.max(IN_MEMORY) {
            return Err(Error::file(
                path,
                format!(
                    "unpacks to more than {budget}, the most that one file may take of the \
                     disk; raise `disk_budget`, or compress its images by tiles with fpack"
                ),
            ));
        }
        match &mut disk {
            Some(room) => room.write(bytes, path, before)?,
            None if len > IN_MEMORY => {
                let mut room = room()?;
                room.write(&std::mem::take(&mut memory), path, 0)?;
                room.write(bytes, path, before)?;
                disk = Some(room);
            }
            None => memory.extend_from_slice(bytes),
        }
        let other = memory.len() >= 8 && !memory.starts_with(b"SIMPLE  ");
        if read == 0 || other {
            break;
        }
    }
    let content = match disk {
        Some(room) => Content::File(Mutex::new(room.file)),
        None => Content::Memory(memory),
    };
    Ok((Arc::new(content), len))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gzip file of so many bytes that begin as a FITS file does.
    fn packed(folder: &Path, start: &[u8], len: usize) -> PathBuf {
        let path = folder.join("x.fits.gz");
        let file = File::create(&path).expect("a file");
        let mut packer = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        let mut bytes = start.to_vec();
        bytes.resize(len, b'7');
        packer.write_all(&bytes).expect("packed");
        packer.finish().expect("packed");
        path
    }

    fn try_unpack(path: &Path, budget: u64, room: Option<File>) -> Result<Whole> {
        let mut room = room.map(|file| Room { file, folder: "elsewhere".into() });
        let mut room = || match room.take() {
            Some(room) => Ok(room),
            None => Room::in_folder(),
        };
        unpack(path, File::open(path).expect("there"), ByteSize(budget), &mut room)
    }

    #[test]
    fn small_files_stay_in_memory_and_large_ones_go_to_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let large = IN_MEMORY as usize + 300_000;
        for (len, on_disk) in [(0, false), (7, false), (5000, false), (large, true)] {
            let path = packed(folder.path(), &b"SIMPLE  = T"[..len.min(11)], len);
            let (content, found) = try_unpack(&path, u64::MAX, None).expect("sound");
            assert_eq!(found, len as u64);
            assert_eq!(matches!(*content, Content::File(_)), on_disk);
            let mut window = Vec::new();
            content.fill(&mut window, found.saturating_sub(3), 9).expect("readable");
            assert_eq!(window.len(), len.min(3));
            assert!(len < 100 || window == b"777");
        }
    }

    #[test]
    fn what_takes_too_much_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let large = 3 * IN_MEMORY as usize;
        let path = packed(folder.path(), b"SIMPLE  = T", large);
        let error = try_unpack(&path, 20_000_000, None).expect_err("too large").to_string();
        assert!(error.contains("more than 20MB") && error.contains("`disk_budget`"), "{error}");
        // What is no FITS file is not unpacked to its end.
        let path = packed(folder.path(), b"something", large);
        let (_, len) = try_unpack(&path, u64::MAX, None).expect("left to the header");
        assert!(len <= STEP as u64, "{len}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = packed(folder.path(), b"SIMPLE  = T", 2 * IN_MEMORY as usize);
        let full = File::options().write(true).open("/dev/full").expect("of Linux");
        let error = try_unpack(&path, u64::MAX, Some(full)).expect_err("no room").to_string();
        let words = ["x.fits.gz", "unpacked in elsewhere", "No space left", "TMPDIR"];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }

    #[test]
    fn the_files_used_last_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let all = Unpacked::new(None);
        let paths = ["a", "b", "c"].map(|name| folder.path().join(name));
        let mut contents = Vec::new();
        for k in [0, 1, 0, 2] {
            let packed = packed(folder.path(), b"SIMPLE  ", 100);
            let file = File::open(packed).expect("there");
            contents.push(all.get(&paths[k], file, true).expect("sound").0);
        }
        assert!(Arc::ptr_eq(&contents[0], &contents[2]));
        assert_eq!(paths.each_ref().map(|path| all.keeps(path)), [true, false, true]);
    }
}
