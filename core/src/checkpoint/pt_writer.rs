//! PyTorch checkpoints (`.pt`), written in the format `torch.load` reads since PyTorch 1.6:
//! an uncompressed zip of `archive/data.pkl` and `archive/data/N`; see [`pt`](super::pt).

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use zip::result::{ZipError, ZipResult};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::files::AtomicFile;
use super::pickle_writer::write_pickle;
use super::tensors::write_floats;
use super::value::{Object, Value};
use crate::engine::HostTensor;
use crate::error::{Error, Result};

/// Where PyTorch aligns tensors in the file, so that it can map them.
const ALIGNMENT: u16 = 64;

/// The tensors of a `.pt` file that is being put together.
#[derive(Debug, Default)]
pub struct PtWriter<'a> {
    storages: Vec<&'a [f32]>,
}

impl<'a> PtWriter<'a> {
    /// The record that stands for `tensor` in the file's objects; its numbers go into the
    /// file when it is [saved](Self::save).
    pub fn tensor(&mut self, tensor: &'a HostTensor) -> Value {
        let key = self.storages.len().to_string();
        let length = tensor.data.len();
        self.storages.push(&tensor.data);
        let storage = tuple([
            text("storage"),
            Value::Class("torch.FloatStorage".into()),
            text(&key),
            text("cpu"),
            Value::Int(length as i64),
        ]);
        let mut stride = 1;
        let mut strides = vec![0; tensor.shape.len()];
        for (axis, out) in tensor.shape.iter().zip(&mut strides).rev() {
            *out = stride;
            stride *= axis;
        }
        let lengths = |all: &[usize]| tuple(all.iter().map(|&n| Value::Int(n as i64)));
        call(
            "torch._utils._rebuild_tensor_v2",
            [
                Value::Persistent(Arc::new(storage)),
                Value::Int(0),
                lengths(&tensor.shape),
                lengths(&strides),
                Value::Bool(false),
                ordered([]),
            ],
        )
    }

    /// Writes the file `path`, whole or not at all, with the objects `root`. The same
    /// content gives the same bytes.
    ///
    /// # Errors
    /// When the objects cannot be pickled or the file cannot be written.
    pub fn save(self, path: impl AsRef<Path>, root: &Value) -> Result<()> {
        let path = path.as_ref();
        let pickle = write_pickle(root)
            .map_err(|e| Error::file(path, format!("cannot hold what it should: {e}")))?;
        let mut file = AtomicFile::create(path)?;
        let mut zip = ZipWriter::new(&mut file);
        let written = match self.fill(&mut zip, &pickle) {
            Ok(()) => zip.finish().map(drop),
            Err(error) => {
                // Dropped, it would try to write its end once more, and print that it cannot.
                std::mem::forget(zip);
                Err(error)
            }
        };
        written.map_err(|e| broken(path, e))?;
        file.commit()
    }

    /// Writes what the file holds.
    fn fill(&self, zip: &mut ZipWriter<&mut AtomicFile>, pickle: &[u8]) -> ZipResult<()> {
        for (name, bytes) in [("data.pkl", pickle), ("byteorder", b"little")] {
            zip.start_file(format!("archive/{name}"), options(bytes.len()))?;
            zip.write_all(bytes)?;
        }
        for (key, numbers) in self.storages.iter().enumerate() {
            let size = options(4 * numbers.len());
            zip.start_file(format!("archive/data/{key}"), size)?;
            write_floats(zip, numbers)?;
        }
        zip.start_file("archive/version", options(2))?;
        Ok(zip.write_all(b"3\n")?)
    }
}

/// The error of the file `path` that cannot be written.
fn broken(path: &Path, error: ZipError) -> Error {
    match error {
        ZipError::Io(e) => Error::io("write", path, &e),
        other => Error::file(path, format!("cannot be written: {other}")),
    }
}

fn options(size: usize) -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .with_alignment(ALIGNMENT)
        .large_file(u32::try_from(size).is_err())
}

/// A text.
pub(super) fn text(text: &str) -> Value {
    Value::Str(text.into())
}

/// A tuple.
pub(super) fn tuple(elements: impl IntoIterator<Item = Value>) -> Value {
    Value::Tuple(elements.into_iter().collect())
}

/// A dictionary with texts as keys.
pub(super) fn dictionary<K: AsRef<str>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
    Value::Dict(entries.into_iter().map(|(key, value)| (text(key.as_ref()), value)).collect())
}

/// A `collections.OrderedDict`.
pub(super) fn ordered(entries: impl IntoIterator<Item = (Value, Value)>) -> Value {
    object("collections.OrderedDict", tuple([]), None, entries.into_iter().collect())
}

/// What calling `class` with `args` would make.
fn call(class: &str, args: impl IntoIterator<Item = Value>) -> Value {
    object(class, tuple(args), None, Vec::new())
}

/// An instance of the dataclass `class` with these fields.
pub(super) fn instance<K: AsRef<str>>(
    class: &str,
    fields: impl IntoIterator<Item = (K, Value)>,
) -> Value {
    object(class, tuple([]), Some(dictionary(fields)), Vec::new())
}

fn object(class: &str, args: Value, state: Option<Value>, entries: Vec<(Value, Value)>) -> Value {
    let class = Value::Class(class.into());
    Value::Object(Arc::new(Object { class, args, named: None, state, entries, elements: vec![] }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::pt::read_pt;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn tensors_come_back_bit_by_bit(
            shapes in prop::collection::vec(prop::collection::vec(0usize..5, 0..4), 0..6),
            first: f32,
        ) {
            let folder = tempfile::tempdir().expect("folder");
            let path = folder.path().join("x.pt");
            let tensors: Vec<HostTensor> = shapes
                .into_iter()
                .map(|shape| {
                    let n = shape.iter().product::<usize>();
                    HostTensor { shape, data: (0..n).map(|k| first + k as f32).collect() }
                })
                .collect();
            let mut writer = PtWriter::default();
            let named = tensors.iter().enumerate();
            let named: Vec<_> = named.map(|(k, t)| (k.to_string(), writer.tensor(t))).collect();
            let root = dictionary([("model", dictionary(named)), ("n", Value::Int(7))]);
            writer.save(&path, &root).expect("written");
            let file = read_pt(&path).expect("read");
            let found = file.tensors(&["model"]).expect("tensors");
            prop_assert_eq!(found.len(), tensors.len());
            for (k, tensor) in tensors.iter().enumerate() {
                let found = &found[&k.to_string()];
                prop_assert_eq!(&found.shape, &tensor.shape);
                let bits = |t: &HostTensor| t.data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(found), bits(tensor));
            }
            prop_assert_eq!(file.root.get("n"), Some(&Value::Int(7)));
        }
    }

    #[test]
    fn the_same_content_gives_the_same_bytes_and_a_refusal_leaves_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let tensor = HostTensor { shape: vec![3], data: vec![1.0, 2.0, 3.0] };
        let write = |name: &str| {
            let mut writer = PtWriter::default();
            let root = dictionary([("x", writer.tensor(&tensor))]);
            writer.save(folder.path().join(name), &root).expect("written");
            std::fs::read(folder.path().join(name)).expect("read")
        };
        assert_eq!(write("a.pt"), write("b.pt"));
        let path = folder.path().join("c.pt");
        let error = PtWriter::default().save(&path, &Value::Set(Arc::from([])));
        assert!(error.expect_err("no set").to_string().contains("c.pt"));
        assert!(!path.exists());
    }
}
