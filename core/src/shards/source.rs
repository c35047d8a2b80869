//! The source `tokenised`: converted data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use super::convert::halves;
use super::index::{Head, Listed, PLACES, Precision, read_index, read_listing};
use super::reader::{Shard, ShardFile, other_length};
use super::{INDEX, listing_path, originals, shard_path};
use crate::checkpoint::arrays::token_arrays;
use crate::data::Row;
use crate::error::{Error, Result};
use crate::observation::{Field, LabelUnits, Labels, Observation};
use crate::plain;
use crate::recipe::Modalities;
use crate::seam::{Groups, ModalityConfig, Source, SourceConfig, TokenSource};

/// Keys of a modality that its tokens do not depend on.
const FREE: [&str; 1] = ["loss_weight"];

/// Configuration of the source `tokenised`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenisedConfig {
    /// Folder that `astropt convert` wrote.
    pub path: PathBuf,
}

#[typetag::serde(name = "tokenised")]
impl SourceConfig for TokenisedConfig {
    fn open(&self, root: &Path) -> Result<Box<dyn Source>> {
        Ok(Box::new(Tokenised::open(root.join(&self.path))?))
    }
}

crate::register_source!(
    "tokenised",
    "Tokens that `astropt convert` has made, mapped into memory",
    "path = 'converted'",
    Some("path"),
    TokenisedConfig
);

/// Converted data, open.
struct Tokenised {
    folder: PathBuf,
    head: Head,
    /// Hash of the file of originals.
    originals: Option<String>,
    objects: Vec<Listed>,
    files: Vec<ShardFile>,
    /// Index of the first object of each shard.
    firsts: Vec<usize>,
    /// The shards touched so far.
    shards: Vec<Slot>,
}

/// A shard that is opened once, by whoever needs it first.
#[derive(Default)]
struct Slot {
    shard: OnceLock<Shard>,
    opening: Mutex<()>,
}

impl Slot {
    /// The shard, opened with `open` where it is not yet. What went wrong is not kept: it may have
    /// been the system's.
    fn get(&self, open: impl FnOnce() -> Result<Shard>) -> Result<&Shard> {
        if let Some(shard) = self.shard.get() {
            return Ok(shard);
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        match self.shard.get() {
            Some(shard) => Ok(shard),
            None => {
                let shard = open()?;
                Ok(self.shard.get_or_init(|| shard))
            }
        }
    }
}

impl Tokenised {
    fn open(folder: PathBuf) -> Result<Self> {
        let index = read_index(&folder)?;
        let mut source = Self {
            head: index.head,
            originals: index.originals,
            objects: Vec::new(),
            files: Vec::new(),
            firsts: Vec::new(),
            shards: index.shards.iter().map(|_| Slot::default()).collect(),
            folder,
        };
        for (number, entry) in index.shards.iter().enumerate() {
            let (listing, found) = read_listing(&source.folder, number)?;
            if found != *entry {
                let message = "is not the listing that the index was made with; copy it again, \
                               or convert the data again";
                return Err(Error::file(listing_path(&source.folder, number), message));
            }
            source.firsts.push(source.objects.len());
            source.files.push(ShardFile {
                bytes: listing.bytes,
                xxh3: listing.xxh3,
                objects: found.objects,
            });
            source.objects.extend(listing.objects);
        }
        source.check_index().map_err(|message| {
            let path = source.folder.join(INDEX);
            Error::file(path, format!("{message}; convert the data again"))
        })?;
        source.check_files()?;
        Ok(source)
    }

    /// Checks that all shards are there, each as long as it was written: a run whose shards are
    /// first touched hours later learns at once that one was not copied.
    fn check_files(&self) -> Result<()> {
        for (number, file) in self.files.iter().enumerate() {
            let path = shard_path(&self.folder, number);
            let failed = |e: std::io::Error| match e.kind() {
                std::io::ErrorKind::NotFound => Error::file(
                    &path,
                    "is missing, a shard of the converted data; copy it again, or convert the data \
                     again",
                ),
                _ => Error::io("read", &path, &e),
            };
            let found = std::fs::metadata(&path).map_err(failed)?.len();
            if found != file.bytes {
                return Err(Error::file(&path, other_length(found, file.bytes)));
            }
        }
        Ok(())
    }

    /// Checks what the index says against its listings.
    fn check_index(&self) -> Result<(), String> {
        let (stated, found) = (self.head.objects, self.objects.len());
        if found == 0 || found != stated || u32::try_from(found).is_err() {
            return Err(format!("it claims {stated} objects and its listings hold {found}"));
        }
        let mut names = self.head.modalities.keys();
        if !names.clone().eq(self.head.specs.keys()) || names.next().is_none() {
            return Err("its modalities and their tokens do not go together".into());
        }
        if let Some(groups) = &self.head.groups {
            let ascend = |of: &[u32]| of.first() == Some(&0) && of.windows(2).all(|w| w[0] < w[1]);
            let last = groups.starts.last().map_or(0, |&start| start as usize);
            let known = |shard: &u32| groups.starts.binary_search(shard).is_ok();
            let sound = ascend(&groups.starts) && ascend(&groups.shards);
            if !sound || last >= found || groups.held == 0 || !groups.shards.iter().all(known) {
                return Err("its groups of objects make no sense".into());
            }
        }
        Ok(())
    }

    fn object(&self, index: usize) -> Result<&Listed> {
        self.objects.get(index).ok_or_else(|| {
            let message = format!("no object {index}, only {}", self.objects.len());
            Error::file(&self.folder, message)
        })
    }

    /// The shard of object `index` and its place there.
    fn shard(&self, index: usize) -> Result<(&Shard, usize)> {
        let listed = self.object(index)?;
        if let Some(reason) = &listed.rejected {
            return Err(unusable(&listed.id, reason));
        }
        let number = self.firsts.partition_point(|&first| first <= index).saturating_sub(1);
        let slots = (self.shards.get(number), self.files.get(number), self.firsts.get(number));
        let (Some(slot), Some(file), Some(first)) = slots else {
            return Err(Error::object(&listed.id, "it is in no shard; convert the data again"));
        };
        let path = shard_path(&self.folder, number);
        let open = || Shard::open(&path, file, &self.head.specs, self.head.precision);
        // No object's fault: to go on without a shard's objects would hide what is wrong with it.
        let shard = slot.get(open).map_err(|error| Error::Failed(error.to_string()))?;
        shard.unchanged()?;
        Ok((shard, index.saturating_sub(*first)))
    }
}

impl Tokenised {
    /// Checks that the objects which were kept as they were become the tokens of the shards again.
    fn check_originals(&self, modalities: &Modalities) -> Result<()> {
        for (index, observation) in self.originals()? {
            let row = self.tokens(index, &|name| modalities.contains_key(name))?;
            for (name, modality) in modalities {
                let then = row.iter().find(|(of, _)| of == name).map(|(_, tokens)| tokens);
                let now = modality.tokenise(&observation).map_err(|e| e.to_string());
                let differs = |difference: String| {
                    let (id, program) = (&observation.id, &self.head.program);
                    Error::file(
                        &self.folder,
                        format!(
                            "was converted with other preprocessing than this program's: of object \
                             {id}, {difference}; convert the data again, or use the program that \
                             did ({program})"
                        ),
                    )
                };
                let now = now.map_err(differs)?;
                originals::same(now.as_ref(), then, name, self.head.precision).map_err(|why| {
                    match now.as_ref().map(|now| halves(name, now)) {
                        Some(Err(lost)) if self.head.precision == Precision::F16 => Error::file(
                            &self.folder,
                            format!(
                                "lost what it was converted from: of object {}, {lost}, and convert \
                                 the data again",
                                observation.id
                            ),
                        ),
                        _ => differs(why),
                    }
                })?;
            }
        }
        Ok(())
    }
}

/// The error that `reason` is the text of: why object `id` could not be converted.
fn unusable(id: &str, reason: &str) -> Error {
    let own = reason.strip_prefix("object ").and_then(|rest| rest.strip_prefix(id));
    match (own.and_then(|rest| rest.strip_prefix(": ")), reason.split_once(": ")) {
        (Some(message), _) => Error::object(id, message),
        (None, Some((path, message))) => Error::file(path, message),
        (None, None) => Error::object(id, reason),
    }
}

impl Source for Tokenised {
    fn len(&self) -> usize {
        self.objects.len()
    }

    fn id(&self, index: usize) -> String {
        self.objects.get(index).map(|object| object.id.clone()).unwrap_or_default()
    }

    fn ids_are_places(&self) -> bool {
        self.head.ids_are_places
    }

    fn labels(&self, index: usize) -> Labels {
        self.objects.get(index).map(|object| object.labels.clone()).unwrap_or_default()
    }

    fn label_units(&self) -> LabelUnits {
        self.head.label_units.clone()
    }

    fn groups(&self) -> Option<Groups> {
        self.head.groups.clone()
    }

    fn unchanged(&self) -> Result<()> {
        let mut opened = self.shards.iter().filter_map(|slot| slot.shard.get());
        opened.try_for_each(Shard::unchanged)
    }

    /// The tokens as arrays that the modality `tokens` understands.
    fn read(&self, index: usize) -> Result<Observation> {
        let row = self.tokens(index, &|_| true)?;
        let object = self.object(index)?;
        let mut fields = BTreeMap::new();
        for (name, tokens) in row {
            let Some(spec) = self.head.specs.get(&name) else { continue };
            let arrays = token_arrays(&name, &tokens, spec)
                .map_err(|e| Error::object(&object.id, format!("modality {name}: {e}")))?;
            let field = |(name, array)| (name, Field { array, unit: None });
            fields.extend(arrays.into_iter().map(field));
        }
        Ok(Observation { id: object.id.clone(), fields, labels: object.labels.clone() })
    }

    fn tokenised(&self) -> Option<&dyn TokenSource> {
        Some(self)
    }
}

impl TokenSource for Tokenised {
    fn digest(&self) -> Option<String> {
        let hashes: Vec<&str> = self.files.iter().map(|file| file.xxh3.as_str()).collect();
        Some(super::hash(hashes.concat().as_bytes()))
    }

    fn check(&self, modalities: &BTreeMap<String, Box<dyn ModalityConfig>>) -> Result<()> {
        let mut built = Modalities::new();
        for (name, config) in modalities {
            let Some(made) = self.head.modalities.get(name) else {
                // The modality `tokens` reads the arrays of any.
                let known: Vec<_> = self.head.modalities.keys().map(String::as_str).collect();
                return Err(Error::Misuse(format!(
                    "{} was converted with the modalities {}, and the recipe asks for {name}; \
                     convert the data again with this recipe",
                    self.folder.display(),
                    known.join(", ")
                )));
            };
            let wanted = serde_json::to_value(config)
                .map_err(|e| Error::Failed(format!("modality.{name} cannot be compared: {e}")))?;
            let (mut made, mut wanted) = (made.clone(), wanted);
            for free in FREE {
                for value in [&mut made, &mut wanted] {
                    value.as_object_mut().and_then(|table| table.remove(free));
                }
            }
            let at = format!("modality.{name}");
            let mut differences = plain::differences(&at, &made, &wanted, PLACES);
            let modality = config.build()?;
            let (spec, old) = (modality.spec(), self.head.specs.get(name));
            built.insert(name.clone(), modality);
            if differences.is_empty()
                && old.is_none_or(|old| {
                    (old.values, old.positions, old.max_tokens)
                        != (spec.values, spec.positions, spec.max_tokens)
                })
            {
                differences.push(format!("modality.{name} makes other tokens now"));
            }
            if !differences.is_empty() {
                return Err(Error::Misuse(format!(
                    "{} was converted for other modalities: {}; convert the data again, or change \
                     the recipe",
                    self.folder.display(),
                    differences.join(", ")
                )));
            }
        }
        self.check_originals(&built)
    }

    fn originals(&self) -> Result<Vec<(usize, Observation)>> {
        let xxh3 = self.originals.as_ref();
        xxh3.map_or(Ok(Vec::new()), |xxh3| originals::read(&self.folder, xxh3))
    }

    fn tokens(&self, index: usize, wanted: &dyn Fn(&str) -> bool) -> Result<Row> {
        let (shard, k) = self.shard(index)?;
        shard.tokens(k, wanted).map_err(|message| Error::object(self.id(index), message))
    }

    fn raw_features(&self, index: usize, modality: &str) -> Result<Option<Vec<f32>>> {
        let (shard, k) = self.shard(index)?;
        shard.raw_features(k, modality).map_err(|message| Error::object(self.id(index), message))
    }
}
