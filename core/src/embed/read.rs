//! Reading embeddings back from Parquet.

use std::fs::File;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};

use super::sink::{DESCRIPTION_PREFIX, LABEL_PREFIX, RESERVED, SHAPE_KEY, column_unit};
use super::table::{Description, Embeddings};
use crate::checkpoint::format;
use crate::error::{Error, Result};
use crate::guard::guarded;
use crate::observation::{Label, Labels};
use crate::plain;

fn not_parquet(path: &Path, e: &dyn std::fmt::Display) -> Error {
    Error::file(
        path,
        format!("is no whole Parquet file: {}; {}", plain::parquet(e), plain::WAY_OUT),
    )
}

/// The Parquet file `path`, open, and what its end says of it.
fn metadata(path: &Path) -> Result<(File, ArrowReaderMetadata)> {
    let file = File::open(path).map_err(|e| Error::io("open it", path, &e))?;
    let metadata = ArrowReaderMetadata::load(&file, Default::default());
    Ok((file, metadata.map_err(|e| not_parquet(path, &e))?))
}

impl Embeddings {
    /// Reads a table that [`write_parquet`](Self::write_parquet) or another program wrote.
    /// It needs the columns `id` and `split` (texts or whole numbers) and `embedding` (lists
    /// of one length of `f32` or `f64`); every other column is a label (numbers, texts or
    /// truth values, read as 0 and 1), whose metadata may state a unit. Without a shape in its metadata the embeddings are
    /// taken as pooled.
    ///
    /// # Errors
    /// When the file is not Parquet, a needed column is missing, or a column is of another
    /// type; the message names the column.
    pub fn read_parquet(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        guarded(|| Ok(Self::decode(path))).unwrap_or_else(|e| Err(Error::file(path, e)))
    }

    /// How the embeddings in the Parquet file `path` were made; of the file only its end is read.
    ///
    /// # Errors
    /// When it is not Parquet, or of a newer format.
    pub(crate) fn description_of(path: &Path) -> Result<Description> {
        let described = || {
            let mut table = Self::default();
            table.read_metadata(path, &metadata(path)?.1)?;
            Ok(table.description)
        };
        guarded(|| Ok(described())).unwrap_or_else(|e| Err(Error::file(path, e)))
    }

    fn decode(path: &Path) -> Result<Self> {
        let (file, metadata) = metadata(path)?;
        let schema = metadata.schema().clone();
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        if let Some(missing) = RESERVED.iter().find(|name| !names.contains(name)) {
            return Err(Error::file(
                path,
                format!(
                    "has no column {missing:?}, so it is no table of embeddings (`astropt \
                     embed` writes one); its columns are {}",
                    names.join(", ")
                ),
            ));
        }
        let mut table = Self::default();
        table.read_metadata(path, &metadata)?;
        let labels = schema.fields().iter().filter(|f| !RESERVED.contains(&f.name().as_str()));
        table.units =
            labels.filter_map(|f| Some((label_name(f.name()), column_unit(f)?))).collect();
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_batch_size(1024)
            .build()
            .map_err(|e| not_parquet(path, &e))?;
        for batch in reader {
            let batch = batch.map_err(|e| not_parquet(path, &e))?;
            table.append(&batch).map_err(|message| Error::file(path, message))?;
        }
        Ok(table)
    }

    fn read_metadata(&mut self, path: &Path, metadata: &ArrowReaderMetadata) -> Result<()> {
        let entries = metadata.metadata().file_metadata().key_value_metadata();
        for entry in entries.into_iter().flatten() {
            let value = entry.value.clone().unwrap_or_default();
            if entry.key == SHAPE_KEY {
                self.shape = serde_json::from_str(&value).map_err(|e| {
                    Error::file(path, format!("states a shape of embeddings {value:?}: {e}"))
                })?;
            } else if entry.key == format::KEY {
                format::check(path, &value)?;
            } else if let Some(name) = entry.key.strip_prefix(DESCRIPTION_PREFIX) {
                self.description.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    /// Appends the rows of `batch`; the error is what is wrong with which column.
    fn append(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let before = self.ids.len();
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            match field.name().as_str() {
                "id" => self.ids.extend(texts(column, "id")?),
                "split" => self.splits.extend(texts(column, "split")?),
                "embedding" => {
                    let (width, values) = vectors(column)?;
                    if self.shape.is_empty() {
                        self.shape = vec![width];
                    }
                    if width != self.width() && batch.num_rows() > 0 {
                        return Err(format!(
                            "has embeddings of {width} numbers where its shape {:?} needs {}",
                            self.shape,
                            self.width()
                        ));
                    }
                    self.vectors.extend(values);
                }
                _ => {}
            }
        }
        self.labels.resize(before + batch.num_rows(), Labels::new());
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let name = field.name();
            if RESERVED.contains(&name.as_str()) {
                continue;
            }
            let label = label_name(name);
            for (row, value) in labels(column, name)?.into_iter().enumerate() {
                if let Some(value) = value {
                    self.labels[before + row].insert(label.clone(), value);
                }
            }
        }
        Ok(())
    }
}

/// The label that a column of this name holds.
fn label_name(column: &str) -> String {
    column.strip_prefix(LABEL_PREFIX).unwrap_or(column).to_owned()
}

fn texts(column: &ArrayRef, name: &str) -> Result<Vec<String>, String> {
    // Whole numbers stay exact: survey ids pass 2^53, where an `f64` would merge neighbours.
    if column.data_type() == &DataType::Int64 && column.null_count() == 0 {
        return Ok(column
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .map(i64::to_string)
            .collect());
    }
    labels(column, name)?
        .into_iter()
        .map(|label| match label {
            Some(Label::Text(text)) => Ok(text),
            Some(Label::Number(number)) => Ok(number.to_string()),
            None => Err(format!("has an empty cell in the column {name:?}; fill it")),
        })
        .collect()
}

/// Numbers a row and all numbers of a column of lists.
fn vectors(column: &ArrayRef) -> Result<(usize, Vec<f32>), String> {
    if column.null_count() > 0 {
        return Err("has objects without an embedding; leave them out".into());
    }
    let (width, values) = match column.data_type() {
        DataType::FixedSizeList(_, size) => {
            (*size as usize, column.as_fixed_size_list().values().clone())
        }
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let offsets = list.value_offsets();
            let (start, end) = (offsets[0] as usize, offsets[list.len()] as usize);
            let width = (end - start).checked_div(list.len()).unwrap_or(0);
            if offsets.windows(2).any(|pair| (pair[1] - pair[0]) as usize != width) {
                return Err("has embeddings of different lengths; they must agree".into());
            }
            (width, list.values().slice(start, end - start))
        }
        other => return Err(format!("has a column \"embedding\" of {other}, not of lists")),
    };
    if values.null_count() > 0 {
        return Err("has empty cells inside its embeddings".into());
    }
    match values.data_type() {
        DataType::Float32 => Ok((width, values.as_primitive::<Float32Type>().values().to_vec())),
        DataType::Float64 => {
            let numbers = values.as_primitive::<Float64Type>().values();
            Ok((width, numbers.iter().map(|&x| x as f32).collect()))
        }
        other => Err(format!("has embeddings of {other}; they must be Float32 or Float64")),
    }
}

/// A column of labels; a cell that is empty or not finite is `None`.
fn labels(column: &ArrayRef, name: &str) -> Result<Vec<Option<Label>>, String> {
    let number = |x: f64| x.is_finite().then_some(Label::Number(x));
    let text = |x: &str| Label::Text(x.to_owned());
    Ok(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().map(|x| x.map(text)).collect(),
        DataType::LargeUtf8 => column.as_string::<i64>().iter().map(|x| x.map(text)).collect(),
        DataType::Utf8View => column.as_string_view().iter().map(|x| x.map(text)).collect(),
        DataType::Float64 => {
            column.as_primitive::<Float64Type>().iter().map(|x| x.and_then(number)).collect()
        }
        DataType::Float32 => {
            let column = column.as_primitive::<Float32Type>();
            column.iter().map(|x| x.and_then(|x| number(x.into()))).collect()
        }
        DataType::Int64 => {
            let column = column.as_primitive::<Int64Type>();
            column.iter().map(|x| x.and_then(|x| number(x as f64))).collect()
        }
        DataType::Int32 => {
            let column = column.as_primitive::<Int32Type>();
            column.iter().map(|x| x.and_then(|x| number(x.into()))).collect()
        }
        DataType::Boolean => {
            column.as_boolean().iter().map(|x| x.and_then(|x| number(x.into()))).collect()
        }
        other => {
            return Err(format!(
                "has a column {name:?} of {other}; labels are Float64, Float32, Int64, Int32, \
                 Boolean or texts: convert the column or drop it"
            ));
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, ListArray, StringArray};
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let file = File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    fn list(rows: &[&[f32]]) -> ArrayRef {
        let rows = rows.iter().map(|row| Some(row.iter().map(|&x| Some(x)).collect::<Vec<_>>()));
        Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows))
    }

    fn strings(cells: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(cells.to_vec()))
    }

    #[test]
    fn files_of_other_programs_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![7, 9_007_199_254_740_993]));
        let mut columns = vec![
            ("id", ids.clone()),
            ("split", strings(&["train", "test"])),
            ("embedding", list(&[&[1.0, 2.0], &[3.0, 4.0]])),
            ("count", ids),
        ];
        write(&path, columns.clone());
        let table = Embeddings::read_parquet(&path).unwrap();
        assert_eq!((table.ids[1].as_str(), &table.shape[..]), ("9007199254740993", &[2][..]));
        assert_eq!(table.vectors, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(table.numbers("count"), [Some(7.0), Some(9_007_199_254_740_992.0)]);

        columns[2].1 = list(&[&[1.0], &[3.0, 4.0, 5.0]]);
        write(&path, columns);
        let message = Embeddings::read_parquet(&path).unwrap_err().to_string();
        assert!(message.contains("different lengths"), "{message}");
    }

    #[test]
    fn refusals_name_the_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        write(&path, vec![("id", strings(&["a"])), ("split", strings(&["train"]))]);
        let message = Embeddings::read_parquet(&path).unwrap_err().to_string();
        assert!(message.contains("no column \"embedding\""), "{message}");
        std::fs::write(&path, "not parquet").unwrap();
        let message = Embeddings::read_parquet(&path).unwrap_err().to_string();
        assert!(message.contains("is no whole Parquet file"), "{message}");
    }
}
