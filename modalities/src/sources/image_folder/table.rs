//! A table on disk, CSV or Parquet, read row by row.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types as arrow;
use arrow_schema::DataType;
use astropt_core::observation::Label;
use astropt_core::{Error, Result};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// A table of labels.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    format: Format,
    columns: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Csv,
    Parquet,
}

/// One cell of a table.
#[derive(Clone, Copy, Debug)]
pub(in crate::sources) enum Cell<'a> {
    /// As written in a CSV file, of whatever type.
    Written(&'a str),
    /// A text column's.
    Text(&'a str),
    /// An integer column's; kept whole, for ids have 19 digits.
    Integer(i128),
    /// A floating-point column's.
    Number(f64),
    /// Empty, or of a type that is no label.
    Unknown,
}

impl Cell<'_> {
    /// Calls `f` with the text that could name a file.
    pub(super) fn with_name<T>(self, f: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        match self {
            Self::Written(text) | Self::Text(text) => f(text),
            Self::Integer(number) => f(&number.to_string()),
            Self::Number(_) | Self::Unknown => None,
        }
    }

    /// The label it holds.
    pub(in crate::sources) fn label(self) -> Option<Label> {
        match self {
            Self::Written(text) => Label::parse(text),
            Self::Text(text) => (!text.is_empty()).then(|| Label::Text(text.to_owned())),
            Self::Integer(number) => Some(Label::Number(number as f64)),
            Self::Number(number) => number.is_finite().then_some(Label::Number(number)),
            Self::Unknown => None,
        }
    }
}

impl Table {
    /// Opens a table and reads the names of its columns.
    ///
    /// # Errors
    /// When it cannot be read, is neither CSV nor Parquet, or names a column twice.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let format = match extension.as_str() {
            "csv" => Format::Csv,
            "parquet" => Format::Parquet,
            _ => return Err(Error::file(path, "a table of labels is a .csv or .parquet file")),
        };
        let columns: Vec<String> = match format {
            Format::Csv => csv_reader(&path)?
                .headers()
                .map_err(|e| csv_error(&path, &e))?
                .iter()
                .map(|name| name.trim().to_owned())
                .collect(),
            Format::Parquet => {
                let schema = parquet_builder(&path)?.schema().clone();
                schema.fields().iter().map(|field| field.name().clone()).collect()
            }
        };
        for (i, name) in columns.iter().enumerate() {
            if columns[..i].contains(name) {
                return Err(Error::file(
                    path,
                    format!("two columns are called {name:?}; rename one"),
                ));
            }
        }
        Ok(Self { path, format, columns })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the columns.
    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Calls `row` with the cells of every row, in order.
    ///
    /// # Errors
    /// When the file is damaged; a CSV error names the line.
    pub(super) fn for_each(&self, row: &mut dyn FnMut(&[Cell<'_>])) -> Result<()> {
        match self.format {
            Format::Csv => self.for_each_csv(row),
            Format::Parquet => self.for_each_parquet(row),
        }
    }

    fn for_each_csv(&self, row: &mut dyn FnMut(&[Cell<'_>])) -> Result<()> {
        let mut reader = csv_reader(&self.path)?;
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(|e| csv_error(&self.path, &e))? {
            let cells: Vec<_> = record.iter().map(Cell::Written).collect();
            row(&cells);
        }
        Ok(())
    }

    fn for_each_parquet(&self, row: &mut dyn FnMut(&[Cell<'_>])) -> Result<()> {
        let fail = |error: &dyn std::fmt::Display| {
            Error::file(&self.path, format!("cannot read the Parquet table: {error}"))
        };
        let reader = parquet_builder(&self.path)?.build().map_err(|e| fail(&e))?;
        for batch in reader {
            let batch = batch.map_err(|e| fail(&e))?;
            for i in 0..batch.num_rows() {
                let cells: Vec<_> = batch.columns().iter().map(|c| cell(c, i)).collect();
                row(&cells);
            }
        }
        Ok(())
    }
}

fn csv_reader(path: &Path) -> Result<csv::Reader<File>> {
    let file = File::open(path).map_err(|e| Error::io("read the labels", path, &e))?;
    Ok(csv::Reader::from_reader(file))
}

fn csv_error(path: &Path, error: &csv::Error) -> Error {
    Error::file(path, format!("cannot read the labels: {error}"))
}

fn parquet_builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(|e| Error::io("read the labels", path, &e))?;
    ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|e| Error::file(path, format!("cannot read the Parquet table: {e}")))
}

/// Cell `i` of an Arrow column.
pub(in crate::sources) fn cell(column: &dyn Array, i: usize) -> Cell<'_> {
    if column.is_null(i) {
        return Cell::Unknown;
    }
    macro_rules! integer {
        ($type:ty) => {
            Cell::Integer(column.as_primitive::<$type>().value(i).into())
        };
    }
    match column.data_type() {
        DataType::Utf8 => Cell::Text(column.as_string::<i32>().value(i)),
        DataType::LargeUtf8 => Cell::Text(column.as_string::<i64>().value(i)),
        DataType::Utf8View => Cell::Text(column.as_string_view().value(i)),
        DataType::Boolean => Cell::Integer(column.as_boolean().value(i).into()),
        DataType::Int8 => integer!(arrow::Int8Type),
        DataType::Int16 => integer!(arrow::Int16Type),
        DataType::Int32 => integer!(arrow::Int32Type),
        DataType::Int64 => integer!(arrow::Int64Type),
        DataType::UInt8 => integer!(arrow::UInt8Type),
        DataType::UInt16 => integer!(arrow::UInt16Type),
        DataType::UInt32 => integer!(arrow::UInt32Type),
        DataType::UInt64 => integer!(arrow::UInt64Type),
        DataType::Float32 => {
            Cell::Number(column.as_primitive::<arrow::Float32Type>().value(i).into())
        }
        DataType::Float64 => Cell::Number(column.as_primitive::<arrow::Float64Type>().value(i)),
        DataType::Dictionary(..) => dictionary_cell(column, i),
        _ => Cell::Unknown,
    }
}

/// Cell `i` of a column of categories.
fn dictionary_cell(column: &dyn Array, i: usize) -> Cell<'_> {
    macro_rules! categories {
        ($($type:ty),*) => {
            $(if let Some(column) = column.as_dictionary_opt::<$type>()
                && let Some(key) = column.key(i)
            {
                return cell(column.values(), key);
            })*
        };
    }
    categories!(arrow::Int8Type, arrow::Int16Type, arrow::Int32Type, arrow::Int64Type);
    categories!(arrow::UInt8Type, arrow::UInt16Type, arrow::UInt32Type, arrow::UInt64Type);
    Cell::Unknown
}
