//! Which objects there are in the files, what they are called, and the labels that the files
//! themselves state.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use astropt_core::{Error, Result};

use super::FITS;
use super::config::{FitsConfig, Objects};
use super::fields::{Open, Place};
use super::header::{BLOCK, Hdu};
use super::reader::Reader;
use super::unpack::Unpacked;
use crate::sources::listing::Listing;

/// Most objects a source has: their indices are 32-bit numbers.
const MAX_OBJECTS: usize = u32::MAX as usize;

/// The objects of a source, in order.
#[derive(Debug)]
pub(super) struct Index {
    listing: Listing,
    objects: Found,
    /// Ids where they are not made of the place.
    ids: Option<Vec<Box<str>>>,
}

/// Where the objects are.
#[derive(Debug)]
enum Found {
    /// A file each.
    Files,
    /// A file per band each: the objects' ids, and the paths' part before and after the id of
    /// every band.
    Bands { ids: Vec<Box<str>>, holes: Vec<[String; 2]> },
    /// An HDU each: file, number and where its header starts; and the first of every file.
    Hdus { hdus: Vec<(u32, u32, u64)>, starts: Vec<u32> },
    /// A row each: the index of the first of every file, and of the end.
    Rows { starts: Vec<u32> },
}

impl Index {
    /// Finds the objects.
    ///
    /// # Errors
    /// When there are no files, or one whose objects have to be counted is damaged.
    pub(super) fn open(config: &FitsConfig, path: &Path, unpacked: &Unpacked) -> Result<Self> {
        let listing = Listing::open(path, &FITS)?;
        let mut index = Self { listing, objects: Found::Files, ids: None };
        match (config.objects, &config.files) {
            (Objects::File, Some(files)) => index.objects = bands(&index.listing, files, config)?,
            (Objects::File, None) => {}
            (Objects::Hdu, _) => index.find_hdus(config, unpacked)?,
            (Objects::Row, _) => index.find_rows(config, unpacked)?,
        }
        if index.len() == 0 || index.len() > MAX_OBJECTS {
            return Err(Error::file(
                path,
                format!("{} objects; there must be between 1 and {MAX_OBJECTS}", index.len()),
            ));
        }
        Ok(index)
    }

    pub(super) fn len(&self) -> usize {
        match &self.objects {
            Found::Files => self.listing.len(),
            Found::Bands { ids, .. } => ids.len(),
            Found::Hdus { hdus, .. } => hdus.len(),
            Found::Rows { starts } => starts.last().map_or(0, |&end| end as usize),
        }
    }

    /// The folder of the files.
    pub(super) fn base(&self) -> &Path {
        self.listing.base()
    }

    /// The files, where each is an object under its own name.
    pub(super) fn listing(&self) -> Option<&Listing> {
        (matches!(self.objects, Found::Files) && self.ids.is_none()).then_some(&self.listing)
    }

    /// Whether objects are called by their places: HDUs and rows that have no names.
    pub(super) fn ids_are_places(&self) -> bool {
        self.ids.is_none() && matches!(self.objects, Found::Hdus { .. } | Found::Rows { .. })
    }

    pub(super) fn id(&self, index: usize) -> String {
        if let Some(id) = self.ids.as_ref().and_then(|ids| ids.get(index)) {
            return id.to_string();
        }
        match &self.objects {
            Found::Files => self.listing.id(index).to_owned(),
            Found::Bands { ids, .. } => ids.get(index).map(|id| id.to_string()).unwrap_or_default(),
            Found::Hdus { hdus, .. } => hdus.get(index).map_or_else(String::new, |hdu| {
                format!("{}/{}", self.listing.id(hdu.0 as usize), hdu.1)
            }),
            Found::Rows { starts } => {
                let (file, row) = row_of(starts, index);
                format!("{}/{row}", self.listing.id(file))
            }
        }
    }

    /// The files of object `index`, one or one per band, and where in them it is.
    ///
    /// # Errors
    /// When there is no such object.
    pub(super) fn place(&self, index: usize) -> Result<(Vec<PathBuf>, Place)> {
        if index >= self.len() {
            let len = self.len();
            return Err(Error::Failed(format!("there is no object {index}; there are {len}")));
        }
        let one = |file: usize| vec![self.listing.path(file)];
        Ok(match &self.objects {
            Found::Files => (one(index), Place::Whole),
            Found::Bands { ids, holes } => {
                let path = |[before, after]: &[String; 2]| {
                    self.listing.base().join(format!("{before}{}{after}", ids[index]))
                };
                (holes.iter().map(path).collect(), Place::Whole)
            }
            Found::Hdus { hdus, .. } => {
                let (file, number, offset) = hdus[index];
                (one(file as usize), Place::Hdu { number: number as usize, offset })
            }
            Found::Rows { starts } => {
                let (file, row) = row_of(starts, index);
                (one(file), Place::Row(row))
            }
        })
    }

    /// The first object of every file, where a file has to be unpacked before an object of it
    /// can be read.
    pub(super) fn packed(&self) -> Option<Vec<u32>> {
        let mut starts = match &self.objects {
            Found::Files | Found::Bands { .. } => return None,
            Found::Hdus { starts, .. } => starts.clone(),
            Found::Rows { starts } => starts.split_last()?.1.to_vec(),
        };
        let gz = |k: usize| self.listing.relative(k).to_ascii_lowercase().ends_with(".gz");
        let packed = (0..self.listing.len()).any(gz);
        starts.dedup(); // files without objects
        starts.retain(|&start| (start as usize) < self.len());
        packed.then_some(starts)
    }

    /// The objects that lie in one file, part by part, and that file; or an object's files, one
    /// per band. `None` when there is no part `k`.
    pub(super) fn part(&self, k: usize) -> Option<(Vec<PathBuf>, Range<usize>)> {
        let range = |starts: &[u32], end: usize| {
            let start = *starts.get(k)? as usize;
            Some((
                vec![self.listing.path(k)],
                start..starts.get(k + 1).map_or(end, |&end| end as usize),
            ))
        };
        match &self.objects {
            Found::Files | Found::Bands { .. } => {
                let (paths, _) = self.place(k).ok()?;
                Some((paths, k..k + 1))
            }
            Found::Hdus { hdus, starts } => range(starts, hdus.len()),
            Found::Rows { starts } => {
                (k + 1 < starts.len()).then(|| range(starts, self.len())).flatten()
            }
        }
    }

    fn open_file(&self, file: usize, unpacked: &Unpacked) -> Result<Open> {
        Reader::open(&self.listing.path(file), unpacked, true).map(Open::new)
    }

    fn find_hdus(&mut self, config: &FitsConfig, unpacked: &Unpacked) -> Result<()> {
        let (mut hdus, mut starts, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for file in 0..self.listing.len() {
            starts.push(hdus.len() as u32);
            let fail = |message| Error::file(self.listing.path(file), message);
            let mut reader = Reader::open(&self.listing.path(file), unpacked, true)?;
            // Where objects are counted, a missing end would go unnoticed.
            if reader.len() % BLOCK != 0 {
                return Err(fail(format!(
                    "it ends within a block of {BLOCK} bytes, so that HDUs may be missing; it is \
                     cut short: fetch it again or remove it"
                )));
            }
            let (mut next, mut number) = (Some(0), 0);
            while let Some(offset) = next {
                let hdu = Hdu::read(&mut reader, offset, number as usize).map_err(fail)?;
                next = hdu.next(&reader);
                if hdu.is_image() {
                    hdus.push((file as u32, number, offset));
                    if config.id.is_some() {
                        let name = hdu.header.text("EXTNAME");
                        ids.push(name.map(Box::from).ok_or_else(|| {
                            fail(format!("{} has no EXTNAME; leave out `id`", hdu.title()))
                        })?);
                    }
                }
                number += 1;
            }
        }
        self.objects = Found::Hdus { hdus, starts };
        if config.id.is_some() {
            self.set_ids(ids)?;
        }
        Ok(())
    }

    fn find_rows(&mut self, config: &FitsConfig, unpacked: &Unpacked) -> Result<()> {
        let field = config.counted()?;
        let mut starts = vec![0u32];
        let mut total = 0usize;
        for file in 0..self.listing.len() {
            let rows = self.open_file(file, unpacked)?.rows(&field).map_err(|message| {
                Error::file(self.listing.path(file), self.of_several(message))
            })?;
            total = total.saturating_add(rows);
            if total > MAX_OBJECTS {
                return Err(Error::file(
                    self.listing.base(),
                    format!("more than {MAX_OBJECTS} rows; name fewer files in a .txt list"),
                ));
            }
            starts.push(total as u32);
        }
        self.objects = Found::Rows { starts };
        Ok(())
    }

    /// `message`, of a file that lacks what the recipe names, with the way out where it lies among
    /// others: files of another kind often lie beside those of the data.
    pub(super) fn of_several(&self, message: String) -> String {
        match self.listing.len() {
            0 | 1 => message,
            _ => format!(
                "{message}. If this file is none of the data, give a .txt list of the files to read, \
                 one path a line, in the place of the folder"
            ),
        }
    }

    /// Takes ids that are not made of the objects' places.
    ///
    /// # Errors
    /// When two objects have the same.
    pub(super) fn set_ids(&mut self, ids: Vec<Box<str>>) -> Result<()> {
        let mut seen = HashMap::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            if let Some(first) = seen.insert(id, index) {
                return Err(Error::file(
                    self.listing.base(),
                    format!(
                        "objects {first} and {index} are both called {id:?}; leave out `id`, so \
                         that they are called by their places"
                    ),
                ));
            }
        }
        self.ids = Some(ids);
        Ok(())
    }
}

/// File and row of object `index`.
fn row_of(starts: &[u32], index: usize) -> (usize, usize) {
    let file = starts.partition_point(|&start| start as usize <= index).saturating_sub(1);
    (file, index - starts.get(file).map_or(0, |&start| start as usize))
}

/// Groups files into objects by the pattern `files`.
fn bands(listing: &Listing, files: &str, config: &FitsConfig) -> Result<Found> {
    let hole = |band: &String| {
        let pattern = files.replace("{band}", band);
        let (before, after) = pattern.split_once("{id}").unwrap_or((&pattern, ""));
        [before.to_owned(), after.to_owned()]
    };
    let holes: Vec<_> = config.bands.iter().map(hole).collect();
    let mut ids = BTreeSet::new();
    for file in 0..listing.len() {
        let name = listing.relative(file);
        let inner = |[before, after]: &[String; 2]| {
            name.strip_prefix(before.as_str())?.strip_suffix(after.as_str())
        };
        ids.extend(holes.iter().filter_map(inner).filter(|id| !id.is_empty()).map(Box::from));
    }
    if ids.is_empty() {
        return Err(Error::file(
            listing.base(),
            format!(
                "no file is called like `files` ({files:?}) for any of the bands {}; the first \
                 is {:?}",
                config.bands.join(", "),
                listing.relative(0)
            ),
        ));
    }
    Ok(Found::Bands { ids: ids.into_iter().collect(), holes })
}
