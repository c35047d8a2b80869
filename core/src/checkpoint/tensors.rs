//! Named arrays in a safetensors file: the format of the program's own checkpoints.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::files::write_atomic;
use super::numbers::Number;
use crate::engine::{HostTensor, StateDict};
use crate::error::{Error, Result};
use crate::plain;

/// The largest header accepted, in bytes; the format's own limit.
const MAX_HEADER: u64 = 100_000_000;
/// Key under which the format keeps free text.
const METADATA: &str = "__metadata__";

/// XXH3 of 128 bits of all numbers, in the order of their names.
pub(crate) fn digest(tensors: &StateDict) -> u128 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for tensor in tensors.values() {
        hash.update(bytemuck::cast_slice(&tensor.data));
    }
    hash.digest128()
}

/// Writes `tensors` as 32-bit floats, and `metadata`, to `path`, whole or not at all. The
/// same content gives the same bytes.
///
/// # Errors
/// When an array's shape disagrees with its length, its name is taken by the format, or
/// the file cannot be written.
pub fn save_tensors(
    path: impl AsRef<Path>,
    tensors: &StateDict,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let path = path.as_ref();
    let described =
        tensors.iter().map(|(name, t)| (name.as_str(), Dtype::F32, &t.shape[..], t.data.len()));
    let header = header(described, metadata).map_err(|e| Error::file(path, e))?;
    write_atomic(path, |file| {
        let failed = |e: std::io::Error| Error::io("write", path, &e);
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
        file.write_all(&header).map_err(failed)?;
        for tensor in tensors.values() {
            write_floats(file, &tensor.data).map_err(failed)?;
        }
        Ok(())
    })
}

/// An array as a header describes it: name, type, shape, and how many numbers there are.
pub(crate) type Described<'a> = (&'a str, Dtype, &'a [usize], usize);

/// The JSON header, padded to a multiple of 8 bytes. Built here because the crate keeps
/// metadata in a hash map, whose order differs from run to run.
pub(crate) fn header<'a>(
    arrays: impl Iterator<Item = Described<'a>>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, String> {
    let mut entries = BTreeMap::new();
    let mut offset = 0;
    for (name, dtype, shape, numbers) in arrays {
        let elements = shape.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis));
        if elements != Some(numbers) {
            return Err(format!("{name} has the shape {shape:?} but {numbers} numbers"));
        }
        if name == METADATA {
            return Err(format!("no array can be named {METADATA}"));
        }
        let end = offset + dtype.bitsize() / 8 * numbers;
        let info = TensorInfo { dtype, shape: shape.to_vec(), data_offsets: (offset, end) };
        entries.insert(name, serde_json::to_value(info).map_err(|e| e.to_string())?);
        offset = end;
    }
    if !metadata.is_empty() {
        let text = serde_json::to_value(metadata).map_err(|e| e.to_string())?;
        entries.insert(METADATA, text);
    }
    let mut header = serde_json::to_vec(&entries).map_err(|e| e.to_string())?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

pub(super) fn write_floats(file: &mut dyn Write, data: &[f32]) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    for chunk in data.chunks(1 << 16) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|x| x.to_le_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}

/// Reads every array of `path` as 32-bit floats, and the free text. Halves, doubles,
/// booleans and integers are converted; an integer that `f32` cannot hold is an error.
/// Memory stays in proportion to the file.
///
/// # Errors
/// When the file cannot be read, is cut short, contradicts itself, or holds numbers of
/// another type.
pub fn load_tensors(path: impl AsRef<Path>) -> Result<(StateDict, BTreeMap<String, String>)> {
    let mut tensors = StateDict::new();
    let metadata = each_array(path.as_ref(), |name, info, bytes| {
        tensors.insert(name, HostTensor { shape: info.shape.clone(), data: decode(info, &bytes)? });
        Ok(())
    })?;
    Ok((tensors, metadata))
}

/// Calls `take` with the name, description and bytes of every array of `path`, in the order
/// they lie in the file, and answers with the free text.
pub(super) fn each_array(
    path: &Path,
    mut take: impl FnMut(String, &TensorInfo, Vec<u8>) -> Result<(), String>,
) -> Result<BTreeMap<String, String>> {
    let failed = |e: std::io::Error| Error::io("read", path, &e);
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let header = read_header(&mut reader, size).map_err(|e| broken(path, &e))?;
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let at = |e: String| broken(path, &format!("array {name}: {e}"));
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        reader.read_exact(&mut bytes).map_err(|e| at(e.to_string()))?;
        take(name.clone(), info, bytes).map_err(at)?;
    }
    Ok(header.metadata().clone().unwrap_or_default().into_iter().collect())
}

/// Names, types and shapes of the arrays of `path`, and the free text; the numbers are not
/// read.
///
/// # Errors
/// As [`load_tensors`].
pub fn describe_tensors(
    path: impl AsRef<Path>,
) -> Result<(Vec<Outline>, BTreeMap<String, String>)> {
    let path = path.as_ref();
    let failed = |e: std::io::Error| Error::io("read", path, &e);
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let header = read_header(&mut file, size).map_err(|e| broken(path, &e))?;
    let outline = |name: String| {
        let info = header.info(&name)?;
        Some(Outline { dtype: info.dtype.to_string(), shape: info.shape.clone(), name })
    };
    let outlines = header.offset_keys().into_iter().filter_map(outline).collect();
    Ok((outlines, header.metadata().clone().unwrap_or_default().into_iter().collect()))
}

/// An array without its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Its name.
    pub name: String,
    /// Type of its numbers, such as `F32`.
    pub dtype: String,
    /// Length of every axis.
    pub shape: Vec<usize>,
}

fn broken(path: &Path, what: &str) -> Error {
    Error::file(path, format!("not a whole safetensors file: {what}; copy or write it again"))
}

/// The header of a file of `size` bytes, checked against them.
pub(crate) fn read_header(reader: &mut impl Read, size: u64) -> Result<Metadata, String> {
    let mut length = [0; 8];
    reader.read_exact(&mut length).map_err(|_| format!("it has only {size} bytes"))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length > size.saturating_sub(8) {
        return Err(format!("its header claims {length} bytes of a file of {size}"));
    }
    let mut header = vec![0; length as usize];
    reader.read_exact(&mut header).map_err(|e| e.to_string())?;
    // The crate checks here that the arrays follow each other without gap or overlap and
    // that every shape agrees with its bytes.
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|e| format!("its header cannot be read: {}", plain::json_value(&e)))?;
    let found = size - 8 - length;
    if header.data_len() as u64 != found {
        return Err(format!("it holds {found} bytes of numbers, {} expected", header.data_len()));
    }
    Ok(header)
}

fn decode(info: &TensorInfo, bytes: &[u8]) -> Result<Vec<f32>, String> {
    let number = match info.dtype {
        Dtype::F64 => Number::F64,
        Dtype::F32 => Number::F32,
        Dtype::F16 => Number::F16,
        Dtype::BF16 => Number::Bf16,
        Dtype::I64 => Number::I64,
        Dtype::I32 => Number::I32,
        Dtype::I16 => Number::I16,
        Dtype::I8 => Number::I8,
        Dtype::U8 => Number::U8,
        Dtype::BOOL => Number::Bool,
        other => return Err(format!("numbers of type {other} are not read; store them as F32")),
    };
    number.decode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (StateDict, BTreeMap<String, String>) {
        let tensor = |shape: &[usize], first: f32| HostTensor {
            shape: shape.to_vec(),
            data: (0..shape.iter().product()).map(|k| first + k as f32).collect(),
        };
        let tensors = StateDict::from([
            ("b".to_owned(), tensor(&[2, 3], 0.5)),
            ("Z".to_owned(), tensor(&[0, 3], 0.0)),
            ("a.é".to_owned(), tensor(&[], -1.0)),
        ]);
        let metadata = ["one", "two", "three", "four"].map(|k| (k.to_owned(), format!("{k}\n\"")));
        (tensors, BTreeMap::from(metadata))
    }

    #[test]
    fn what_is_saved_is_loaded_and_the_bytes_repeat() {
        let folder = tempfile::tempdir().expect("folder");
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let (tensors, metadata) = sample();
        save_tensors(&a, &tensors, &metadata).expect("saved");
        save_tensors(&b, &tensors.clone(), &metadata.clone()).expect("saved");
        assert_eq!(load_tensors(&a).expect("loaded"), (tensors, metadata));
        let bytes = std::fs::read(&a).expect("read");
        assert_eq!(bytes, std::fs::read(&b).expect("read"));
        // The crate's own reader agrees that the file is valid.
        assert_eq!(safetensors::SafeTensors::deserialize(&bytes).expect("valid").len(), 3);
    }

    #[test]
    fn every_truncation_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("cut.safetensors");
        let (tensors, metadata) = sample();
        save_tensors(&path, &tensors, &metadata).expect("saved");
        let bytes = std::fs::read(&path).expect("read");
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).expect("written");
            let error = load_tensors(&path).expect_err("cut short").to_string();
            assert!(error.contains("cut.safetensors") && error.contains("again"), "{error}");
        }
    }

    #[test]
    fn lying_headers_are_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("lie.safetensors");
        let try_header = |length: u64, json: &str| {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend(json.as_bytes());
            std::fs::write(&path, bytes).expect("written");
            load_tensors(&path).expect_err("lies").to_string()
        };
        assert!(try_header(u64::MAX, "{}").contains("claims"));
        let huge = r#"{"a":{"dtype":"F32","shape":[1000000000000,4611686018427387904],"data_offsets":[0,16]}}"#;
        try_header(huge.len() as u64, huge);
        let long = r#"{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}"#;
        assert!(try_header(long.len() as u64, long).contains("expected"));
        let odd = r#"{"a":{"dtype":"U64","shape":[0],"data_offsets":[0,0]}}"#;
        assert!(try_header(odd.len() as u64, odd).contains("store them as F32"));
    }

    #[test]
    fn a_shape_that_disagrees_with_its_numbers_is_not_saved() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a");
        let wrong = HostTensor { shape: vec![2], data: vec![1.0] };
        let tensors = StateDict::from([("x".to_owned(), wrong)]);
        let error = save_tensors(&path, &tensors, &BTreeMap::new()).expect_err("wrong");
        assert!(error.to_string().contains("shape [2]"), "{error}");
        assert!(!path.exists());
    }
}
