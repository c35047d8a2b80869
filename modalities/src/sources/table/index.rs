//! Which rows belong to which object, found in one pass.

use std::collections::{BTreeSet, HashMap};

use astropt_core::{Error, Result};

use super::column::Spec;
use super::config::Layout;
use crate::sources::tabular::{Block, Cell, Table};

/// Most values that codes = "sorted" may find.
const MAX_CODES: usize = 10_000;

/// Objects in the order of their first row, and where their rows are.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) ids: Vec<Box<str>>,
    pub(super) blocks: Vec<Block>,
    pub(super) rows: u64,
    /// Runs of neighbouring rows, those of one object together and in the order of the file.
    runs: Vec<Run>,
    /// The runs of object k are those from `first_runs[k]` to `first_runs[k + 1]`. Empty where
    /// every object has one run.
    first_runs: Vec<usize>,
}

/// Neighbouring rows of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) rows: u32,
    object: u32,
}

/// How much a run takes, in bytes.
pub(super) const RUN_BYTES: u64 = size_of::<Run>() as u64;

impl Index {
    /// Reads the column `object`, and those whose values are to be sorted into codes.
    ///
    /// # Errors
    /// When the file is damaged, a row names no object, a wide table names one twice, there is
    /// no row, or the runs of scattered objects would take more than `memory` bytes.
    pub(super) fn build(
        table: &Table,
        object: usize,
        layout: Layout,
        specs: &mut [Spec],
        memory: u64,
    ) -> Result<Self> {
        let mut pass = Pass {
            table,
            layout,
            memory,
            ids: Vec::new(),
            known: HashMap::new(),
            runs: Vec::new(),
        };
        let coded: Vec<usize> = (0..specs.len()).filter(|&k| specs[k].sorted).collect();
        let mut values = vec![BTreeSet::new(); coded.len()];
        let columns: Vec<usize> =
            std::iter::once(object).chain(coded.iter().map(|&k| specs[k].column)).collect();
        let mut rows = 0;
        let blocks = table.scan(&columns, &mut |row| {
            let (id, rest) = row.cells.split_first().unwrap_or((&Cell::Unknown, &[]));
            pass.row(row.number, row.at, *id)?;
            for (cell, values) in rest.iter().zip(&mut values) {
                collect(table, *cell, values)?;
            }
            rows = row.number + 1;
            Ok(())
        })?;
        for (k, values) in coded.into_iter().zip(values) {
            specs[k].set_codes(values);
        }
        if rows == 0 {
            return Err(Error::file(table.path(), "the table has no row"));
        }
        let (ids, mut runs) = (pass.ids, pass.runs);
        let mut first_runs = Vec::new();
        if runs.len() > ids.len() {
            runs.sort_by_key(|run| (run.object, run.start));
            first_runs.reserve_exact(ids.len() + 1);
            let mut next = 0;
            for object in 0..ids.len() {
                first_runs.push(next);
                next += runs[next..].iter().take_while(|run| run.object as usize == object).count();
            }
            first_runs.push(next);
        }
        Ok(Self { ids, blocks, rows, runs, first_runs })
    }

    /// Whether the rows of some object lie apart.
    pub(super) fn scattered(&self) -> bool {
        !self.first_runs.is_empty()
    }

    /// The runs of object `object`.
    pub(super) fn runs(&self, object: usize) -> &[Run] {
        let range = match self.first_runs.as_slice() {
            [] => object..object + 1,
            first => first[object]..first[object + 1],
        };
        self.runs.get(range).unwrap_or_default()
    }

    /// Bytes that the runs take.
    pub(super) fn run_bytes(&self) -> u64 {
        self.runs.len() as u64 * RUN_BYTES
    }

    /// The block that holds row `row`.
    pub(super) fn block_of(&self, row: u64) -> usize {
        self.blocks.partition_point(|block| block.start <= row).saturating_sub(1)
    }
}

/// The state of the pass.
struct Pass<'a> {
    table: &'a Table,
    layout: Layout,
    memory: u64,
    ids: Vec<Box<str>>,
    known: HashMap<Box<str>, u32>,
    runs: Vec<Run>,
}

impl Pass<'_> {
    /// Counts row `number` to the object that `cell` names.
    fn row(&mut self, number: u64, at: u64, cell: Cell<'_>) -> Result<()> {
        let object = self.object(cell).map_err(|message| {
            let place = self.table.place(at);
            Error::file(self.table.path(), format!("{place}: {message}"))
        })?;
        match self.runs.last_mut() {
            Some(run) if run.object == object && run.rows < u32::MAX => run.rows += 1,
            _ => self.runs.push(Run { start: number, rows: 1, object }),
        }
        let apart = (self.runs.len() - self.ids.len()) as u64;
        if apart.saturating_mul(RUN_BYTES) > self.memory {
            return Err(scattered(self.table));
        }
        Ok(())
    }

    /// The object that `cell` names.
    fn object(&mut self, cell: Cell<'_>) -> Result<u32, String> {
        if let Cell::Number(_) = cell {
            return Err("the `object` column holds fractions; ids are integers or text".to_owned());
        }
        let last = self.runs.last().map(|run| run.object);
        let is_last = |name: &str| last.filter(|&k| *self.ids[k as usize] == *name.trim());
        if let (Layout::Long, Some(object)) = (self.layout, cell.with_name(is_last)) {
            return Ok(object);
        }
        let name: Box<str> = cell.with_name(|name| Some(name.trim().into())).unwrap_or_default();
        match self.known.get(&name) {
            _ if name.is_empty() => Err("no id in the `object` column".to_owned()),
            Some(_) if self.layout == Layout::Wide => Err(format!(
                "a second row about the object {name:?}; a table with several rows per object \
                 has layout = \"long\""
            )),
            Some(&object) => Ok(object),
            None => {
                let object = u32::try_from(self.ids.len())
                    .map_err(|_| "more than 4294967295 objects; split the table".to_owned())?;
                self.ids.push(name.clone());
                self.known.insert(name, object);
                Ok(object)
            }
        }
    }
}

/// The error of a table whose objects lie too far apart.
pub(super) fn scattered(table: &Table) -> Error {
    Error::file(
        table.path(),
        "the rows of one object lie apart, and the table does not fit in `memory_mib`; sort it by \
         its `object` column once, or raise `memory_mib`",
    )
}

/// Adds the value in `cell` to those that become codes.
fn collect(table: &Table, cell: Cell<'_>, values: &mut BTreeSet<String>) -> Result<()> {
    let value = cell.with_name(|text| Some(text.trim().to_owned()));
    let Some(value) = value.filter(|_| !cell.is_missing()) else { return Ok(()) };
    if !values.contains(&value) {
        values.insert(value);
        if values.len() > MAX_CODES {
            let message = format!("codes = \"sorted\" found more than {MAX_CODES} values");
            return Err(Error::file(table.path(), message));
        }
    }
    Ok(())
}
