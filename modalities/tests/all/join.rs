//! The source `join`: what is matched, what is refused, and where an error points.

use std::fs;
use std::path::Path;

use astropt_core::observation::{Data, Label};
use astropt_core::seam::SourceConfig;
use astropt_core::testkit;
use tempfile::TempDir;

use crate::fixtures::{open, refusal};

/// Light curves of a, b and c, and a catalogue of b, c and d in another order.
fn survey() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        fs::create_dir_all(folder.path().join("data")).expect("a folder");
        fs::write(folder.path().join("data").join(name), text).expect("written");
    };
    write("curves.csv", "id,mjd,mag\na,1,10\na,2,11\nb,1,20\nc,1,30\n");
    write("stars.csv", "name,z,class,big\nstar-d.x,4,E,1e16\nstar-c.x,3,S,2e16\nstar-b.x,2,S,3\n");
    folder
}

const PARTS: &str = "path = 'data'\n\
    parts.curves = { kind = 'table', path = 'curves.csv', object = 'id', \
                     fields = { time = 'mjd', value = 'mag' } }\n\
    parts.stars = { kind = 'table', path = 'stars.csv', object = 'name', layout = 'wide', \
                    fields = { z = 'z' } }\n\
    match.stars = { strip_prefix = 'star-', strip_suffix = '.x' }\n";

fn ids(rest: &str, root: &Path) -> Vec<String> {
    let source = open("join", &format!("{PARTS}{rest}"), root).expect(rest);
    (0..source.len()).map(|i| source.id(i)).collect()
}

#[test]
fn objects_are_matched_by_id_and_keep_what_they_have() {
    let folder = survey();
    let root = folder.path();
    assert_eq!(ids("", root), ["b", "c"]);
    assert_eq!(ids("require = 'any'", root), ["a", "b", "c", "d"]);
    assert_eq!(ids("require = ['curves']", root), ["a", "b", "c"]);
    assert_eq!(ids("require = ['stars']", root), ["d", "c", "b"]);
    assert_eq!(ids("require = ['stars', 'curves']", root), ["b", "c"]);
    let source = open("join", &format!("{PARTS}require = 'any'"), root).expect("opens");
    let names = |index: usize| -> Vec<String> {
        source.read(index).expect("readable").fields.into_keys().collect()
    };
    assert_eq!(names(0), ["time", "value"]);
    assert_eq!(names(1), ["time", "value", "z"]);
    assert_eq!(names(3), ["z"]);
    let c = source.read(2).expect("readable");
    assert_eq!(c.fields["value"].array.data, Data::F64(vec![30.0]));
    assert_eq!(c.fields["z"].array.data, Data::F64(vec![3.0]));
    assert_eq!(c.labels["class"], Label::Text("S".into()));
    for rest in ["", "require = 'any'", "prefix.stars = 'star_'"] {
        testkit::source::check("join", &format!("{PARTS}{rest}"), root).expect(rest);
    }
}

#[test]
fn clashing_fields_are_told_apart_by_a_prefix() {
    let folder = survey();
    let clash = PARTS.replace("{ z = 'z' }", "{ value = 'z' }");
    let error = refusal("join", &clash, folder.path());
    for words in ["\"curves\" and \"stars\"", "\"value\"", "`prefix`", "object b"] {
        assert!(error.contains(words), "{error}");
    }
    let table = format!("{clash}prefix = {{ stars = 'star_' }}");
    let object = open("join", &table, folder.path()).expect("opens").read(0).expect("readable");
    assert_eq!(object.fields.keys().collect::<Vec<_>>(), ["star_value", "time", "value"]);
    assert_eq!(object.labels["star_z"], Label::Number(2.0));
}

/// A label that two parts agree on is kept, one they differ on is unknown.
#[test]
fn labels_of_parts_agree_or_are_unknown() {
    let folder = survey();
    fs::write(folder.path().join("data/l.csv"), "id,z,class\nb,2.0000000001,S\nc,3,E\n")
        .expect("written");
    let table = PARTS.replace("object = 'id',", "object = 'id', labels = 'l.csv',");
    let source = open("join", &table, folder.path()).expect("opens");
    let labels = [source.labels(0), source.labels(1)];
    assert_eq!(labels[0]["class"], Label::Text("S".into()));
    assert!(labels[0].contains_key("z"), "digits that a table leaves out are no quarrel");
    assert!(!labels[1].contains_key("class") && labels[1].contains_key("z"));
}

#[test]
fn a_label_may_hold_the_id_if_it_holds_it_exactly() {
    let folder = survey();
    let root = folder.path();
    fs::write(folder.path().join("data/stars.csv"), "name,z,to,n\nx,4,a,1\ny,3,c,2\nw,2,,3\n")
        .expect("written");
    let by = |label: &str| {
        PARTS.replace("strip_prefix = 'star-', strip_suffix = '.x'", &format!("label = '{label}'"))
    };
    let source = open("join", &by("to"), root).expect("opens");
    assert_eq!((source.len(), source.id(0), source.id(1)), (2, "a".to_owned(), "c".to_owned()));
    assert_eq!(source.labels(0)["z"], Label::Number(4.0));
    let none = refusal("join", &by("n"), root);
    assert!(none.contains("3 of \"stars\", the first \"1\""), "{none}");
    fs::write(folder.path().join("data/stars.csv"), "name,z,n\nx,4,1237650795683184714\n")
        .expect("written");
    let curves = root.join("data/curves.csv");
    let known = fs::read_to_string(&curves).expect("there");
    fs::write(&curves, known.replace("a,", "1237650795683184714,")).expect("written");
    let exact = open("join", &by("n"), root).expect("opens");
    assert_eq!((exact.len(), exact.id(0)), (1, "1237650795683184714".to_owned()));
    fs::write(folder.path().join("data/stars.csv"), "name,z,n\nx,4,1.237650795683184714e18\n")
        .expect("written");
    let inexact = refusal("join", &by("n"), root);
    assert!(inexact.contains("not kept exactly"), "{inexact}");
    fs::write(folder.path().join("data/stars.csv"), "name,z,n\nx,4,1\ny,4,1\n").expect("written");
    let twice = refusal("join", &by("n"), root);
    assert!(twice.contains("\"x\" and \"y\" are both called \"1\""), "{twice}");
}

/// A table names files of several kinds, and the images' ids are their paths without extensions.
#[test]
fn a_label_may_be_the_path_of_a_file() {
    let folder = survey();
    let files = "name,z,to\nx,4,images/a.jpeg\ny,3,images/b.fits.gz\nw,2,images/c\n";
    fs::write(folder.path().join("data/stars.csv"), files).expect("written");
    let by = "label = 'to', strip_prefix = 'images/', strip_extension = true";
    let table = PARTS.replace("strip_prefix = 'star-', strip_suffix = '.x'", by);
    let source = open("join", &table, folder.path()).expect("opens");
    let ids: Vec<String> = (0..source.len()).map(|i| source.id(i)).collect();
    assert_eq!(ids, ["a", "b", "c"]);
}

#[test]
fn what_cannot_be_joined_says_why() {
    let folder = survey();
    for (table, words) in [
        (format!("{PARTS}require = ['image']"), "there are curves, stars"),
        (format!("{PARTS}require = []"), "write \"any\""),
        (format!("{PARTS}prefix.star = 'x'"), "`prefix` names the part \"star\""),
        (PARTS.replace("strip_prefix = 'star-'", "strip_prefix = 'x'"), "no object has all parts"),
        (
            format!("{PARTS}require = ['curves']").replace("'star-'", "'x'"),
            "none of the objects of \"stars\"",
        ),
        (PARTS.replace("curves.csv", "absent.csv"), "absent.csv"),
        ("path = ''\nparts.a = { kind = 'synthetic', objects = 3 }".to_owned(), "at least two"),
    ] {
        let error = refusal("join", &table, folder.path());
        assert!(error.contains(words), "{table}: {error}");
    }
}

/// A part is read by its kind, as a recipe's own source is: an error names the key within it.
#[test]
fn an_error_in_a_part_names_its_key() {
    for (part, path, words) in [
        ("kind = 'table', pth = 'x'", "parts.b.pth", "pth"),
        (
            "kind = 'table', path = 'x', object = 'i', fields = { t = { colum = 'x' } }",
            "parts.b.fields.t.colum",
            "colum",
        ),
        ("kind = 'tabel', path = 'x'", "parts.b.kind", "did you mean \"table\""),
        ("path = 'x'", "parts.b", "kind ="),
        ("kind = 'npz'", "parts.b", "path"),
    ] {
        let text = format!(
            "path = ''\nparts.a = {{ kind = 'synthetic', objects = 3 }}\nparts.b = {{ {part} }}"
        );
        let table: toml::Table = text.parse().expect("TOML");
        let plugin = astropt_core::seam::find_source("join").expect("linked");
        let error = (plugin.parse)(table).map(drop).expect_err(part);
        assert_eq!(error.path, path, "{}", error.message);
        assert!(error.message.contains(words), "{}", error.message);
    }
}

/// In a recipe, the error points at file, line and column, with the nearest known key.
#[test]
fn a_recipe_points_at_the_place_within_a_part() {
    let folder = survey();
    let path = folder.path().join("r.toml");
    let text = "name = 'x'\n[source]\nkind = 'join'\n\n[source.parts.curves]\nkind = 'table'\n\
                  path = 'curves.csv'\n  obiect = 'id'\n";
    fs::write(&path, text).expect("written");
    let request = astropt_core::recipe::Request {
        recipe: path.display().to_string(),
        data: Some(folder.path().join("data")),
        ..Default::default()
    };
    let error = astropt_core::recipe::resolve(&request).map(drop).expect_err("refused").to_string();
    assert!(error.contains("r.toml:8:"), "{error}");
    assert!(
        error.contains("source.parts.curves.obiect") && error.contains("\"object\""),
        "{error}"
    );
}

/// As manifests and checkpoints keep it.
#[test]
fn it_survives_json() {
    let folder = survey();
    let plugin = astropt_core::seam::find_source("join").expect("linked");
    let table = format!("{PARTS}require = ['curves']\nprefix.stars = 'x_'");
    let config = (plugin.parse)(table.parse().expect("TOML")).expect("sound");
    let json = serde_json::to_string(&config).expect("written");
    assert!(json.contains("\"kind\":\"table\""), "{json}");
    let back: Box<dyn SourceConfig> = serde_json::from_str(&json).expect("read");
    let (first, again) = (config.open(folder.path()), back.open(folder.path()));
    let (first, again) = (first.expect("opens"), again.expect("opens"));
    assert_eq!(first.read(2).expect("readable"), again.read(2).expect("readable"));
}
