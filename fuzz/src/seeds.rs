//! Sound files to start from.

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use crate::converted::{INDEX, LISTING, RECIPE, SHARD, sound};

/// Sound files for the target `name`.
pub fn of(name: &str) -> Vec<Vec<u8>> {
    match name {
        "csv" => vec![b"id,t,v\na,1.5,2\na,2.5,nan\nb,\"3\",4e3\n".to_vec()],
        "fits" => files("modalities/tests/fixtures/fits", "fits"),
        "hdf5" => files("modalities/tests/fixtures/hdf5", "h5"),
        "image" => pictures(),
        "index" => vec![sound()[INDEX].clone()],
        "listing" => vec![sound()[LISTING].clone()],
        "npy" => vec![array(b"<f4", 4), array(b"|u1", 1), array(b">f8", 8)],
        "npz" => vec![archive()],
        "parquet" => files("tests/fixtures/format-1", "parquet"),
        "pickle" => checkpoints().iter().filter_map(|bytes| pickle(bytes)).collect(),
        "pt" => checkpoints(),
        "recipe" => [vec![RECIPE.as_bytes().to_vec()], files("recipes", "toml")].concat(),
        "safetensors" => files("tests/fixtures/format-1/checkpoints/step-000002", "safetensors"),
        "shard" => vec![sound()[SHARD].clone()],
        other => panic!("no seeds for {other}"),
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files of a folder of the repository with this extension, by name.
fn files(folder: &str, extension: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(repository().join(folder)).expect("a folder of seeds");
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == extension));
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a readable seed")).collect()
}

fn checkpoints() -> Vec<Vec<u8>> {
    ["v1_paper", "v3_images_aim"]
        .iter()
        .flat_map(|c| files(&format!("tests/golden/{c}"), "pt"))
        .collect()
}

/// The pickle inside a checkpoint.
fn pickle(checkpoint: &[u8]) -> Option<Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(checkpoint)).ok()?;
    let name = archive.file_names().flatten().find(|name| name.ends_with("data.pkl"))?.into_owned();
    let mut bytes = Vec::new();
    archive.by_name(&name).ok()?.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn pictures() -> Vec<Vec<u8>> {
    let mut out = files("fuzz/seeds", "jpg");
    let picture = image::RgbImage::from_fn(12, 12, |x, y| image::Rgb([x as u8 * 9, y as u8, 200]));
    for format in [image::ImageFormat::Png, image::ImageFormat::Tiff] {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).expect("a picture is written");
        out.push(bytes.into_inner());
    }
    out
}

/// A NumPy array of three rows of two numbers.
fn array(dtype: &[u8; 3], size: usize) -> Vec<u8> {
    let dtype = String::from_utf8_lossy(dtype);
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': (3, 2), }}");
    let header = format!("{header:117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend((0..6 * size).map(|k| k as u8));
    bytes
}

/// An archive with a stored and a deflated array.
fn archive() -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let methods = [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated];
    for (name, method) in ["a.npy", "b.npy"].into_iter().zip(methods) {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        archive.start_file(name, options).expect("a member begins");
        archive.write_all(&array(b"<f4", 4)).expect("a member is written");
    }
    archive.finish().expect("the archive is written").into_inner()
}
