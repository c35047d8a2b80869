//! One unit for every field of all objects that are read: numbers in different units are not put
//! side by side.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::observation::{LabelUnits, Observation, like_unit, same_unit};
use crate::progress;
use crate::recipe::Modalities;
use crate::seam::Source;

/// What is known of the fields met so far: a list that only grows, so that nobody waits to read it.
#[derive(Debug, Default)]
pub(super) struct Units(OnceLock<Box<Known>>);

/// A field, and the first objects that had it.
#[derive(Debug)]
struct Known {
    field: String,
    /// The unit and the object that states it.
    stated: OnceLock<(String, String)>,
    /// An object that states none.
    bare: OnceLock<String>,
    /// Whether a person knows that there are both.
    told: AtomicBool,
    next: Units,
}

impl Units {
    fn of(&self, field: &str) -> &Known {
        let known = self.0.get_or_init(|| {
            Box::new(Known {
                field: field.to_owned(),
                stated: OnceLock::new(),
                bare: OnceLock::new(),
                told: AtomicBool::new(false),
                next: Self::default(),
            })
        });
        if known.field == field { known } else { known.next.of(field) }
    }

    /// Takes in the units of an object that is used. A field without one is taken to be in the
    /// unit of the others, which is said once.
    ///
    /// # Errors
    /// When a field is in another unit than in an object before: nothing is converted. It ends the
    /// work, so that no more than the words depend on which of the two was read first.
    pub(super) fn check(&self, object: &Observation) -> Result<()> {
        for (name, field) in &object.fields {
            let known = self.of(name);
            match &field.unit {
                Some(unit) => {
                    let first = || (unit.clone(), object.id.clone());
                    let (before, id) = known.stated.get_or_init(first);
                    if !same_unit(before, unit) {
                        return Err(Error::Failed(format!(
                            "the field {name:?} is in {unit:?} in the object {}, in {before:?} in \
                             the object {id}, and nothing is converted; write the files of all \
                             objects in one unit, or read those in one unit alone",
                            object.id
                        )));
                    }
                }
                None => drop(known.bare.get_or_init(|| object.id.clone())),
            }
            known.tell();
        }
        Ok(())
    }
}

impl Known {
    fn tell(&self) {
        let (Some((unit, stated)), Some(bare)) = (self.stated.get(), self.bare.get()) else {
            return;
        };
        if !self.told.load(Ordering::Relaxed) && !self.told.swap(true, Ordering::Relaxed) {
            progress::warn(&format!(
                "the field {:?} is in {unit:?} in the object {stated} and without a unit in the \
                 object {bare}: all are taken to be in {unit:?}",
                self.field
            ));
        }
    }
}

/// Units of labels: those that the recipe states, and of other labels those that the data do.
///
/// # Errors
/// When the recipe states another unit of a label than the data do, or two of one label.
pub(super) fn label_units(source: &dyn Source, modalities: &Modalities) -> Result<LabelUnits> {
    let mut units = source.label_units();
    let mut stated_by: BTreeMap<String, &str> = BTreeMap::new();
    for (name, modality) in modalities {
        for (label, declared) in modality.label_units() {
            if let Some(known) = units.get(&label).filter(|known| !like_unit(known, &declared)) {
                let place = stated_by.get(&label).map(|other| format!("in modality.{other}"));
                return Err(Error::Misuse(format!(
                    "modality.{name}: the label {label:?} is in {known:?} {}, not in {declared:?} \
                     as is said here, and nothing is converted; state the unit that its numbers \
                     are in",
                    place.unwrap_or_else(|| "in the data".to_owned())
                )));
            }
            // Also where it is written otherwise: data in `k` are those that a run had in `K`.
            stated_by.insert(label.clone(), name);
            units.insert(label, declared);
        }
    }
    Ok(units)
}

/// The first label that is in one unit in `then` and in another in `now`, with both.
pub(crate) fn other_label_unit<'a>(
    then: &'a LabelUnits,
    now: &'a LabelUnits,
) -> Option<(&'a str, [&'a str; 2])> {
    then.iter().find_map(|(label, then)| {
        let now = now.get(label).filter(|now| !same_unit(now, then))?;
        Some((label.as_str(), [then.as_str(), now.as_str()]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::{Array, Data, Field};

    fn object(id: &str, units: &[(&str, Option<&str>)]) -> Observation {
        let field = |&(name, unit): &(&str, Option<&str>)| {
            let array = Array { shape: vec![1], data: Data::U8(vec![1]) };
            (name.to_owned(), Field { array, unit: unit.map(str::to_owned) })
        };
        let fields = units.iter().map(field).collect();
        Observation { id: id.to_owned(), fields, ..Observation::default() }
    }

    #[test]
    fn whichever_object_comes_first_both_are_named() {
        let (a, b) = (("flux", Some("nanomaggy")), ("flux", Some("Jy")));
        for (first, second) in [(a, b), (b, a)] {
            let units = Units::default();
            units.check(&object("1", &[("error", Some("mag")), first])).expect("one unit");
            units.check(&object("2", &[("flux", None)])).expect("none stated");
            units.check(&object("3", &[("mask", None)])).expect("another field");
            let error = units.check(&object("4", &[second])).expect_err("another unit");
            assert!(error.ends_work());
            let error = error.to_string();
            for word in ["\"flux\"", "\"nanomaggy\"", "\"Jy\"", "object 1", "object 4"] {
                assert!(error.contains(word), "no {word} in: {error}");
            }
        }
    }

    #[test]
    fn any_number_of_threads_agree_on_one_unit() {
        let units = Units::default();
        let refused = std::thread::scope(|scope| {
            let read = |k: usize| {
                let units = &units;
                let unit = if k.is_multiple_of(2) { "mJy" } else { "MJy" };
                scope.spawn(move || {
                    let names = (0..40).map(|n| format!("field {n}")).collect::<Vec<_>>();
                    let fields: Vec<_> = names.iter().map(|n| (n.as_str(), Some(unit))).collect();
                    units.check(&object(unit, &fields)).is_err()
                })
            };
            let threads: Vec<_> = (0..8).map(read).collect();
            threads.into_iter().map(|t| t.join().expect("no panic")).collect::<Vec<_>>()
        });
        let count = refused.iter().filter(|&&refused| refused).count();
        assert!((1..8).contains(&count), "of two units met by threads one is refused: {refused:?}");
    }
}
