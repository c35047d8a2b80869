//! What several tests need.

use std::path::{Path, PathBuf};

use astropt_core::observation::{Array, Data, Field, Observation};
use astropt_core::seam::{Modality, Source, find_modality, find_source};
use serde_json::Value;

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

/// A file or folder that a script beside it has made.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Numbers against what another program answered: integers alike, floats to single precision,
/// null for NaN.
pub(crate) fn assert_numbers(data: &Data, answer: &Value, what: &str) {
    let answer = answer.as_array().expect("numbers");
    assert_eq!(data.len(), answer.len(), "{what}");
    let integers: Option<Vec<i64>> = match data {
        Data::U8(v) => Some(v.iter().map(|&x| x.into()).collect()),
        Data::U16(v) => Some(v.iter().map(|&x| x.into()).collect()),
        Data::I64(v) => Some(v.clone()),
        Data::F32(_) | Data::F64(_) => None,
    };
    let floats: Vec<f64> = match data {
        Data::F64(v) => v.clone(),
        data => data.to_f32().iter().map(|&x| x.into()).collect(),
    };
    for (k, answer) in answer.iter().enumerate() {
        if let Some(integers) = &integers {
            let whole = answer.as_i64().or(answer.as_bool().map(i64::from));
            assert_eq!(Some(integers[k]), whole, "{what}, number {k}");
            continue;
        }
        match answer.as_f64() {
            None => assert!(floats[k].is_nan(), "{what}, number {k}: {} is not NaN", floats[k]),
            Some(answer) => {
                let error = (floats[k] - answer).abs();
                let near = error <= 1e-6 * answer.abs();
                assert!(near, "{what}, number {k}: {} for {answer}", floats[k]);
            }
        }
    }
}

/// Why a source of this kind does not open, or does not give its first object.
pub(crate) fn refusal(kind: &str, table: &str, root: &Path) -> String {
    let outcome = open(kind, table, root).and_then(|source| source.read(0));
    outcome.map(drop).expect_err(table).to_string()
}

/// Opens a source on a file that may be damaged and reads a few objects: whatever they
/// answer, they must answer.
pub(crate) fn survive(kind: &str, table: &str, root: &Path) {
    if let Ok(source) = open(kind, table, root) {
        for index in (0..source.len()).take(8) {
            let _ = source.read(index);
            let _ = source.labels(index);
        }
    }
}
