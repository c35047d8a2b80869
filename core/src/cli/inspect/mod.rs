//! `astropt inspect`: what a file or a folder holds, in a screen.

mod files;
mod model;
mod source;

use std::io::Read;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::args::InspectArgs;
use super::output::{Output, columns};
use crate::error::{Error, Result};

/// Lines that a screen has room for, and rows of a long table at least.
const SCREEN: usize = 56;
const ROWS: usize = 4;
/// Widest cell, in characters.
const WIDEST: usize = 60;

/// What was found.
#[derive(Debug, Default)]
struct Found {
    /// Such as `a run`.
    what: String,
    facts: Vec<(String, Json)>,
    tables: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    title: String,
    heading: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Found {
    fn new(what: &str) -> Self {
        Self { what: what.to_owned(), ..Self::default() }
    }

    fn fact(&mut self, name: &str, value: impl Into<Json>) {
        self.facts.push((name.to_owned(), value.into()));
    }

    fn table(&mut self, title: &str, heading: &[&'static str], rows: Vec<Vec<String>>) {
        if !rows.is_empty() {
            self.tables.push(Table { title: title.to_owned(), heading: heading.to_vec(), rows });
        }
    }
}

/// `astropt inspect`.
pub(super) fn inspect(args: &InspectArgs, output: Output) -> Result<()> {
    let found = look(args)?;
    output.result(&to_json(&args.path, &found), || describe(&args.path, &found))
}

fn look(args: &InspectArgs) -> Result<Found> {
    let path = &args.path;
    // What a named source reads may lie elsewhere, such as on a hub.
    if args.source.is_some() {
        return source::look(args);
    }
    let kind = std::fs::metadata(path).map_err(|e| Error::io("read", path, &e))?;
    if kind.is_dir() {
        return match () {
            () if path.join("manifest.json").is_file() => model::run(path),
            () if path.join("model.safetensors").is_file() => model::checkpoint(path),
            () if path.join("case.json").is_file() => files::case(path),
            () => source::look(args),
        };
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "pt" | "pth" | "ckpt" => model::python(path),
        "safetensors" => files::safetensors(path),
        "toml" => model::recipe(path),
        "parquet" => match files::embeddings(path)? {
            Some(found) => Ok(found),
            None => source::look(args),
        },
        // Exported to a name of the user's own.
        "" => match first_bytes(path)? {
            [b'P', b'K', 3, 4, ..] => model::python(path),
            [.., b'{'] => files::safetensors(path),
            _ => source::look(args),
        },
        _ => source::look(args),
    }
}

/// The first bytes of a file, as far as it has them: nine, of which the last is a brace in a
/// safetensors file.
fn first_bytes(path: &Path) -> Result<[u8; 9]> {
    let failed = |e: std::io::Error| Error::io("read", path, &e);
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(9).read_to_end(&mut bytes).map_err(failed)?;
    bytes.resize(9, 0);
    Ok(bytes.try_into().unwrap_or_default())
}

fn to_json(path: &Path, found: &Found) -> Json {
    let facts: serde_json::Map<_, _> = found.facts.iter().cloned().collect();
    let rows = |table: &Table| -> Json {
        let row = |row: &Vec<String>| -> Json {
            let cells = table.heading.iter().map(|&h| h.to_owned()).zip(row.clone());
            cells
                .map(|(key, cell)| (key, Json::from(cell)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        table.rows.iter().map(row).collect()
    };
    let tables: serde_json::Map<_, _> =
        found.tables.iter().map(|table| (table.title.clone(), rows(table))).collect();
    json!({ "path": path, "what": found.what, "facts": facts, "tables": tables })
}

fn describe(path: &Path, found: &Found) -> String {
    let mut text = format!("{}: {}", path.display(), found.what);
    let facts: Vec<_> =
        found.facts.iter().map(|(name, value)| vec![name.clone(), cell(&plain(value))]).collect();
    if !facts.is_empty() {
        text += &format!("\n{}", columns(&facts));
    }
    let room = room(facts.len(), found.tables.iter().map(|table| table.rows.len()));
    for table in &found.tables {
        let heading = table.heading.iter().map(|&h| h.to_owned()).collect();
        let mut rows: Vec<Vec<String>> = vec![heading];
        let short = |row: &Vec<String>| row.iter().map(|c| cell(c)).collect();
        rows.extend(table.rows.iter().take(room).map(short));
        text += &format!("\n\n{}\n{}", table.title, columns(&rows));
        if let Some(more) = table.rows.len().checked_sub(room).filter(|&more| more > 0) {
            text += &format!("\n… and {more} more (--json lists all)");
        }
    }
    text
}

/// How many rows of each table are shown, so that all fits a screen: short tables whole, and
/// long ones to the same length.
fn room(facts: usize, tables: impl Iterator<Item = usize>) -> usize {
    let mut lengths: Vec<usize> = tables.collect();
    lengths.sort_unstable();
    // Of a table also its title, its heading, and two lines around it.
    let mut left = SCREEN.saturating_sub(facts + 4 * lengths.len());
    for (k, &length) in lengths.iter().enumerate() {
        let share = left / (lengths.len() - k);
        if length > share {
            return share.max(ROWS);
        }
        left -= length;
    }
    usize::MAX
}

fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A cell as a terminal can show it: short, on one line, no control characters.
fn cell(text: &str) -> String {
    let mut clean: String = text.chars().filter(|c| !c.is_control()).take(WIDEST + 1).collect();
    if clean.chars().count() > WIDEST {
        clean = clean.chars().take(WIDEST - 1).collect::<String>() + "…";
    }
    clean
}

/// `value` as JSON, or nothing where that cannot be.
fn as_json(value: &impl Serialize) -> Json {
    serde_json::to_value(value).unwrap_or_default()
}
