//! The ledger: which objects every step was taken on, as a chain of digests. A digest covers the
//! ids of its step's objects in the order of the endless stream and the digest before it, so that
//! the last one stands for all, whatever ranks and workers read them.
//!
//! `ledger.jsonl` has a line a step, and `state.json` of a checkpoint the digest after its step.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::lines::{LineFile, read_lines};
use crate::data::Drawn;
use crate::error::{Error, Result};
use crate::progress;

/// File of [`Entry`] lines.
pub const LEDGER: &str = "ledger.jsonl";

/// One line of `ledger.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Steps taken, this one included.
    pub step: u64,
    /// Position of its first object in the endless stream.
    pub first: u64,
    /// How many objects, at consecutive positions; none where the step was passed over because
    /// its numbers were wrong.
    pub objects: u64,
    /// Positions whose own object could not be used, and which of its stand-ins was, from 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub instead: BTreeMap<u64, u32>,
    /// [`chain`] of this step, in hexadecimal.
    pub chain: String,
}

/// The digest of a step: SHA-256 over that of the step before it (32 zero bytes where there is
/// none), the step's number, and of each object its position and the SHA-256 of its id; numbers
/// as 8 bytes, little-endian. `drawn` is in the order of positions.
pub fn chain(before: &[u8; 32], step: u64, drawn: &[Drawn]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(step.to_le_bytes());
    for object in drawn {
        hash.update(object.position.to_le_bytes());
        hash.update(object.id);
    }
    hash.finalize().into()
}

/// A digest in hexadecimal.
pub fn to_hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest that `text` is in hexadecimal, if it is one.
pub fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (k, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * k..2 * k + 2)?, 16).ok()?;
    }
    Some(out)
}

/// The ledger of a run, being written.
pub(crate) struct Ledger {
    file: LineFile,
    head: [u8; 32],
}

impl Ledger {
    /// Opens the ledger in `folder` to go on after `step`, when it stood at `head`: later lines,
    /// which an interrupted run left behind, are cut off.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is another run's.
    pub(crate) fn open(folder: &Path, step: u64, head: Option<&str>) -> Result<Self> {
        let path = folder.join(LEDGER);
        let kept = |entry: &Entry| entry.step <= step && head.is_some();
        let file = LineFile::open(path.clone(), kept)?;
        let last = read_lines::<Entry>(&path)?.pop();
        if head.is_some() && last.as_ref().is_none_or(|last| last.step < step) {
            progress::warn(&format!(
                "{} does not reach step {step}: what the steps before were taken on cannot be proved",
                path.display()
            ));
        }
        if let (Some(last), Some(head)) = (&last, head)
            && last.step == step
            && last.chain != head
        {
            return Err(Error::file(
                &path,
                format!(
                    "does not lead to the checkpoint after step {step}, which was trained on other \
                     objects; copy the file again, or delete it to go on without what it proves"
                ),
            ));
        }
        let head = match head {
            None => [0; 32],
            Some(head) => from_hex(head).ok_or_else(|| {
                Error::Failed(format!("the checkpoint's ledger is {head:?}, which is no digest"))
            })?,
        };
        Ok(Self { file, head })
    }

    /// Writes down the objects of `step`, the one after the last, from `first` on; answers with
    /// the chain's new end. The objects may come in any order: those of several ranks one after
    /// the other.
    ///
    /// # Errors
    /// When a position was read twice or not at all, or the file cannot be written.
    pub(crate) fn record(
        &mut self,
        step: u64,
        first: u64,
        mut drawn: Vec<Drawn>,
    ) -> Result<String> {
        drawn.sort_unstable();
        if let Some((expected, found)) =
            (first..).zip(&drawn).find(|(expected, found)| *expected != found.position)
        {
            return Err(Error::Failed(format!(
                "step {step} read position {} of the training objects where {expected} was due: a \
                 worker or rank read another's; this is a bug, the last checkpoint is whole",
                found.position
            )));
        }
        self.head = chain(&self.head, step, &drawn);
        let stood_in = drawn.iter().filter(|object| object.attempt > 0);
        let entry = Entry {
            step,
            first,
            objects: drawn.len() as u64,
            instead: stood_in.map(|object| (object.position, object.attempt)).collect(),
            chain: to_hex(&self.head),
        };
        self.file.put(&entry)?;
        Ok(entry.chain)
    }

    /// Writes down that `step` trained on nothing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn pass_over(&mut self, step: u64) -> Result<String> {
        self.record(step, 0, Vec::new())
    }

    /// Flushes what was written to the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync()
    }

    /// Notices that the file was deleted or replaced.
    ///
    /// # Errors
    /// When it was.
    pub(crate) fn still_there(&self) -> Result<()> {
        self.file.still_there()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(positions: std::ops::Range<u64>) -> Vec<Drawn> {
        positions.map(|k| Drawn::new(k, u32::from(k == 5), &format!("o{k}"))).collect()
    }

    #[test]
    fn the_chain_is_the_same_for_any_order_of_ranks_and_any_interruption() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut whole = Ledger::open(folder.path(), 0, None).expect("writable");
        let heads: Vec<String> = (0..4)
            .map(|s| whole.record(s + 1, 4 * s, drawn(4 * s..4 * s + 4)).expect("written"))
            .collect();
        let lines = read_lines::<Entry>(&folder.path().join(LEDGER)).expect("readable");
        assert_eq!(lines[1].instead, BTreeMap::from([(5, 1)]));
        // Again from step 2, the ranks' objects one after the other.
        let mut again = Ledger::open(folder.path(), 2, Some(&heads[1])).expect("cut back");
        for s in 2..4u64 {
            let ranks = [drawn(4 * s + 2..4 * s + 4), drawn(4 * s..4 * s + 2)].concat();
            assert_eq!(again.record(s + 1, 4 * s, ranks).expect("written"), heads[s as usize]);
        }
        assert_eq!(read_lines::<Entry>(&folder.path().join(LEDGER)).expect("readable"), lines);
        let error = Ledger::open(folder.path(), 2, Some(&heads[0])).err().expect("another chain");
        assert!(error.to_string().contains("other objects"), "{error}");
    }

    #[test]
    fn a_position_that_is_read_twice_or_left_out_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut ledger = Ledger::open(folder.path(), 0, None).expect("writable");
        let twice = [drawn(0..2), drawn(1..3)].concat();
        assert!(ledger.record(1, 0, twice).expect_err("twice").to_string().contains("position 1"));
        let gap = [drawn(0..1), drawn(2..4)].concat();
        assert!(ledger.record(1, 0, gap).is_err());
        assert!(ledger.record(1, 0, drawn(1..5)).is_err());
    }

    #[test]
    fn digests_are_written_and_read() {
        let digest = chain(&[0; 32], 1, &drawn(0..3));
        assert_eq!(from_hex(&to_hex(&digest)), Some(digest));
        assert_eq!(from_hex("ab"), None);
        assert_eq!(from_hex(&"é".repeat(32)), None);
        assert_ne!(chain(&[0; 32], 2, &drawn(0..3)), digest);
        assert_ne!(chain(&digest, 1, &drawn(0..3)), digest);
    }
}
