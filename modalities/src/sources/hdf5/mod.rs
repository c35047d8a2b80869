//! The source `hdf5`: rows of named datasets.
//!
//! Object k of a file is row k of every field's dataset: a `[N, height, width, 3]` dataset of
//! images as Galaxy10 has it, `[N, L]` spectra, `[N]` numbers. Arrays keep the type of the file
//! (`u8`, `u16`, other integers as 64 bits, single and double precision); the attribute `units`
//! becomes their unit. Filters: gzip, shuffle, fletcher32, LZF, scale-offset and what else the
//! libraries read; every version of the format up to `libver="latest"` of HDF5 2.0.
//!
//! A chunk that holds rows of several objects is decoded whole. Such chunks are the source's
//! [`groups`](Source::groups), and those of a few groups are kept, within 512 MiB: h5py's own
//! choice of chunks spans a hundred images, and reading it image by image would decode each
//! of them a hundred times.

mod bands;
mod chunks;
mod config;
mod contents;
mod dataset;
mod file;
mod labels;
mod lzf;
mod numbers;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use astropt_core::observation::{Array, Data, Field, LabelUnits, Labels, Observation};
use astropt_core::seam::{Groups, Source, SourceConfig};
use astropt_core::{Error, Result};

use self::bands::Bands;
use self::dataset::Dataset;
use self::file::File;
use self::labels::Reading;
use super::NO_CODES;
use super::axes::Axes;
use super::labels::LabelTable;
use super::listing::{FileKind, Listing};
use super::units::{self, ONE_UNIT, OneUnit};

pub use self::config::{FieldConfig, Hdf5Config};

/// What HDF5 files are called.
const EXTENSIONS: &[&str] = &["h5", "hdf5", "hdf", "he5"];
/// The files that are HDF5 files.
const HDF5: FileKind = FileKind { one: "HDF5 file", a: "an HDF5 file", extensions: EXTENSIONS };
/// How many files are open at a time.
const OPEN_FILES: usize = 16;
/// How much of decoded chunks is kept, in bytes.
const KEPT: u64 = 512 << 20;
/// Most groups that are kept, however small.
const MAX_HELD: usize = 64;
/// Largest array that all objects share, in bytes.
const MAX_SHARED: u64 = 64 << 20;

/// The reader that [`Hdf5Config`] opens.
struct Hdf5 {
    config: Hdf5Config,
    listing: Listing,
    /// First object of every file, and the end.
    starts: Vec<u32>,
    labels: LabelTable,
    ids: Option<Vec<Box<str>>>,
    groups: Option<Groups>,
    bands: Bands,
    open: Mutex<VecDeque<(usize, Arc<OpenFile>)>>,
}

/// An open file: the dataset of every field, and the arrays that all objects share.
struct OpenFile {
    datasets: Vec<Dataset>,
    shared: BTreeMap<usize, Array>,
}

impl OpenFile {
    fn open(config: &Hdf5Config, path: &Path) -> Result<(File, Self)> {
        let fail = |message: String| Error::file(path, message);
        let file = File::open(path).map_err(fail)?;
        let (mut datasets, mut shared) = (Vec::new(), BTreeMap::new());
        for (name, field) in &config.fields {
            let at = |message: String| fail(format!("field {name:?}: {message}"));
            let dataset = file.dataset(&field.dataset).map_err(at)?;
            if field.shared {
                let rows = dataset.rows();
                if (rows as u64).saturating_mul(dataset.row_bytes) > MAX_SHARED {
                    return Err(at("it is too large to be `shared` by all objects".to_owned()));
                }
                let data = dataset.read(0, rows).map_err(at)?;
                shared.insert(datasets.len(), Array { shape: dataset.shape.clone(), data });
            }
            datasets.push(dataset);
        }
        Ok((file, Self { datasets, shared }))
    }
}

#[typetag::serde(name = "hdf5")]
impl SourceConfig for Hdf5Config {
    fn check(&self) -> Result<()> {
        self.counted().map(drop)
    }

    fn open(&self, root: &Path) -> Result<Box<dyn Source>> {
        let counted = self.counted()?;
        let place = self.fields.values().position(|field| field == counted).unwrap_or(0);
        let listing = Listing::open(&root.join(&self.path), &HDF5)?;
        let mut reading = Reading::new(self);
        let (mut starts, mut total) = (vec![0u32], 0usize);
        let mut groups = Grouping::default();
        let mut field_units: Vec<_> = self.fields.iter().map(|_| OneUnit::default()).collect();
        for k in 0..listing.len() {
            let path = listing.path(k);
            let (file, open) = OpenFile::open(self, &path)?;
            let rows = open.datasets.get(place).map_or(0, Dataset::rows);
            self.check_rows(&open, rows).map_err(|message| Error::file(&path, message))?;
            self.check_units(&open, listing.relative(k), &mut field_units)
                .map_err(|message| Error::file(&path, message))?;
            groups.add(self, &open, total, rows);
            total = total.saturating_add(rows);
            if total > u32::MAX as usize {
                return Err(Error::file(&path, "more objects than 2^32; name fewer files"));
            }
            starts.push(total as u32);
            reading
                .read(&file, listing.relative(k), rows)
                .map_err(|message| Error::file(&path, message))?;
        }
        if total == 0 {
            return Err(Error::file(listing.base(), "no objects: the datasets have no rows"));
        }
        let (labels, ids) = reading.finish(total);
        if let Some(ids) = &ids {
            check_unique(ids, &listing)?;
        }
        let (groups, runs) = groups.finish();
        Ok(Box::new(Hdf5 {
            config: self.clone(),
            listing,
            starts,
            labels,
            ids,
            groups,
            bands: Bands::new(runs),
            open: Mutex::default(),
        }))
    }
}

impl Hdf5Config {
    fn check_rows(&self, open: &OpenFile, rows: usize) -> std::result::Result<(), String> {
        for ((name, field), dataset) in self.fields.iter().zip(&open.datasets) {
            if !dataset.numbers {
                return Err(format!(
                    "field {name:?}: dataset {:?} holds no plain numbers (integers of 1, 2, 4 or 8 \
                     whole bytes, IEEE floats); texts may be `labels` or the `id`; {NO_CODES}",
                    field.dataset
                ));
            }
            if !field.shared && dataset.rows() != rows {
                return Err(format!(
                    "field {name:?}: dataset {:?} has {} rows, another field's has {rows}; if \
                     all objects have it in common, say `shared = true`",
                    field.dataset,
                    dataset.rows()
                ));
            }
            if dataset.row_bytes == 0 || (field.shared && dataset.rows() == 0) {
                return Err(format!("field {name:?}: dataset {:?} is empty", field.dataset));
            }
        }
        Ok(())
    }
}

impl Hdf5Config {
    /// Checks that each field has one unit: in the file called `name`, as in those before it.
    fn check_units(
        &self,
        open: &OpenFile,
        name: &str,
        units: &mut [OneUnit<String>],
    ) -> std::result::Result<(), String> {
        for (((field, config), dataset), unit) in self.fields.iter().zip(&open.datasets).zip(units)
        {
            let stated = units::settled(dataset.units.as_deref(), config.unit.as_deref())
                .map_err(|message| format!("field {field:?}: {message}"))?;
            unit.add(name.to_owned(), stated.as_deref())
                .map_err(|message| format!("field {field:?}: {message}; {ONE_UNIT}"))?;
        }
        Ok(())
    }
}

fn check_unique(ids: &[Box<str>], listing: &Listing) -> Result<()> {
    let mut seen = HashMap::with_capacity(ids.len());
    for (index, id) in ids.iter().enumerate() {
        if id.is_empty() {
            let message = format!("object {index} has an empty `id`; leave `id` out");
            return Err(Error::file(listing.base(), message));
        }
        if let Some(first) = seen.insert(id, index) {
            return Err(Error::file(
                listing.base(),
                format!("objects {first} and {index} have the same `id` {id:?}; leave `id` out"),
            ));
        }
    }
    Ok(())
}

/// Groups of objects whose chunks are decoded together.
#[derive(Default)]
struct Grouping {
    starts: Vec<u32>,
    /// Rows of the longest chunk.
    longest: usize,
    /// Bytes of a group.
    bytes: u64,
    /// Runs of chunks in a group.
    runs: usize,
}

impl Grouping {
    fn add(&mut self, config: &Hdf5Config, open: &OpenFile, first: usize, rows: usize) {
        let own = || {
            let fields = config.fields.values().zip(&open.datasets);
            fields.filter(|(field, _)| !field.shared).map(|(_, dataset)| dataset)
        };
        let step = own().map(|dataset| dataset.chunk_rows).max().unwrap_or(1).max(1);
        let bytes = own().map(|d| d.row_bytes.saturating_mul(step as u64)).sum();
        // Shorter chunks may lie across the ends of a group.
        let runs = |d: &Dataset| step.div_ceil(d.chunk_rows) + usize::from(step % d.chunk_rows > 0);
        self.runs = self.runs.max(own().filter(|d| d.chunk_rows > 1).map(runs).sum());
        self.longest = self.longest.max(step);
        self.bytes = self.bytes.max(bytes);
        self.starts.extend((0..rows).step_by(step).map(|row| (first + row) as u32));
    }

    /// The groups, and how many runs of chunks are kept.
    fn finish(self) -> (Option<Groups>, usize) {
        let held = usize::try_from(KEPT / self.bytes.max(1)).unwrap_or(MAX_HELD);
        let held = held.clamp(1, MAX_HELD);
        let groups =
            (self.longest > 1).then_some(Groups { starts: self.starts, held, shards: vec![0] });
        (groups, held * self.runs)
    }
}

impl Hdf5 {
    /// File and row of object `index`.
    fn place(&self, index: usize) -> (usize, usize) {
        let after = self.starts.partition_point(|&start| start as usize <= index);
        let file = after.saturating_sub(1);
        (file, index - self.starts.get(file).map_or(0, |&start| start as usize))
    }

    fn open_file(&self, k: usize) -> Result<Arc<OpenFile>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = open.iter().find(|(file, _)| *file == k) {
            return Ok(file.clone());
        }
        let (_, file) = OpenFile::open(&self.config, &self.listing.path(k))?;
        let file = Arc::new(file);
        open.push_front((k, file.clone()));
        open.truncate(OPEN_FILES);
        Ok(file)
    }

    /// Row `row` of field number `k`.
    fn row(
        &self,
        file: (usize, &OpenFile),
        k: usize,
        row: usize,
    ) -> std::result::Result<Array, String> {
        let (number, file) = file;
        if let Some(shared) = file.shared.get(&k) {
            return Ok(shared.clone());
        }
        let dataset = file.datasets.get(k).ok_or("it has no dataset")?;
        let mut shape: Vec<usize> = dataset.shape.iter().skip(1).copied().collect();
        if shape.is_empty() {
            shape.push(1);
        }
        let step = dataset.chunk_rows;
        let data = if step > 1 {
            let band = row / step;
            let rows = step.min(dataset.rows().saturating_sub(band * step));
            let band = self.bands.get((number, k, band), || dataset.read(band * step, rows))?;
            part(&band, row % step, shape.iter().product()).ok_or("its rows have changed")?
        } else {
            dataset.read(row, 1)?
        };
        Array::new(shape, data).map_err(|error| error.to_string())
    }
}

/// Row `row` of a run of rows of `len` numbers.
fn part(band: &Data, row: usize, len: usize) -> Option<Data> {
    let range = row.checked_mul(len)?..row.checked_add(1)?.checked_mul(len)?;
    Some(match band {
        Data::U8(v) => Data::U8(v.get(range)?.to_vec()),
        Data::U16(v) => Data::U16(v.get(range)?.to_vec()),
        Data::F32(v) => Data::F32(v.get(range)?.to_vec()),
        Data::F64(v) => Data::F64(v.get(range)?.to_vec()),
        Data::I64(v) => Data::I64(v.get(range)?.to_vec()),
    })
}

impl Source for Hdf5 {
    fn len(&self) -> usize {
        self.starts.last().map_or(0, |&end| end as usize)
    }

    fn id(&self, index: usize) -> String {
        if let Some(id) = self.ids.as_ref().and_then(|ids| ids.get(index)) {
            return id.to_string();
        }
        let (file, row) = self.place(index);
        format!("{}/{row}", self.listing.id(file))
    }

    fn ids_are_places(&self) -> bool {
        self.ids.is_none()
    }

    fn labels(&self, index: usize) -> Labels {
        self.labels.of(index)
    }

    fn label_units(&self) -> LabelUnits {
        self.labels.units().clone()
    }

    fn groups(&self) -> Option<Groups> {
        self.groups.clone()
    }

    fn read(&self, index: usize) -> Result<Observation> {
        if index >= self.len() {
            let len = self.len();
            return Err(Error::Failed(format!("there is no object {index}; there are {len}")));
        }
        let (number, row) = self.place(index);
        let file = self.open_file(number)?;
        let path: PathBuf = self.listing.path(number);
        let mut fields = BTreeMap::new();
        for (k, (name, field)) in self.config.fields.iter().enumerate() {
            let axes = field.axes.unwrap_or(Axes::Hwc);
            let array = self.row((number, &file), k, row).and_then(|array| axes.arrange(array));
            let failed = |message| {
                let (id, dataset) = (self.id(index), &field.dataset);
                Error::file(&path, format!("object {id}, dataset {dataset:?}: {message}"))
            };
            let array = array.map_err(failed)?;
            let stated = file.datasets.get(k).and_then(|dataset| dataset.units.as_deref());
            let unit = units::settled(stated, field.unit.as_deref()).map_err(failed)?;
            fields.insert(name.clone(), Field { array, unit });
        }
        Ok(Observation { id: self.id(index), fields, labels: self.labels(index) })
    }
}

astropt_core::register_source!(
    "hdf5",
    "Rows of datasets in HDF5 files, such as Galaxy10",
    "path = \"Galaxy10_DECals.h5\"\nlabels = [\"ans\", \"redshift\"]\n\
     fields.image = { dataset = \"images\", axes = \"hwc\" }",
    Some("path"),
    Hdf5Config
);
