//! TensorBoard event files: length-prefixed records with masked CRC-32C, each a
//! hand-encoded `Event` protocol buffer of scalars.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// A writer of scalar events.
pub(crate) struct EventFile {
    path: PathBuf,
    /// Made when there is something to write: a run that has nothing left to do leaves no file.
    file: Option<File>,
}

impl EventFile {
    /// A new event file in `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        let name = format!("events.out.tfevents.{}.{}", wall_time() as u64, std::process::id());
        Self { path: folder.join(name), file: None }
    }

    fn create(path: &Path) -> std::io::Result<File> {
        let mut file = File::create(path)?;
        let mut event = vec![];
        put_double(&mut event, 1, wall_time());
        put_bytes(&mut event, 3, b"brain.Event:2");
        file.write_all(&record(&event))?;
        Ok(file)
    }

    /// Writes the value of each tag at `step`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let mut summary = vec![];
        for (tag, value) in values {
            let mut entry = vec![];
            put_bytes(&mut entry, 1, tag.as_bytes());
            put_key(&mut entry, 2, 5);
            entry.extend((*value as f32).to_le_bytes());
            put_bytes(&mut summary, 1, &entry);
        }
        let mut event = vec![];
        put_double(&mut event, 1, wall_time());
        put_key(&mut event, 2, 0);
        put_varint(&mut event, step);
        put_bytes(&mut event, 5, &summary);
        self.put(&event)
    }

    fn put(&mut self, event: &[u8]) -> Result<()> {
        let Self { path, file } = self;
        let failed = |e: std::io::Error| Error::io("write", &*path, &e);
        let file = match file {
            Some(file) => file,
            None => file.insert(Self::create(path).map_err(failed)?),
        };
        file.write_all(&record(event)).map_err(failed)
    }
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(event.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(event);
    record.extend(masked_crc(event).to_le_bytes());
    record
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// TFRecord's mask, so that a checksum of checksums is not degenerate.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_key(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    put_varint(out, field << 3 | wire_type);
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(out, field, 2);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_double(out: &mut Vec<u8>, field: u64, value: f64) {
    put_key(out, field, 1);
    out.extend(value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_carry_their_length_and_checksums() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut events = EventFile::new(folder.path());
        events.scalars(300, &[("loss", 0.5)]).expect("writable");
        let bytes = std::fs::read(&events.path).expect("readable");
        let mut at = 0;
        let mut records = vec![];
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
            let crc = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().expect("4 bytes"));
            assert_eq!(crc, masked_crc(&bytes[at..at + 8]));
            let event = &bytes[at + 12..at + 12 + length as usize];
            at += 12 + length as usize;
            let crc = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
            assert_eq!(crc, masked_crc(event));
            at += 4;
            records.push(event.to_vec());
        }
        assert_eq!(records.len(), 2);
        assert!(records[0].ends_with(b"brain.Event:2"));
        // step 300 as a varint, then the summary {tag "loss", value 0.5}
        let tail =
            [&[0x10, 0xac, 0x02, 0x2a, 13, 0x0a, 11, 0x0a, 4][..], b"loss", &[0x15, 0, 0, 0, 0x3f]]
                .concat();
        assert!(records[1].ends_with(&tail), "{:?}", records[1]);
    }
}
