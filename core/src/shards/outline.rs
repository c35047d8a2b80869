//! What converted data hold, for a person to read: from index and listings, not from tokens.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

use super::index::{Head, Listed, Precision, read_head, read_index, read_listing};
use super::{INDEX, UNFINISHED, listing_path, originals, shard_path};
use crate::checkpoint::tensors::describe_tensors;
use crate::error::Result;
use crate::observation::{LabelUnits, Labels, Observation};
use crate::tokens::TokenSpec;

/// A folder of converted data.
pub(crate) struct Outline {
    /// Whether all shards are there.
    pub(crate) finished: bool,
    /// The program that converted.
    pub(crate) program: String,
    /// The source that was read, with its `kind`.
    pub(crate) source: Json,
    /// How numbers are stored.
    pub(crate) precision: Precision,
    /// Objects that the source has, the unusable ones included.
    pub(crate) objects: usize,
    /// Groups of objects that the source reads together.
    pub(crate) groups: Option<usize>,
    /// Settings and tokens of each modality.
    pub(crate) modalities: BTreeMap<String, (Json, TokenSpec)>,
    pub(crate) shards: Vec<ShardOutline>,
    /// Objects that are kept as they were before, or why they cannot be read.
    pub(crate) originals: Option<Result<usize>>,
    /// Units of labels.
    pub(crate) label_units: LabelUnits,
    /// The first objects.
    pub(crate) first: Vec<Object>,
}

/// A shard of it.
pub(crate) struct ShardOutline {
    /// Name of its file.
    pub(crate) file: String,
    pub(crate) objects: usize,
    /// Objects that could not be used.
    pub(crate) rejected: usize,
    /// Bytes that its file must have.
    pub(crate) bytes: u64,
    /// Bytes that it has.
    pub(crate) found: Option<u64>,
    /// Tokens by modality, as its header has them.
    pub(crate) tokens: BTreeMap<String, usize>,
    pub(crate) xxh3: String,
}

/// An object as a listing has it.
pub(crate) struct Object {
    pub(crate) id: String,
    pub(crate) labels: Labels,
    /// Why it could not be used.
    pub(crate) rejected: Option<String>,
}

impl Object {
    fn of(listed: Listed) -> Self {
        Self { id: listed.id, labels: listed.labels, rejected: listed.rejected }
    }
}

/// Reads what the folder `path` holds; `first` objects are told apart.
///
/// # Errors
/// When its index or a listing cannot be read.
pub(crate) fn outline(folder: &Path, first: usize) -> Result<Outline> {
    let (head, shards, stated) = match read_head(folder)? {
        Some(head) if !folder.join(INDEX).exists() => (head, None, None),
        _ => {
            let index = read_index(folder)?;
            (index.head, Some(index.shards.len()), index.originals)
        }
    };
    let finished = shards.is_some();
    let mut of = head_outline(head);
    of.finished = finished;
    of.originals = stated.map(|xxh3| originals::read(folder, &xxh3).map(|all| all.len()));
    let there = |number: &usize| listing_path(folder, *number).exists();
    let numbers = 0..shards.unwrap_or_else(|| (0..).take_while(there).count());
    for number in numbers {
        let (shard, objects) = shard(folder, number)?;
        of.shards.push(shard);
        let missing = first.saturating_sub(of.first.len());
        of.first.extend(objects.into_iter().take(missing));
    }
    Ok(of)
}

fn head_outline(head: Head) -> Outline {
    let mut configurations = head.modalities;
    let modality = |(name, spec): (String, TokenSpec)| {
        let configuration = configurations.remove(&name).unwrap_or_default();
        (name, (configuration, spec))
    };
    Outline {
        finished: false,
        program: head.program,
        source: head.source,
        precision: head.precision,
        objects: head.objects,
        groups: head.groups.map(|groups| groups.starts.len()),
        modalities: head.specs.into_iter().map(modality).collect(),
        shards: Vec::new(),
        originals: None,
        label_units: head.label_units,
        first: Vec::new(),
    }
}

/// Shard `number` of `folder`, and its objects.
///
/// # Errors
/// When its listing cannot be read.
fn shard(folder: &Path, number: usize) -> Result<(ShardOutline, Vec<Object>)> {
    let (listing, _) = read_listing(folder, number)?;
    let path = shard_path(folder, number);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let shard = ShardOutline {
        file: name,
        objects: listing.objects.len(),
        rejected: listing.objects.iter().filter(|object| object.rejected.is_some()).count(),
        bytes: listing.bytes,
        found: std::fs::metadata(&path).ok().map(|metadata| metadata.len()),
        tokens: tokens(&path).unwrap_or_default(),
        xxh3: listing.xxh3,
    };
    Ok((shard, listing.objects.into_iter().map(Object::of).collect()))
}

/// Tokens of each modality in the shard `path`: of its header, which says how many there are.
///
/// # Errors
/// When it is no safetensors file.
fn tokens(path: &Path) -> Result<BTreeMap<String, usize>> {
    let (arrays, _) = describe_tensors(path)?;
    let tokens = arrays.into_iter().filter_map(|array| {
        let name = ["values", "codes"].iter().find_map(|part| array.name.strip_suffix(part))?;
        Some((name.strip_suffix('.')?.to_owned(), *array.shape.first()?))
    });
    Ok(tokens.collect())
}

/// What `path`, a file of converted data, is: the index or its beginning (of which the folder is
/// what counts), or the listing of a shard; `None` where it is neither.
pub(crate) fn outline_of(path: &Path) -> Option<Result<Part>> {
    let name = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if [INDEX, UNFINISHED].contains(&name) {
        return Some(Ok(Part::Whole(folder.to_owned())));
    }
    let number: usize = name.strip_prefix("shard-")?.strip_suffix(".json")?.parse().ok()?;
    Some(shard(folder, number).map(|(shard, objects)| Part::Listing(shard, objects)))
}

/// A file of converted data.
pub(crate) enum Part {
    /// It stands for its folder.
    Whole(std::path::PathBuf),
    /// A shard's listing.
    Listing(ShardOutline, Vec<Object>),
}

/// Whether a safetensors file with arrays of these names is a shard, and then its tokens by
/// modality.
pub(crate) fn shard_tokens(path: &Path, names: &[&str]) -> Option<BTreeMap<String, usize>> {
    let tokens = tokens(path).ok()?;
    let own = |name: &String| names.contains(&format!("{name}.tokens").as_str());
    (!tokens.is_empty() && tokens.keys().all(own)).then_some(tokens)
}

/// The objects in the file `path`, if it is that of the originals by its name.
pub(crate) fn kept(path: &Path) -> Option<Result<Vec<Observation>>> {
    let read = || originals::read_file(path).map(|all| all.into_iter().map(|(_, o)| o).collect());
    path.ends_with(originals::FILE).then(read)
}
