//! A table on disk, CSV, Parquet or FITS, read row by row or block by block.
//!
//! A block is a run of neighbouring rows that is found without reading what stands before it:
//! some thousand lines of a CSV file, or a row group of a Parquet file. FITS tables, which are
//! read here for labels alone, have none.

mod cell;
mod contents;
mod csv;
mod parquet;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use astropt_core::{Error, Result, progress};

pub(crate) use cell::{Cell, cell, converted_unit, is_converted, uncoded};
use parquet::ParquetFile;
pub(crate) use parquet::check_codecs;

use super::fits;

/// Most columns that a table may have; the largest catalogues have some hundred.
const MAX_COLUMNS: usize = 4096;

/// An open table.
#[derive(Debug)]
pub(crate) struct Table {
    path: PathBuf,
    format: Format,
    columns: Vec<Column>,
}

#[derive(Debug)]
enum Format {
    Csv,
    Fits,
    Parquet(ParquetFile),
}

/// A column as the file declares it.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// From the metadata of a Parquet column, TUNITn of a FITS table; of what becomes days or
    /// seconds, these.
    pub(crate) unit: Option<String>,
    pub(crate) content: Content,
}

impl Column {
    /// The unit of the label that is made of it.
    pub(crate) fn label_unit(&self) -> Option<&str> {
        match self.content {
            Content::Text | Content::Other(_) => None,
            _ => self.unit.as_deref(),
        }
    }
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Whatever was written: CSV.
    Written,
    Text,
    Integer,
    /// Single-precision numbers.
    Single,
    /// Double-precision numbers.
    Double,
    /// Dates and times, which become days of double precision.
    Date,
    /// Spans of time, which become seconds of double precision.
    Duration,
    /// Neither a number nor a text; what the file calls it.
    Other(String),
}

/// A row as [`Table::scan`] hands it out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    /// From 0.
    pub(crate) number: u64,
    /// Where it stands; [`Table::place`] puts it in words.
    pub(crate) at: u64,
    /// The cells asked for, in the order asked for. In a CSV file short of them, fewer.
    pub(crate) cells: &'a [Cell<'a>],
}

/// A run of rows that can be read on its own.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Number of the first row.
    pub(crate) start: u64,
    /// How many rows.
    pub(crate) rows: usize,
    at: At,
}

#[derive(Clone, Debug)]
enum At {
    Csv(::csv::Position),
    Parquet { group: usize, skip: usize },
}

/// What to do with a row.
pub(crate) type Visit<'v> = &'v mut dyn FnMut(Row<'_>) -> Result<()>;

impl Table {
    /// Opens a table and reads the names of its columns.
    ///
    /// # Errors
    /// When it cannot be read, is of none of the three kinds, or names a column twice.
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let (format, columns) = match extension.as_str() {
            "csv" => (Format::Csv, csv::columns(&path)?),
            "parquet" => {
                let file = ParquetFile::open(&path)?;
                let columns = file.columns();
                (Format::Parquet(file), columns)
            }
            "fits" | "fit" => (Format::Fits, fits::label_columns(&path)?),
            _ => {
                let kinds = "a table is a .csv, .parquet or .fits file";
                let way = match extension.as_str() {
                    "gz" | "bz2" | "xz" | "z" | "zip" | "zst" => "; unpack this one first",
                    "tsv" | "tab" | "dat" | "txt" => {
                        "; of a text, write the columns with commas between them and call it .csv"
                    }
                    _ => "",
                };
                return Err(Error::file(path, format!("{kinds}{way}")));
            }
        };
        if columns.len() > MAX_COLUMNS {
            let message = format!("{} columns; at most {MAX_COLUMNS} are read", columns.len());
            return Err(Error::file(path, message));
        }
        let mut names = HashSet::with_capacity(columns.len());
        if let Some(twice) = columns.iter().find(|column| !names.insert(&column.name)) {
            let message = format!("two columns are called {:?}; rename one", twice.name);
            return Err(Error::file(path, message));
        }
        Ok(Self { path, format, columns })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// What column `column` holds where that is neither numbers nor texts, so that nothing can be
    /// made of it.
    pub(crate) fn unusable(&self, column: usize) -> Option<&str> {
        match (&self.format, &self.columns.get(column)?.content) {
            (Format::Parquet(_) | Format::Fits, Content::Other(what)) => Some(what),
            _ => None,
        }
    }

    /// Index of the column `name`; `key` is where the recipe names it.
    ///
    /// # Errors
    /// When there is none; lists those there are.
    pub(crate) fn column(&self, name: &str, key: &str) -> Result<usize> {
        self.columns.iter().position(|column| column.name == name).ok_or_else(|| {
            let known: Vec<_> = self.columns.iter().map(|c| c.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { list(&known) };
            let message = format!("no column {name:?} (`{key}`); it has {known}");
            Error::file(&self.path, message)
        })
    }

    /// Calls `row` with all cells of every row, in order.
    ///
    /// # Errors
    /// When the file is damaged; a CSV error names the line.
    pub(crate) fn for_each(&self, row: &mut dyn FnMut(&[Cell<'_>])) -> Result<()> {
        if let Format::Fits = self.format {
            return fits::for_each_row(&self.path, row);
        }
        let all: Vec<usize> = (0..self.columns.len()).collect();
        let visit = &mut |r: Row<'_>| {
            row(r.cells);
            Ok(())
        };
        self.scan(&all, visit).map(drop)
    }

    /// Calls `visit` with the cells of `columns` in every row, in order; hands back the blocks
    /// that the rows lie in.
    ///
    /// # Errors
    /// When the file is damaged, or the first error of `visit`.
    pub(crate) fn scan(&self, columns: &[usize], visit: Visit<'_>) -> Result<Vec<Block>> {
        match &self.format {
            Format::Csv => csv::scan(&self.path, columns, visit),
            Format::Parquet(file) => file.scan(&self.path, columns, visit),
            Format::Fits => Err(self.no_blocks()),
        }
    }

    /// Calls `visit` with the cells of `columns` in the rows of `block`.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub(crate) fn read(&self, block: &Block, columns: &[usize], visit: Visit<'_>) -> Result<()> {
        match (&self.format, &block.at) {
            (Format::Parquet(file), At::Parquet { group, skip }) => {
                file.read(&self.path, *group, *skip, block, columns, visit)
            }
            (Format::Csv, At::Csv(position)) => {
                csv::read(&self.path, position, block, columns, visit)
            }
            _ => Err(self.no_blocks()),
        }
    }

    fn no_blocks(&self) -> Error {
        let message = "of FITS tables only labels are read here; the source `fits` reads more";
        Error::file(&self.path, message)
    }

    /// `line 7`, or `row 5 (counted from 0)` of a Parquet file.
    pub(crate) fn place(&self, at: u64) -> String {
        match self.format {
            Format::Csv => format!("line {at}"),
            Format::Fits | Format::Parquet(_) => format!("row {at} (counted from 0)"),
        }
    }
}

/// Says which columns or datasets, each with the reason, are not among the labels though no recipe
/// leaves them out.
pub(crate) fn tell_left_out(labels: &[String]) {
    if !labels.is_empty() {
        progress::warn(&format!(
            "labels left out: {}; name in the recipe the labels that are wanted, and write as one \
             number or text an object, in all files, what is not so yet",
            list(labels)
        ));
    }
}

/// How many names an error lists before it stops.
const LISTED: usize = 12;

/// Names for an error, cut short when there are many.
pub(crate) fn list<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<_> = names.iter().take(LISTED).map(AsRef::as_ref).collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
