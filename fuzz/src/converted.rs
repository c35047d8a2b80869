//! Converted data whose files lie, with hashes that agree: a hostile writer, not a bad disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use astropt_core::Result;
use astropt_core::recipe::{Request, resolve};
use astropt_core::shards::{Precision, Settings, convert};
use xxhash_rust::xxh3::xxh3_128;

use crate::read;

pub(crate) const INDEX: &str = "astropt-index.json";
pub(crate) const LISTING: &str = "shard-00000.json";
pub(crate) const SHARD: &str = "shard-00000.safetensors";

/// A recipe of a few small galaxies.
pub(crate) const RECIPE: &str = r#"
name = "fuzz"
[source]
kind = "synthetic"
objects = 6
size = 16
[modality.images]
kind = "galaxy-image"
size = 16
patch = 8
positions = 4
[model]
layers = 1
heads = 1
width = 8
tokeniser = "aim"
[train]
steps = 1
batch = 1
micro_batch = 1
peak_lr = 1e-3
final_lr = 1e-4
warmup_steps = 0
decay_steps = 1
weight_decay = 0.1
clip = 1.0
eval_every = 1
eval_batches = 1
[embed]
layer = "last"
tokens = "all"
pooling = "mean"
"#;

/// Sound converted data, file by file.
pub(crate) fn sound() -> &'static BTreeMap<String, Vec<u8>> {
    static FILES: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let recipe = folder.path().join("fuzz.toml");
        std::fs::write(&recipe, RECIPE).expect("room for a temporary file");
        let request = Request { recipe: recipe.display().to_string(), ..Request::default() };
        let plan = resolve(&request).expect("a sound recipe");
        let settings = Settings { shard_bytes: 1 << 20, precision: Precision::F32, workers: 1 };
        let out = folder.path().join("out");
        convert(&plan, folder.path(), &out, &settings).expect("synthetic galaxies convert");
        let of = |name: &str| std::fs::read(out.join(name)).expect("what was just written");
        [INDEX, LISTING, SHARD].map(|name| (name.to_owned(), of(name))).into()
    })
}

/// The index of converted data.
pub fn index(bytes: &[u8]) -> Result<()> {
    with(|files| drop(files.insert(INDEX.to_owned(), bytes.to_vec())))
}

/// The listing of a shard; the index agrees with it.
pub fn listing(bytes: &[u8]) -> Result<()> {
    with(|files| {
        files.insert(LISTING.to_owned(), bytes.to_vec());
        sign_listing(files);
    })
}

/// A shard; its listing and the index agree with it.
pub fn shard(bytes: &[u8]) -> Result<()> {
    with(|files| {
        change(files, LISTING, |listing| {
            listing["bytes"] = bytes.len().into();
            listing["xxh3"] = hash(bytes).into();
        });
        files.insert(SHARD.to_owned(), bytes.to_vec());
        sign_listing(files);
    })
}

fn with(change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let mut files = sound().clone();
    change(&mut files);
    for (name, bytes) in files {
        let path: &Path = folder.path();
        std::fs::write(path.join(name), bytes).expect("room for a temporary file");
    }
    read("tokenised", "path = '.'", folder.path())
}

fn sign_listing(files: &mut BTreeMap<String, Vec<u8>>) {
    let listing = files.get(LISTING).map(|bytes| hash(bytes));
    change(files, INDEX, |index| index["shards"][0]["listing"] = listing.into());
}

fn change(
    files: &mut BTreeMap<String, Vec<u8>>,
    name: &str,
    edit: impl FnOnce(&mut serde_json::Value),
) {
    let bytes = files.get(name).map(Vec::as_slice).unwrap_or_default();
    let mut json = serde_json::from_slice(bytes).expect("sound JSON");
    edit(&mut json);
    files.insert(name.to_owned(), json.to_string().into_bytes());
}

fn hash(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}
