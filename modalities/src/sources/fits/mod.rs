//! The source `fits`: images, cubes and binary tables of FITS files.
//!
//! An object is a file, an HDU, or a row of a table or of an image's slowest axis
//! (`objects`). Its arrays are `fields`, each an HDU or a column by name or number; they keep
//! the type of the file (`u8`, unsigned 16 bits, other integers as 64 bits, single and double
//! precision) and its unit. `BSCALE`/`BZERO`, the conventions for unsigned integers, `BLANK`
//! (NaN) and their like in tables are applied. Images are `[height, width, bands]` with the
//! rows in the order of the file, whose first is usually drawn at the bottom. Of an image with more
//! than three axes those of length 1 before the picture's own are dropped: `NAXIS = 4` with one
//! Stokes parameter and one frequency is an image of one band.
//!
//! ```toml
//! # SDSS and BOSS spectra, one per file
//! fields.flux = { hdu = "COADD", column = "flux", unit = "1e-17 erg/(s cm2 Angstrom)" }
//! fields.wavelength = { hdu = "COADD", column = "loglam", transform = "pow10", unit = "Angstrom" }
//! label_hdu = "SPECOBJ"
//!
//! # DESI coadds: objects are rows, arms are sorted by wavelength
//! objects = "row"
//! arms = { names = ["B", "R", "Z"], along = "wavelength" }
//! fields.flux = { hdu = "{arm}_FLUX" }
//! fields.wavelength = { hdu = "{arm}_WAVELENGTH", shared = true }
//! label_hdu = "FIBERMAP"
//! id = "TARGETID"
//! ```
//!
//! Tables that are compressed by tiles (`fpack -table`) are refused. `CHECKSUM` and `DATASUM` are not
//! compared, for that takes reading a file whole: `fitscheck` of astropy does it.
//!
//! Nothing but the headers, rows and HDUs that are asked for is read, at the moment they are
//! asked for: memory does not depend on the size of a file. A file compressed as a whole
//! (`.fits.gz`) is unpacked first, beyond 8 MiB in a temporary file, which takes disk up to
//! `disk_budget` while the file is read: one for every worker, and two more where files hold
//! several objects, which training then reads together ([`Source::groups`]).

mod config;
mod contents;
mod fields;
mod header;
mod image;
mod index;
mod inner;
mod numbers;
mod reader;
mod table;
mod unpack;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use astropt_core::observation::{LabelUnits, Labels, Observation};
use astropt_core::seam::{Groups, Source, SourceConfig};
use astropt_core::{Error, Result};

use self::fields::{Open, Place};
use self::index::Index;
use self::reader::Reader;
use self::unpack::{KEPT, Unpacked};
use super::labels::LabelTable;
use super::listing::{FileKind, Names};
use super::tabular::{self, Cell, Content};
use super::units::OneUnitEach;

pub use self::config::{Arms, FieldConfig, FitsConfig, Name, Objects, Transform};

/// What FITS files are called.
const EXTENSIONS: &[&str] =
    &["fits", "fit", "fts", "fits.gz", "fit.gz", "fts.gz", "fits.fz", "fit.fz", "fts.fz"];
/// The files that are FITS files.
const FITS: FileKind = FileKind { one: "FITS file", a: "a FITS file", extensions: EXTENSIONS };

/// The reader that [`FitsConfig`] opens.
struct Fits {
    config: FitsConfig,
    index: Index,
    /// Labels from within the files, then those from a table beside them.
    labels: Vec<LabelTable>,
    label_units: LabelUnits,
    unpacked: Unpacked,
    /// Files that objects have been read of and more will be.
    idle: Idle,
}

/// Open files, each used by one thread at a time.
#[derive(Default)]
struct Idle(Mutex<Vec<(PathBuf, Open)>>);

impl Idle {
    /// Most files that wait open: a few for every worker.
    const MOST: usize = 16;

    fn take(&self, path: &Path) -> Option<Open> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().position(|(p, _)| p == path)?;
        Some(idle.swap_remove(at).1)
    }

    fn put(&self, path: PathBuf, open: Open, unpacked: &Unpacked) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What is unpacked takes memory or disk until the last who has it open is gone.
        let kept =
            |(path, open): &(PathBuf, Open)| !open.reader.is_packed() || unpacked.keeps(path);
        idle.push((path, open));
        idle.retain(kept);
        if idle.len() > Self::MOST {
            idle.remove(0);
        }
    }
}

#[typetag::serde(name = "fits")]
impl SourceConfig for FitsConfig {
    fn check(&self) -> Result<()> {
        self.check_keys()
    }

    fn open(&self, root: &Path) -> Result<Box<dyn Source>> {
        self.check_keys()?;
        let unpacked = Unpacked::new(self.disk_budget);
        let mut index = Index::open(self, &root.join(&self.path), &unpacked)?;
        let mut labels = Vec::new();
        labels.extend(inner::labels(self, &mut index, &unpacked)?);
        let beside = super::labels::LabelFile {
            path: self.labels.as_deref(),
            name_column: self.name_column.as_deref(),
            look: !FITS.fits(&self.path),
            places: index.ids_are_places().then_some(PLACES),
        };
        let ids: Vec<String>;
        let names = match index.listing() {
            Some(listing) => beside.load(index.base(), root, || listing.names())?,
            None => {
                ids = (0..index.len()).map(|k| index.id(k)).collect();
                let names = || Names::of_ids(ids.iter().map(String::as_str));
                beside.load(index.base(), root, names)?
            }
        };
        labels.extend(names);
        let label_units = label_units(&labels).map_err(|m| Error::file(index.base(), m))?;
        let idle = Idle::default();
        Ok(Box::new(Fits { config: self.clone(), index, labels, label_units, unpacked, idle }))
    }
}

/// What to do where rows or HDUs have no ids and a table of labels does not say which is whose.
const PLACES: &str = "name the column that does, rows counted from 0 and HDUs from 0, with \
                      `name_column`, write whole ids into it, or name what holds the objects' ids \
                      with `id`";

/// The units of the labels in all of `tables`: where two have a label, one may be of some objects and
/// the other of others.
///
/// # Errors
/// When a label is in two units.
fn label_units(tables: &[LabelTable]) -> Result<LabelUnits, String> {
    let mut units = OneUnitEach::default();
    for table in tables {
        for (label, unit) in table.units() {
            units.add(label, table.place(), unit)?;
        }
    }
    Ok(units.settled())
}

impl Source for Fits {
    fn len(&self) -> usize {
        self.index.len()
    }

    fn id(&self, index: usize) -> String {
        self.index.id(index)
    }

    fn ids_are_places(&self) -> bool {
        self.index.ids_are_places()
    }

    fn labels(&self, index: usize) -> Labels {
        // What stands in the table beside the files wins over what the files say.
        self.labels.iter().flat_map(|table| table.of(index)).collect()
    }

    fn label_units(&self) -> LabelUnits {
        self.label_units.clone()
    }

    fn groups(&self) -> Option<Groups> {
        self.index.packed().map(|starts| Groups { starts, held: KEPT, shards: vec![0] })
    }

    fn read(&self, index: usize) -> Result<Observation> {
        let (paths, place) = self.index.place(index)?;
        // A file of several objects stays open, its headers read.
        let keep = place != Place::Whole;
        let open = |path: &PathBuf| match self.idle.take(path).filter(|_| keep) {
            Some(open) => Ok(open),
            None => Reader::open(path, &self.unpacked, keep).map(Open::new),
        };
        let mut files = paths.iter().map(open).collect::<Result<Vec<_>>>()?;
        let fields = fields::read(&self.config, &mut files, place).map_err(|(file, message)| {
            let path = paths.get(file).or(paths.first()).cloned().unwrap_or_default();
            Error::file(path, format!("object {}: {message}", self.id(index)))
        })?;
        if keep {
            let put = |(path, open)| self.idle.put(path, open, &self.unpacked);
            paths.into_iter().zip(files).for_each(put);
        }
        Ok(Observation { id: self.id(index), fields, labels: self.labels(index) })
    }
}

/// The columns of the first binary table of a FITS file, as a table of labels, and of those that
/// are none what they hold.
///
/// # Errors
/// When it cannot be read or has none.
pub(super) fn label_columns(path: &Path) -> Result<Vec<tabular::Column>> {
    let (_, _, table) = label_table(path)?;
    let column = |column: &table::Column| {
        let several = if column.is_several() { "several values a row, " } else { "" };
        let content = match column.is_label() {
            true => Content::Written,
            false => Content::Other(format!("{several}{}", column.holds())),
        };
        let unit = column.label_unit().map(str::to_owned);
        tabular::Column { name: column.name.clone(), unit, content }
    };
    Ok(table.columns.iter().map(column).collect())
}

/// Calls `row` with the cells of every row of that table.
///
/// # Errors
/// When it cannot be read.
pub(super) fn for_each_row(path: &Path, row: &mut dyn FnMut(&[Cell<'_>])) -> Result<()> {
    let (mut open, hdu, table) = label_table(path)?;
    let columns: Vec<_> = table.columns.iter().collect();
    table
        .cells(&mut open.reader, &hdu, &columns, 0..table.rows, &mut |_, cells| row(cells))
        .map_err(|message| Error::file(path, message))
}

fn label_table(path: &Path) -> Result<(Open, std::sync::Arc<header::Hdu>, table::Table)> {
    let fail = |message: String| Error::file(path, message);
    let mut open = Open::new(Reader::open(path, &Unpacked::new(None), false)?);
    let hdu = open
        .first(header::Hdu::is_table)
        .map_err(fail)?
        .ok_or_else(|| fail("it holds no binary table of labels".to_owned()))?;
    let table = table::Table::of(&hdu).and_then(table::Table::whole).map_err(fail)?;
    Ok((open, hdu, table))
}

astropt_core::register_source!(
    "fits",
    "FITS files: images, cubes, spectra and light curves, by HDU and column",
    "path = \"spectra\"\nobjects = \"file\"\n\
     fields.flux = { hdu = 1, column = \"flux\", unit = \"1e-17 erg/(s cm2 Angstrom)\" }\n\
     fields.wavelength = { hdu = 1, column = \"loglam\", transform = \"pow10\", \
     unit = \"Angstrom\" }",
    Some("path"),
    FitsConfig
);
