//! Labels of objects, matched to a table's rows by name or row by row.
//!
//! A table names an object in one of its columns. Rows that name no object and objects that no
//! row names are fine, as long as at least one pair is found. Where several rows name one
//! object, those that name it most fully count, and a label they disagree on is unknown; two
//! columns that name equally many objects, but different ones, are refused.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use astropt_core::observation::{Label, LabelUnits, Labels};
use astropt_core::{Error, Result, progress};

use super::listing::{Match, Names};
use super::tabular::{Cell, Row, Table, list, tell_left_out};

/// Which table of labels a recipe asks for.
pub(crate) struct LabelFile<'a> {
    /// The table, relative to the data or to where their path starts from.
    pub(crate) path: Option<&'a Path>,
    /// The column that names the objects, if the recipe says.
    pub(crate) name_column: Option<&'a str>,
    /// Whether to take a `labels.csv` or `labels.parquet` beside the data unasked.
    pub(crate) look: bool,
    /// Where the objects are called by their places: what a recipe can do but to have the column
    /// guessed.
    pub(crate) places: Option<&'static str>,
}

impl LabelFile<'_> {
    /// The labels of the objects called `names`, or `None` when there is no table.
    ///
    /// # Errors
    /// When the table that is asked for is not there, cannot be read or names no object.
    pub(crate) fn load<'n>(
        &self,
        base: &Path,
        root: &Path,
        names: impl FnOnce() -> Names<'n>,
    ) -> Result<Option<LabelTable>> {
        let table = match self.path {
            Some(path) => Some(find_table(path, base, root)?),
            None if !self.look => None,
            None => ["labels.csv", "labels.parquet"]
                .map(|name| base.join(name))
                .into_iter()
                .find(|path| path.is_file()),
        };
        match (table, self.name_column) {
            (None, Some(column)) => Err(Error::file(
                base,
                format!(
                    "`name_column` is {column:?}, but there is no table of labels; name one \
                     with `labels`"
                ),
            )),
            (None, None) => Ok(None),
            (Some(path), column) => {
                // A column `id` that counts from 1 would shift all labels by one.
                let names = match (self.places, column) {
                    (Some(_), None) => names().only_whole(),
                    _ => names(),
                };
                LabelTable::load(&Table::open(path)?, &names, column, self.places).map(Some)
            }
        }
    }
}

/// The table `path`, beside the data or relative to `root`.
///
/// # Errors
/// When it is in neither place.
pub(crate) fn find_table(path: &Path, base: &Path, root: &Path) -> Result<PathBuf> {
    let places = [base.join(path), root.join(path)];
    places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| {
        Error::file(
            path,
            format!(
                "no such table of labels; looked for {} and {}",
                places[0].display(),
                places[1].display()
            ),
        )
    })
}

/// The labels of every object, column by column.
#[derive(Debug, Default)]
pub(crate) struct LabelTable {
    columns: Vec<(String, Column)>,
    /// Units of those that state one.
    units: LabelUnits,
    /// What it was read of, for errors.
    place: String,
}

/// One label for every object, in the least space its cells allow.
#[derive(Debug)]
pub(super) enum Column {
    /// For so many objects, none known.
    Unknown(usize),
    /// NaN where unknown.
    Numbers(Vec<f64>),
    Labels(Vec<Option<Label>>),
}

impl Column {
    /// Sets the label of object `index`.
    pub(super) fn set(&mut self, index: usize, label: Option<Label>) {
        if let (Self::Unknown(len), Some(_)) = (&*self, &label) {
            *self = Self::Numbers(vec![f64::NAN; *len]);
        }
        match (&mut *self, label) {
            (_, None) | (Self::Unknown(_), _) => {}
            (Self::Numbers(numbers), Some(Label::Number(number))) => numbers[index] = number,
            (Self::Numbers(numbers), label) => {
                let known = |&x: &f64| (!x.is_nan()).then_some(Label::Number(x));
                let mut labels: Vec<_> = numbers.iter().map(known).collect();
                labels[index] = label;
                *self = Self::Labels(labels);
            }
            (Self::Labels(labels), label) => labels[index] = label,
        }
    }

    /// Makes the label of object `index` unknown.
    fn clear(&mut self, index: usize) {
        match self {
            Self::Unknown(_) => {}
            Self::Numbers(numbers) => numbers[index] = f64::NAN,
            Self::Labels(labels) => labels[index] = None,
        }
    }

    /// The label of object `index`, if it is known.
    pub(super) fn get(&self, index: usize) -> Option<Label> {
        match self {
            Self::Unknown(_) => None,
            Self::Numbers(numbers) => {
                let number = *numbers.get(index)?;
                (!number.is_nan()).then_some(Label::Number(number))
            }
            Self::Labels(labels) => labels.get(index)?.clone(),
        }
    }
}

impl LabelTable {
    /// Finds the column that names the objects (or takes `name_column`) and keeps the labels
    /// of those it names. `places`: see [`LabelFile`].
    ///
    /// # Errors
    /// When the table cannot be read or names none of the objects.
    pub(crate) fn load(
        table: &Table,
        names: &Names<'_>,
        name_column: Option<&str>,
        places: Option<&str>,
    ) -> Result<Self> {
        let candidates = candidates(table, name_column)?;
        let key = choose(table, names, &candidates, places.filter(|_| name_column.is_none()))?;
        let used = (0..table.columns().len()).filter(|&column| column != key);
        tell_unusable(table, used);
        let headings = table.columns().iter().map(|column| column.name.clone()).collect();
        let mut labels = Self::unknown(names.len(), headings);
        let columns = &mut labels.columns;
        let mut named: Vec<Option<Match>> = vec![None; names.len()];
        let (mut disputed, mut folders) = (HashSet::new(), false);
        let mut several = Several::default();
        table.for_each(&mut |cells| {
            let Some((index, how)) = find(names, cells, key) else {
                return several.add(names, cells, key);
            };
            let before = named[index];
            if before.is_some_and(|before| before < how) {
                return;
            }
            named[index] = Some(how);
            folders |= matches!(how, Match::Whole | Match::Longer);
            for (k, ((_, column), cell)) in columns.iter_mut().zip(cells).enumerate() {
                let label = cell.label();
                if before != Some(how) {
                    column.clear(index);
                    column.set(index, label);
                } else if column.get(index) != label {
                    disputed.insert((k, index, how));
                }
            }
        })?;
        let elsewhere: Vec<usize> =
            (0..named.len()).filter(|&index| named[index] == Some(Match::Elsewhere)).collect();
        if folders {
            // Where rows name the data's folder, those of others name other files.
            elsewhere.iter().for_each(|&index| {
                columns.iter_mut().for_each(|(_, column)| column.clear(index));
            });
        } else if !elsewhere.is_empty() {
            tell_elsewhere(table, elsewhere.len());
        }
        let mut counts = vec![0usize; columns.len()];
        // What was disputed before a fuller name came settles nothing.
        let counts_now =
            |&(k, index, how): &(usize, usize, Match)| k != key && named[index] == Some(how);
        for (k, index, _) in disputed.into_iter().filter(counts_now) {
            columns[k].1.clear(index);
            counts[k] += 1;
        }
        tell_disputed(table, &counts);
        several.tell(table);
        columns.remove(key);
        Ok(labels.in_units_of(table, (0..table.columns().len()).filter(|&column| column != key)))
    }

    /// Labels of `len` objects under `names`, none of them known.
    pub(crate) fn unknown(len: usize, names: Vec<String>) -> Self {
        let columns = names.into_iter().map(|name| (name, Column::Unknown(len))).collect();
        Self { columns, ..Self::default() }
    }

    /// The same in these units, which `place` states.
    pub(crate) fn in_units(self, units: LabelUnits, place: &str) -> Self {
        Self { units, place: place.to_owned(), ..self }
    }

    /// The same in the units that `table` states of `columns`.
    fn in_units_of(self, table: &Table, columns: impl Iterator<Item = usize>) -> Self {
        let unit = |column: usize| {
            let column = &table.columns()[column];
            Some((column.name.clone(), column.label_unit()?.to_owned()))
        };
        self.in_units(columns.filter_map(unit).collect(), &table.path().display().to_string())
    }

    /// Units of the labels that state one.
    pub(crate) fn units(&self) -> &LabelUnits {
        &self.units
    }

    /// What it was read of.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Sets label `name`, numbered in the order of the names, of object `index`.
    pub(crate) fn set(&mut self, index: usize, name: usize, label: Option<Label>) {
        if let Some((_, column)) = self.columns.get_mut(name) {
            column.set(index, label);
        }
    }

    /// Keeps `columns` of a table whose row k is about object k, of `len` objects.
    ///
    /// # Errors
    /// When the table cannot be read or has another number of rows.
    pub(crate) fn in_order(table: &Table, len: usize, columns: &[usize]) -> Result<Self> {
        tell_unusable(table, columns.iter().copied());
        let name = |&column: &usize| Some(table.columns().get(column)?.name.clone());
        let mut labels = Self::unknown(len, columns.iter().filter_map(name).collect());
        let mut rows = 0;
        table.scan(columns, &mut |row: Row<'_>| {
            for (name, cell) in row.cells.iter().enumerate().filter(|_| rows < len) {
                labels.set(rows, name, cell.label());
            }
            rows += 1;
            Ok(())
        })?;
        if rows != len {
            let message = format!("{rows} rows for {len} objects; they must be as many");
            return Err(Error::file(table.path(), message));
        }
        Ok(labels.in_units_of(table, columns.iter().copied()))
    }

    /// Adds the label `name` with its values, one for every object.
    ///
    /// # Errors
    /// When there is such a label already.
    pub(crate) fn add(&mut self, name: &str, values: Vec<Option<Label>>) -> Result<(), String> {
        if self.has(name) {
            return Err(format!("two labels are called {name:?}"));
        }
        let mut column = Column::Unknown(values.len());
        for (index, value) in values.into_iter().enumerate() {
            column.set(index, value);
        }
        self.columns.push((name.to_owned(), column));
        Ok(())
    }

    /// Whether there is a label `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|(known, _)| known == name)
    }

    /// Names of the labels that are numbers wherever they are known.
    pub(crate) fn numeric(&self) -> impl Iterator<Item = &str> {
        let columns = self.columns.iter().filter(|(_, c)| matches!(c, Column::Numbers(_)));
        columns.map(|(name, _)| name.as_str())
    }

    /// Labels of object `index`.
    pub(crate) fn of(&self, index: usize) -> Labels {
        self.columns
            .iter()
            .filter_map(|(name, column)| Some((name.clone(), column.get(index)?)))
            .collect()
    }
}

/// Says which of `columns` no labels can be made of.
fn tell_unusable(table: &Table, columns: impl Iterator<Item = usize>) {
    let told = columns.filter_map(|column| {
        let (what, name) = (table.unusable(column)?, &table.columns()[column].name);
        Some(format!("{name:?} ({what} in {})", table.path().display()))
    });
    tell_left_out(&told.collect::<Vec<_>>());
}

/// Says of how many objects rows disagree on a label, column by column.
fn tell_disputed(table: &Table, counts: &[usize]) {
    let disputed = table.columns().iter().zip(counts).filter(|(_, count)| **count > 0);
    let told: Vec<String> =
        disputed.map(|(column, count)| format!("{:?} of {count} object(s)", column.name)).collect();
    if !told.is_empty() {
        progress::warn(&format!(
            "labels left out: {}, on which rows of {} that name one object disagree; leave one row \
             an object",
            list(&told),
            table.path().display()
        ));
    }
}

/// Rows that name several objects alike, so that it is not known whose their labels are.
#[derive(Default)]
struct Several {
    rows: usize,
    /// How the first of them does.
    example: String,
}

impl Several {
    /// Counts a row that names several objects in `column`.
    fn add(&mut self, names: &Names<'_>, cells: &[Cell<'_>], column: usize) {
        let name = |name: &str| names.are_several(name).then(|| name.to_owned());
        let Some(name) = cells.get(column).and_then(|cell| cell.with_name(name)) else { return };
        if self.rows == 0 {
            self.example = name;
        }
        self.rows += 1;
    }

    fn tell(&self, table: &Table) {
        let Self { rows, example } = self;
        if *rows > 0 {
            progress::warn(&format!(
                "labels left out: {rows} row(s) of {} name several objects alike, such as {example:?}; \
                 write the objects' whole names, with their folders",
                table.path().display()
            ));
        }
    }
}

fn tell_elsewhere(table: &Table, count: usize) {
    progress::warn(&format!(
        "{}: {count} objects are named by paths into folders that are not called as the data's is: their \
         labels are taken, for the files' names are the same; should they be other files, leave such \
         rows out",
        table.path().display()
    ));
}

fn find(names: &Names<'_>, cells: &[Cell<'_>], column: usize) -> Option<(usize, Match)> {
    cells.get(column)?.with_name(|name| names.find(name))
}

/// The columns that may name the objects.
fn candidates(table: &Table, name_column: Option<&str>) -> Result<Vec<usize>> {
    if let Some(name) = name_column {
        return Ok(vec![table.column(name, "name_column")?]);
    }
    // A count such as "1" may well be the stem of some file.
    let mut may_name: Vec<bool> =
        table.columns().iter().map(|c| is_called_a_name(&c.name)).collect();
    table.for_each(&mut |cells| {
        for (may, cell) in may_name.iter_mut().zip(cells) {
            *may |= matches!(cell.label(), Some(Label::Text(_)));
        }
    })?;
    Ok((0..may_name.len()).filter(|&column| may_name[column]).collect())
}

/// Whether a column's heading says that it names things.
fn is_called_a_name(heading: &str) -> bool {
    let heading = heading.to_lowercase();
    let words = ["name", "file", "image", "path", "stem", "object", "objid"];
    words.iter().any(|word| heading.contains(word))
        || heading.split(|c: char| !c.is_alphanumeric()).any(|word| word == "id")
}

/// The candidate that names most objects.
fn choose(
    table: &Table,
    names: &Names<'_>,
    candidates: &[usize],
    places: Option<&str>,
) -> Result<usize> {
    let (mut rows, mut example) = (0usize, None);
    let mut matches = vec![0usize; candidates.len()];
    let mut found = vec![None; candidates.len()];
    // A pair of candidates that name different objects in one row.
    let mut disagree = vec![vec![false; candidates.len()]; candidates.len()];
    table.for_each(&mut |cells| {
        rows += 1;
        for (k, &column) in candidates.iter().enumerate() {
            found[k] = find(names, cells, column).map(|(index, _)| index);
            matches[k] += usize::from(found[k].is_some());
            for other in 0..k {
                disagree[other][k] |= found[other].is_some() && found[other] != found[k];
            }
        }
        if example.is_none() {
            example =
                candidates.iter().find_map(|&c| cells.get(c)?.with_name(|n| Some(n.to_owned())));
        }
    })?;
    let most = matches.iter().max().copied().unwrap_or(0);
    if let (0, Some(way_out)) = (most, places) {
        return Err(Error::file(
            table.path(),
            format!(
                "the objects are called by their places, the first {:?}, and which column of the \
                 table counts them is not guessed; {way_out}",
                names.first()
            ),
        ));
    }
    if most == 0 {
        return Err(none_named(table, names, rows, candidates, example));
    }
    let best: Vec<usize> = (0..candidates.len()).filter(|&k| matches[k] == most).collect();
    if let Some(&rival) = best[1..].iter().find(|&&k| disagree[best[0]][k]) {
        let [a, b] = [best[0], rival].map(|k| &table.columns()[candidates[k]].name);
        return Err(Error::file(
            table.path(),
            format!(
                "its columns {a:?} and {b:?} both name {most} objects, but not the same ones; say \
                 which to believe with `name_column`"
            ),
        ));
    }
    Ok(candidates[best[0]])
}

/// The error of a table that names no object.
fn none_named(
    table: &Table,
    names: &Names<'_>,
    rows: usize,
    candidates: &[usize],
    example: Option<String>,
) -> Error {
    let mut several = Several::default();
    let counted = table.for_each(&mut |cells| {
        candidates.iter().for_each(|&column| several.add(names, cells, column));
    });
    if let Err(error) = counted {
        return error;
    }
    let looked: Vec<_> = candidates.iter().map(|&c| &table.columns()[c].name).collect();
    let example = match several.rows {
        0 => format!("where a row says {:?}", example.unwrap_or_default()),
        count => format!("where {count} name several alike, such as {:?}", several.example),
    };
    let way_out = match several.rows {
        0 => "Name the right column with `name_column`, or another table with `labels`",
        _ => "Write the objects' whole names, with their folders",
    };
    Error::file(
        table.path(),
        format!(
            "none of its {rows} rows names one object; looked in {}, {example}, and the first object \
             is {:?}. {way_out}",
            list(&looked),
            names.first()
        ),
    )
}
