//! The table of embeddings in memory.

use std::collections::BTreeMap;

use std::path::Path;

use super::{ParquetSink, Rows};
use crate::error::{Error, Result};
use crate::observation::{Label, LabelUnits, Labels};

/// How embeddings were made, by name: `layer`, `tokens`, `pooling`, `checkpoint`, `model`.
pub type Description = BTreeMap<String, String>;

/// Names and kinds of the label columns of a table.
pub type LabelColumns = BTreeMap<String, LabelKind>;

/// What a column of labels holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelKind {
    /// Numbers, stored as `f64`.
    Number,
    /// Texts; numbers in such a column are written out as texts.
    Text,
}

/// The columns that hold all of `labels`: numbers where every value of a name is a number,
/// texts otherwise.
pub fn label_columns<'a>(labels: impl IntoIterator<Item = &'a Labels>) -> LabelColumns {
    let mut columns = LabelColumns::new();
    for (name, label) in labels.into_iter().flatten() {
        let text = matches!(label, Label::Text(_));
        match columns.get_mut(name) {
            Some(kind) if text => *kind = LabelKind::Text,
            Some(_) => {}
            None => {
                let kind = if text { LabelKind::Text } else { LabelKind::Number };
                columns.insert(name.clone(), kind);
            }
        }
    }
    columns
}

/// One embedding an object, with what is known of the object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    /// Id of every object.
    pub ids: Vec<String>,
    /// Split of every object: `train`, `validation`, `test`.
    pub splits: Vec<String>,
    /// Labels of every object; one that is not known is absent.
    pub labels: Vec<Labels>,
    /// Units of labels that state one.
    pub units: LabelUnits,
    /// The vectors, row-major `[objects, shape...]`.
    pub vectors: Vec<f32>,
    /// Shape of one object's embedding: `[width]` when pooled over tokens, `[tokens, width]`
    /// when not.
    pub shape: Vec<usize>,
    /// How they were made.
    pub description: Description,
}

impl Embeddings {
    /// An empty table for embeddings of `shape`.
    pub fn new(shape: &[usize], description: Description) -> Self {
        Self { shape: shape.to_vec(), description, ..Self::default() }
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Numbers an object: the product of [`shape`](Self::shape).
    pub fn width(&self) -> usize {
        self.shape.iter().product()
    }

    /// Adds an object.
    ///
    /// # Errors
    /// When `vector` does not hold [`width`](Self::width) numbers.
    pub fn push(&mut self, id: &str, split: &str, labels: Labels, vector: &[f32]) -> Result<()> {
        if vector.len() != self.width() {
            return Err(Error::object(
                id,
                format!("an embedding of {} numbers does not fit {:?}", vector.len(), self.shape),
            ));
        }
        self.ids.push(id.to_owned());
        self.splits.push(split.to_owned());
        self.labels.push(labels);
        self.vectors.extend_from_slice(vector);
        Ok(())
    }

    /// The label columns of the table.
    pub fn columns(&self) -> LabelColumns {
        label_columns(&self.labels)
    }

    /// The label `name` of every object as a number; `None` where it is not known or a text.
    pub fn numbers(&self, name: &str) -> Vec<Option<f64>> {
        self.labels.iter().map(|labels| labels.get(name).and_then(Label::number)).collect()
    }

    /// The label `name` of every object as a text; `None` where it is not known or a number.
    pub fn texts(&self, name: &str) -> Vec<Option<&str>> {
        let labels = self.labels.iter();
        labels
            .map(|labels| match labels.get(name) {
                Some(Label::Text(text)) => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Writes the table as Parquet: columns `id`, `split`, `embedding` (a fixed-size list of
    /// `f32`) and one for each label, its unit in the column's metadata under `unit`; shape and
    /// description go to the file's metadata.
    ///
    /// # Errors
    /// When the table's parts differ in length or the file cannot be written.
    pub fn write_parquet(&self, path: impl AsRef<Path>) -> Result<()> {
        const ROWS: usize = 1024;
        self.check()?;
        let columns = self.columns();
        let columns = (columns, &self.units);
        let mut sink = ParquetSink::create(path, &self.shape, columns, &self.description)?;
        for start in (0..self.len()).step_by(ROWS) {
            let rows = start..(start + ROWS).min(self.len());
            let width = self.width();
            sink.write(&Rows {
                ids: &self.ids[rows.clone()],
                splits: &self.splits[rows.clone()],
                labels: &self.labels[rows.clone()],
                vectors: &self.vectors[rows.start * width..rows.end * width],
            })?;
        }
        sink.finish()?;
        Ok(())
    }

    /// Refuses a table whose parts are not of one length.
    fn check(&self) -> Result<()> {
        let n = self.len();
        let lengths = [self.splits.len(), self.labels.len()];
        if lengths != [n, n] || self.vectors.len() != n * self.width() {
            return Err(Error::Failed(format!(
                "a table of {n} ids holds {} splits, {} rows of labels and {} numbers of the \
                 {} expected",
                lengths[0],
                lengths[1],
                self.vectors.len(),
                n * self.width()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn table() -> Embeddings {
        let description = Description::from([("layer".into(), "3".into())]);
        let mut table = Embeddings::new(&[2, 3], description);
        table.units = [("id", "s"), ("redshift", "km/s")].map(|(l, u)| (l.into(), u.into())).into();
        for i in 0..2500 {
            let mut labels = Labels::from([("class".into(), Label::Text(format!("c{}", i % 3)))]);
            labels.insert("id".into(), Label::Number(f64::from(i)));
            if i % 2 == 0 {
                labels.insert("redshift".into(), Label::Number(f64::from(i) / 7.0));
            }
            if i == 9 {
                labels.insert("class".into(), Label::Number(0.5));
            }
            let vector: Vec<f32> = (0..6).map(|j| i as f32 + j as f32 / 10.0).collect();
            table
                .push(&format!("o{i}"), ["train", "test"][i as usize % 2], labels, &vector)
                .unwrap();
        }
        table
    }

    #[test]
    fn parquet_comes_back_as_it_went() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("embeddings.parquet");
        let mut table = table();
        table.write_parquet(&path).unwrap();
        // A number in a column of texts comes back as a text.
        table.labels[9].insert("class".into(), Label::Text("0.5".into()));
        assert_eq!(Embeddings::read_parquet(&path).unwrap(), table);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn an_empty_table_is_a_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.parquet");
        let table = Embeddings::new(&[4], Description::new());
        table.write_parquet(&path).unwrap();
        assert_eq!(Embeddings::read_parquet(&path).unwrap(), table);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.parquet");
        let mut table = table();
        assert!(table.push("x", "train", Labels::new(), &[0.0]).is_err());
        table.splits.pop();
        assert!(table.write_parquet(&path).is_err());
        let columns = (LabelColumns::new(), &LabelUnits::new());
        let sink = ParquetSink::create(&path, &[2], columns, &table.description);
        let mut sink = sink.unwrap();
        let labels = Labels::from([("z".into(), Label::Number(1.0))]);
        let (ids, splits) = (["a".to_owned()], ["train".to_owned()]);
        let rows = Rows { ids: &ids, splits: &splits, labels: &[labels], vectors: &[0.0; 2] };
        let message = sink.write(&rows).unwrap_err().to_string();
        assert!(message.contains("\"z\""), "{message}");
        drop(sink);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
