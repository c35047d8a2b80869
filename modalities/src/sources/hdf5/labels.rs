//! Datasets with one value per object: labels and ids.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::config::{FieldConfig, Hdf5Config};
use super::dataset::Dataset;
use super::file::File;
use crate::sources::labels::{Column, LabelTable};
use crate::sources::tabular::{Cell, tell_left_out};
use crate::sources::units::OneUnitEach;

/// Most labels and ids that are held in memory.
const MAX_LABELS: u64 = 1 << 28;
/// Rows that are read at a time.
const LABEL_ROWS: usize = 1 << 20;

/// Labels and ids on their way out of the files.
pub(super) struct Reading<'a> {
    config: &'a Hdf5Config,
    /// Datasets that are labels, with the names they get: those of the first file.
    names: Option<Vec<(String, String)>>,
    /// Number of rows and columns of labels, of every file.
    parts: Vec<(usize, Vec<Column>)>,
    ids: Vec<Box<str>>,
    /// Labels and ids so far.
    cells: u64,
    /// What looks like labels and is none, with the reason.
    left_out: Vec<String>,
    /// Units of labels, and the files that state them.
    units: OneUnitEach<Rc<str>>,
    /// Datasets of later files that were looked at already.
    met: BTreeSet<String>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(config: &'a Hdf5Config) -> Self {
        Self {
            config,
            names: None,
            parts: Vec::new(),
            ids: Vec::new(),
            cells: 0,
            left_out: Vec::new(),
            units: OneUnitEach::default(),
            met: BTreeSet::new(),
        }
    }

    /// Reads the labels and ids of the file called `called`, which has so many objects.
    ///
    /// # Errors
    /// When a dataset is not there, damaged, in another unit than in a file before, or has not one
    /// value per object.
    pub(super) fn read(&mut self, file: &File, called: &str, rows: usize) -> Result<(), String> {
        let names = match self.names.clone() {
            Some(names) => {
                self.leave_out(file, called, rows, &names);
                names
            }
            None => self.find(file, rows)?,
        };
        let columns = names.len() as u64 + u64::from(self.config.id.is_some());
        self.cells = self.cells.saturating_add(columns.saturating_mul(rows as u64));
        if self.cells > MAX_LABELS {
            return Err(format!(
                "{columns} labels of {rows} objects are more than the {MAX_LABELS} that are \
                 held in memory; name fewer with `labels`"
            ));
        }
        let mut columns = Vec::with_capacity(names.len());
        let place: Rc<str> = called.into();
        for (path, name) in &names {
            let dataset = file.dataset(path)?;
            columns.push(labels_of(&dataset, rows).map_err(|message| {
                format!("dataset {path:?}: {message}; choose others with `labels`")
            })?);
            if let Some(unit) = dataset.units.as_ref().filter(|_| dataset.numbers) {
                self.units.add(name, place.clone(), unit)?;
            }
        }
        self.names = Some(names);
        self.parts.push((rows, columns));
        if let Some(path) = &self.config.id {
            let dataset = file.dataset(path)?;
            let ids = ids_of(&dataset, rows).map_err(|m| format!("`id` {path:?}: {m}"))?;
            self.ids.extend(ids);
        }
        Ok(())
    }

    /// The datasets that are labels: path and name.
    fn find(&mut self, file: &File, rows: usize) -> Result<Vec<(String, String)>, String> {
        let named = |path: &String| {
            let name = path.rsplit('/').next().unwrap_or(path);
            (path.clone(), name.to_owned())
        };
        if let Some(labels) = &self.config.labels {
            return Ok(labels.iter().map(named).collect());
        }
        let mut labels = Vec::new();
        for path in self.unused(file) {
            match file.dataset(&path) {
                Ok(dataset) if !dataset.is_column(rows) => {}
                Ok(dataset) if dataset.numbers => labels.push(named(&path)),
                Ok(dataset) => {
                    let texts = dataset.element.map(|element| element.holds());
                    let why = texts.unwrap_or_else(|| "of a type that is not read".to_owned());
                    self.left_out.push(format!("{path:?} ({why})"));
                }
                Err(why) => self.left_out.push(why),
            }
        }
        let linked = self.groups().into_iter().flat_map(|group| file.linked(&group));
        let linked = linked.map(|file| format!("a link to {file:?}, which is not followed"));
        self.left_out.extend(linked);
        Ok(labels)
    }

    /// Notes the labels that a later file has and the first, of which all labels are, has not.
    fn leave_out(&mut self, file: &File, called: &str, rows: usize, names: &[(String, String)]) {
        if self.config.labels.is_some() {
            return;
        }
        for path in self.unused(file) {
            if names.iter().any(|(known, _)| *known == path) || self.met.contains(&path) {
                continue;
            }
            if let Ok(dataset) = file.dataset(&path)
                && dataset.numbers
                && dataset.is_column(rows)
            {
                self.left_out.push(format!("{path:?} (not in the first file, but in {called})"));
            }
            self.met.insert(path);
        }
    }

    /// The groups that fields lie in.
    fn groups(&self) -> BTreeSet<String> {
        let group = |field: &FieldConfig| {
            field.dataset.rsplit_once('/').map_or("", |(group, _)| group).to_owned()
        };
        let fields = self.config.fields.values().filter(|field| !field.shared);
        fields.map(group).collect()
    }

    /// The datasets beside the fields that are neither fields nor ids.
    fn unused(&self, file: &File) -> Vec<String> {
        let used = |path: &String| {
            let same = |other: &String| other.trim_matches('/') == path.trim_matches('/');
            self.config.fields.values().any(|field| same(&field.dataset))
                || self.config.id.as_ref().is_some_and(same)
        };
        let members = |group: &String| {
            let path = |name: String| match group.as_str() {
                "" => name,
                group => format!("{group}/{name}"),
            };
            file.members(group).1.into_iter().map(path).collect::<Vec<_>>()
        };
        self.groups().iter().flat_map(members).filter(|path| !used(path)).collect()
    }

    /// The labels and ids of all `total` objects; says what was left out.
    pub(super) fn finish(self, total: usize) -> (LabelTable, Option<Vec<Box<str>>>) {
        tell_left_out(&self.left_out);
        let names = self.names.unwrap_or_default().into_iter().map(|(_, name)| name).collect();
        let mut table = LabelTable::unknown(total, names);
        let mut first = 0;
        for (rows, columns) in self.parts {
            for (k, column) in columns.into_iter().enumerate() {
                for row in 0..rows {
                    table.set(first + row, k, column.get(row));
                }
            }
            first += rows;
        }
        let table = table.in_units(self.units.settled(), "");
        (table, self.config.id.is_some().then_some(self.ids))
    }
}

/// Calls `each` with the number and the value of every row.
fn values(
    dataset: &Dataset,
    rows: usize,
    each: &mut dyn FnMut(usize, Cell<'_>) -> Result<(), String>,
) -> Result<(), String> {
    if !dataset.is_column(rows) {
        let shape = &dataset.shape;
        return Err(format!("its shape is {shape:?}; one value per object ([{rows}]) is wanted"));
    }
    for first in (0..rows).step_by(LABEL_ROWS) {
        let mut row = first;
        dataset.cells(first, LABEL_ROWS.min(rows - first), &mut |cell| {
            row += 1;
            each(row - 1, cell)
        })?;
    }
    Ok(())
}

/// One label per row.
fn labels_of(dataset: &Dataset, rows: usize) -> Result<Column, String> {
    let mut column = Column::Unknown(rows);
    values(dataset, rows, &mut |row, cell| {
        column.set(row, cell.label());
        Ok(())
    })?;
    Ok(column)
}

/// One id per row, integers with all their digits.
fn ids_of(dataset: &Dataset, rows: usize) -> Result<Vec<Box<str>>, String> {
    let mut ids: Vec<Box<str>> = Vec::new();
    values(dataset, rows, &mut |_, cell| {
        ids.push(cell.with_name(|name| Some(name.into())).ok_or("its numbers are no integers")?);
        Ok(())
    })?;
    Ok(ids)
}
