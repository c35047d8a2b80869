//! What files of a format hold, before a recipe says what to read of them.

use std::path::Path;

use crate::error::Result;

/// Things in a file under one heading, such as the columns of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Such as `datasets`, or `columns of HDU 1 (COADD)`.
    pub title: String,
    /// What there is.
    pub parts: Vec<Part>,
}

/// One thing in a file that a recipe can name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// How a recipe names it.
    pub name: String,
    /// Lengths of its axes, the slowest first; empty for one value an object.
    pub shape: Vec<usize>,
    /// What it holds, such as `f32` or `text`.
    pub holds: String,
    /// Its unit, where the file states one.
    pub unit: Option<String>,
}

/// A file format that `astropt inspect` can describe.
#[derive(Clone, Copy, Debug)]
pub struct FormatPlugin {
    /// What a file of it is called, such as `a FITS file`.
    pub name: &'static str,
    /// Extensions of its file names, in small letters, such as `fits` and `fits.gz`.
    pub extensions: &'static [&'static str],
    /// Reads what a file holds, without its data.
    pub sections: fn(&Path) -> Result<Vec<Section>>,
}

inventory::collect!(FormatPlugin);

impl FormatPlugin {
    /// The linked format that files named like `path` are of.
    pub fn of(path: &Path) -> Option<&'static Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let ends =
            |extension: &&str| name.strip_suffix(extension).is_some_and(|stem| stem.ends_with('.'));
        inventory::iter::<Self>().find(|format| format.extensions.iter().any(ends))
    }
}

/// Registers a file format for `astropt inspect`: what to call a file of it, its extensions
/// (a `&'static [&'static str]`, that of the source which reads it), and a function that reads
/// what it holds.
///
/// ```ignore
/// register_format!("a FITS file", &["fits", "fit"], sections);
/// ```
#[macro_export]
macro_rules! register_format {
    ($name:literal, $extensions:expr, $sections:expr) => {
        $crate::inventory::submit! {
            $crate::seam::FormatPlugin {
                name: $name,
                extensions: $extensions,
                sections: $sections,
            }
        }
    };
}
