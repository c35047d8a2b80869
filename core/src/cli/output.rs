//! Standard output and the final error.
#![allow(clippy::print_stdout, clippy::print_stderr)] // this is where they belong

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::parallel;

/// Whether nobody reads standard output any more, as after `astropt recipes | head`.
static UNREAD: AtomicBool = AtomicBool::new(false);

/// How results are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// A result: `value` as a line of JSON, or `text` for a person; said by one process for all.
    /// Where its reader has gone the work goes on unheard, and ends with its own exit code.
    pub(crate) fn result(
        self,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        if !parallel::is_first() || UNREAD.load(Ordering::Relaxed) {
            return Ok(());
        }
        let line = if self.json {
            serde_json::to_string(value)
                .map_err(|e| Error::Failed(format!("cannot write the result as JSON: {e}")))?
        } else {
            text()
        };
        match writeln!(std::io::stdout(), "{line}") {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {
                UNREAD.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(e) => Err(Error::Failed(format!("cannot write to standard output: {e}"))),
            Ok(()) => Ok(()),
        }
    }

    /// The error that ends the program, named by its process where it is that one's own.
    pub(crate) fn error(self, error: &Error) {
        if !parallel::speaks(error) {
            return;
        }
        let text = format!("{}{error}", parallel::rank_name(error));
        if self.json {
            let line = serde_json::json!({ "error": text, "code": error.exit_code() });
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        let _ = writeln!(std::io::stderr(), "error: {text}");
    }
}

/// Rows as aligned columns, the first row a heading.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |k: usize| {
        rows.iter().filter_map(|row| row.get(k)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
