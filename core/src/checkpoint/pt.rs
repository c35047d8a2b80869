//! PyTorch checkpoints (`.pt`), read without executing anything.
//!
//! Such a file is a zip of `NAME/data.pkl`, a [pickle](super::pickle) whose tensors refer
//! to numbers in `NAME/data/KEY`. Since PyTorch 1.6 `torch.save` writes nothing else.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zip::{CompressionMethod, ZipArchive, result::ZipError};

use super::numbers::Number;
use super::pickle::{Value, read_pickle};
use crate::engine::{HostTensor, StateDict};
use crate::error::{Error, Result};
use crate::plain;

/// The largest `data.pkl` accepted, in bytes; those of large models have some hundred
/// thousand.
const MAX_PICKLE: u64 = 32 << 20;
/// The largest number of axes accepted.
const MAX_AXES: usize = 64;
/// Numbers of all tensors read at once may take this many times the file's length, which
/// leaves room for halves and for shared weights and stops a file that refers to the same
/// numbers thousands of times.
const MAX_GROWTH: u64 = 8;

/// An open `.pt` file: its objects, and its tensors on demand.
#[derive(Debug)]
pub struct PtFile {
    /// Everything but the tensors' numbers.
    pub root: Value,
    path: PathBuf,
    size: u64,
    /// First part of the names of the zip's entries.
    prefix: String,
    archive: Mutex<ZipArchive<BufReader<File>>>,
}

/// Where a tensor's numbers are.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    number: Number,
    key: String,
    /// Numbers in the storage.
    stored: usize,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// Opens the `.pt` file `path` and reads its objects.
///
/// # Errors
/// When it cannot be read, is damaged or cut short, is of the format before PyTorch 1.6,
/// or holds what neither `torch.save` nor a dataclass writes.
pub fn read_pt(path: impl AsRef<Path>) -> Result<PtFile> {
    let path = path.as_ref();
    let failed = |e: std::io::Error| Error::io("read", path, &e);
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut start = Vec::new();
    (&mut file).take(512).read_to_end(&mut start).map_err(failed)?;
    refuse_other_formats(&start).map_err(|e| Error::file(path, e))?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut archive =
        ZipArchive::new(BufReader::new(file)).map_err(|e| Error::file(path, damaged(&e)))?;
    let (prefix, root) = read_root(&mut archive).map_err(|e| Error::file(path, e))?;
    Ok(PtFile { root, path: path.to_owned(), size, prefix, archive: Mutex::new(archive) })
}

fn refuse_other_formats(start: &[u8]) -> std::result::Result<(), String> {
    let again = "load it with torch.load in Python and save it again with torch.save";
    if start.starts_with(b"PK\x03\x04") {
        Ok(())
    } else if start.starts_with(b"\x80\x02\x8a\x0a") || start.get(257..262) == Some(b"ustar") {
        Err(format!("was saved by PyTorch before 1.6 in a format that is not read; {again}"))
    } else if start.is_empty() {
        Err("is empty; copy it again".into())
    } else {
        Err("is not a PyTorch checkpoint (a zip archive); check the path".into())
    }
}

fn damaged(error: &ZipError) -> String {
    format!("is cut short or damaged ({}); copy it again", plain::zip(error))
}

/// The archive's prefix and the value of its `data.pkl`.
fn read_root(
    archive: &mut ZipArchive<BufReader<File>>,
) -> std::result::Result<(String, Value), String> {
    const PICKLE: &str = "/data.pkl";
    let name = archive
        .file_names()
        .filter_map(|name| Some(name.ok()?.into_owned()))
        .find(|name| name.strip_suffix(PICKLE).is_some_and(|prefix| !prefix.contains('/')))
        .ok_or("holds no data.pkl, so torch.save did not write it; check the path")?;
    let prefix = name.trim_end_matches(PICKLE).to_owned();
    let order = format!("{prefix}/byteorder");
    // Files of older PyTorch versions have no such entry and are little-endian.
    if archive.index_for_name(&order).is_some() && entry(archive, &order, 64)? != b"little" {
        return Err("was written on a big-endian machine, which is not read".into());
    }
    let pickle = entry(archive, &name, MAX_PICKLE)?;
    let root = read_pickle(&pickle).map_err(|e| format!("cannot be read: {e}"))?;
    Ok((prefix, root))
}

/// The whole of an entry of at most `limit` bytes.
fn entry(
    archive: &mut ZipArchive<BufReader<File>>,
    name: &str,
    limit: u64,
) -> std::result::Result<Vec<u8>, String> {
    let file = match archive.by_name(name) {
        Ok(file) => file,
        Err(ZipError::FileNotFound) => {
            return Err(format!("its entry {name} is missing; copy it again"));
        }
        Err(error) => return Err(damaged(&error)),
    };
    if file.compression() != CompressionMethod::Stored {
        return Err(format!(
            "its entry {name} is compressed, as torch.save never does; save it again with \
             torch.save"
        ));
    }
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|e| format!("its entry {name} is damaged ({e}); copy it again"))?;
    if bytes.len() as u64 > limit {
        return Err(format!("its entry {name} is longer than the {limit} bytes it should have"));
    }
    Ok(bytes)
}

impl PtFile {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value at the end of a path of dictionary keys and fields.
    ///
    /// # Errors
    /// When there is none.
    pub fn value(&self, path: &[&str]) -> Result<&Value> {
        self.root
            .at(path)
            .ok_or_else(|| self.error(format!("holds nothing under {:?}", path.join("."))))
    }

    /// Whether `value` is a tensor.
    pub fn is_tensor(&self, value: &Value) -> bool {
        tensor_args(value).is_some()
    }

    /// The numbers of the tensor `value` as 32-bit floats, row-major.
    ///
    /// # Errors
    /// When it is no tensor, its numbers are of an unknown type, or its shape and strides
    /// leave its storage.
    pub fn tensor(&self, value: &Value) -> Result<HostTensor> {
        let place = place(value).map_err(|e| self.error(format!("a tensor {e}")))?;
        self.load(&place).map_err(|e| self.error(e))
    }

    /// Shape of the tensor `value`.
    ///
    /// # Errors
    /// When it is no tensor or contradicts itself.
    pub fn shape(&self, value: &Value) -> Result<Vec<usize>> {
        Ok(place(value).map_err(|e| self.error(format!("a tensor {e}")))?.shape)
    }

    /// The tensors of the dictionary at the end of `path`, by name; other values in it are
    /// passed over.
    ///
    /// # Errors
    /// When there is no such dictionary or one of its tensors cannot be read.
    pub fn tensors(&self, path: &[&str]) -> Result<StateDict> {
        let mut places = Vec::new();
        let mut bytes = 0u64;
        for (key, value) in self.value(path)?.entries() {
            if let (Some(name), true) = (key.as_str(), self.is_tensor(value)) {
                let place =
                    place(value).map_err(|e| self.error(format!("the tensor {name} {e}")))?;
                bytes = bytes.saturating_add(4 * place.stored as u64);
                places.push((name, place));
            }
        }
        if bytes > self.size.saturating_mul(MAX_GROWTH) {
            return Err(self.error(format!(
                "claims {bytes} bytes of numbers in a file of {}; copy or save it again",
                self.size
            )));
        }
        let load = |(name, place): (&str, Place)| {
            let tensor = self.load(&place).map_err(|e| self.error(format!("{name}: {e}")))?;
            Ok((name.to_owned(), tensor))
        };
        places.into_iter().map(load).collect()
    }

    /// An error about this file.
    pub(crate) fn error(&self, message: impl ToString) -> Error {
        Error::file(&self.path, message)
    }

    fn load(&self, place: &Place) -> std::result::Result<HostTensor, String> {
        let name = format!("{}/data/{}", self.prefix, place.key);
        let expected = place.stored.checked_mul(place.number.size());
        let expected = expected.filter(|&n| n as u64 <= self.size).ok_or_else(|| {
            format!("its entry {name} claims {} numbers, more than the file holds", place.stored)
        })?;
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = entry(&mut archive, &name, expected as u64)?;
        drop(archive);
        if bytes.len() != expected {
            return Err(format!(
                "its entry {name} has {} bytes, {expected} expected; copy it again",
                bytes.len()
            ));
        }
        let stored = place.number.decode(&bytes).map_err(|e| format!("its entry {name}: {e}"))?;
        Ok(HostTensor { shape: place.shape.clone(), data: place.gather(&stored) })
    }
}

impl Place {
    /// Refuses shapes that leave the storage or that name more numbers than it has.
    fn check(&self) -> std::result::Result<(), String> {
        let wrong = || {
            format!(
                "of shape {:?}, strides {:?} and offset {} does not fit its storage of {} numbers",
                self.shape, self.strides, self.offset, self.stored
            )
        };
        if self.shape.len() != self.strides.len() || self.shape.len() > MAX_AXES {
            return Err(wrong());
        }
        let elements = self.shape.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis));
        match elements {
            Some(0) => return Ok(()),
            Some(n) if n <= self.stored => {}
            _ => return Err(wrong()),
        }
        let axes = self.shape.iter().zip(&self.strides);
        let last = axes.clone().try_fold(self.offset, |last, (&axis, &stride)| {
            last.checked_add((axis - 1).checked_mul(stride)?)
        });
        if last.is_some_and(|last| last < self.stored) { Ok(()) } else { Err(wrong()) }
    }

    /// The numbers in row-major order. [`check`](Self::check) has passed.
    fn gather(&self, stored: &[f32]) -> Vec<f32> {
        let elements = self.shape.iter().product::<usize>();
        let mut dense = 1;
        let contiguous = self.shape.iter().zip(&self.strides).rev().all(|(&axis, &stride)| {
            let fits = axis == 1 || stride == dense;
            dense *= axis.max(1);
            fits
        });
        if elements == 0 || contiguous {
            return stored.iter().skip(self.offset).take(elements).copied().collect();
        }
        let mut index = vec![0; self.shape.len()];
        let mut at = self.offset;
        let mut out = Vec::with_capacity(elements);
        for _ in 0..elements {
            out.push(stored[at]);
            for axis in (0..self.shape.len()).rev() {
                index[axis] += 1;
                // The stride of an axis of one may be any number: what is added is taken away.
                at = at.wrapping_add(self.strides[axis]);
                if index[axis] < self.shape[axis] {
                    break;
                }
                at = at.wrapping_sub(self.shape[axis].wrapping_mul(self.strides[axis]));
                index[axis] = 0;
            }
        }
        out
    }
}

/// Arguments of the call that would rebuild the tensor `value`.
fn tensor_args(value: &Value) -> Option<&[Value]> {
    let Value::Object(object) = value else { return None };
    match value.class()? {
        "torch._utils._rebuild_tensor_v2" => Some(object.args.elements()),
        // A parameter's first argument is its tensor; a tensor's is its storage, so this
        // goes down once.
        "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
            let inner = object.args.elements().first()?;
            matches!(inner.class(), Some("torch._utils._rebuild_tensor_v2"))
                .then(|| tensor_args(inner))?
        }
        _ => None,
    }
}

fn place(value: &Value) -> std::result::Result<Place, String> {
    let args = tensor_args(value)
        .ok_or_else(|| format!("was expected, {} found", value.class().unwrap_or("none")))?;
    let [storage, offset, shape, strides, ..] = args else {
        return Err("lacks its storage, offset, shape or strides".into());
    };
    let Value::Persistent(storage) = storage else {
        return Err("refers to no storage".into());
    };
    let [tag, kind, key, _device, stored, ..] = storage.elements() else {
        return Err("has an incomplete storage".into());
    };
    if tag.as_str() != Some("storage") {
        return Err("refers to something that is no storage".into());
    }
    let lengths = |value: &Value| -> Option<Vec<usize>> {
        value.elements().iter().map(Value::as_usize).collect()
    };
    let incomplete = "has a storage, shape or stride that is no number";
    let place = Place {
        number: number(kind.class().unwrap_or("none"))?,
        key: key.as_str().ok_or(incomplete)?.to_owned(),
        stored: stored.as_usize().ok_or(incomplete)?,
        offset: offset.as_usize().ok_or(incomplete)?,
        shape: lengths(shape).ok_or(incomplete)?,
        strides: lengths(strides).ok_or(incomplete)?,
    };
    place.check()?;
    Ok(place)
}

fn number(class: &str) -> std::result::Result<Number, String> {
    Ok(match class {
        "torch.DoubleStorage" => Number::F64,
        "torch.FloatStorage" => Number::F32,
        "torch.HalfStorage" => Number::F16,
        "torch.BFloat16Storage" => Number::Bf16,
        "torch.LongStorage" => Number::I64,
        "torch.IntStorage" => Number::I32,
        "torch.ShortStorage" => Number::I16,
        "torch.CharStorage" => Number::I8,
        "torch.ByteStorage" => Number::U8,
        "torch.BoolStorage" => Number::Bool,
        other => {
            return Err(format!(
                "has numbers of an unknown type ({other}); save it in 32-bit floats"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strided(shape: &[usize], strides: &[usize], offset: usize, stored: usize) -> Place {
        Place {
            number: Number::F32,
            key: "0".into(),
            stored,
            offset,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        }
    }

    #[test]
    fn strides_are_honoured() {
        let stored: Vec<f32> = (0..6).map(|k| k as f32).collect();
        let gather = |shape: &[usize], strides: &[usize], offset| {
            let place = strided(shape, strides, offset, 6);
            place.check().expect("fits");
            place.gather(&stored)
        };
        assert_eq!(gather(&[2, 3], &[3, 1], 0), [0., 1., 2., 3., 4., 5.]);
        assert_eq!(gather(&[3, 2], &[1, 3], 0), [0., 3., 1., 4., 2., 5.]);
        assert_eq!(gather(&[2], &[3], 1), [1., 4.]);
        assert_eq!(gather(&[2, 2], &[0, 1], 2), [2., 3., 2., 3.]);
        assert_eq!(gather(&[], &[], 5), [5.]);
        assert_eq!(gather(&[2, 1], &[2, usize::MAX], 1), [1., 3.]);
        assert_eq!(gather(&[0, 4], &[4, 1], 0), [0f32; 0]);
    }

    #[test]
    fn shapes_that_lie_are_refused() {
        for place in [
            strided(&[7], &[1], 0, 6),
            strided(&[6], &[1], 1, 6),
            strided(&[2, 3], &[4, 1], 0, 6),
            strided(&[usize::MAX, 2], &[0, 0], 0, 6),
            strided(&[2], &[usize::MAX], 7, 6),
            strided(&[2, 3], &[1], 0, 6),
            strided(&[1_000_000], &[0], 0, 6),
            strided(&[], &[], 6, 6),
            strided(&[1; 65], &[1; 65], 0, 6),
        ] {
            assert!(place.check().is_err(), "{place:?}");
        }
    }
}
