//! One file: parts of its rows, decoded.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{ArrayRef, RecordBatch};
use astropt_core::{Error, Result, plain, progress};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};

use super::footer::{Footer, calm};
use super::held::{Weight, lean};
use super::pages::{MAX_GROUP, Sizes, decoded_size};
use super::plan::{Names, Plan};

/// Stated size of the rows that are decoded in one go, in bytes.
const BATCH: u64 = 8 << 20;
/// Most rows that are decoded in one go.
const BATCH_ROWS: u64 = 8192;
/// Most that a part may take in memory, whatever its file states, unless the recipe's buffer
/// is larger.
const MAX_PART: usize = 1 << 30;

/// Pages beyond so many bytes are decoded one at a time, by whichever worker.
pub(super) const LARGE: u64 = 256 << 20;
static ONE_LARGE: Mutex<()> = Mutex::new(());

/// How many times the recipe's buffer a row group may state, if that is more than `MAX_GROUP`.
const GROUP_OF_BUFFER: u64 = 8;

/// An open file.
pub(super) struct Shard {
    path: PathBuf,
    footer: Footer,
    pub(super) plan: Arc<Plan>,
    /// Bytes of rows that the recipe has held.
    buffer: u64,
    /// Keeps the file in place as long as this is in use.
    _held: Held,
}

/// Whatever must not be dropped while a file is in use.
pub(crate) type Held = Box<dyn std::any::Any + Send + Sync>;

/// Rows `first..first + rows` of a row group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) group: usize,
    pub(super) first: usize,
    pub(super) rows: usize,
}

/// Decoded rows.
#[derive(Debug)]
pub(super) struct Rows {
    batches: Vec<RecordBatch>,
    /// Rows of every batch but the last.
    step: usize,
    /// Bytes in memory.
    pub(super) size: usize,
}

/// Why rows are not read.
enum Refusal {
    Damaged(String),
    /// The file may well be whole.
    TooLarge(String),
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self::Damaged(message)
    }
}

impl Shard {
    pub(super) fn open(path: PathBuf, names: &Names, buffer: u64, held: Held) -> Result<Self> {
        let footer = Footer::open(&path)?;
        let plan = Arc::new(names.plan(&footer, &path)?);
        Ok(Self { path, footer, plan, buffer, _held: held })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Rows of every row group.
    pub(super) fn group_rows(&self) -> impl Iterator<Item = u32> + '_ {
        self.footer.groups(&[]).into_iter().map(|group| group.rows)
    }

    /// Decodes these leaf columns of `span`.
    ///
    /// # Errors
    /// When the file is damaged, or the rows take more memory than is reasonable.
    pub(super) fn read(&self, span: Span, leaves: &[usize]) -> Result<Rows> {
        let file =
            || File::open(&self.path).map_err(|e| Error::io("read the table", &self.path, &e));
        let (mut looked_at, read) = (file()?, file()?);
        let rows = calm(&self.path, || {
            let rows = self.check(&mut looked_at, span, leaves).and_then(|sizes| {
                self.tell_large(sizes.largest);
                let _one = (sizes.largest > LARGE)
                    .then(|| ONE_LARGE.lock().unwrap_or_else(PoisonError::into_inner));
                self.decode(read, span, leaves, sizes.total)
            });
            match rows {
                Err(Refusal::Damaged(message)) => Err(message),
                Err(Refusal::TooLarge(message)) => Ok(Err(message)),
                Ok(rows) => Ok(Ok(rows)),
            }
        })?;
        rows.map_err(|message| Error::file(&self.path, message))
    }

    /// Says once that pages are so large that reading is slow.
    fn tell_large(&self, largest: u64) {
        static TOLD: AtomicBool = AtomicBool::new(false);
        if largest > LARGE && !TOLD.swap(true, Ordering::Relaxed) {
            progress::warn(&format!(
                "{}: a page of it holds {:.1} GB, is decoded anew for every part of its rows, and \
                 takes up to twice that in memory; write the file again with small pages (pyarrow: \
                 `write_batch_size=16` in `write_table`), or let `source.buffer` be {}GB",
                self.path.display(),
                largest as f64 / 1e9,
                (4 * largest).div_ceil(1_000_000_000)
            ));
        }
    }

    /// Refuses row groups that claim too much; hands back the bytes that the span claims, and the
    /// largest page.
    fn check(&self, file: &mut File, span: Span, leaves: &[usize]) -> Result<Sizes, Refusal> {
        let group = self.footer.metadata.metadata().row_groups().get(span.group);
        let group = group.ok_or_else(|| format!("it has no row group {} any more", span.group))?;
        let mut sizes = Sizes::default();
        for &leaf in leaves {
            let chunk =
                group.columns().get(leaf).ok_or_else(|| "a column is missing".to_owned())?;
            let name = chunk.column_path().string();
            if chunk.column_descr().type_length() > 64 {
                let message = format!("the column {name} has values of a fixed, large size");
                return Err(message.into());
            }
            let size = decoded_size(file, chunk).map_err(|e| format!("column {name}: {e}"))?;
            sizes.total = sizes.total.saturating_add(size.total);
            sizes.largest = sizes.largest.max(size.largest);
        }
        let most = MAX_GROUP.max(self.buffer.saturating_mul(GROUP_OF_BUFFER));
        let total = sizes.total;
        if total > most {
            return Err(Refusal::TooLarge(format!(
                "row group {} states {total} bytes in the columns that are read, more than {most}; \
                 write the file again with smaller row groups (pyarrow: `row_group_size`), or let \
                 `source.buffer` be {} or more",
                span.group,
                total.div_ceil(GROUP_OF_BUFFER)
            )));
        }
        let rows = u64::try_from(group.num_rows()).unwrap_or(0).max(1);
        Ok(Sizes { total: total / rows * span.rows as u64, ..sizes })
    }

    fn decode(
        &self,
        file: File,
        span: Span,
        leaves: &[usize],
        stated: u64,
    ) -> Result<Rows, Refusal> {
        let text = |e: parquet::errors::ParquetError| plain::parquet(e);
        let schema = self.footer.metadata.metadata().file_metadata().schema_descr();
        let rows = span.rows as u64;
        let step = (rows * BATCH / stated.max(1)).clamp(1, rows.clamp(1, BATCH_ROWS)) as usize;
        let selection = vec![RowSelector::skip(span.first), RowSelector::select(span.rows)];
        let reader =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.footer.metadata.clone())
                .with_projection(ProjectionMask::leaves(schema, leaves.iter().copied()))
                .with_row_groups(vec![span.group])
                .with_row_selection(RowSelection::from(selection))
                .with_batch_size(step)
                .build()
                .map_err(text)?;
        let mut out = Rows { batches: Vec::new(), step, size: 0 };
        let (mut found, mut weight) = (0, Weight::default());
        let most = usize::try_from(self.buffer).unwrap_or(usize::MAX).max(MAX_PART);
        for batch in reader {
            let batch = lean(batch.map_err(|e| e.to_string())?);
            found += batch.num_rows();
            weight.add(&batch);
            out.size = weight.bytes;
            if out.size > most {
                return Err(Refusal::TooLarge(format!(
                    "{found} rows of row group {} take more than {most} bytes of memory; set a \
                     larger `source.buffer`, or write the file again with smaller pages and row \
                     groups",
                    span.group
                )));
            }
            out.batches.push(batch);
        }
        if found != span.rows {
            return Err(format!(
                "row group {} has {found} rows where {} are stated",
                span.group, span.rows
            )
            .into());
        }
        Ok(out)
    }
}

impl Rows {
    /// The table's column `name` and the row of it that is row `row` of these.
    pub(super) fn column(&self, name: &str, row: usize) -> Option<(&ArrayRef, usize)> {
        let batch = self.batches.get(row / self.step)?;
        let row = row % self.step;
        batch.column_by_name(name).filter(|_| row < batch.num_rows()).map(|column| (column, row))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}
