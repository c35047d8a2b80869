//! What should not matter, as a recipe names it, and the value that each object has of it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::data::{TileConfig, check_degrees, group_key};
use crate::embed::{Embeddings, LabelKind};
use crate::error::{Error, Result};
use crate::observation::{Label, Labels};
use crate::progress;

/// Ranges that a continuous label is cut into, with equally many objects in each.
const RANGES: usize = 5;

/// Values of a label of numbers that are not whole, up to which they are taken for names all the same.
const NAMES: usize = 20;

/// What should not matter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a label, { label = \"dec\", at = [32.4] } with the numbers to cut it at, \
                 or { ra = \"ra\", dec = \"dec\", degrees = 1.0 } for tiles of the sky"
)]
pub enum Nuisance {
    /// A label, such as the telescope. Numbers that are not whole, or differ from almost every object
    /// to the next, are cut into ranges with equally many objects in each: neighbours would else be
    /// taken for different values, and what they share for unseen.
    Label(String),
    /// Ranges of a label.
    Ranges(Ranges),
    /// Tiles of the sky, as in `split.tile`.
    Tile(TileConfig),
}

/// A label of numbers, and where to cut it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranges {
    /// The label.
    pub label: String,
    /// The first number of every range but the lowest, rising.
    pub at: Vec<f64>,
}

/// The value that each object of a table has of a nuisance.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Values {
    /// By row; `None` where it is not known.
    pub(super) of: Vec<Option<String>>,
    /// Where a continuous label was cut, unasked.
    pub(super) cuts: Vec<f64>,
}

impl Nuisance {
    /// Its name in tables.
    pub fn name(&self) -> String {
        match self {
            Self::Label(label) => label.clone(),
            Self::Ranges(Ranges { label, at }) => {
                let at: Vec<_> = at.iter().map(f64::to_string).collect();
                format!("{label} cut at {}", at.join(", "))
            }
            Self::Tile(tile) => format!("sky tile of {}°", tile.degrees),
        }
    }

    /// The labels that it is read from.
    pub fn labels(&self) -> Vec<&str> {
        match self {
            Self::Label(label) | Self::Ranges(Ranges { label, .. }) => vec![label],
            Self::Tile(tile) => vec![&tile.ra, &tile.dec],
        }
    }

    /// # Errors
    /// When it cannot be asked for.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        match self {
            Self::Label(_) => Ok(()),
            Self::Tile(tile) => tile.check(),
            Self::Ranges(Ranges { label, at }) => {
                let rising = at.is_sorted_by(|a, b| a < b) && at.iter().all(|x| x.is_finite());
                match rising && !at.is_empty() {
                    true => Ok(()),
                    false => Err(format!("at = {at:?} of {label:?}: rising numbers are expected")),
                }
            }
        }
    }

    /// The value of every object of `table`; ranges are of the objects in `rows`.
    ///
    /// # Errors
    /// When no object has it, or it is of the wrong kind.
    pub(super) fn values(&self, table: &Embeddings, rows: &[usize]) -> Result<Values> {
        let columns = table.columns();
        if let Some(unknown) = self.labels().into_iter().find(|name| !columns.contains_key(*name)) {
            let known: Vec<_> = columns.keys().map(String::as_str).collect();
            return Err(Error::Misuse(format!(
                "probe.nuisance: no object has a label {unknown:?}; the labels are {}",
                known.join(", ")
            )));
        }
        let objects = || table.ids.iter().zip(&table.labels);
        match self {
            Self::Label(label) => of_label(table, label, rows),
            Self::Ranges(Ranges { label, .. }) if columns[label] == LabelKind::Text => {
                Err(Error::Misuse(format!(
                    "probe.nuisance: {label:?} holds texts, and only numbers can be cut; name it alone"
                )))
            }
            Self::Ranges(Ranges { label, at }) => {
                let of = table.numbers(label).iter().map(|x| Some(range((*x)?, at))).collect();
                Ok(Values { of, cuts: Vec::new() })
            }
            Self::Tile(tile) => {
                check_degrees(&table.units, &tile.ra, &tile.dec)?;
                let of = objects().map(|(id, labels)| tile.key(id, labels));
                Ok(Values { of: of.collect::<Result<_>>()?, cuts: Vec::new() })
            }
        }
    }
}

/// The values of a label, as [`Nuisance::Label`] says.
fn of_label(table: &Embeddings, label: &str, rows: &[usize]) -> Result<Values> {
    let known = |labels: &Labels| labels.contains_key(label).then(|| group_key("", labels, label));
    let of: Vec<Option<String>> = table.labels.iter().map(known).collect();
    let found: Vec<&String> = rows.iter().filter_map(|&row| of[row].as_ref()).collect();
    let apart = found.iter().collect::<BTreeSet<_>>().len();
    let many = 2 * apart > found.len() && apart > RANGES;
    let numbers: Vec<f64> = rows
        .iter()
        .filter_map(|&row| table.labels[row].get(label).and_then(Label::number))
        .collect();
    if numbers.len() < found.len() {
        if many {
            progress::warn(&format!(
                "probe.nuisance: {label:?} has {apart} values in {} objects, of which hardly two share \
                 one: parting them parts what was mixed already, and a drop is not to be expected",
                found.len()
            ));
        }
        return Ok(Values { of, cuts: Vec::new() });
    }
    let named = apart <= NAMES || numbers.iter().all(|x| x.fract() == 0.0);
    if !many && named {
        return Ok(Values { of, cuts: Vec::new() });
    }
    let cuts = cuts(numbers);
    let of = table.numbers(label).iter().map(|x| Some(range((*x)?, &cuts))).collect();
    Ok(Values { of, cuts })
}

/// Where to cut `numbers` into [`RANGES`] with equally many in each; fewer where many are equal.
fn cuts(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.sort_by(f64::total_cmp);
    let mut cuts: Vec<f64> =
        (1..RANGES).filter_map(|k| numbers.get(k * numbers.len() / RANGES).copied()).collect();
    cuts.dedup();
    cuts.retain(|cut| numbers.first().is_some_and(|least| cut > least));
    cuts
}

/// The name of the range of `at` that `x` lies in.
fn range(x: f64, at: &[f64]) -> String {
    let place = at.partition_point(|&first| first <= x);
    let below = place.checked_sub(1).and_then(|before| at.get(before));
    match (below, at.get(place)) {
        (None, Some(end)) => format!("below {end}"),
        (Some(first), Some(end)) => format!("{first} to {end}"),
        (Some(first), None) => format!("{first} and more"),
        (None, None) => "all".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::embed::Description;

    fn table(labels: impl Fn(usize) -> Vec<(&'static str, Label)>) -> Embeddings {
        let mut table = Embeddings::new(&[1], Description::new());
        for i in 0..100 {
            let labels = labels(i).into_iter().map(|(name, label)| (name.to_owned(), label));
            table.push(&i.to_string(), "test", labels.collect(), &[0.0]).unwrap();
        }
        table
    }

    fn values(nuisance: &str, table: &Embeddings) -> Result<Values> {
        #[derive(Deserialize)]
        struct Written {
            of: Nuisance,
        }
        let written: Written = toml::from_str(&format!("of = {nuisance}")).unwrap();
        written.of.check().map_err(Error::Misuse)?;
        written.of.values(table, &(0..table.len()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_continuous_is_cut_and_names_are_not() {
        let table = table(|i| {
            let x = i as f64;
            vec![
                ("dec", Label::Number(x + 0.5)),
                ("plate", Label::Number((i % 9) as f64)),
                ("objid", Label::Number(x)),
                ("name", Label::Text(format!("g{i}"))),
                ("zero", Label::Number(if i < 90 { 0.0 } else { 0.25 })),
            ]
        });
        let of = |name: &str| values(name, &table).unwrap();
        let dec = of("'dec'");
        assert_eq!(dec.cuts, [20.5, 40.5, 60.5, 80.5]);
        let named = |values: &Values, row: usize| values.of[row].clone().unwrap();
        assert_eq!(
            (named(&dec, 19), named(&dec, 20)),
            ("below 20.5".into(), "20.5 to 40.5".into())
        );
        assert_eq!(named(&dec, 99), "80.5 and more");
        assert!(of("'plate'").cuts.is_empty() && !of("'objid'").cuts.is_empty());
        assert_eq!(of("'zero'").of[95].as_deref(), Some("0.25"), "two values are names");
        assert_eq!(of("'name'").of[7].as_deref(), Some("g7"), "texts are names, however many");
        assert!(values("'nam'", &table).unwrap_err().to_string().contains("no object has"));
        let north = of("{ label = 'dec', at = [32.375] }");
        assert_eq!(
            (named(&north, 31), named(&north, 32)),
            ("below 32.375".into(), "32.375 and more".into())
        );
        assert!(values("{ label = 'dec', at = [3, 2] }", &table).is_err());
        let texts = values("{ label = 'name', at = [3] }", &table).unwrap_err();
        assert!(texts.to_string().contains("\"name\" holds texts"), "{texts}");
    }

    #[test]
    fn tiles_are_those_of_the_sky() {
        let table = table(|i| vec![("ra", Label::Number(i as f64)), ("dec", Label::Number(10.0))]);
        let tiles = values("{ degrees = 30.0 }", &table).unwrap();
        let apart: BTreeSet<_> = tiles.of.iter().flatten().collect();
        assert!((2..12).contains(&apart.len()), "{apart:?}");
        assert_eq!(tiles.of[3], tiles.of[4]);
        assert!(values("{ ra = 'right', degrees = 30.0 }", &table).is_err());
    }
}
