//! Units that a file states and units that a recipe does.

use std::fmt::Display;

use astropt_core::observation::same_unit;

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
}
