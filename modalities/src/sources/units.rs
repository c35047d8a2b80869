//! Units that a file states and units that a recipe does.

/// The unit of an array: the one its file states, or else the recipe's.
///
/// # Errors
/// When both do and differ: nothing is converted, so one of them is wrong.
pub(crate) fn settled(
    stated: Option<&str>,
    declared: Option<&str>,
) -> Result<Option<String>, String> {
    match (stated, declared) {
        (Some(stated), Some(declared)) if !same(stated, declared) => Err(format!(
            "the file states the unit {stated:?}, the recipe `unit = {declared:?}`, and nothing \
             is converted; leave `unit` out of the recipe, or write the file's"
        )),
        (stated, declared) => Ok(declared.or(stated).map(str::to_owned)),
    }
}

/// Whether two units are written alike, blanks aside.
pub(crate) fn same(a: &str, b: &str) -> bool {
    let bare = |unit: &str| unit.split_whitespace().collect::<String>();
    bare(a) == bare(b)
}

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
