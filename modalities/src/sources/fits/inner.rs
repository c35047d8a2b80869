//! Labels and ids that the files themselves state: keywords, and rows of a table.

use std::ops::Range;

use astropt_core::{Error, Result};

use super::config::{FitsConfig, Objects};
use super::fields::{Open, Place};
use super::header::{BLOCK, Hdu};
use super::index::Index;
use super::reader::Reader;
use super::table::{Column, Table};
use super::unpack::Unpacked;
use crate::sources::labels::LabelTable;
use crate::sources::tabular::Cell;

/// Labels and ids on their way out of the files.
struct Inner<'a> {
    config: &'a FitsConfig,
    index: &'a Index,
    /// Columns of `label_hdu` that are labels: those of the first file.
    columns: Vec<String>,
    labels: Option<LabelTable>,
    /// Which of the keywords some header has, once a header was read.
    met: Option<Vec<bool>>,
    ids: Vec<Option<Box<str>>>,
}

/// Why a file's labels could not be read.
enum Trouble {
    /// It lacks what the recipe names.
    Asked(String),
    /// It is damaged.
    Damaged(String),
}

impl From<String> for Trouble {
    fn from(message: String) -> Self {
        Self::Damaged(message)
    }
}

/// Reads the labels of every object, and sets the ids of `index` where they stand in
/// `label_hdu`.
///
/// # Errors
/// When a file lacks the table or a column that is asked for, or no file has a keyword. A damaged
/// file that is one object has no labels: reading the object says why.
pub(super) fn labels(
    config: &FitsConfig,
    index: &mut Index,
    unpacked: &Unpacked,
) -> Result<Option<LabelTable>> {
    if config.keywords.is_empty() && config.label_hdu.is_none() {
        return Ok(None);
    }
    let ids = if config.label_hdu.is_some() && config.id.is_some() { index.len() } else { 0 };
    let mut inner =
        Inner { config, index, columns: Vec::new(), labels: None, met: None, ids: vec![None; ids] };
    let mut damaged = None;
    let mut parts = 0..;
    while let Some((path, objects)) = parts.next().and_then(|k| index.part(k)) {
        let keep = config.objects != Objects::File;
        let read = match Reader::open(&path, unpacked, keep).map(Open::new) {
            Ok(mut open) => match inner.part(&mut open, objects) {
                Err(Trouble::Asked(message)) => return Err(Error::file(&path, message)),
                Err(Trouble::Damaged(message)) => Err(Error::file(&path, message)),
                Ok(()) => Ok(()),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            if config.objects != Objects::File {
                return Err(error);
            }
            damaged.get_or_insert(error);
        }
    }
    let Inner { labels, met, ids, .. } = inner;
    if let (None, Some(error)) = (&labels, damaged) {
        return Err(error);
    }
    let absent = |(key, met): (&String, bool)| (!met).then(|| format!("{key:?}"));
    let keywords = config.keywords.iter().zip(met.into_iter().flatten());
    let absent: Vec<_> = keywords.filter_map(absent).collect();
    if !absent.is_empty() {
        return Err(Error::file(
            index.base(),
            format!(
                "no header of an object or file has a keyword {} (`keywords`); look for its name \
                 in a header, of HIERARCH cards as in \"ESO DET X\"",
                absent.join(", ")
            ),
        ));
    }
    if !ids.is_empty() {
        let named = |(k, id): (usize, Option<Box<str>>)| id.unwrap_or_else(|| index.id(k).into());
        let ids = ids.into_iter().enumerate().map(named).collect();
        index.set_ids(ids)?;
    }
    Ok(labels)
}

impl Inner<'_> {
    /// Reads what one file states about these objects of it.
    fn part(&mut self, open: &mut Open, objects: Range<usize>) -> Result<(), Trouble> {
        match &self.config.label_hdu {
            None => self.prepare(None),
            Some(_) => self.rows(open, objects.clone())?,
        }
        if self.config.keywords.is_empty() {
            return Ok(());
        }
        let field = self.config.counted().map_err(|error| Trouble::Asked(error.to_string()))?;
        let primary = open.first(|hdu| hdu.number == 0)?;
        for object in objects {
            let place = self.index.place(object).map_or(Place::Whole, |(_, place)| place);
            let own = Some(open.of_field(&field, place)?);
            let met = self.met.get_or_insert_with(|| vec![false; self.config.keywords.len()]);
            for ((k, key), met) in self.config.keywords.iter().enumerate().zip(met) {
                *met |= [&own, &primary].into_iter().flatten().any(|hdu| hdu.header.has(key));
                let label = |hdu: &Option<std::sync::Arc<Hdu>>| {
                    hdu.as_ref().and_then(|hdu| hdu.header.label(key))
                };
                let label = label(&own).or_else(|| label(&primary));
                if let Some(labels) = &mut self.labels {
                    labels.set(object, k, label);
                }
            }
        }
        Ok(())
    }

    /// Decides on the names of the labels when the first file is met.
    fn prepare(&mut self, table: Option<&Table>) {
        if self.labels.is_some() {
            return;
        }
        self.columns = match (&self.config.label_columns, table) {
            (Some(columns), _) => columns.clone(),
            (None, Some(table)) => {
                let labels = table.columns.iter().filter(|column| column.is_label());
                labels.map(|column| column.name.clone()).collect()
            }
            (None, None) => Vec::new(),
        };
        let names = self.config.keywords.iter().chain(&self.columns).cloned().collect();
        self.labels = Some(LabelTable::unknown(self.index.len(), names));
    }

    /// The columns of `table` that are labels, and their places among the labels.
    fn columns<'t>(
        &self,
        table: &'t Table,
        hdu: &Hdu,
    ) -> Result<(Vec<&'t Column>, Vec<usize>), Trouble> {
        let mut columns: Vec<&Column> = Vec::new();
        let mut places = Vec::new();
        for (k, name) in self.columns.iter().enumerate() {
            match table.find(hdu, &super::Name::Text(name.clone())) {
                Ok(column) if self.config.label_columns.is_some() && !column.is_label() => {
                    return Err(Trouble::Asked(format!(
                        "{}: the column {name:?} (`label_columns`) holds no single number, truth \
                         value or text a row",
                        hdu.title()
                    )));
                }
                Ok(column) => {
                    columns.push(column);
                    places.push(self.config.keywords.len() + k);
                }
                Err(error) if self.config.label_columns.is_some() => {
                    return Err(Trouble::Asked(error));
                }
                Err(_) => {} // a column that only the first file has
            }
        }
        Ok((columns, places))
    }

    /// Labels and ids from `label_hdu`.
    fn rows(&mut self, open: &mut Open, objects: Range<usize>) -> Result<(), Trouble> {
        let Some(name) = &self.config.label_hdu else { return Ok(()) };
        // All headers are sound and none was cut off, or the file is damaged.
        open.first(|_| false)?;
        if !open.reader.len().is_multiple_of(BLOCK) {
            return Err(Trouble::Damaged(format!(
                "it ends within a block of {BLOCK} bytes; it is cut short: fetch it again"
            )));
        }
        let hdu = open.named(name).map_err(Trouble::Asked)?;
        let table = Table::of(&hdu)?;
        if table.rows != objects.len() {
            return Err(Trouble::Asked(format!(
                "{}: `label_hdu` has {} rows for {} objects; name a table with one row per \
                 object, or a table of `labels` beside the files",
                hdu.title(),
                table.rows,
                objects.len()
            )));
        }
        let text = |name: &String| super::Name::Text(name.clone());
        let id = self.config.id.as_ref().map(|id| table.find(&hdu, &text(id))).transpose();
        let id = id.map_err(Trouble::Asked)?;
        self.prepare(Some(&table));
        let (mut columns, places) = self.columns(&table, &hdu)?;
        columns.extend(id);
        let (labels, ids) = (&mut self.labels, &mut self.ids);
        let mut fraction = None;
        table.cells(&mut open.reader, &hdu, &columns, 0..table.rows, &mut |row, cells| {
            let object = objects.start + row;
            for (&place, cell) in places.iter().zip(cells) {
                if let Some(labels) = labels {
                    labels.set(object, place, cell.label());
                }
            }
            if let (Some(slot), Some(_), Some(cell)) = (ids.get_mut(object), id, cells.last()) {
                let named =
                    |name: &str| Some(name.trim()).filter(|name| !name.is_empty()).map(Box::from);
                *slot = cell.with_name(named);
                if let Cell::Number(number) = cell {
                    fraction = fraction.or(Some(*number).filter(|number| number.is_finite()));
                }
            }
        })?;
        match (fraction, &self.config.id) {
            (Some(number), Some(id)) => Err(Trouble::Asked(format!(
                "{}: `id` is the column {id:?} of floating-point numbers such as {number}, which \
                 do not keep an id's digits; name a column of integers or texts",
                hdu.title()
            ))),
            _ => Ok(()),
        }
    }
}
