//! A table of probes: labels by sets of features.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::audit::Audit;
use super::compare::{Difference, Verdict, difference, mean};
use super::score::{ProbeScore, probe};
use super::settings::{Features, ProbeSettings, Split};
use super::target::FEWEST;
use crate::checkpoint::{format, write_bytes};
use crate::embed::{Embeddings, LabelKind};
use crate::error::{Error, Result};
use crate::observation::LabelUnits;

/// A set of features under the name a table shows: `embedding`, `random-init`, `raw features`.
#[derive(Clone, Copy, Debug)]
pub struct FeatureSet<'a> {
    /// Name of the set.
    pub name: &'a str,
    /// Features of the table's objects, in its order. Several are one another's repetitions
    /// by chance, such as random initialisations: their scores are averaged.
    pub members: &'a [Features],
}

/// Probes of every label from every set of features.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeTable {
    /// How they were made.
    pub settings: ProbeSettings,
    /// Names of the sets of features, the model's first.
    pub sets: Vec<String>,
    /// One row a label and set, labels in alphabetical order.
    pub rows: Vec<ProbeRow>,
    /// Labels that were not probed.
    pub skipped: Vec<Skipped>,
    /// Units of the labels in the rows that have one: what a median error is in.
    #[serde(default, skip_serializing_if = "LabelUnits::is_empty")]
    pub units: LabelUnits,
    /// The same labels of the same objects by other models, each in a table of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<ProbeTable>,
    /// What should not matter, and what it does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audits: Vec<Audit>,
}

/// One label from one set of features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeRow {
    /// The label.
    pub label: String,
    /// The set of features.
    pub features: String,
    /// The score or why there is none.
    pub outcome: Outcome,
    /// In rows of the first set: how much better it does than each other set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versus: Vec<Versus>,
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was fitted and scored.
    Scored(Box<ProbeScore>),
    /// It could not be, for this reason.
    Failed(String),
}

/// A difference to another set of features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versus {
    /// Name of the other set.
    pub baseline: String,
    /// The difference.
    pub difference: Difference,
    /// What it says.
    #[serde(default)]
    pub verdict: Verdict,
}

/// A label that was not probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The label.
    pub label: String,
    /// Why.
    pub reason: String,
}

impl ProbeRow {
    /// The score, if there is one.
    pub fn score(&self) -> Option<&ProbeScore> {
        match &self.outcome {
            Outcome::Scored(score) => Some(score),
            Outcome::Failed(_) => None,
        }
    }

    /// The difference to the set `baseline`, if there is one.
    pub fn versus(&self, baseline: &str) -> Option<&Difference> {
        self.versus.iter().find(|v| v.baseline == baseline).map(|v| &v.difference)
    }
}

impl ProbeTable {
    /// The row of `label` and the set `features`.
    pub fn row(&self, label: &str, features: &str) -> Option<&ProbeRow> {
        self.rows.iter().find(|row| row.label == label && row.features == features)
    }

    /// Labels that have rows, in the table's order.
    pub fn labels(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = self.rows.iter().map(|row| row.label.as_str()).collect();
        labels.dedup();
        labels
    }

    /// Writes the table as JSON (`probes.json`).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_json(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let text = format::to_json_again(self)
            .map_err(|e| Error::file(path, format!("cannot write the probes: {e}")))?;
        write_bytes(path, text.as_bytes())
    }

    /// Reads a table that [`write_json`](Self::write_json) wrote; the held-out predictions
    /// are not in it.
    ///
    /// # Errors
    /// When the file cannot be read, is of a newer format, or is no such table.
    pub fn read_json(path: impl AsRef<Path>) -> Result<Self> {
        format::read_json(path.as_ref(), "a table of probes")
    }
}

/// Probes the labels of `table` from every one of `sets`, the model's first. `labels` names
/// the labels to probe; none probes all. A label that cannot be probed has its reason in the
/// table. A column of texts is one label for each class with at least ten objects to train
/// on and ten to be scored on, 1 for objects of the class and 0 for those of another.
///
/// # Errors
/// When `sets` is empty, a set does not have one row an object of `table`, or a label asked
/// for is in no object.
pub fn probe_table(
    table: &Embeddings,
    sets: &[FeatureSet<'_>],
    labels: &[String],
    split: &Split,
    settings: &ProbeSettings,
) -> Result<ProbeTable> {
    for set in sets {
        if let Some(features) = set.members.iter().find(|member| member.n != table.len()) {
            return Err(Error::Failed(format!(
                "the features {:?} are of {} objects and the table of {}",
                set.name,
                features.n,
                table.len()
            )));
        }
    }
    let columns = table.columns();
    let known = || columns.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    if let Some(name) = labels.iter().find(|name| !columns.contains_key(*name)) {
        return Err(Error::Misuse(format!(
            "no object has a label {name:?}; the labels are {}",
            known()
        )));
    }
    let mut out = ProbeTable {
        settings: settings.clone(),
        sets: sets.iter().map(|set| set.name.to_owned()).collect(),
        ..ProbeTable::default()
    };
    for (label, kind) in &columns {
        if !labels.is_empty() && !labels.contains(label) {
            continue;
        }
        if *kind == LabelKind::Text {
            probe_classes(table, label, sets, split, settings, &mut out);
            continue;
        }
        out.rows.extend(probe_label(label, &table.numbers(label), sets, split, settings));
        out.units.extend(table.units.get_key_value(label).map(|(l, u)| (l.clone(), u.clone())));
    }
    Ok(out)
}

/// Adds the rows of a label of texts: each class against the rest.
fn probe_classes(
    table: &Embeddings,
    label: &str,
    sets: &[FeatureSet<'_>],
    split: &Split,
    settings: &ProbeSettings,
    out: &mut ProbeTable,
) {
    let classes = table.texts(label);
    let count = |rows: &[usize]| {
        let mut counts = BTreeMap::<&str, usize>::new();
        for class in rows.iter().filter_map(|&row| classes[row]) {
            *counts.entry(class).or_default() += 1;
        }
        counts
    };
    let (train, test) = (count(&split.train), count(&split.test));
    let enough = |class: &str, n: usize| {
        // Cross-validated, the other folds are fitted on too.
        let fitted = train.get(class).copied().unwrap_or(0);
        n >= FEWEST && (fitted >= FEWEST || !split.folds.is_empty())
    };
    let usable: Vec<&str> =
        test.iter().filter(|(class, n)| enough(class, **n)).map(|(class, _)| *class).collect();
    if usable.is_empty() {
        let reason = format!(
            "none of its {} values has {FEWEST} objects to train on and {FEWEST} to be scored on",
            train.len().max(test.len())
        );
        out.skipped.push(Skipped { label: label.to_owned(), reason });
    }
    // Neither medians nor outliers mean anything in zeros and ones.
    let settings = ProbeSettings { cut: false, scale: false, ..settings.clone() };
    for class in usable {
        let is = |seen: &Option<&str>| seen.map(|seen| f64::from(u8::from(seen == class)));
        let y: Vec<_> = classes.iter().map(is).collect();
        out.rows.extend(probe_label(&format!("{label} = {class}"), &y, sets, split, &settings));
    }
}

/// The rows of one label.
fn probe_label(
    label: &str,
    y: &[Option<f64>],
    sets: &[FeatureSet<'_>],
    split: &Split,
    settings: &ProbeSettings,
) -> Vec<ProbeRow> {
    let valid = settings.valid.get(label).copied().unwrap_or_default();
    let mut rows: Vec<ProbeRow> = Vec::with_capacity(sets.len());
    for set in sets {
        let probed = set.members.iter().map(|member| probe(member, y, split, settings, valid));
        let scores: Result<Vec<_>> = probed.collect();
        let outcome = match scores.and_then(|scores| mean(scores, settings)) {
            Ok(score) => Outcome::Scored(Box::new(score)),
            Err(reason) => Outcome::Failed(reason.to_string()),
        };
        let features = set.name.to_owned();
        rows.push(ProbeRow { label: label.to_owned(), features, outcome, versus: vec![] });
    }
    if let Some((model, baselines)) = rows.split_first_mut() {
        for row in baselines {
            let (Some(a), Some(b)) = (model.score(), row.score()) else { continue };
            if let Ok(difference) = difference(a, b, settings) {
                let verdict = difference.verdict();
                let baseline = row.features.clone();
                model.versus.push(Versus { baseline, difference, verdict });
            }
        }
    }
    rows
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::embed::Description;
    use crate::observation::{Label, Labels};

    #[test]
    fn a_table_of_labels_and_baselines() {
        let mut table = Embeddings::new(&[2], Description::new());
        let mut random = vec![];
        for i in 0..200u32 {
            let x = [f64::from(i % 17), f64::from(i % 23)];
            let mut labels = Labels::from([
                ("sum".into(), Label::Number(x[0] + 2.0 * x[1])),
                ("name".into(), Label::Text(format!("NGC {i}"))),
                ("class".into(), Label::Text(["low", "high"][usize::from(x[0] > 8.0)].into())),
            ]);
            if i < 5 {
                labels.insert("rare".into(), Label::Number(1.0));
            }
            let split = if i % 2 == 0 { "validation" } else { "test" };
            table.push(&i.to_string(), split, labels, &x.map(|x| x as f32)).unwrap();
            random.push((f64::from(i) * 1.7).sin() as f32);
        }
        table.units = [("sum", "mag"), ("class", "T")].map(|(l, u)| (l.into(), u.into())).into();
        let split = Split::named(&table.splits, &["validation"], &["test"]);
        let model = Features::new(2, table.vectors.clone()).unwrap();
        let random = Features::new(1, random).unwrap();
        let sets = [
            FeatureSet { name: "embedding", members: &[model] },
            FeatureSet { name: "random-init", members: &[random] },
        ];
        let settings = ProbeSettings::default();
        let probes = probe_table(&table, &sets, &[], &split, &settings).unwrap();
        assert_eq!(probes.labels(), ["class = high", "class = low", "rare", "sum"]);
        assert_eq!(probes.skipped[0].label, "name");
        assert_eq!(probes.units, LabelUnits::from([("sum".into(), "mag".into())]));
        let auc = |set: &str| probes.row("class = high", set).unwrap().score().unwrap().auc;
        assert!(auc("embedding").unwrap().low.unwrap() > 0.95);
        assert!(auc("random-init").unwrap().value < 0.7);
        assert!(probes.row("sum", "embedding").unwrap().score().unwrap().auc.is_none());
        let Outcome::Failed(reason) = &probes.row("rare", "embedding").unwrap().outcome else {
            panic!("five objects cannot be probed")
        };
        assert!(reason.contains("only"), "{reason}");
        let row = probes.row("sum", "embedding").unwrap();
        assert!(row.score().unwrap().r2.value > 0.999);
        assert!(row.versus("random-init").unwrap().r2.above_zero());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("probes.json");
        probes.write_json(&path).unwrap();
        let mut back = ProbeTable::read_json(&path).unwrap();
        for (back, row) in back.rows.iter_mut().zip(&probes.rows) {
            if let (Outcome::Scored(back), Some(score)) = (&mut back.outcome, row.score()) {
                back.held_out = score.held_out.clone();
            }
        }
        assert_eq!(back, probes);
        assert!(probe_table(&table, &sets, &["z".into()], &split, &settings).is_err());
        let short = Features::new(1, vec![0.0; 3]).unwrap();
        let sets = [FeatureSet { name: "short", members: &[short] }];
        assert!(probe_table(&table, &sets, &[], &split, &settings).is_err());
    }
}
