//! What the fuzz targets do: bytes from outside, given to a reader as a file. Whatever the
//! reader answers, it must answer: no panic, no endless loop, no memory without bound.

mod converted;
pub mod seeds;

use std::path::Path;

use astropt_core::checkpoint::arrays::load_arrays;
use astropt_core::checkpoint::tensors::describe_tensors;
use astropt_core::checkpoint::{load_tensors, pickle, pt, python};
use astropt_core::recipe::{Request, resolve};
use astropt_core::seam::find_source;
use astropt_modalities as _;

pub use converted::{index, listing, shard};

/// A reader under test.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Target); 14] = [
    ("csv", csv),
    ("fits", fits),
    ("hdf5", hdf5),
    ("image", image),
    ("index", index),
    ("listing", listing),
    ("npy", npy),
    ("npz", npz),
    ("parquet", parquet),
    ("pickle", pickle),
    ("pt", pt),
    ("recipe", recipe),
    ("safetensors", safetensors),
    ("shard", shard),
];

/// Objects of a source that are read.
const OBJECTS: usize = 4;

/// A CSV table of samples.
pub fn csv(bytes: &[u8]) {
    let table = "path = 'a.csv'\nobject = 'id'\nfields.time = 't'\nfields.value = 'v'";
    source("a.csv", bytes, &[("table", table)]);
}

/// A FITS file as an image and as a table.
pub fn fits(bytes: &[u8]) {
    let column = "path = 'a.fits'\nobjects = 'row'\nfields.flux = { hdu = 1, column = 1 }";
    source("a.fits", bytes, &[("fits", "path = 'a.fits'"), ("fits", column)]);
}

/// An HDF5 file.
pub fn hdf5(bytes: &[u8]) {
    let images = "path = 'a.h5'\nfields.image = { dataset = 'images' }\n\
                  fields.packed = { dataset = 'lzf' }\nfields.flux = { dataset = 'spectra/flux' }";
    source("a.h5", bytes, &[("hdf5", images)]);
}

/// A picture, under the name of each format.
pub fn image(bytes: &[u8]) {
    for name in ["a.jpg", "a.png", "a.tiff"] {
        source(name, bytes, &[("image-folder", "path = '.'")]);
    }
}

/// A NumPy array.
pub fn npy(bytes: &[u8]) {
    source("a.npy", bytes, &[("npz", "path = 'a.npy'")]);
}

/// An archive of NumPy arrays.
pub fn npz(bytes: &[u8]) {
    source("a.npz", bytes, &[("npz", "path = 'a.npz'")]);
}

/// A Parquet table, and the table of labels beside pictures.
pub fn parquet(bytes: &[u8]) {
    let table = "path = 'a.parquet'\nobject = 'id'\nlayout = 'wide'";
    source("a.parquet", bytes, &[("table", table)]);
}

/// The pickle inside a PyTorch checkpoint.
pub fn pickle(bytes: &[u8]) {
    if let Ok(value) = pickle::read_pickle(bytes) {
        std::hint::black_box(&value);
    }
}

/// A PyTorch checkpoint.
pub fn pt(bytes: &[u8]) {
    with_file("a.pt", bytes, |path| {
        if let Ok(file) = pt::read_pt(path) {
            let _ = file.tensors(&[]);
            let _ = file.tensors(&["model"]);
        }
        let _ = python::import(path);
    });
}

/// A recipe.
pub fn recipe(bytes: &[u8]) {
    with_file("a.toml", bytes, |path| {
        let recipe = path.display().to_string();
        let _ = resolve(&Request { recipe, dataless: true, ..Request::default() });
    });
}

/// A safetensors file, as parameters and as arrays.
pub fn safetensors(bytes: &[u8]) {
    with_file("a.safetensors", bytes, |path| {
        let _ = describe_tensors(path);
        let _ = load_tensors(path);
        let _ = load_arrays(path);
    });
}

/// Writes `bytes` to the file `name` of a folder of its own and hands over the path.
fn with_file(name: &str, bytes: &[u8], use_it: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("room for a temporary file");
    use_it(&path);
}

/// Opens the file `name` with each of these sources and reads some objects.
fn source(name: &str, bytes: &[u8], tables: &[(&str, &str)]) {
    with_file(name, bytes, |path| {
        for (kind, table) in tables {
            read(kind, table, path.parent().unwrap_or(path));
        }
    });
}

/// Reads some objects of the source `kind` with this table in `root`.
fn read(kind: &str, table: &str, root: &Path) {
    let plugin = find_source(kind).expect("a linked source");
    let config = (plugin.parse)(table.parse().expect("TOML"));
    let config = config.unwrap_or_else(|e| panic!("{kind}: {}: {}", e.path, e.message));
    let Ok(source) = config.open(root) else { return };
    for index in (0..source.len()).take(OBJECTS) {
        let _ = (source.id(index), source.labels(index), source.read(index));
        if let Some(made) = source.tokenised() {
            let _ = made.raw_features(index, "images");
        }
    }
}
