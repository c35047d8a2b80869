//! What a probe is given: features, settings, and which objects train and which are held out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Numbers that describe objects, row-major `[n, width]`: embeddings or pixels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// Number of objects.
    pub n: usize,
    /// Numbers an object.
    pub width: usize,
    /// `n * width` numbers.
    pub data: Vec<f32>,
}

impl Features {
    /// Features of `width` numbers an object.
    ///
    /// # Errors
    /// When `data` is not a whole number of rows.
    pub fn new(width: usize, data: Vec<f32>) -> Result<Self> {
        if width == 0 || !data.len().is_multiple_of(width) {
            return Err(Error::Failed(format!(
                "{} numbers are no whole number of rows of {width}",
                data.len()
            )));
        }
        Ok(Self { n: data.len() / width, width, data })
    }

    /// The features of some objects, by row, in the order given.
    #[must_use]
    pub fn rows(&self, rows: &[usize]) -> Self {
        let data = rows.iter().flat_map(|&row| self.row(row)).copied().collect();
        Self { n: rows.len(), width: self.width, data }
    }

    /// The features of one object.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.data[index * self.width..(index + 1) * self.width]
    }
}

/// The model that reads a label from features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Ordinary least squares with an intercept, as the paper; the solution of least norm
    /// (in standardised features) where there is more than one.
    #[default]
    Ols,
    /// Least squares with a penalty `alpha * |w|^2` on the weights of the standardised
    /// features; the intercept is free.
    Ridge,
    /// The mean of the nearest fitted objects, by standardised features; how many is chosen on
    /// the fitted objects.
    Knn,
    /// A network of one hidden layer of 64 rectified units; its weight decay, and when to stop,
    /// are chosen by a fifth of the fitted objects.
    Mlp,
}

impl Method {
    /// Its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ols => "least squares",
            Self::Ridge => "ridge",
            Self::Knn => "k-NN",
            Self::Mlp => "MLP",
        }
    }
}

/// The penalty of [`Method::Ridge`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Alpha {
    /// Chosen on the training objects alone, by the least leave-one-out error over a
    /// logarithmic grid of `n * 10^-6 ... n * 10^3`, four steps a decade.
    #[default]
    Auto,
    /// This one, in scikit-learn's units: the squared error is summed over objects and the
    /// features have unit variance.
    Fixed(f64),
}

/// How [`Alpha`] is written in a recipe: `"auto"` or a number.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected \"auto\" or a number of at least 0")]
enum AlphaWritten {
    Number(f64),
    Word(AlphaWord),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AlphaWord {
    Auto,
}

impl Serialize for Alpha {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => AlphaWritten::Word(AlphaWord::Auto).serialize(serializer),
            Self::Fixed(alpha) => AlphaWritten::Number(*alpha).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Alpha {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match AlphaWritten::deserialize(deserializer)? {
            AlphaWritten::Word(AlphaWord::Auto) => Ok(Self::Auto),
            AlphaWritten::Number(alpha) if alpha.is_finite() && alpha >= 0.0 => {
                Ok(Self::Fixed(alpha))
            }
            AlphaWritten::Number(alpha) => Err(serde::de::Error::custom(format!(
                "alpha is {alpha}; it must be \"auto\" or a number of at least 0"
            ))),
        }
    }
}

/// Which objects the median, the median absolute deviation and the interquartile range of a
/// label are taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistics {
    /// Training and held-out objects together, as the paper's program: the label is cleaned
    /// before it is divided.
    #[default]
    All,
    /// Training objects alone: nothing of the held-out labels is looked at before scoring.
    Train,
}

/// Which values of a label are known; values outside mean "unknown", such as the -99 of many
/// catalogues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidRange {
    /// Least known value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest known value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

impl ValidRange {
    /// Whether `value` is finite and within the range.
    pub fn knows(&self, value: f64) -> bool {
        value.is_finite()
            && self.min.is_none_or(|min| value >= min)
            && self.max.is_none_or(|max| value <= max)
    }
}

/// The deviation that outliers are told by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deviation {
    /// The median of |y - median|: what the paper's program took.
    #[default]
    Median,
    /// The standard deviation: what "3 sigma" says.
    Standard,
}

/// How a label is prepared, fitted and scored. The default is the paper's protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeSettings {
    /// The model.
    pub method: Method,
    /// Penalty of ridge; the others do not use it.
    pub alpha: Alpha,
    /// Keep only labels with |y - median| < 3 deviations; a deviation of 0 keeps all.
    pub cut: bool,
    /// Which deviation that is.
    pub deviation: Deviation,
    /// Fit (y - median) / IQR instead of y.
    pub scale: bool,
    /// Objects that medians and ranges are taken over.
    pub statistics: Statistics,
    /// Known range by label.
    pub valid: BTreeMap<String, ValidRange>,
    /// Resamples of the held-out objects behind each interval; 0 gives none.
    pub bootstrap: usize,
    /// Coverage of the intervals.
    pub confidence: f64,
    /// Seed of the resamples.
    pub seed: u64,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self {
            method: Method::Ols,
            alpha: Alpha::Auto,
            cut: true,
            deviation: Deviation::Median,
            scale: true,
            statistics: Statistics::All,
            valid: BTreeMap::new(),
            bootstrap: 1000,
            confidence: 0.95,
            seed: 0,
        }
    }
}

/// Row numbers of the objects that train a probe and of those it is scored on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Rows the model is fitted on.
    pub train: Vec<usize>,
    /// Rows it is scored on.
    pub test: Vec<usize>,
    /// Cross-validation: the fold of every row of the table. A scored row is then predicted
    /// by a fit on `train` and the scored rows of the other folds. Empty: no folds, the scored
    /// rows are fitted on never.
    pub folds: Vec<usize>,
    /// The group of every row of the table, numbered from 0: objects that are not independent,
    /// such as several observations of one source. Resamples draw whole groups. Empty: every
    /// object is its own.
    pub groups: Vec<usize>,
}

impl Split {
    /// The same objects, cross-validated in `folds` parts by a hash of `keys` (one a row of
    /// the table) and `seed`; rows with the same key are one group and share a fold. Folds
    /// differ by one group at most. Fewer than 2 folds: no cross-validation.
    #[must_use]
    pub fn folded(mut self, keys: &[String], folds: usize, seed: u64) -> Self {
        let mut scored: Vec<&String> = self.test.iter().map(|&row| &keys[row]).collect();
        scored.sort_by(|a, b| {
            let hash = |key: &str| crate::data::unit_hash(key, seed);
            hash(a).total_cmp(&hash(b)).then_with(|| a.cmp(b))
        });
        scored.dedup();
        let places: BTreeMap<&String, usize> =
            scored.into_iter().enumerate().map(|(place, key)| (key, place)).collect();
        // Rows that are not scored have no place, and none is asked for.
        let place = |key: &String| places.get(key).copied().unwrap_or(0);
        if places.len() < self.test.len() {
            self.groups = keys.iter().map(place).collect();
        }
        if folds > 1 {
            self.folds = keys.iter().map(|key| place(key) % folds).collect();
        }
        self
    }

    /// Objects whose split is one of `train` fit; those in one of `test` are held out. The
    /// paper's word: fit on `validation`, score on `test`.
    pub fn named(splits: &[String], train: &[&str], test: &[&str]) -> Self {
        let rows = |names: &[&str]| -> Vec<usize> {
            let named = |&i: &usize| names.contains(&splits[i].as_str());
            (0..splits.len()).filter(named).collect()
        };
        Self { train: rows(train), test: rows(test), ..Self::default() }
    }

    /// Objects whose split is one of `names`, put together and halved by a hash of their
    /// `keys` (their ids, or what keeps some together) and `seed`, as the paper's program did with
    /// `validation` and `test`. It halved what each label's cuts had left; these halves are the same
    /// for all labels, so that a label's may be of unequal size. Objects of one key are in one half.
    pub fn halved(keys: &[String], splits: &[String], names: &[&str], seed: u64) -> Self {
        let mut rows = Self::named(splits, names, &[]).train;
        rows.sort_by(|&a, &b| {
            let hash = |row: usize| crate::data::unit_hash(&keys[row], seed);
            hash(a).total_cmp(&hash(b)).then_with(|| keys[a].cmp(&keys[b]))
        });
        let half = rows.len().div_ceil(2);
        let last = half.checked_sub(1).map(|k| &keys[rows[k]]);
        let whole = rows[half..].iter().take_while(|&&row| Some(&keys[row]) == last).count();
        let mut test = rows.split_off(half + whole);
        rows.sort_unstable();
        test.sort_unstable();
        Self { train: rows, test, ..Self::default() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_as_a_recipe_writes_them() {
        let text = "method = 'ridge'\nalpha = 3.5\ncut = false\nvalid.z = { min = 0.0 }";
        let settings: ProbeSettings = toml::from_str(text).unwrap();
        assert_eq!(settings.alpha, Alpha::Fixed(3.5));
        assert!(!settings.valid["z"].knows(-99.0) && settings.valid["z"].knows(0.0));
        let auto: ProbeSettings = toml::from_str("alpha = 'auto'").unwrap();
        assert_eq!(auto, ProbeSettings::default());
        assert!(toml::from_str::<ProbeSettings>("alpha = -1.0").is_err());
        assert!(toml::from_str::<ProbeSettings>("alpha = 'best'").is_err());
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<ProbeSettings>(&json).unwrap(), settings);
    }

    #[test]
    fn halves_are_disjoint_and_repeatable() {
        let splits: Vec<String> =
            (0..101).map(|i| ["train", "test", "validation"][i % 3].to_owned()).collect();
        let ids: Vec<String> = (0..101).map(|i| format!("o{i}")).collect();
        let split = Split::halved(&ids, &splits, &["test", "validation"], 1);
        assert_eq!((split.train.len(), split.test.len()), (34, 33));
        assert!(split.train.iter().all(|i| !split.test.contains(i) && splits[*i] != "train"));
        assert_eq!(split, Split::halved(&ids, &splits, &["test", "validation"], 1));
        assert_ne!(split, Split::halved(&ids, &splits, &["test", "validation"], 2));
        assert_eq!(Split::named(&splits, &["train"], &["test"]).train.len(), 34);
        // Of ten copies of each object all are in one half.
        let keys: Vec<String> = (0..101).map(|i| format!("g{}", i / 10)).collect();
        let split = Split::halved(&keys, &splits, &["test", "validation"], 1);
        let of = |rows: &[usize]| -> std::collections::BTreeSet<&String> {
            rows.iter().map(|&row| &keys[row]).collect()
        };
        assert!(of(&split.train).is_disjoint(&of(&split.test)), "{split:?}");
        assert_eq!(split.train.len() + split.test.len(), 67);
        assert!(split.test.len() > 20, "{split:?}");
    }

    #[test]
    fn folds_are_even_and_keep_groups_whole() {
        let splits: Vec<String> = (0..120).map(|i| ["train", "test"][i % 2].to_owned()).collect();
        let keys: Vec<String> = (0..120).map(|i| format!("s{}", i / 4)).collect();
        let split = Split::named(&splits, &["train"], &["test"]).folded(&keys, 5, 0);
        for fold in 0..5 {
            let rows: Vec<_> = split.test.iter().filter(|&&r| split.folds[r] == fold).collect();
            assert_eq!(rows.len(), 12);
        }
        for &row in &split.test {
            let with = |other: &&usize| split.groups[**other] == split.groups[row];
            assert_eq!(split.test.iter().filter(with).count(), 2);
        }
        assert!((0..119).step_by(4).all(|r| split.folds[r + 1] == split.folds[r + 3]));
        let plain = Split::named(&splits, &["train"], &["test"]);
        let alone: Vec<String> = (0..120).map(|i| format!("o{i}")).collect();
        assert_eq!(plain.clone().folded(&alone, 1, 0), plain);
    }
}
