//! A table in shards, as a source: rows are read in parts, a few of which are held.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::{Array as _, ArrayRef};
use astropt_core::observation::{Field, LabelUnits, Labels, Observation};
use astropt_core::seam::{Groups, Pin, Source};
use astropt_core::{Error, Result, progress};

use super::columns::Columns;
use super::footer::{Footer, Group};
use super::ids::Ids;
use super::plan::{FieldPlan, Names, Plan};
use super::schema::Kind;
use super::shard::{Held, LARGE, Rows, Shard, Span};
use super::{layout, value};
use crate::sources::decode::decode;
use crate::sources::lru::Lru;
use crate::sources::tabular::{self, cell};
use crate::sources::units::{ONE_UNIT, OneUnit, OneUnitEach};

/// Largest stated size of a part, in bytes; larger row groups are read in several parts.
const PART: u64 = 32 << 20;
/// Bytes of decoded rows that are held, where the recipe does not say.
const BUFFER: u64 = 512_000_000;
/// Most parts that are held: enough to shuffle well.
const MOST_HELD: u64 = 256;
/// Shards that are held open.
pub(in crate::sources) const OPEN: u64 = 2;

/// Where the files of shards come from.
pub(crate) trait Store: Send + Sync {
    /// The file of a shard, which stays in place while the second part lives. Waits where
    /// it has to be fetched first.
    ///
    /// # Errors
    /// When it cannot be had.
    fn file(&self, shard: usize) -> Result<(PathBuf, Held)>;

    /// Says which shards will be asked for, the nearest first.
    fn expect(&self, _shards: &[usize]) {
        // Files that are here need no time.
    }

    /// Whether shards have to be fetched as a whole before they can be read.
    fn is_remote(&self) -> bool;

    /// See [`Source::pins`].
    fn pins(&self) -> Vec<Pin> {
        Vec::new()
    }
}

/// A shard before it is read.
#[derive(Clone, Debug)]
pub(crate) struct ShardRows {
    /// Path within the dataset.
    pub(crate) name: String,
    pub(crate) groups: Vec<Group>,
    /// The unit of every field, as the shard or the recipe states it.
    pub(crate) units: Vec<Option<String>>,
    /// The units of labels that the shard states.
    pub(crate) label_units: Vec<(String, String)>,
    /// Columns that would be labels by default and are none here, and why.
    pub(crate) unlabelled: Vec<(String, String)>,
}

/// The source.
pub(crate) struct Table {
    store: Box<dyn Store>,
    names: Names,
    /// Units of labels that state one.
    label_units: LabelUnits,
    /// The path without extension, and the index of the first object.
    shards: Vec<(String, u32)>,
    /// Shard and rows of each part, in order.
    parts: Vec<(u32, Span)>,
    /// Index of the first object of each part.
    starts: Vec<u32>,
    len: u32,
    /// Bytes of decoded rows that are held.
    buffer: u64,
    /// How many parts are held.
    held: usize,
    open: Lru<Shard>,
    fields: Lru<Part>,
    labels: Lru<Part>,
    ids: Option<Ids>,
    /// Whether a person has been told that labels cannot be read.
    told: AtomicBool,
}

/// Decoded rows of a shard, and what they mean.
struct Part {
    rows: Rows,
    plan: Arc<Plan>,
}

impl Table {
    /// A table of these shards, which `store` has. Ids are read if a column holds them.
    ///
    /// # Errors
    /// When there are no rows, or more than can be counted, two objects share an id, or shards
    /// state different units.
    pub(crate) fn new(
        store: Box<dyn Store>,
        names: Names,
        columns: &Columns,
        shards: &[ShardRows],
    ) -> Result<Self> {
        check_units(&names, shards)?;
        let label_units = label_units(shards)?;
        tell_unlabelled(shards);
        let buffer = columns.buffer.map_or(BUFFER, |buffer| buffer.0);
        let (mut parts, mut starts, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut len, mut largest) = (0u32, 1u64);
        for (k, shard) in shards.iter().enumerate() {
            firsts.push((layout::stem(&shard.name).to_owned(), len));
            for (group, of_group) in shard.groups.iter().copied().enumerate() {
                let Group { rows, bytes } = of_group;
                let count =
                    bytes.div_ceil(part_bytes(of_group, buffer)).clamp(1, rows.max(1).into());
                let step = u64::from(rows).div_ceil(count).max(1);
                for first in (0..u64::from(rows)).step_by(step as usize) {
                    let rows = step.min(u64::from(rows) - first) as usize;
                    parts.push((k as u32, Span { group, first: first as usize, rows }));
                    starts.push(len);
                    len = len.checked_add(rows as u32).ok_or_else(too_many)?;
                }
                largest = largest.max(bytes.div_ceil(count));
            }
        }
        if len == 0 {
            let names: Vec<_> = shards.iter().map(|shard| shard.name.as_str()).take(3).collect();
            return Err(Error::Failed(format!("no rows in {}", names.join(", "))));
        }
        // Parts take more than they state where one page serves two of them.
        let held = (buffer / 2 / largest).clamp(1, MOST_HELD) as usize;
        let mut table = Self {
            store,
            names,
            label_units,
            shards: firsts,
            parts,
            starts,
            len,
            buffer,
            held,
            open: Lru::new(OPEN),
            fields: Lru::new(buffer),
            labels: Lru::new(buffer / 4),
            ids: None,
            told: AtomicBool::new(false),
        };
        if table.names.has_id() {
            table.ids = Some(table.read_ids()?);
        }
        Ok(table)
    }

    fn read_ids(&self) -> Result<Ids> {
        let mut ids = Ids::new();
        for (k, &(shard, span)) in self.parts.iter().enumerate() {
            if astropt_core::stop::asked() {
                return Err(astropt_core::stop::stopped(" while ids were read"));
            }
            let shard = self.shard(shard)?;
            let Some(found) = &shard.plan.id else { continue };
            let leaves: Vec<usize> = (found.first_leaf..found.first_leaf + found.leaves).collect();
            let rows = shard.read(span, &leaves)?;
            ids.extend(&rows, found).map_err(|row| {
                let row = self.starts.get(k).map_or(row, |start| *start as usize + row);
                let name = found.path.join(".");
                let message = format!(
                    "row {row} (counted from 0, through all shards) has no id in the column \
                     {name:?}; name another with `id`, or leave the key out"
                );
                Error::file(shard.path(), message)
            })?;
        }
        ids.check_unique()?;
        Ok(ids)
    }

    fn shard(&self, shard: u32) -> Result<Arc<Shard>> {
        self.open.get(shard, || {
            let (path, held) = self.store.file(shard as usize)?;
            let opened = Shard::open(path, &self.names, self.buffer, held)?;
            self.check_rows(shard, &opened)?;
            Ok((opened, 1))
        })
    }

    /// A shard has the rows it had when the table was opened.
    fn check_rows(&self, shard: u32, opened: &Shard) -> Result<()> {
        let start = self.parts.partition_point(|(s, _)| *s < shard);
        let parts = self.parts[start..].iter().take_while(|(s, _)| *s == shard);
        let mut expected = BTreeMap::new();
        for (_, span) in parts {
            *expected.entry(span.group).or_insert(0u64) += span.rows as u64;
        }
        let found = opened.group_rows().enumerate().filter(|(_, rows)| *rows > 0);
        if found.map(|(group, rows)| (group, rows.into())).eq(expected) {
            return Ok(());
        }
        Err(Error::file(opened.path(), "has other rows than when it was opened; start again"))
    }

    /// The part that object `index` is in, and its row there.
    fn place(&self, index: usize) -> Result<(u32, usize)> {
        if index >= self.len as usize {
            let message = format!("there is no row {index}; the table has {}", self.len);
            return Err(Error::Failed(message));
        }
        let part = self.starts.partition_point(|&start| start as usize <= index) - 1;
        Ok((part as u32, index - self.starts[part] as usize))
    }

    fn part(
        &self,
        cache: &Lru<Part>,
        part: u32,
        leaves: fn(&Plan) -> Vec<usize>,
    ) -> Result<Arc<Part>> {
        cache.get(part, || {
            let (shard, span) = self.parts[part as usize];
            let shard = self.shard(shard)?;
            let rows = shard.read(span, &leaves(&shard.plan))?;
            let size = rows.size as u64;
            Ok((Part { rows, plan: shard.plan.clone() }, size))
        })
    }

    fn try_labels(&self, index: usize) -> Result<Labels> {
        let (part, row) = self.place(index)?;
        if !self.names.has_labels() {
            return Ok(Labels::new());
        }
        let part = self.part(&self.labels, part, Plan::label_leaves)?;
        let labels = part.plan.labels.iter().filter_map(|(name, found)| {
            let (top, path) = found.path.split_first()?;
            let (column, row) = part.rows.column(top, row)?;
            Some((name.clone(), cell(descend(column, path, row)?, row).label()?))
        });
        Ok(labels.collect())
    }
}

/// Size of a part of a row group, in bytes: a page that serves many of them is decoded anew for
/// each, so that of large pages they are as large as the buffer allows.
fn part_bytes(group: Group, buffer: u64) -> u64 {
    let small = PART.min(buffer / 8);
    if group.page() > LARGE { small.max(buffer / 4) } else { small }.max(1)
}

fn too_many() -> Error {
    Error::Failed("more rows than one run can hold (2^32); choose a split".into())
}

/// The column that `path` leads to from `column`; `None` where row `row` has nothing on the
/// way.
pub(super) fn descend<'a>(
    column: &'a ArrayRef,
    path: &[String],
    row: usize,
) -> Option<&'a ArrayRef> {
    path.iter().try_fold(column, |column, name| {
        let inner = column.as_struct_opt()?.column_by_name(name)?;
        column.is_valid(row).then_some(inner)
    })
}

/// The field that `plan` describes, of row `row`.
fn field(rows: &Rows, row: usize, plan: &FieldPlan) -> Result<Option<Field>, String> {
    let FieldPlan { column, found, kind, unit, axes, codes, .. } = plan;
    let (top, path) = found.path.split_first().ok_or("no column")?;
    let (cells, row) = rows.column(top, row).ok_or("the row is not there")?;
    let array = match kind {
        Kind::Picture => value::bytes(cells, path, row).and_then(|b| b.map(decode).transpose()),
        _ => value::numbers(cells, path, row, *axes, codes.as_ref()),
    };
    let array = array.map_err(|message| format!("column {column:?}: {message}"))?;
    Ok(array.map(|array| Field { array, unit: unit.clone() }))
}

impl Source for Table {
    fn len(&self) -> usize {
        self.len as usize
    }

    fn id(&self, index: usize) -> String {
        if let Some(id) = self.ids.as_ref().and_then(|ids| ids.get(index)) {
            return id;
        }
        let after = self.shards.partition_point(|(_, first)| *first as usize <= index);
        match after.checked_sub(1).and_then(|shard| self.shards.get(shard)) {
            Some((stem, first)) => format!("{stem}:{}", index - *first as usize),
            None => index.to_string(),
        }
    }

    fn ids_are_places(&self) -> bool {
        self.ids.is_none()
    }

    fn labels(&self, index: usize) -> Labels {
        self.try_labels(index).unwrap_or_else(|error| {
            if !self.told.swap(true, Ordering::Relaxed) {
                progress::warn(&format!("labels of some objects are not known: {error}"));
            }
            Labels::new()
        })
    }

    fn label_units(&self) -> LabelUnits {
        self.label_units.clone()
    }

    fn labelled(&self) -> usize {
        if self.names.has_labels() { self.len() } else { 0 }
    }

    fn groups(&self) -> Option<Groups> {
        let shards = match self.store.is_remote() {
            true => {
                let mut firsts: Vec<u32> = self.shards.iter().map(|(_, first)| *first).collect();
                firsts.dedup(); // of shards without rows
                firsts.retain(|&first| first < self.len);
                firsts
            }
            false => vec![0],
        };
        Some(Groups { starts: self.starts.clone(), held: self.held, shards })
    }

    fn pins(&self) -> Vec<Pin> {
        self.store.pins()
    }

    fn expect(&self, upcoming: &[u32]) {
        let mut shards = Vec::new();
        for &index in upcoming {
            if let Ok((part, _)) = self.place(index as usize) {
                shards.push(self.parts[part as usize].0 as usize);
            }
        }
        self.store.expect(&shards);
    }

    fn read(&self, index: usize) -> Result<Observation> {
        let (part, row) = self.place(index)?;
        let id = self.id(index);
        let part = self.part(&self.fields, part, Plan::field_leaves)?;
        let mut fields = BTreeMap::new();
        for plan in &part.plan.fields {
            let found = field(&part.rows, row, plan).map_err(|e| Error::object(&id, e))?;
            fields.extend(found.map(|field| (plan.name.clone(), field)));
        }
        let labels = self.try_labels(index)?;
        // Modalities may be read of labels alone.
        if fields.is_empty() && labels.is_empty() {
            let columns: Vec<_> = part.plan.fields.iter().map(|f| f.column.as_str()).collect();
            let message = format!("nothing in its columns {}", columns.join(", "));
            return Err(Error::object(&id, message));
        }
        Ok(Observation { id, fields, labels })
    }
}

/// Files on this disk.
pub(super) struct Local(pub(super) Vec<layout::LocalShard>);

impl Store for Local {
    fn file(&self, shard: usize) -> Result<(PathBuf, Held)> {
        let shard = self.0.get(shard).ok_or_else(|| Error::Failed("no such shard".into()))?;
        Ok((shard.path.clone(), Box::new(())))
    }

    fn is_remote(&self) -> bool {
        false
    }
}

/// What a shard's footer says of its rows, and the columns' names if they are not known yet.
///
/// # Errors
/// When the shard lacks a column that is read.
pub(crate) fn survey(
    names: &mut Option<Names>,
    columns: &Columns,
    name: &str,
    path: &Path,
    footer: &Footer,
) -> Result<ShardRows> {
    let names = match names {
        Some(names) => names,
        None => names.insert(Names::new(columns, footer, path)?),
    };
    let plan = names.plan(footer, path)?;
    let mut leaves = plan.field_leaves();
    leaves.extend(plan.label_leaves());
    Ok(ShardRows {
        name: name.to_owned(),
        groups: footer.groups(&leaves),
        label_units: Names::label_units(&plan, footer),
        units: plan.fields.into_iter().map(|field| field.unit).collect(),
        unlabelled: names.unlabelled(footer),
    })
}

/// Checks that all shards state the same unit for each field.
///
/// # Errors
/// When two differ; names both.
fn check_units(names: &Names, shards: &[ShardRows]) -> Result<()> {
    for (k, field) in names.fields().enumerate() {
        let mut unit = OneUnit::default();
        for shard in shards {
            let stated = shard.units.get(k).and_then(Option::as_deref);
            unit.add(&shard.name, stated).map_err(|message| {
                Error::Failed(format!("field {field:?}: {message}; {ONE_UNIT}"))
            })?;
        }
    }
    Ok(())
}

/// The unit of each label that some shard states one of.
///
/// # Errors
/// When two shards state different ones; names both.
fn label_units(shards: &[ShardRows]) -> Result<LabelUnits> {
    let mut units = OneUnitEach::default();
    for shard in shards {
        for (label, unit) in &shard.label_units {
            units.add(label, &shard.name, unit).map_err(Error::Failed)?;
        }
    }
    Ok(units.settled())
}

/// Says which columns are not among the labels, though no recipe left them out.
fn tell_unlabelled(shards: &[ShardRows]) {
    let mut told: BTreeMap<&str, String> = BTreeMap::new();
    for shard in shards {
        for (column, why) in &shard.unlabelled {
            told.entry(column).or_insert_with(|| format!("{column:?} ({why} in {})", shard.name));
        }
    }
    tabular::tell_left_out(&told.into_values().collect::<Vec<_>>());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_large_pages_are_as_large_as_the_buffer_allows() {
        let rows = |rows: u32, each: u64| Group { rows, bytes: each * u64::from(rows) };
        for (group, buffer, part) in [
            (rows(100, 1_200_000), BUFFER, PART),
            (rows(5000, 100_000), BUFFER, PART),
            (rows(5000, 1_200_000), BUFFER, BUFFER / 4),
            (rows(5000, 1_200_000), 8 * BUFFER, 2 * BUFFER),
            (rows(5000, 1_200_000), 1_000_000, 250_000),
            (rows(100, 1_200_000), 8, 1),
            (rows(0, 0), 0, 1),
        ] {
            assert_eq!(part_bytes(group, buffer), part, "{group:?} {buffer}");
        }
    }
}
