//! What the fuzz targets do: bytes from outside, given to a reader as a file. Whatever the
//! reader answers, it must answer: no panic, no endless loop, no memory without bound.

#[cfg(feature = "libfuzzer")]
mod attack;
mod converted;
mod folders;
mod hub;
pub mod seeds;

use std::path::Path;

use astropt_core::checkpoint::arrays::load_arrays;
use astropt_core::checkpoint::tensors::describe_tensors;
use astropt_core::checkpoint::{load_tensors, pickle, pt, python};
use astropt_core::recipe::{Request, resolve};
use astropt_core::seam::{Source, find_source};
use astropt_core::{Error, Result};
use astropt_modalities as _;

#[cfg(feature = "libfuzzer")]
pub use attack::attack;
pub use converted::{index, listing, shard};
pub use folders::{
    checksums, embeddings, emergence, family, faults, ledger, manifest, metrics, model, optimizer,
    probes, rejected, state,
};
pub use hub::hub;

/// A reader under test, and the first thing it found wrong.
pub type Target = fn(&[u8]) -> Result<()>;

/// Every target by name.
pub const TARGETS: [(&str, Target); 29] = [
    ("checksums", checksums),
    ("csv", csv),
    ("embeddings", embeddings),
    ("emergence", emergence),
    ("family", family),
    ("faults", faults),
    ("fits", fits),
    ("fits_table", fits_table),
    ("hdf5", hdf5),
    ("hub", hub),
    ("image", image),
    ("index", index),
    ("ledger", ledger),
    ("listing", listing),
    ("manifest", manifest),
    ("metrics", metrics),
    ("model", model),
    ("npy", npy),
    ("npz", npz),
    ("optimizer", optimizer),
    ("parquet", parquet),
    ("pickle", pickle),
    ("probes", probes),
    ("pt", pt),
    ("recipe", recipe),
    ("rejected", rejected),
    ("safetensors", safetensors),
    ("shard", shard),
    ("state", state),
];

/// Objects of a source that are read.
const OBJECTS: usize = 4;

/// A CSV table of samples.
pub fn csv(bytes: &[u8]) -> Result<()> {
    let table = "path = 'a.csv'\nobject = 'id'\nfields.time = 't'\nfields.value = 'v'";
    source("a.csv", bytes, "table", table)
}

/// An image in a FITS file.
pub fn fits(bytes: &[u8]) -> Result<()> {
    source("a.fits", bytes, "fits", "path = 'a.fits'")
}

/// A table in a FITS file.
pub fn fits_table(bytes: &[u8]) -> Result<()> {
    let column = "path = 'a.fits'\nobjects = 'row'\nfields.flux = { hdu = 1, column = 1 }";
    source("a.fits", bytes, "fits", column)
}

/// An HDF5 file.
pub fn hdf5(bytes: &[u8]) -> Result<()> {
    let images = "path = 'a.h5'\nfields.image = { dataset = 'images' }\n\
                  fields.packed = { dataset = 'lzf' }\nfields.flux = { dataset = 'spectra/flux' }";
    source("a.h5", bytes, "hdf5", images)
}

/// A picture, under the name of each format.
pub fn image(bytes: &[u8]) -> Result<()> {
    let read = |name| source(name, bytes, "image-folder", "path = '.'");
    ["a.jpg", "a.png", "a.tiff"].map(read).into_iter().reduce(Result::or).unwrap_or(Ok(()))
}

/// A NumPy array.
pub fn npy(bytes: &[u8]) -> Result<()> {
    source("a.npy", bytes, "npz", "path = 'a.npy'")
}

/// An archive of NumPy arrays.
pub fn npz(bytes: &[u8]) -> Result<()> {
    source("a.npz", bytes, "npz", "path = 'a.npz'")
}

/// A Parquet table.
pub fn parquet(bytes: &[u8]) -> Result<()> {
    let table = "path = 'a.parquet'\nobject = 'id'\nlayout = 'wide'";
    source("a.parquet", bytes, "table", table)
}

/// The pickle inside a PyTorch checkpoint.
pub fn pickle(bytes: &[u8]) -> Result<()> {
    let value = pickle::read_pickle(bytes).map_err(|e| Error::Failed(e.to_string()))?;
    std::hint::black_box(&value);
    Ok(())
}

/// A PyTorch checkpoint.
pub fn pt(bytes: &[u8]) -> Result<()> {
    with_file("a.pt", bytes, |path| {
        let file = pt::read_pt(path)?;
        // Not both are there in any one checkpoint.
        let _ = (file.tensors(&[]), file.tensors(&["model"]));
        python::import(path).map(drop)
    })
}

/// A recipe.
pub fn recipe(bytes: &[u8]) -> Result<()> {
    with_file("a.toml", bytes, |path| {
        let recipe = path.display().to_string();
        resolve(&Request { recipe, dataless: true, ..Request::default() }).map(drop)
    })
}

/// A safetensors file, as parameters and as arrays.
pub fn safetensors(bytes: &[u8]) -> Result<()> {
    with_file("a.safetensors", bytes, |path| {
        let parameters = describe_tensors(path).and_then(|_| load_tensors(path));
        load_arrays(path)?;
        parameters.map(drop)
    })
}

/// Writes `bytes` to the file `name` of a folder of its own and hands over the path.
fn with_file(name: &str, bytes: &[u8], use_it: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("room for a temporary file");
    use_it(&path)
}

/// Opens the file `name` with this source and reads some objects.
fn source(name: &str, bytes: &[u8], kind: &str, table: &str) -> Result<()> {
    with_file(name, bytes, |path| read(kind, table, path.parent().unwrap_or(path)))
}

/// Reads some objects of the source `kind` with this table in `root`.
fn read(kind: &str, table: &str, root: &Path) -> Result<()> {
    let plugin = find_source(kind).expect("a linked source");
    let config = (plugin.parse)(table.parse().expect("TOML"));
    let config = config.unwrap_or_else(|e| panic!("{kind}: {}: {}", e.path, e.message));
    objects(&*config.open(root)?)
}

/// Reads some objects of `source`.
fn objects(source: &dyn Source) -> Result<()> {
    let mut answer = Ok(());
    for index in (0..source.len()).take(OBJECTS) {
        let _ = source.labels(index);
        let made = source.tokenised().map(|made| made.raw_features(index, "images").map(drop));
        let _ = source.id(index);
        let object = source.read(index).map(drop);
        answer = answer.and(object).and(made.unwrap_or(Ok(())));
    }
    answer
}
