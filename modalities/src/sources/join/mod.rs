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
//! differ it is unknown, and in two units it is an error.
//!
//! Objects come in the order of the leading part: the first by name of those that are best read
//! in groups, else of those required, else of all. Objects that it lacks follow in the order of
//! the other parts. How many objects of each part found no match is said when the join opens.

mod config;
mod matching;

use std::path::Path;

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

    fn pins(&self) -> Vec<Pin> {
        pins(self.parts.iter().map(|(name, part)| (name, part.pins())))
    }

    fn open(&self, root: &Path) -> Result<Box<dyn Source>> {
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
        let required = |part: &Part| match &self.require {
            Require::All => true,
            Require::Any => false,
            Require::Parts(names) => names.contains(&part.name),
        };
        let required: Vec<bool> = parts.iter().map(required).collect();
        let grouped = parts.iter().position(|part| part.source.groups().is_some());
        let lead = grouped.or_else(|| required.iter().position(|&r| r)).unwrap_or(0);
        let matches = Matches::new(&keys, &required, lead)?;
        for line in matches.report(&keys) {
            progress::say(&line);
        }
        let groups = parts[lead].source.groups().map(|groups| matches.groups(lead, &groups));
        let label_units = label_units(&parts).map_err(Error::Misuse)?;
        Ok(Box::new(Join { parts, matches, groups, label_units }))
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
        labels.retain(|name, _| !disputed.contains(name));
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
