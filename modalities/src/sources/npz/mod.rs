//! The source `npz`: NumPy arrays whose first axis is the object.
//!
//! `path` is an `.npz` archive, an `.npy` array (called by its file's stem) or a folder of
//! `.npy` arrays. Object k is entry k of every array; arrays named in `shared`, such as a
//! wavelength grid, belong to every object whole. Numbers keep their type, NaN included:
//! `bool` becomes bytes, `float16` single precision, and integers of more than 16 bits 64-bit
//! ones. Text is for ids and labels. Pickled objects are refused, for loading them runs code.
//!
//! # Memory
//! Arrays that are not compressed (`numpy.savez`, `numpy.save`) are read entry by entry: memory
//! stays flat however large they are. Before the first entry of one in an archive it is read
//! through once, and its checksum compared. Deflated ones (`numpy.savez_compressed`) and those in
//! Fortran order are read whole at the first use and kept; together with ids, labels and shared
//! arrays they must fit in `memory_mib`.

mod archive;
mod contents;
mod header;
mod numbers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use astropt_core::observation::{Array, Field, Label, LabelUnits, Labels, Observation};
use astropt_core::seam::{Source, SourceConfig};
use astropt_core::{Error, Result};
use serde::{Deserialize, Serialize};

use self::numbers::{cells, names, numbers};
use super::NO_CODES;
use super::axes::Axes;
use super::labels::{LabelFile, LabelTable, find_table};
use super::listing::Names;
use super::shorthand;
use super::tabular::Table;
use archive::Archive;

/// Most bytes of one object's numbers.
const MAX_OBJECT: u64 = 2 << 30;

/// Configuration of the source `npz`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NpzConfig {
    /// An `.npz` archive, an `.npy` array or a folder of `.npy` arrays.
    pub path: PathBuf,
    /// Arrays that become fields, by the field's name: an array, or a table of
    /// [`ArrayConfig`]. By default every array of numbers, under its own name, but for those
    /// that are ids or labels.
    #[serde(default, deserialize_with = "shorthand::map", skip_serializing_if = "Option::is_none")]
    pub fields: Option<BTreeMap<String, ArrayConfig>>,
    /// Arrays that every object has whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<String>,
    /// Array of the objects' ids: integers or text. Unset: the number of the entry, from 0, or
    /// what `labels_in_order` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<String>,
    /// Arrays with one number or text per object that become labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub label_arrays: Vec<String>,
    /// A `.csv`, `.parquet` or `.fits` table of labels, relative to the folder `path` is in, or
    /// to where `path` starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Column of the table that holds the objects' ids. By default the column that names most
    /// of them; without `ids`, where it counts entries from 0, it is to be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_column: Option<String>,
    /// Row k of the table is about entry k of the arrays. `name_column`, if set, then gives the
    /// ids.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub labels_in_order: bool,
    /// Most memory that arrays read whole may take, in MiB.
    #[serde(default = "memory_mib")]
    pub memory_mib: u64,
}

fn memory_mib() -> u64 {
    1024
}

/// An array that becomes a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArrayConfig {
    /// The array.
    pub array: String,
    /// Its unit; NumPy files have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// How the axes of one object's array follow each other, if it is an image: `hwc`, or
    /// `chw`, which is read as `[height, width, bands]`. By default `stored`.
    #[serde(default = "stored", skip_serializing_if = "is_stored")]
    pub axes: Axes,
}

fn stored() -> Axes {
    Axes::Stored
}

fn is_stored(axes: &Axes) -> bool {
    *axes == Axes::Stored
}

impl From<String> for ArrayConfig {
    /// The array as it is.
    fn from(array: String) -> Self {
        Self { array, unit: None, axes: Axes::Stored }
    }
}

/// The reader that [`NpzConfig`] opens.
#[derive(Debug)]
struct Npz {
    len: usize,
    /// Empty: the numbers of the entries.
    ids: Vec<Box<str>>,
    fields: Vec<Reader>,
    shared: BTreeMap<String, Field>,
    labels: LabelTable,
}

/// How a field is read.
#[derive(Debug)]
struct Reader {
    name: String,
    unit: Option<String>,
    axes: Axes,
    array: archive::Array,
    /// Shape of one object's array in the file.
    shape: Vec<usize>,
}

#[typetag::serde(name = "npz")]
impl SourceConfig for NpzConfig {
    fn check(&self) -> Result<()> {
        let misuse = |message: &str| Err(Error::Misuse(message.to_owned()));
        if self.memory_mib == 0 {
            return misuse("memory_mib must be at least 1");
        }
        if self.labels.is_none() && (self.labels_in_order || self.name_column.is_some()) {
            return misuse(
                "`labels_in_order` and `name_column` are about the table that `labels` names; \
                 name one",
            );
        }
        if self.labels_in_order && self.ids.is_some() && self.name_column.is_some() {
            return misuse("`ids` and, with `labels_in_order`, `name_column` both give ids");
        }
        if self.fields.as_ref().is_some_and(BTreeMap::is_empty) && self.shared.is_empty() {
            return misuse("`fields` is empty; leave it out to take every array");
        }
        Ok(())
    }

    fn open(&self, root: &Path) -> Result<Box<dyn Source>> {
        self.check()?;
        let archive = Archive::open(root.join(&self.path))?;
        let (fields, shared) = self.fields(&archive)?;
        let mut budget = Budget { left: self.memory_mib.saturating_mul(1 << 20) };
        let ids = self.ids.as_ref().map(|name| budget.take(archive.array(name, "ids")?, true));
        let ids = ids.transpose()?;
        let mut readers = Vec::new();
        for (name, config) in &fields {
            let array = archive.array(&config.array, &format!("fields.{name}"))?;
            readers.push(Reader::new(name, config, budget.take(array, false)?)?);
        }
        let lengths = ids.iter().chain(readers.iter().map(|reader| &reader.array));
        let len = common_length(lengths)?;
        let ids = ids.map(|array| read_ids(&array)).transpose()?;
        let mut labels;
        let mut ids = ids.unwrap_or_default();
        let base = archive.path.parent().unwrap_or(root);
        match (&self.labels, self.labels_in_order) {
            (Some(path), true) => {
                let table = Table::open(find_table(path, base, root)?)?;
                (ids, labels) = self.in_order(&table, ids, len)?;
            }
            _ => {
                let file = LabelFile {
                    path: self.labels.as_deref(),
                    name_column: self.name_column.as_deref(),
                    look: false,
                    places: ids.is_empty().then_some(PLACES),
                };
                let numbers: Vec<String> = match ids.is_empty() {
                    true => (0..len).map(|k| k.to_string()).collect(),
                    false => Vec::new(),
                };
                let all = || ids.iter().map(|id| &**id).chain(numbers.iter().map(String::as_str));
                labels = file.load(base, root, || Names::of_ids(all()))?.unwrap_or_default();
            }
        }
        for name in &self.label_arrays {
            let array = budget.take(archive.array(name, "label_arrays")?, true)?;
            let values = label_values(&array, len)?;
            labels.add(name, values).map_err(|e| Error::file(&archive.path, e))?;
        }
        let shared = shared.iter().map(|(name, config)| {
            let array = archive.array(&config.array, "shared")?;
            Ok((name.clone(), shared_field(&budget.take(array, true)?, config)?))
        });
        let shared = shared.collect::<Result<_>>()?;
        Ok(Box::new(Npz { len, ids, fields: readers, shared, labels }))
    }
}

/// What to do where entries have no ids and a table of labels does not say which is whose.
const PLACES: &str = "name the column that does, counting from 0, with `name_column`, say \
                      `labels_in_order = true` if row k is about entry k, or name the array of `ids`";

type Fields = BTreeMap<String, ArrayConfig>;

impl NpzConfig {
    /// The fields of single objects and those of all.
    fn fields(&self, archive: &Archive) -> Result<(Fields, Fields)> {
        let mut all = match &self.fields {
            Some(fields) => fields.clone(),
            None => {
                let other: BTreeSet<&String> = self.ids.iter().chain(&self.label_arrays).collect();
                let names = archive.numeric()?.into_iter();
                let names = names.filter(|name| !other.contains(name));
                names.map(|name| (name.clone(), ArrayConfig::from(name))).collect()
            }
        };
        for name in &self.shared {
            if !all.values().any(|config| config.array == *name) {
                all.insert(name.clone(), ArrayConfig::from(name.clone()));
            }
        }
        let (shared, own): (Fields, Fields) =
            all.into_iter().partition(|(_, config)| self.shared.contains(&config.array));
        if own.is_empty() {
            let message = "no array of numbers with an entry per object; name one in `fields`";
            return Err(Error::file(&archive.path, message));
        }
        Ok((own, shared))
    }

    /// Ids and labels, of which the table may give both, of `len` entries.
    fn in_order(
        &self,
        table: &Table,
        ids: Vec<Box<str>>,
        len: usize,
    ) -> Result<(Vec<Box<str>>, LabelTable)> {
        let key = self.name_column.as_deref();
        let key = key.map(|name| table.column(name, "name_column")).transpose()?;
        let others: Vec<usize> = (0..table.columns().len()).filter(|&c| Some(c) != key).collect();
        let labels = LabelTable::in_order(table, len, &others)?;
        let Some(key) = key else { return Ok((ids, labels)) };
        let mut ids: Vec<Box<str>> = Vec::with_capacity(len);
        table.scan(&[key], &mut |row| {
            let id = row.cells.first().and_then(|cell| cell.with_name(|t| Some(t.trim().into())));
            let id: Box<str> = id.unwrap_or_default();
            if id.is_empty() {
                let place = table.place(row.at);
                return Err(Error::file(table.path(), format!("{place}: no id (`name_column`)")));
            }
            ids.push(id);
            Ok(())
        })?;
        unique(&ids).map_err(|e| Error::file(table.path(), e))?;
        Ok((ids, labels))
    }
}

/// What arrays that are read whole may still take.
struct Budget {
    left: u64,
}

impl Budget {
    /// Counts `array`; `whole` when it is read whole in any case.
    fn take(&mut self, array: archive::Array, whole: bool) -> Result<archive::Array> {
        let bytes = match whole {
            true => array.header.bytes().unwrap_or(u64::MAX),
            false => array.held_bytes(),
        };
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => {
                let mib = bytes >> 20;
                return Err(array.error(format!(
                    "takes {mib} MiB, for it must be read whole, and passes `memory_mib`; raise \
                     it, or save with numpy.savez, not compressed and in C order"
                )));
            }
        }
        Ok(array)
    }
}

impl Reader {
    fn new(name: &str, config: &ArrayConfig, array: archive::Array) -> Result<Self> {
        if !array.header.is_numeric() {
            return Err(array.error(format!(
                "holds text, of which no field is made; name it in `ids`; {NO_CODES}"
            )));
        }
        let own = array.header.shape.get(1..);
        let (own, bytes) = match (own, array.header.row_bytes()) {
            (Some(own), Some(bytes)) => (own, bytes),
            _ => return Err(array.error("has no axis, so no objects; name it in `shared`")),
        };
        if bytes > MAX_OBJECT {
            let message = format!("has {bytes} bytes per object; at most {MAX_OBJECT} are read");
            return Err(array.error(message));
        }
        let shape = own.to_vec();
        Ok(Self {
            name: name.to_owned(),
            unit: config.unit.clone(),
            axes: config.axes,
            array,
            shape,
        })
    }

    fn field(&self, index: usize) -> Result<Field> {
        let bytes = self.array.row(index)?;
        let data = numbers(&self.array.header, &bytes).map_err(|e| self.array.error(e))?;
        let array = Array::new(self.shape.clone(), data)?;
        let array = self.axes.arrange(array).map_err(|e| self.array.error(e))?;
        Ok(Field { array, unit: self.unit.clone() })
    }
}

/// The length that the first axes share.
fn common_length<'a>(arrays: impl Iterator<Item = &'a archive::Array>) -> Result<usize> {
    let mut first: Option<(&str, usize)> = None;
    for array in arrays {
        let length = array.header.shape.first().copied().unwrap_or(0);
        match first {
            None => first = Some((&array.name, length)),
            Some((_, known)) if known == length => {}
            Some((name, known)) => {
                return Err(array.error(format!(
                    "has {length} entries along its first axis and {name:?} {known}; name the \
                     arrays wanted in `fields`, and in `shared` those that every object has"
                )));
            }
        }
    }
    let length = first.map_or(0, |(_, length)| length);
    // Order and splits count objects in 32 bits.
    u32::try_from(length).map_err(|_| Error::Failed(format!("{length} objects are too many")))?;
    Ok(length)
}

fn read_ids(array: &archive::Array) -> Result<Vec<Box<str>>> {
    let fail = |e: String| array.error(e);
    if array.header.shape.len() != 1 {
        return Err(array.error("cannot be `ids`: it must have one axis"));
    }
    let ids = names(&array.header, &array.whole()?).map_err(fail)?;
    if let Some(empty) = ids.iter().position(|id| id.is_empty()) {
        return Err(array.error(format!("cannot be `ids`: entry {empty} is empty")));
    }
    unique(&ids).map_err(fail)?;
    Ok(ids)
}

fn unique(ids: &[Box<str>]) -> std::result::Result<(), String> {
    let mut known = std::collections::HashSet::with_capacity(ids.len());
    match ids.iter().find(|id| !known.insert(&***id)) {
        Some(twice) => Err(format!("holds the id {twice:?} twice; ids must differ")),
        None => Ok(()),
    }
}

/// The labels in an array with one value per object.
fn label_values(array: &archive::Array, len: usize) -> Result<Vec<Option<Label>>> {
    if array.header.shape != [len] {
        let shape = array.header.shape_text();
        let message = format!("of shape {shape} is no label: one value per object, ({len},)");
        return Err(array.error(message));
    }
    let bytes = array.whole()?;
    let fail = |e: String| array.error(e);
    let mut labels = Vec::with_capacity(len);
    cells(&array.header, &bytes, &mut |cell| {
        labels.push(cell.label());
        Ok(())
    })
    .map_err(fail)?;
    Ok(labels)
}

fn shared_field(array: &archive::Array, config: &ArrayConfig) -> Result<Field> {
    let fail = |e: String| array.error(e);
    let data = numbers(&array.header, &array.whole()?).map_err(fail)?;
    let array = Array::new(array.header.shape.clone(), data)?;
    let array = config.axes.arrange(array).map_err(fail)?;
    Ok(Field { array, unit: config.unit.clone() })
}

impl Source for Npz {
    fn len(&self) -> usize {
        self.len
    }

    fn id(&self, index: usize) -> String {
        match self.ids.is_empty() {
            true => index.to_string(),
            false => self.ids.get(index).map(|id| id.to_string()).unwrap_or_default(),
        }
    }

    fn ids_are_places(&self) -> bool {
        self.ids.is_empty()
    }

    fn labels(&self, index: usize) -> Labels {
        self.labels.of(index)
    }

    fn label_units(&self) -> LabelUnits {
        self.labels.units().clone()
    }

    fn read(&self, index: usize) -> Result<Observation> {
        if index >= self.len {
            let message = format!("there is no object {index}; the arrays have {}", self.len);
            return Err(Error::Failed(message));
        }
        let mut fields = self.shared.clone();
        for reader in &self.fields {
            fields.insert(reader.name.clone(), reader.field(index)?);
        }
        Ok(Observation { id: self.id(index), fields, labels: self.labels(index) })
    }
}

astropt_core::register_source!(
    "npz",
    "NumPy arrays, .npz or .npy, whose first axis is the object",
    "path = \"spectra.npz\"\n\
     ids = \"id\"\n\
     shared = [\"wavelength\"]\n\
     fields.flux = { array = \"flux\", unit = \"1e-17 erg/s/cm2/Angstrom\" }\n\
     fields.wavelength = { array = \"wavelength\", unit = \"Angstrom\" }\n\
     labels = \"labels.csv\"\n\
     name_column = \"id\"",
    Some("path"),
    NpzConfig
);
