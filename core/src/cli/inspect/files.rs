//! Files of arrays: safetensors, `.npy`, tables of embeddings, recorded cases.

use std::collections::BTreeMap;
use std::fs::File;
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
    let metadata = ArrowReaderMetadata::load(&file, Default::default()).map_err(|e| {
        Error::file(
            path,
            format!("is no Parquet file: {}; {}", crate::plain::parquet(e), crate::plain::WAY_OUT),
        )
    })?;
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
