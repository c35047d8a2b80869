//! Files of one source that do not go together, and labels of every kind: what differs is an error
//! that names both, and what is left out is said.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, Date32Array, Decimal128Array, RecordBatch, Time32MillisecondArray,
    TimestampMillisecondArray,
};
use arrow_schema::{Field, Schema};
use astropt_core::observation::{Data, Label};

use crate::fixtures::{fixture, open};
use crate::parquet::{lists, write};
use crate::silent::{IMAGE, first, hdu, refusal};

/// A shard of one flux, with the unit in its metadata.
fn shard(path: &Path, unit: Option<&str>) {
    let flux = lists(&[&[&[1.0, 2.0]]]);
    let metadata = unit.map(|unit| ("unit".to_owned(), unit.to_owned()));
    let field = Field::new("flux", flux.data_type().clone(), true)
        .with_metadata(metadata.into_iter().collect::<HashMap<_, _>>());
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(schema.clone(), vec![flux]).expect("a column");
    let file = fs::File::create(path).expect("a file");
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, schema, None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("written");
}

#[test]
fn shards_in_different_units_are_no_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let words = ["a.parquet", "b.parquet", "\"nanomaggy\"", "\"Jy\"", "\"flux\"", "in one unit"];
    for [a, b, c] in [[Some("nanomaggy"), None, Some("Jy")], [Some("Jy"), None, Some("nanomaggy")]]
    {
        shard(&at("a.parquet"), a);
        shard(&at("a2.parquet"), b);
        shard(&at("b.parquet"), c);
        refusal("parquet", "path = ''", folder.path(), &words);
    }
    shard(&at("b.parquet"), Some(" nano maggy"));
    shard(&at("a.parquet"), Some("nanomaggy"));
    let object = first("parquet", "path = ''", folder.path()).expect("one unit, once not stated");
    assert_eq!(object.fields["flux"].unit.as_deref(), Some("nanomaggy"));
}

#[test]
fn hdf5_files_in_different_units_are_no_source() {
    let root = fixture("hdf5/units");
    let table = "fields.flux = { dataset = 'flux' }";
    // In `a.h5` the attribute is an array of one text, in `b.h5` a text, as in `c.h5`.
    let object = first("hdf5", &format!("path = 'a.h5'\n{table}"), &root).expect("readable");
    assert_eq!(object.fields["flux"].unit.as_deref(), Some("mJy"));
    let words = ["a.h5", "b.h5", "\"mJy\"", "\"MJy\"", "\"flux\"", "in one unit"];
    refusal("hdf5", &format!("path = ''\n{table}"), &root, &words);
    let list = tempfile::tempdir().expect("a folder");
    let files: String = ["a.h5", "c.h5"].map(|n| format!("{}\n", root.join(n).display())).concat();
    fs::write(list.path().join("l.txt"), files).expect("written");
    let source = open("hdf5", &format!("path = 'l.txt'\n{table}"), list.path()).expect("opens");
    assert_eq!(source.len(), 6);
}

/// A column of labels may have a second axis of length one.
#[test]
fn labels_of_hdf5_are_taken_where_they_are_one_a_row() {
    let table = "path = 'a.h5'\nfields.flux = { dataset = 'flux' }";
    let source = open("hdf5", table, &fixture("hdf5/units")).expect("opens");
    let labels = source.labels(1);
    let numbers: Vec<_> = labels.iter().map(|(name, x)| (name.as_str(), x.number())).collect();
    assert_eq!(numbers, [("flat", Some(1.5)), ("one", Some(2.5))]);
    let named = format!("{table}\nlabels = ['one', 'name']");
    let source = open("hdf5", &named, &fixture("hdf5/units")).expect("opens");
    assert_eq!(source.labels(2)["name"], Label::Text("c".to_owned()));
    let several = format!("{table}\nlabels = ['pair']");
    refusal(
        "hdf5",
        &several,
        &fixture("hdf5/units"),
        &["a.h5", "\"pair\"", "one value per object"],
    );
}

#[test]
fn decimals_and_dates_of_parquet_are_labels() {
    let folder = tempfile::tempdir().expect("a folder");
    let decimal = |number, scale| -> ArrayRef {
        let column = Decimal128Array::from(vec![Some(number), None]);
        Arc::new(column.with_precision_and_scale(20, scale).expect("fits"))
    };
    let columns: [(&str, ArrayRef); 6] = [
        ("flux", lists(&[&[&[1.0]], &[&[2.0]]])),
        ("mag", decimal(-12_345, 3)),
        ("objid", decimal(9_007_199_254_740_993, 0)),
        ("night", Arc::new(Date32Array::from(vec![Some(10_957), None]))),
        // Noon of 2000-01-01, which is MJD 51544.5.
        ("start", Arc::new(TimestampMillisecondArray::from(vec![Some(946_728_000_000), None]))),
        ("clock", Arc::new(Time32MillisecondArray::from(vec![1, 2]))),
    ];
    write(&folder.path().join("x.parquet"), &columns);
    let source = open("parquet", "path = ''", folder.path()).expect("opens");
    let number = |x| Some(Label::Number(x));
    let labels = source.labels(0);
    assert_eq!(labels.get("mag").cloned(), number(-12.345));
    assert_eq!(labels.get("night").cloned(), number(51_544.0));
    assert_eq!(labels.get("start").cloned(), number(51_544.5));
    assert_eq!(labels.get("objid"), Some(&Label::Text("9007199254740993".to_owned())));
    assert!(!labels.contains_key("clock") && source.labels(1).is_empty());
    let words = ["x.parquet", "\"clock\"", "`labels`"];
    refusal("parquet", "path = ''\nlabels = ['clock']", folder.path(), &words);
    let field = "path = ''\nfields = { mag = 'mag', night = 'night' }";
    let object = first("parquet", field, folder.path()).expect("readable");
    assert_eq!(object.fields["mag"].array.data, Data::F64(vec![-12.345]));
    // The same of a table, as ids too.
    let table = "path = 'x.parquet'\nobject = 'objid'\nlayout = 'wide'\nfields.mag = 'mag'";
    let error = first("table", table, folder.path()).map(drop);
    assert!(error.is_err_and(|error| error.contains("row 1")), "a row without an id");
    write(&folder.path().join("y.parquet"), &columns.map(|(name, of)| (name, of.slice(0, 1))));
    let object = first("table", &table.replace('x', "y"), folder.path()).expect("readable");
    assert_eq!(object.id, "9007199254740993");
    assert_eq!(object.labels["start"], Label::Number(51_544.5));
    assert_eq!(object.fields["mag"].array.data, Data::F64(vec![-12.345]));
}

#[test]
fn keywords_are_looked_for_in_the_file_of_every_band() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = |g: &[&str], r: &[&str]| {
        fs::write(folder.path().join("a-g.fits"), hdu(IMAGE, g)).expect("written");
        fs::write(folder.path().join("a-r.fits"), hdu(IMAGE, r)).expect("written");
    };
    let table = "path = ''\nfiles = '{id}-{band}.fits'\nbands = ['g', 'r']\nkeywords = ['SEEING']";
    for (g, r) in [
        (&[][..], &["SEEING  = 1.5"][..]),
        (&["SEEING  = 1.5"], &[]),
        (&["SEEING  = 1.50"], &["SEEING  = 1.5"]),
    ] {
        files(g, r);
        let object = first("fits", table, folder.path()).expect("readable");
        assert_eq!(object.labels["SEEING"], Label::Number(1.5));
    }
    files(&["SEEING  = 1.5"], &["SEEING  = 1.25"]);
    let words = ["a-r.fits", "a-g.fits", "1.25", "1.5", "\"SEEING\"", "one value"];
    refusal("fits", table, folder.path(), &words);
    files(&[], &[]);
    refusal("fits", table, folder.path(), &["a-g.fits", "\"SEEING\"", "`keywords`"]);
}

#[test]
fn a_scale_that_is_no_number_is_not_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |cards: &[&str]| {
        fs::write(folder.path().join("x.fits"), hdu(IMAGE, cards)).expect("written");
        first("fits", "path = 'x.fits'", folder.path())
    };
    let data = |cards: &[&str]| put(cards).expect("readable").fields["image"].array.data.clone();
    for card in
        ["BSCALE  = '2.0'", "BZERO   = '10'", "BSCALE  = 2,0", "BZERO   = T", "BLANK   = 0.5"]
    {
        let error = put(&[card]).expect_err(card);
        let keyword = card.split(' ').next().expect("a keyword");
        for word in [keyword, "x.fits", "HDU 0", "wanted"] {
            assert!(error.contains(word), "{card}: {error}");
        }
    }
    assert_eq!(data(&["BSCALE  = 2.0D0", "BZERO   ="]), Data::F32(vec![2.0, 4.0, 6.0, 8.0]));
    // Of a table, the column alone that has it.
    let kind = ["XTENSION= 'BINTABLE'", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 4"];
    let counts = ["NAXIS2  = 1", "PCOUNT  = 0", "GCOUNT  = 1", "TFIELDS = 2"];
    let columns = ["TTYPE1  = 'A'", "TFORM1  = 'I'", "TTYPE2  = 'B'", "TFORM2  = 'I'"];
    let table = hdu(&[&kind[..], &counts, &columns].concat(), &["TSCAL2  = '2'"]);
    fs::write(folder.path().join("x.fits"), [hdu(IMAGE, &[]), table].concat()).expect("written");
    let field = |column: &str| format!("path = 'x.fits'\nfields.x = {{ column = '{column}' }}");
    let object = first("fits", &field("A"), folder.path()).expect("readable");
    assert_eq!(object.fields["x"].array.data, Data::I64(vec![0x0102]));
    refusal("fits", &field("B"), folder.path(), &["x.fits", "column B", "TSCAL2", "\"2\""]);
    let labels = "path = 'x.fits'\nlabel_hdu = 1\nlabel_columns = ";
    assert!(first("fits", &format!("{labels}['A']"), folder.path()).is_ok());
    refusal("fits", &format!("{labels}['B']"), folder.path(), &["x.fits", "column B", "TSCAL2"]);
}

#[test]
fn long_texts_of_long_keywords_are_joined() {
    let folder = tempfile::tempdir().expect("a folder");
    let cards = [
        "HIERARCH ESO OBS NAME = 'a field of &'",
        "CONTINUE  'many words, &'",
        "CONTINUE  'isn''t it' / the name",
        "HIERARCH ESO OBS NEXT = 'alone&'",
        "OBJECT  = 'M 31'",
    ];
    fs::write(folder.path().join("x.fits"), hdu(IMAGE, &cards)).expect("written");
    let table = "path = 'x.fits'\nkeywords = ['ESO OBS NAME', 'ESO OBS NEXT', 'OBJECT']";
    let labels = first("fits", table, folder.path()).expect("readable").labels;
    let text = |text: &str| Label::Text(text.to_owned());
    assert_eq!(labels["ESO OBS NAME"], text("a field of many words, isn't it"));
    assert_eq!((&labels["ESO OBS NEXT"], &labels["OBJECT"]), (&text("alone&"), &text("M 31")));
}
