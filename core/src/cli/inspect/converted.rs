//! Converted data: the folder, and its files by themselves.

use std::path::Path;

use serde_json::Value as Json;

use super::source::{fields, labels, names};
use super::{Found, as_json, model, plain};
use crate::checkpoint::tensors::Outline as Array;
use crate::error::Result;
use crate::observation::Observation;
use crate::progress::quantity;
use crate::shards::{Object, Outline, Part, ShardOutline, kept, outline, shard_tokens};
use crate::tokens::TokenSpec;

/// Objects that are shown.
const OBJECTS: usize = 5;

/// A folder of converted data, finished or not.
pub(super) fn folder(path: &Path) -> Result<Found> {
    let of = outline(path, OBJECTS)?;
    let mut found = Found::new(if of.finished {
        "converted data: tokens that `astropt convert` has made (train on them with --data)"
    } else {
        "the beginning of a conversion: give the same `astropt convert` command again to finish it"
    });
    facts(&mut found, &of);
    let tokens = |name: &String| -> usize {
        of.shards.iter().filter_map(|shard| shard.tokens.get(name)).sum()
    };
    let row = |(name, (config, spec)): (&String, &(Json, TokenSpec))| {
        let kind = config.get("kind").map_or("-".to_owned(), plain);
        let (values, positions) = (spec.values.to_string(), spec.positions.to_string());
        let most = spec.max_tokens.to_string();
        vec![name.clone(), kind, values, positions, most, quantity(tokens(name) as f64)]
    };
    let heading = ["name", "kind", "token", "position", "most an object", "tokens in all"];
    found.table("modalities", &heading, of.modalities.iter().map(row).collect());
    let heading = ["file", "objects", "unusable", "bytes", "is"];
    found.table("shards", &heading, of.shards.iter().map(shard_row).collect());
    found.table("first objects", &["id", "labels"], of.first.iter().map(object_row).collect());
    let mut rows = model::settings("source", &of.source);
    for (name, (config, _)) in &of.modalities {
        rows.extend(model::settings(&format!("modality.{name}"), config));
    }
    found.table("made from", &["key", "value"], rows);
    Ok(found)
}

fn facts(found: &mut Found, of: &Outline) {
    let sum = |count: fn(&ShardOutline) -> usize| of.shards.iter().map(count).sum::<usize>();
    let (listed, rejected) = (sum(|s| s.objects), sum(|s| s.rejected));
    found.fact("source", "tokenised");
    let kind = of.source.get("kind").map_or("-".to_owned(), plain);
    let place = of.source.get("path").or_else(|| of.source.get("repo"));
    let place = place.map_or(String::new(), |place| format!(" {}", plain(place)));
    found.fact("converted from", format!("{kind}{place}"));
    found.fact("objects", of.objects);
    if !of.finished {
        found.fact("in whole shards", listed);
    }
    found.fact("unusable", rejected);
    let bytes: u64 = of.shards.iter().map(|shard| shard.bytes).sum();
    let stored = as_json(&of.precision);
    found.fact("numbers", format!("{}, {}B in all", plain(&stored), quantity(bytes as f64)));
    if let Some(groups) = of.groups {
        found.fact("groups that are read together", groups);
    }
    let originals = match &of.originals {
        None => "none: self-checks of models trained on these begin with tokens".to_owned(),
        Some(Ok(n)) => format!("{n} objects, which self-checks carry on"),
        Some(Err(error)) => error.to_string(),
    };
    found.fact("kept as they were", originals);
    found.fact("converted by", of.program.clone());
    let labels = of.first.iter().map(|object| &object.labels);
    found.fact("labels", names(labels, &of.label_units));
}

fn shard_row(shard: &ShardOutline) -> Vec<String> {
    let is = match shard.found {
        None => "missing",
        Some(bytes) if bytes != shard.bytes => "of another size",
        Some(_) => "there",
    };
    let counts = [shard.objects, shard.rejected].map(|n| n.to_string());
    [shard.file.clone()]
        .into_iter()
        .chain(counts)
        .chain([shard.bytes.to_string(), is.into()])
        .collect()
}

fn object_row(object: &Object) -> Vec<String> {
    let said = match &object.rejected {
        Some(reason) => format!("unusable: {reason}"),
        None => labels(&object.labels),
    };
    vec![object.id.clone(), said]
}

/// A file of converted data by itself.
pub(super) fn part(path: &Path, part: Part) -> Result<Found> {
    let (shard, objects) = match part {
        Part::Whole(of) => return folder(&of),
        Part::Listing(shard, objects) => (shard, objects),
    };
    let mut found = Found::new("the listing of a shard of converted data");
    found.fact("shard", path.with_file_name(&shard.file).display().to_string());
    found.fact("objects", shard.objects);
    found.fact("unusable", shard.rejected);
    for (name, count) in &shard.tokens {
        found.fact(&format!("{name} tokens"), *count);
    }
    found.fact("bytes", shard.bytes);
    found.fact("checksum", shard.xxh3);
    found.table("objects", &["id", "labels"], objects.iter().map(object_row).collect());
    Ok(found)
}

/// A shard, or the objects that were kept as they were; `None` where it is neither.
pub(super) fn safetensors(path: &Path, arrays: &[Array]) -> Result<Option<Found>> {
    let names: Vec<&str> = arrays.iter().map(|a| a.name.as_str()).collect();
    if let Some(objects) = kept(path) {
        let objects: Vec<Observation> = objects?;
        let mut found = Found::new("objects as they were before they were converted");
        found.fact("objects", objects.len());
        found.table("fields", &super::source::FIELDS, fields(&objects));
        let row = |o: &Observation| vec![o.id.clone(), labels(&o.labels)];
        found.table("objects", &["id", "labels"], objects.iter().map(row).collect());
        return Ok(Some(found));
    }
    let Some(tokens) = shard_tokens(path, &names) else { return Ok(None) };
    let mut found = Found::new("a shard of converted data");
    for (name, count) in tokens {
        found.fact(&format!("{name} tokens"), count);
    }
    let listing = path.with_extension("json");
    let listing = listing.file_name().unwrap_or_default().to_string_lossy().into_owned();
    found.fact("its objects", format!("{listing} lists them"));
    super::files::describe_arrays(&mut found, arrays);
    Ok(Some(found))
}
