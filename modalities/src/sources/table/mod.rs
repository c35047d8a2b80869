//! The source `table`: CSV or Parquet, one row per sample or one row per object.
//!
//! **Long** tables have a row per sample (object, time, value, error, band). Rows are grouped
//! by the `object` column, whose cells are compared as text, never as numbers. Objects are
//! ordered by their first row. Every field has one axis, the samples.
//!
//! **Wide** tables are catalogues: a row per object. Columns are labels, and those of `fields`
//! (by default all columns of numbers) single numbers, arrays without an axis.
//!
//! # Memory
//! One pass when opening reads the `object` column and keeps, per object, its id and where its
//! rows are. Samples are read in blocks (8192 lines of CSV; a row group of Parquet, at most
//! 2^20 rows of it), of which as many are kept as fit in `memory_mib`, one at least. A table
//! sorted by object can be of any size. Where the rows of an object lie apart, as in a table
//! sorted by time, the samples must fit in `memory_mib` together, 16 bytes per run of rows
//! included; the error says so when they do not.
//!
//! # Missing and bad cells
//! An empty cell, `nan`, `na`, `n/a`, `null` or `none` is NaN in a field of fractions. Among
//! integers and codes it is what `missing` says, and an error without it. A cell that is no
//! number makes its object unreadable; the error names file, line and column.

mod column;
mod config;
mod index;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use astropt_core::observation::{Array, Data, Field, LabelUnits, Labels, Observation};
use astropt_core::seam::{Groups, Source, SourceConfig};
use astropt_core::{Error, Result};

pub use config::{Codes, FieldConfig, Layout, NumberType, TableConfig};

use super::labels::{LabelFile, LabelTable};
use super::listing::Names;
use super::lru::Lru;
use super::tabular::{Block, Cell, Table};
use column::{Spec, append, ascending, reorder};
use index::Index;

/// What is wrong with a row takes about so much, in bytes.
const BAD_BYTES: u64 = 160;

/// The reader that [`TableConfig`] opens.
#[derive(Debug)]
struct TableSource {
    table: Table,
    layout: Layout,
    specs: Vec<Spec>,
    /// Place in `specs` of the field that orders samples.
    sort: Option<usize>,
    /// Bytes of one sample.
    width: u64,
    index: Index,
    labels: LabelTable,
    held: Lru<Decoded>,
    groups: Option<Groups>,
    /// Most bytes of samples.
    memory: u64,
}

/// The numbers of a block, by field.
#[derive(Debug)]
struct Decoded {
    numbers: Vec<Data>,
    /// What is wrong with rows of the block, by place in it.
    bad: BTreeMap<usize, String>,
}

#[typetag::serde(name = "table")]
impl SourceConfig for TableConfig {
    fn check(&self) -> Result<()> {
        let misuse = |message: &str| Err(Error::Misuse(message.to_owned()));
        if self.memory_mib == 0 {
            return misuse("memory_mib must be at least 1");
        }
        if self.layout == Layout::Wide && self.sort.is_some() {
            return misuse("`sort` orders the samples of an object; a wide table has one each");
        }
        if self.layout == Layout::Wide && self.labels.is_some() {
            return misuse(
                "a wide table is its own table of labels; leave out `labels`, or join two",
            );
        }
        if self.layout == Layout::Long && self.label_columns.is_some() {
            return misuse(
                "`label_columns` is for layout = \"wide\"; give a second table with `labels`",
            );
        }
        if self.name_column.is_some() && self.labels.is_none() {
            return misuse("`name_column` is a column of the table that `labels` names; name one");
        }
        let fields = self.fields.as_ref();
        if self.layout == Layout::Long && fields.is_none_or(BTreeMap::is_empty) {
            return misuse("no `fields`; write fields.time = \"COLUMN\" and so on");
        }
        if let (Some(sort), Some(fields)) = (&self.sort, fields)
            && !fields.contains_key(sort)
        {
            let known: Vec<_> = fields.keys().map(String::as_str).collect();
            let known = known.join(", ");
            return misuse(&format!("sort = {sort:?} is no field; there are {known}"));
        }
        Ok(())
    }

    fn open(&self, root: &Path) -> Result<Box<dyn Source>> {
        self.check()?;
        let table = Table::open(root.join(&self.path))?;
        let object = table.column(&self.object, "object")?;
        let memory = self.memory_mib.saturating_mul(1 << 20);
        let mut specs = match &self.fields {
            Some(fields) => specs(&table, fields)?,
            None => Vec::new(), // a wide table's, once its labels are known
        };
        let mut index = Index::build(&table, object, self.layout, &mut specs, memory)?;
        let labels = match self.layout {
            Layout::Wide => self.own_labels(&table, object, index.ids.len())?,
            Layout::Long => self.other_labels(root, &table, &index)?,
        };
        if self.fields.is_none() {
            let all = labels.numeric();
            let all =
                all.map(|name| (name.to_owned(), FieldConfig::from(name.to_owned()))).collect();
            specs = self::specs(&table, &all)?;
        }
        let sort = self.sort.as_ref().and_then(|name| specs.iter().position(|s| s.name == *name));
        let width = specs.iter().map(Spec::width).sum();
        let room = Room::new(&table, &index, width, memory)?;
        index.ids.shrink_to_fit();
        Ok(Box::new(TableSource {
            groups: room.groups(&index),
            held: Lru::new(memory),
            table,
            layout: self.layout,
            specs,
            sort,
            width,
            index,
            labels,
            memory,
        }))
    }
}

impl TableConfig {
    /// The columns of a wide table that are labels.
    fn own_labels(&self, table: &Table, object: usize, len: usize) -> Result<LabelTable> {
        let columns: Vec<usize> = match &self.label_columns {
            Some(names) => names
                .iter()
                .map(|name| table.column(name, "label_columns"))
                .collect::<Result<_>>()?,
            None => (0..table.columns().len()).filter(|&column| column != object).collect(),
        };
        let unusable = |&column: &usize| table.unusable(column).map(|what| (column, what));
        if let (Some(_), Some((column, what))) =
            (&self.label_columns, columns.iter().find_map(unusable))
        {
            let name = &table.columns()[column].name;
            let message = format!(
                "column {name:?} (`label_columns`) holds {what}, of which no label is made; \
                 convert it to numbers or texts"
            );
            return Err(Error::file(table.path(), message));
        }
        LabelTable::in_order(table, len, &columns)
    }

    /// The labels of a long table, which stand in another.
    fn other_labels(&self, root: &Path, table: &Table, index: &Index) -> Result<LabelTable> {
        let file = LabelFile {
            path: self.labels.as_deref(),
            name_column: self.name_column.as_deref(),
            look: false,
            places: None,
        };
        let base = table.path().parent().unwrap_or(root);
        let names = || Names::of_ids(index.ids.iter().map(|id| &**id));
        file.load(base, root, names).map(Option::unwrap_or_default)
    }
}

fn specs(table: &Table, fields: &BTreeMap<String, FieldConfig>) -> Result<Vec<Spec>> {
    fields.iter().map(|(name, config)| Spec::new(table, name, config)).collect()
}

/// How many blocks may be held.
struct Room {
    blocks: usize,
    whole: bool,
}

impl Room {
    /// # Errors
    /// When objects lie scattered and the samples do not fit.
    fn new(table: &Table, index: &Index, width: u64, memory: u64) -> Result<Self> {
        let whole = index.rows.saturating_mul(width).saturating_add(index.run_bytes()) <= memory;
        if index.scattered() && !whole {
            return Err(index::scattered(table));
        }
        let largest = index.blocks.iter().map(|block| block.rows as u64).max().unwrap_or(1);
        let blocks = memory / largest.saturating_mul(width).max(1);
        Ok(Self { blocks: usize::try_from(blocks).unwrap_or(usize::MAX), whole })
    }

    /// Objects by the block they begin in, where not all blocks are held.
    fn groups(&self, index: &Index) -> Option<Groups> {
        if self.whole {
            return None;
        }
        let (mut starts, mut last) = (Vec::new(), None);
        for object in 0..index.ids.len() {
            let block = index.runs(object).first().map(|run| index.block_of(run.start));
            if block != last {
                starts.push(u32::try_from(object).ok()?);
                last = block;
            }
        }
        // The others are for the neighbours that objects reach into, and for reading ahead.
        Some(Groups { starts, held: (self.blocks / 2).max(1), shards: vec![0] })
    }
}

impl TableSource {
    fn block(&self, number: usize, block: &Block) -> Result<Arc<Decoded>> {
        let number =
            u32::try_from(number).map_err(|_| Error::file(self.table.path(), "too long"))?;
        self.held.get(number, || {
            let columns: Vec<usize> = self.specs.iter().map(|spec| spec.column).collect();
            let mut numbers: Vec<Data> = self.specs.iter().map(|s| s.empty(block.rows)).collect();
            let mut bad = BTreeMap::new();
            self.table.read(block, &columns, &mut |row| {
                let cells = row.cells.iter().copied().chain(std::iter::repeat(Cell::Unknown));
                for ((spec, numbers), cell) in self.specs.iter().zip(&mut numbers).zip(cells) {
                    if let Err(message) = spec.push(numbers, cell) {
                        let place = self.table.place(row.at);
                        let column = &self.table.columns()[spec.column].name;
                        let place_in_block = (row.number - block.start) as usize;
                        let message = || format!("{place}, column {column:?}: {message}");
                        bad.entry(place_in_block).or_insert_with(message);
                    }
                }
                Ok(())
            })?;
            let size = self.width.saturating_mul(block.rows as u64);
            let size = size.saturating_add(bad.len() as u64 * BAD_BYTES);
            Ok((Decoded { numbers, bad }, size))
        })
    }

    /// The samples of object `object`, by field.
    fn samples(&self, object: usize) -> Result<Vec<Data>> {
        let id = &self.index.ids[object];
        let runs = self.index.runs(object);
        let rows: u64 = runs.iter().map(|run| u64::from(run.rows)).sum();
        if rows.saturating_mul(self.width) > self.memory {
            let message = format!("its {rows} samples do not fit in `memory_mib`; raise it");
            return Err(Error::object(id, message));
        }
        let mut numbers: Vec<Data> = self.specs.iter().map(|s| s.empty(rows as usize)).collect();
        for run in runs {
            let end = run.start + u64::from(run.rows);
            let mut next = run.start;
            let first = self.index.block_of(next);
            for (number, block) in self.index.blocks.iter().enumerate().skip(first) {
                if next >= end {
                    break;
                }
                let decoded = self.block(number, block)?;
                let from = (next - block.start) as usize;
                let to = ((end - block.start) as usize).min(block.rows);
                if let Some((_, message)) = decoded.bad.range(from..to).next() {
                    let message = format!("{message} (object {id})");
                    return Err(Error::file(self.table.path(), message));
                }
                for (numbers, block) in numbers.iter_mut().zip(&decoded.numbers) {
                    append(numbers, block, from..to);
                }
                next = block.start + to as u64;
            }
        }
        if let Some(order) = self.sort.map(|sort| ascending(&numbers[sort])) {
            numbers = numbers.iter().map(|numbers| reorder(numbers, &order)).collect();
        }
        Ok(numbers)
    }
}

impl Source for TableSource {
    fn len(&self) -> usize {
        self.index.ids.len()
    }

    fn id(&self, index: usize) -> String {
        self.index.ids.get(index).map(|id| id.to_string()).unwrap_or_default()
    }

    fn labels(&self, index: usize) -> Labels {
        self.labels.of(index)
    }

    fn label_units(&self) -> LabelUnits {
        let mut units = self.labels.units().clone();
        // What the recipe says of a column as a field holds for the label that it is, too.
        for spec in self.specs.iter().filter(|_| self.layout == Layout::Wide) {
            let name = &self.table.columns()[spec.column].name;
            if let (Some(unit), true) = (&spec.unit, self.labels.has(name)) {
                units.entry(name.clone()).or_insert_with(|| unit.clone());
            }
        }
        units
    }

    fn groups(&self) -> Option<Groups> {
        self.groups.clone()
    }

    fn read(&self, index: usize) -> Result<Observation> {
        if index >= self.len() {
            let message = format!("there is no object {index}; the table has {}", self.len());
            return Err(Error::Failed(message));
        }
        let mut fields = BTreeMap::new();
        for (spec, data) in self.specs.iter().zip(self.samples(index)?) {
            let shape = match self.layout {
                Layout::Long => vec![data.len()],
                Layout::Wide => Vec::new(),
            };
            let field = Field { array: Array::new(shape, data)?, unit: spec.unit.clone() };
            fields.insert(spec.name.clone(), field);
        }
        Ok(Observation { id: self.id(index), fields, labels: self.labels(index) })
    }
}

astropt_core::register_source!(
    "table",
    "CSV or Parquet with a row per sample (light curves) or per object (catalogues)",
    "path = \"lightcurves.parquet\"\n\
     object = \"ID\"\n\
     fields.time = { column = \"MJD\", unit = \"d\" }\n\
     fields.value = { column = \"Mag\", unit = \"mag\" }\n\
     fields.error = { column = \"Magerr\", unit = \"mag\" }\n\
     fields.band = { column = \"filter\", codes = [\"g\", \"r\", \"i\"] }\n\
     sort = \"time\"\n\
     labels = \"labels.csv\"\n\
     name_column = \"ID\"",
    Some("path"),
    TableConfig
);
