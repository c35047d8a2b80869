//! Sound files to start from.

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use crate::converted::{INDEX, LISTING, RECIPE, SHARD, sound};
use crate::hub;

/// A sound file.
#[derive(Clone)]
pub struct Seed {
    /// What it is called.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl Seed {
    pub(crate) fn new(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name: name.to_owned(), bytes: bytes.into() }
    }
}

const RUN: &str = "tests/fixtures/format-1";
const STEP: &str = "tests/fixtures/format-1/checkpoints/step-000002";

const CHECKSUMS: &str =
    r#"{"astropt_format":2,"xxh3":{"ledger.jsonl":"06b05ab6733a618578af5f94892f3950"}}"#;
const EMERGENCE: &str = r#"{"astropt_format":2,
"checkpoints":[{"at":0,"r2":{"z":{"value":0.1,"low":0.05,"high":0.2}}}],
"layers":[{"at":1,"r2":{"z":{"value":0.3,"low":null,"high":null}},
"auc":{"c":{"value":0.6,"low":0.5,"high":0.7}}}]}"#;
const FAMILY: &str = r#"{"astropt_format":2,"recipe":"galaxy-grz",
"settings":{"recipe":"galaxy-grz","data":null,"set":["train.steps=6"]},
"members":[{"scale":"1M","parameters":1067520,"steps":6,"recipe":"",
"predicted":{"loss":{"value":0.3,"low":0.2,"high":0.4},"right":true},
"trained":{"tokens":9,"flops":1e9,"loss":0.3,"zero_loss":0.4,"seconds":1.5,
"energy":{"joules":2.0,"source":"a model"},"curve":[[9,0.3]],"batches":[[0.3,8]]}}],
"compute":null,"size":null,"trends":[]}"#;
const FAULTS: &str = r#"{"step":3,"what":"the loss is not finite","done":"skipped","ids":["a"]}
{"step":7,"what":"the gradient explodes","done":"rolled-back","loss":0.5,"grad_norm":9e9,"ids":[]}
"#;
const LEDGER: &str = r#"{"step":1,"first":0,"objects":4,"chain":"00000000000000000000000000000000000000000000000000000000000000aa"}
{"step":2,"first":4,"objects":4,"instead":{"5":1},"chain":"00000000000000000000000000000000000000000000000000000000000000bb"}
"#;

/// Sound files for the target `name`.
pub fn of(name: &str) -> Vec<Seed> {
    match name {
        "checksums" => vec![Seed::new("a.json", CHECKSUMS)],
        "csv" => vec![Seed::new("a.csv", "id,t,v\na,1.5,2\na,2.5,nan\nb,\"3\",4e3\n")],
        "embeddings" => vec![file(RUN, "embeddings.parquet")],
        "emergence" => vec![Seed::new("a.json", EMERGENCE)],
        "family" => vec![Seed::new("a.json", FAMILY)],
        "faults" => vec![Seed::new("a.jsonl", FAULTS)],
        "fits" | "fits_table" => files("modalities/tests/fixtures/fits", "fits"),
        "hdf5" => files("modalities/tests/fixtures/hdf5", "h5"),
        "hub" => hub::seeds(),
        "image" => pictures(),
        "index" => vec![Seed::new(INDEX, &sound()[INDEX][..])],
        "ledger" => vec![Seed::new("a.jsonl", LEDGER)],
        "listing" => vec![Seed::new(LISTING, &sound()[LISTING][..])],
        "manifest" => vec![file(RUN, "manifest.json")],
        "metrics" => vec![file(RUN, "metrics.jsonl")],
        "model" => vec![file(STEP, "model.safetensors")],
        "npy" => [("<f4", 4), ("|u1", 1), (">f8", 8)]
            .map(|(dtype, size)| Seed::new(dtype, array(dtype, size)))
            .into(),
        "npz" => vec![Seed::new("a.npz", archive())],
        "optimizer" => vec![file(STEP, "optimizer.safetensors")],
        "parquet" => vec![file(RUN, "embeddings.parquet")],
        "pickle" => checkpoints().iter().filter_map(pickle).collect(),
        "probes" => vec![file(RUN, "probes.json")],
        "pt" => checkpoints(),
        "recipe" => [vec![Seed::new("fuzz.toml", RECIPE)], files("recipes", "toml")].concat(),
        "rejected" => vec![Seed::new("a.csv", "id,reason\ng1,object g1: it is blank\n")],
        "safetensors" => files(STEP, "safetensors"),
        "shard" => vec![Seed::new(SHARD, &sound()[SHARD][..])],
        "state" => vec![file(STEP, "state.json")],
        other => panic!("no seeds for {other}"),
    }
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn file(folder: &str, name: &str) -> Seed {
    let path = repository().join(folder).join(name);
    Seed { name: name.to_owned(), bytes: std::fs::read(path).expect("a readable seed") }
}

/// Files of a folder of the repository with this extension, by name.
fn files(folder: &str, extension: &str) -> Vec<Seed> {
    let entries = std::fs::read_dir(repository().join(folder)).expect("a folder of seeds");
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(&format!(".{extension}"))).collect();
    names.sort();
    names.iter().map(|name| file(folder, name)).collect()
}

fn checkpoints() -> Vec<Seed> {
    let named = |folder: &str| Seed {
        name: folder.to_owned(),
        ..file(&format!("tests/golden/{folder}"), "ckpt.pt")
    };
    ["v1_paper", "v3_images_aim"].map(named).into()
}

/// The pickle inside a checkpoint.
fn pickle(checkpoint: &Seed) -> Option<Seed> {
    let mut archive = zip::ZipArchive::new(Cursor::new(&checkpoint.bytes)).ok()?;
    let name = archive.file_names().flatten().find(|name| name.ends_with("data.pkl"))?.into_owned();
    let mut bytes = Vec::new();
    archive.by_name(&name).ok()?.read_to_end(&mut bytes).ok()?;
    Some(Seed { bytes, ..checkpoint.clone() })
}

fn pictures() -> Vec<Seed> {
    let mut out = files("fuzz/seeds", "jpg");
    let picture = image::RgbImage::from_fn(12, 12, |x, y| image::Rgb([x as u8 * 9, y as u8, 200]));
    for (name, format) in [("a.png", image::ImageFormat::Png), ("a.tiff", image::ImageFormat::Tiff)]
    {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).expect("a picture is written");
        out.push(Seed::new(name, bytes.into_inner()));
    }
    out
}

/// A NumPy array of three rows of two numbers.
fn array(dtype: &str, size: usize) -> Vec<u8> {
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
        archive.write_all(&array("<f4", 4)).expect("a member is written");
    }
    archive.finish().expect("the archive is written").into_inner()
}
