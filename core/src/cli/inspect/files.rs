//! Files of arrays: safetensors, `.npy`, tables of embeddings, recorded cases.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use serde_json::Value as Json;

use super::{Found, converted, model, plain, significant};
use crate::checkpoint::format;
use crate::checkpoint::python::Layout;
use crate::checkpoint::tensors::{Outline, describe_tensors};
use crate::embed::Embeddings;
use crate::error::{Error, Result};

/// A safetensors file: a checkpoint's, or any other.
pub(super) fn safetensors(path: &Path) -> Result<Found> {
    let (arrays, metadata) = describe_tensors(path)?;
    if metadata.contains_key(format::KEY) && metadata.contains_key("plan") {
        return model::checkpoint(path);
    }
    let names: Vec<&str> = arrays.iter().map(|a| a.name.as_str()).collect();
    if let Some(found) = converted::safetensors(path, &arrays)? {
        return Ok(found);
    }
    if metadata.contains_key(format::KEY) {
        format::of_metadata(path, &metadata)?;
        let starts = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
        if starts("moment1.") || metadata.contains_key("steps") {
            return Ok(optimiser(&arrays, &metadata));
        }
        if starts("outputs.") && metadata.contains_key("objects") {
            return self_check(&arrays, &metadata);
        }
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

/// The moments of AdamW.
fn optimiser(arrays: &[Outline], metadata: &BTreeMap<String, String>) -> Found {
    let mut found = Found::new("the optimiser's state of a checkpoint (AdamW's two moments)");
    let steps = metadata.get("steps").map_or("-", String::as_str);
    found.fact("steps taken", steps);
    let first: Vec<&Outline> = arrays.iter().filter(|a| a.name.starts_with("moment1.")).collect();
    found.fact("parameters", first.len());
    let row = |a: &&Outline| {
        let name = a.name.trim_start_matches("moment1.").to_owned();
        vec![name, a.dtype.clone(), format!("{:?}", a.shape)]
    };
    found.table("moments of", &["parameter", "type", "shape"], first.iter().map(row).collect());
    found
}

/// What a self-check asks, as its metadata have it.
#[derive(serde::Deserialize)]
struct Asked {
    id: String,
    spans: Vec<String>,
    #[serde(default)]
    lengths: BTreeMap<String, usize>,
    raw: Option<Json>,
}

fn asked(metadata: &BTreeMap<String, String>) -> Vec<Asked> {
    let text = metadata.get("objects").map_or("", String::as_str);
    serde_json::from_str(text).unwrap_or_default()
}

/// What the self-check `path` covers, in words.
pub(super) fn covers(path: &Path) -> Result<String> {
    let (_, metadata) = describe_tensors(path)?;
    let asked = asked(&metadata);
    let raw = asked.iter().filter(|object| object.raw.is_some()).count();
    Ok(match raw {
        0 => format!("{} objects, from their tokens on; no preparation", asked.len()),
        n if n == asked.len() => format!("{n} objects, preparation and model"),
        n => format!("{} objects, the preparation of {n} of them", asked.len()),
    })
}

/// A self-check.
fn self_check(arrays: &[Outline], metadata: &BTreeMap<String, String>) -> Result<Found> {
    let mut found = Found::new("the self-check of a checkpoint: objects, and what became of them");
    let asked = asked(metadata);
    found.fact("objects", asked.len());
    let row = |(k, object): (usize, &Asked)| {
        let prefix = format!("raw.{k}.");
        let fields = arrays
            .iter()
            .filter_map(|a| Some(format!("{} {:?}", a.name.strip_prefix(&prefix)?, a.shape)));
        let fields: Vec<String> = fields.collect();
        let from = match (&object.raw, fields.is_empty()) {
            (None, _) => "not recorded: its preparation is not checked".to_owned(),
            (Some(_), true) => "labels alone".to_owned(),
            (Some(_), false) => fields.join(", "),
        };
        let tokens = object.spans.iter().map(|name| {
            let count = object.lengths.get(name).map_or("?".to_owned(), usize::to_string);
            format!("{count} {name}")
        });
        vec![object.id.clone(), from, tokens.collect::<Vec<_>>().join(", ")]
    };
    let rows = asked.iter().enumerate().map(row).collect();
    found.table("objects", &["id", "observation", "tokens"], rows);
    let answers = arrays.iter().filter(|a| a.name.starts_with("outputs."));
    let row = |a: &Outline| {
        let count = a.shape.iter().product::<usize>().to_string();
        vec![a.name.trim_start_matches("outputs.").to_owned(), count]
    };
    found.table("answers of the model", &["of", "numbers"], answers.map(row).collect());
    Ok(found)
}

pub(super) fn describe_arrays(found: &mut Found, arrays: &[Outline]) {
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
    let (arrays, _) = describe_tensors(path.join("case.safetensors"))?;
    found.fact("arrays", arrays.len());
    let mut groups: BTreeMap<&str, Vec<&Outline>> = BTreeMap::new();
    for array in &arrays {
        groups.entry(array.name.split('.').next().unwrap_or_default()).or_default().push(array);
    }
    let row = |(name, group): (&str, Vec<&Outline>)| {
        let shape = match group[..] {
            [one] => format!("{:?}", one.shape),
            _ => format!("{} arrays", group.len()),
        };
        let numbers: usize = group.iter().map(|a| a.shape.iter().product::<usize>()).sum();
        vec![name.to_owned(), shape, numbers.to_string(), recorded(name).to_owned()]
    };
    let rows = groups.into_iter().map(row).collect();
    found.table("recorded", &["name", "shape", "numbers", "what"], rows);
    Ok(found)
}

/// What the Python program was asked where a case has arrays of this name.
fn recorded(name: &str) -> &'static str {
    match name {
        "data" | "tokens" | "all_tokens" => "what the model was given",
        "train" => "losses, norms and rates of the recorded training steps",
        "after" => "parameters after the recorded training steps",
        "outputs" => "predictions",
        "loss" | "losses" => "losses",
        "generated" => "tokens that it generated",
        _ if name.starts_with("grad") => "gradients of the first step",
        _ if name.starts_with("embed") => "embeddings",
        _ => "",
    }
}

/// A row about the label `name`: its unit, how many objects have it, and between what it lies.
fn label(table: &Embeddings, name: &str) -> Vec<String> {
    let numbers: Vec<f64> = table.numbers(name).into_iter().flatten().collect();
    let texts: Vec<&str> = table.texts(name).into_iter().flatten().collect();
    let end = |x: f64| if numbers.is_empty() { String::new() } else { significant(x) };
    let least = end(numbers.iter().copied().fold(f64::INFINITY, f64::min));
    let most = end(numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    let such = texts.first().map_or(String::new(), |text| (*text).to_owned());
    let unit = table.units.get(name).cloned().unwrap_or_default();
    vec![name.to_owned(), unit, (numbers.len() + texts.len()).to_string(), least, most, such]
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
    let table = Embeddings::read_parquet(path)?;
    let mut splits: BTreeMap<&str, usize> = BTreeMap::new();
    table.splits.iter().for_each(|split| *splits.entry(split).or_default() += 1);
    let splits = splits.iter().map(|(split, count)| format!("{count} {split}"));
    found.fact("splits", splits.collect::<Vec<_>>().join(", "));
    found.fact("numbers an object", table.width());
    let bad = table.vectors.iter().filter(|x| !x.is_finite()).count();
    if bad > 0 {
        found.fact("NaN or infinite", format!("{bad} numbers"));
    }
    for (key, value) in entries.iter().filter(|(key, _)| key.starts_with("astropt")) {
        let key = key.trim_start_matches("astropt.description.");
        found.fact(key.trim_start_matches("astropt."), value.clone());
    }
    let rows: Vec<_> = table.columns().keys().map(|name| label(&table, name)).collect();
    found.table("labels", &["name", "unit", "objects", "least", "most", "such as"], rows);
    if table.columns().is_empty() {
        found.fact("labels", "none");
    }
    Ok(Some(found))
}
