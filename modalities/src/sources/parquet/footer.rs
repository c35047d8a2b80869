//! The end of a Parquet file: its schema and where its row groups lie.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use arrow_schema::Schema;
use astropt_core::guard::guarded;
use astropt_core::{Error, Result, plain};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::{
    FooterTail, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
};

use super::schema;

/// Bytes of the very end: the length of the metadata and `PAR1`.
pub(crate) const TAIL: usize = 8;
/// Longest metadata that is read, in bytes: some 400,000 column chunks.
const MAX_METADATA: u64 = 64 << 20;
/// Most rows a row group may state: what an `i32` of levels can count.
const MAX_ROWS: i64 = i32::MAX as i64;

/// The metadata of a file, read and checked.
#[derive(Clone, Debug)]
pub(crate) struct Footer {
    /// With texts and bytes as views; what the file says of Arrow's types is passed over, since it
    /// need not be true, but for durations, which Parquet has no type for.
    pub(super) metadata: ArrowReaderMetadata,
    /// The schema as the writer had it, for what it says of units.
    pub(super) written: Option<Arc<Schema>>,
}

/// Decodes a part of the file `path`, whatever bytes it holds.
///
/// # Errors
/// What `decode` answers, with the file and a way out.
pub(super) fn calm<T>(
    path: &Path,
    decode: impl FnOnce() -> std::result::Result<T, String>,
) -> Result<T> {
    guarded(decode).map_err(|message| {
        let way_out = "if it is damaged or cut short, fetch it again";
        Error::file(path, format!("cannot read it as Parquet: {message}; {way_out}"))
    })
}

/// Length of the metadata that stands before the `tail` of a file of `file_len` bytes.
///
/// # Errors
/// When it is no Parquet file, encrypted, or states a length that cannot be.
pub(crate) fn metadata_len(tail: &[u8; TAIL], file_len: u64) -> Result<u64, String> {
    let tail = FooterTail::try_new(tail)
        .map_err(|_| "it does not end as a Parquet file does".to_owned())?;
    if tail.is_encrypted_footer() {
        return Err("it is encrypted; decrypt it first".to_owned());
    }
    let length = tail.metadata_length() as u64;
    let room = file_len.saturating_sub(TAIL as u64);
    if length > room || length > MAX_METADATA {
        return Err(format!(
            "it states {length} bytes of metadata; {} can be read",
            room.min(MAX_METADATA)
        ));
    }
    Ok(length)
}

impl Footer {
    /// Reads the footer of a file.
    ///
    /// # Errors
    /// When the file cannot be read or is no sound Parquet file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| Error::io("read the table", path, &e))?;
        let length = file.metadata().map_err(|e| Error::io("read the table", path, &e))?.len();
        calm(path, || {
            let mut tail = [0; TAIL];
            let read = |e: std::io::Error| format!("its end cannot be read ({e})");
            if length < TAIL as u64 {
                return Err(format!("{length} bytes are too few for one"));
            }
            file.seek(SeekFrom::Start(length - TAIL as u64)).map_err(read)?;
            file.read_exact(&mut tail).map_err(read)?;
            let metadata = metadata_len(&tail, length)?;
            file.seek(SeekFrom::Start(length - TAIL as u64 - metadata)).map_err(read)?;
            let mut bytes = Vec::new();
            file.take(metadata).read_to_end(&mut bytes).map_err(read)?;
            Self::decode(&bytes)
        })
    }

    /// Decodes the metadata of the file that is called `path` for errors.
    ///
    /// # Errors
    /// When it is damaged.
    pub(crate) fn parse(path: &Path, metadata: &[u8]) -> Result<Self> {
        calm(path, || Self::decode(metadata))
    }

    fn decode(bytes: &[u8]) -> std::result::Result<Self, String> {
        let skip = ParquetMetaDataOptions::new()
            .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll);
        let text = |e: parquet::errors::ParquetError| plain::parquet(e);
        let metadata = ParquetMetaDataReader::decode_metadata_with_options(bytes, Some(&skip));
        let metadata = Arc::new(metadata.map_err(text)?);
        for (k, group) in metadata.row_groups().iter().enumerate() {
            let rows = group.num_rows();
            if !(0..=MAX_ROWS).contains(&rows) {
                return Err(format!("row group {k} states {rows} rows"));
            }
        }
        let as_stored = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let inferred = ArrowReaderMetadata::try_new(metadata.clone(), as_stored).map_err(text)?;
        let written = ArrowReaderMetadata::try_new(metadata.clone(), ArrowReaderOptions::new());
        let written = written.ok().map(|found| found.schema().clone());
        let views = Arc::new(schema::with_views(inferred.schema(), written.as_deref()));
        let with_views = ArrowReaderOptions::new().with_schema(views);
        let read = ArrowReaderMetadata::try_new(metadata, with_views).map_err(text)?;
        Ok(Self { metadata: read, written })
    }

    /// The schema as it is read.
    pub(super) fn schema(&self) -> &Schema {
        self.metadata.schema()
    }

    /// Rows of every row group, and the bytes that these leaf columns of it state to hold.
    pub(crate) fn groups(&self, leaves: &[usize]) -> Vec<Group> {
        let groups = self.metadata.metadata().row_groups().iter();
        groups
            .map(|group| {
                let column = |&leaf: &usize| group.columns().get(leaf);
                let sizes = leaves.iter().filter_map(column).map(|c| c.uncompressed_size());
                Group {
                    rows: u32::try_from(group.num_rows()).unwrap_or(0),
                    bytes: sizes.map(|size| size.max(0) as u64).fold(0, u64::saturating_add),
                }
            })
            .collect()
    }
}

/// A row group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) rows: u32,
    /// Stated size of the columns that are read, when decoded.
    pub(crate) bytes: u64,
}

/// Rows that pyarrow writes before it looks whether a page is full.
const WRITTEN_TOGETHER: u64 = 1024;

impl Group {
    /// Bytes that its largest page may well have.
    pub(super) fn page(self) -> u64 {
        let rows = u64::from(self.rows).max(1);
        self.bytes / rows * rows.min(WRITTEN_TOGETHER)
    }
}
