//! What a few objects are made of: ids alone do not tell whether the rows behind them were
//! exchanged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::batch::Row;
use super::dataset::Dataset;
use crate::error::Result;

/// Objects that are looked at: the first that training draws, which it reads anyway.
const OBJECTS: u64 = 16;
/// Numbers of a buffer that are written down.
const NUMBERS: usize = 16;
/// How far apart the same number may be: decoders of images differ by a grey level from one
/// processor to another, which a patch's standardisation enlarges.
const APART: f32 = 0.05;

/// Some numbers of some objects, and what converted data say of themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witnesses {
    /// Digest of converted data; `None` of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converted: Option<String>,
    /// By id: of each modality the number of tokens, then numbers from all over them.
    pub objects: BTreeMap<String, Vec<f32>>,
}

impl Witnesses {
    /// Why `now` is not of the same data as these; `None` where nothing speaks against it.
    pub fn contradict(&self, now: &Self) -> Option<String> {
        if let (Some(then), Some(now)) = (&self.converted, &now.converted)
            && then != now
        {
            return Some("they were converted another time, or from others".into());
        }
        let other = self.objects.iter().find(|(id, then)| {
            now.objects.get(*id).is_some_and(|now| !alike(then, now)) // gone: training will tell
        });
        other.map(|(id, _)| format!("object {id} holds something else under its id"))
    }
}

/// Whether most of the numbers are the same.
fn alike(then: &[f32], now: &[f32]) -> bool {
    let near = |(a, b): &(&f32, &f32)| (*a - *b).abs() <= APART * (1.0 + a.abs());
    then.len() == now.len() && 2 * then.iter().zip(now).filter(near).count() >= then.len()
}

/// Numbers from all over the tokens of an object.
fn numbers(row: &Row) -> Vec<f32> {
    let mut out = Vec::new();
    for (_, tokens) in row {
        out.push(tokens.len as f32);
        let values = tokens.values.len();
        out.extend(places(values).filter_map(|k| tokens.values.get(k).copied()));
        out.extend(places(tokens.codes.len()).map(|k| tokens.codes[k] as f32));
        out.extend(places(tokens.positions.len()).map(|k| tokens.positions[k]));
    }
    out
}

/// At most [`NUMBERS`] places of `len`, evenly.
fn places(len: usize) -> impl Iterator<Item = usize> {
    let count = len.min(NUMBERS);
    (0..count).map(move |k| (2 * k + 1) * len / (2 * count))
}

impl Dataset {
    /// Looks at a few training objects. Those that cannot be used are left out.
    ///
    /// # Errors
    /// When files that hold objects cannot be had at all.
    pub fn witnesses(&self) -> Result<Witnesses> {
        let mut out = Witnesses {
            converted: self.objects().source.tokenised().and_then(|made| made.digest()),
            ..Witnesses::default()
        };
        for position in 0..OBJECTS.min(self.splits.train.len() as u64) {
            let index = self.draw(position, 0);
            match self.objects().read(index as usize) {
                Ok((observation, row)) => out.objects.insert(observation.id, numbers(&row)),
                Err(error) if error.ends_work() => return Err(error),
                Err(_) => None,
            };
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witnesses(id: &str, numbers: &[f32]) -> Witnesses {
        Witnesses { converted: None, objects: [(id.to_owned(), numbers.to_vec())].into() }
    }

    #[test]
    fn rows_that_were_exchanged_contradict_and_other_decoders_do_not() {
        let then = witnesses("a", &[4.0, 0.5, -1.0, 0.2]);
        assert_eq!(then.contradict(&then), None);
        assert_eq!(then.contradict(&witnesses("a", &[4.0, 0.52, -1.0, 0.6])), None);
        let other = then.contradict(&witnesses("a", &[4.0, -0.9, 1.0, 2.0]));
        assert!(other.is_some_and(|why| why.contains("object a ")));
        assert!(then.contradict(&witnesses("a", &[4.0, 0.5])).is_some(), "another length");
        assert_eq!(then.contradict(&witnesses("b", &[9.0])), None, "not there to compare");
        let converted = |digest: &str| Witnesses { converted: Some(digest.into()), ..then.clone() };
        assert!(converted("x").contradict(&converted("y")).is_some());
        assert_eq!(then.contradict(&converted("y")), None, "as the objects are");
    }

    #[test]
    fn places_are_spread_over_a_buffer() {
        assert_eq!(places(0).count(), 0);
        assert_eq!(places(3).collect::<Vec<_>>(), [0, 1, 2]);
        let many: Vec<usize> = places(3200).collect();
        assert_eq!((many.len(), many[0], many[15]), (16, 100, 3100));
    }
}
