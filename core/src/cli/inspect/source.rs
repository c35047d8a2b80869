//! Data: whatever a linked source can open.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{Found, InspectArgs, Table, significant};
use crate::error::{Error, Result};
use crate::observation::{Data, Field, Label, LabelUnits, Labels, Observation};
use crate::recipe::{assigned, readable};
use crate::seam::{FormatPlugin, Part, Section, Source, SourcePlugin, find_source, sources};

/// Objects that are read, and tried to be read.
const OBJECTS: usize = 5;
const TRIED: usize = 20;
/// Labels that a row has room for.
const LABELS: usize = 8;
/// What is said of a field.
pub(super) const FIELDS: [&str; 7] =
    ["field", "shape", "type", "unit", "least", "most", "not finite"];

/// Opens the path with the source the user names, or the first that reads an object of it.
pub(super) fn look(args: &InspectArgs) -> Result<Found> {
    let set = assigned("source", &args.set)?;
    if let Some(kind) = &args.source {
        let plugin = find_source(kind)?;
        let key = plugin.path_key.ok_or_else(|| {
            Error::Misuse(format!(
                "--source {kind}: it reads no files, so there is none to inspect"
            ))
        })?;
        return open(plugin, key, &args.path, set, true);
    }
    if !set.is_empty() {
        let message = "--set changes keys of one source: name it with --source KIND";
        return Err(Error::Misuse(message.into()));
    }
    let contents = contents(&args.path).transpose()?;
    let mut refusals = Vec::new();
    for plugin in sources() {
        let Some(key) = plugin.path_key else { continue };
        match open(plugin, key, &args.path, set.clone(), false) {
            // A folder of other things, in which some file has such a name.
            Ok(found) if contents.is_none() && args.path.is_dir() && found.mostly_unusable() => {
                let few = "it can read few of the first objects".to_owned();
                refusals.push(format!("{}: {few}", plugin.info.kind));
            }
            Ok(mut found) => {
                found.fact("read", "as the source does when it is told nothing; see --source");
                found.tables.extend(contents.into_iter().flat_map(|(_, tables)| tables));
                return Ok(found);
            }
            Err(error) => {
                // The path stands before all of them already.
                let message = error.to_string().replace(&format!("{}: ", args.path.display()), "");
                refusals.push(format!("{}: {message}", plugin.info.kind));
            }
        }
    }
    if let Some((name, tables)) = contents {
        let mut found = Found { tables, ..Found::new(name) };
        if args.path.is_dir() {
            let (count, largest) = of_format(&args.path)?;
            found.what = "a folder of data files".to_owned();
            found.fact("files", count);
            found.fact("shown", format!("the largest, {name}: {largest}"));
        }
        found.fact("to see objects", "say what to read: --source KIND --set source.KEY=VALUE");
        example(&mut found, name);
        return Ok(found);
    }
    if args.path.is_dir() {
        return super::folders::other(&args.path, &refusals);
    }
    Err(Error::file(
        &args.path,
        format!(
            "no linked source can read it without being told how ({}); name one with --source \
             KIND and set its keys with --set source.KEY=VALUE",
            told(&refusals)
        ),
    ))
}

/// How a recipe has the source that reads files of the format `name`.
fn example(found: &mut Found, name: &str) {
    let name = name.to_ascii_lowercase();
    let Some(plugin) = sources().into_iter().find(|plugin| name.contains(plugin.info.kind)) else {
        return;
    };
    let kind = format!("kind = {:?}", plugin.info.kind);
    let lines = [kind.as_str()].into_iter().chain(plugin.info.example.lines());
    let rows = lines.map(|line| vec![line.to_owned()]).collect();
    found.table("an example of [source] in a recipe", &["source"], rows);
}

/// Files of a known format in the folder `path`, and the largest of them.
fn of_format(path: &Path) -> Result<(usize, String)> {
    let read = std::fs::read_dir(path).map_err(|e| Error::io("read", path, &e))?;
    let paths = read.flatten().map(|entry| entry.path());
    let known: Vec<_> = paths.filter(|p| p.is_file() && FormatPlugin::of(p).is_some()).collect();
    let size = |path: &&std::path::PathBuf| std::fs::metadata(path).map_or(0, |m| m.len());
    let largest = known.iter().max_by_key(size).and_then(|path| path.file_name());
    Ok((known.len(), largest.unwrap_or_default().to_string_lossy().into_owned()))
}

/// Whether a refusal says that a path is not of a source's kind, or that the source has to be told
/// more, and nothing of the path itself.
pub(super) fn is_general(refusal: &str) -> bool {
    let general = [
        "\" is missing", // a key of its table
        "on another machine",
        ": neither ",
        "holds no converted data",
        ": no ",
        "in this folder",
    ];
    general.iter().any(|words| refusal.contains(words))
}

/// The refusals that are about the file itself, in full; of the other sources the names.
fn told(refusals: &[String]) -> String {
    let (mut general, mut own): (Vec<_>, Vec<_>) = refusals.iter().partition(|r| is_general(r));
    // That a file is none of a kind is no news where one that knows it has read on.
    if own.len() > 1 {
        let (other, knowing): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|r| r.contains("does not end as a"));
        (general, own) = ([general, other].concat(), knowing);
    }
    let kinds: Vec<&str> = general.iter().filter_map(|r| Some(r.split_once(": ")?.0)).collect();
    let mut said: Vec<String> = own.into_iter().cloned().collect();
    if !kinds.is_empty() {
        said.push(format!("not what {} read as it is", kinds.join(", ")));
    }
    said.join("; ")
}

/// What the file at `path`, or the first one in the folder `path`, holds; `None` where no
/// linked format knows it.
fn contents(path: &Path) -> Option<Result<(&'static str, Vec<Table>)>> {
    let file = match path.is_dir() {
        false => path.to_owned(),
        true => {
            let entries = std::fs::read_dir(path).ok()?.flatten().map(|entry| entry.path());
            let known = entries.filter(|path| path.is_file() && FormatPlugin::of(path).is_some());
            // Tables of labels lie beside the data, which are the larger.
            known.max_by_key(|path| std::fs::metadata(path).map_or(0, |m| m.len()))?
        }
    };
    let format = FormatPlugin::of(&file)?;
    let of = if path.is_dir() { format!(" of {}", file.display()) } else { String::new() };
    let table = |section: Section| Table {
        title: format!("{}{of}", section.title),
        heading: ["name", "shape", "holds", "unit"].map(str::to_owned).to_vec(),
        rows: section.parts.into_iter().map(part).collect(),
    };
    let sections = (format.sections)(&file);
    Some(sections.map(|all| (format.name, all.into_iter().map(table).collect())))
}

fn part(part: Part) -> Vec<String> {
    let shape = if part.shape.is_empty() { String::new() } else { format!("{:?}", part.shape) };
    vec![part.name, shape, part.holds, part.unit.unwrap_or_default()]
}

/// Opens `path` with a source; one that the user has not `named` must not reach out to other
/// machines.
fn open(
    plugin: &SourcePlugin,
    key: &str,
    path: &Path,
    mut table: toml::Table,
    named: bool,
) -> Result<Found> {
    table.insert(key.to_owned(), path.display().to_string().into());
    let kind = plugin.info.kind;
    let config = (plugin.parse)(table).map_err(|e| {
        let key = if e.path.is_empty() { String::new() } else { format!("{}: ", e.path) };
        Error::Misuse(format!("source.{key}{}", readable(&e.message)))
    })?;
    config.check()?;
    if !named && config.is_remote() {
        return Err(Error::Misuse("it lies on another machine; name the source".into()));
    }
    // The path stands in the table as the user gave it, and so in errors.
    let source = config.open(Path::new(""))?;
    let (objects, refusals) = first_objects(source.as_ref())?;
    let mut found = Found::new("data");
    found.fact("source", kind);
    found.fact("objects", source.len());
    found.refused = (refusals.len(), objects.len() + refusals.len());
    if let Some(error) = refusals.first() {
        let tried = objects.len() + refusals.len();
        found.fact("unusable", format!("{} of the first {tried}: {error}", refusals.len()));
    }
    if let Some(groups) = source.groups() {
        found.fact("groups", groups.starts.len());
    }
    let rows = fields(&objects);
    found.table("fields of the first objects", &FIELDS, rows);
    let heading = ["id", "labels"];
    let row = |o: &Observation| vec![o.id.clone(), labels(&o.labels)];
    found.table("first objects", &heading, objects.iter().map(row).collect());
    let labels = names(objects.iter().map(|o| &o.labels), &source.label_units());
    found.fact("labels", labels);
    Ok(found)
}

/// The names of labels, with the units of those that have one.
pub(super) fn names<'a>(all: impl Iterator<Item = &'a Labels>, units: &LabelUnits) -> String {
    let names: BTreeSet<&String> = all.flat_map(|labels| labels.keys()).collect();
    let name = |name: &String| match units.get(name) {
        Some(unit) => format!("{name} [{unit}]"),
        None => name.clone(),
    };
    let names: Vec<String> = names.into_iter().map(name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The first objects that can be read, and what is said of those before them that cannot.
fn first_objects(source: &dyn Source) -> Result<(Vec<Observation>, Vec<Error>)> {
    let (mut objects, mut refusals) = (Vec::new(), Vec::new());
    for index in 0..source.len().min(TRIED) {
        match source.read(index) {
            Ok(observation) => objects.push(observation),
            Err(error) => refusals.push(error),
        }
        if objects.len() == OBJECTS {
            break;
        }
    }
    if objects.is_empty() && !refusals.is_empty() {
        return Err(refusals.swap_remove(0));
    }
    Ok((objects, refusals))
}

/// The first labels of an object.
pub(super) fn labels(labels: &Labels) -> String {
    let show = |(name, label): (&String, &Label)| match label {
        Label::Number(number) => format!("{name}={}", in_full(*number)),
        Label::Text(text) => format!("{name}={text}"),
    };
    let mut shown: Vec<_> = labels.iter().take(LABELS).map(show).collect();
    if labels.len() > LABELS {
        shown.push(format!("and {} more", labels.len() - LABELS));
    }
    shown.join(" ")
}

/// A number with all its digits: an id, a time or a coordinate says little with six. Those that a
/// single-precision number has, where it is one.
fn in_full(x: f64) -> String {
    let single = x as f32;
    let size = x.abs();
    let plain = x == 0.0 || (1e-4..1e16).contains(&size) || !x.is_finite();
    match (plain, f64::from(single) == x && !(plain && x.fract() == 0.0)) {
        (true, true) => format!("{single}"),
        (true, false) => format!("{x}"),
        (false, true) => format!("{single:e}"),
        (false, false) => format!("{x:e}"),
    }
}

/// One row per field of any of the objects.
pub(super) fn fields(objects: &[Observation]) -> Vec<Vec<String>> {
    let mut all: BTreeMap<&String, Vec<&Field>> = BTreeMap::new();
    for (name, field) in objects.iter().flat_map(|o| &o.fields) {
        all.entry(name).or_default().push(field);
    }
    all.into_iter().map(|(name, fields)| row(name, &fields)).collect()
}

fn row(name: &str, fields: &[&Field]) -> Vec<String> {
    let listed = |all: BTreeSet<String>, by| all.into_iter().collect::<Vec<_>>().join(by);
    let shapes = fields.iter().map(|f| format!("{:?}", f.array.shape)).collect();
    let kinds = fields.iter().map(|f| kind(&f.array.data).to_owned()).collect();
    let units = fields.iter().filter_map(|f| f.unit.clone()).collect();
    let (mut least, mut most, mut bad) = (f64::INFINITY, f64::NEG_INFINITY, 0usize);
    for field in fields {
        each(&field.array.data, |x| {
            if x.is_finite() {
                (least, most) = (least.min(x), most.max(x));
            } else {
                bad += 1;
            }
        });
    }
    let number = |x: f64| if x.is_finite() { significant(x) } else { "-".to_owned() };
    vec![
        name.to_owned(),
        listed(shapes, " "),
        listed(kinds, " "),
        listed(units, ", "), // in which there may be blanks
        number(least),
        number(most),
        bad.to_string(),
    ]
}

fn kind(data: &Data) -> &'static str {
    match data {
        Data::U8(_) => "u8",
        Data::U16(_) => "u16",
        Data::F32(_) => "f32",
        Data::F64(_) => "f64",
        Data::I64(_) => "i64",
    }
}

fn each(data: &Data, mut take: impl FnMut(f64)) {
    match data {
        Data::U8(v) => v.iter().for_each(|&x| take(x.into())),
        Data::U16(v) => v.iter().for_each(|&x| take(x.into())),
        Data::F32(v) => v.iter().for_each(|&x| take(x.into())),
        Data::F64(v) => v.iter().for_each(|&x| take(x)),
        Data::I64(v) => v.iter().for_each(|&x| take(x as f64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_told_in_full() {
        for (number, said) in [
            (1.25e18, "1.25e18"),
            (f64::from(1e20_f32), "1e20"),
            (2_305_843_009_213_693.0, "2305843009213693"),
            (123_456_789.0, "123456789"),
            (-7.0, "-7"),
            (0.0, "0"),
            (2_459_580.123_456_7, "2459580.1234567"),
            (f64::from(0.3_f32), "0.3"),
            (150.119_12, "150.11912"),
            (1.25e-20, "1.25e-20"),
        ] {
            assert_eq!(in_full(number), said);
        }
        let of = Labels::from([("id".to_owned(), Label::Number(616_088_561_849.0))]);
        assert_eq!(labels(&of), "id=616088561849");
    }
}
