//! What a few objects are made of: ids alone do not tell whether the rows behind them were
//! exchanged.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::batch::Row;
use super::dataset::Dataset;
use super::split::Split;
use super::units::other_label_unit;
use crate::error::Result;
use crate::observation::{LabelUnits, same_unit};
use crate::tokens::Tokens;

/// Training objects that are looked at: the first that training draws, which it reads anyway.
const TRAINED: u64 = 16;
/// Objects of each other split that are looked at, where all data are at hand.
const HELD_OUT: usize = 8;
/// Objects that are asked for the names of their labels.
const LABELLED: usize = 4096;
/// Numbers of a buffer that are written down.
const NUMBERS: usize = 16;
/// How far apart the same number may be, as a share of the object's own spread: decoders of images
/// differ by a grey level from one processor to another, which a patch's standardisation enlarges.
const APART: f64 = 0.05;

/// Some numbers of some objects, and what converted data say of themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witnesses {
    /// Digest of converted data; `None` of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converted: Option<String>,
    /// Units of fields that state one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<String, String>,
    /// Units of labels that state one; nothing in runs of earlier versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub label_units: LabelUnits,
    /// By id and modality.
    pub objects: BTreeMap<String, BTreeMap<String, Witness>>,
}

/// What is known of an object in a modality.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// How many tokens it has.
    pub tokens: usize,
    /// Numbers from all over them; of codes, the codes.
    pub numbers: Vec<f32>,
}

impl Witnesses {
    /// What is known of the object `id`, which became `row`.
    pub(crate) fn of_object(id: &str, row: &Row) -> Self {
        let row = row.iter().map(|(name, tokens)| (name.clone(), Witness::of(tokens)));
        Self { objects: [(id.to_owned(), row.collect())].into(), ..Self::default() }
    }

    /// Why `now` is not of the same data as these; `None` where nothing speaks against it.
    pub fn contradict(&self, now: &Self) -> Option<String> {
        if let (Some(then), Some(now)) = (&self.converted, &now.converted)
            && then != now
        {
            return Some("they were converted another time, or from others".into());
        }
        if let Some(why) = self.other_unit(now) {
            return Some(why);
        }
        self.objects.iter().find_map(|(id, then)| {
            let now = now.objects.get(id)?; // gone: training will tell
            let other =
                then.iter().find(|(name, then)| now.get(*name).is_some_and(|n| !then.like(n)));
            let what = match other {
                Some((name, _)) => name,
                None => then.keys().find(|name| !now.contains_key(*name))?,
            };
            Some(format!("object {id} holds something else under its id ({what})"))
        })
    }

    /// The first field or label that `now` has in another unit: no numbers are converted, and a
    /// model takes all for what it was trained on.
    pub fn other_unit(&self, now: &Self) -> Option<String> {
        let field = self.units.iter().find_map(|(field, then)| {
            let now = now.units.get(field).filter(|now| !same_unit(now, then))?;
            Some(format!("the field {field:?} was in {then:?} and is in {now:?}"))
        });
        field.or_else(|| {
            let (label, [then, now]) = other_label_unit(&self.label_units, &now.label_units)?;
            Some(format!("the label {label:?} was in {then:?} and is in {now:?}"))
        })
    }
}

impl Witness {
    fn of(tokens: &Tokens) -> Self {
        let (values, codes) = (&tokens.values, &tokens.codes);
        let mut numbers: Vec<f32> =
            places(values.len()).filter_map(|k| values.get(k).copied()).collect();
        numbers.extend(places(codes.len()).map(|k| codes[k] as f32));
        Self { tokens: tokens.len, numbers }
    }

    /// Whether most of the numbers are the same.
    fn like(&self, now: &Self) -> bool {
        let squares: f64 = self.numbers.iter().map(|&x| f64::from(x).powi(2)).sum();
        let spread = (squares / self.numbers.len().max(1) as f64).sqrt();
        let near =
            |(a, b): &(&f32, &f32)| (f64::from(**a) - f64::from(**b)).abs() <= APART * spread;
        let same = self.numbers.iter().zip(&now.numbers).filter(near).count();
        (self.tokens, self.numbers.len()) == (now.tokens, now.numbers.len())
            && 2 * same >= self.numbers.len()
    }
}

/// At most [`NUMBERS`] places of `len`, evenly.
fn places(len: usize) -> impl Iterator<Item = usize> {
    let count = len.min(NUMBERS);
    (0..count).map(move |k| (2 * k + 1) * len / (2 * count))
}

impl Dataset {
    /// Looks at a few objects. Those that cannot be used are left out.
    ///
    /// # Errors
    /// When files that hold objects cannot be had at all.
    pub fn witnesses(&self) -> Result<Witnesses> {
        let source = &self.objects().source;
        let mut out = Witnesses {
            converted: source.tokenised().and_then(|made| made.digest()),
            label_units: self.label_units().clone(),
            ..Witnesses::default()
        };
        let count = TRAINED.min(self.splits.train.len() as u64);
        let mut looked_at: Vec<u32> = (0..count).map(|position| self.draw(position, 0)).collect();
        // Where files must be fetched first, only those that training begins with.
        if count == 0 || self.all_at_hand() {
            for split in [Split::Validation, Split::Test] {
                looked_at.extend(self.splits.get(split).iter().take(HELD_OUT));
            }
        }
        for index in looked_at {
            match self.objects().read(index as usize) {
                Ok((observation, row)) => {
                    out.objects.extend(Witnesses::of_object(&observation.id, &row).objects);
                    let stated = observation.fields.into_iter();
                    out.units.extend(stated.filter_map(|(name, field)| Some((name, field.unit?))));
                }
                Err(error) if error.ends_work() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(out)
    }

    /// Whether no file of the data may have to be fetched first.
    pub(super) fn all_at_hand(&self) -> bool {
        self.objects().source.groups().is_none_or(|groups| groups.shards.len() < 2)
    }

    /// Names of the labels of some objects from all over the data; `None` where files might have to
    /// be fetched for them.
    pub(crate) fn label_names(&self) -> Option<BTreeSet<String>> {
        let step = self.len().div_ceil(LABELLED).max(1);
        let some = (0..self.len() as u32).step_by(step);
        self.all_at_hand().then(|| some.flat_map(|index| self.labels(index).into_keys()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness(tokens: usize, numbers: &[f32]) -> Witness {
        Witness { tokens, numbers: numbers.to_vec() }
    }

    fn witnesses(id: &str, of: &[(&str, Witness)]) -> Witnesses {
        let of = of.iter().map(|(name, witness)| ((*name).to_owned(), witness.clone()));
        Witnesses { objects: [(id.to_owned(), of.collect())].into(), ..Witnesses::default() }
    }

    #[test]
    fn rows_that_were_exchanged_contradict_and_other_decoders_do_not() {
        let one = |numbers: &[f32]| witnesses("a", &[("images", witness(4, numbers))]);
        let then = one(&[0.5, -1.0, 0.2]);
        assert_eq!(then.contradict(&then), None);
        assert_eq!(then.contradict(&one(&[0.52, -1.0, 0.6])), None);
        let other = then.contradict(&one(&[-0.9, 1.0, 2.0]));
        assert!(other.is_some_and(|why| why.contains("object a ") && why.contains("images")));
        assert!(then.contradict(&one(&[0.5])).is_some(), "another length");
        let longer = witnesses("a", &[("images", witness(5, &[0.5, -1.0, 0.2]))]);
        assert!(then.contradict(&longer).is_some(), "another number of tokens");
        assert_eq!(then.contradict(&witnesses("b", &[])), None, "not there to compare");
        assert!(then.contradict(&witnesses("a", &[])).is_some(), "without its image");
        // However faint.
        let [then, now] = [[3e-3, 1e-3, -2e-3], [1e-3, -2e-3, 3e-3]].map(|numbers| one(&numbers));
        assert!(then.contradict(&now).is_some());
        let converted = |digest: &str| Witnesses { converted: Some(digest.into()), ..then.clone() };
        assert!(converted("x").contradict(&converted("y")).is_some());
        assert_eq!(then.contradict(&converted("y")), None, "as the objects are");
    }

    #[test]
    fn a_label_has_the_unit_that_it_had() {
        let of = |units: &[(&str, &str)]| {
            let units = units.iter().map(|&(label, unit)| (label.to_owned(), unit.to_owned()));
            Witnesses { label_units: units.collect(), ..witnesses("a", &[]) }
        };
        let then = of(&[("mag", "mag"), ("flux", "mJy")]);
        for now in [&[][..], &[("flux", "m Jy")], &[("radius", "arcsec"), ("mag", "mag")]] {
            assert_eq!(then.contradict(&of(now)), None, "{now:?}");
            assert_eq!(of(now).contradict(&then), None, "{now:?}");
        }
        let why = then.contradict(&of(&[("flux", "MJy")]));
        assert_eq!(why.as_deref(), Some("the label \"flux\" was in \"mJy\" and is in \"MJy\""));
    }

    /// No modality that stayed speaks for one that did not.
    #[test]
    fn every_modality_speaks_for_itself() {
        let both = |flux: &[f32]| {
            let image = witness(9, &[0.5; 16]);
            witnesses("a", &[("images", image), ("spectra", witness(2, flux))])
        };
        let why = both(&[1.0, 2.0]).contradict(&both(&[2.0, 1.0]));
        assert!(why.is_some_and(|why| why.contains("spectra")));
    }

    #[test]
    fn places_are_spread_over_a_buffer() {
        assert_eq!(places(0).count(), 0);
        assert_eq!(places(3).collect::<Vec<_>>(), [0, 1, 2]);
        let many: Vec<usize> = places(3200).collect();
        assert_eq!((many.len(), many[0], many[15]), (16, 100, 3100));
    }
}
