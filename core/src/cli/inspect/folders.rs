//! Folders: of a run, and of what no source reads; and files that are to be looked at otherwise.

use std::path::Path;

use super::source::is_general;
use super::{Found, significant};
use crate::checkpoint::checksums;
use crate::error::{Error, Result};
use crate::progress::quantity;
use crate::run::Saved;

/// Lines of a text that are shown.
const LINES: usize = 12;
/// Bytes of the largest text that is read.
const MAX_TEXT: u64 = 16 << 20;
/// Endings of texts.
const TEXTS: [&str; 14] =
    ["", "txt", "md", "rst", "tex", "bib", "cff", "log", "yaml", "yml", "py", "sh", "ini", "xml"];

/// The checkpoints of a run.
pub(super) fn checkpoints(path: &Path) -> Result<Found> {
    let mut found = Found::new("the checkpoints of a run");
    let mut rows = Vec::new();
    for (name, entry) in entries(path)? {
        let Some(saved) = Saved::at(&entry) else { continue };
        let state = saved.state();
        let said = |of: Option<String>| of.unwrap_or_else(|| "-".to_owned());
        let (step, loss) = match &state {
            Ok(state) => (state.step.to_string(), said(state.best_loss.map(significant))),
            Err(_) => ("-".to_owned(), "its state cannot be read".to_owned()),
        };
        let has = |file: &str| if entry.join(file).exists() { "yes" } else { "no" }.to_owned();
        let size = quantity(bytes(&entry) as f64) + "B";
        rows.push(vec![name, step, loss, has("selfcheck.safetensors"), has(checksums::FILE), size]);
    }
    found.fact("checkpoints", rows.len());
    found.fact("size", format!("{}B", quantity(bytes(path) as f64)));
    let heading = ["name", "steps", "lowest loss so far", "self-check", "checksums", "size"];
    found.table("checkpoints", &heading, rows);
    Ok(found)
}

/// Pictures that a run drew, in the folder `name` of it.
pub(super) fn pictures(path: &Path, name: &str) -> Result<Found> {
    let mut found = Found::new(match name {
        "previews" => "previews of a run: targets beside predictions, one picture an evaluation",
        "figures" => "figures of a run's report, each as SVG and PNG",
        _ => "spans of objects that a run's model generated",
    });
    listing(&mut found, path)?;
    Ok(found)
}

/// A folder that nothing linked reads as it is, for these reasons.
pub(super) fn other(path: &Path, refusals: &[String]) -> Result<Found> {
    let mut found = Found::new("a folder");
    let how = "no source reads it without being told how: --source KIND --set source.KEY=VALUE";
    found.fact("as data", how);
    listing(&mut found, path)?;
    let own = refusals.iter().filter(|refusal| !is_general(refusal));
    let rows = own.filter_map(|refusal| {
        let (kind, why) = refusal.split_once(": ")?;
        Some(vec![kind.to_owned(), why.to_owned()])
    });
    found.table("sources that looked into it", &["source", "why not"], rows.collect());
    Ok(found)
}

/// A folder of recorded cases; `None` where it has none.
pub(super) fn cases(path: &Path) -> Result<Option<Found>> {
    let mut rows = Vec::new();
    for (name, entry) in entries(path)? {
        let Ok(text) = std::fs::read(entry.join("case.json")) else { continue };
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let said = |key: &str| json.get(key).map_or("-".to_owned(), super::plain);
        let has = |file: &str| if entry.join(file).exists() { "yes" } else { "no" }.to_owned();
        rows.push(vec![name, said("program"), has("ckpt.pt"), has("weights.safetensors")]);
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let mut found = Found::new("recorded cases (replay them with `astropt verify`)");
    found.fact("cases", rows.len());
    found.table("cases", &["name", "program", "ckpt.pt", "weights.safetensors"], rows);
    Ok(Some(found))
}

/// What lies in the folder `path`.
fn listing(found: &mut Found, path: &Path) -> Result<()> {
    let all = entries(path)?;
    let row = |(name, entry): &(String, std::path::PathBuf)| match entry.is_dir() {
        true => {
            let count = entries(entry).map_or(0, |all| all.len());
            vec![format!("{name}/"), format!("{count} entries")]
        }
        false => vec![name.clone(), format!("{}B", quantity(bytes(entry) as f64))],
    };
    found.fact("entries", all.len());
    found.table("entries", &["name", "size"], all.iter().map(row).collect());
    Ok(())
}

/// Says how large the folder `path` is.
pub(super) fn size(found: &mut Found, path: &Path) {
    found.fact("size", format!("{}B", quantity(bytes(path) as f64)));
}

/// Names and paths of what lies in `path`, in order.
fn entries(path: &Path) -> Result<Vec<(String, std::path::PathBuf)>> {
    let read = std::fs::read_dir(path).map_err(|e| Error::io("read", path, &e))?;
    let named =
        |entry: std::fs::DirEntry| (entry.file_name().to_string_lossy().into_owned(), entry.path());
    let mut all: Vec<_> = read.flatten().map(named).collect();
    all.sort();
    Ok(all)
}

/// Bytes of the file or of all files below the folder `path`; links are not followed.
fn bytes(path: &Path) -> u64 {
    match std::fs::symlink_metadata(path) {
        Ok(of) if of.is_dir() => {
            entries(path).map_or(0, |all| all.iter().map(|(_, entry)| bytes(entry)).sum())
        }
        Ok(of) => of.len(),
        Err(_) => 0,
    }
}

/// A file that says what it is by its name; `None` for others.
pub(super) fn named(path: &Path, name: &str) -> Option<Result<Found>> {
    let sized = |what: &str| {
        let mut found = Found::new(what);
        size(&mut found, path);
        Ok(found)
    };
    match name {
        ".lock" => Some(lock(path)),
        "rejected.csv" => Some(rejected(path)),
        "embeddings.ids.txt" => Some(ids(path)),
        "report.html" => Some(sized("a report: open it in a browser")),
        _ if name.contains(".tfevents.") => {
            Some(sized("losses for TensorBoard: `tensorboard --logdir` on its folder shows them"))
        }
        _ if name.ends_with(".svg") => Some(sized("a drawing: open it in a browser")),
        _ => None,
    }
}

/// Who writes a run, or wrote it last.
fn lock(path: &Path) -> Result<Found> {
    let mut found = Found::new("the lock of a run: who writes it, or wrote it last");
    let text = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&text) {
        Ok(owner) => owner.into_iter().for_each(|(key, value)| found.fact(&key, value)),
        Err(_) => found.fact("owner", "none: nobody writes the run"),
    }
    Ok(found)
}

/// Objects that could not be used.
fn rejected(path: &Path) -> Result<Found> {
    let broken = |e: csv::Error| Error::file(path, format!("is not a table of ids: {e}"));
    let mut table = csv::Reader::from_path(path).map_err(broken)?;
    let rows: Vec<(String, String)> =
        table.deserialize().collect::<std::result::Result<_, _>>().map_err(broken)?;
    let mut found = Found::new("objects that could not be used, and why");
    found.fact("objects", rows.len());
    if !rows.is_empty() {
        let said = "mended or not; a new run takes the mended ones in";
        found.fact("a run goes on without them", said);
    }
    let rows = rows.into_iter().map(|(id, reason)| vec![id, reason]).collect();
    found.table("objects", &["id", "why"], rows);
    Ok(found)
}

fn ids(path: &Path) -> Result<Found> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
    let mut found =
        Found::new("ids of the objects whose embeddings are the rows of embeddings.npy");
    found.fact("objects", text.lines().count());
    let rows = text.lines().enumerate().map(|(k, id)| vec![k.to_string(), id.to_owned()]);
    found.table("objects", &["row", "id"], rows.take(1000).collect());
    Ok(found)
}

/// A text by its ending, or without one; `None` for others.
pub(super) fn text(path: &Path) -> Option<Result<Found>> {
    let ending = path.extension().unwrap_or_default().to_str()?.to_ascii_lowercase();
    let size = std::fs::metadata(path).ok()?.len();
    if !TEXTS.contains(&ending.as_str()) || size > MAX_TEXT {
        return None;
    }
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))?,
        Err(e) => return Some(Err(Error::io("read", path, &e))),
    };
    let mut found = Found::new("a text");
    found.fact("lines", text.lines().count());
    let rows = text.lines().take(LINES).map(|line| vec![line.to_owned()]).collect();
    found.table("its beginning", &["text"], rows);
    Some(Ok(found))
}
