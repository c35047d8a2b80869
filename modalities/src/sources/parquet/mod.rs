//! The source `parquet`: one file, or a folder of shards in the Hugging Face layout.
//!
//! An object is a row. Its fields are columns: pictures (bytes of JPEG, PNG or TIFF files, or
//! structs of `bytes` and `path` as the `datasets` library writes them), numbers, and lists of
//! numbers in lists, of which each level becomes an axis; a part of a struct is named with a
//! dot, `spectrum.flux`, and texts such as the bands of a light curve become integers by their
//! `codes`. Lists on one level must be of one length. Its labels are the other
//! numbers and texts; what is null or NaN is not known, and an integer beyond 2^53, which a
//! double cannot hold, is kept as a text.
//!
//! Its id is `{shard}:{row}`, such as `train-00000-of-00010:7`, or comes from a column.
//!
//! Decimals are numbers, dates and times days of the modified Julian date (MJD, as the file has
//! them, UTC where it states a time zone; in the unit `d`), and durations seconds (`s`).
//!
//! Row groups are decoded as they are needed, large ones in parts, and the parts used last
//! are held; pictures are decoded at every reading. Memory does not grow with the files, but a
//! page is decoded whole, beside its bytes as they are packed, and anew for every part that it
//! serves. pyarrow puts 1,024 rows into a page however large they are: of pictures of megabytes
//! these are pages of gigabytes, which a larger `buffer` has decoded less often, and which
//! `write_batch_size=16` in `pyarrow.parquet.write_table` makes small.

mod columns;
mod footer;
mod held;
mod ids;
pub(crate) mod layout;
mod pages;
pub(crate) mod plan;
mod schema;
mod shard;
pub(crate) mod table;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use astropt_core::seam::{Source, SourceConfig};
use astropt_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::bytes::ByteSize;
pub(crate) use columns::Columns;
pub use columns::FieldColumn;
pub(crate) use footer::{Footer, TAIL, metadata_len};
pub(crate) use shard::Held;
use table::{Local, Table, survey};

/// Configuration of the source `parquet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParquetConfig {
    /// A `.parquet` file, or a folder that is searched with all folders in it. Of a dataset of
    /// several configs, in a folder each, name one's folder.
    pub path: PathBuf,
    /// Reads only the shards of this split: files that are called so, alone or with a number
    /// behind it as in `train-00000-of-00010.parquet`, or that lie in a folder of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Fields of an object and the columns they come from. By default `image`, if there is
    /// such a column, and otherwise every column that holds pictures or lists of numbers.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::shorthand::map"
    )]
    pub fields: Option<BTreeMap<String, FieldColumn>>,
    /// Columns that become labels; by default all that hold one number, date (as days, MJD),
    /// duration (as seconds), truth value or text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// Column of the objects' ids, which must differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Memory for rows that are held (`"512MB"`): the more, the better training is shuffled. To
    /// decode a page takes memory of its own, up to twice the page's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<ByteSize>,
}

impl ParquetConfig {
    fn columns(&self) -> Columns {
        Columns {
            fields: self.fields.clone(),
            labels: self.labels.clone(),
            id: self.id.clone(),
            buffer: self.buffer,
        }
    }
}

#[typetag::serde(name = "parquet")]
impl SourceConfig for ParquetConfig {
    fn check(&self) -> Result<()> {
        self.columns().check()
    }

    fn open(&self, root: &Path) -> Result<Box<dyn Source>> {
        let columns = self.columns();
        columns.check()?;
        let path = root.join(&self.path);
        let files = layout::list(&path, self.split.as_deref())?;
        // Of one file no others are asked for.
        if path.is_dir() {
            let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
            layout::one_config(&path, &names, self.split.as_deref())?;
            layout::tell_missing(names.into_iter());
        }
        let (mut names, mut shards) = (None, Vec::with_capacity(files.len()));
        for file in &files {
            if astropt_core::stop::asked() {
                return Err(astropt_core::stop::stopped(" while the table was opened"));
            }
            let footer = Footer::open(&file.path)?;
            shards.push(survey(&mut names, &columns, &file.name, &file.path, &footer)?);
        }
        let names = names.ok_or_else(|| Error::file(&self.path, "holds no shard"))?;
        Ok(Box::new(Table::new(Box::new(Local(files)), names, &columns, &shards)?))
    }
}

astropt_core::register_source!(
    "parquet",
    "Parquet files: pictures, spectra and light curves in columns, numbers as labels",
    "path = \"galaxies\"\nsplit = \"train\"\nfields = { image = \"image_crop\" }\nlabels = [\"redshift\"]",
    Some("path"),
    ParquetConfig
);
