//! What the Python AstroPT makes of pictures, recorded.
//!
//! Tokens are a folder of pictures `NAME.png`, each beside `NAME.safetensors` with the arrays
//! `pPATCH.ORDER.AXES` of shape `[tokens, PATCH * PATCH * bands]`; spirals a file `spiral.json`
//! with, under `spiral` and the side of a grid, the place of each patch in the sequence.
//!
//! The files of a folder belong together: each is one of a pair, and all hold the same arrays. What
//! one lacks was not compared, and disagrees.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use astropt_core::checkpoint::load_tensors;
use astropt_core::engine::{HostTensor, StateDict};
use astropt_core::observation::{Field, Observation};
use astropt_core::seam::ModalityConfig;
use astropt_core::verify::Comparison;
use astropt_core::{Error, Result};
use serde::Deserialize;

use super::{GalaxyImageConfig, Orientation, spiral};
use crate::sources::decode::decode;

/// What tokens may differ by, relative to the largest: the mean of a patch is rounded to single
/// precision and divided by a deviation that may be small.
const TOLERANCE: f64 = 1e-5;
/// Endings of the files of pictures and of their tokens.
const PICTURE: &str = "png";
const TOKENS: &str = "safetensors";
/// Largest grid whose spiral is compared: above any recorded one.
const MAX_SIDE: usize = 4096;

astropt_core::register_recording!("galaxy-image", replay);

fn replay(path: &Path) -> Option<Result<Vec<Comparison>>> {
    if path.file_name().is_some_and(|name| name == "spiral.json") {
        return Some(spirals(path));
    }
    let (recorded, alone) = tokens_in(path);
    (!recorded.is_empty()).then(|| all_tokens(&recorded, &alone))
}

/// The recorded tokens in `folder` that have a picture beside them, by name, and the files of either
/// kind that lack the other.
fn tokens_in(folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|path| partner(path).is_some());
    let files: BTreeSet<PathBuf> = files.collect();
    let paired = |path: &PathBuf| partner(path).is_some_and(|(path, _)| path.is_file());
    let (mut pairs, alone): (Vec<_>, Vec<_>) = files.into_iter().partition(paired);
    pairs.retain(|path| path.extension().is_some_and(|ending| ending == TOKENS));
    (pairs, alone)
}

/// What must lie beside a picture or its tokens, and what that is; `None` of other files.
fn partner(path: &Path) -> Option<(PathBuf, &'static str)> {
    match path.extension()?.to_str()? {
        PICTURE => Some((path.with_extension(TOKENS), "tokens")),
        TOKENS => Some((path.with_extension(PICTURE), "picture")),
        _ => None,
    }
}

/// Compares the tokens of all pictures of a folder; the files `alone` and arrays that only others
/// hold disagree.
fn all_tokens(recorded: &[PathBuf], alone: &[PathBuf]) -> Result<Vec<Comparison>> {
    let pictures: Vec<Vec<Comparison>> =
        recorded.iter().map(|file| tokens(file)).collect::<Result<_>>()?;
    let arrays: BTreeSet<String> =
        pictures.iter().flatten().map(|array| array.quantity.clone()).collect();
    let mut comparisons = Vec::new();
    for (file, picture) in recorded.iter().zip(pictures) {
        let held: BTreeSet<String> = picture.iter().map(|array| array.quantity.clone()).collect();
        comparisons.extend(picture);
        let lacking = arrays.difference(&held);
        comparisons.extend(lacking.map(|array| {
            let why = "not recorded, though of other pictures in the folder: it was not compared";
            Comparison::not_compared(&name_of(file), array, why)
        }));
    }
    for (path, (lacking, what)) in alone.iter().filter_map(|path| Some((path, partner(path)?))) {
        let why = format!("{} is not there, so nothing was compared", lacking.display());
        comparisons.push(Comparison::not_compared(&name_of(path), what, why));
    }
    Ok(comparisons)
}

/// Name of a picture.
fn name_of(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Compares the tokens of one picture.
fn tokens(file: &Path) -> Result<Vec<Comparison>> {
    let picture = file.with_extension(PICTURE);
    let bytes = std::fs::read(&picture).map_err(|e| Error::io("read", &picture, &e))?;
    let image = decode(&bytes).map_err(|message| Error::file(&picture, message))?;
    let (size, bands) = match image.shape[..] {
        [height, width, bands] => (height.min(width), bands),
        _ => return Err(Error::file(&picture, "is no image of rows, columns and bands")),
    };
    let name = name_of(file);
    let fields = [("image".to_owned(), Field { array: image, unit: None })];
    let object = Observation { id: name.clone(), fields: fields.into(), ..Default::default() };
    let (recorded, _): (StateDict, _) = load_tensors(file)?;
    let compare = |(key, theirs): (&String, &HostTensor)| {
        let ours = by_key(key, size, bands, &object);
        Comparison::new(&name, key, ours.as_ref().map_err(String::as_str), theirs, TOLERANCE)
    };
    Ok(recorded.iter().map(compare).collect())
}

/// The tokens that an array's name asks for, or why there are none.
fn by_key(
    key: &str,
    size: usize,
    bands: usize,
    object: &Observation,
) -> Result<HostTensor, String> {
    let parts: Vec<&str> = key.split('.').collect();
    let [patch, order, axes] = parts[..] else {
        return Err("not understood: the name is not as in p16.spiral.file".to_owned());
    };
    let patch = patch.strip_prefix('p').and_then(|side| side.parse::<usize>().ok());
    let patch = patch.ok_or("not understood: no patch size in the name")?;
    let table = format!(
        "size = {size}\npatch = {patch}\nbands = {bands}\norder = '{order}'\naxes = '{axes}'"
    );
    let config: GalaxyImageConfig = toml::from_str(&table).map_err(|e| e.message().to_owned())?;
    let modality = config.build().map_err(|e| e.to_string())?;
    let tokens = modality.tokenise(object).map_err(|e| e.to_string())?;
    let tokens = tokens.ok_or("there is no image")?;
    let width = patch * patch * bands;
    Ok(HostTensor { shape: vec![tokens.len, width], data: tokens.values.to_vec() })
}

/// `spiral.json`.
#[derive(Deserialize)]
struct Spirals {
    spiral: BTreeMap<String, Vec<Vec<f32>>>,
}

/// Compares the order of patches in every recorded grid.
fn spirals(path: &Path) -> Result<Vec<Comparison>> {
    let text = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    let grids: Spirals = serde_json::from_slice(&text)
        .map_err(|e| Error::file(path, format!("is no record of spirals: {e}")))?;
    let compare = |(side, grid): (&String, &Vec<Vec<f32>>)| {
        let theirs = HostTensor { shape: vec![grid.len(); 2], data: grid.concat() };
        let side: usize = side.parse().unwrap_or(0);
        let ours = if (1..=MAX_SIDE).contains(&side) {
            let mut places = vec![0.0; side * side];
            for (token, patch) in spiral(side, Orientation::Astropt).into_iter().enumerate() {
                places[patch] = token as f32;
            }
            Ok(HostTensor { shape: vec![side; 2], data: places })
        } else {
            Err("not understood: no size of a grid")
        };
        let quantity = format!("grid of {side}");
        Comparison::new("spiral", &quantity, ours.as_ref().map_err(|e| *e), &theirs, 0.0)
    };
    Ok(grids.spiral.iter().map(compare).collect())
}
