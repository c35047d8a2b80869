//! The source `image-folder`: JPEG, PNG and TIFF files, and a table of labels beside them.
//!
//! Objects are ordered by their path relative to the folder, or as the list file has them.
//! An object's id is its path relative to the folder, without the extension: it does not
//! change when other files come or go. Its one field, `image`, is `[height, width, bands]` in
//! the file's own type; see [`decode`](crate::sources::decode).
//!
//! Labels come from a CSV or Parquet table that names a file, or its stem, in one of its
//! columns. Rows that name no file and files that no row names are fine, as long as at least
//! one pair is found. Where several rows name one file, a label they disagree on is unknown;
//! two columns that name equally many files, but different ones, are refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use astropt_core::observation::{Array, Field, LabelUnits, Labels, Observation};
use astropt_core::seam::{Source, SourceConfig};
use astropt_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::decode::decode;
use super::labels::{LabelFile, LabelTable};
use super::listing::{FileKind, Listing};

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 2 << 30;

/// Configuration of the source `image-folder`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFolderConfig {
    /// A folder, searched with all folders in it for `.jpg`, `.jpeg`, `.png`, `.tif` and
    /// `.tiff` files (names that start with a dot are passed over); or a `.txt` file with
    /// one path per line, relative to that file (empty lines and lines that start with `#`
    /// are passed over); or one image.
    pub path: PathBuf,
    /// A `.csv` or `.parquet` table of labels, relative to `path` or to where `path` starts
    /// from. By default `labels.csv` or `labels.parquet` in the folder, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Column of the table that names the files: by stem, file name or relative path. By
    /// default the column that names most of them; a column of numbers is looked at only
    /// when it is called like a name (`id`, `file`, `image` and the like).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_column: Option<String>,
}

/// The reader that [`ImageFolderConfig`] opens.
#[derive(Debug)]
struct ImageFolder {
    listing: Listing,
    labels: Option<LabelTable>,
}

/// The files that are images.
const IMAGES: FileKind =
    FileKind { one: "image", a: "an image", extensions: &["jpg", "jpeg", "png", "tif", "tiff"] };

#[typetag::serde(name = "image-folder")]
impl SourceConfig for ImageFolderConfig {
    fn open(&self, root: &Path) -> Result<Box<dyn Source>> {
        let listing = Listing::open(&root.join(&self.path), &IMAGES)?;
        let file = LabelFile {
            path: self.labels.as_deref(),
            name_column: self.name_column.as_deref(),
            // A table beside a single image is about others.
            look: !IMAGES.fits(&self.path),
            places: None,
        };
        let labels = file.load(listing.base(), root, || listing.names())?;
        Ok(Box::new(ImageFolder { listing, labels }))
    }
}

impl Source for ImageFolder {
    fn len(&self) -> usize {
        self.listing.len()
    }

    fn id(&self, index: usize) -> String {
        self.listing.id(index).to_owned()
    }

    fn labels(&self, index: usize) -> Labels {
        self.labels.as_ref().map(|table| table.of(index)).unwrap_or_default()
    }

    fn label_units(&self) -> LabelUnits {
        self.labels.as_ref().map(|table| table.units().clone()).unwrap_or_default()
    }

    fn read(&self, index: usize) -> Result<Observation> {
        if index >= self.len() {
            return Err(Error::Failed(format!(
                "there is no image {index}; the folder has {}",
                self.len()
            )));
        }
        let image = read_picture(&self.listing.path(index))?;
        Ok(Observation {
            id: self.id(index),
            fields: BTreeMap::from([("image".to_owned(), Field { array: image, unit: None })]),
            labels: self.labels(index),
        })
    }
}

/// Reads and decodes one file.
fn read_picture(path: &Path) -> Result<Array> {
    let fail = |error: std::io::Error| Error::io("read the image", path, &error);
    let file = File::open(path).map_err(fail)?;
    let length = file.metadata().map_err(fail)?.len();
    if length > MAX_FILE {
        return Err(Error::file(
            path,
            format!("{length} bytes; at most {MAX_FILE} are read: cut it into stamps"),
        ));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(fail)?;
    decode(&bytes).map_err(|message| Error::file(path, message))
}

astropt_core::register_source!(
    "image-folder",
    "A folder of JPEG, PNG and TIFF images, with labels in a CSV or Parquet table",
    "path = \"galaxies\"\nlabels = \"labels.csv\"\nname_column = \"name\"",
    Some("path"),
    ImageFolderConfig
);
