//! The source `join`: several sources, their objects matched by id.
//!
//! ```toml
//! [source]
//! kind = "join"
//! require = ["images"]
//! [source.parts.images]
//! kind = "image-folder"
//! path = "images"
//! [source.parts.spectra]
//! kind = "npz"
//! path = "spectra.npz"
//! ids = "objid"
//! ```
//!
//! An object's id is what its parts are matched by: exactly the same text, after `match` has
//! said where it comes from. Its fields are those of all parts it has; an object without a part
//! simply lacks that part's fields. Two parts that give a field of the same name are an error,
//! which `prefix` resolves. A label that two parts give is kept where they agree; where they
//! differ it is unknown, which is said once a label, and in two units it is an error.
//!
//! Objects come in the order of the leading part: the first by name of those that are best read
//! in groups, else of those required, else of all. Objects that it lacks follow in the order of
//! the other parts. How many objects of each part found no match is said when the join opens.

mod config;
mod matching;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use astropt_core::observation::{Label, LabelUnits, Labels, Observation};
use astropt_core::seam::{ConfigType, Groups, Pin, PluginInfo, Source, SourceConfig, SourcePlugin};
use astropt_core::{Error, Result, progress};

pub use config::{JoinConfig, MatchConfig, Require};

use super::units::OneUnitEach;
use matching::{Keys, Matches};

/// The reader that [`JoinConfig`] opens.
struct Join {
    parts: Vec<Part>,
    matches: Matches,
    groups: Option<Groups>,
    label_units: LabelUnits,
    /// Labels of which it was said that parts differ on them.
    told: Mutex<BTreeSet<String>>,
}

/// One of the sources.
struct Part {
    name: String,
    source: Box<dyn Source>,
    prefix: String,
}

#[typetag::serde(name = "join")]
impl SourceConfig for JoinConfig {
    fn check(&self) -> Result<()> {
        let misuse = |message: String| Err(Error::Misuse(message));
        if self.parts.len() < 2 {
            return misuse("a join has at least two `parts`".to_owned());
        }
        let required = match &self.require {
            Require::Parts(names) if names.is_empty() => {
                return misuse("`require` is empty; write \"any\"".to_owned());
            }
            Require::Parts(names) => names.as_slice(),
            Require::All | Require::Any => &[],
        };
        let keys = [
            ("require", required.iter().collect::<Vec<_>>()),
            ("match", self.matching.keys().collect()),
            ("prefix", self.prefix.keys().collect()),
        ];
        for (key, names) in keys {
            if let Some(name) = names.into_iter().find(|name| !self.parts.contains_key(*name)) {
                let known: Vec<_> = self.parts.keys().map(String::as_str).collect();
                let known = known.join(", ");
                return misuse(format!("`{key}` names the part {name:?}; there are {known}"));
            }
        }
        for (name, part) in &self.parts {
            part.check().map_err(|e| Error::Misuse(format!("parts.{name}: {e}")))?;
        }
        Ok(())
    }

    fn is_remote(&self) -> bool {
        self.parts.values().any(|part| part.is_remote())
    }

    fn pins(&self) -> Vec<Pin> {
        pins(self.parts.iter().map(|(name, part)| (name, part.pins())))
    }

    fn open(&self, root: &Path) -> Result<Box<dyn Source>> {
        Ok(Box::new(self.join(root)?))
    }
}

impl JoinConfig {
    fn join(&self, root: &Path) -> Result<Join> {
        self.check()?;
        let root = root.join(&self.path);
        let (mut parts, mut keys) = (Vec::new(), Vec::new());
        for (name, config) in &self.parts {
            let source = config.open(&root)?;
            let matching = self.matching.get(name).cloned().unwrap_or_default();
            keys.push(Keys::of(name, &*source, &matching)?);
            let prefix = self.prefix.get(name).cloned().unwrap_or_default();
            parts.push(Part { name: name.clone(), source, prefix });
        }
        self.tell_placed(&parts);
        let required = |part: &Part| match &self.require {
            Require::All => true,
            Require::Any => false,
            Require::Parts(names) => names.contains(&part.name),
        };
        let required: Vec<bool> = parts.iter().map(required).collect();
        let grouped = parts.iter().position(|part| part.source.groups().is_some());
        let lead = grouped.or_else(|| required.iter().position(|&r| r)).unwrap_or(0);
        let matches = Matches::new(&keys, &required, lead)?;
        for (line, many) in matches.report(&keys) {
            if many { progress::warn(&line) } else { progress::say(&line) }
        }
        let groups = parts[lead].source.groups().map(|groups| matches.groups(lead, &groups));
        let label_units = label_units(&parts).map_err(Error::Misuse)?;
        let told = Mutex::default();
        Ok(Join { parts, matches, groups, label_units, told })
    }
}

impl JoinConfig {
    /// Warns of parts that name no objects and are matched by their ids all the same.
    fn tell_placed(&self, parts: &[Part]) {
        let by_id =
            |name: &String| self.matching.get(name).is_none_or(|matching| matching.label.is_none());
        let placed = parts.iter().filter(|part| part.source.ids_are_places() && by_id(&part.name));
        let placed: Vec<_> = placed.map(|part| part.name.as_str()).collect();
        if placed.len() > 1 {
            progress::warn(&format!(
                "join: the parts {} name no objects and are matched by their places in the files: a \
                 row that is missing or moved in one gives every later object another's data; name \
                 a column of ids in each, or a label in [source.match.PART]",
                placed.join(" and ")
            ));
        }
    }
}

/// The pins of parts as those of the whole.
fn pins<'a>(parts: impl Iterator<Item = (&'a String, Vec<Pin>)>) -> Vec<Pin> {
    let of = |(name, pins): (&'a String, Vec<Pin>)| {
        let whole = move |(keys, value): Pin| {
            (["parts".to_owned(), name.clone()].into_iter().chain(keys).collect(), value)
        };
        pins.into_iter().map(whole)
    };
    parts.flat_map(of).collect()
}

impl Join {
    /// The parts that object `index` has, with its place in each.
    fn of(&self, index: usize) -> impl Iterator<Item = (&Part, usize)> {
        let places = self.matches.places(index);
        self.parts.iter().zip(places).filter_map(|(part, place)| Some((part, place?)))
    }

    /// Says, the first time, that the parts of object `index` differ on the label `name`.
    fn tell_disputed(&self, index: usize, name: &str) {
        if let Some(line) = self.disputed(index, name) {
            progress::warn(&line);
        }
    }

    /// What to say of a label on which the parts of object `index` differ; `None` where it was asked
    /// before.
    fn disputed(&self, index: usize, name: &str) -> Option<String> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.insert(name.to_owned()) {
            return None;
        }
        let mut given: Vec<(&str, Label)> = Vec::new();
        for (part, place) in self.of(index) {
            let own = name.strip_prefix(part.prefix.as_str());
            let label = own.and_then(|own| part.source.labels(place).remove(own));
            given.extend(label.map(|label| (part.name.as_str(), label)));
        }
        let (first, value) = given.first()?;
        let (other, another) = given.iter().find(|(_, label)| !same(value, label))?;
        Some(format!(
            "join: the parts {first:?} and {other:?} differ on the label {name:?}, {} and {} of the \
             object {:?}: wherever they do it is unknown; tell the parts' labels apart with \
             `prefix`, or leave the label out of one",
            written(value),
            written(another),
            self.matches.id(index)
        ))
    }
}

/// The units of the parts' labels.
///
/// # Errors
/// When two parts give a label in different units.
fn label_units(parts: &[Part]) -> Result<LabelUnits, String> {
    let mut units = OneUnitEach::default();
    for part in parts {
        for (name, unit) in part.source.label_units() {
            let name = format!("{}{name}", part.prefix);
            units.add(&name, format!("the part {:?}", part.name), &unit).map_err(|message| {
                format!("join: {message}; or tell the parts' labels apart with `prefix`")
            })?;
        }
    }
    Ok(units.settled())
}

/// Adds the labels of a part; those that differ from another part's become unknown.
fn merge(labels: &mut Labels, disputed: &mut Vec<String>, part: &Part, more: Labels) {
    for (name, label) in more {
        let name = format!("{}{name}", part.prefix);
        match labels.get(&name) {
            Some(known) if !same(known, &label) => disputed.push(name),
            Some(_) => {}
            None => drop(labels.insert(name, label)),
        }
    }
}

/// A label as a message has it.
fn written(label: &Label) -> String {
    match label {
        Label::Number(number) => number.to_string(),
        Label::Text(text) => format!("{text:?}"),
    }
}

/// Whether two parts mean the same: tables are written with fewer digits than files hold.
fn same(a: &Label, b: &Label) -> bool {
    match (a, b) {
        (Label::Number(a), Label::Number(b)) => {
            (a - b).abs() <= f64::from(f32::EPSILON) * a.abs().max(b.abs())
        }
        _ => a == b,
    }
}

impl Source for Join {
    fn len(&self) -> usize {
        self.matches.len()
    }

    fn id(&self, index: usize) -> String {
        self.matches.id(index).to_owned()
    }

    fn ids_are_places(&self) -> bool {
        self.parts.iter().all(|part| part.source.ids_are_places())
    }

    fn labels(&self, index: usize) -> Labels {
        let (mut labels, mut disputed) = (Labels::new(), Vec::new());
        for (part, place) in self.of(index) {
            merge(&mut labels, &mut disputed, part, part.source.labels(place));
        }
        for name in &disputed {
            self.tell_disputed(index, name);
            labels.remove(name);
        }
        labels
    }

    fn label_units(&self) -> LabelUnits {
        self.label_units.clone()
    }

    fn groups(&self) -> Option<Groups> {
        self.groups.clone()
    }

    fn pins(&self) -> Vec<Pin> {
        pins(self.parts.iter().map(|part| (&part.name, part.source.pins())))
    }

    fn read(&self, index: usize) -> Result<Observation> {
        if index >= self.len() {
            let message = format!("there is no object {index}; the join has {}", self.len());
            return Err(Error::Failed(message));
        }
        let mut object = Observation { id: self.id(index), ..Default::default() };
        let mut from: Vec<(&str, String)> = Vec::new();
        for (part, place) in self.of(index) {
            for (name, field) in part.source.read(place)?.fields {
                let name = format!("{}{name}", part.prefix);
                if let Some((other, _)) = from.iter().find(|(_, known)| *known == name) {
                    return Err(Error::object(
                        &object.id,
                        format!(
                            "the parts {other:?} and {:?} both have a field {name:?}; tell them apart \
                         with `prefix`",
                            part.name
                        ),
                    ));
                }
                from.push((&part.name, name.clone()));
                object.fields.insert(name, field);
            }
        }
        object.labels = self.labels(index);
        Ok(object)
    }
}

astropt_core::inventory::submit! {
    SourcePlugin {
        info: PluginInfo {
            kind: "join",
            summary: "Several sources, their objects matched by id: images with spectra",
            example: "path = \"survey\"\n\
                      require = [\"images\"]\n\
                      parts.images = { kind = \"image-folder\", path = \"images\" }\n\
                      parts.stars = { kind = \"table\", path = \"stars.csv\", object = \"id\", \
                      layout = \"wide\" }\n\
                      match.images = { strip_prefix = \"stamp-\" }\n\
                      prefix = { stars = \"star_\" }",
            package: env!("CARGO_PKG_NAME"),
        },
        config: ConfigType::of::<JoinConfig>(),
        path_key: Some("path"),
        parse: |table| Ok(Box::new(config::parse(table)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_parts_differ_on_is_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in
            [("a.csv", "id,z,n\nx,1,1\ny,2,2\nw,5,5\n"), ("b.csv", "id,z\nx,1\ny,3\nw,6\n")]
        {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let open = |rest: &str| {
            let part = |name: &str| {
                format!(
                    "parts.{name} = {{ kind = 'table', path = '{name}.csv', object = 'id', \
                         layout = 'wide', fields = {{}} }}\n"
                )
            };
            let table = format!("path = '.'\n{}{}{rest}", part("a"), part("b"));
            let config = config::parse(toml::from_str(&table).expect("TOML")).expect("a join");
            config.join(folder.path()).expect("opens")
        };
        let join = open("");
        let line = join.disputed(1, "z").expect("told");
        for word in ["\"a\"", "\"b\"", "\"z\"", "2 and 3", "\"y\"", "`prefix`"] {
            assert!(line.contains(word), "no {word} in: {line}");
        }
        assert_eq!(join.disputed(2, "z"), None, "once");
        let join = open("");
        assert!(join.labels(0).contains_key("z") && join.told.lock().expect("free").is_empty());
        assert!(!join.labels(2).contains_key("z"));
        assert_eq!(join.told.lock().expect("free").iter().collect::<Vec<_>>(), ["z"]);
        let join = open("prefix.b = 'b_'");
        assert_eq!(join.labels(1)["b_z"], Label::Number(3.0));
        assert!(join.told.lock().expect("free").is_empty());
    }
}
