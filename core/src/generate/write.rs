//! Generated spans as files in the modality's own units.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fits;
use crate::checkpoint::write_bytes;
use crate::embed::NpySink;
use crate::error::{Error, Result};
use crate::observation::{Array, Data, Label, LabelUnits, Observation};
use crate::picture;
use crate::seam::{Modality, Preview};
use crate::tokens::{Tokens, Values};

/// Samples of an object's own fields of one axis, by name.
pub type Lengths = BTreeMap<String, usize>;

/// What was written for one object.
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
}

impl Files {
    /// Names the files as they are called in `folder`.
    pub(crate) fn move_to(&mut self, folder: &Path) {
        let Self { picture, table, fits, array } = self;
        for path in [picture, table, fits, array].into_iter().flatten() {
            if let Some(name) = path.file_name() {
                *path = folder.join(name);
            }
        }
    }

    /// All that were written.
    pub fn into_all(self) -> impl Iterator<Item = PathBuf> {
        let Self { picture, table, fits, array } = self;
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
/// what the tokens tell as columns, or else one `generated.npy` with the arrays of all
/// objects; as [`Format::Fits`] they are a FITS file per object.
pub struct Writer<'a> {
    modality: &'a dyn Modality,
    folder: PathBuf,
    format: Format,
    units: LabelUnits,
    arrays: Option<(NpySink, Vec<usize>)>,
    /// Objects of whose columns it is not known where they end.
    endless: usize,
}

impl<'a> Writer<'a> {
    /// Writes spans of `modality` into `folder`, which must exist, over what is there.
    pub fn new(modality: &'a dyn Modality, folder: &Path, format: Format) -> Self {
        let units = modality.label_units();
        Self { modality, folder: folder.to_owned(), format, units, arrays: None, endless: 0 }
    }

    /// The same with labels in these units, as the data have them.
    #[must_use]
    pub fn in_units(self, units: &LabelUnits) -> Self {
        Self { units: units.clone(), ..self }
    }

    /// Writes the `generated` tokens of the object `id`, and a picture of them beside that of its
    /// `own`, both in the numbers of what is generated, to files that begin with `stem`. Columns
    /// end where the object's own fields of these `lengths` do: what fills the last token up is no
    /// sample.
    ///
    /// # Errors
    /// When the tokens are not the modality's, or a file cannot be written.
    pub fn write(
        &mut self,
        id: &str,
        stem: &str,
        generated: &Tokens,
        own: Option<&Tokens>,
        lengths: &Lengths,
    ) -> Result<Files> {
        let mut files = Files::default();
        if let Some(picture) = self.modality.preview(generated)? {
            let own = own.map(|own| self.beside(generated, own)).transpose()?.flatten();
            let path = self.folder.join(format!("{stem}.png"));
            let row: Vec<_> = std::iter::once(picture).chain(own).collect();
            write_bytes(&path, &picture::sheet(&[row])?)?;
            files.picture = Some(path);
        }
        let mut told = self.modality.reconstruct(generated)?;
        if let Some(told) = &mut told {
            let continuous = matches!(self.modality.spec().values, Values::Continuous { .. });
            self.endless += usize::from(!cut(told, lengths) && continuous);
        }
        if self.format == Format::Fits {
            let path = self.folder.join(format!("{stem}.fits"));
            write_bytes(&path, &self.fits(id, generated, told)?)?;
            files.fits = Some(path);
        } else if let Some(columns) = told.and_then(|told| columns(&told, &self.units)) {
            let path = self.folder.join(format!("{stem}.csv"));
            write_bytes(&path, &csv(&columns)?)?;
            files.table = Some(path);
        } else {
            files.array = Some(self.append(id, &self.modality.detokenise(generated)?)?);
        }
        Ok(files)
    }

    /// The picture of an object's `own` tokens, in units only where what is `generated` is.
    fn beside(&self, generated: &Tokens, own: &Tokens) -> Result<Option<Preview>> {
        let affine = if generated.affine.is_empty() { Vec::new() } else { own.affine.clone() };
        self.modality.preview(&Tokens { affine, ..own.clone() })
    }

    /// What the tokens tell as a FITS file: columns, one array with its unit, or the array
    /// that they were made of.
    fn fits(&self, id: &str, tokens: &Tokens, told: Option<Observation>) -> Result<Vec<u8>> {
        if let Some(told) = told {
            if let Some(table) = fits::table(id, &told, &self.units)? {
                return Ok(table);
            }
            let mut fields = told.fields.values();
            if let (Some(field), None) = (fields.next(), fields.next()) {
                return fits::image(id, &field.array, field.unit.as_deref());
            }
        }
        fits::image(id, &self.modality.detokenise(tokens)?, None)
    }

    fn append(&mut self, id: &str, array: &Array) -> Result<PathBuf> {
        let path = self.folder.join("generated.npy");
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

/// Cuts columns to as many samples as the shortest of the object's own fields of their names has.
/// Answers whether that is known, or there are no columns.
fn cut(told: &mut Observation, lengths: &Lengths) -> bool {
    let columns = || told.fields.iter().filter(|(_, field)| field.array.shape.len() == 1);
    let Some(len) = columns().filter_map(|(name, _)| lengths.get(name)).min().copied() else {
        return columns().next().is_none();
    };
    for Array { shape, data } in told.fields.values_mut().map(|field| &mut field.array) {
        if let [found] = &mut shape[..] {
            *found = len.min(*found);
            match data {
                Data::U8(all) => all.truncate(len),
                Data::U16(all) => all.truncate(len),
                Data::F32(all) => all.truncate(len),
                Data::F64(all) => all.truncate(len),
                Data::I64(all) => all.truncate(len),
            }
        }
    }
    true
}

/// A heading and its cells.
type Column = (String, Vec<String>);

/// The observation as columns of equal length: its one-dimensional fields, or else its
/// labels as one line. `None` when neither is all there is.
fn columns(observation: &Observation, units: &LabelUnits) -> Option<Vec<Column>> {
    let heading = |name: &String, unit: Option<&String>| match unit {
        Some(unit) => format!("{name} [{unit}]"),
        None => name.clone(),
    };
    let mut columns = Vec::new();
    for (name, field) in &observation.fields {
        let [_] = field.array.shape[..] else { return None };
        let cells = field.array.data.to_f64().iter().map(f64::to_string).collect();
        columns.push((heading(name, field.unit.as_ref()), cells));
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
    use crate::observation::Field;

    #[test]
    fn columns_end_where_the_objects_own_do() {
        let column = |n: usize| Field {
            array: Array::new(vec![n], Data::F64(vec![1.0; n])).expect("sound"),
            unit: None,
        };
        let told = |n: usize| {
            let fields = ["flux", "wavelength"].map(|name| (name.to_owned(), column(n)));
            Observation { fields: fields.into(), ..Observation::default() }
        };
        let lengths = |n: usize| Lengths::from([("flux".to_owned(), n), ("ivar".to_owned(), 1)]);
        for (own, expected) in [(6, 6), (8, 8), (100, 8)] {
            let mut told = told(8);
            assert!(cut(&mut told, &lengths(own)));
            assert!(told.fields.values().all(|field| field.array.data.len() == expected));
            assert!(told.fields.values().all(|field| field.array.shape == [expected]));
        }
        let mut unknown = told(8);
        assert!(!cut(&mut unknown, &Lengths::new()));
        assert_eq!(unknown, told(8));
        assert!(cut(&mut Observation::default(), &Lengths::new()), "there are no columns");
    }
}
