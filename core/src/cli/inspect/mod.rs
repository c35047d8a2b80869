//! `astropt inspect`: what a file or a folder holds, in a screen.

mod converted;
mod files;
mod folders;
mod json;
mod lines;
mod model;
mod source;

use std::io::Read;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::args::InspectArgs;
use super::output::{Output, columns};
use crate::error::{Error, Result};
use crate::family::FAMILY;
use crate::shards::is_converted;

/// What makes a folder a run's.
const MANIFEST: &str = "manifest.json";
/// Lines that a screen has room for, and rows of a long table at least.
const SCREEN: usize = 56;
const ROWS: usize = 4;
/// Widest cell of a table, and widest fact, in characters.
const WIDEST: usize = 60;
const WIDEST_FACT: usize = 100;

/// What was found.
#[derive(Debug, Default)]
struct Found {
    /// Such as `a run`.
    what: String,
    facts: Vec<(String, Json)>,
    tables: Vec<Table>,
    /// Objects that could not be read, of how many that were tried.
    refused: (usize, usize),
}

#[derive(Debug)]
struct Table {
    title: String,
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Found {
    fn new(what: &str) -> Self {
        Self { what: what.to_owned(), ..Self::default() }
    }

    fn mostly_unusable(&self) -> bool {
        2 * self.refused.0 > self.refused.1
    }

    fn fact(&mut self, name: &str, value: impl Into<Json>) {
        self.facts.push((name.to_owned(), value.into()));
    }

    fn table(&mut self, title: &str, heading: &[&str], rows: Vec<Vec<String>>) {
        self.titled(title, heading.iter().map(|&h| h.to_owned()).collect(), rows);
    }

    /// A table whose heading is made up of names.
    fn titled(&mut self, title: &str, heading: Vec<String>, rows: Vec<Vec<String>>) {
        if !rows.is_empty() {
            self.tables.push(Table { title: title.to_owned(), heading, rows });
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
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if kind.is_dir() {
        return match () {
            () if path.join(MANIFEST).is_file() => model::run(path),
            () if path.join(FAMILY).is_file() => json::family_folder(path),
            () if path.join("model.safetensors").is_file() => model::checkpoint(path),
            () if path.join("case.json").is_file() => files::case(path),
            () if is_converted(path) => converted::folder(path),
            () => folder(args, &name),
        };
    }
    if !kind.is_file() {
        return Err(Error::file(path, "is neither a file nor a folder"));
    }
    if let Some(found) = lines::of(path, &name).or_else(|| folders::named(path, &name)) {
        return found;
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "pt" | "pth" | "ckpt" => model::python(path),
        "safetensors" => files::safetensors(path),
        "toml" => model::recipe(path),
        "json" => json::look(path, &name),
        "jsonl" => lines::other(path),
        "parquet" => match files::embeddings(path)? {
            Some(found) => Ok(found),
            None => source::look(args),
        },
        // Exported to a name of the user's own.
        "" => match first_bytes(path)? {
            [b'P', b'K', 3, 4, ..] => model::python(path),
            [.., b'{'] => files::safetensors(path),
            _ => source::look(args).or_else(|error| folders::text(path).unwrap_or(Err(error))),
        },
        _ => source::look(args).or_else(|error| folders::text(path).unwrap_or(Err(error))),
    }
}

/// A folder that is none of this program's as a whole.
fn folder(args: &InspectArgs, name: &str) -> Result<Found> {
    let path = &args.path;
    let of_run = || std::fs::canonicalize(path).is_ok_and(|p| p.with_file_name(MANIFEST).exists());
    match name {
        "checkpoints" if of_run() => folders::checkpoints(path),
        "previews" | "figures" | "generated" if of_run() => folders::pictures(path, name),
        _ => match folders::cases(path)? {
            Some(found) => Ok(found),
            None => source::look(args),
        },
    }
}

/// The first bytes of a file, as far as it has them: nine, of which the last is a brace in a
/// safetensors file.
pub(super) fn first_bytes(path: &Path) -> Result<[u8; 9]> {
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
            let cells = table.heading.iter().cloned().zip(row.clone());
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
    let facts: Vec<_> = found
        .facts
        .iter()
        .map(|(name, value)| vec![name.clone(), short(&plain(value), WIDEST_FACT)])
        .collect();
    if !facts.is_empty() {
        text += &format!("\n{}", columns(&facts));
    }
    let room = room(facts.len(), found.tables.iter().map(|table| table.rows.len()));
    for table in &found.tables {
        // A column without anything in it would only push the others off the screen.
        let told =
            |k: &usize| table.rows.iter().any(|row| row.get(*k).is_some_and(|c| !c.is_empty()));
        let kept: Vec<usize> = (0..table.heading.len()).filter(told).collect();
        let widest = if kept.len() == 1 { WIDEST_FACT } else { WIDEST };
        let short = |row: &Vec<String>| -> Vec<String> {
            kept.iter().map(|&k| short(row.get(k).map_or("", String::as_str), widest)).collect()
        };
        let mut rows = vec![short(&table.heading)];
        rows.extend(table.rows.iter().take(room).map(&short));
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

/// `text` as a terminal can show it: at most `widest` characters, on one line, no control
/// characters.
fn short(text: &str, widest: usize) -> String {
    let mut clean: String = text.chars().filter(|c| !c.is_control()).take(widest + 1).collect();
    if clean.chars().count() > widest {
        clean = clean.chars().take(widest - 1).collect::<String>() + "…";
    }
    clean
}

/// A number to six digits.
fn significant(x: f64) -> String {
    if x == 0.0 || !x.is_finite() {
        return format!("{x}");
    }
    let rounded: f64 = format!("{x:.5e}").parse().unwrap_or(x);
    if (1e-4..1e9).contains(&rounded.abs()) { format!("{rounded}") } else { format!("{rounded:e}") }
}

/// At most `count` of `all`, evenly spread, the first and the last among them.
fn spread<T>(all: &[T], count: usize) -> impl Iterator<Item = &T> {
    let (n, last) = (all.len(), all.len().saturating_sub(1));
    let steps = count.min(n);
    (0..steps).filter_map(move |k| all.get(k * last / steps.saturating_sub(1).max(1)))
}

/// `value` as JSON, or nothing where that cannot be.
fn as_json(value: &impl Serialize) -> Json {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_six_digits() {
        let said = [0.42254949492566724, -20.488670649191917, 0.0, 1e-20, 123_456_789.0, 5e-4];
        let said = said.map(significant);
        assert_eq!(said, ["0.422549", "-20.4887", "0", "1e-20", "123457000", "0.0005"]);
    }

    #[test]
    fn a_course_keeps_its_ends() {
        let all: Vec<u32> = (0..100).collect();
        let shown: Vec<u32> = spread(&all, 4).copied().collect();
        assert_eq!(shown, [0, 33, 66, 99]);
        assert_eq!(spread(&all[..3], 4).copied().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(&all[..1], 4).count(), 1);
        assert_eq!(spread(&all[..0], 4).count(), 0);
    }
}
