//! Files of JSON lines that grow as a run does, and are cut back when it goes on from before.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::Xxh3;

use crate::checkpoint::write_bytes;
use crate::error::{Error, Result};
use crate::plain;

/// A file of lines, open to be added to.
pub(super) struct LineFile {
    path: PathBuf,
    file: File,
    digest: Xxh3,
}

impl LineFile {
    /// Opens the file `path`, cut back to the lines that `keep` says.
    ///
    /// # Errors
    /// When it cannot be read or written, or holds something else.
    pub(super) fn open<T: Serialize + DeserializeOwned>(
        path: PathBuf,
        keep: impl Fn(&T) -> bool,
    ) -> Result<Self> {
        let mut digest = Xxh3::new();
        digest.update(&keep_lines(&path, keep)?);
        let file = append(&path)?;
        Ok(Self { path, file, digest })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn put(&mut self, record: &impl Serialize) -> Result<()> {
        let line = to_line(record)?;
        self.file.write_all(line.as_bytes()).map_err(|e| Error::io("write", &self.path, &e))?;
        self.digest.update(line.as_bytes());
        Ok(())
    }

    /// XXH3 of 128 bits of all lines, in hexadecimal.
    pub(super) fn digest(&self) -> String {
        format!("{:032x}", self.digest.digest128())
    }

    /// Flushes the lines to the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("write", &self.path, &e))
    }

    /// Notices that the file was deleted or replaced: what is written into one that is open goes on
    /// without a complaint.
    ///
    /// # Errors
    /// When it was.
    pub(super) fn still_there(&self) -> Result<()> {
        let place = |data: std::fs::Metadata| (data.dev(), data.ino());
        let named = std::fs::metadata(&self.path).map(place);
        if named.is_ok_and(|named| self.file.metadata().map(place).is_ok_and(|own| own == named)) {
            return Ok(());
        }
        let what = "was deleted or replaced by another file while the run wrote into it";
        Err(Error::file(&self.path, what))
    }
}

/// Adds a line to the file `path`, which may not be there yet.
///
/// # Errors
/// When the disk refuses.
pub(super) fn put_line(path: &Path, record: &impl Serialize) -> Result<()> {
    let line = to_line(record)?;
    append(path)?.write_all(line.as_bytes()).map_err(|e| Error::io("write", path, &e))
}

fn append(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map_err(|e| Error::io("write", path, &e))
}

fn to_line(record: &impl Serialize) -> Result<String> {
    serde_json::to_string(record)
        .map(|text| text + "\n")
        .map_err(|e| Error::Failed(format!("cannot write a line of a run: {e}")))
}

/// What [`LineFile::digest`] is of a file with these lines.
///
/// # Errors
/// When one cannot be written.
pub(super) fn digest_lines(records: &[impl Serialize]) -> Result<String> {
    let mut digest = Xxh3::new();
    for record in records {
        digest.update(to_line(record)?.as_bytes());
    }
    Ok(format!("{:032x}", digest.digest128()))
}

/// Reads a file of JSON lines; a last line cut short by an interruption is left out.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let mut records = Vec::new();
    each_line(path, |record| records.push(record))?;
    Ok(records)
}

/// As [`read_lines`], of which no more than one record is kept: each is given to `take`.
///
/// # Errors
/// As [`read_lines`].
pub(super) fn each_line<T: DeserializeOwned>(path: &Path, mut take: impl FnMut(T)) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("read", path, &e);
    let mut file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        file.read_until(b'\n', &mut bytes).map_err(failed)?;
        let Some(line) = bytes.strip_suffix(b"\n") else { break };
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        if !line.is_empty() {
            take(serde_json::from_str(&line).map_err(|e| {
                Error::file(path, format!("line {number}: {}", plain::json_value(&e)))
            })?);
        }
    }
    Ok(())
}

/// Cuts the file `path`, where there is one, back to the lines that `keep` says; answers with its
/// bytes.
///
/// # Errors
/// When it cannot be read or written, or holds something else.
pub(super) fn keep_lines<T: Serialize + DeserializeOwned>(
    path: &Path,
    keep: impl Fn(&T) -> bool,
) -> Result<Vec<u8>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let records: Vec<T> = read_lines(path)?;
    let mut text = String::new();
    for record in records.iter().filter(|record| keep(record)) {
        text += &to_line(record)?;
    }
    write_bytes(path, text.as_bytes())?;
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_file_however_it_came_to_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.jsonl");
        let all = |_: &u64| true;
        let mut one = LineFile::open(path.clone(), all).expect("writable");
        (1..=5_u64).for_each(|k| one.put(&k).expect("written"));
        let bytes = std::fs::read(&path).expect("readable");
        assert_eq!(one.digest(), format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&bytes)));
        let whole = one.digest();
        let mut again = LineFile::open(path.clone(), |&k: &u64| k <= 3).expect("cut back");
        assert_ne!(again.digest(), whole);
        (4..=5_u64).for_each(|k| again.put(&k).expect("written"));
        assert_eq!(again.digest(), whole);
    }

    #[test]
    fn whole_lines_are_read_and_a_broken_one_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.jsonl");
        assert!(read_lines::<u64>(&path).expect("no file").is_empty());
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            read_lines::<u64>(&path).map_err(|e| e.to_string())
        };
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("1\r\n\n2\n3"), Ok(vec![1, 2]));
        let error = read("1\n\nx\n2\n").expect_err("no number");
        assert!(error.contains("line 3"), "{error}");
    }

    #[test]
    fn a_file_that_is_deleted_or_replaced_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.jsonl");
        let mut file = LineFile::open(path.clone(), |_: &u64| true).expect("writable");
        file.put(&1_u64).expect("written");
        file.still_there().expect("as it was");
        let bytes = std::fs::read(&path).expect("readable");
        std::fs::remove_file(&path).expect("deleted");
        assert!(file.still_there().is_err());
        std::fs::write(&path, bytes).expect("written");
        let error = file.still_there().expect_err("another file").to_string();
        assert!(error.contains("a.jsonl") && error.contains("replaced"), "{error}");
    }
}
