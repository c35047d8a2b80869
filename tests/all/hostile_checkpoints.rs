//! Checkpoints that mean harm: one clear sentence, bounded memory, nothing run, nothing
//! written.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::program::fails;
use astropt_core::checkpoint::pickle::{Object, Value};
use astropt_core::checkpoint::pickle_writer::write_pickle;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn string(text: &str) -> Value {
    Value::Str(text.into())
}

fn tuple(elements: Vec<Value>) -> Value {
    Value::Tuple(elements.into())
}

fn dictionary(entries: Vec<(&str, Value)>) -> Value {
    Value::Dict(entries.into_iter().map(|(key, value)| (string(key), value)).collect())
}

fn call(class: &str, args: Vec<Value>) -> Value {
    Value::Object(Arc::new(Object {
        class: Value::Class(class.into()),
        args: tuple(args),
        named: None,
        state: None,
        entries: Vec::new(),
        elements: Vec::new(),
    }))
}

/// A tensor that says its numbers are under `key`, `stored` of them, and its shape.
fn tensor(key: &str, stored: i64, shape: &[i64]) -> Value {
    let storage = vec![
        string("storage"),
        Value::Class("torch.FloatStorage".into()),
        string(key),
        string("cpu"),
        Value::Int(stored),
    ];
    let lengths = |all: &[i64]| tuple(all.iter().map(|&n| Value::Int(n)).collect());
    let strides: Vec<i64> = shape.iter().map(|_| 1).collect();
    call(
        "torch._utils._rebuild_tensor_v2",
        vec![
            Value::Persistent(Arc::new(tuple(storage))),
            Value::Int(0),
            lengths(shape),
            lengths(&strides),
            Value::Bool(false),
        ],
    )
}

/// A checkpoint of one layer with `tensor` among its parameters.
fn checkpoint(tensor: Value) -> Value {
    let args = [("n_layer", 1), ("n_head", 1), ("n_embd", 8), ("block_size", 4)];
    let args = args.into_iter().chain([("n_chan", 1), ("patch_size", 2)]);
    let args = args.map(|(key, n)| (key, Value::Int(n))).collect();
    dictionary(vec![
        ("model", dictionary(vec![("transformer.wpe.weight", tensor)])),
        ("model_args", dictionary(args)),
        ("iter_num", Value::Int(1)),
    ])
}

/// Writes a zip of these entries.
fn archive(path: &Path, entries: &[(&str, &[u8])], method: CompressionMethod) {
    let mut zip = ZipWriter::new(std::fs::File::create(path).expect("writable"));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in entries {
        zip.start_file(*name, options).expect("writable");
        zip.write_all(bytes).expect("writable");
    }
    zip.finish().expect("writable");
}

fn write(folder: &Path, root: &Value) -> PathBuf {
    let path = folder.join("ckpt.pt");
    let pickle = write_pickle(root).expect("pickled");
    let entries = [("x/data.pkl", &pickle[..]), ("x/data/0", &[0; 128])];
    archive(&path, &entries, CompressionMethod::Stored);
    path
}

/// Imports the file, which must fail, and leave nothing behind but the file.
fn refuse(folder: &Path, words: &str) {
    let error = fails(folder, &["import", "ckpt.pt", "--out", "run"], 1);
    assert!(error.contains("ckpt.pt") && error.contains(words), "{error}");
    let left: Vec<_> = std::fs::read_dir(folder).expect("readable").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn pickles_that_would_run_something_are_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let touch = format!("touch {}", folder.path().join("owned").display());
    for class in ["os.system", "posix.system", "builtins.eval", "subprocess.call"] {
        write(folder.path(), &call(class, vec![string(&touch)]));
        refuse(folder.path(), "holds nothing under \"model\"");
        write(folder.path(), &checkpoint(call(class, vec![string(&touch)])));
        refuse(folder.path(), "holds no parameters of AstroPT");
    }
}

#[test]
fn sizes_that_lie_are_refused_before_memory_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    for (stored, shape, words) in [
        (1 << 40, vec![1 << 40], "claims"),
        (32, vec![4, 1 << 60], "does not fit its storage"),
        (32, vec![i64::MAX, i64::MAX], "does not fit its storage"),
        (32, vec![-1, 8], "no number"),
        (33, vec![33], "132 expected"),
        (31, vec![4, 8], "does not fit its storage"),
    ] {
        write(folder.path(), &checkpoint(tensor("0", stored, &shape)));
        refuse(folder.path(), words);
    }
    for (key, n, words) in [
        ("n_layer", i64::MAX, "model.layers is"),
        ("n_embd", 1 << 40, "model.width is"),
        ("n_layer", -3, "model_args.n_layer"),
        ("block_size", 1 << 62, "asks for a table"),
    ] {
        let root = checkpoint(tensor("0", 32, &[32]));
        let Value::Dict(mut parts) = root else { panic!("a dictionary") };
        let parts = Arc::make_mut(&mut parts);
        let (_, args) = &mut parts[1];
        let Value::Dict(entries) = args else { panic!("a dictionary") };
        for (name, value) in Arc::make_mut(entries) {
            if name.as_str() == Some(key) {
                *value = Value::Int(n);
            }
        }
        write(folder.path(), &Value::Dict(parts.to_vec().into()));
        refuse(folder.path(), words);
    }
}

#[test]
fn a_bomb_is_not_unpacked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ckpt.pt");
    let pickle = write_pickle(&checkpoint(tensor("0", 1 << 26, &[1 << 26]))).expect("pickled");
    let zeros = vec![0; 256 << 20];
    let entries = [("x/data.pkl", &pickle[..]), ("x/data/0", &zeros)];
    archive(&path, &entries, CompressionMethod::Deflated);
    refuse(folder.path(), "compressed");
    // Many parameters that all refer to the same numbers.
    let n = 1 << 18;
    let names: Vec<_> = (0..5000).map(|k| format!("transformer.wte.{k}")).collect();
    let parameters = names.iter().map(|name| (name.as_str(), tensor("0", n, &[n]))).collect();
    let root = dictionary(vec![("model", dictionary(parameters))]);
    let pickle = write_pickle(&root).expect("pickled");
    let numbers = vec![0; 4 << 18];
    let entries = [("x/data.pkl", &pickle[..]), ("x/data/0", &numbers)];
    archive(&path, &entries, CompressionMethod::Stored);
    refuse(folder.path(), "claims 5242880000 bytes");
}

#[test]
fn names_that_leave_the_archive_are_not_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    for key in ["../../../../etc/hostname", "/etc/hostname", "..\\..\\x", "0\0/../1", ""] {
        write(folder.path(), &checkpoint(tensor(key, 32, &[32])));
        refuse(folder.path(), "missing");
    }
    // Entries of such names are not unpacked either.
    let path = folder.path().join("ckpt.pt");
    let pickle = write_pickle(&checkpoint(tensor("0", 32, &[32]))).expect("pickled");
    let entries: [(&str, &[u8]); 3] =
        [("../../x/data.pkl", &pickle), ("../escaped", b"x"), ("/tmp/astropt-escaped", b"x")];
    archive(&path, &entries, CompressionMethod::Stored);
    refuse(folder.path(), "no data.pkl");
    assert!(!Path::new("/tmp/astropt-escaped").exists());
    assert!(!folder.path().join("../escaped").exists());
}

#[test]
fn what_is_no_checkpoint_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ckpt.pt");
    for (bytes, words) in [
        (&b""[..], "is empty"),
        (b"PK\x03\x04", "cut short"),
        (b"\x80\x02\x8a\x0a", "before 1.6"),
        (b"<html>not found</html>", "not a PyTorch checkpoint"),
    ] {
        std::fs::write(&path, bytes).expect("writable");
        refuse(folder.path(), words);
        let error = fails(folder.path(), &["inspect", "ckpt.pt"], 1);
        assert!(error.contains(words), "{error}");
    }
}
