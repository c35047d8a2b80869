//! What several tests need.

use std::path::{Path, PathBuf};

use astropt_core::observation::{Array, Data, Field, Observation};
use astropt_core::seam::{Modality, Source, find_modality, find_source};

/// The modality `kind` with this table.
pub(crate) fn modality(kind: &str, table: &str) -> Box<dyn Modality> {
    let plugin = find_modality(kind).expect("linked");
    let config = (plugin.parse)(table.parse().expect("TOML")).expect("a valid table");
    config.build().expect("a sound configuration")
}

/// The modality `galaxy-image` with this table.
pub(crate) fn galaxy_image(table: &str) -> Box<dyn Modality> {
    modality("galaxy-image", table)
}

/// An object with these arrays of one axis.
pub(crate) fn columns(fields: Vec<(&str, Data)>) -> Observation {
    let field = |(name, data): (&str, Data)| {
        let array = Array::new(vec![data.len()], data).expect("a fitting shape");
        (name.to_owned(), Field { array, unit: None })
    };
    Observation {
        id: "object-12".to_owned(),
        fields: fields.into_iter().map(field).collect(),
        labels: Default::default(),
    }
}

/// The source `kind` with this table, relative to `root`.
pub(crate) fn open(kind: &str, table: &str, root: &Path) -> astropt_core::Result<Box<dyn Source>> {
    let plugin = find_source(kind).expect("linked");
    let config = (plugin.parse)(table.parse().expect("TOML")).expect("a valid table");
    config.open(root)
}

/// An object with one image.
pub(crate) fn object(shape: [usize; 3], data: Data) -> Observation {
    let array = Array::new(shape.to_vec(), data).expect("a fitting shape");
    let field = Field { array, unit: None };
    Observation {
        id: "galaxy-7".to_owned(),
        fields: [("image".to_owned(), field)].into(),
        labels: Default::default(),
    }
}

/// Bytes that look like nothing in particular.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// A folder of data shared between checkouts; tests that need it say so and pass without.
#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(path);
    if place.exists() {
        return Some(place);
    }
    eprintln!("skipped: there is no {}", place.display());
    None
}

/// A file kept with the tests.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}
