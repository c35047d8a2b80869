//! `checksums.json`: what the files of a folder were when they were written, so that damage
//! by disks, copies and editors is not mistaken for a model.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::{format, write_bytes};
use crate::error::{Error, Result};

/// The file's name in a folder.
pub(crate) const FILE: &str = "checksums.json";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checksums {
    /// XXH3 of 128 bits, in hexadecimal, by file name; `xxhsum -H2` computes the same.
    xxh3: BTreeMap<String, String>,
}

/// XXH3 of 128 bits of the file `path`, in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn digest(path: &Path) -> Result<String> {
    let failed = |e: std::io::Error| Error::io("read", path, &e);
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
    let (mut hash, mut bytes) = (Xxh3::new(), vec![0; 1 << 20]);
    loop {
        match reader.read(&mut bytes).map_err(failed)? {
            0 => return Ok(format!("{:032x}", hash.digest128())),
            read => hash.update(bytes.get(..read).unwrap_or_default()),
        }
    }
}

/// Records the files `names` of `folder`.
///
/// # Errors
/// When one cannot be read, or the record cannot be written.
pub(crate) fn write(folder: &Path, names: &[&str]) -> Result<()> {
    let of = |name: &&str| Ok(((*name).to_owned(), digest(&folder.join(name))?));
    let checksums = Checksums { xxh3: names.iter().map(of).collect::<Result<_>>()? };
    let text = format::to_json(&checksums)
        .map_err(|e| Error::Failed(format!("cannot write the checksums: {e}")))?;
    write_bytes(folder.join(FILE), text.as_bytes())
}

/// Compares the file `path` with the record beside it; `false` when there is none, as in
/// folders from before there were any.
///
/// # Errors
/// When the file is another than recorded, or one of the two cannot be read.
pub(crate) fn check(path: &Path) -> Result<bool> {
    let record = path.with_file_name(FILE);
    if !record.exists() {
        return Ok(false);
    }
    let Checksums { xxh3 } = format::read_json(&record, "a record of checksums")?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(recorded) = xxh3.get(name) else {
        return Err(Error::file(path, format!("is not among the files that {FILE} lists")));
    };
    let found = digest(path)?;
    if found == *recorded {
        return Ok(true);
    }
    Err(Error::file(
        path,
        format!(
            "is not what was written: its checksum is {found}, {FILE} has {recorded}; copy it \
             again or use another checkpoint (one that was changed on purpose is accepted once \
             {FILE} is deleted)"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_bit_is_noticed() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a");
        std::fs::write(&path, b"abc").expect("written");
        assert!(!check(&path).expect("no record"));
        write(folder.path(), &["a"]).expect("recorded");
        // The published test vector of the algorithm: `printf abc | xxhsum -H2`.
        assert_eq!(digest(&path).expect("read"), "06b05ab6733a618578af5f94892f3950");
        assert!(check(&path).expect("as written"));
        for bit in 0..24 {
            let mut bytes = *b"abc";
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).expect("written");
            let error = check(&path).expect_err("damaged").to_string();
            assert!(error.contains("is not what was written"), "{error}");
        }
        let other = folder.path().join("b");
        std::fs::write(&other, b"abc").expect("written");
        assert!(check(&other).expect_err("unlisted").to_string().contains("lists"));
    }
}
