//! Reading an observation's arrays of one axis, with errors that name object, field and
//! sample.

use std::borrow::Cow;

use astropt_core::observation::{Array, Data, Field, Observation, like_unit};
use astropt_core::{Error, Result};

/// An error about the field `name` of `observation`.
pub(crate) fn refuse(observation: &Observation, name: &str, message: impl AsRef<str>) -> Error {
    Error::object(&observation.id, format!("field {name:?} {}", message.as_ref()))
}

/// The field `name`, which must have one axis and a number at least; `None` without one.
pub(crate) fn series<'a>(observation: &'a Observation, name: &str) -> Result<Option<&'a Field>> {
    let Some(field) = observation.fields.get(name) else { return Ok(None) };
    let shape = &field.array.shape;
    match shape[..] {
        [0] => Err(refuse(observation, name, "is empty; leave such objects out")),
        [n] if n == field.array.data.len() => Ok(Some(field)),
        [n] => {
            let held = field.array.data.len();
            Err(refuse(observation, name, format!("says {n} numbers but holds {held}")))
        }
        _ => Err(refuse(
            observation,
            name,
            format!("has shape {shape:?}; an array of one axis is expected"),
        )),
    }
}

/// The numbers of the field `name`, which stands beside `of` with its `len` samples.
///
/// # Errors
/// When it is not there or has another length.
pub(crate) fn beside<'a>(
    observation: &'a Observation,
    name: &str,
    of: &str,
    len: usize,
) -> Result<&'a Data> {
    let Some(field) = series(observation, name)? else {
        let known: Vec<_> = observation.fields.keys().map(String::as_str).collect();
        return Err(Error::object(
            &observation.id,
            format!(
                "no field {name:?} beside {of:?}; it has {}: name the field in the recipe",
                known.join(", ")
            ),
        ));
    };
    let found = field.array.data.len();
    if found != len {
        return Err(refuse(observation, name, format!("has {found} samples, {of:?} has {len}")));
    }
    Ok(&field.array.data)
}

/// Refuses a field whose file states another unit than the recipe does.
pub(crate) fn check_unit(
    observation: &Observation,
    name: &str,
    declared: Option<&str>,
) -> Result<()> {
    let stated = observation.fields.get(name).and_then(|field| field.unit.as_deref());
    let (Some(declared), Some(stated)) = (declared, stated) else { return Ok(()) };
    if like_unit(declared, stated) {
        return Ok(());
    }
    Err(refuse(
        observation,
        name,
        format!(
            "is in {stated:?}, not in {declared:?} as the recipe says; numbers are not \
                 converted: state the file's unit, or leave such objects out"
        ),
    ))
}

/// Refuses fields of one quantity, such as values and their errors, whose file states different
/// units of them.
pub(crate) fn check_one_unit(observation: &Observation, of: &str, beside: &str) -> Result<()> {
    let stated = |name| observation.fields.get(name).and_then(|field| field.unit.as_deref());
    match (stated(of), stated(beside)) {
        (Some(unit), Some(other)) if !like_unit(unit, other) => Err(refuse(
            observation,
            beside,
            format!(
                "is in {other:?}, {of:?} in {unit:?}; numbers are not converted: write both in one \
                 unit"
            ),
        )),
        _ => Ok(()),
    }
}

/// Each number as an integer; `None` where it is none.
pub(crate) fn integers(data: &Data) -> Cow<'_, [Option<i64>]> {
    match data {
        Data::U8(v) => v.iter().map(|&x| Some(x.into())).collect(),
        Data::U16(v) => v.iter().map(|&x| Some(x.into())).collect(),
        Data::I64(v) => v.iter().map(|&x| Some(x)).collect(),
        Data::F32(_) | Data::F64(_) => data.to_f64().iter().map(|&x| integer(x)).collect(),
    }
}

/// `x` as an integer, where it is one that double precision holds exactly.
pub(crate) fn integer(x: f64) -> Option<i64> {
    const EXACT: f64 = (1u64 << 53) as f64;
    (x.fract() == 0.0 && x.abs() <= EXACT).then_some(x as i64)
}

/// Which samples a field of flags marks: those with any of `bits` set, by default any bit,
/// and those whose flag is no integer.
pub(crate) fn flagged(data: &Data, bits: Option<i64>) -> Vec<bool> {
    let bits = bits.unwrap_or(-1);
    integers(data).iter().map(|flag| flag.is_none_or(|flag| flag & bits != 0)).collect()
}

/// An object without anything, for a modality to make an example of.
pub(crate) fn example() -> Observation {
    Observation { id: "example".to_owned(), ..Observation::default() }
}

/// A field of single-precision numbers.
pub(crate) fn floats(numbers: Vec<f32>, unit: Option<&str>) -> Field {
    let array = Array { shape: vec![numbers.len()], data: Data::F32(numbers) };
    Field { array, unit: unit.map(str::to_owned) }
}

/// A field of double-precision numbers.
pub(crate) fn doubles(numbers: Vec<f64>, unit: Option<&str>) -> Field {
    let array = Array { shape: vec![numbers.len()], data: Data::F64(numbers) };
    Field { array, unit: unit.map(str::to_owned) }
}

/// A field of integers.
pub(crate) fn whole(numbers: Vec<i64>) -> Field {
    Field { array: Array { shape: vec![numbers.len()], data: Data::I64(numbers) }, unit: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_bits() {
        let flags = Data::I64(vec![0, 1, 4, 5, -1]);
        assert_eq!(flagged(&flags, None), [false, true, true, true, true]);
        assert_eq!(flagged(&flags, Some(4)), [false, false, true, true, true]);
        let floats = Data::F32(vec![0.0, f32::NAN, 0.5, 2.0]);
        assert_eq!(flagged(&floats, Some(1)), [false, true, true, false]);
    }

    #[test]
    fn only_whole_numbers_are_integers() {
        assert_eq!(integer(3.0), Some(3));
        for x in [0.5, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(integer(x), None, "{x}");
        }
    }
}
