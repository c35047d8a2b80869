//! The version of the files this program writes, one for all of them: `astropt_format`.
//!
//! | version | what changed |
//! |---|---|
//! | 1 | the first |
//! | 2 | checkpoints carry `selfcheck.safetensors`; the version stands in every file, under one word |

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};

use super::python::JsonMap;
use crate::error::{Error, Result};
use crate::plain;

/// The version that is written.
pub const FORMAT: u32 = 2;
/// Under which files state it.
pub const KEY: &str = "astropt_format";

/// What brings a JSON file of version k + 1 to version k + 2.
const MIGRATIONS: [fn(&mut JsonMap); FORMAT as usize - 1] = [to_2];

/// A run's manifest alone stated its version before, under a word of its own.
fn to_2(json: &mut JsonMap) {
    json.remove("format");
}

#[derive(Serialize)]
struct Stamped<'a, T> {
    astropt_format: u32,
    #[serde(flatten)]
    of: &'a T,
}

/// `of`, a structure, as JSON text that states its version.
///
/// # Errors
/// When it cannot be written as JSON.
pub(crate) fn to_json(of: &impl Serialize) -> std::result::Result<String, serde_json::Error> {
    let text = serde_json::to_string_pretty(&Stamped { astropt_format: FORMAT, of })?;
    Ok(text + "\n")
}

/// As [`to_json`], of what can be read again.
///
/// # Errors
/// As [`to_json`] and [`readable`].
pub(crate) fn to_json_again<T: Serialize + DeserializeOwned>(
    of: &T,
) -> std::result::Result<String, serde_json::Error> {
    readable(of)?;
    to_json(of)
}

/// Checks that `of` can be read from the JSON that it is written as, which has no word for a number
/// that is not finite.
///
/// # Errors
/// When it cannot, with the reason.
pub(crate) fn readable<T: Serialize + DeserializeOwned>(
    of: &T,
) -> std::result::Result<(), serde_json::Error> {
    let again = serde_json::to_value(of).and_then(serde_json::from_value::<T>);
    again.map(drop).map_err(|e| {
        let why = plain::json(&e);
        serde::ser::Error::custom(format!(
            "it could not be read again, as where a number is not finite: {why}"
        ))
    })
}

/// Reads the JSON file `path`, of this version or an older one. `what` is what it should
/// be, such as `a run's manifest`.
///
/// # Errors
/// When it cannot be read, is of a newer version, or is not `what`.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    let text = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    parse_json(path, &text, what)
}

/// As [`read_json`], of the bytes `text` that `path` holds.
pub(crate) fn parse_json<T: DeserializeOwned>(path: &Path, text: &[u8], what: &str) -> Result<T> {
    let broken =
        |e: serde_json::Error| Error::file(path, format!("is not {what}: {}", plain::json(&e)));
    let mut json: JsonMap = serde_json::from_slice(text).map_err(broken)?;
    let stated = json.remove(KEY).or_else(|| json.get("format").cloned());
    let version = match &stated {
        None => 1,
        Some(stated) => check(path, &stated.to_string())?,
    };
    let steps = MIGRATIONS.iter().skip(version as usize - 1);
    steps.for_each(|migrate| migrate(&mut json));
    serde_json::from_value(json.into()).map_err(broken)
}

/// The version of a file that states it in its metadata.
///
/// # Errors
/// When it is newer than this program, or there is none.
pub(crate) fn of_metadata(path: &Path, metadata: &BTreeMap<String, String>) -> Result<u32> {
    match metadata.get(KEY) {
        Some(stated) => check(path, stated),
        None => Err(Error::file(path, "was not written by this program")),
    }
}

/// The version that `path` states, if this program knows it.
///
/// # Errors
/// When it does not.
pub(crate) fn check(path: &Path, stated: &str) -> Result<u32> {
    match stated.parse() {
        Ok(version) if (1..=FORMAT).contains(&version) => Ok(version),
        Ok(version) if version > FORMAT => Err(Error::file(
            path,
            format!(
                "has the format {stated}, this program reads 1 to {FORMAT}; use a newer program"
            ),
        )),
        _ => Err(Error::file(path, format!("states a format {stated}, which is no version"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Record {
        a: f64,
    }

    #[test]
    fn versions_are_stated_migrated_and_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("r.json");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            read_json::<Record>(&path, "a record")
        };
        let record = Record { a: 0.1 };
        let text = to_json(&record).expect("written");
        assert!(text.contains("\"astropt_format\": 2"), "{text}");
        assert_eq!(read(&text).expect("read"), record);
        assert_eq!(to_json_again(&record).expect("written"), text);
        for a in [f64::NAN, f64::INFINITY] {
            let error = to_json_again(&Record { a }).expect_err("null").to_string();
            assert!(error.contains("not finite"), "{error}");
        }
        for older in
            ["{\"a\": 0.1}", "{\"format\": 1, \"a\": 0.1}", "{\"astropt_format\":1,\"a\":0.1}"]
        {
            assert_eq!(read(older).expect("read"), record);
        }
        for newer in ["{\"astropt_format\": 3}", "{\"format\": 99}"] {
            let error = read(newer).expect_err("newer").to_string();
            assert!(error.contains("use a newer program") && error.contains("r.json"), "{error}");
        }
        assert!(read("{}").expect_err("lacks a").to_string().contains("is not a record"));
    }
}
