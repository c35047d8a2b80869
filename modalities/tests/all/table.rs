//! The source `table` on tables as people have them, and as nobody should.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, DictionaryArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    UInt64Array, types::Int32Type,
};
use arrow_schema::{Field, Schema};
use astropt_core::observation::{Data, Label};
use astropt_core::seam::Source;
use astropt_core::testkit;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::fixtures::{open, refusal, survive};

const FIELDS: &str = "fields.time = { column = 'mjd', unit = 'd' }\n\
                      fields.value = 'mag'\n\
                      fields.band = { column = 'filter', codes = ['g', 'r'] }\n";

fn folder(csv: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("t.csv"), csv).expect("written");
    folder
}

fn recipe(rest: &str) -> String {
    format!("path = 't.csv'\nobject = 'id'\n{FIELDS}{rest}")
}

fn field(source: &dyn Source, index: usize, name: &str) -> Data {
    source.read(index).expect("readable").fields[name].array.data.clone()
}

const SCATTERED: &str = "id,mjd,mag,filter\n\
                         1237650795683184714,3,17.5,r\n\
                         1237650795683184715,1,19,g\n\
                         \"1237650795683184714\", 1.5 ,\"16.25\", g\n\
                         1237650795683184714,2,nan,r\n";

#[test]
fn rows_are_grouped_by_object_and_sorted_by_time() {
    let folder = folder(SCATTERED);
    let source = open("table", &recipe("sort = 'time'"), folder.path()).expect("opens");
    let ids: Vec<_> = (0..source.len()).map(|i| source.id(i)).collect();
    assert_eq!(ids, ["1237650795683184714", "1237650795683184715"], "exact, though near");
    let object = source.read(0).expect("readable");
    assert_eq!(object.fields["time"].unit.as_deref(), Some("d"));
    assert_eq!(object.fields["time"].array.shape, [3]);
    assert_eq!(object.fields["time"].array.data, Data::F64(vec![1.5, 2.0, 3.0]));
    assert_eq!(object.fields["band"].array.data, Data::I64(vec![0, 1, 1]));
    let Data::F64(values) = &object.fields["value"].array.data else { panic!("doubles") };
    assert_eq!((values[0], values[2]), (16.25, 17.5));
    assert!(values[1].is_nan());
    let unsorted = open("table", &recipe(""), folder.path()).expect("opens");
    assert_eq!(field(&*unsorted, 0, "time"), Data::F64(vec![3.0, 1.5, 2.0]));
    testkit::source::check("table", &recipe("sort = 'time'"), folder.path()).expect("conforms");
}

#[test]
fn codes_are_listed_sorted_or_refused() {
    let folder = folder("id,filter,n\na,z,1\na,g,\nb,i,9007199254740993\nb,u,2\nc,,3\n");
    let open = |rest: &str| {
        let table = format!("path = 't.csv'\nobject = 'id'\n{rest}");
        open("table", &table, folder.path()).expect("opens")
    };
    let sorted = open("fields.band = { column = 'filter', codes = 'sorted' }");
    assert_eq!(field(&*sorted, 0, "band"), Data::I64(vec![3, 0]));
    let missing = sorted.read(2).expect_err("missing").to_string();
    assert!(missing.contains("line 6") && missing.contains("`missing`"), "{missing}");
    let stated = open("fields.band = { column = 'filter', codes = 'sorted', missing = -1 }");
    assert_eq!(field(&*stated, 2, "band"), Data::I64(vec![-1]));
    let unknown = open("fields.band = { column = 'filter', codes = ['z', 'g'] }");
    let error = unknown.read(1).expect_err("unknown").to_string();
    assert!(
        error.contains("\"i\" is not among its `codes`") && error.contains("line 4"),
        "{error}"
    );
    assert!(error.contains("`other`"), "{error}");
    let other = open("fields.band = { column = 'filter', codes = ['z', 'g'], other = -1 }");
    assert_eq!(field(&*other, 1, "band"), Data::I64(vec![-1, -1]));
    assert!(other.read(2).is_err(), "a missing cell is no other text");
    let exact = open("fields.n = { column = 'n', type = 'i64', missing = 0 }");
    assert_eq!(field(&*exact, 1, "n"), Data::I64(vec![9_007_199_254_740_993, 2]));
    let single = open("fields.n = { column = 'n', type = 'f32' }");
    assert_eq!(field(&*single, 2, "n"), Data::F32(vec![3.0]));
}

/// Two tables of one survey: `f32` and dictionary columns, units, small row groups.
fn parquet(path: &Path, rows: usize, scattered: bool) {
    let object = |k: usize| if scattered { k % 7 } else { k * 7 / rows } as u64;
    let ids: Vec<_> = (0..rows).map(|k| (1u64 << 63) + object(k)).collect();
    let times = (0..rows).map(|k| ((k * 7919) % rows) as f64);
    let values = (0..rows).map(|k| (k % 5 != 0).then_some(k as f32));
    let bands: DictionaryArray<Int32Type> = (0..rows).map(|k| ["g", "r"][k % 2]).collect();
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(UInt64Array::from(ids))),
        ("mjd", Arc::new(Float64Array::from_iter_values(times))),
        ("mag", Arc::new(Float32Array::from_iter(values))),
        ("filter", Arc::new(bands)),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| {
            let unit = if *name == "mag" { "mag" } else { "" };
            let metadata = HashMap::from([("unit".to_owned(), unit.to_owned())]);
            Field::new(*name, array.data_type().clone(), true).with_metadata(metadata)
        })
        .collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("a table");
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(50)).build();
    let file = File::create(path).expect("a file");
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties))
        .expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("written");
}

#[test]
fn parquet_keeps_types_units_and_missing_values() {
    let folder = tempfile::tempdir().expect("a folder");
    for scattered in [false, true] {
        parquet(&folder.path().join("t.parquet"), 700, scattered);
        let table = recipe("sort = 'time'").replace("t.csv", "t.parquet");
        let source = open("table", &table, folder.path()).expect("opens");
        assert_eq!((source.len(), source.id(3)), (7, "9223372036854775811".to_owned()));
        let object = source.read(3).expect("readable");
        let rows: Vec<usize> = match scattered {
            true => (0..700).filter(|k| k % 7 == 3).collect(),
            false => (300..400).collect(),
        };
        let mut expected: Vec<(usize, usize)> = rows.iter().map(|k| (k * 7919 % 700, *k)).collect();
        expected.sort_unstable();
        let values = &object.fields["value"];
        assert_eq!(values.unit.as_deref(), Some("mag"));
        assert_eq!(object.fields["time"].unit.as_deref(), Some("d"), "the recipe's");
        let Data::F32(values) = &values.array.data else { panic!("singles") };
        assert_eq!(values.len(), expected.len());
        for (value, (_, row)) in values.iter().zip(&expected) {
            let missing = row % 5 == 0;
            assert!(if missing { value.is_nan() } else { *value == *row as f32 });
        }
        let bands = expected.iter().map(|(_, row)| (row % 2) as i64).collect();
        assert_eq!(object.fields["band"].array.data, Data::I64(bands));
        testkit::source::check("table", &table, folder.path()).expect("conforms");
    }
}

#[test]
fn a_wide_table_is_a_catalogue() {
    let csv = "id,z,class,n,flag\n587,0.5,E,3,\n588,,S,4,1\n";
    let folder = folder(csv);
    let wide = |rest: &str| {
        let table = format!("path = 't.csv'\nobject = 'id'\nlayout = 'wide'\n{rest}");
        open("table", &table, folder.path()).expect("opens")
    };
    let source = wide("");
    let object = source.read(0).expect("readable");
    assert_eq!(object.fields.keys().collect::<Vec<_>>(), ["flag", "n", "z"]);
    let z = &object.fields["z"].array;
    assert_eq!((z.shape.as_slice(), &z.data), (&[][..], &Data::F64(vec![0.5])));
    assert_eq!(object.labels["class"], Label::Text("E".into()));
    assert!(!source.labels(1).contains_key("z"), "an unknown label is absent");
    let Data::F64(z) = field(&*source, 1, "z") else { panic!("doubles") };
    assert!(z[0].is_nan());
    let some = wide("fields = {}\nlabel_columns = ['n']");
    let object = some.read(1).expect("readable");
    assert!(object.fields.is_empty());
    assert_eq!(object.labels, [("n".to_owned(), Label::Number(4.0))].into());
    let recipe = "path = 't.csv'\nobject = 'id'\nlayout = 'wide'";
    testkit::source::check("table", recipe, folder.path()).expect("conforms");
    fs::write(folder.path().join("t.csv"), "id,z\na,1\nb,2\na,3\n").expect("written");
    let twice = refusal("table", recipe, folder.path());
    assert!(twice.contains("line 4") && twice.contains("layout = \"long\""), "{twice}");
}

#[test]
fn labels_come_from_a_second_table() {
    let folder = folder(SCATTERED);
    let labels = "objid,type,z\n1237650795683184715,SN,0.1\n1237650795683184716,AGN,0.2\n";
    fs::write(folder.path().join("labels.csv"), labels).expect("written");
    for rest in ["labels = 'labels.csv'\nname_column = 'objid'", "labels = 'labels.csv'"] {
        let source = open("table", &recipe(rest), folder.path()).expect("opens");
        assert!(source.labels(0).is_empty(), "ids are compared as text");
        assert_eq!(source.labels(1)["type"], Label::Text("SN".into()));
        assert_eq!(source.read(1).expect("readable").labels["z"], Label::Number(0.1));
    }
    let none = refusal("table", &recipe("labels = 'absent.csv'"), folder.path());
    assert!(none.contains("no such table"), "{none}");
}

#[test]
fn a_bad_number_spoils_its_object_alone() {
    let folder = folder("id,mjd,mag,filter\na,1,2,g\nb,1,1.2.3,g\nb,2,3,g\nc,3,4,r\n");
    let source = open("table", &recipe(""), folder.path()).expect("opens");
    let error = source.read(1).expect_err("bad").to_string();
    for words in ["t.csv", "line 3", "\"mag\"", "\"1.2.3\" is no number", "object b"] {
        assert!(error.contains(words), "{error}");
    }
    assert!(source.read(0).is_ok() && source.read(2).is_ok());
}

#[test]
fn what_cannot_be_opened_says_why_and_what_to_do() {
    let folder = folder(SCATTERED);
    fs::write(folder.path().join("torn.csv"), "id,mjd,mag,filter\na,1,2,g\nb,1\n")
        .expect("written");
    fs::write(folder.path().join("none.csv"), "id,mjd,mag,filter\n").expect("written");
    fs::write(folder.path().join("anon.csv"), "id,mjd,mag,filter\na,1,2,g\n ,1,2,g\n")
        .expect("written");
    fs::write(folder.path().join("twice.csv"), "id,id\n1,2\n").expect("written");
    for (table, words) in [
        (recipe("").replace("t.csv", "absent.csv"), "check the path"),
        (recipe("").replace("t.csv", "torn.csv"), "line 3: 2 values"),
        (recipe("").replace("t.csv", "none.csv"), "no row"),
        (recipe("").replace("t.csv", "anon.csv"), "line 3: no id"),
        (recipe("").replace("t.csv", "twice.csv"), "two columns are called \"id\""),
        (recipe("").replace("object = 'id'", "object = 'x'"), "it has id, mjd, mag, filter"),
        (recipe("").replace("'mag'", "'magnitude'"), "`fields.value`"),
        (recipe("sort = 'mjd'"), "is no field; there are band, time, value"),
        (recipe("memory_mib = 0"), "at least 1"),
        (recipe("layout = 'wide'\nlabels = 'x.csv'"), "its own table of labels"),
        (recipe("label_columns = ['mag']"), "layout = \"wide\""),
        ("path = 't.csv'\nobject = 'id'".to_owned(), "no `fields`"),
    ] {
        let error = refusal("table", &table, folder.path());
        assert!(error.contains(words), "{table}: {error}");
    }
}

/// The rows of 3,000 objects, one object after the other or turn about.
fn large(path: &Path, scattered: bool) {
    let mut file = std::io::BufWriter::new(File::create(path).expect("a file"));
    writeln!(file, "id,mjd,mag,filter").expect("written");
    for k in 0..150_000 {
        let object = if scattered { k % 3000 } else { k / 50 };
        writeln!(file, "o{object},{k},{}.5,r", k % 20).expect("written");
    }
}

/// 150,000 rows of 24 bytes are 3.4 MiB.
#[test]
fn memory_stays_below_what_the_recipe_says() {
    let folder = tempfile::tempdir().expect("a folder");
    large(&folder.path().join("t.csv"), false);
    let source = open("table", &recipe("memory_mib = 1"), folder.path()).expect("opens");
    let groups = source.groups().expect("not all is held");
    assert_eq!((groups.starts.len(), groups.held), (19, 2));
    assert_eq!((groups.starts[0], groups.starts[1]), (0, 164));
    for object in [2999, 0, 163, 1500, 164] {
        let first = object as f64 * 50.0;
        let expected = (0..50).map(|k| first + f64::from(k)).collect();
        assert_eq!(field(&*source, object, "time"), Data::F64(expected), "{object}");
    }
    let whole = open("table", &recipe(""), folder.path()).expect("opens");
    assert_eq!(whole.groups(), None);
    large(&folder.path().join("t.csv"), true);
    let error = refusal("table", &recipe("memory_mib = 1"), folder.path());
    assert!(error.contains("lie apart") && error.contains("memory_mib"), "{error}");
    let source = open("table", &recipe("memory_mib = 8"), folder.path()).expect("opens");
    let expected = (0..50).map(|k| 2999.0 + 3000.0 * f64::from(k)).collect();
    assert_eq!(field(&*source, 2999, "time"), Data::F64(expected));
}

#[test]
fn endless_rows_end_early() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.csv");
    // A header of millions of columns; a row of them; a quotation mark left open.
    let (commas, text) = (",".repeat(6 << 20), "x".repeat(6 << 20));
    for (content, words) in [
        (commas.clone(), "longer than 4 MiB"),
        (format!("id,mjd,mag,filter\na,1,2,g\n{commas}"), "after line 3"),
        (format!("id,mjd,mag,filter\n\"a,1,2,g\n{text}"), "quotation mark"),
        ((0..5000).map(|k| format!("c{k},")).collect(), "at most 4096"),
    ] {
        fs::write(&path, content).expect("written");
        let error = refusal("table", &recipe(""), folder.path());
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn text_and_odd_columns_of_parquet_are_refused_in_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.parquet");
    let times = arrow_array::Time32SecondArray::from(vec![1]);
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![Some(1)])) as ArrayRef),
        ("text", Arc::new(StringArray::from(vec!["x"])) as _),
        ("hour", Arc::new(times) as _),
        ("x", Arc::new(Float64Array::from(vec![1.5])) as _),
        ("n", Arc::new(Int64Array::from(vec![None])) as _),
    ])
    .expect("a table");
    let file = File::create(&path).expect("a file");
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).expect("ok");
    writer.write(&batch).expect("written");
    writer.close().expect("written");
    for (object, rest, words) in [
        ("id", "fields.t = 'text'", "codes = \"sorted\""),
        ("id", "fields.t = 'hour'", "convert it to numbers"),
        ("id", "fields.x = { column = 'x', codes = ['1'] }", "no `codes`"),
        ("id", "fields.x = { column = 'x', missing = 3 }", "missing cell is NaN"),
        ("id", "fields.x = { column = 'x', other = 3 }", "leave out its `other`"),
        ("id", "fields.x = { column = 'text', codes = ['x'], other = 0 }", "such as -1"),
        ("id", "fields.x = { column = 'x', type = 'i64' }", "1.5 is no integer"),
        ("id", "fields.n = 'n'", "type = \"f64\""),
        ("x", "fields.x = 'x'", "ids are integers or text"),
        ("n", "fields.x = 'x'", "row 0 (counted from 0): no id"),
    ] {
        let table = format!("path = 't.parquet'\nobject = '{object}'\n{rest}");
        let error = refusal("table", &table, folder.path());
        assert!(error.contains(words), "{table}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Grouping is what a map of lists would do, whatever the order of the rows.
    #[test]
    fn grouping_keeps_every_row(
        rows in prop::collection::vec((0u8..6, -5i32..5, prop::option::of(-9.0f64..9.0)), 1..80),
        sort: bool,
    ) {
        let mut csv = "id,mjd,mag,filter\n".to_owned();
        let mut expected: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
        for (object, time, value) in &rows {
            let id = format!("o {object}, \"{object}\"");
            let quoted = format!("\"{}\"", id.replace('"', "\"\""));
            let text = value.map(|v| v.to_string()).unwrap_or_default();
            csv += &format!("{quoted},{time},{text},g\r\n");
            let sample = (f64::from(*time), value.unwrap_or(f64::NAN));
            match expected.iter_mut().find(|(known, _)| *known == id) {
                Some((_, samples)) => samples.push(sample),
                None => expected.push((id, vec![sample])),
            }
        }
        let folder = folder(&csv);
        let source = open("table", &recipe(if sort { "sort = 'time'" } else { "" }), folder.path());
        let source = source.expect("opens");
        prop_assert_eq!(source.len(), expected.len());
        for (index, (id, mut samples)) in expected.into_iter().enumerate() {
            if sort {
                samples.sort_by(|a, b| a.0.total_cmp(&b.0));
            }
            let object = source.read(index).expect("readable");
            prop_assert_eq!(object.id, id);
            let of = |name: &str| object.fields[name].array.data.clone();
            let (Data::F64(times), Data::F64(values)) = (of("time"), of("value")) else {
                panic!("doubles")
            };
            prop_assert_eq!(times.len(), samples.len());
            for ((time, value), sample) in times.iter().zip(&values).zip(samples) {
                prop_assert_eq!(*time, sample.0);
                prop_assert!(*value == sample.1 || (value.is_nan() && sample.1.is_nan()));
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "(id|mjd|mag|filter|[a-g0-9.,\"\r\n-]){0,60}") {
        let folder = folder(&format!("id,mjd,mag,filter\n{text}"));
        survive("table", &recipe("sort = 'time'"), folder.path());
        fs::write(folder.path().join("t.csv"), text).expect("written");
        survive("table", &recipe("layout = 'wide'"), folder.path());
    }
}

#[test]
fn damaged_parquet_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.parquet");
    parquet(&path, 100, false);
    let whole = fs::read(&path).expect("readable");
    let table = recipe("").replace("t.csv", "t.parquet");
    for cut in (0..whole.len()).step_by(97) {
        fs::write(&path, &whole[..cut]).expect("written");
        let error = refusal("table", &table, folder.path());
        assert!(error.contains("t.parquet"), "{error}");
    }
    for seed in 0..400usize {
        let mut broken = whole.clone();
        for k in 0..3 {
            let place = (seed * 7919 + k * 104_729) % broken.len();
            broken[place] ^= 1 << ((seed + k) % 8);
        }
        fs::write(&path, broken).expect("written");
        survive("table", &table, folder.path());
    }
}
