//! Integers that double precision does not hold, as labels and ids of every format: all of their
//! digits are kept, by one rule (`Label::integer`).

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, Int64Array, RecordBatch, UInt64Array};
use astropt_core::observation::Label;
use astropt_core::seam::Source;
use tempfile::TempDir;

use crate::fixtures::{fixture, open};
use crate::npz::npy;

/// An id of the SDSS, the first integer that no double is, and its opposite.
const IDS: [i64; 3] = [1_237_648_720_693_755_918, 9_007_199_254_740_993, -9_007_199_254_740_993];
/// Some that only an unsigned integer holds.
const HASHES: [u64; 3] = [u64::MAX, 9_007_199_254_740_993, 7];
/// Numbers that stay numbers.
const COUNTS: [i64; 3] = [1, -2, (1 << 53) - 1];

fn text(number: impl ToString) -> Label {
    Label::Text(number.to_string())
}

/// The labels `objid`, `hash` and `count`, as far as the source has them, and those that are
/// ids as well.
fn check(source: &dyn Source, names: &[&str], ids: bool) {
    assert_eq!(source.len(), 3);
    for (k, id) in IDS.iter().enumerate() {
        let labels = source.labels(k);
        for &name in names {
            let expected = match name {
                "objid" => text(id),
                "hash" if k == 2 => Label::Number(7.0),
                "hash" => text(HASHES[k]),
                _ => Label::Number(COUNTS[k] as f64),
            };
            assert_eq!(labels.get(name), Some(&expected), "{name} of object {k}");
        }
        if ids {
            assert_eq!(source.id(k), id.to_string());
        }
    }
}

fn in_folder(kind: &str, table: &str, folder: &TempDir) -> Box<dyn Source> {
    open(kind, table, folder.path()).unwrap_or_else(|error| panic!("{table}: {error}"))
}

#[test]
fn of_hdf5() {
    for file in ["exact.h5", "exact_latest.h5"] {
        let table = format!("path = '{file}'\nfields.x = {{ dataset = 'x' }}\nid = 'objid'\n");
        let open = |more: &str| open("hdf5", &(table.clone() + more), &fixture("hdf5"));
        check(&*open("").expect("opens"), &["hash", "count"], true);
        let labels = open("labels = ['objid', 'hash', 'count']").expect("opens");
        check(&*labels, &["objid", "hash", "count"], true);
        let hashes = table.replace("objid", "hash");
        let source = crate::fixtures::open("hdf5", &hashes, &fixture("hdf5")).expect("opens");
        assert_eq!(source.id(0), u64::MAX.to_string());
    }
}

#[test]
fn of_numpy() {
    let folder = tempfile::tempdir().expect("a folder");
    let column = |name: &str, descr: &str, bytes: Vec<u8>| {
        let path = folder.path().join(format!("{name}.npy"));
        fs::write(path, npy(descr, false, "(3,)", &bytes)).expect("written");
    };
    column("objid", "'<i8'", IDS.iter().flat_map(|x| x.to_le_bytes()).collect());
    column("hash", "'>u8'", HASHES.iter().flat_map(|x| x.to_be_bytes()).collect());
    column("count", "'<i8'", COUNTS.iter().flat_map(|x| x.to_le_bytes()).collect());
    column("x", "'<f4'", [1f32, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect());
    let table = "path = '.'\nids = 'objid'\nfields = { x = 'x' }\n\
                 label_arrays = ['objid', 'hash', 'count']";
    check(&*in_folder("npz", table, &folder), &["objid", "hash", "count"], true);
}

/// Cards and, in the rows of a table, columns `objid` (with a TNULL), `hash` (unsigned by its
/// TZERO), `count` and `x`.
fn fits(path: &Path) {
    let block = |mut bytes: Vec<u8>, fill: u8| {
        bytes.resize(bytes.len().next_multiple_of(2880), fill);
        bytes
    };
    let header = |cards: &[String]| {
        let cards: String = cards.iter().map(|card| format!("{card:<80}")).collect();
        block((cards + "END").into_bytes(), b' ')
    };
    let card = |key: String, value: String| format!("{key:<8}= {value:>20}");
    let number = |key: &str, value: i64| card(key.to_owned(), value.to_string());
    let primary = header(&[
        card("SIMPLE".into(), "T".into()),
        number("BITPIX", 8),
        number("NAXIS", 0),
        number("OBJID", IDS[0]),
        number("COUNT", 12),
    ]);
    let mut cards = vec![
        card("XTENSION".into(), "'BINTABLE'".into()),
        number("BITPIX", 8),
        number("NAXIS", 2),
        number("NAXIS1", 32),
        number("NAXIS2", 3),
        number("PCOUNT", 0),
        number("GCOUNT", 1),
        number("TFIELDS", 4),
        number("TNULL1", -1),
        card("TZERO2".into(), "9223372036854775808".into()),
    ];
    for (k, (name, form)) in
        [("objid", "K"), ("hash", "K"), ("count", "K"), ("x", "D")].iter().enumerate()
    {
        cards.push(card(format!("TTYPE{}", k + 1), format!("'{name:<8}'")));
        cards.push(card(format!("TFORM{}", k + 1), format!("'{form:<8}'")));
    }
    let row = |k: usize| {
        let stored = HASHES[k] ^ (1 << 63);
        [
            IDS[k].to_be_bytes(),
            stored.to_be_bytes(),
            COUNTS[k].to_be_bytes(),
            (IDS[k] as f64).to_be_bytes(),
        ]
        .concat()
    };
    let rows = block((0..3).flat_map(row).collect(), 0);
    fs::write(path, [primary, header(&cards), rows].concat()).expect("written");
}

#[test]
fn of_fits() {
    let folder = tempfile::tempdir().expect("a folder");
    fits(&folder.path().join("a.fits"));
    let table = "path = 'a.fits'\nobjects = 'row'\nlabel_hdu = 1\nfields.x = { column = 'x' }\n";
    let rows = in_folder("fits", &format!("{table}id = 'objid'"), &folder);
    check(&*rows, &["objid", "hash", "count"], true);
    let hashes = in_folder("fits", &format!("{table}id = 'hash'"), &folder);
    assert_eq!(hashes.id(0), u64::MAX.to_string());
    let keywords = "path = 'a.fits'\nkeywords = ['OBJID', 'COUNT']\nfields.x = { column = 'x' }";
    let labels = in_folder("fits", keywords, &folder).labels(0);
    assert_eq!((&labels["OBJID"], &labels["COUNT"]), (&text(IDS[0]), &Label::Number(12.0)));
    // The digits of an id in floating point are lost before it is read.
    let floats = open("fits", &format!("{table}id = 'x'"), folder.path()).map(drop);
    let error = floats.expect_err("no ids").to_string();
    assert!(error.contains("floating-point") && error.contains("integers or texts"), "{error}");
}

fn columns() -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("objid", Arc::new(Int64Array::from(IDS.to_vec()))),
        ("hash", Arc::new(UInt64Array::from(HASHES.to_vec()))),
        ("count", Arc::new(Int64Array::from(COUNTS.to_vec()))),
        ("x", Arc::new(Float32Array::from(vec![1.0, 2.0, 3.0]))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns")
}

fn parquet(path: &Path) {
    let (file, batch) = (File::create(path).expect("a file"), columns());
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("written");
}

#[test]
fn of_parquet() {
    let folder = tempfile::tempdir().expect("a folder");
    parquet(&folder.path().join("a.parquet"));
    let table = "path = 'a.parquet'\nid = 'objid'\nfields = { x = 'x' }\n\
                 labels = ['objid', 'hash', 'count']";
    check(&*in_folder("parquet", table, &folder), &["objid", "hash", "count"], true);
}

#[test]
fn of_tables_of_labels() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    fs::write(place("x.npy"), npy("'<f4'", false, "(3,)", &[0; 12])).expect("written");
    let row = |k: usize| format!("{},{},{}\n", IDS[k], HASHES[k], COUNTS[k]);
    let csv = "objid,hash,count\n".to_owned() + &(0..3).map(row).collect::<String>();
    fs::write(place("labels.csv"), csv).expect("written");
    parquet(&place("labels.parquet"));
    for labels in ["labels.csv", "labels.parquet"] {
        let table = format!(
            "path = 'x.npy'\nlabels = '{labels}'\nlabels_in_order = true\nname_column = 'objid'"
        );
        check(&*in_folder("npz", &table, &folder), &["hash", "count"], true);
        let table = format!("path = 'x.npy'\nlabels = '{labels}'\nlabels_in_order = true");
        check(&*in_folder("npz", &table, &folder), &["objid", "hash", "count"], false);
    }
    // And of a catalogue in FITS, whose rows are found by name.
    fits(&place("catalogue.fits"));
    let ids: Vec<u8> = IDS.iter().flat_map(|x| x.to_le_bytes()).collect();
    fs::write(place("objid.npy"), npy("'<i8'", false, "(3,)", &ids)).expect("written");
    let catalogue = "path = '.'\nids = 'objid'\nfields = { x = 'x' }\nlabels = 'catalogue.fits'\n\
                     name_column = 'objid'";
    check(&*in_folder("npz", catalogue, &folder), &["hash", "count"], true);
}
