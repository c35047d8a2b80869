//! The source `parquet` on files as pyarrow and the `datasets` library write them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{Float32Builder, ListBuilder};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use astropt_core::observation::{Data, Label, Observation};
use astropt_core::seam::Source;
use astropt_core::testkit;
use proptest::prelude::*;
use serde_json::Value;

use crate::fixtures::open;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet")
}

const GALAXIES: &str = "path = 'hf'\nsplit = 'train'\nid = 'dr8_id'\n\
                        fields = { image = 'image', crop = 'image_crop' }\n\
                        labels = ['redshift', 'class', 'spiral', 'votes']";

const SURVEYS: &str = "path = 'mmu'\n[fields]\nflux = 'spectrum.flux'\n\
    wavelength = 'spectrum.lambda'\nmask = 'spectrum.mask'\n\
    time = 'lightcurve.time'\nimage = { column = 'image.flux', axes = 'chw' }\n\
    cube = 'cube'\nhalf = 'half'\nint8 = 'int8'\nint16 = 'int16'\nint32 = 'int32'\n\
    int64 = 'int64'\nuint8 = 'uint8'\nuint16 = 'uint16'\nuint32 = 'uint32'\nuint64 = 'uint64'";

/// The rows that `make.py` recorded for these files.
fn expected(names: &[&str]) -> Vec<Value> {
    let text = fs::read_to_string(fixtures().join("expected.json")).expect("readable");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    names.iter().flat_map(|name| all[name].as_array().expect("rows").clone()).collect()
}

fn exact(data: &Data) -> Vec<f64> {
    match data {
        Data::F32(v) => v.iter().map(|&x| x.into()).collect(),
        Data::F64(v) => v.clone(),
        Data::I64(v) => v.iter().map(|&x| x as f64).collect(),
        other => other.to_f32().iter().map(|&x| x.into()).collect(),
    }
}

fn compare(object: &Observation, expected: &Value) {
    let fields = expected["fields"].as_object().expect("fields");
    let names: Vec<_> = fields.keys().collect();
    assert_eq!(object.fields.keys().collect::<Vec<_>>(), names, "{}", object.id);
    for (name, expected) in fields {
        let array = &object.fields[name].array;
        let shape: Vec<usize> = serde_json::from_value(expected["shape"].clone()).expect("a shape");
        assert_eq!(array.shape, shape, "{} {name}", object.id);
        let numbers = expected["numbers"].as_array().expect("numbers").iter();
        let numbers: Vec<f64> = numbers.map(|x| x.as_f64().unwrap_or(f64::NAN)).collect();
        let found = exact(&array.data);
        let same = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
        assert!(found.iter().zip(&numbers).all(same), "{} {name}: {found:?}", object.id);
    }
    let labels = serde_json::to_value(&object.labels).expect("JSON");
    for (name, label) in expected["labels"].as_object().expect("labels") {
        let (found, label) = (&labels[name], label);
        assert!(found == label || found.as_f64() == label.as_f64(), "{name}: {found} {label}");
    }
    assert_eq!(object.labels.len(), expected["labels"].as_object().expect("labels").len());
}

fn read_all(source: &dyn Source) -> Vec<Observation> {
    (0..source.len()).map(|i| source.read(i).expect("readable")).collect()
}

#[test]
fn rows_are_those_that_pyarrow_reads() {
    let source = open("parquet", GALAXIES, &fixtures()).expect("opens");
    let rows = expected(&["hf/data/train-00000-of-00002", "hf/data/train-00001-of-00002"]);
    let objects = read_all(&*source);
    assert_eq!(objects.len(), rows.len());
    for (object, row) in objects.iter().zip(&rows) {
        compare(object, row);
        assert_eq!(Some(object.id.as_str()), row["id"].as_str());
    }
    assert_eq!(source.labelled(), source.len());
}

#[test]
fn structs_and_nested_lists_become_arrays_with_units() {
    let source = open("parquet", SURVEYS, &fixtures()).expect("opens");
    let objects = read_all(&*source);
    for (object, row) in objects.iter().zip(expected(&["mmu/0000"])) {
        compare(object, &row);
    }
    let unit = |name: &str| objects[0].fields[name].unit.as_deref();
    assert_eq!(unit("flux"), Some("1e-17 erg / (s cm2 Angstrom)"));
    assert_eq!(unit("wavelength"), Some("Angstrom"));
    assert_eq!(unit("time"), Some("d"));
    assert_eq!(unit("cube"), None);
    let Data::I64(numbers) = &objects[0].fields["uint64"].array.data else { panic!("integers") };
    assert_eq!(numbers[1], i64::MAX, "kept whole");
    assert!(matches!(objects[0].fields["cube"].array.data, Data::U16(_)));
}

#[test]
fn without_a_word_images_and_all_scalars_are_read() {
    let source = open("parquet", "path = 'hf'", &fixtures()).expect("opens");
    assert_eq!(source.len(), 13);
    assert_eq!(source.id(0), "data/test-00000-of-00001:0");
    assert_eq!(source.id(5), "data/train-00000-of-00002:3");
    let object = source.read(2).expect("readable");
    assert_eq!(object.fields.keys().collect::<Vec<_>>(), ["image"]);
    let names: Vec<_> = object.labels.keys().map(String::as_str).collect();
    assert_eq!(names, ["class", "dr8_id", "redshift", "seen", "spiral", "votes"]);
    assert_eq!(object.labels["seen"], Label::Number(40_587.0), "1970-01-01 as MJD");
    let exact = Label::Text((1u64 << 62).to_string());
    assert_eq!(object.labels["dr8_id"], exact, "beyond what a double holds");
    let groups = source.groups().expect("groups");
    assert_eq!((groups.starts, groups.shards), (vec![0, 2, 5, 8, 9, 12], vec![0]));
    assert!(groups.held >= 6);
}

#[test]
fn parquet_conforms() {
    for table in [GALAXIES, SURVEYS, "path = 'hf/data/train-00000-of-00002.parquet'"] {
        testkit::source::check("parquet", table, &fixtures()).expect(table);
    }
}

#[test]
fn a_large_row_group_is_read_in_parts() {
    for buffer in ["1kB", "20kB", "100kB", "1GB"] {
        let table = format!("path = 'large'\nid = 'id'\nbuffer = '{buffer}'");
        let source = open("parquet", &table, &fixtures()).expect("opens");
        let groups = source.groups().expect("groups");
        assert_eq!(groups.starts.len() > 1, buffer != "1GB", "{groups:?}");
        for i in (0..3000).step_by(7).chain((0..3000).rev().step_by(311)) {
            let object = source.read(i).expect("readable");
            let expected = Data::F64(vec![2.0 * i as f64, 2.0 * i as f64 + 1.0]);
            assert_eq!(object.fields["flux"].array.data, expected);
            assert_eq!(object.id, i.to_string());
        }
    }
}

/// A file with these columns.
pub(crate) fn write(path: &Path, columns: &[(&str, ArrayRef)]) {
    let columns = columns.iter().map(|(name, of)| (*name, of.clone(), of.logical_null_count() > 0));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("columns");
    let file = fs::File::create(path).expect("a file");
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("written");
}

/// A column of lists of lists.
pub(crate) fn lists(rows: &[&[&[f32]]]) -> ArrayRef {
    let mut builder = ListBuilder::new(ListBuilder::new(Float32Builder::new()));
    for row in rows {
        for list in *row {
            builder.values().append_value(list.iter().map(|&x| Some(x)));
        }
        builder.append(true);
    }
    Arc::new(builder.finish())
}

#[test]
fn what_cannot_be_read_says_why_and_where() {
    let folder = tempfile::tempdir().expect("a folder");
    let flux = lists(&[&[&[1.0], &[2.0]], &[&[1.0], &[2.0, 3.0]], &[]]);
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(1), Some(2)]));
    let holes: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("")]));
    let path = folder.path().join("a.parquet");
    write(&path, &[("flux", flux), ("twice", ids), ("holes", holes)]);
    fs::write(folder.path().join("b.txt"), "no table").expect("written");
    let source = open("parquet", "path = 'a.parquet'", folder.path()).expect("opens");
    assert!(source.read(0).is_ok());
    let error = source.read(1).expect_err("refused").to_string();
    assert!(error.contains("lists of 1 and of 2 items") && error.contains("a:1"), "{error}");
    for (table, words) in [
        ("path = 'nowhere'", "check the path"),
        ("path = 'b.txt'", "does not end as a Parquet file"),
        ("path = ''\nsplit = 'train'", "no shard of the split \"train\""),
        ("path = ''\nfields = { x = 'image' }", "(`fields.x`): it has flux, twice, holes"),
        ("path = ''\nfields = { x = 'holes' }", "of the type Utf8"),
        ("path = ''\nfields = {}", "`fields` is empty"),
        ("path = ''\nlabels = ['flux']", "no numbers, truth values or texts"),
        ("path = ''\nlabels = ['z']", "no column \"z\" (`labels`)"),
        ("path = ''\nlabels = ['twice', 'twice']", "twice"),
        ("path = ''\nid = 'twice'", "\"1\" occurs twice, in rows 0 and 1"),
        ("path = ''\nid = 'holes'", "row 1 (counted from 0, through all shards) has no id"),
        ("path = ''\nid = 'flux'", "(`id`) holds no numbers or texts"),
    ] {
        let error = open("parquet", table, folder.path()).map(drop).expect_err(table).to_string();
        assert!(error.contains(words), "{table}: {error}");
    }
}

/// Modalities may be read of labels alone.
#[test]
fn a_row_with_labels_alone_is_an_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let flux = lists(&[&[&[1.0]], &[], &[]]);
    let z: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(7), None]));
    write(&folder.path().join("a.parquet"), &[("flux", flux), ("z", z)]);
    let source = open("parquet", "path = 'a.parquet'", folder.path()).expect("opens");
    let object = source.read(1).expect("an object");
    assert!(object.fields.is_empty() && object.labels.len() == 1, "{object:?}");
    let error = source.read(2).expect_err("it has nothing").to_string();
    assert!(error.contains("nothing in its columns flux") && error.contains("a:2"), "{error}");
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    let source = open("parquet", "path = 'bomb.parquet'", &fixtures()).expect("opens");
    let error = source.read(0).expect_err("refused").to_string();
    assert!(error.contains("claims 1 values in 15000000"), "{error}");
}

/// Opens a damaged file and reads what can be read of it.
fn survive(bytes: &[u8], fields: &str) -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("x.parquet"), bytes).expect("written");
    let Ok(source) = open("parquet", &format!("path = ''\n{fields}"), folder.path()) else {
        return 0;
    };
    (0..source.len().min(20)).filter(|&i| source.read(i).is_ok()).count()
}

const DAMAGED: [(&str, &str); 4] = [
    ("hf/data/train-00000-of-00002.parquet", ""),
    ("hf/data/train-00001-of-00002.parquet", ""),
    ("hf/data/test-00000-of-00001.parquet", ""),
    ("mmu/0000.parquet", "fields = { x = 'spectrum.flux', y = 'image.flux', z = 'uint64' }"),
];

#[test]
fn a_file_cut_anywhere_is_an_error() {
    for (name, fields) in DAMAGED {
        let whole = fs::read(fixtures().join(name)).expect("readable");
        assert!(survive(&whole, fields) > 0);
        for cut in (0..whole.len()).step_by(97) {
            assert_eq!(survive(&whole[..cut], fields), 0, "{name} cut at {cut}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn flipped_bits_are_no_panic(
        file in 0usize..4, places in proptest::collection::vec(any::<(u32, u8)>(), 1..5),
        footer: bool,
    ) {
        let (name, fields) = DAMAGED[file];
        let mut bytes = fs::read(fixtures().join(name)).expect("readable");
        // Half of the cases damage the metadata, which is the most intricate part.
        let from = if footer { bytes.len() / 2 } else { 0 };
        for (place, bit) in places {
            let place = from + place as usize % (bytes.len() - from);
            bytes[place] ^= 1 << (bit % 8);
        }
        survive(&bytes, fields);
    }
}
