//! Units that a file states and units that a recipe does.

use std::collections::BTreeMap;
use std::fmt::Display;

use astropt_core::observation::{LabelUnits, same_unit};

/// The unit of an array: the one its file states, or else the recipe's.
///
/// # Errors
/// When both do and differ: nothing is converted, so one of them is wrong.
pub(crate) fn settled(
    stated: Option<&str>,
    declared: Option<&str>,
) -> Result<Option<String>, String> {
    match (stated, declared) {
        (Some(stated), Some(declared)) if !same_unit(stated, declared) => Err(format!(
            "the file states the unit {stated:?}, the recipe `unit = {declared:?}`, and nothing \
             is converted; leave `unit` out of the recipe, or write the file's"
        )),
        (stated, declared) => Ok(declared.or(stated).map(str::to_owned)),
    }
}

/// One unit of numbers from several places, and the place that states it first.
#[derive(Debug)]
pub(crate) struct OneUnit<P>(Option<(P, String)>);

impl<P> Default for OneUnit<P> {
    fn default() -> Self {
        Self(None)
    }
}

impl<P: Display> OneUnit<P> {
    /// Takes in what `place` states; where it states nothing, its numbers have the unit of the
    /// others.
    ///
    /// # Errors
    /// When it is another unit than before: nothing is converted.
    pub(crate) fn add(&mut self, place: P, stated: Option<&str>) -> Result<(), String> {
        match (&self.0, stated) {
            (_, None) => Ok(()),
            (None, Some(unit)) => {
                self.0 = Some((place, unit.to_owned()));
                Ok(())
            }
            (Some((_, first)), Some(unit)) if same_unit(first, unit) => Ok(()),
            (Some((before, first)), Some(unit)) => Err(format!(
                "{place} states the unit {unit:?}, {before} the unit {first:?}, and nothing is \
                 converted"
            )),
        }
    }

    /// The unit and the place that states it, if any does.
    pub(crate) fn settled(self) -> Option<(P, String)> {
        self.0
    }
}

/// Units of labels from several places.
#[derive(Debug)]
pub(crate) struct OneUnitEach<P>(BTreeMap<String, OneUnit<P>>);

impl<P> Default for OneUnitEach<P> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<P: Display> OneUnitEach<P> {
    /// Takes in the unit that `place` states of `label`; see [`OneUnit::add`].
    ///
    /// # Errors
    /// When it is another unit than before: nothing is converted.
    pub(crate) fn add(&mut self, label: &str, place: P, stated: &str) -> Result<(), String> {
        if !self.0.contains_key(label) {
            self.0.insert(label.to_owned(), OneUnit::default());
        }
        let unit = self.0.get_mut(label);
        unit.map_or(Ok(()), |unit| unit.add(place, Some(stated))).map_err(|message| {
            format!(
                "label {label:?}: {message}; write it in one unit, or name in the recipe the labels \
                 that are wanted, without it"
            )
        })
    }

    /// The unit of each label that has one.
    pub(crate) fn settled(self) -> LabelUnits {
        self.0.into_iter().filter_map(|(label, unit)| Some((label, unit.settled()?.1))).collect()
    }
}

/// The way out where files of one source state different units.
pub(crate) const ONE_UNIT: &str = "write them in one unit, or read those in one unit alone";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_units_that_differ_are_an_error() {
        let unit = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(settled(None, None), Ok(None));
        assert_eq!(settled(Some("nm"), None), unit("nm"));
        assert_eq!(settled(None, Some("nm")), unit("nm"));
        assert_eq!(settled(Some("erg /s"), Some("erg/s")), unit("erg/s"));
        let error = settled(Some("nm"), Some("Angstrom")).expect_err("differ");
        assert!(error.contains("\"nm\"") && error.contains("\"Angstrom\""), "{error}");
    }

    #[test]
    fn every_label_has_a_unit_of_its_own() {
        let mut units = OneUnitEach::default();
        units.add("mag", "a", "mag").expect("the first");
        units.add("flux", "b", "mJy").expect("another label");
        units.add("flux", "c", "m Jy").expect("the same");
        let error = units.add("flux", "d", "MJy").expect_err("another");
        for word in ["\"flux\"", "b ", "d ", "\"mJy\"", "\"MJy\"", "the labels"] {
            assert!(error.contains(word), "no {word} in: {error}");
        }
        let units = units.settled();
        assert_eq!((units.len(), units["flux"].as_str(), units["mag"].as_str()), (2, "mJy", "mag"));
    }
}
