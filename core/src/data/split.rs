//! Which objects train, validate and test: a property of each object, never of its place
//! in a file.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::tile::{TileConfig, check_degrees};
use crate::error::{Error, Result};
use crate::observation::{Label, Labels};
use crate::progress;
use crate::recipe::SplitConfig;
use crate::seam::Source;

/// A part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Objects the weights are fitted to.
    Train,
    /// Objects the training is watched on.
    Validation,
    /// Objects kept for the end.
    Test,
}

impl Split {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// Indices of a source's objects by split, each ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splits {
    /// Training objects.
    pub train: Vec<u32>,
    /// Validation objects.
    pub validation: Vec<u32>,
    /// Test objects.
    pub test: Vec<u32>,
}

impl Splits {
    /// Splits the objects of `source`.
    ///
    /// # Errors
    /// When the split column is missing or holds other values than the recipe names, places are not
    /// in degrees, or when there are no objects.
    pub fn of(source: &dyn Source, config: &SplitConfig) -> Result<Self> {
        let mut splits = Self::default();
        if source.len() > u32::MAX as usize {
            let message = format!("{} objects are more than one run can hold", source.len());
            return Err(Error::Failed(message));
        }
        if let Some(tile) = &config.tile {
            check_degrees(&source.label_units(), &tile.ra, &tile.dec)?;
        }
        let (mut placeless, mut alone) = (0, 0);
        for index in 0..source.len() {
            if crate::stop::asked() {
                return Err(crate::stop::stopped(" before all objects were looked at"));
            }
            let id = source.id(index);
            let split = match &config.column {
                Some(column) => by_label(&id, &source.labels(index), column, config)?,
                None if config.group.is_none() && config.tile.is_none() => by_hash(&id, config),
                None => {
                    let labels = source.labels(index);
                    let key = split_key(&id, &labels, config)?;
                    let grouped =
                        config.group.as_ref().is_none_or(|group| labels.contains_key(group));
                    alone += usize::from(!grouped);
                    placeless += usize::from(config.tile.is_some() && key == id);
                    by_hash(&key, config)
                }
            };
            splits.get_mut(split).push(index as u32);
        }
        if config.column.is_none() && source.ids_are_places() {
            progress::warn(
                "the data name no objects, so that splits go by their places in the files: in other \
                 files, or in another order, objects that trained a model can be taken for ones that \
                 did not; name a column of ids in [source], or split by a label (split.column)",
            );
        }
        if let Some(tile) = &config.tile {
            tell_placeless(placeless, source.len(), tile)?;
        }
        if let Some(group) = &config.group {
            tell_alone(alone, source.len(), group)?;
        }
        if source.is_empty() {
            return Err(Error::Failed("there are no objects in the data".to_owned()));
        }
        Ok(splits)
    }

    /// Checks that there is something to train on.
    ///
    /// # Errors
    /// When no object is of the training split.
    pub(super) fn check_training(&self) -> Result<()> {
        match self.train.is_empty() {
            false => Ok(()),
            true => Err(Error::Failed(format!(
                "none of the {} objects is left for training; change [split] or add data",
                self.validation.len() + self.test.len()
            ))),
        }
    }

    /// The objects of `split`.
    pub fn get(&self, split: Split) -> &[u32] {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        }
    }

    fn get_mut(&mut self, split: Split) -> &mut Vec<u32> {
        match split {
            Split::Train => &mut self.train,
            Split::Validation => &mut self.validation,
            Split::Test => &mut self.test,
        }
    }
}

fn by_label(id: &str, labels: &Labels, column: &str, config: &SplitConfig) -> Result<Split> {
    let value = match labels.get(column) {
        Some(Label::Text(text)) => text.clone(),
        Some(Label::Number(number)) => number.to_string(),
        None => {
            let known: Vec<_> = labels.keys().map(String::as_str).collect();
            return Err(Error::object(
                id,
                format!(
                    "no label {column:?} to split by (split.column); it has {}",
                    if known.is_empty() { "no labels".to_owned() } else { known.join(", ") }
                ),
            ));
        }
    };
    let named = [
        (Split::Train, &config.train),
        (Split::Validation, &config.validation),
        (Split::Test, &config.test),
    ];
    named
        .into_iter()
        .find(|(_, values)| values.contains(&value))
        .map(|(split, _)| split)
        .ok_or_else(|| {
            Error::object(
                id,
                format!(
                    "label {column} is {value:?}, which is none of split.train, split.validation \
                     and split.test"
                ),
            )
        })
}

/// What object `id` is hashed by where objects with the same label `group` stay together.
pub fn group_key(id: &str, labels: &Labels, group: &str) -> String {
    match labels.get(group) {
        Some(Label::Text(text)) => text.clone(),
        Some(Label::Number(number)) => number.to_string(),
        None => id.to_owned(),
    }
}

/// What object `id` is hashed by: its `split.group`, its `split.tile`, or its id where it has
/// none or the recipe names neither.
///
/// # Errors
/// When its coordinates are no place on the sky.
pub fn split_key(id: &str, labels: &Labels, config: &SplitConfig) -> Result<String> {
    match (&config.group, &config.tile) {
        (Some(group), _) => Ok(group_key(id, labels, group)),
        (None, Some(tile)) => Ok(tile.key(id, labels)?.unwrap_or_else(|| id.to_owned())),
        (None, None) => Ok(id.to_owned()),
    }
}

/// Says how many objects are of no group; refuses a recipe that names a label nobody has.
fn tell_alone(alone: usize, all: usize, group: &str) -> Result<()> {
    if alone == all && all > 0 {
        let message = format!("no object has the label {group:?} that split.group names");
        return Err(Error::Failed(message));
    }
    if alone > 0 {
        progress::warn(&format!(
            "{alone} of {all} objects have no label {group:?} (split.group): each is split by its id"
        ));
    }
    Ok(())
}

/// Says how many objects have no coordinates; refuses a recipe that names labels nobody has.
fn tell_placeless(placeless: usize, all: usize, tile: &TileConfig) -> Result<()> {
    if placeless == all && all > 0 {
        return Err(Error::Failed(format!(
            "no object has the labels {:?} and {:?}, in degrees, that split.tile names",
            tile.ra, tile.dec
        )));
    }
    if placeless > 0 {
        crate::progress::warn(&format!(
            "{placeless} of {all} objects have no {} and {}: they are split by their ids",
            tile.ra, tile.dec
        ));
    }
    Ok(())
}

fn by_hash(id: &str, config: &SplitConfig) -> Split {
    let place = unit_hash(id, config.seed);
    if place < config.test_fraction {
        Split::Test
    } else if place < config.test_fraction + config.validation_fraction {
        Split::Validation
    } else {
        Split::Train
    }
}

/// A number in [0, 1) that depends on `id` and `seed` alone.
pub fn unit_hash(id: &str, seed: u64) -> f64 {
    // 53 bits fill a double's mantissa.
    (xxh3_64_with_seed(id.as_bytes(), seed) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_split_keeps_its_fractions_and_does_not_move() {
        let config =
            SplitConfig { validation_fraction: 0.2, test_fraction: 0.1, ..SplitConfig::default() };
        let splits: Vec<_> = (0..10_000).map(|k| by_hash(&format!("o{k}"), &config)).collect();
        let count = |split| splits.iter().filter(|&&s| s == split).count();
        assert!((1850..2150).contains(&count(Split::Validation)));
        assert!((900..1100).contains(&count(Split::Test)));
        assert_eq!(by_hash("o17", &config), splits[17]);
    }

    #[test]
    fn objects_of_a_group_stay_together() {
        let labels = Labels::from([("source".to_owned(), Label::Text("s1".into()))]);
        assert_eq!(group_key("a", &labels, "source"), group_key("b", &labels, "source"));
        assert_eq!(group_key("a", &Labels::new(), "source"), "a");
        let both = SplitConfig {
            column: Some("s".into()),
            group: Some("source".into()),
            ..SplitConfig::default()
        };
        assert_eq!(both.check().expect_err("both").0, "group");
        let tile = TileConfig { ra: "ra".into(), dec: "dec".into(), degrees: 1.0 };
        let both = SplitConfig { column: None, tile: Some(tile), ..both };
        assert_eq!(both.check().expect_err("both").0, "tile");
    }

    #[test]
    fn a_split_column_is_read_by_the_recipes_words() {
        let config = SplitConfig { column: Some("s".into()), ..SplitConfig::default() };
        let labels = |text: &str| Labels::from([("s".to_owned(), Label::Text(text.into()))]);
        let of = |text: &str| by_label("x", &labels(text), "s", &config);
        assert_eq!(of("val").expect("known"), Split::Validation);
        let error = of("hold-out").expect_err("unknown");
        assert!(error.to_string().contains("hold-out"), "{error}");
        assert!(by_label("x", &Labels::new(), "s", &config).is_err());
    }
}
