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
use crate::progress;

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
    put(folder, Checksums { xxh3: names.iter().map(of).collect::<Result<_>>()? })
}

fn put(folder: &Path, checksums: Checksums) -> Result<()> {
    let text = format::to_json(&checksums)
        .map_err(|e| Error::Failed(format!("cannot write the checksums: {e}")))?;
    write_bytes(folder.join(FILE), text.as_bytes())
}

/// What the record beside a file says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It is what was written.
    AsWritten,
    /// The record does not list it.
    Unlisted,
    /// There is no record.
    NoRecord,
}

/// Compares the file `path` with the record beside it.
///
/// # Errors
/// When the file is another than recorded, or one of the two cannot be read.
pub(crate) fn check(path: &Path) -> Result<Checked> {
    let record = path.with_file_name(FILE);
    if !record.exists() {
        return Ok(Checked::NoRecord);
    }
    let Some(recorded) = read(&record)?.remove(name_of(path)) else { return Ok(Checked::Unlisted) };
    compare(
        path,
        &recorded,
        "or use another checkpoint (one that was changed on purpose is accepted once its line in \
         checksums.json is deleted)",
    )?;
    Ok(Checked::AsWritten)
}

/// The error of a record that is gone, by which `what` is checked.
pub(crate) fn missing(record: &Path, what: &str) -> Error {
    Error::file(
        record,
        format!(
            "is gone, by which {what} are checked; copy it again (to take the files as they are, \
             write {{\"xxh3\": {{}}}} into it)"
        ),
    )
}

/// As [`check_listed`], of a file that is listed once it is whole: one that is not is told of.
///
/// # Errors
/// As [`check_listed`].
pub(crate) fn check_whole(path: &Path) -> Result<()> {
    check_listed(path)?;
    let record = path.with_file_name(FILE);
    if record.exists() && path.exists() && !read(&record)?.contains_key(name_of(path)) {
        let path = path.display();
        progress::warn(&format!("{path} has no line in {FILE}: it is taken as it is"));
    }
    Ok(())
}

/// Compares the file `path` with the record beside it, if that lists it: a folder whose files are
/// made one after the other lists those that are whole.
///
/// # Errors
/// When the file is another than recorded, or one of the two cannot be read.
pub(crate) fn check_listed(path: &Path) -> Result<()> {
    let record = path.with_file_name(FILE);
    if !record.exists() {
        return Ok(());
    }
    match read(&record)?.get(name_of(path)) {
        None => Ok(()),
        Some(_) if !path.exists() => Err(Error::file(
            path,
            format!("is gone, and {FILE} lists it; copy it again, or delete its line there"),
        )),
        Some(recorded) => compare(
            path,
            recorded,
            "or make it again (one that was changed on purpose is accepted once its line in \
             checksums.json is deleted)",
        ),
    }
}

/// Compares all files of a run's `folder` with the record in it.
///
/// # Errors
/// As [`check_listed`], of the first that is damaged or gone.
pub(crate) fn all_as_listed(folder: &Path) -> Result<()> {
    let record = folder.join(FILE);
    let names = if record.exists() { read(&record)? } else { BTreeMap::new() };
    names.keys().try_for_each(|name| check_listed(&folder.join(name)))
}

/// Checks that no file is gone that the record of `folder` lists and whose name begins with
/// `start`: what reads whatever files it finds would not miss it.
///
/// # Errors
/// The first that is gone.
pub(crate) fn none_lost(folder: &Path, start: &str) -> Result<()> {
    let record = folder.join(FILE);
    let names = if record.exists() { read(&record)? } else { BTreeMap::new() };
    let lost = names.keys().find(|name| name.starts_with(start) && !folder.join(name).exists());
    lost.map_or(Ok(()), |name| check_listed(&folder.join(name)))
}

/// Writes the files `names` of `folder` by `write`, and their record after them: until they are
/// whole none of them is listed, so that a crash is not mistaken for damage. Those that `write`
/// leaves out are not listed either.
///
/// # Errors
/// What `write` answers, or when the record cannot be read or written.
pub(crate) fn rewritten<T>(
    folder: &Path,
    names: &[&str],
    write: impl FnOnce() -> Result<T>,
) -> Result<T> {
    forget(folder, names)?;
    let written = write()?;
    list(folder, names)?;
    Ok(written)
}

/// Takes the files `names` off the record in `folder`.
///
/// # Errors
/// When the record cannot be read or written.
pub(crate) fn forget(folder: &Path, names: &[&str]) -> Result<()> {
    forget_all(folder, |name| names.contains(&name))
}

/// Takes the files that `which` says off the record in `folder`.
///
/// # Errors
/// When the record cannot be read or written.
pub(crate) fn forget_all(folder: &Path, which: impl Fn(&str) -> bool) -> Result<()> {
    let record = folder.join(FILE);
    if !record.exists() {
        return Ok(());
    }
    let mut xxh3 = read(&record)?;
    let before = xxh3.len();
    xxh3.retain(|name, _| !which(name));
    if xxh3.len() == before { Ok(()) } else { put(folder, Checksums { xxh3 }) }
}

/// Adds those of the files `names` that are in `folder` to its record.
///
/// # Errors
/// When a file cannot be read, or the record not be read or written.
pub(crate) fn list(folder: &Path, names: &[&str]) -> Result<()> {
    let record = folder.join(FILE);
    let mut xxh3 = if record.exists() { read(&record)? } else { BTreeMap::new() };
    for name in names {
        let path = folder.join(name);
        if path.is_file() {
            xxh3.insert((*name).to_owned(), digest(&path)?);
        }
    }
    put(folder, Checksums { xxh3 })
}

fn read(record: &Path) -> Result<BTreeMap<String, String>> {
    format::read_json(record, "a record of checksums").map(|Checksums { xxh3 }| xxh3)
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// `way_out` goes on after "copy it again".
fn compare(path: &Path, recorded: &str, way_out: &str) -> Result<()> {
    let found = digest(path)?;
    if found == *recorded {
        return Ok(());
    }
    Err(Error::file(
        path,
        format!(
            "is not what was written: its checksum is {found}, {FILE} has {recorded}; copy it \
             again {way_out}"
        ),
    ))
}

/// Compares every file that the record in `folder` lists with it.
///
/// # Errors
/// As [`check`], and when a listed file is gone.
pub(crate) fn check_all(folder: &Path) -> Result<()> {
    let record = folder.join(FILE);
    if !record.exists() {
        return Ok(());
    }
    read(&record)?.keys().try_for_each(|name| check(&folder.join(name)).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_bit_is_noticed() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a");
        std::fs::write(&path, b"abc").expect("written");
        assert_eq!(check(&path).expect("readable"), Checked::NoRecord);
        write(folder.path(), &["a"]).expect("recorded");
        // The published test vector of the algorithm: `printf abc | xxhsum -H2`.
        assert_eq!(digest(&path).expect("read"), "06b05ab6733a618578af5f94892f3950");
        assert_eq!(check(&path).expect("readable"), Checked::AsWritten);
        for bit in 0..24 {
            let mut bytes = *b"abc";
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).expect("written");
            let error = check(&path).expect_err("damaged").to_string();
            assert!(error.contains("is not what was written"), "{error}");
        }
        let other = folder.path().join("b");
        std::fs::write(&other, b"abc").expect("written");
        assert_eq!(check(&other).expect("readable"), Checked::Unlisted);
    }
    #[test]
    fn a_folder_lists_what_is_whole() {
        let folder = tempfile::tempdir().expect("folder");
        let at = |name: &str| folder.path().join(name);
        let put = |name: &str, text: &str| std::fs::write(at(name), text).expect("written");
        put("a", "1");
        check_listed(&at("a")).expect("no record");
        list(folder.path(), &["a", "none"]).expect("listed");
        check_listed(&at("a")).expect("as written");
        check_listed(&at("b")).expect("not listed");
        // While it is written anew, nothing is said of it.
        let stopped = rewritten(folder.path(), &["a", "b"], || {
            put("a", "2");
            Err::<(), _>(Error::Failed("killed".into()))
        });
        assert!(stopped.is_err());
        check_listed(&at("a")).expect("not listed");
        rewritten(folder.path(), &["a", "b"], || {
            put("b", "3");
            Ok(())
        })
        .expect("written");
        ["a", "b"].iter().for_each(|name| check_listed(&at(name)).expect("as written"));
        put("b", "4");
        assert!(check_listed(&at("b")).expect_err("damaged").to_string().contains("make it again"));
        std::fs::remove_file(at("a")).expect("deleted");
        assert!(check_listed(&at("a")).expect_err("gone").to_string().contains("is gone"));
    }
}
