//! Data, once through a recipe's modalities, into shards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use half::f16;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::index::{
    Entry, Head, Index, Listed, Listing, Precision, read_head, read_listing, write_head,
    write_index, write_listing,
};
use super::originals::{self, HALF};
use super::reader::{Shard, ShardFile};
use super::writer::{Builder, Spans};
use super::{INDEX, listing_path, shard_path};
use crate::checkpoint::files::{PARTIAL, sweep};
use crate::data::{Loader, Objects, Rejected, Row, Witnesses, too_many_rejected};
use crate::error::{Error, Result};
use crate::observation::{Label, Labels};
use crate::progress::{Progress, quantity};
use crate::recipe::Plan;
use crate::run::{RunLock, in_no_run, write_rejected};
use crate::seam::Source;
use crate::stop;
use crate::tokens::Tokens;

/// Objects of each shard that are read again before a conversion goes on.
const LOOKED_AT: usize = 8;

/// How to convert.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Size at which a shard is full, in bytes.
    pub shard_bytes: u64,
    /// How the numbers of continuous tokens are stored.
    pub precision: Precision,
    /// Threads that read and tokenise; the files do not depend on it.
    pub workers: usize,
}

/// What a conversion has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Converted {
    /// Objects, the unusable ones included.
    pub objects: usize,
    /// Objects that could not be used.
    pub rejected: usize,
    /// Shards.
    pub shards: usize,
    /// Bytes of all shards.
    pub bytes: u64,
}

/// Writes the objects of `plan`'s source as tokens to the folder `out`; relative paths of the
/// source start at `root`. Where `out` holds the beginning of the same conversion it goes on
/// after the last whole shard, and ends in the same bytes. One process at a time writes into `out`.
///
/// # Errors
/// When the source cannot be opened, `out` holds other data or is being written, what was converted
/// before is not what the source holds now, more objects are unusable than
/// `train.max_rejected` allows, the user interrupts, or the disk fails.
pub fn convert(plan: &Plan, root: &Path, out: &Path, settings: &Settings) -> Result<Converted> {
    finished(out)?;
    let objects = Arc::new(Objects::open(plan, root)?);
    if objects.source.tokenised().is_some() {
        return Err(Error::Misuse("the data are converted already; train from them".into()));
    }
    let head = head(plan, &objects, settings)?;
    in_no_run(out)?;
    std::fs::create_dir_all(out).map_err(|e| Error::io("make the folder", out, &e))?;
    begun(out, &head)?; // what is no conversion of ours is not locked
    let _lock = RunLock::take(out)?;
    finished(out)?;
    let begun = begun(out, &head)?;
    sweep(out)?;
    if !begun {
        write_head(out, &head)?;
    }
    let budget = (plan.train.max_rejected * objects.source.len() as f64) as usize;
    let mut work = Work::resume(out, &head, budget, &objects)?;
    let originals = originals::write(out, &objects, settings.precision)?;
    work.run(objects.clone(), settings.workers)?;
    objects.tell_unmet();
    let Work { converted, rejected, entries, .. } = work;
    write_rejected(out, &rejected)?;
    write_index(out, &Index { head, originals, shards: entries })?;
    Ok(converted)
}

/// The refusal of a folder that holds `what`.
fn refuse<T>(out: &Path, what: &str) -> Result<T> {
    let way = "choose another folder with --out, or delete it";
    Err(Error::Misuse(format!("{} holds {what}; {way}", out.display())))
}

/// Refuses a folder that holds all of a conversion.
fn finished(out: &Path) -> Result<()> {
    if out.join(INDEX).exists() { refuse(out, "converted data already") } else { Ok(()) }
}

/// Whether `out` holds the beginning of this conversion; nothing else may be there.
fn begun(out: &Path, head: &Head) -> Result<bool> {
    let other = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            let name = entry.file_name();
            !RunLock::is_file(&name) && !name.to_string_lossy().starts_with(PARTIAL)
        })
    };
    match read_head(out)? {
        None if listing_path(out, 0).exists() => refuse(out, "shards without their index"),
        None if std::fs::read_dir(out).is_ok_and(|mut entries| entries.any(other)) => {
            refuse(out, "other files")
        }
        None => Ok(false),
        Some(old) => {
            let differences = old.differences(head)?.join(", ");
            if differences.is_empty() {
                return Ok(true);
            }
            refuse(out, &format!("the beginning of another conversion: {differences}"))
        }
    }
}

/// What this conversion is.
fn head(plan: &Plan, objects: &Objects, settings: &Settings) -> Result<Head> {
    let json = |e: serde_json::Error| Error::Failed(format!("cannot describe the data: {e}"));
    let mut modalities = BTreeMap::new();
    for (name, config) in &plan.modalities {
        modalities.insert(name.clone(), serde_json::to_value(config).map_err(json)?);
    }
    Ok(Head {
        program: format!("astropt {}", env!("CARGO_PKG_VERSION")),
        modalities,
        specs: objects.specs.clone(),
        precision: settings.precision,
        shard_bytes: settings.shard_bytes,
        source: pinned(serde_json::to_value(&plan.source).map_err(json)?, objects),
        objects: objects.source.len(),
        ids: ids(objects.source.as_ref()),
        ids_are_places: objects.source.ids_are_places(),
        groups: objects.source.groups(),
        label_units: objects.label_units.clone(),
    })
}

/// The source with what keeps its data as they are now: another part of the conversion must be of
/// the same.
fn pinned(mut source: serde_json::Value, objects: &Objects) -> serde_json::Value {
    for (keys, value) in objects.source.pins() {
        let Some((key, tables)) = keys.split_last() else { continue };
        let table = tables.iter().try_fold(&mut source, |table, name| table.get_mut(name));
        if let Some(serde_json::Value::Object(table)) = table {
            table.insert(key.clone(), value.into());
        }
    }
    source
}

fn ids(source: &dyn Source) -> String {
    let mut hash = Xxh3::new();
    for index in 0..source.len() {
        hash.update(source.id(index).as_bytes());
        hash.update(&[0]);
    }
    format!("{:032x}", hash.digest128())
}

/// An object on its way into a shard.
struct Prepared {
    listed: Listed,
    spans: Spans,
}

/// Object `index` as tokens, or why it cannot be used.
///
/// # Errors
/// When that is no single object's fault.
fn prepare(objects: &Objects, index: usize, precision: Precision) -> Result<Prepared> {
    let made = objects.read(index).and_then(|(observation, row)| {
        let mut raw = BTreeMap::new();
        for name in objects.modalities.keys() {
            if let Some(features) = objects.raw_features(index, &observation, name)? {
                raw.insert(name.clone(), features);
            }
        }
        let spans = Spans { row, raw };
        fits(&spans.row, precision).map_err(|message| Error::object(&observation.id, message))?;
        Ok(spans)
    });
    let (spans, rejected) = match made {
        Ok(spans) => (spans, None),
        Err(error) if error.ends_work() => return Err(error),
        Err(error) => (Spans::default(), Some(error.to_string())),
    };
    let labels = finite(objects.source.labels(index));
    Ok(Prepared { listed: Listed { id: objects.source.id(index), labels, rejected }, spans })
}

/// Labels without infinite numbers, which JSON does not have.
fn finite(mut labels: Labels) -> Labels {
    labels.retain(|_, label| match label {
        Label::Number(number) => number.is_finite(),
        Label::Text(_) => true,
    });
    labels
}

/// Checks that numbers stay finite when they are stored, and keep their digits.
pub(super) fn fits(row: &Row, precision: Precision) -> Result<(), String> {
    match precision {
        Precision::F32 => Ok(()),
        Precision::F16 => row.iter().try_for_each(|(name, tokens)| halves(name, tokens)),
    }
}

/// Checks that half precision holds the numbers of modality `name`: below 6e-5 it has ever fewer
/// digits, which counts where the largest number of an object is so small.
pub(super) fn halves(name: &str, tokens: &Tokens) -> Result<(), String> {
    let (mut largest, mut worst) = (0.0f64, 0.0f64);
    for &x in tokens.values.iter() {
        let stored = f16::from_f32(x);
        if !stored.is_finite() {
            return Err(format!("the value {x} is too large for --dtype f16"));
        }
        largest = largest.max(f64::from(x).abs());
        worst = worst.max((f64::from(x) - stored.to_f64()).abs());
    }
    if worst <= HALF * largest {
        return Ok(());
    }
    Err(format!(
        "the numbers of {name} are too small for --dtype f16, the largest is {largest:.1e}; use \
         --dtype f32, or a stretch or affine that brings them near 1"
    ))
}

/// A conversion under way.
struct Work<'a> {
    out: &'a Path,
    head: &'a Head,
    /// Unusable objects that are allowed.
    budget: usize,
    entries: Vec<Entry>,
    rejected: Rejected,
    converted: Converted,
}

impl<'a> Work<'a> {
    /// Takes over the whole shards of an earlier conversion that was the same.
    ///
    /// # Errors
    /// When a few objects of each shard are not what `objects` holds now, or cannot be had.
    fn resume(out: &'a Path, head: &'a Head, budget: usize, objects: &Objects) -> Result<Self> {
        let (entries, rejected, converted) = Default::default();
        let mut work = Self { out, head, budget, entries, rejected, converted };
        // Where files must be fetched first, the last objects alone: what comes next lies beside them.
        let fetched = objects.source.groups().is_some_and(|groups| groups.shards.len() > 1);
        let mut last = None;
        while let Ok((listing, entry)) = read_listing(out, work.entries.len()) {
            let (bytes, xxh3) = (listing.bytes, listing.xxh3.clone());
            let file = ShardFile { bytes, xxh3, objects: entry.objects };
            let path = shard_path(out, work.entries.len());
            let left = head.objects - work.converted.objects;
            let Ok(shard) = Shard::open(&path, &file, &head.specs, head.precision) else { break };
            if !(1..=left).contains(&entry.objects) {
                break;
            }
            let first = work.converted.objects;
            if !fetched {
                work.same(objects, &shard, &listing, first, LOOKED_AT)?;
            }
            work.take(&listing, entry);
            last = Some((shard, listing, first));
        }
        if let Some((shard, listing, first)) = last.filter(|_| fetched) {
            work.same(objects, &shard, &listing, first, 1)?;
        }
        Ok(work)
    }

    /// Reads `count` objects of a shard again, the last among them; its first is object `first`.
    ///
    /// # Errors
    /// When one is not what was converted.
    fn same(
        &self,
        objects: &Objects,
        shard: &Shard,
        listing: &Listing,
        first: usize,
        count: usize,
    ) -> Result<()> {
        let other = |what: &str| {
            Err(Error::Failed(format!(
                "{} holds the beginning of a conversion of other data: {what}; put the data back as \
                 they were, choose another folder with --out, or delete it",
                self.out.display()
            )))
        };
        let all = listing.objects.len();
        let mut places: Vec<usize> = (1..=count).map(|k| (k * all / count).max(1) - 1).collect();
        places.dedup();
        for k in places {
            let listed = &listing.objects[k];
            if listed.rejected.is_some() {
                continue;
            }
            let then = shard.tokens(k, &|_| true).map_err(Error::Failed)?;
            let now = match objects.read(first + k) {
                Ok((_, now)) => now,
                Err(error) if error.ends_work() => return Err(error),
                Err(error) => return other(&format!("{error}, and it could be read then")),
            };
            let [then, now] = [then, now].map(|row| Witnesses::of_object(&listed.id, &row));
            if let Some(what) = then.contradict(&now) {
                return other(&what);
            }
        }
        Ok(())
    }

    fn take(&mut self, listing: &Listing, entry: Entry) {
        self.converted.objects += entry.objects;
        self.converted.bytes += listing.bytes;
        self.converted.shards += 1;
        self.entries.push(entry);
        let reasons = listing
            .objects
            .iter()
            .filter_map(|object| object.rejected.clone().map(|reason| (object.id.clone(), reason)));
        self.rejected.extend(reasons);
        self.converted.rejected = self.rejected.len();
    }

    fn run(&mut self, objects: Arc<Objects>, workers: usize) -> Result<()> {
        let (first, total) = (self.converted.objects, self.head.objects);
        let precision = self.head.precision;
        let prepared = Loader::start(workers, (total - first) as u64, move |k| {
            prepare(&objects, first + k as usize, precision)
        });
        let started = Instant::now();
        let mut progress = Progress::new("convert", total as u64, first as u64);
        let (mut listed, mut builder) = (Vec::new(), Builder::new(&self.head.specs, precision));
        for (done, object) in (first + 1..).zip(prepared) {
            let Prepared { listed: object, spans } = object?;
            if let Some(reason) = &object.rejected {
                self.rejected.insert(object.id.clone(), reason.clone());
                if self.rejected.len() > self.budget {
                    return Err(too_many_rejected(self.rejected.len(), total, reason));
                }
            }
            builder.push(&spans);
            listed.push(object);
            if builder.bytes() >= self.head.shard_bytes || done == total {
                let full =
                    std::mem::replace(&mut builder, Builder::new(&self.head.specs, precision));
                self.write(full, std::mem::take(&mut listed))?;
            }
            let rate = (done - first) as f64 / started.elapsed().as_secs_f64();
            progress.update(done as u64, &format!("{}/s,", quantity(rate)));
            if stop::asked() && done < total {
                return Err(stop::stopped(&format!(
                    " after {} of {total} objects in whole shards; the same command goes on",
                    self.converted.objects
                )));
            }
        }
        progress.finish(&format!("converted {} objects", total - first));
        Ok(())
    }

    /// Writes a shard, then its listing: a shard counts when both are there.
    fn write(&mut self, shard: Builder<'_>, objects: Vec<Listed>) -> Result<()> {
        let number = self.entries.len();
        let (bytes, xxh3) = shard.write(&shard_path(self.out, number))?;
        let listing = Listing { bytes, xxh3, objects };
        let entry = write_listing(self.out, number, &listing)?;
        self.take(&listing, entry);
        Ok(())
    }
}
