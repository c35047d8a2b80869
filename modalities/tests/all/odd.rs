//! What is rare in files and easily read wrong without a word: each is read as the field's own tools
//! read it, or refused with what to do. The files are those of `tests/fixtures/make_odd.py`.

use std::path::PathBuf;

use astropt_core::observation::{Data, Label, Observation};
use astropt_core::seam::{FormatPlugin, Part};

use crate::fixtures::{fixture, open};
use crate::silent::{first, refusal};

fn odd() -> PathBuf {
    fixture("odd")
}

/// Reads object 0 of a file of `odd`.
fn read(kind: &str, table: &str) -> Observation {
    first(kind, table, &odd()).unwrap_or_else(|error| panic!("{table}: {error}"))
}

fn numbers(kind: &str, table: &str, field: &str) -> Data {
    read(kind, table).fields.remove(field).expect("a field").array.data
}

/// What `astropt inspect` shows of a file of `odd`.
fn inspected(file: &str) -> Vec<Part> {
    let path = odd().join(file);
    let format = FormatPlugin::of(&path).expect("a known format");
    let sections = (format.sections)(&path).expect("readable");
    sections.into_iter().flat_map(|section| section.parts).collect()
}

#[test]
fn a_compressed_table_is_refused() {
    let words = &["packed.fits", "SPECTRA", "ZTABLE", "funpack"][..];
    let flux = "fields.flux = { column = 'flux' }";
    let named = "fields.flux = { hdu = 'SPECTRA', column = 'flux' }";
    for rest in [
        flux, // not of the table behind it, which is none of the first's objects
        named,
        &format!("objects = 'row'\n{flux}"),
        &format!("objects = 'row'\n{named}"),
        "fields.flux = { hdu = 2, column = 'flux' }\nlabel_hdu = 1",
        "fields.flux = { hdu = 2, column = 'flux' }\nlabel_hdu = 'spectra'",
    ] {
        refusal("fits", &format!("path = 'packed.fits'\n{rest}"), &odd(), words);
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(odd().join("packed.fits"), folder.path().join("labels.fits")).expect("copied");
    std::fs::copy(fixture("fits/cube.fits"), folder.path().join("a.fits")).expect("copied");
    let labels = "path = 'a.fits'\nlabels = 'labels.fits'";
    refusal("fits", labels, folder.path(), &["labels.fits", "ZTABLE"]);
    let behind = "path = 'packed.fits'\nfields.flux = { hdu = 'PLAIN', column = 'flux' }";
    assert_eq!(read("fits", behind).fields["flux"].array.shape, [2, 4]);
    let parts = inspected("packed.fits");
    let packed = parts.iter().find(|part| part.name.contains("SPECTRA")).expect("listed");
    assert!(packed.holds.contains("funpack") && packed.shape == [20], "{packed:?}");
    assert!(parts.iter().all(|part| part.holds != "u8"), "{parts:?}");
}

#[test]
fn truth_values_of_variable_length_are_ones_and_zeros() {
    let table = |column: &str| {
        format!("path = 'logicals.fits'\nobjects = 'row'\nfields.x = {{ column = '{column}' }}")
    };
    for column in ["p", "q"] {
        let source = open("fits", &table(column), &odd()).expect("opens");
        for (row, answer) in [&[1, 0][..], &[0, 0, 1], &[1]].into_iter().enumerate() {
            let found = source.read(row).expect("readable").fields.remove("x").expect("a field");
            assert_eq!(found.array.data, Data::U8(answer.to_vec()), "{column}, row {row}");
        }
    }
}

#[test]
fn several_texts_in_a_cell_are_no_label() {
    let table = "path = 'texts.fits'\nobjects = 'row'\nlabel_hdu = 1\nfields.z = { column = 'z' }";
    let labels = read("fits", table).labels;
    assert_eq!(labels.keys().collect::<Vec<_>>(), ["one", "z"], "{labels:?}");
    assert_eq!(labels["one"], Label::Text("ab".into()));
    for column in ["dim", "length", "sstr"] {
        let named = format!("{table}\nlabel_columns = ['{column}']");
        refusal("fits", &named, &odd(), &["no single number, truth value or text", column]);
        let id = format!("{table}\nid = '{column}'");
        refusal("fits", &id, &odd(), &["`id`", "no single integer or text", column]);
    }
    let named = format!("{table}\nid = 'one'");
    assert_eq!(open("fits", &named, &odd()).expect("opens").id(1), "cd");
    let parts = inspected("texts.fits");
    let part = |name: &str| parts.iter().find(|part| part.name == name).expect("listed");
    assert_eq!((part("length").holds.as_str(), &part("length").shape[..]), ("texts", &[3, 4][..]));
    assert_eq!(part("one").holds, "text");
}

#[test]
fn columns_before_one_of_an_unknown_type_are_read() {
    let table = |column: &str, rest: &str| {
        format!(
            "path = 'unknown.fits'\nobjects = 'row'\nfields.x = {{ column = '{column}' }}\n{rest}"
        )
    };
    assert_eq!(numbers("fits", &table("z", ""), "x"), Data::F32(vec![1.0]));
    let words = &["TFORM2 (Y) is no type of a column"];
    refusal("fits", &table("x", ""), &odd(), words);
    refusal("fits", &table("y", ""), &odd(), words);
    refusal("fits", &table("z", "label_hdu = 1"), &odd(), words);
    let named = "label_hdu = 1\nlabel_columns = ['z']";
    assert_eq!(read("fits", &table("z", named)).labels["z"], Label::Number(1.0));
    let parts = inspected("unknown.fits");
    assert!(parts.iter().any(|part| part.holds.contains("TFORM2 (Y)")), "{parts:?}");
}

#[test]
fn hdus_of_one_name_are_told_apart() {
    let table = |hdu: &str| format!("path = 'versions.fits'\nfields.x = {{ hdu = '{hdu}' }}");
    for (hdu, value) in [("SCI", 1), ("SCI,1", 1), ("sci, 2", 2)] {
        assert_eq!(numbers("fits", &table(hdu), "x"), Data::I64(vec![value; 6]), "{hdu}");
    }
    refusal("fits", &table("SCI,3"), &odd(), &["no HDU \"SCI,3\"", "HDU 2 (SCI,2)"]);
    let parts = inspected("versions.fits");
    assert!(parts.iter().any(|part| part.name == "2 SCI,2"), "{parts:?}");
}

#[test]
fn tiles_behind_a_gap_are_found() {
    let found = numbers("fits", "path = 'gap.fits'\nfields.x = { hdu = 1, axes = 'stored' }", "x");
    let Data::I64(found) = found else { panic!("integers") };
    assert_eq!(found[..8], [35, 533, 194, 387, 476, 648, 163, 163]);
    let bytes = std::fs::read(odd().join("gap.fits")).expect("there");
    let folder = tempfile::tempdir().expect("a folder");
    for (theap, words) in [("7", "no place behind its rows"), ("99999999", "no place behind")] {
        let text = String::from_utf8_lossy(&bytes);
        let at = text.find("THEAP   =").expect("a card");
        let mut bytes = bytes.clone();
        bytes[at..at + 80]
            .copy_from_slice(format!("{:<80}", format!("THEAP   = {theap}")).as_bytes());
        std::fs::write(folder.path().join("x.fits"), bytes).expect("written");
        refusal("fits", "path = 'x.fits'\nfields.x = { hdu = 1 }", folder.path(), &[words]);
    }
}

#[test]
fn integers_of_fewer_bits_than_their_bytes_are_refused() {
    let table = |name: &str| format!("path = 'bits.h5'\nfields.x = {{ dataset = '{name}' }}");
    let whole = Data::I64(vec![-3, -2, -1, 0, 1, 2]);
    assert_eq!(numbers("hdf5", &table("whole"), "x"), whole);
    for name in ["packed", "plain"] {
        refusal("hdf5", &table(name), &odd(), &["bits.h5", name, "no plain numbers"]);
    }
    let parts = inspected("bits.h5");
    let holds = |name: &str| &parts.iter().find(|part| part.name == name).expect("listed").holds;
    assert_eq!(
        (holds("whole").as_str(), holds("packed"), holds("plain")),
        ("i16", &"what is not read".to_owned(), &"what is not read".to_owned())
    );
}

#[test]
fn durations_are_seconds_whatever_their_unit() {
    for (kind, rest) in [
        ("parquet", "fields = { x = 'list' }"),
        (
            "table",
            "object = 'n'\nlayout = 'wide'\nfields = {}\nlabel_columns = ['s', 'ms', 'us', 'ns']",
        ),
    ] {
        let table = format!("path = 'durations.parquet'\n{rest}");
        let source = open(kind, &table, &odd()).expect("opens");
        for (row, seconds) in [Some(90.0), None, Some(-86_400.0)].into_iter().enumerate() {
            for unit in ["s", "ms", "us", "ns"] {
                let found = source.labels(row).get(unit).and_then(Label::number);
                assert_eq!(found, seconds, "{kind}, {unit}, row {row}");
            }
        }
        let units = source.label_units();
        for label in ["s", "ms", "us", "ns"] {
            assert_eq!(units.get(label).map(String::as_str), Some("s"), "{kind}, {label}");
        }
    }
    let parts = inspected("durations.parquet");
    let us = parts.iter().find(|part| part.name == "us").expect("listed");
    assert!(us.holds.contains("durations") && us.unit.as_deref() == Some("s"), "{}", us.holds);
    for (kind, rest) in [
        ("parquet", "fields = { y = { column = 'us', unit = 'd' } }"),
        ("table", "object = 'n'\nlayout = 'wide'\nfields = { y = { column = 'us', unit = 'd' } }"),
    ] {
        let table = format!("path = 'durations.parquet'\n{rest}");
        refusal(kind, &table, &odd(), &["fields.y", "\"s\"", "\"d\""]);
    }
    let table = "path = 'durations.parquet'\nfields = { x = 'list', y = 'us' }";
    assert_eq!(numbers("parquet", table, "x"), Data::F64(vec![90.0, -86_400.0]));
    assert_eq!(numbers("parquet", table, "y"), Data::F64(vec![90.0]));
    let object = open("parquet", table, &odd()).expect("opens").read(0).expect("readable");
    assert!(["x", "y"].iter().all(|field| object.fields[*field].unit.as_deref() == Some("s")));
}
