//! Observations that are recorded to be tokenised again: as arrays of a safetensors file, each
//! number in its own type, with units and labels beside them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::arrays::{Arrays, byte_length};
use crate::data::Row;
use crate::observation::{Field, Labels, Observation};

/// Objects that are recorded at most, and objects looked at to find them.
const OBJECTS: usize = 2;
pub(crate) const LOOKED_AT: usize = 8;
/// Bytes of observations that are recorded at most: two 512 x 512 JPEGs.
pub(crate) const RAW_BYTES: usize = 2 << 20;
/// How far a number may be from the recorded one, in units of the largest of its array:
/// backends and processors sum in different orders.
pub(crate) const TOLERANCE: f64 = 1e-4;

/// What is recorded of an observation beside its arrays.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Recorded {
    /// Units by field; every field is named.
    fields: BTreeMap<String, Option<String>>,
    labels: Labels,
}

impl Recorded {
    /// Puts the arrays of `observation` among `arrays`, as `PREFIX.FIELD`.
    pub(crate) fn put(observation: &Observation, prefix: &str, arrays: &mut Arrays) -> Self {
        for (name, field) in &observation.fields {
            arrays.insert(format!("{prefix}.{name}"), field.array.clone());
        }
        let units =
            observation.fields.iter().map(|(name, field)| (name.clone(), field.unit.clone()));
        Self { fields: units.collect(), labels: observation.labels.clone() }
    }

    /// The observation `id` whose arrays are `PREFIX.FIELD` in `arrays`.
    ///
    /// # Errors
    /// When one of them is not there.
    pub(crate) fn get(
        &self,
        id: &str,
        prefix: &str,
        arrays: &Arrays,
    ) -> Result<Observation, String> {
        let field = |(name, unit): (&String, &Option<String>)| {
            let key = format!("{prefix}.{name}");
            let array = arrays.get(&key).ok_or_else(|| format!("it has no array {key}"))?.clone();
            Ok((name.clone(), Field { array, unit: unit.clone() }))
        };
        let fields = self.fields.iter().map(field).collect::<Result<_, String>>()?;
        Ok(Observation { id: id.to_owned(), fields, labels: self.labels.clone() })
    }
}

/// Bytes of the arrays of `observation`.
pub(crate) fn size(observation: &Observation) -> usize {
    observation.fields.values().map(|field| byte_length(&field.array.data)).sum()
}

/// The objects of `found` that tell most: the first, and the one that has most modalities that
/// the first lacks.
pub(crate) fn telling<T>(mut found: Vec<T>, row: impl Fn(&T) -> &Row) -> Vec<T> {
    let rest = found.split_off(found.len().min(1));
    let Some(first) = found.first() else { return found };
    let new = |of: &T| row(of).iter().filter(|s| row(first).iter().all(|f| f.0 != s.0)).count();
    let second = rest.into_iter().rev().max_by_key(new);
    found.extend(second);
    found.truncate(OBJECTS);
    found
}

/// Compares numbers with those recorded; what they are is said in `what`.
///
/// # Errors
/// When one is further off than `tolerance` times the largest recorded, or there are more or
/// fewer of them.
pub(crate) fn close(
    found: &[f32],
    recorded: &[f32],
    tolerance: f64,
    what: &str,
) -> Result<(), String> {
    if found.len() != recorded.len() {
        return Err(format!("{what} are {} numbers, {} recorded", found.len(), recorded.len()));
    }
    let largest = recorded.iter().fold(0.0f64, |max, &x| max.max(f64::from(x).abs()));
    let off = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).abs();
    // A NaN must not pass for a small difference.
    let worst = found
        .iter()
        .zip(recorded)
        .map(off)
        .fold(0.0, |max: f64, x| if x.is_nan() { f64::INFINITY } else { max.max(x) });
    if worst > tolerance * largest {
        return Err(format!(
            "{what} differ by up to {worst:.1e} ({:.1e} is allowed)",
            tolerance * largest
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Tokens;

    #[test]
    fn what_is_no_number_differs_from_every_number() {
        let compare = |found: &[f32], recorded: &[f32]| close(found, recorded, TOLERANCE, "x");
        assert!(compare(&[1.0, 2.0], &[1.0, 2.000_1]).is_ok());
        assert!(compare(&[1.0, 2.0], &[1.0, 2.001]).is_err());
        assert!(compare(&[1.0, f32::NAN], &[1.0, 2.0]).is_err());
        assert!(compare(&[1.0], &[1.0, 2.0]).is_err());
        assert!(compare(&[0.0], &[0.0]).is_ok());
    }

    #[test]
    fn the_second_object_has_what_the_first_lacks() {
        let row = |names: &str| -> Row {
            names.split(' ').map(|name| (name.to_owned(), Tokens::default())).collect()
        };
        let found: Vec<Row> = ["a", "a", "a b", "a b c", "b c"].map(row).into();
        let told = telling(found, |row| row);
        assert_eq!(told, [row("a"), row("a b c")]);
        assert!(telling(Vec::new(), |row: &Row| row).is_empty());
    }
}
