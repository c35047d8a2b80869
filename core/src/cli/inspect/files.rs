//! Files of arrays: safetensors, `.npy`, tables of embeddings, recorded cases.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use serde_json::Value as Json;

use super::{Found, model, plain};
use crate::checkpoint::format;
use crate::checkpoint::python::Layout;
use crate::checkpoint::tensors::{Outline, describe_tensors};
use crate::error::{Error, Result};

/// A safetensors file: a checkpoint's, or any other.
pub(super) fn safetensors(path: &Path) -> Result<Found> {
    let (arrays, metadata) = describe_tensors(path)?;
    if metadata.contains_key(format::KEY) && metadata.contains_key("plan") {
        return model::checkpoint(path);
    }
    let mut found = Found::new("a safetensors file");
    if let Some(layout) = Layout::detect(arrays.iter().map(|a| a.name.as_str())) {
        found.fact("parameters of", layout.name());
    }
    describe_arrays(&mut found, &arrays);
    let rows = metadata.into_iter().map(|(key, value)| vec![key, value]).collect();
    found.table("metadata", &["key", "value"], rows);
    Ok(found)
}

fn describe_arrays(found: &mut Found, arrays: &[Outline]) {
    let count = |a: &Outline| a.shape.iter().product::<usize>();
    found.fact("arrays", arrays.len());
    found.fact("numbers", arrays.iter().map(count).sum::<usize>());
    let row = |a: &Outline| vec![a.name.clone(), a.dtype.clone(), format!("{:?}", a.shape)];
    let rows = arrays.iter().map(row).collect();
    found.table("arrays", &["name", "type", "shape"], rows);
}

/// The folder of a recorded case.
pub(super) fn case(path: &Path) -> Result<Found> {
    let file = path.join("case.json");
    let text = std::fs::read(&file).map_err(|e| Error::io("read", &file, &e))?;
    let json: serde_json::Map<String, Json> = serde_json::from_slice(&text)
        .map_err(|e| Error::file(&file, format!("is no description of a case: {e}")))?;
    let mut found = Found::new("a recorded case (replay it with `astropt verify`)");
    for (key, value) in &json {
        found.fact(key, plain(value));
    }
    let recorded = path.join("case.safetensors");
    describe_arrays(&mut found, &describe_tensors(&recorded)?.0);
    Ok(found)
}

/// A table of embeddings; `None` when it is another Parquet file.
pub(super) fn embeddings(path: &Path) -> Result<Option<Found>> {
    let file = File::open(path).map_err(|e| Error::io("read", path, &e))?;
    let metadata = ArrowReaderMetadata::load(&file, Default::default())
        .map_err(|e| Error::file(path, format!("is no Parquet file: {e}; copy it again")))?;
    let of_file = metadata.metadata().file_metadata();
    let entries = of_file.key_value_metadata().into_iter().flatten();
    let entries: BTreeMap<String, String> =
        entries.map(|e| (e.key.clone(), e.value.clone().unwrap_or_default())).collect();
    let fields = metadata.schema().fields();
    if !["id", "split", "embedding"].iter().all(|name| fields.find(name).is_some()) {
        return Ok(None);
    }
    if let Some(stated) = entries.get(format::KEY) {
        format::check(path, stated)?;
    }
    let mut found = Found::new("a table of embeddings");
    found.fact("objects", of_file.num_rows());
    for (key, value) in entries.iter().filter(|(key, _)| key.starts_with("astropt")) {
        let key = key.trim_start_matches("astropt.description.");
        found.fact(key.trim_start_matches("astropt."), value.clone());
    }
    let row = |f: &arrow_schema::FieldRef| vec![f.name().clone(), f.data_type().to_string()];
    found.table("columns", &["name", "type"], fields.iter().map(row).collect());
    Ok(Some(found))
}

/// An array of NumPy: the header alone.
pub(super) fn npy(path: &Path) -> Result<Found> {
    /// Longest header that is read: NumPy pads them to some hundred bytes.
    const LONGEST: usize = 1 << 16;
    let broken =
        |what: &str| Error::file(path, format!("is no NumPy array: {what}; copy it again"));
    let file = File::open(path).map_err(|e| Error::io("read", path, &e))?;
    let mut start = Vec::new();
    let read = file.take(LONGEST as u64 + 12).read_to_end(&mut start);
    read.map_err(|e| Error::io("read", path, &e))?;
    let rest =
        start.strip_prefix(b"\x93NUMPY").ok_or_else(|| broken("its first bytes are others"))?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => {
            let length = u32::from_le_bytes([*a, *b, *c, *d]);
            (usize::try_from(length).unwrap_or(usize::MAX), rest)
        }
        _ => return Err(broken("its version is unknown")),
    };
    let header = rest.get(..length).ok_or_else(|| broken("its header is cut short"))?;
    let header = String::from_utf8_lossy(header).trim().to_owned();
    let mut found = Found::new("a NumPy array");
    found.fact("header", header);
    Ok(found)
}
