//! Files of one source that do not go together, and labels of every kind: what differs is an error
//! that names both, and what is left out is said.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, Date32Array, Decimal128Array, Float64Array, RecordBatch, StringArray,
    Time32MillisecondArray, TimestampMillisecondArray,
};
use arrow_schema::{Field, Schema};
use astropt_core::observation::{Data, Label};
use astropt_core::testkit;

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

/// A table of these columns, some with their units in the metadata.
fn table(path: &Path, columns: &[(&str, ArrayRef, Option<&str>)]) {
    let field = |(name, column, unit): &(&str, ArrayRef, Option<&str>)| {
        let unit = unit.map(|unit| ("unit".to_owned(), unit.to_owned()));
        let field = Field::new(*name, column.data_type().clone(), true);
        field.with_metadata(unit.into_iter().collect::<HashMap<_, _>>())
    };
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let arrays = columns.iter().map(|(_, column, _)| column.clone()).collect();
    let batch = RecordBatch::try_new(schema.clone(), arrays).expect("columns");
    let file = fs::File::create(path).expect("a file");
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, schema, None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("written");
}

fn numbers(of: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(of.to_vec()))
}

fn texts(of: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(of.to_vec()))
}

/// The units of a source's labels.
fn label_units(kind: &str, table: &str, root: &Path) -> Vec<(String, String)> {
    let source = open(kind, table, root).unwrap_or_else(|error| panic!("{table}: {error}"));
    source.label_units().into_iter().collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|&(label, unit)| (label.to_owned(), unit.to_owned())).collect()
}

#[test]
fn labels_of_shards_have_one_unit() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let shard = |name: &str, unit: Option<&str>| {
        let start = Arc::new(TimestampMillisecondArray::from(vec![946_728_000_000]));
        let columns = [
            ("image", lists(&[&[&[1.0, 2.0]]]), Some("adu")),
            ("total", numbers(&[3.0]), unit),
            ("z", numbers(&[0.1]), None),
            // A text has no unit, and a date becomes days whatever the file counts it in.
            ("class", texts(&["E"]), Some("letters")),
            ("start", start as ArrayRef, Some("ms")),
        ];
        table(&root.join(name), &columns);
    };
    for [a, b, c] in [[Some("mJy"), None, Some("Jy")], [Some("Jy"), None, Some("mJy")]] {
        shard("a.parquet", a);
        shard("a2.parquet", b);
        shard("b.parquet", c);
        let words = ["a.parquet", "b.parquet", "\"mJy\"", "\"Jy\"", "\"total\"", "in one unit"];
        refusal("parquet", "path = ''", root, &words);
        assert_eq!(label_units("parquet", "path = ''\nlabels = ['z', 'class']", root), []);
    }
    shard("b.parquet", Some("J y"));
    let units = label_units("parquet", "path = ''", root);
    assert_eq!(units, pairs(&[("start", "d"), ("total", "Jy")]));
    testkit::source::check("parquet", "path = ''", root).expect("a source");
    // Of a field that is made of dates the milliseconds are no unit either.
    let object = first("parquet", "path = ''\nfields = { t = 'start' }", root).expect("readable");
    assert_eq!(object.fields["t"].unit.as_deref(), Some("d"));
    let other = "path = ''\nfields = { t = { column = 'start', unit = 's' } }";
    refusal("parquet", other, root, &["fields.t", "\"d\"", "\"s\""]);
}

#[test]
fn labels_of_hdf5_files_have_one_unit() {
    use hdf5_pure::{AttrValue, FileBuilder};
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, unit: Option<&str>| {
        let mut builder = FileBuilder::new();
        builder.create_dataset("flux").with_f64_data(&[1.0, 2.0, 3.0, 4.0]).with_shape(&[2, 2]);
        let label = builder.create_dataset("total").with_f64_data(&[3.0, 7.0]).with_shape(&[2]);
        if let Some(unit) = unit {
            label.set_attr("units", AttrValue::String(unit.to_owned()));
        }
        builder.write(folder.path().join(name)).expect("written");
    };
    let table = "path = ''\nfields.flux = { dataset = 'flux' }";
    file("a.h5", Some("mJy"));
    file("b.h5", None);
    assert_eq!(label_units("hdf5", table, folder.path()), pairs(&[("total", "mJy")]));
    testkit::source::check("hdf5", table, folder.path()).expect("a source");
    file("b.h5", Some("MJy"));
    let words = ["a.h5", "b.h5", "\"mJy\"", "\"MJy\"", "\"total\"", "in one unit", "the labels"];
    refusal("hdf5", table, folder.path(), &words);
    assert_eq!(label_units("hdf5", &format!("{table}\nlabels = []"), folder.path()), []);
}

/// The bytes of a FITS file: an image of four pixels and a table of one row, of two numbers and the
/// letter q.
fn with_table(units: &[&str]) -> Vec<u8> {
    let kind = ["XTENSION= 'BINTABLE'", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 4"];
    let counts = ["NAXIS2  = 1", "PCOUNT  = 0", "GCOUNT  = 1", "TFIELDS = 3"];
    let columns = [
        "TTYPE1  = 'mag'",
        "TFORM1  = 'B'",
        "TTYPE2  = 'z'",
        "TFORM2  = 'I'",
        "TTYPE3  = 'name'",
        "TFORM3  = '1A'",
        "TUNIT3  = 'letter'",
    ];
    let mut bytes =
        [hdu(IMAGE, &[]), hdu(&[&kind[..], &counts, &columns].concat(), units)].concat();
    let data = bytes.len() - 2880;
    bytes[data + 3] = b'q';
    bytes
}

#[test]
fn labels_within_and_beside_fits_files_have_one_unit() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let put = |name: &str, units: &[&str]| {
        fs::write(root.join(name), with_table(units)).expect("written");
    };
    let recipe = "path = ''\nlabel_hdu = 1";
    put("a.fits", &["TUNIT1  = 'mag'"]);
    put("b.fits", &[]);
    put("c.fits", &["TUNIT1  = ' mag '", "TUNIT2  = 'km/s'"]);
    let units = pairs(&[("mag", "mag"), ("z", "km/s")]);
    assert_eq!(label_units("fits", recipe, root), units);
    put("c.fits", &["TUNIT1  = 'nanomaggy'"]);
    let words = ["a.fits", "c.fits", "\"mag\"", "\"nanomaggy\"", "in one unit"];
    refusal("fits", recipe, root, &words);
    assert_eq!(label_units("fits", &format!("{recipe}\nlabel_columns = ['z']"), root), []);
    // A table beside them, of which labels win over those within.
    put("c.fits", &[]);
    let beside = |unit: &str| {
        let columns =
            [("file", texts(&["a", "b"]), None), ("mag", numbers(&[1.0, 2.0]), Some(unit))];
        table(&root.join("more.parquet"), &columns);
    };
    let recipe = format!("{recipe}\nlabels = 'more.parquet'");
    beside("mag");
    assert_eq!(label_units("fits", &recipe, root), pairs(&[("mag", "mag")]));
    beside("mmag");
    refusal("fits", &recipe, root, &["more.parquet", "own table", "\"mag\"", "\"mmag\""]);
}

/// Tables of labels beside data, of FITS and of Parquet.
#[test]
fn units_of_a_table_of_labels_are_carried_through() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    fs::create_dir(root.join("images")).expect("a folder");
    fs::write(root.join("images/q.png"), "not read here").expect("written");
    let columns = [
        ("name", texts(&["q"]), None),
        ("mag", numbers(&[17.5]), Some("mag")),
        ("z", numbers(&[0.1]), None),
    ];
    table(&root.join("images/labels.parquet"), &columns);
    let units = pairs(&[("mag", "mag")]);
    assert_eq!(label_units("image-folder", "path = 'images'", root), units);
    let wide = "path = 'images/labels.parquet'\nobject = 'name'\nlayout = 'wide'";
    assert_eq!(label_units("table", wide, root), units);
    // What the recipe says of a column holds for the label that it is.
    let stated = format!("{wide}\nfields.redshift = {{ column = 'z', unit = 'km/s' }}");
    let both = pairs(&[("mag", "mag"), ("z", "km/s")]);
    assert_eq!(label_units("table", &stated, root), both);
    let without = format!("{stated}\nlabel_columns = ['mag']");
    assert_eq!(label_units("table", &without, root), units);
    fs::write(root.join("curve.csv"), "id,mjd\nq,1\nq,2\n").expect("written");
    let long = "path = 'curve.csv'\nobject = 'id'\nfields.time = 'mjd'\n\
                labels = 'images/labels.parquet'";
    assert_eq!(label_units("table", long, root), units);
    fs::write(root.join("stars.fits"), with_table(&["TUNIT1  = 'mag'"])).expect("written");
    let fits = long.replace("images/labels.parquet", "stars.fits");
    assert_eq!(label_units("table", &fits, root), units);
}

#[test]
fn parts_of_a_join_give_a_label_in_one_unit() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let part = |name: &str, unit: Option<&str>| {
        let columns = [
            ("id", texts(&["a", "b"]), None),
            ("flux", numbers(&[1.0, 2.0]), unit),
            ("own", numbers(&[3.0, 4.0]), Some(name)),
        ];
        table(&root.join(format!("{name}.parquet")), &columns);
    };
    let one = |name: &str| {
        format!(
            "parts.{name} = {{ kind = 'table', path = '{name}.parquet', object = 'id', \
             layout = 'wide', fields = {{ f_{name} = 'own' }} }}\n"
        )
    };
    let recipe = format!("path = ''\n{}{}", one("s"), one("m"));
    part("s", Some("mJy"));
    part("m", Some("Jy"));
    let words = ["join", "\"flux\"", "\"mJy\"", "\"Jy\"", "part \"s\"", "part \"m\"", "`prefix`"];
    refusal("join", &recipe, root, &words);
    let apart = format!("{recipe}prefix = {{ m = 'm_' }}");
    // The label that both have by one name is in two units too.
    let units = pairs(&[("flux", "mJy"), ("m_flux", "Jy"), ("m_own", "m"), ("own", "s")]);
    assert_eq!(label_units("join", &apart, root), units);
    part("m", None);
    refusal("join", &recipe, root, &["\"own\"", "\"s\"", "\"m\""]);
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
