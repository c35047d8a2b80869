//! Generated spans as files in the modality's own units.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::fits::{self, Remarks};
use crate::checkpoint::write_bytes;
use crate::embed::NpySink;
use crate::error::{Error, Result};
use crate::observation::{Array, Label, LabelUnits, Observation};
use crate::picture;
use crate::progress;
use crate::seam::{Modality, Preview, SpanFacts};
use crate::tokens::{Tokens, Values};

/// What was written for one object, and what must be known to read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Files {
    /// Picture of the generated span, beside the object's own where it has one.
    pub picture: Option<PathBuf>,
    /// Columns of numbers with their units, as CSV.
    pub table: Option<PathBuf>,
    /// The image or columns with their units, as FITS.
    pub fits: Option<PathBuf>,
    /// The arrays of all objects as NumPy reads them, one after the other.
    pub array: Option<PathBuf>,
    /// By column of numbers what its name and unit do not say of them; CSV has it in the heading.
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
}

impl Files {
    /// Names the files as they are called in `folder`.
    pub(crate) fn move_to(&mut self, folder: &Path) {
        let Self { picture, table, fits, array, notes: _ } = self;
        for path in [picture, table, fits, array].into_iter().flatten() {
            if let Some(name) = path.file_name() {
                *path = folder.join(name);
            }
        }
    }

    /// All that were written.
    pub fn into_all(self) -> impl Iterator<Item = PathBuf> {
        let Self { picture, table, fits, array, notes: _ } = self;
        [picture, table, fits, array].into_iter().flatten()
    }
}

/// How numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A CSV per object, or one file of all arrays for NumPy where the numbers are no columns
    #[default]
    Csv,
    /// A FITS file per object: an image in the primary HDU, or columns in a binary table
    Fits,
}

/// Writes generated spans of one modality into a folder: a PNG per object where the
/// modality has a picture, and the numbers. As [`Format::Csv`] these are a CSV per object, of
/// what the tokens tell as columns, or else one file `NAME.npy` with the arrays of all
/// objects; as [`Format::Fits`] they are a FITS file per object. All names begin with the
/// modality's.
pub struct Writer<'a> {
    modality: &'a dyn Modality,
    /// The modality's name, as files are called.
    name: String,
    folder: PathBuf,
    format: Format,
    units: LabelUnits,
    arrays: Option<(NpySink, Vec<usize>)>,
    /// Objects of whose columns it is not known where they end.
    endless: usize,
    /// What was said already.
    remarks: Remarks,
    /// Columns of whose numbers something was said.
    noted: BTreeSet<String>,
}

impl<'a> Writer<'a> {
    /// Writes spans of `modality`, which the run calls `name`, into `folder`, which must exist, over
    /// what is there.
    pub fn new(modality: &'a dyn Modality, name: &str, folder: &Path, format: Format) -> Self {
        Self {
            modality,
            name: plain(name),
            folder: folder.to_owned(),
            format,
            units: modality.label_units(),
            arrays: None,
            endless: 0,
            remarks: Remarks::new(),
            noted: BTreeSet::new(),
        }
    }

    /// The same with labels in these units, as the data have them.
    #[must_use]
    pub fn in_units(self, units: &LabelUnits) -> Self {
        Self { units: units.clone(), ..self }
    }

    /// Writes the `generated` tokens of the object `id`, number `place` of those written, and to the
    /// right of their picture that of its `own`, both in the numbers of what is generated. By
    /// `facts`, which its own observation tells, columns end where the object's do (what fills the
    /// last token up is no sample) and are in its numbers.
    ///
    /// # Errors
    /// When the tokens are not the modality's, or a file cannot be written.
    pub fn write(
        &mut self,
        (place, id): (usize, &str),
        generated: &Tokens,
        own: Option<&Tokens>,
        facts: &SpanFacts,
    ) -> Result<Files> {
        let stem = format!("{}-{place:04}-{}", self.name, plain(id));
        let mut files = Files::default();
        if let Some(picture) = self.modality.preview_of(generated, facts)? {
            let own = own.map(|own| self.beside(generated, own, facts)).transpose()?.flatten();
            let path = self.folder.join(format!("{stem}.png"));
            let row: Vec<_> = std::iter::once(picture).chain(own).collect();
            write_bytes(&path, &picture::sheet(&[row])?)?;
            files.picture = Some(path);
        }
        let mut told = self.modality.reconstruct(generated)?;
        if let Some(told) = &mut told {
            let continuous = matches!(self.modality.spec().values, Values::Continuous { .. });
            self.endless += usize::from(facts.padding.is_none() && continuous);
            facts.complete(told);
        }
        let is_column = |name: &String| told.as_ref().is_some_and(|t| t.fields.contains_key(name));
        files.notes.extend(facts.notes.clone().into_iter().filter(|(name, _)| is_column(name)));
        self.tell_notes(id, &files.notes);
        if self.format == Format::Fits {
            let path = self.folder.join(format!("{stem}.fits"));
            write_bytes(&path, &self.fits(id, generated, told, facts)?)?;
            files.fits = Some(path);
        } else if let Some(columns) =
            told.and_then(|told| columns(&told, &self.units, &facts.notes))
        {
            let path = self.folder.join(format!("{stem}.csv"));
            write_bytes(&path, &csv(&columns)?)?;
            files.table = Some(path);
        } else {
            files.array = Some(self.append(id, &self.modality.detokenise(generated)?)?);
        }
        Ok(files)
    }

    /// Warns, once for each column, of numbers that are not what name and unit say.
    fn tell_notes(&mut self, id: &str, notes: &BTreeMap<String, String>) {
        for (column, note) in notes {
            if self.noted.insert(column.clone()) {
                progress::warn(&format!(
                    "the column {column} of {id} is {note}; {} says it of every object",
                    crate::run::GENERATED
                ));
            }
        }
    }

    fn warn_once(&mut self, remark: String) {
        if !self.remarks.contains(&remark) {
            progress::warn(&remark);
            self.remarks.insert(remark);
        }
    }

    /// The picture of an object's `own` tokens, in units only where what is `generated` is.
    fn beside(
        &self,
        generated: &Tokens,
        own: &Tokens,
        facts: &SpanFacts,
    ) -> Result<Option<Preview>> {
        let affine = if generated.affine.is_empty() { Vec::new() } else { own.affine.clone() };
        self.modality.preview_of(&Tokens { affine, ..own.clone() }, facts)
    }

    /// What the tokens tell as a FITS file: columns, one array with its unit, or the array
    /// that they were made of.
    fn fits(
        &mut self,
        id: &str,
        tokens: &Tokens,
        told: Option<Observation>,
        facts: &SpanFacts,
    ) -> Result<Vec<u8>> {
        let mut remarks = Remarks::new();
        let table =
            |told, remarks: &mut _| fits::table(id, told, &self.units, &facts.notes, remarks);
        let columns = told.as_ref().map(|told| table(told, &mut remarks)).transpose()?.flatten();
        let field = told.as_ref().filter(|told| told.fields.len() == 1);
        let field = field.and_then(|told| told.fields.values().next());
        let file = match (columns, field) {
            (Some(table), _) => table,
            (None, Some(field)) => {
                fits::image(id, &field.array, field.unit.as_deref(), &mut remarks)?
            }
            (None, None) => {
                let only = facts.units.values().next().filter(|_| facts.units.len() == 1);
                let unit = only.filter(|_| told.is_none()).map(String::as_str);
                fits::image(id, &self.modality.detokenise(tokens)?, unit, &mut remarks)?
            }
        };
        remarks.into_iter().for_each(|remark| self.warn_once(remark));
        Ok(file)
    }

    fn append(&mut self, id: &str, array: &Array) -> Result<PathBuf> {
        let path = self.folder.join(format!("{}.npy", self.name));
        let (sink, shape) = match &mut self.arrays {
            Some(arrays) => arrays,
            None => {
                let sink = NpySink::create(&path, &array.shape)?;
                self.arrays.insert((sink, array.shape.clone()))
            }
        };
        if *shape != array.shape {
            let message = format!("its shape is {:?}, the others' {shape:?}", array.shape);
            return Err(Error::object(id, message));
        }
        sink.write(&[id.to_owned()], &array.data.to_f32())?;
        Ok(path)
    }

    /// Ends the file of arrays, if there is one. Answers of how many objects columns were written
    /// without knowing where their own end.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(self) -> Result<usize> {
        self.arrays.map_or(Ok(()), |(sink, _)| sink.finish())?;
        Ok(self.endless)
    }
}

/// `words` as a part of a file's name, whatever they hold.
fn plain(words: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    words.chars().take(80).map(plain).collect()
}

/// A heading and its cells.
type Column = (String, Vec<String>);

/// The observation as columns of equal length: its one-dimensional fields, or else its
/// labels as one line. `None` when neither is all there is. `notes` on fields go into their headings.
fn columns(
    observation: &Observation,
    units: &LabelUnits,
    notes: &BTreeMap<String, String>,
) -> Option<Vec<Column>> {
    let heading = |name: &String, unit: Option<&String>| match unit {
        Some(unit) => format!("{name} [{unit}]"),
        None => name.clone(),
    };
    let noted = |name: &String| notes.get(name).map(|note| format!(", {note}")).unwrap_or_default();
    let mut columns = Vec::new();
    for (name, field) in &observation.fields {
        let [_] = field.array.shape[..] else { return None };
        let cells = field.array.data.to_f64().iter().map(f64::to_string).collect();
        columns.push((heading(name, field.unit.as_ref()) + &noted(name), cells));
    }
    if columns.is_empty() {
        columns.extend(observation.labels.iter().map(|(name, label)| {
            let cell = match label {
                Label::Number(number) => number.to_string(),
                Label::Text(text) => text.clone(),
            };
            (heading(name, units.get(name)), vec![cell])
        }));
    }
    let len = columns.first()?.1.len();
    columns.iter().all(|(_, cells)| cells.len() == len).then_some(columns)
}

fn csv(columns: &[Column]) -> Result<Vec<u8>> {
    let failed = |e: csv::Error| Error::Failed(format!("cannot make a table: {e}"));
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(columns.iter().map(|(heading, _)| heading)).map_err(failed)?;
    for line in 0..columns.first().map_or(0, |(_, cells)| cells.len()) {
        table.write_record(columns.iter().map(|(_, cells)| &cells[line])).map_err(failed)?;
    }
    table.into_inner().map_err(|e| Error::Failed(format!("cannot make a table: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::{Data, Field};

    #[test]
    fn a_heading_says_what_name_and_unit_do_not() {
        let array = Array::new(vec![2], Data::F64(vec![0.5, 3.0])).expect("sound");
        let field = |unit: Option<&str>| Field { array: array.clone(), unit: unit.map(Into::into) };
        let fields = [("time".to_owned(), field(Some("d"))), ("value".to_owned(), field(None))];
        let told = Observation { fields: fields.into(), ..Observation::default() };
        let notes = BTreeMap::from([("time".to_owned(), "counted modulo 50".to_owned())]);
        let columns = columns(&told, &LabelUnits::new(), &notes).expect("columns");
        let text = String::from_utf8(csv(&columns).expect("a table")).expect("UTF-8");
        assert_eq!(text, "\"time [d], counted modulo 50\",value\n0.5,0.5\n3,3\n");
    }
}
