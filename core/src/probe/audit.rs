//! What should not matter and may: whether the embedding tells a nuisance, such as the telescope
//! that took an image, and how far probes drop where it changes.
//!
//! All labelled objects of the protocol are cross-validated: in folds that part the nuisance's
//! values, so that every prediction is by a fit that has not seen the object's value, and in folds of
//! the same sizes that mix them, several times over. Both predict the same objects from equally many,
//! and the difference of their scores is bootstrapped in pairs, with how much scores scatter from one
//! way to mix to the next: the values may part the objects as any other way would.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bootstrap::Interval;
use super::compare::{Verdict, difference, however_folded};
use super::nuisance::{Nuisance, Values};
use super::score::ProbeScore;
use super::settings::{ProbeSettings, Split};
use super::table::{FeatureSet, ProbeRow, ProbeTable, probe_table};
use crate::data::unit_hash;
use crate::embed::Embeddings;
use crate::error::{Error, Result};
use crate::observation::Label;

/// Folds of a nuisance that has more values than this.
const FOLDS: usize = 5;
/// Ways to mix the values over the folds.
const MIXINGS: u64 = 5;

/// What a nuisance does to the probes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// The label that should not matter.
    pub nuisance: String,
    /// How many values it has.
    pub values: usize,
    /// Where a continuous label was cut into as many ranges, unasked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<f64>,
    /// Folds that part them.
    pub folds: usize,
    /// Ways in which as many folds mixed them; 0 in audits of earlier versions, which had one.
    #[serde(default)]
    pub mixings: usize,
    /// How well it is told itself, from each set of features; empty where it has too many values
    /// to be asked for.
    pub told: Vec<ProbeRow>,
    /// How far the other labels drop.
    pub drops: Vec<NuisanceDrop>,
}

/// How far the probe of a label drops on objects whose nuisance it has not seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NuisanceDrop {
    /// The label.
    pub label: String,
    /// Objects scored.
    pub objects: usize,
    /// R^2 where folds mix the nuisance's values: the mean of several ways to mix them.
    pub mixed: Interval,
    /// R^2 where folds part them.
    pub parted: Interval,
    /// The first less the second.
    pub drop: Interval,
}

impl NuisanceDrop {
    /// Whether the drop is clearly one.
    pub fn verdict(&self) -> Verdict {
        match self.drop {
            drop if drop.above_zero() => Verdict::FallsShort,
            drop if drop.below_zero() => Verdict::Beats,
            _ => Verdict::Undecided,
        }
    }
}

/// Audits the probes of `labels` (none: all) from the first of `sets` for a `nuisance`. `split` is
/// the probes' own; `keys` names the group of every object of `table`, such as its id.
///
/// # Errors
/// When no object has the nuisance, or fewer than two values of it are labelled, and as
/// [`probe_table`].
pub fn audit(
    table: &Embeddings,
    sets: &[FeatureSet<'_>],
    labels: &[String],
    nuisance: &Nuisance,
    (split, keys): (&Split, &[String]),
    settings: &ProbeSettings,
) -> Result<Audit> {
    let name = nuisance.name();
    let mut rows: Vec<usize> = split.train.iter().chain(&split.test).copied().collect();
    rows.sort_unstable();
    let Values { of: value, cuts } = nuisance.values(table, &rows)?;
    rows.retain(|&row| value[row].is_some());
    let told = told(table, sets, (nuisance, &value), split, settings)?;
    let value: Vec<String> = value.into_iter().map(Option::unwrap_or_default).collect();
    let values = groups(&rows, &value);
    if values.len() < 2 {
        return Err(Error::Failed(format!(
            "probe.nuisance lists {name:?}, which has one value in all {} objects; take it out",
            rows.len()
        )));
    }
    let folds = if values.len() <= FOLDS { values.len() } else { FOLDS };
    let parted = folds_of(&rows, &value, folds, table.len());
    // Objects that belong together stay together, but for those that the nuisance itself binds.
    let units = if keys == value { &table.ids } else { keys };
    let mixings =
        (1..=MIXINGS).map(|k| alike(&rows, &parted, units, settings.seed.wrapping_add(k)));
    let drawn: &[String] = if values.len() > FOLDS { &value } else { keys };
    let groups = numbered(drawn);
    let scored = |folds: Vec<usize>| {
        let split = Split { train: vec![], test: rows.clone(), folds, groups: groups.clone() };
        probe_table(table, &sets[..sets.len().min(1)], labels, &split, settings)
    };
    let mixed: Vec<ProbeTable> = mixings.map(&scored).collect::<Result<_>>()?;
    let parted = scored(parted)?;
    let drops = drops(&name, &parted, &mixed, settings)?;
    let (values, mixings) = (values.len(), MIXINGS as usize);
    Ok(Audit { nuisance: name, values, cuts, folds, mixings, told, drops })
}

/// How well a nuisance is told itself: the number where it is one, else its values as classes.
fn told(
    table: &Embeddings,
    sets: &[FeatureSet<'_>],
    (nuisance, value): (&Nuisance, &[Option<String>]),
    split: &Split,
    settings: &ProbeSettings,
) -> Result<Vec<ProbeRow>> {
    let name = nuisance.name();
    let asked = [name.clone()];
    let mut told = if let Nuisance::Label(_) = nuisance {
        probe_table(table, sets, &asked, split, settings)?.rows
    } else {
        let labels = value.iter().map(|value| {
            let label = value.clone().map(|value| (name.clone(), Label::Text(value)));
            label.into_iter().collect()
        });
        let mut classes = Embeddings::new(&[], table.description.clone());
        (classes.ids, classes.splits) = (table.ids.clone(), table.splits.clone());
        classes.labels = labels.collect();
        probe_table(&classes, sets, &asked, split, settings)?.rows
    };
    if told.len() == 2 * sets.len() {
        // Of two classes the second tells what the first does.
        told.truncate(sets.len());
    }
    Ok(told)
}

/// How far the labels other than `nuisance` drop from the `mixed` tables to the `parted` one.
fn drops(
    nuisance: &str,
    parted: &ProbeTable,
    mixed: &[ProbeTable],
    settings: &ProbeSettings,
) -> Result<Vec<NuisanceDrop>> {
    let own = |label: &str| label == nuisance || label.starts_with(&format!("{nuisance} = "));
    let mut drops = Vec::new();
    for row in parted.rows.iter().filter(|row| !own(&row.label)) {
        let of = |table: &ProbeTable| table.row(&row.label, &row.features)?.score().cloned();
        let all: Option<Vec<ProbeScore>> = mixed.iter().map(of).collect();
        let (Some(mixed), Some(parted)) = (all, row.score()) else { continue };
        let mixed = however_folded(mixed, settings)?;
        drops.push(NuisanceDrop {
            label: row.label.clone(),
            objects: mixed.n_test,
            mixed: mixed.r2,
            parted: parted.r2,
            drop: difference(&mixed, parted, settings)?.r2,
        });
    }
    Ok(drops)
}

/// How many of `rows` each value has.
fn groups<'a>(rows: &[usize], value: &'a [String]) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for &row in rows {
        *counts.entry(value[row].as_str()).or_default() += 1;
    }
    counts
}

/// A fold for each of `n` rows: those of equal values share one, in hash order of the values.
fn folds_of(rows: &[usize], value: &[String], folds: usize, n: usize) -> Vec<usize> {
    let mut values: Vec<&str> = groups(rows, value).into_keys().collect();
    values.sort_by(|a, b| unit_hash(a, 0).total_cmp(&unit_hash(b, 0)).then_with(|| a.cmp(b)));
    let places: BTreeMap<&str, usize> =
        values.into_iter().enumerate().map(|(place, value)| (value, place % folds)).collect();
    (0..n).map(|row| places.get(value[row].as_str()).copied().unwrap_or(0)).collect()
}

/// Folds of about the sizes of `folds`, filled with whole `units` in the order of a hash.
fn alike(rows: &[usize], folds: &[usize], units: &[String], seed: u64) -> Vec<usize> {
    let count = folds.iter().max().map_or(1, |most| most + 1);
    let mut room = vec![0i64; count];
    rows.iter().for_each(|&row| room[folds[row]] += 1);
    let mut order = rows.to_vec();
    order.sort_by(|&a, &b| {
        let hash = |row: usize| unit_hash(&units[row], seed);
        hash(a).total_cmp(&hash(b)).then_with(|| units[a].cmp(&units[b]))
    });
    let mut out = vec![0; folds.len()];
    let mut fold = 0;
    for unit in order.chunk_by(|&a, &b| units[a] == units[b]) {
        while room[fold] <= 0 && fold + 1 < count {
            fold += 1;
        }
        unit.iter().for_each(|&row| out[row] = fold);
        room[fold] -= unit.len() as i64;
    }
    out
}

/// Equal keys as equal numbers; nothing where all differ.
fn numbered(keys: &[String]) -> Vec<usize> {
    let mut places = BTreeMap::<&str, usize>::new();
    let numbers: Vec<usize> = keys
        .iter()
        .map(|key| {
            let next = places.len();
            *places.entry(key.as_str()).or_insert(next)
        })
        .collect();
    if places.len() == keys.len() { Vec::new() } else { numbers }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::embed::Description;
    use crate::observation::Labels;
    use crate::probe::Features;
    use crate::probe::nuisance::Ranges;

    fn noise(i: usize) -> f64 {
        ((i as f64 * 12.9898).sin() * 43758.5453).fract()
    }

    /// Embeddings `[n, 2]` that are the label `y`; the zero point of the pictures moves by `drift` from
    /// the first to the last declination, and they are turned by the telescope where `turned`.
    fn table(turned: bool, drift: f64) -> Embeddings {
        let mut table = Embeddings::new(&[2], Description::new());
        for i in 0..400 {
            let y = noise(i);
            let south = i % 3 == 0;
            let sign = if south && turned { -1.0 } else { 1.0 };
            let labels = Labels::from([
                ("y".into(), Label::Number(y)),
                ("telescope".into(), Label::Text(["north", "south"][usize::from(south)].into())),
                ("tile".into(), Label::Number((i % 40) as f64)),
                ("dec".into(), Label::Number(i as f64 / 100.0)),
            ]);
            let zero = drift * i as f64 / 400.0;
            let vector =
                [zero + sign * y + 0.1 * noise(9000 + i), noise(5000 + i)].map(|x| x as f32);
            let split = if i % 2 == 0 { "validation" } else { "test" };
            table.push(&format!("o{i}"), split, labels, &vector).unwrap();
        }
        table
    }

    fn audited(table: &Embeddings, nuisance: Nuisance) -> Audit {
        let features = Features::new(2, table.vectors.clone()).unwrap();
        let sets = [FeatureSet { name: "embedding", members: &[features] }];
        let split = Split::named(&table.splits, &["validation"], &["test"]);
        let objects = (&split, &table.ids[..]);
        let settings = ProbeSettings { cut: false, bootstrap: 200, ..ProbeSettings::default() };
        audit(table, &sets, &["y".into()], &nuisance, objects, &settings).unwrap()
    }

    fn label(name: &str) -> Nuisance {
        Nuisance::Label(name.into())
    }

    #[test]
    fn a_telescope_that_turns_the_embedding_is_found_out() {
        let harmless = audited(&table(false, 0.0), label("telescope"));
        assert_eq!((harmless.values, harmless.folds, harmless.told.len()), (2, 2, 1));
        let drop = &harmless.drops[0];
        assert_eq!((drop.objects, drop.label.as_str()), (400, "y"));
        assert!(drop.drop.value.abs() < 0.02 && drop.parted.value > 0.9, "{drop:?}");
        let harmful = audited(&table(true, 0.0), label("telescope"));
        let drop = &harmful.drops[0];
        assert_eq!(drop.verdict(), Verdict::FallsShort, "{drop:?}");
        assert!(drop.parted.value < 0.0 && drop.mixed.value > 0.0, "{drop:?}");
    }

    #[test]
    fn a_drift_along_a_number_is_found_out() {
        let harmless = audited(&table(false, 0.0), label("dec"));
        assert_eq!((harmless.values, harmless.cuts.len(), harmless.folds), (5, 4, 5));
        assert!(harmless.drops[0].drop.value.abs() < 0.02, "{:?}", harmless.drops);
        let drifting = table(false, 1.0);
        let harmful = audited(&drifting, label("dec"));
        assert_eq!(harmful.drops[0].verdict(), Verdict::FallsShort, "{:?}", harmful.drops);
        let half = Nuisance::Ranges(Ranges { label: "dec".into(), at: vec![2.0] });
        let audit = audited(&drifting, half);
        assert_eq!((audit.values, audit.nuisance.as_str()), (2, "dec cut at 2"));
        assert!(audit.told[0].score().is_some(), "{:?}", audit.told);
        assert_eq!(audit.drops[0].verdict(), Verdict::FallsShort, "{:?}", audit.drops);
    }

    /// Values that say nothing are clearly a drop, or a rise, no more often than their intervals let
    /// on: how folds fall is in them.
    #[test]
    fn how_folds_fall_makes_no_drop() {
        let mut table = Embeddings::new(&[24], Description::new());
        let noise = |i: usize, k: usize| unit_hash(&format!("{i} {k}"), 0) - 0.5;
        for i in 0..240 {
            let vector: Vec<f32> = (0..24).map(|k| noise(i, k) as f32).collect();
            // Half of what is predicted is in none of the features, so that folds matter.
            let y = f64::from(vector[0]) + noise(i, 24);
            let mut labels = Labels::from([("y".into(), Label::Number(y))]);
            for k in 0..40 {
                let side = ["one", "other"][usize::from(noise(i, 100 + k) > 0.0)];
                labels.insert(format!("coin {k:02}"), Label::Text(side.into()));
            }
            let split = if i % 2 == 0 { "validation" } else { "test" };
            table.push(&format!("o{i}"), split, labels, &vector).unwrap();
        }
        let features = Features::new(24, table.vectors.clone()).unwrap();
        let sets = [FeatureSet { name: "embedding", members: &[features] }];
        let split = Split::named(&table.splits, &["validation"], &["test"]);
        let settings = ProbeSettings { cut: false, bootstrap: 200, ..ProbeSettings::default() };
        let objects = (&split, &table.ids[..]);
        let clear = (0..40).filter(|k| {
            let coin = format!("coin {k:02}");
            let coin = Nuisance::Label(coin);
            let audit = audit(&table, &sets, &["y".into()], &coin, objects, &settings).unwrap();
            assert_eq!((audit.mixings, audit.drops.len()), (5, 1));
            audit.drops[0].verdict() != Verdict::Undecided
        });
        // One in twenty is two of forty; of one way to mix alone it was a third.
        let clear = clear.count();
        assert!(clear <= 5, "{clear} of 40");
    }

    #[test]
    fn many_values_are_parted_in_five_folds() {
        let tiles = audited(&table(false, 0.0), label("tile"));
        assert_eq!((tiles.values, tiles.folds), (40, 5));
        assert!(tiles.drops[0].drop.value.abs() < 0.02, "{:?}", tiles.drops);
        let rows: Vec<usize> = (0..400).collect();
        let value: Vec<String> = (0..400).map(|i| (i % 40).to_string()).collect();
        let parted = folds_of(&rows, &value, 5, 400);
        let ids: Vec<String> = (0..400).map(|i| i.to_string()).collect();
        let mixed = alike(&rows, &parted, &ids, 0);
        for fold in 0..5 {
            let size = |folds: &[usize]| folds.iter().filter(|&&f| f == fold).count();
            assert_eq!((size(&parted), size(&mixed)), (80, 80));
        }
        assert!(value[0] == value[40] && parted[0] == parted[40]);
    }
}
