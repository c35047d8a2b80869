//! What a recipe says of FITS files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use astropt_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::sources::axes::Axes;
use crate::sources::bytes::ByteSize;

/// Configuration of the source `fits`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitsConfig {
    /// A folder, searched with all folders in it for `.fits`, `.fit`, `.fts`, each also with
    /// `.gz` or `.fz` behind it; or a `.txt` file with one path per line; or one file.
    pub path: PathBuf,
    /// What an object is.
    #[serde(default)]
    pub objects: Objects,
    /// The arrays of an object by the names that modalities know them by. By default one,
    /// `image`.
    #[serde(default = "one_image")]
    pub fields: BTreeMap<String, FieldConfig>,
    /// One file per band: how the files are called, relative to the folder, with `{id}` and
    /// `{band}` in it, such as `"{id}-{band}.fits"`. A field is then stacked of its bands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
    /// The bands that `{band}` stands for, in `files` or in a field's `hdu` or `column`: a field
    /// is stacked of them along a new last axis, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bands: Vec<String>,
    /// The arms of a spectrograph that `{arm}` stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arms: Option<Arms>,
    /// Where an object's id comes from, if not from its file and its place in it: `EXTNAME`
    /// for objects that are HDUs, else a column of `label_hdu` of integers or texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Keywords that are labels: of the object's HDU, else of the file's primary header; those
    /// of HIERARCH cards as `"ESO DET X"`. Each must be in one of the files, and with one file per
    /// band be the same in all of an object that have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// A table in the same file (of one per band, the first's) whose columns are labels: one row
    /// per object, or one row where a file is an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_hdu: Option<Name>,
    /// Which columns of `label_hdu` are labels; by default all that hold one number or a text
    /// per row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_columns: Option<Vec<String>>,
    /// Disk that one unpacked `.fits.gz` may take while it is read (`"100GB"`), in the folder
    /// for temporary files: TMPDIR, else /var/tmp. By default 32GB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_budget: Option<ByteSize>,
    /// A `.csv`, `.parquet` or `.fits` table of labels, relative to `path` or to where `path`
    /// starts from. By default `labels.csv` or `labels.parquet` in the folder, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Column of that table that names the objects, if it is not to be found by itself. Rows and
    /// HDUs without an `id` are found by whole ids alone, such as `cube/7`; name here a column that
    /// counts them from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_column: Option<String>,
}

/// What an object is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objects {
    /// A file; its id is the path without the extension.
    #[default]
    File,
    /// An HDU that holds an image; its id is the file's and the HDU's number.
    Hdu,
    /// A row of a table, or of the slowest axis of an image; its id is the file's and the
    /// row's number, from 0.
    Row,
}

/// One array of an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldConfig {
    /// The HDU, by EXTNAME or number (0 is the primary); of several of one EXTNAME the first, or
    /// by EXTVER as in `"SCI,2"`. By default the object's own, else the first with data, if it is
    /// an image, or the first table where a `column` is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hdu: Option<Name>,
    /// The column of a table, by TTYPE or number (from 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<Name>,
    /// What to do to the numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<Transform>,
    /// The unit, where the file does not state it (TUNIT, BUNIT) or a transform changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// How the axes of an image follow each other; by default `chw`. Columns are no images
    /// unless this is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axes: Option<Axes>,
    /// Where objects are rows: that this array is the same for all objects of the file.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shared: bool,
}

/// What is done to the numbers of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    /// 10^x in double precision, as of the `loglam` of SDSS.
    Pow10,
}

/// The arms of a spectrograph: a field whose `hdu` or `column` names `{arm}` is chained of them
/// along its last axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arms {
    /// What `{arm}` stands for, in the order of the wavelengths.
    pub names: Vec<String>,
    /// The field of wavelengths: the samples of all arms are sorted by it, so that where arms
    /// overlap both are kept, alternating. Without it the arms follow each other as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub along: Option<String>,
    /// Instead of keeping overlaps: the wavelengths, one fewer than arms, at which an arm ends
    /// (exclusive) and the next begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<f64>,
}

/// An HDU or a column, by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of 0 or more or a name")]
pub enum Name {
    /// Its number.
    Number(u32),
    /// Its name; upper and lower case are the same unless both occur.
    Text(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl Name {
    /// The name with `value` in the place of `placeholder`.
    pub(super) fn with(&self, placeholder: &str, value: &str) -> Self {
        match self {
            Self::Number(number) => Self::Number(*number),
            Self::Text(text) => Self::Text(text.replace(placeholder, value)),
        }
    }

    fn has(&self, placeholder: &str) -> bool {
        matches!(self, Self::Text(text) if text.contains(placeholder))
    }
}

impl FieldConfig {
    /// Whether its HDU or column names `placeholder`.
    pub(super) fn has(&self, placeholder: &str) -> bool {
        [&self.hdu, &self.column].into_iter().flatten().any(|name| name.has(placeholder))
    }

    /// The field with `value` in the place of `placeholder`.
    pub(super) fn with(&self, placeholder: &str, value: &str) -> Self {
        let name = |name: &Option<Name>| name.as_ref().map(|name| name.with(placeholder, value));
        Self { hdu: name(&self.hdu), column: name(&self.column), ..self.clone() }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn one_image() -> BTreeMap<String, FieldConfig> {
    BTreeMap::from([("image".to_owned(), FieldConfig::default())])
}

fn misuse<T>(message: String) -> Result<T> {
    Err(Error::Misuse(message))
}

impl FitsConfig {
    /// The first field that is not shared by all objects, of its first arm and band.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn counted(&self) -> Result<FieldConfig> {
        self.counted_in(0)
    }

    /// The same, of the band with this number.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn counted_in(&self, band: usize) -> Result<FieldConfig> {
        let field = self.fields.values().find(|field| !field.shared).ok_or_else(|| {
            Error::Misuse("all `fields` are `shared`; one must differ between rows".to_owned())
        })?;
        let arm = self.arms.as_ref().and_then(|arms| arms.names.first());
        let field = arm.map_or(field.clone(), |arm| field.with("{arm}", arm));
        Ok(self.bands.get(band).map_or(field.clone(), |band| field.with("{band}", band)))
    }

    /// Checks what contradicts itself.
    pub(super) fn check_keys(&self) -> Result<()> {
        if self.fields.is_empty() {
            return misuse("`fields` names no array; leave it out for one `image`".to_owned());
        }
        let uses_band = self.fields.values().any(|field| field.has("{band}"));
        if self.bands.is_empty() == (uses_band || self.files.is_some()) {
            return misuse(
                "`bands` lists what `{band}` stands for in `files` or in a field's `hdu` or \
                 `column`: give both or neither"
                    .to_owned(),
            );
        }
        if let Some(files) = &self.files
            && !["{id}", "{band}"].iter().all(|hole| files.matches(hole).count() == 1)
        {
            return misuse(format!(
                "`files` is {files:?}; it must have {{id}} and {{band}} in it, each once"
            ));
        }
        if self.files.is_some() && self.objects != Objects::File {
            return misuse("with one file per band (`files`), an object is a file".to_owned());
        }
        for (name, field) in &self.fields {
            if field.shared && self.objects != Objects::Row {
                return misuse(format!(
                    "field {name:?} is `shared`, which is for `objects = \"row\"`"
                ));
            }
        }
        if let (Some(id), None, true) = (&self.id, &self.label_hdu, self.objects != Objects::Hdu) {
            return misuse(format!(
                "`id` is {id:?}, a column of `label_hdu`; say which table that is"
            ));
        }
        if self.objects == Objects::Hdu
            && (self.label_hdu.is_some() || self.id.as_deref().is_some_and(|id| id != "EXTNAME"))
        {
            return misuse(
                "objects that are HDUs have the `id` \"EXTNAME\" or none, and no `label_hdu`; \
                 a table of `labels` may name them by number or EXTNAME"
                    .to_owned(),
            );
        }
        self.check_arms()
    }

    fn check_arms(&self) -> Result<()> {
        let uses_arm = self.fields.values().any(|field| field.has("{arm}"));
        let Some(arms) = &self.arms else {
            return match uses_arm {
                true => misuse("a field names `{arm}`, but there is no `arms`".to_owned()),
                false => Ok(()),
            };
        };
        if arms.names.is_empty() || !uses_arm {
            return misuse("`arms` has `names`, which some field uses as `{arm}`".to_owned());
        }
        if let Some(along) = &arms.along
            && !self.fields.get(along).is_some_and(|field| field.has("{arm}"))
        {
            return misuse(format!("`arms.along` is {along:?}, which is no field with `{{arm}}`"));
        }
        let rising = arms.cut.windows(2).all(|pair| pair[0] < pair[1]);
        let fits = arms.cut.is_empty() || arms.cut.len() + 1 == arms.names.len();
        if !rising || !fits || (arms.along.is_none() && !arms.cut.is_empty()) {
            return misuse(format!(
                "`arms.cut` has {} wavelengths; it needs `arms.along` and one fewer than the {} \
                 arms, rising",
                arms.cut.len(),
                arms.names.len()
            ));
        }
        Ok(())
    }
}
