//! Mistakes in files and recipes that would go by in silence: each is an error that says what
//! is wrong, or is read as it was meant.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BooleanArray, Float16Array, Float32Array, Float64Array, Int64Array, NullArray,
    StringArray, UInt8Array,
};
use astropt_core::observation::{Data, Label, Labels, Observation};
use half::f16;
use tempfile::TempDir;

use crate::fixtures::{fixture, galaxy_image, open};
use crate::npz::npy;
use crate::parquet::{lists, write};

/// Reads object 0 of a source, or says why it cannot be opened or read.
pub(crate) fn first(kind: &str, table: &str, root: &Path) -> Result<Observation, String> {
    open(kind, table, root).and_then(|source| source.read(0)).map_err(|error| error.to_string())
}

pub(crate) fn refusal(kind: &str, table: &str, root: &Path, words: &[&str]) {
    let error = first(kind, table, root).expect_err(table);
    for word in words {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
}

/// An HDU of four numbers of one byte, with these cards besides.
pub(crate) fn hdu(shape: &[&str], cards: &[&str]) -> Vec<u8> {
    let all = [shape, cards, &["END"]].concat();
    let mut bytes: Vec<u8> =
        all.iter().flat_map(|card| format!("{card:<80}").into_bytes()).collect();
    bytes.resize(bytes.len().next_multiple_of(2880), b' ');
    bytes.extend([1, 2, 3, 4]);
    bytes.resize(bytes.len().next_multiple_of(2880), 0);
    bytes
}

pub(crate) const IMAGE: &[&str] =
    &["SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 2", "NAXIS2  = 2"];

const ARM: &[&str] = &[
    "XTENSION= 'IMAGE   '",
    "BITPIX  = 8",
    "NAXIS   = 1",
    "NAXIS1  = 4",
    "PCOUNT  = 0",
    "GCOUNT  = 1",
];

#[test]
fn bands_in_different_units_are_not_stacked() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = |g: &[&str], r: &[&str]| {
        fs::write(folder.path().join("a-g.fits"), hdu(IMAGE, g)).expect("written");
        fs::write(folder.path().join("a-r.fits"), hdu(IMAGE, r)).expect("written");
    };
    let table = "path = ''\nfiles = '{id}-{band}.fits'\nbands = ['g', 'r']";
    files(&["BUNIT   = 'nanomaggy'"], &["BUNIT   = 'Jy'"]);
    let words = ["a-g.fits", "a-r.fits", "HDU 0", "\"nanomaggy\"", "\"Jy\"", "band g", "band r"];
    refusal("fits", table, folder.path(), &words);
    refusal("fits", &format!("{table}\nfields.image.unit = 'Jy'"), folder.path(), &words);
    for other in [&[][..], &["BUNIT   = 'nano maggy'"]] {
        files(&["BUNIT   = 'nanomaggy'"], other);
        let object = first("fits", table, folder.path()).expect("readable");
        assert_eq!(object.fields["image"].unit.as_deref(), Some("nanomaggy"));
        assert_eq!(object.fields["image"].array.shape, [2, 2, 2]);
    }
}

/// An `id` that counts from 1 would give every row the labels of the row before.
#[test]
fn labels_of_places_are_not_guessed() {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, bytes: &[u8]| {
        fs::write(folder.path().join(name), bytes).expect("written");
    };
    put("x.npy", &npy("'<f4'", false, "(3,)", &[0; 12]));
    put("cube.fits", &fs::read(fixture("fits/cube.fits")).expect("there"));
    put("from1.csv", b"id,z\n1,0.1\n2,0.2\n3,0.3\n");
    for (kind, table, way_out) in [
        ("npz", "path = 'x.npy'\nlabels = 'from1.csv'", "`labels_in_order = true`"),
        ("fits", "path = 'cube.fits'\nobjects = 'row'\nlabels = 'from1.csv'", "`id`"),
    ] {
        refusal(kind, table, folder.path(), &["from1.csv", "`name_column`", way_out]);
        let table = format!("{table}\nname_column = 'id'");
        let source = open(kind, &table, folder.path()).expect("opens");
        assert!(source.labels(0).is_empty());
        assert_eq!(source.labels(1)["z"], Label::Number(0.1));
    }
    put("whole.csv", b"id,z\ncube/1,0.1\nother/0,0.2\n");
    let table = "path = 'cube.fits'\nobjects = 'row'\nlabels = 'whole.csv'";
    let source = open("fits", table, folder.path()).expect("opens");
    assert!(source.labels(0).is_empty());
    assert_eq!(source.labels(1)["z"], Label::Number(0.1));
}

#[test]
fn arms_in_different_units_are_not_chained() {
    let folder = tempfile::tempdir().expect("a folder");
    let arms = |unit: &str| {
        let arm = |name: &str, unit: &str| {
            hdu(ARM, &[&format!("EXTNAME = '{name}'"), &format!("BUNIT   = '{unit}'")])
        };
        let bytes = [hdu(IMAGE, &[]), arm("B_WAVE", "Angstrom"), arm("R_WAVE", unit)].concat();
        fs::write(folder.path().join("x.fits"), bytes).expect("written");
    };
    let table =
        "path = 'x.fits'\narms = { names = ['B', 'R'] }\nfields.wave = { hdu = '{arm}_WAVE' }";
    arms("nm");
    let words = ["x.fits", "arm B", "arm R", "B_WAVE", "R_WAVE", "\"nm\"", "\"Angstrom\"", "wave"];
    refusal("fits", table, folder.path(), &words);
    arms("Angstrom");
    let object = first("fits", table, folder.path()).expect("readable");
    assert_eq!(object.fields["wave"].array.data, Data::U8(vec![1, 2, 3, 4, 1, 2, 3, 4]));
}

#[test]
fn keywords_are_found_or_missed_aloud() {
    let folder = tempfile::tempdir().expect("a folder");
    let cards = [
        "OBJECT  = '  M 31  '",
        "HIERARCH ESO DET GAIN = 1.5 / [e-/ADU] = gain",
        "HIERARCH ESO DET  CHIP NAME= ' CCD 7 ' / the chip",
        "HIERARCH LongKeyword = 12",
    ];
    for (name, cards) in [("a.fits", &cards[..]), ("b.fits", &[])] {
        fs::write(folder.path().join(name), hdu(IMAGE, cards)).expect("written");
    }
    let keywords = ["OBJECT", "ESO DET GAIN", "HIERARCH ESO DET CHIP NAME", "LongKeyword"];
    let source = open("fits", &format!("path = ''\nkeywords = {keywords:?}"), folder.path());
    let source = source.expect("opens");
    let text = |text: &str| Label::Text(text.to_owned());
    let values = [text("  M 31"), Label::Number(1.5), text(" CCD 7"), Label::Number(12.0)];
    let expected: Labels = keywords.map(str::to_owned).into_iter().zip(values).collect();
    assert_eq!(source.labels(0), expected);
    assert!(source.labels(1).is_empty(), "one of the files is enough");
    let table = "path = ''\nkeywords = ['OBJECT', 'OBJCET', 'ESO DET']";
    refusal("fits", table, folder.path(), &["\"OBJCET\", \"ESO DET\"", "`keywords`"]);
}

/// A table that lacks what is asked of it, though each file is one object and the others have it.
#[test]
fn labels_of_files_are_found_or_missed_aloud() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = |column: &str, form: &str| {
        let kind = ["XTENSION= 'BINTABLE'", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 4"];
        let counts = ["NAXIS2  = 1", "PCOUNT  = 0", "GCOUNT  = 1", "TFIELDS = 1"];
        let (name, form) = (format!("TTYPE1  = '{column}'"), format!("TFORM1  = '{form}'"));
        [hdu(IMAGE, &[]), hdu(&[&kind[..], &counts].concat(), &[&name, &form])].concat()
    };
    let put = |name: &str, bytes: &[u8]| {
        fs::write(folder.path().join(name), bytes).expect("written");
    };
    put("a.fits", &table("Z", "J"));
    put("b.fits", &table("Z", "J"));
    let asked = "path = ''\nlabel_hdu = 1\nlabel_columns = ['Z']";
    let source = open("fits", asked, folder.path()).expect("opens");
    assert_eq!(source.labels(1)["Z"].number(), Some(f64::from(0x0102_0304)));
    let other = "path = ''\nlabel_hdu = 1\nlabel_columns = ['REDSHIFT']";
    refusal("fits", other, folder.path(), &["a.fits", "no column \"REDSHIFT\"", "it has Z"]);
    put("b.fits", &table("Y", "J"));
    refusal("fits", asked, folder.path(), &["b.fits", "no column \"Z\""]);
    let id = "path = ''\nlabel_hdu = 1\nid = 'Z'";
    refusal("fits", id, folder.path(), &["b.fits", "no column \"Z\""]);
    put("b.fits", &table("Z", "4B"));
    refusal("fits", asked, folder.path(), &["b.fits", "no single number"]);
    put("b.fits", &hdu(IMAGE, &[]));
    refusal("fits", asked, folder.path(), &["b.fits", "no HDU 1"]);
    // A damaged file is an object that cannot be read, and no other's labels are lost for it.
    put("b.fits", &table("Z", "J")[..2900]);
    let source = open("fits", asked, folder.path()).expect("opens");
    assert!(source.labels(0).contains_key("Z") && source.labels(1).is_empty());
}

#[test]
fn every_type_of_label_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let columns: [(&str, ArrayRef); 7] = [
        ("half", Arc::new(Float16Array::from(vec![f16::from_f32(0.5)]))),
        ("single", Arc::new(Float32Array::from(vec![0.25]))),
        ("double", Arc::new(Float64Array::from(vec![0.125]))),
        ("whole", Arc::new(Int64Array::from(vec![-3]))),
        ("byte", Arc::new(UInt8Array::from(vec![200]))),
        ("yes", Arc::new(BooleanArray::from(vec![true]))),
        ("id", Arc::new(StringArray::from(vec!["a"]))),
    ];
    let flux: (&str, ArrayRef) = ("flux", lists(&[&[&[1.0, 2.0]]]));
    write(&folder.path().join("x.parquet"), &[&columns[..], &[flux]].concat());
    write(&folder.path().join("labels.parquet"), &columns);
    let object = first("parquet", "path = 'x.parquet'", folder.path()).expect("readable");
    let number = |labels: &Labels, name: &str| labels[name].number();
    for (name, value) in [
        ("half", 0.5),
        ("single", 0.25),
        ("double", 0.125),
        ("whole", -3.0),
        ("byte", 200.0),
        ("yes", 1.0),
    ] {
        assert_eq!(number(&object.labels, name), Some(value), "{name}");
        let table = format!(
            "path = 'labels.parquet'\nobject = 'id'\nlayout = 'wide'\nfields = {{}}\n\
             label_columns = ['{name}']"
        );
        let object = first("table", &table, folder.path()).expect("readable");
        assert_eq!(number(&object.labels, name), Some(value), "{name} of a table");
    }
    let table = "path = 'labels.parquet'\nobject = 'id'\nlayout = 'wide'\n\
                 fields.half = { column = 'half' }";
    let half = &first("table", table, folder.path()).expect("readable").fields["half"];
    assert_eq!(half.array.data, Data::F32(vec![0.5]));
}

/// A folder of two shards, of which the second has no `z`.
fn shards() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let flux = || -> (&str, ArrayRef) { ("flux", lists(&[&[&[1.0, 2.0], &[3.0, 4.0]]])) };
    let z: ArrayRef = Arc::new(Float32Array::from(vec![0.5]));
    write(&folder.path().join("a.parquet"), &[flux(), ("z", z)]);
    write(&folder.path().join("b.parquet"), &[flux()]);
    folder
}

#[test]
fn a_label_that_is_asked_for_is_in_every_shard() {
    let folder = shards();
    refusal(
        "parquet",
        "path = ''\nlabels = ['z']",
        folder.path(),
        &["b.parquet", "\"z\"", "`labels`"],
    );
    let source = open("parquet", "path = ''", folder.path()).expect("opens");
    assert_eq!((source.labels(0).len(), source.labels(1).len()), (1, 0), "nobody asked for it");
    write(
        &folder.path().join("b.parquet"),
        &[("flux", lists(&[&[&[1.0, 2.0]]])), ("z", lists(&[&[&[0.5]]]))],
    );
    refusal("parquet", "path = ''\nlabels = ['z']", folder.path(), &["b.parquet", "no numbers"]);
}

/// As pyarrow writes a column of which nothing is known in a shard.
#[test]
fn a_label_that_is_null_in_a_shard_is_known_in_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let flux = || -> (&str, ArrayRef) { ("flux", lists(&[&[&[1.0, 2.0]]])) };
    let known: ArrayRef = Arc::new(Float32Array::from(vec![0.5]));
    let unknown: ArrayRef = Arc::new(NullArray::new(1));
    for [first, second] in [["a", "b"], ["b", "a"]] {
        let at = |name: &str| folder.path().join(format!("{name}.parquet"));
        write(&at(first), &[flux(), ("z", known.clone())]);
        write(&at(second), &[flux(), ("z", unknown.clone())]);
        for table in ["path = ''", "path = ''\nlabels = ['z']"] {
            let source = open("parquet", table, folder.path()).expect("opens");
            let z = |k: usize| source.labels(k).get("z").and_then(Label::number);
            let found = [z(0), z(1)];
            assert!(found.contains(&Some(0.5)) && found.contains(&None), "{table}: {found:?}");
        }
    }
}

#[test]
fn lists_of_lists_are_an_image_of_one_band() {
    let folder = shards();
    let table = "path = 'a.parquet'\nfields = { image = 'flux' }";
    let object = first("parquet", table, folder.path()).expect("readable");
    assert_eq!(object.fields["image"].array.shape, [2, 2]);
    let modality =
        galaxy_image("size = 2\npatch = 1\nbands = 1\norder = 'raster'\nstandardise = 'none'");
    let tokens = modality.tokenise(&object).expect("an image").expect("tokens");
    assert_eq!(
        modality.detokenise(&tokens).expect("an image").data,
        Data::F32(vec![1.0, 2.0, 3.0, 4.0])
    );
}

#[test]
fn texts_in_lists_become_codes() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bands = ListBuilder::new(StringBuilder::new());
    for row in [&[Some("g"), Some("r"), Some("g")][..], &[Some("z")], &[None]] {
        bands.append_value(row.iter().copied());
    }
    let time = lists(&[&[&[1.0]], &[&[1.0]], &[&[1.0]]]);
    let columns: [(&str, ArrayRef); 2] = [("band", Arc::new(bands.finish())), ("time", time)];
    write(&folder.path().join("x.parquet"), &columns);
    let table = |field: &str| format!("path = 'x.parquet'\nfields = {{ x = {field} }}");
    let codes = table("{ column = 'band', codes = ['g', 'r'] }");
    let source = open("parquet", &codes, folder.path()).expect("opens");
    let object = source.read(0).expect("readable");
    assert_eq!(object.fields["x"].array.data, Data::I64(vec![0, 1, 0]));
    for (row, words) in [(1, "\"z\" is not among its `codes`"), (2, "is missing")] {
        let error = source.read(row).expect_err("refused").to_string();
        assert!(error.contains(words) && error.contains("\"band\""), "{error}");
    }
    let other = table("{ column = 'band', codes = ['g', 'r'], other = -1 }");
    let source = open("parquet", &other, folder.path()).expect("opens");
    assert_eq!(source.read(1).expect("readable").fields["x"].array.data, Data::I64(vec![-1]));
    assert!(source.read(2).is_err(), "a missing text is no other one");
    for (field, words) in [
        ("{ column = 'time', other = 1 }", "there are no `codes`"),
        ("'band'", "texts become a field by their `codes`"),
        ("{ column = 'time', codes = ['g'] }", "`codes` are of texts"),
        ("{ column = 'band', codes = ['g', 'g'] }", "\"g\" twice"),
        ("{ column = 'band', codes = ['g', 'r'], other = 1 }", "make of \"r\" already"),
    ] {
        refusal("parquet", &table(field), folder.path(), &[words]);
    }
}

#[test]
fn a_page_with_a_wrong_checksum_is_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bytes = fs::read(fixture("parquet/odd/checked.parquet")).expect("there");
    let path = folder.path().join("x.parquet");
    fs::write(&path, &bytes).expect("written");
    let object = first("parquet", "path = 'x.parquet'", folder.path()).expect("readable");
    assert_eq!(object.fields["flux"].array.data, Data::F64(vec![0.0, 1.0]));
    // The last bit of one number, which no structure depends on.
    let five = 5f64.to_le_bytes();
    let at = bytes.windows(8).position(|window| window == five).expect("a plain number");
    bytes[at] ^= 1;
    fs::write(&path, &bytes).expect("written");
    refusal("parquet", "path = 'x.parquet'", folder.path(), &["x.parquet", "checksum"]);
}

#[test]
fn a_codec_that_is_not_built_in_is_named() {
    for (file, codec) in [("lz4", "LZ4"), ("brotli", "Brotli")] {
        let root = fixture("parquet/odd");
        for (kind, rest) in
            [("parquet", ""), ("table", "object = 'z'\nfields = {}\nlayout = 'wide'")]
        {
            let table = format!("path = '{file}.parquet'\n{rest}");
            let error = first(kind, &table, &root).expect_err("not built in");
            assert!(error.contains(codec) && error.contains("not built in"), "{error}");
            assert!(
                error.contains(&format!("{file}.parquet")) && !error.contains("damaged"),
                "{error}"
            );
        }
    }
}

#[test]
fn long_integers_of_a_csv_table_are_kept_or_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let csv = "id,x\na,9007199254740993\nb,9007199254740992\nc,NA\nd,9007199254740993.0\n";
    fs::write(folder.path().join("t.csv"), csv).expect("written");
    let source = |kind: &str| {
        let table = format!(
            "path = 't.csv'\nobject = 'id'\nlayout = 'wide'\nlabel_columns = []\n\
             fields.x = {{ column = 'x'{kind} }}"
        );
        open("table", &table, folder.path()).expect("opens")
    };
    let data = |kind: &str, index| {
        let object = source(kind).read(index).map_err(|error| error.to_string())?;
        Ok::<_, String>(object.fields["x"].array.data.clone())
    };
    let error = data("", 0).expect_err("not exact");
    assert!(error.contains("line 2") && error.contains("type = \"i64\""), "{error}");
    assert_eq!(data("", 1), Ok(Data::F64(vec![9_007_199_254_740_992.0])));
    assert_eq!(data(", type = 'f64'", 0), Ok(Data::F64(vec![9_007_199_254_740_992.0])));
    assert_eq!(data(", type = 'i64', missing = -1", 0), Ok(Data::I64(vec![9_007_199_254_740_993])));
    assert!(matches!(data("", 2), Ok(Data::F64(x)) if x[0].is_nan()));
    // With a point and zeros behind it, it is no less an integer.
    let error = data("", 3).expect_err("not exact");
    assert!(error.contains("line 5") && error.contains("type = \"i64\""), "{error}");
    assert_eq!(data(", type = 'i64', missing = -1", 3), Ok(Data::I64(vec![9_007_199_254_740_993])));
    let labels = "path = 't.csv'\nobject = 'id'\nlayout = 'wide'\nfields = {}";
    let labels = open("table", labels, folder.path()).expect("opens");
    let text = Label::Text("9007199254740993".to_owned());
    assert_eq!([0, 3].map(|k| labels.labels(k)["x"].clone()), [text.clone(), text]);
}

#[test]
fn missing_cells_are_the_same_words_for_labels_and_fields() {
    let folder = tempfile::tempdir().expect("a folder");
    let words = ["", " ", "NA", "n/a", "N/A", "NaN", "null", "NULL", "None"];
    let rows: String =
        words.iter().enumerate().map(|(k, word)| format!("{k},{word},{word}\n")).collect();
    fs::write(folder.path().join("t.csv"), format!("id,x,y\n{rows}z,1,1\n")).expect("written");
    let table = "path = 't.csv'\nobject = 'id'\nlayout = 'wide'\nlabel_columns = ['y']\n\
                 fields.x = { column = 'x' }";
    let source = open("table", table, folder.path()).expect("opens");
    for (k, word) in words.iter().enumerate() {
        let object = source.read(k).expect(word);
        assert!(object.labels.is_empty(), "{word:?}: {:?}", object.labels);
        assert!(
            matches!(&object.fields["x"].array.data, Data::F64(x) if x[0].is_nan()),
            "{word:?}"
        );
    }
    assert_eq!(source.labels(words.len())["y"], Label::Number(1.0));
}

#[test]
fn numbers_in_other_files_are_said_to_be_there() {
    let root = fixture("hdf5");
    let table =
        |dataset: &str| format!("path = 'linked.h5'\nfields.x = {{ dataset = '{dataset}' }}");
    assert!(first("hdf5", &table("inside"), &root).is_ok());
    for (dataset, words) in [
        ("outside", &["external links", "elsewhere.h5"][..]),
        ("virtual", &["virtual dataset"]),
        ("raw", &["lie in other files"]),
    ] {
        let error = first("hdf5", &table(dataset), &root).expect_err(dataset);
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert!(error.contains("linked.h5") && error.contains(dataset), "{error}");
        assert!(!error.contains("damaged"), "{error}");
    }
}

/// As redshifts lie beside the spectra of DESI.
#[test]
fn a_file_of_another_kind_among_the_data_has_a_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["arms.fits", "table.fits"] {
        fs::copy(fixture("fits").join(name), folder.path().join(name)).expect("copied");
    }
    let rows = "objects = 'row'\nfields.flux = { hdu = 'B_FLUX' }\n";
    let way = ["table.fits", "no HDU \"B_FLUX\"", ".txt list of the files to read"];
    refusal("fits", &format!("path = ''\n{rows}"), folder.path(), &way);
    fs::write(folder.path().join("list.txt"), "arms.fits\n").expect("writable");
    first("fits", &format!("path = 'list.txt'\n{rows}"), folder.path()).expect("the listed file");
    // A single file that lacks it is what was asked for.
    let error = first("fits", &format!("path = 'table.fits'\n{rows}"), folder.path());
    assert!(!error.expect_err("no such HDU").contains(".txt list"));
}
