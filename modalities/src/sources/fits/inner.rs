//! Labels and ids that the files themselves state: keywords, and rows of a table.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use astropt_core::observation::Label;
use astropt_core::{Error, Result};

use super::config::{FitsConfig, Objects};
use super::fields::{Open, Place};
use super::header::{BLOCK, Hdu, Kind};
use super::index::Index;
use super::reader::Reader;
use super::table::{Column, Table};
use super::unpack::Unpacked;
use crate::sources::labels::LabelTable;
use crate::sources::tabular::{Cell, tell_left_out};
use crate::sources::units::OneUnitEach;

/// Labels and ids on their way out of the files.
struct Inner<'a> {
    config: &'a FitsConfig,
    index: &'a Index,
    /// Columns of `label_hdu` that are labels: those of the first file.
    columns: Vec<String>,
    /// Columns that look like labels and are none, or not of all objects, with the reason.
    left_out: BTreeMap<String, String>,
    labels: Option<LabelTable>,
    /// Which of the keywords some header has, once a header was read.
    met: Option<Vec<bool>>,
    ids: Vec<Option<Box<str>>>,
    /// Units of labels, and the files that state them.
    units: OneUnitEach<Rc<str>>,
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
/// When a file lacks the table or a column that is asked for, or has one in another unit than a file
/// before, or no file has a keyword. A damaged
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
    let mut inner = Inner {
        config,
        index,
        columns: Vec::new(),
        left_out: BTreeMap::new(),
        labels: None,
        met: None,
        ids: vec![None; ids],
        units: OneUnitEach::default(),
    };
    // A table is in the first of an object's files, keywords in any.
    let looked_at = if config.keywords.is_empty() { 1 } else { usize::MAX };
    let (mut damaged, mut first) = (None, None);
    let mut parts = 0..;
    while let Some((paths, objects)) = parts.next().and_then(|k| index.part(k)) {
        let keep = config.objects != Objects::File;
        let open = |path: &PathBuf| Reader::open(path, unpacked, keep).map(Open::new);
        let read = match paths.iter().take(looked_at).map(open).collect::<Result<Vec<_>>>() {
            Ok(mut files) => match inner.part(&mut files, objects) {
                Err((file, trouble)) => match trouble {
                    Trouble::Asked(message) => {
                        return Err(Error::file(&paths[file], index.of_several(message)));
                    }
                    Trouble::Damaged(message) => Err(Error::file(&paths[file], message)),
                },
                Ok(()) => Ok(()),
            },
            Err(error) => Err(error),
        };
        first = first.or(paths.into_iter().next());
        if let Err(error) = read {
            if config.objects != Objects::File {
                return Err(error);
            }
            damaged.get_or_insert(error);
        }
    }
    let Inner { labels, left_out, met, ids, units, .. } = inner;
    if let (None, Some(error)) = (&labels, damaged) {
        return Err(error);
    }
    let absent = |(key, met): (&String, bool)| (!met).then(|| format!("{key:?}"));
    let keywords = config.keywords.iter().zip(met.into_iter().flatten());
    let absent: Vec<_> = keywords.filter_map(absent).collect();
    if !absent.is_empty() {
        return Err(Error::file(
            first.unwrap_or_default(),
            format!(
                "neither it nor another file has a keyword {} (`keywords`) in the header of an \
                 object or its own; look for its name in a header, of HIERARCH cards as in \
                 \"ESO DET X\"",
                absent.join(", ")
            ),
        ));
    }
    tell_left_out(&left_out.into_values().collect::<Vec<_>>());
    if !ids.is_empty() {
        let named = |(k, id): (usize, Option<Box<str>>)| id.unwrap_or_else(|| index.id(k).into());
        let ids = ids.into_iter().enumerate().map(named).collect();
        index.set_ids(ids)?;
    }
    Ok(labels.map(|labels| labels.in_units(units.settled(), "the files' own table")))
}

/// What is said of a keyword that the bands of an object have with different values.
fn differ(key: &str, (here, there): (&Label, &Label), path: &Path) -> String {
    let show = |label: &Label| match label {
        Label::Number(number) => number.to_string(),
        Label::Text(text) => format!("{text:?}"),
    };
    format!(
        "the keyword {key:?} is {}, in {} it is {}, and a label has one value: leave it out of \
         `keywords`, or write it into a table of `labels`",
        show(here),
        path.display(),
        show(there)
    )
}

impl Inner<'_> {
    /// Reads what a file, or one per band, states about these objects; an error comes with the
    /// number of the file.
    fn part(&mut self, files: &mut [Open], objects: Range<usize>) -> Result<(), (usize, Trouble)> {
        match (&self.config.label_hdu, files.first_mut()) {
            (Some(_), Some(open)) => self.rows(open, objects.clone()).map_err(|t| (0, t))?,
            _ => self.prepare(None, ""),
        }
        if self.config.keywords.is_empty() {
            return Ok(());
        }
        objects.into_iter().try_for_each(|object| self.keywords(files, object))
    }

    /// Reads the keywords of one object.
    fn keywords(&mut self, files: &mut [Open], object: usize) -> Result<(), (usize, Trouble)> {
        let place = self.index.place(object).map_or(Place::Whole, |(_, place)| place);
        let mut found: Vec<Option<(Label, PathBuf)>> = vec![None; self.config.keywords.len()];
        for (file, open) in files.iter_mut().enumerate() {
            let asked = |error: Error| (file, Trouble::Asked(error.to_string()));
            let damaged = |message: String| (file, Trouble::Damaged(message));
            let field = self.config.counted_in(file).map_err(asked)?;
            let own = open.of_field(&field, place).map_err(damaged)?;
            let primary = open.first(|hdu| hdu.number == 0).map_err(damaged)?;
            let met = self.met.get_or_insert_with(|| vec![false; found.len()]);
            let hdus = [Some(own), primary];
            for ((key, met), found) in self.config.keywords.iter().zip(met).zip(&mut found) {
                let headers = || hdus.iter().flatten().map(|hdu| &hdu.header);
                *met |= headers().any(|header| header.has(key));
                let Some(label) = headers().find_map(|header| header.label(key)) else { continue };
                match found {
                    None => *found = Some((label, open.reader.path().to_owned())),
                    Some((before, _)) if *before == label => {}
                    Some((before, path)) => {
                        let message = differ(key, (&label, before), path);
                        return Err((file, Trouble::Asked(message)));
                    }
                }
            }
        }
        for (k, label) in found.into_iter().enumerate() {
            if let Some(labels) = &mut self.labels {
                labels.set(object, k, label.map(|(label, _)| label));
            }
        }
        Ok(())
    }

    /// Decides on the names of the labels when the first file is met.
    fn prepare(&mut self, table: Option<&Table>, file: &str) {
        self.leave_out(table, file);
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

    /// Notes what is no label of the columns of `table` that look like labels, in a recipe that does
    /// not name them.
    fn leave_out(&mut self, table: Option<&Table>, file: &str) {
        let (None, Some(table)) = (&self.config.label_columns, table) else { return };
        let id = self.config.id.as_deref();
        let known = |name: &str| self.labels.is_none() || self.columns.iter().any(|c| c == name);
        let why = |column: &Column| match column.is_label() {
            _ if id.is_some_and(|id| id.eq_ignore_ascii_case(&column.name)) => None,
            true => (!known(&column.name)).then(|| "not in the first file, but".to_owned()),
            false if column.holds_texts() => Some("several texts a row".to_owned()),
            false => (column.repeat == 1).then(|| column.holds()),
        };
        let labels = table.columns.iter().filter(|column| column.is_label()).map(|c| &c.name);
        if self.labels.is_some() && labels.eq(&self.columns) {
            return; // as in the file before
        }
        for column in &table.columns {
            if let Some(why) = why(column) {
                let told = format!("{:?} ({why} in {file})", column.name);
                self.left_out.entry(column.name.clone()).or_insert(told);
            }
        }
        for name in
            self.columns.iter().filter(|name| table.columns.iter().all(|c| c.name != **name))
        {
            let told = format!("{name:?} (missing in {file})");
            self.left_out.entry(name.clone()).or_insert(told);
        }
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

    /// Takes in the units of `columns`, which are at these `places` among the labels.
    fn add_units(
        &mut self,
        columns: &[&Column],
        places: &[usize],
        file: &str,
    ) -> Result<(), Trouble> {
        let mut shown: Option<Rc<str>> = None;
        for (column, place) in columns.iter().zip(places) {
            let name = self.columns.get(place - self.config.keywords.len());
            if let (Some(unit), Some(name)) = (column.label_unit(), name) {
                let file = shown.get_or_insert_with(|| file.into()).clone();
                self.units.add(name, file, unit).map_err(Trouble::Asked)?;
            }
        }
        Ok(())
    }

    /// The table in `hdu`, with a row for each of so many objects.
    fn table(&self, hdu: &Hdu, objects: usize) -> Result<Table, Trouble> {
        let table = match hdu.kind {
            Kind::PackedTable { .. } => Table::of(hdu).map_err(Trouble::Asked)?,
            // All columns are looked at where the recipe does not say which.
            _ if self.config.label_columns.is_none() => Table::of(hdu)?.whole()?,
            _ => Table::of(hdu)?,
        };
        match table.rows == objects {
            true => Ok(table),
            false => Err(Trouble::Asked(format!(
                "{}: `label_hdu` has {} rows for {objects} objects; name a table with one row per \
                 object, or a table of `labels` beside the files",
                hdu.title(),
                table.rows
            ))),
        }
    }

    /// The column of ids, if the recipe names one.
    fn id<'t>(&self, table: &'t Table, hdu: &Hdu) -> Result<Option<&'t Column>, Trouble> {
        let Some(id) = &self.config.id else { return Ok(None) };
        let column = table.find(hdu, &super::Name::Text(id.clone())).map_err(Trouble::Asked)?;
        match column.is_label() {
            true => Ok(Some(column)),
            false => Err(Trouble::Asked(format!(
                "{}: `id` is the column {id:?}, which holds no single integer or text a row",
                hdu.title()
            ))),
        }
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
        let table = self.table(&hdu, objects.len())?;
        let id = self.id(&table, &hdu)?;
        self.prepare(Some(&table), &open.reader.path().display().to_string());
        let (mut columns, places) = self.columns(&table, &hdu)?;
        self.add_units(&columns, &places, &open.reader.path().display().to_string())?;
        columns.extend(id);
        table.check_scales(&hdu, &columns).map_err(Trouble::Asked)?;
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
