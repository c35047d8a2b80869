//! Writing embeddings to Parquet batch by batch.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::StringArray;
use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, Float64Array, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::{Description, LabelColumns, LabelKind};
use crate::checkpoint::{AtomicFile, format};
use crate::error::{Error, Result};
use crate::observation::{Label, LabelUnits, Labels};

/// Columns every file has; labels of these names are stored under [`LABEL_PREFIX`].
pub(super) const RESERVED: [&str; 3] = ["id", "split", "embedding"];
pub(super) const LABEL_PREFIX: &str = "label.";
/// Metadata keys: the shape as a JSON list, and each word of the description.
pub(super) const SHAPE_KEY: &str = "astropt.shape";
pub(super) const DESCRIPTION_PREFIX: &str = "astropt.description.";

/// Keys that name a column's unit in its metadata; the first is the one that is written.
const UNIT_KEYS: [&str; 4] = ["unit", "units", "UNIT", "Unit"];

/// The unit that the metadata of a column state.
pub fn column_unit(field: &Field) -> Option<String> {
    let found = UNIT_KEYS.iter().find_map(|key| field.metadata().get(key))?;
    Some(found.trim()).filter(|unit| !unit.is_empty()).map(str::to_owned)
}

/// Some rows of a table; all parts are of one length.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Ids of the objects.
    pub ids: &'a [String],
    /// Their splits.
    pub splits: &'a [String],
    /// Their labels.
    pub labels: &'a [Labels],
    /// Their embeddings, row-major.
    pub vectors: &'a [f32],
}

/// A Parquet file of embeddings being written. It appears at its path when
/// [finished](Self::finish); dropped before, it leaves nothing behind.
pub struct ParquetSink {
    writer: ArrowWriter<AtomicFile>,
    path: PathBuf,
    schema: Arc<Schema>,
    columns: LabelColumns,
    width: usize,
    rows: usize,
}

impl ParquetSink {
    /// Starts a file at `path` for embeddings of `shape` with the label `columns`, those of numbers
    /// in these units.
    ///
    /// # Errors
    /// When `shape` is empty or too large for a Parquet list, or the folder cannot be
    /// written to.
    pub fn create(
        path: impl AsRef<Path>,
        shape: &[usize],
        (columns, units): (LabelColumns, &LabelUnits),
        description: &Description,
    ) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let width = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(0);
        let Some(size) = i32::try_from(width).ok().filter(|&size| size > 0) else {
            return Err(Error::file(
                &path,
                format!("embeddings of shape {shape:?} do not fit a Parquet column; pool them"),
            ));
        };
        let mut fields = vec![
            Field::new("id", DataType::Utf8, false),
            Field::new("split", DataType::Utf8, false),
            Field::new("embedding", DataType::FixedSizeList(item(), size), false),
        ];
        fields.extend(columns.iter().map(|(name, kind)| {
            let (data_type, unit) = match kind {
                LabelKind::Number => (DataType::Float64, units.get(name)),
                LabelKind::Text => (DataType::Utf8, None),
            };
            let metadata = unit.map(|unit| (UNIT_KEYS[0].to_owned(), unit.clone()));
            Field::new(column_name(name), data_type, true)
                .with_metadata(metadata.into_iter().collect::<HashMap<_, _>>())
        }));
        let schema = Arc::new(Schema::new(fields));
        let properties = properties(shape, width, description);
        let file = AtomicFile::create(&path)?;
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))
            .map_err(|e| Error::file(&path, format!("cannot start the table: {e}")))?;
        Ok(Self { writer, path, schema, columns, width, rows: 0 })
    }

    /// Appends `rows`.
    ///
    /// # Errors
    /// When their parts differ in length, a label has no column or is a text in a column of
    /// numbers, or the file cannot be written.
    pub fn write(&mut self, rows: &Rows<'_>) -> Result<()> {
        let n = rows.ids.len();
        if [rows.splits.len(), rows.labels.len()] != [n, n] || rows.vectors.len() != n * self.width
        {
            return Err(Error::Failed(format!(
                "{n} rows of embeddings came with {} splits, {} labels and {} numbers instead \
                 of {}",
                rows.splits.len(),
                rows.labels.len(),
                rows.vectors.len(),
                n * self.width
            )));
        }
        self.check_labels(rows)?;
        if n == 0 {
            return Ok(());
        }
        let values: ArrayRef = Arc::new(Float32Array::from(rows.vectors.to_vec()));
        let failed = |e: &dyn std::fmt::Display| {
            Error::file(&self.path, format!("cannot write the rows: {e}"))
        };
        let embedding = FixedSizeListArray::try_new(item(), self.width as i32, values, None)
            .map_err(|e| failed(&e))?;
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.ids)),
            Arc::new(StringArray::from_iter_values(rows.splits)),
            Arc::new(embedding),
        ];
        arrays.extend(self.columns.iter().map(|(name, kind)| label_array(rows, name, *kind)));
        let batch = RecordBatch::try_new(self.schema.clone(), arrays).map_err(|e| failed(&e))?;
        if let Err(e) = self.writer.write(&batch) {
            return Err(failed(&e));
        }
        self.rows += n;
        Ok(())
    }

    /// Ends the file and moves it into place; answers how many rows it holds.
    ///
    /// # Errors
    /// When the file cannot be written or moved.
    pub fn finish(self) -> Result<usize> {
        let file = self
            .writer
            .into_inner()
            .map_err(|e| Error::file(&self.path, format!("cannot end the table: {e}")))?;
        file.commit()?;
        Ok(self.rows)
    }

    fn check_labels(&self, rows: &Rows<'_>) -> Result<()> {
        for (id, labels) in rows.ids.iter().zip(rows.labels) {
            for (name, label) in labels {
                let complaint = match (self.columns.get(name), label) {
                    (None, _) => "has no column in the table",
                    (Some(LabelKind::Number), Label::Text(_)) => "is a text among numbers",
                    _ => continue,
                };
                return Err(Error::object(id, format!("the label {name:?} {complaint}")));
            }
        }
        Ok(())
    }
}

/// The name a label's column has in the file.
fn column_name(label: &str) -> String {
    if RESERVED.contains(&label) || label.starts_with(LABEL_PREFIX) {
        format!("{LABEL_PREFIX}{label}")
    } else {
        label.to_owned()
    }
}

fn item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Float32, false))
}

fn label_array(rows: &Rows<'_>, name: &str, kind: LabelKind) -> ArrayRef {
    let labels = rows.labels.iter().map(|labels| labels.get(name));
    match kind {
        LabelKind::Number => {
            Arc::new(labels.map(|label| label.and_then(Label::number)).collect::<Float64Array>())
        }
        LabelKind::Text => Arc::new(
            labels
                .map(|label| {
                    label.map(|label| match label {
                        Label::Text(text) => text.clone(),
                        Label::Number(number) => number.to_string(),
                    })
                })
                .collect::<StringArray>(),
        ),
    }
}

fn properties(shape: &[usize], width: usize, description: &Description) -> WriterProperties {
    // Row groups of about 64 MiB bound the memory a writer and a reader need.
    let rows = (16 * 1024 * 1024 / width).clamp(1024, 1024 * 1024);
    let mut metadata = vec![
        KeyValue::new(SHAPE_KEY.to_owned(), format!("{shape:?}")),
        KeyValue::new(format::KEY.to_owned(), format::FORMAT.to_string()),
    ];
    metadata.extend(
        description.iter().map(|(name, value)| {
            KeyValue::new(format!("{DESCRIPTION_PREFIX}{name}"), value.clone())
        }),
    );
    // Embeddings hardly repeat: a dictionary would only be tried and dropped.
    let embedding = ColumnPath::new(["embedding", "list", "item"].map(String::from).to_vec());
    WriterProperties::builder()
        .set_created_by(format!("astropt {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::SNAPPY)
        .set_column_dictionary_enabled(embedding, false)
        .set_max_row_group_row_count(Some(rows))
        .set_key_value_metadata(Some(metadata))
        .build()
}
