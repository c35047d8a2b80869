//! Labels that are computed from others: what a catalogue's columns are to a published task.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Once;

use serde::{Deserialize, Serialize};

use crate::embed::{Embeddings, LabelKind};
use crate::error::{Error, Result};
use crate::observation::{Label, LabelUnits, Labels, like_unit};
use crate::progress;

/// A label by another name, or the difference of two, such as a colour of two magnitudes;
/// written `"a"` or `"a - b"`, with spaces about the minus, as names may hold one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Task {
    label: String,
    less: Option<String>,
}

impl Task {
    /// The labels that it is computed of.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.label).chain(&self.less).map(String::as_str)
    }

    /// Its value for an object; `None` where a label of it is not known or a text.
    fn of(&self, labels: &Labels) -> Option<f64> {
        let number = |name: &String| labels.get(name)?.number();
        let value = number(&self.label)?;
        self.less.as_ref().map_or(Some(value), |less| Some(value - number(less)?))
    }

    /// Its unit, given those of labels. Of a difference, a label that states none is taken to be in
    /// the unit of the other.
    fn unit(&self, units: &LabelUnits) -> Result<Option<String>, String> {
        let unit = units.get(&self.label);
        let Some(other) = self.less.as_ref().and_then(|less| units.get(less)) else {
            return Ok(unit.cloned());
        };
        match unit {
            Some(unit) if !like_unit(unit, other) => Err(format!(
                "the first is in {unit:?} and the second in {other:?}, and nothing is converted; \
                 write the labels in one unit"
            )),
            unit => Ok(Some(unit.unwrap_or(other).clone())),
        }
    }
}

impl FromStr for Task {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (label, less) = match text.split_once(" - ") {
            Some((label, less)) => (label.trim(), Some(less.trim())),
            None => (text.trim(), None),
        };
        if label.is_empty() || less.is_some_and(|less| less.is_empty() || less.contains(" - ")) {
            return Err(format!(
                "{text:?} is no task: a label, or the difference of two, such as \"mag_g - mag_r\""
            ));
        }
        Ok(Self { label: label.to_owned(), less: less.map(str::to_owned) })
    }
}

impl TryFrom<String> for Task {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.less {
            Some(less) => write!(f, "{} - {less}", self.label),
            None => f.write_str(&self.label),
        }
    }
}

impl From<Task> for String {
    fn from(task: Task) -> Self {
        task.to_string()
    }
}

/// Adds to `table` the labels that `tasks` name, for the objects whose labels they are computed
/// from are known. A name that the table has already is the table's own.
///
/// # Errors
/// When a task is the difference of two labels in different units.
pub(crate) fn add_tasks(table: &mut Embeddings, tasks: &BTreeMap<String, Task>) -> Result<()> {
    let columns = table.columns();
    for (name, task) in tasks.iter().filter(|(name, _)| !columns.contains_key(*name)) {
        for labels in &mut table.labels {
            if let Some(value) = task.of(labels) {
                labels.insert(name.clone(), Label::Number(value));
            }
        }
        if let Some(unit) = task
            .unit(&table.units)
            .map_err(|why| Error::Misuse(format!("probe.tasks.{name} = \"{task}\": {why}")))?
        {
            table.units.insert(name.clone(), unit);
        }
    }
    Ok(())
}

/// Which labels of `table`, to which [`add_tasks`] added `tasks`, are probed: `labels`, or where
/// these are none, the tasks that are there. None: every label is. Says once that it is the tasks
/// alone.
pub(crate) fn asked_labels(
    table: &Embeddings,
    labels: &[String],
    tasks: &BTreeMap<String, Task>,
) -> Vec<String> {
    static SAID: Once = Once::new();
    if !labels.is_empty() || tasks.is_empty() {
        return labels.to_vec();
    }
    let columns = table.columns();
    let there = |name: &&String| columns.get(*name) == Some(&LabelKind::Number);
    let found: Vec<String> = tasks.keys().filter(there).cloned().collect();
    if !found.is_empty() && columns.len() > found.len() {
        SAID.call_once(|| {
            progress::say(&format!(
                "probing the recipe's probe.tasks alone ({} of the {} labels; probe.labels lists \
                 others)",
                found.len(),
                columns.len()
            ));
        });
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::embed::Description;

    #[test]
    fn a_task_is_a_label_or_the_difference_of_two() {
        for text in ["mag_g - mag_r", "smooth-or-featured_smooth_fraction"] {
            assert_eq!(text.parse::<Task>().unwrap().to_string(), text);
        }
        for text in ["", " - b", "a - ", "a - b - c"] {
            assert!(text.parse::<Task>().unwrap_err().contains("is no task"), "{text:?}");
        }
    }

    #[test]
    fn tasks_are_probed_alone_where_no_labels_are_listed() {
        let mut table = Embeddings::new(&[1], Description::default());
        let number = |name: &str, value| (name.to_owned(), Label::Number(value));
        let labels = Labels::from([number("g", 3.0), number("r", 2.5), number("z", 0.1)]);
        table.push("o", "test", labels, &[0.0]).unwrap();
        let task = |name: &str, text: &str| (name.to_owned(), text.parse::<Task>().unwrap());
        let tasks = [task("colour", "g - r"), task("z", "z_best"), task("other", "unheard of")];
        let tasks = BTreeMap::from(tasks);
        add_tasks(&mut table, &tasks).unwrap();
        assert_eq!(asked_labels(&table, &[], &tasks), ["colour", "z"]);
        assert_eq!(asked_labels(&table, &["r".to_owned()], &tasks), ["r"]);
        let unknown = BTreeMap::from([task("other", "unheard of")]);
        assert!(asked_labels(&table, &[], &unknown).is_empty());
        assert!(asked_labels(&table, &[], &BTreeMap::new()).is_empty());
    }

    #[test]
    fn tasks_are_added_where_they_are_known_and_new() {
        let mut table = Embeddings::new(&[1], Description::default());
        let number = |name: &str, value| (name.to_owned(), Label::Number(value));
        let objects = [
            Labels::from([number("g", 3.0), number("r", 2.5), number("z", 0.1)]),
            Labels::from([number("g", 3.0), ("r".into(), Label::Text("faint".into()))]),
        ];
        for (k, labels) in objects.into_iter().enumerate() {
            table.push(&format!("o{k}"), "test", labels, &[0.0]).unwrap();
        }
        let task = |name: &str, text: &str| (name.to_owned(), text.parse::<Task>().unwrap());
        let tasks = [task("colour", "g - r"), task("z", "g"), task("other", "unheard of")];
        table.units = [("g", "mag"), ("z", "km/s")].map(|(l, u)| (l.into(), u.into())).into();
        add_tasks(&mut table, &tasks.into()).unwrap();
        assert_eq!(table.units.get("colour").map(String::as_str), Some("mag"), "r states none");
        assert_eq!(table.numbers("colour"), [Some(0.5), None]);
        assert_eq!(table.numbers("z"), [Some(0.1), None], "the table's own");
        assert!(!table.columns().contains_key("other"));
        let error = add_tasks(&mut table, &[task("wrong", "g - z")].into()).unwrap_err();
        for word in ["probe.tasks.wrong", "g - z", "\"mag\"", "\"km/s\""] {
            assert!(error.to_string().contains(word), "no {word} in: {error}");
        }
    }
}
