//! Numbers that are none among a model's: a checkpoint of a training that went astray.

use crate::engine::StateDict;

/// An array with numbers that are NaN or infinite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// How many of its numbers are NaN or infinite.
    pub(crate) bad: usize,
    /// How many numbers it has.
    pub(crate) of: usize,
}

/// The arrays of `tensors` with numbers that are NaN or infinite, by name.
pub(crate) fn not_finite(tensors: &StateDict) -> Vec<Bad<'_>> {
    let count = |data: &[f32]| data.iter().filter(|x| !x.is_finite()).count();
    let of = tensors.iter().map(|(name, tensor)| Bad {
        name,
        bad: count(&tensor.data),
        of: tensor.data.len(),
    });
    of.filter(|array| array.bad > 0).collect()
}

/// `all` in words, the first by the name that `named` gives it; `None` where there is none.
pub(crate) fn describe(all: &[Bad<'_>], named: impl Fn(&str) -> String) -> Option<String> {
    let first = all.first()?;
    let others = match all.len() - 1 {
        0 => String::new(),
        1 => ", and another array has some too".to_owned(),
        n => format!(", and {n} other arrays have some too"),
    };
    Some(format!(
        "{} has {} of {} values that are NaN or infinite{others}",
        named(first.name),
        first.bad,
        first.of
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::HostTensor;

    #[test]
    fn what_is_no_number_is_counted_by_array() {
        let tensor = |data: &[f32]| HostTensor { shape: vec![data.len()], data: data.to_vec() };
        let mut all = StateDict::from([
            ("a".to_owned(), tensor(&[1.0, f32::MAX])),
            ("b".to_owned(), tensor(&[f32::NAN, 0.0, f32::NEG_INFINITY])),
        ]);
        let said = |all: &StateDict| describe(&not_finite(all), |name| format!("x.{name}"));
        let one = "x.b has 2 of 3 values that are NaN or infinite";
        assert_eq!(said(&all).as_deref(), Some(one));
        all.insert("c".to_owned(), tensor(&[f32::INFINITY]));
        assert_eq!(said(&all), Some(format!("{one}, and another array has some too")));
        all.remove("b");
        all.remove("c");
        assert_eq!(said(&all), None);
    }
}
