//! Which objects of several sources are the same.

use std::collections::HashMap;

use astropt_core::observation::Label;
use astropt_core::seam::{Groups, Source};
use astropt_core::{Error, Result};

use super::config::MatchConfig;
use crate::sources::listing::without_extension;

/// The share of the largest part from which on objects left out are told even under `--quiet`.
const MANY: f64 = 0.05;

/// Stands for a part that an object lacks.
const ABSENT: u32 = u32::MAX;

/// What the objects of a part are called by the others.
pub(super) struct Keys {
    part: String,
    /// By place in the part; `None` for an object without the label that holds it.
    keys: Vec<Option<Box<str>>>,
    places: HashMap<Box<str>, u32>,
}

impl Keys {
    /// # Errors
    /// When two objects of the part are called alike, or a label cannot hold an id.
    pub(super) fn of(part: &str, source: &dyn Source, matching: &MatchConfig) -> Result<Self> {
        let fail = |message: String| Error::Misuse(format!("join, part {part:?}: {message}"));
        let (mut keys, mut places) = (Vec::with_capacity(source.len()), HashMap::new());
        for index in 0..source.len() {
            let key = key(source, index, matching).map_err(fail)?;
            let place = u32::try_from(index).ok().filter(|&place| place != ABSENT);
            let place = place.ok_or_else(|| fail("too many objects".to_owned()))?;
            if let Some(key) = &key
                && let Some(other) = places.insert(key.clone(), place)
            {
                let (one, two) = (source.id(other as usize), source.id(index));
                return Err(fail(format!(
                    "the objects {one:?} and {two:?} are both called {key:?}; name another label \
                     in match.{part}.label, or make one object of them"
                )));
            }
            keys.push(key);
        }
        Ok(Self { part: part.to_owned(), keys, places })
    }
}

/// What object `index` is called by other parts.
fn key(
    source: &dyn Source,
    index: usize,
    matching: &MatchConfig,
) -> std::result::Result<Option<Box<str>>, String> {
    let name = match &matching.label {
        None => source.id(index),
        Some(label) => match source.labels(index).remove(label) {
            None => return Ok(None),
            Some(Label::Text(text)) => text,
            Some(Label::Number(number)) if number.fract() == 0.0 && number.abs() < Label::EXACT => {
                format!("{number:.0}")
            }
            Some(Label::Number(number)) => {
                return Err(format!(
                    "the label {label:?} of the object {:?} is {number}; numbers that are not \
                     whole, or are 2^53 and more, are not kept exactly and cannot be ids: make \
                     them the part's own ids, or write them as text such as \"id-{number:.0}\"",
                    source.id(index)
                ));
            }
        },
    };
    let mut key = name.as_str();
    if let Some(prefix) = &matching.strip_prefix {
        key = key.strip_prefix(prefix.as_str()).unwrap_or(key);
    }
    if let Some(suffix) = &matching.strip_suffix {
        key = key.strip_suffix(suffix.as_str()).unwrap_or(key);
    }
    if matching.strip_extension {
        key = without_extension(key);
    }
    if key.is_empty() {
        return Err(format!("nothing is left of {name:?} once `match` has cut it"));
    }
    Ok(Some(key.into()))
}

/// The objects of a join and their places in the parts.
#[derive(Debug)]
pub(super) struct Matches {
    ids: Vec<Box<str>>,
    /// `parts` places per object.
    places: Vec<u32>,
    parts: usize,
}

impl Matches {
    /// Matches the parts, of which `required` are those an object must have; objects come in
    /// the order of the part `lead`.
    ///
    /// # Errors
    /// When no object has what is required.
    pub(super) fn new(keys: &[Keys], required: &[bool], lead: usize) -> Result<Self> {
        let mut out = Self { ids: Vec::new(), places: Vec::new(), parts: keys.len() };
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|&part| part != lead);
        for (turn, &part) in order.iter().enumerate() {
            for key in keys[part].keys.iter().flatten() {
                if order[..turn].iter().any(|&before| keys[before].places.contains_key(key)) {
                    continue;
                }
                let places = keys.iter().map(|k| k.places.get(key).copied().unwrap_or(ABSENT));
                let places: Vec<u32> = places.collect();
                if places.iter().zip(required).any(|(&place, &needed)| needed && place == ABSENT) {
                    continue;
                }
                out.ids.push(key.clone());
                out.places.extend(places);
            }
        }
        if out.ids.is_empty() {
            return Err(none(keys));
        }
        let unused = (0..keys.len()).find(|&part| {
            let places = out.places.iter().skip(part).step_by(out.parts.max(1));
            places.into_iter().all(|&place| place == ABSENT)
        });
        match unused {
            Some(part) => Err(idle(keys, part)),
            None => Ok(out),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn id(&self, index: usize) -> &str {
        self.ids.get(index).map_or("", |id| id)
    }

    /// Where object `index` is in each part.
    pub(super) fn places(&self, index: usize) -> impl Iterator<Item = Option<usize>> {
        let places = self.places.chunks(self.parts.max(1)).nth(index).unwrap_or_default();
        places.iter().map(|&place| (place != ABSENT).then_some(place as usize))
    }

    /// The groups of the join, given those of the part that leads its order.
    pub(super) fn groups(&self, lead: usize, of_lead: &Groups) -> Groups {
        let (mut starts, mut last) = (Vec::new(), None);
        for (object, places) in (0..).zip(self.places.chunks(self.parts.max(1))) {
            let place = places.get(lead).copied().unwrap_or(ABSENT);
            // What the part lacks is a group of its own, at the end.
            let group = of_lead.starts.partition_point(|&start| start <= place);
            let group = if place == ABSENT { usize::MAX } else { group };
            if last.replace(group) != Some(group) {
                starts.push(object);
            }
        }
        Groups { starts, held: of_lead.held, shards: vec![0] }
    }

    /// A line for every part of which objects are left out, or that some objects lack, and whether
    /// those left out are [many](MANY).
    pub(super) fn report(&self, keys: &[Keys]) -> Vec<(String, bool)> {
        let largest = keys.iter().map(|keys| keys.keys.len()).max().unwrap_or(0);
        let report = |(part, keys): (usize, &Keys)| {
            let of_part = self.places.iter().skip(part).step_by(self.parts.max(1));
            let used = of_part.filter(|&&place| place != ABSENT).count();
            let (total, objects) = (keys.keys.len(), self.ids.len());
            let nameless = keys.keys.iter().filter(|key| key.is_none()).count();
            if used == total && used == objects {
                return None;
            }
            let nameless = match nameless {
                0 => String::new(),
                n => format!(" ({n} of them lack the label that names them)"),
            };
            let many = (total - used) as f64 > MANY * largest as f64;
            let line = format!(
                "join: part {:?}: {used} of its {total} objects are used, {} are left out for want \
                 of a part that is required{nameless}; {} of the {objects} joined objects lack it",
                keys.part,
                total - used,
                objects - used
            );
            Some((line, many))
        };
        keys.iter().enumerate().filter_map(report).collect()
    }
}

/// How many objects each part has and what the first is called.
fn examples(keys: &[Keys]) -> String {
    let example = |keys: &Keys| {
        let first = keys.keys.iter().flatten().next();
        let first = first.map_or("nothing".to_owned(), |key| format!("{key:?}"));
        format!("{} of {:?}, the first {first}", keys.keys.len(), keys.part)
    };
    keys.iter().map(example).collect::<Vec<_>>().join("; ")
}

/// The error of parts that have no object in common.
fn none(keys: &[Keys]) -> Error {
    Error::Misuse(format!(
        "join: no object has all parts it must have; there are {}. Ids must be the same text: \
         choose or cut them with `match`, or loosen `require`",
        examples(keys)
    ))
}

/// The error of a part that is not required and of which nothing is used.
fn idle(keys: &[Keys], part: usize) -> Error {
    Error::Misuse(format!(
        "join: none of the objects of {:?} belongs to an object that is taken; there are {}. Ids \
         must be the same text: choose or cut them with `match`, or leave the part out",
        keys[part].part,
        examples(keys)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_left_out_are_many_from_a_share_of_the_largest_part_on() {
        let keys = |part: &str, count: u32| {
            let name = |k: u32| Box::<str>::from(k.to_string());
            let places = (0..count).map(|k| (name(k), k)).collect();
            Keys {
                part: part.to_owned(),
                keys: (0..count).map(|k| Some(name(k))).collect(),
                places,
            }
        };
        for (count, many) in [(96, false), (95, false), (94, true)] {
            let keys = [keys("a", 100), keys("b", count)];
            let matches = Matches::new(&keys, &[true, true], 0).expect("some");
            let report = matches.report(&keys);
            assert_eq!(report.len(), 1, "of the smaller part all are used");
            assert_eq!(report[0].1, many, "{}", report[0].0);
        }
    }
}
