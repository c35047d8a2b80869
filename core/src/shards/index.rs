//! The index of converted data and the listings of its shards.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{INDEX, UNFINISHED, hash, listing_path};
use crate::checkpoint::{format, write_bytes};
use crate::data::other_label_unit;
use crate::error::{Error, Result};
use crate::observation::{LabelUnits, Labels};
use crate::plain;
use crate::seam::Groups;
use crate::tokens::TokenSpec;

/// How the numbers of continuous tokens are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// As they are: training from them is the same, bit for bit.
    #[default]
    F32,
    /// Rounded to half precision: half the size, widened where a batch is put together.
    F16,
}

impl Precision {
    /// Bytes of a number.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// Where a difference between data and recipe is found, in words.
pub(super) const PLACES: [&str; 2] = ["in the data", "now"];

/// What was converted, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The program that converted.
    pub(super) program: String,
    /// Configuration of each modality, with its `kind`.
    pub(super) modalities: BTreeMap<String, serde_json::Value>,
    /// The tokens of each modality.
    pub(super) specs: BTreeMap<String, TokenSpec>,
    /// How numbers are stored.
    pub(super) precision: Precision,
    /// Size at which a shard is full, in bytes.
    pub(super) shard_bytes: u64,
    /// The source that was read.
    pub(super) source: serde_json::Value,
    /// How many objects it has, the unusable ones included.
    pub(super) objects: usize,
    /// Hash of their ids in order, each followed by a zero byte.
    pub(super) ids: String,
    /// Whether ids are places in the source's files, see [`Source`](crate::seam::Source).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) ids_are_places: bool,
    /// How the source groups them, so that training goes through them in the same order.
    pub(super) groups: Option<Groups>,
    /// Units of labels that state one; nothing in data of earlier versions.
    #[serde(default, skip_serializing_if = "LabelUnits::is_empty")]
    pub(super) label_units: LabelUnits,
}

impl Head {
    /// How this conversion differs from `other`, the program apart; empty if it does not. A label
    /// may have got a unit since, and not another one.
    pub(super) fn differences(&self, other: &Self) -> Result<Vec<String>> {
        let value = |head: &Self| {
            let (program, label_units) = Default::default();
            let head = Self { program, label_units, ..head.clone() };
            serde_json::to_value(head).map_err(|e| Error::Failed(e.to_string()))
        };
        let mut found = plain::differences("", &value(self)?, &value(other)?, PLACES);
        if let Some((label, units)) = other_label_unit(&self.label_units, &other.label_units) {
            let [then, now] = units;
            let [place, place_now] = PLACES;
            found.push(format!(
                "the label {label:?} is in {then:?} {place} and in {now:?} {place_now}"
            ));
        }
        Ok(found)
    }
}

/// The index: written when all shards are there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Index {
    pub(super) head: Head,
    /// Hash of the file of a few objects as they were before; none where they are too large, or
    /// were converted before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) originals: Option<String>,
    pub(super) shards: Vec<Entry>,
}

/// A shard in the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// How many objects it has, the unusable ones included.
    pub(super) objects: usize,
    /// Hash of its listing.
    pub(super) listing: String,
}

/// The objects of a shard, and what its file must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Listing {
    /// Size of the shard's file.
    pub(super) bytes: u64,
    /// Hash of the shard's file.
    pub(super) xxh3: String,
    pub(super) objects: Vec<Listed>,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) id: String,
    /// Labels whose numbers are finite: JSON has no others.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub(super) labels: Labels,
    /// Why it could not be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rejected: Option<String>,
}

/// Writes what a conversion will be, before its first shard.
pub(super) fn write_head(folder: &Path, head: &Head) -> Result<()> {
    write_json(&folder.join(UNFINISHED), head).map(drop)
}

/// What the unfinished conversion in `folder` is; `None` where there is none.
pub(super) fn read_head(folder: &Path) -> Result<Option<Head>> {
    let path = folder.join(UNFINISHED);
    if !path.exists() {
        return Ok(None);
    }
    format::read_json(&path, "the beginning of a conversion").map(Some)
}

/// Writes the index, which finishes the conversion.
pub(super) fn write_index(folder: &Path, index: &Index) -> Result<()> {
    write_json(&folder.join(INDEX), index)?;
    let unfinished = folder.join(UNFINISHED);
    std::fs::remove_file(&unfinished).map_err(|e| Error::io("delete", &unfinished, &e))
}

/// Reads the index in `folder`.
pub(super) fn read_index(folder: &Path) -> Result<Index> {
    let path = folder.join(INDEX);
    if !path.exists() {
        return Err(Error::file(
            folder,
            if folder.join(UNFINISHED).exists() {
                "the conversion is not finished; give the same `astropt convert` command again, \
                 it goes on with the shard that is missing"
            } else {
                "holds no converted data; `astropt convert` writes them"
            },
        ));
    }
    format::read_json(&path, "an index of converted data")
}

/// Writes the listing of shard `number`; answers with the shard's entry for the index.
pub(super) fn write_listing(folder: &Path, number: usize, listing: &Listing) -> Result<Entry> {
    let listed = write_json(&listing_path(folder, number), listing)?;
    Ok(Entry { objects: listing.objects.len(), listing: listed })
}

/// Reads the listing of shard `number`, with its entry as the index should have it.
pub(super) fn read_listing(folder: &Path, number: usize) -> Result<(Listing, Entry)> {
    let path = listing_path(folder, number);
    let text = std::fs::read(&path).map_err(|e| Error::io("read", &path, &e))?;
    let listing: Listing = format::parse_json(&path, &text, "a listing of converted objects")?;
    let entry = Entry { objects: listing.objects.len(), listing: hash(&text) };
    Ok((listing, entry))
}

/// Writes `of` and answers with the hash of the file.
fn write_json(path: &Path, of: &impl Serialize) -> Result<String> {
    let text = format::to_json(of)
        .map_err(|e| Error::file(path, format!("cannot be written as JSON: {e}")))?;
    write_bytes(path, text.as_bytes())?;
    Ok(hash(text.as_bytes()))
}
