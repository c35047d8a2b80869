//! Parquet files.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use arrow_schema::{DataType, Schema};
use astropt_core::embed::column_unit;
use astropt_core::guard::guarded;
use astropt_core::{Error, Result, plain};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaData;

use super::cell::{cell, converted_unit, is_converted};
use super::{At, Block, Column, Content, Row, Visit};

/// Rows that are decoded together.
const BATCH: usize = 8192;

/// Most rows of a block; larger row groups are cut.
const BLOCK_ROWS: usize = 1 << 20;

/// What the end of a Parquet file says of it.
#[derive(Debug)]
pub(super) struct ParquetFile {
    metadata: ArrowReaderMetadata,
}

fn damaged(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::file(path, format!("cannot read the Parquet table: {error}; {}", plain::WAY_OUT))
}

impl ParquetFile {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = open(path)?;
        let load = || ArrowReaderMetadata::load(&file, Default::default()).map_err(plain::parquet);
        let metadata = guarded(load).map_err(|e| damaged(path, e))?;
        Ok(Self { metadata })
    }

    pub(super) fn schema(&self) -> &Schema {
        self.metadata.schema()
    }

    pub(super) fn columns(&self) -> Vec<Column> {
        let fields = self.metadata.schema().fields();
        fields
            .iter()
            .map(|field| {
                let content = content(field.data_type());
                let converted = converted_unit(field.data_type()).map(str::to_owned);
                let unit = converted.or_else(|| column_unit(field));
                Column { name: field.name().clone(), unit, content }
            })
            .collect()
    }

    /// Visits every row.
    pub(super) fn scan(
        &self,
        path: &Path,
        columns: &[usize],
        visit: Visit<'_>,
    ) -> Result<Vec<Block>> {
        let (mut blocks, mut start) = (Vec::new(), 0u64);
        for (group, metadata) in self.metadata.metadata().row_groups().iter().enumerate() {
            let rows = usize::try_from(metadata.num_rows())
                .map_err(|_| damaged(path, "a row group of fewer than no rows"))?;
            let whole = Block { start, rows, at: At::Parquet { group, skip: 0 } };
            self.read(path, group, 0, &whole, columns, visit)?;
            for skip in (0..rows).step_by(BLOCK_ROWS) {
                let rows = BLOCK_ROWS.min(rows - skip);
                let start = start + skip as u64;
                blocks.push(Block { start, rows, at: At::Parquet { group, skip } });
            }
            start += rows as u64;
        }
        Ok(blocks)
    }

    /// Visits the rows of `block`, which are those of row group `group` from `skip` on.
    pub(super) fn read(
        &self,
        path: &Path,
        group: usize,
        skip: usize,
        block: &Block,
        columns: &[usize],
        visit: Visit<'_>,
    ) -> Result<()> {
        let mut wanted = columns.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let order: HashMap<_, _> = wanted.iter().enumerate().map(|(k, &c)| (c, k)).collect();
        let root = |leaf| {
            let metadata = self.metadata.metadata().file_metadata();
            wanted.binary_search(&metadata.schema_descr().get_column_root_idx(leaf)).is_ok()
        };
        check_codecs(path, self.metadata.metadata(), root)?;
        let file = open(path)?;
        let selection =
            RowSelection::from(vec![RowSelector::skip(skip), RowSelector::select(block.rows)]);
        let mut reader = guarded(|| {
            let schema = self.metadata.metadata().file_metadata().schema_descr();
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_projection(ProjectionMask::roots(schema, wanted.iter().copied()))
                .with_batch_size(BATCH)
                .with_row_groups(vec![group])
                .with_row_selection(selection)
                .build()
                .map_err(plain::parquet)
        })
        .map_err(|e| damaged(path, e))?;
        let mut number = block.start;
        let mut next = || guarded(|| reader.next().transpose().map_err(|e| e.to_string()));
        while let Some(batch) = next().map_err(|e| damaged(path, e))? {
            let arrays: Vec<_> =
                columns.iter().filter_map(|c| batch.columns().get(*order.get(c)?)).collect();
            let mut cells = Vec::with_capacity(arrays.len());
            for i in 0..batch.num_rows() {
                cells.clear();
                cells.extend(arrays.iter().map(|array| cell(array, i)));
                visit(Row { number, at: number, cells: &cells })?;
                number += 1;
            }
        }
        let read = number - block.start;
        if read != block.rows as u64 {
            let message = format!("a row group states {} rows and has {read}", block.rows);
            return Err(damaged(path, message));
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| Error::io("read the table", path, &e))
}

/// Refuses leaf columns that are `wanted` and packed in a way that cannot be undone here.
///
/// # Errors
/// When there is one; names it.
pub(crate) fn check_codecs(
    path: &Path,
    metadata: &ParquetMetaData,
    wanted: impl Fn(usize) -> bool,
) -> Result<()> {
    for group in metadata.row_groups() {
        for (_, column) in group.columns().iter().enumerate().filter(|(leaf, _)| wanted(*leaf)) {
            let codec = match column.compression() {
                Compression::LZ4 | Compression::LZ4_RAW => "LZ4",
                Compression::BROTLI(_) => "Brotli",
                Compression::LZO => "LZO",
                _ => continue,
            };
            let message = format!(
                "the column {} is compressed with {codec}, which is not built in; write the file \
                 again with zstd, snappy, gzip or no compression",
                column.column_path().string()
            );
            return Err(Error::file(path, message));
        }
    }
    Ok(())
}

/// What a column of this type holds.
pub(super) fn content(data_type: &DataType) -> Content {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Content::Text,
        DataType::Boolean => Content::Integer,
        integer if integer.is_integer() => Content::Integer,
        DataType::Float16 | DataType::Float32 => Content::Single,
        DataType::Float64 => Content::Double,
        DataType::Dictionary(_, values) => content(values),
        DataType::Duration(_) => Content::Duration,
        date if is_converted(date) && date.is_temporal() => Content::Date,
        // Also of whole decimals: what is no label is a number of double precision.
        other if is_converted(other) => Content::Double,
        other => Content::Other(other.to_string()),
    }
}
