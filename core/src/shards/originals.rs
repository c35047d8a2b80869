//! A few objects as the source gave them that was converted, kept beside the shards: what the
//! program makes of them today must be what the shards hold, and a model that is trained on
//! converted data carries them in its self-check.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::convert::fits;
use super::index::Precision;
use crate::checkpoint::arrays::{Arrays, load_arrays, save_arrays};
use crate::checkpoint::recorded::{
    LOOKED_AT, RAW_BYTES, Recorded, TOLERANCE, close, size, telling,
};
use crate::checkpoint::{checksums, format};
use crate::data::{Objects, Row};
use crate::error::{Error, Result};
use crate::observation::Observation;
use crate::plain;
use crate::tokens::Tokens;

/// The file's name in the folder.
pub(super) const FILE: &str = "astropt-originals.safetensors";
/// Bytes of the largest such file that is read: far above what is written.
const MAX_BYTES: u64 = 64 << 20;
/// How far a number that was rounded to half precision may be, in units of the largest.
pub(super) const HALF: f64 = 1e-3;

/// An object, beside its arrays.
#[derive(Serialize, Deserialize)]
struct Original {
    index: usize,
    id: String,
    raw: Recorded,
}

/// Writes the file, if it is not there yet and some object is small enough; answers with its
/// hash. It depends on the objects alone, so that an interrupted conversion goes on with the same.
///
/// # Errors
/// When a source fails, or the file cannot be written.
pub(super) fn write(
    folder: &Path,
    objects: &Objects,
    precision: Precision,
) -> Result<Option<String>> {
    let path = folder.join(FILE);
    let mut found: Vec<(usize, Observation, Row)> = Vec::new();
    for index in 0..objects.source.len().min(LOOKED_AT) {
        match objects.read(index) {
            Ok((observation, row)) if fits(&row, precision).is_ok() => {
                found.push((index, observation, row));
            }
            Err(error) if error.ends_work() => return Err(error),
            _ => {}
        }
    }
    // Read they are in any case: an interrupted conversion goes on in the units that it began in.
    if path.exists() && read_file(&path).is_ok() {
        return checksums::digest(&path).map(Some);
    }
    let (mut arrays, mut kept, mut spent) = (Arrays::new(), Vec::new(), 0);
    for (index, observation, _) in telling(found, |(.., row)| row) {
        if spent + size(&observation) <= RAW_BYTES {
            spent += size(&observation);
            let raw = Recorded::put(&observation, &format!("raw.{}", kept.len()), &mut arrays);
            kept.push(Original { index, id: observation.id, raw });
        }
    }
    if kept.is_empty() {
        return Ok(None);
    }
    let text = serde_json::to_string(&kept)
        .map_err(|e| Error::Failed(format!("cannot describe the first objects: {e}")))?;
    let metadata = BTreeMap::from([
        (format::KEY.to_owned(), format::FORMAT.to_string()),
        ("objects".to_owned(), text),
    ]);
    save_arrays(&path, &arrays, &metadata)?;
    checksums::digest(&path).map(Some)
}

/// Reads the file in `folder`, whose hash must be `xxh3`.
///
/// # Errors
/// When it is not what was written, or of a newer format.
pub(super) fn read(folder: &Path, xxh3: &str) -> Result<Vec<(usize, Observation)>> {
    let path = folder.join(FILE);
    let found = checksums::digest(&path)?;
    if found != xxh3 {
        let message = format!(
            "is not what was converted: its hash is {found}, the index has {xxh3}; copy it again, or \
             convert the data again"
        );
        return Err(Error::file(&path, message));
    }
    read_file(&path)
}

/// Reads the file `path`, whatever its hash.
///
/// # Errors
/// When it is damaged or of a newer format.
pub(super) fn read_file(path: &Path) -> Result<Vec<(usize, Observation)>> {
    let broken = |e: String| Error::file(path, format!("is damaged: {e}; convert the data again"));
    let size = std::fs::metadata(path).map_err(|e| Error::io("read", path, &e))?.len();
    if size > MAX_BYTES {
        return Err(broken(format!("it has {size} bytes, at most {MAX_BYTES} are believed")));
    }
    let (arrays, metadata) = load_arrays(path)?;
    format::of_metadata(path, &metadata)?;
    let text = metadata.get("objects").map_or("", String::as_str);
    let objects: Vec<Original> =
        serde_json::from_str(text).map_err(|e| broken(plain::json_value(&e)))?;
    let observation = |(k, of): (usize, Original)| {
        let observation = of.raw.get(&of.id, &format!("raw.{k}"), &arrays).map_err(broken)?;
        Ok((of.index, observation))
    };
    objects.into_iter().enumerate().map(observation).collect()
}

/// Compares what a modality makes of an object now with what it made then.
///
/// # Errors
/// Says what differs.
pub(super) fn same(
    now: Option<&Tokens>,
    then: Option<&Tokens>,
    name: &str,
    precision: Precision,
) -> Result<(), String> {
    let (now, then) = match (now, then) {
        (None, None) => return Ok(()),
        (Some(now), Some(then)) => (now, then),
        _ => return Err(format!("one of the two has no {name} tokens")),
    };
    if (now.len, &now.codes, &now.indices) != (then.len, &then.codes, &then.indices) {
        return Err(format!("the {name} tokens are others, or in other places"));
    }
    let tolerance = if precision == Precision::F16 { HALF } else { TOLERANCE };
    close(&now.values, &then.values, tolerance, &format!("the {name} tokens"))?;
    close(&now.positions, &then.positions, TOLERANCE, &format!("the positions of {name} tokens"))
}
