//! CSV files: comma-separated, the first line naming the columns.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use astropt_core::{Error, Result};
use csv::{ErrorKind, Position, Reader, ReaderBuilder, StringRecord};

use super::{At, Block, Cell, Column, Content, Row, Visit};

/// Longest row, in bytes. A file of one endless line would otherwise be read whole.
const MAX_ROW: u64 = 4 << 20;

/// Rows of a block: few enough that one object is read in milliseconds.
const BLOCK_ROWS: usize = 8192;

/// Bytes read at a time.
const BUFFER: usize = 128 << 10;

/// A file that stops where a row goes on for more than [`MAX_ROW`] bytes.
struct Bounded {
    file: File,
    /// Bytes handed out since the last whole row.
    since: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since > MAX_ROW {
            return Err(io::Error::other(format!(
                "a row longer than {} MiB; is a quotation mark left open, or is it no CSV file?",
                MAX_ROW >> 20
            )));
        }
        let read = self.file.read(buffer)?;
        self.since = self.since.saturating_add(read as u64);
        Ok(read)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.since = 0;
        self.file.seek(to)
    }
}

fn open(path: &Path) -> Result<Reader<Bounded>> {
    let file = File::open(path).map_err(|e| Error::io("read the table", path, &e))?;
    Ok(ReaderBuilder::new().buffer_capacity(BUFFER).from_reader(Bounded { file, since: 0 }))
}

/// The error of a row that cannot be read.
fn failed(path: &Path, reader: &Reader<Bounded>, error: &csv::Error) -> Error {
    let line = error.position().map_or(reader.position().line(), csv::Position::line);
    let what = match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => format!(
            "line {line}: {len} values, where the heading names {expected_len} columns; is a \
             quotation mark left open, or a comma one too many or few?"
        ),
        ErrorKind::Utf8 { .. } => {
            format!("line {line} is no UTF-8 text; save the table in that encoding")
        }
        _ => format!("cannot read the table after line {line}: {error}"),
    };
    Error::file(path, what)
}

/// Reads the next row, if there is one.
fn next(path: &Path, reader: &mut Reader<Bounded>, record: &mut StringRecord) -> Result<bool> {
    reader.get_mut().since = 0;
    reader.read_record(record).map_err(|e| failed(path, reader, &e))
}

/// The columns that the first line names.
pub(super) fn columns(path: &Path) -> Result<Vec<Column>> {
    let mut reader = open(path)?;
    let names = match reader.headers() {
        Ok(names) => names.clone(),
        Err(error) => return Err(failed(path, &reader, &error)),
    };
    if let (1, Some(name)) = (names.len(), names.get(0))
        && let Some(why) = no_heading(name)
    {
        return Err(Error::file(path, why));
    }
    let column =
        |name: &str| Column { name: name.trim().to_owned(), unit: None, content: Content::Written };
    Ok(names.iter().map(column).collect())
}

/// Why a first line that is one column, called `name`, is no heading of comma-separated columns.
fn no_heading(name: &str) -> Option<String> {
    let separator = match name {
        _ if name.starts_with('#') => {
            return Some(format!(
                "the first line is the comment {name:?}, where it must name the columns; delete the \
                 lines that start with # before that one"
            ));
        }
        _ if name.contains(';') => "semicolons",
        _ if name.contains('\t') => "tabs",
        _ => return None,
    };
    Some(format!(
        "the columns that the first line names, {name:?}, have {separator} between them; write the \
         table with commas"
    ))
}

/// Visits every row.
pub(super) fn scan(path: &Path, columns: &[usize], visit: Visit<'_>) -> Result<Vec<Block>> {
    let mut reader = open(path)?;
    let (mut record, mut number) = (StringRecord::new(), 0u64);
    let mut blocks: Vec<Block> = Vec::new();
    while next(path, &mut reader, &mut record)? {
        match blocks.last_mut() {
            Some(block) if block.rows < BLOCK_ROWS => block.rows += 1,
            _ => {
                let position = record.position().cloned().unwrap_or_else(Position::new);
                blocks.push(Block { start: number, rows: 1, at: At::Csv(position) });
            }
        }
        hand_out(&record, number, columns, visit)?;
        number += 1;
    }
    Ok(blocks)
}

/// Visits the rows of one block, which starts at `position`.
pub(super) fn read(
    path: &Path,
    position: &Position,
    block: &Block,
    columns: &[usize],
    visit: Visit<'_>,
) -> Result<()> {
    let mut reader = open(path)?;
    reader.seek(position.clone()).map_err(|e| failed(path, &reader, &e))?;
    let mut record = StringRecord::new();
    for number in (block.start..).take(block.rows) {
        if !next(path, &mut reader, &mut record)? {
            return Err(Error::file(path, "shorter than when it was opened; was it rewritten?"));
        }
        hand_out(&record, number, columns, visit)?;
    }
    Ok(())
}

fn hand_out(record: &StringRecord, number: u64, columns: &[usize], visit: Visit<'_>) -> Result<()> {
    let cells: Vec<_> =
        columns.iter().filter_map(|&column| record.get(column)).map(Cell::Written).collect();
    let at = record.position().map_or(0, Position::line);
    visit(Row { number, at, cells: &cells })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_separators_and_comments_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.csv");
        let open = |text: &str| {
            std::fs::write(&path, text).expect("written");
            columns(&path).map(|columns| columns.len()).map_err(|error| error.to_string())
        };
        for (text, words) in [
            ("id;z\n1;2\n", "have semicolons between them; write the table with commas"),
            ("id\tz\n1\t2\n", "have tabs between them"),
            ("# made by hand\nid,z\n1,2\n", "the comment \"# made by hand\""),
        ] {
            let error = open(text).expect_err(text);
            assert!(error.contains(words) && error.contains("a.csv"), "{error}");
        }
        // One column is a table, and so is one whose names have such characters in them.
        assert_eq!(open("id\n1\n"), Ok(1));
        assert_eq!(open("#id,z;mag\n1,2\n"), Ok(2));
        let packed = super::super::Table::open(folder.path().join("a.csv.gz"));
        let error = packed.map(drop).expect_err("packed").to_string();
        assert!(error.contains("a .csv, .parquet or .fits file; unpack this one first"), "{error}");
    }
}
