//! The source `hdf5` against h5py's answers, and on damaged files.

use std::fs;
use std::path::PathBuf;

use astropt_core::observation::{Data, Label};
use astropt_core::seam::{FormatPlugin, Source};
use astropt_core::testkit;
use proptest::prelude::*;
use serde_json::Value;

use crate::fixtures::{assert_numbers, fixture, open};

const VERSIONS: [&str; 4] = ["earliest", "v108", "v110", "latest"];
const N: usize = 23;

fn folder() -> PathBuf {
    fixture("hdf5")
}

fn answers() -> Value {
    let text = fs::read_to_string(folder().join("answers.json")).expect("there");
    serde_json::from_str(&text).expect("JSON")
}

fn source(table: &str) -> Box<dyn Source> {
    open("hdf5", table, &folder()).unwrap_or_else(|error| panic!("{table}: {error}"))
}

#[test]
fn every_type_and_version_agrees_with_h5py() {
    let answers = answers();
    for version in VERSIONS {
        let known = answers[version].as_object().expect("datasets");
        let datasets: Vec<_> = known.iter().filter(|(_, d)| d["shape"][0] == N).collect();
        assert!(datasets.len() > 10, "{version}");
        let fields: String = datasets
            .iter()
            .enumerate()
            .map(|(k, (name, _))| {
                format!("fields.f{k} = {{ dataset = '{name}', axes = 'stored' }}\n")
            })
            .collect();
        let source = source(&format!("path = '{version}.h5'\nlabels = []\n{fields}"));
        assert_eq!(source.len(), N);
        for row in (0..N).rev() {
            let object = source.read(row).expect("readable");
            for (k, (name, answer)) in datasets.iter().enumerate() {
                let Some(field) = object.fields.get(&format!("f{k}")) else { continue };
                let all = answer["data"].as_array().expect("numbers");
                let len = all.len() / N;
                let expected = Value::from(&all[row * len..(row + 1) * len]);
                let what = format!("{version}, {name}, row {row}");
                assert_numbers(&field.array.data, &expected, &what);
            }
        }
    }
}

#[test]
fn images_have_axes_labels_ids_and_units() {
    for version in VERSIONS {
        let source = source(&format!(
            "path = '{version}.h5'\nid = 'TARGETID'\n\
             fields.image = {{ dataset = 'images' }}\n\
             fields.planes = {{ dataset = 'planes', axes = 'chw' }}\n\
             fields.packed = {{ dataset = 'lzf' }}\n\
             fields.flux = {{ dataset = 'spectra/flux' }}\n\
             fields.grows = {{ dataset = 'spectra/grows' }}\n\
             fields.wavelength = {{ dataset = 'spectra/wave', shared = true }}"
        ));
        let object = source.read(3).expect("readable");
        assert_eq!(object.id, "39628433498145003");
        let image = &object.fields["image"].array;
        assert_eq!(image.shape, [6, 5, 3]);
        assert!(matches!(image.data, Data::U8(_)));
        assert_eq!(object.fields["planes"].array, *image, "{version}");
        assert_eq!(object.fields["packed"].array, *image, "{version}");
        assert_eq!(object.fields["grows"].array, object.fields["flux"].array, "{version}");
        let unit = |name: &str| object.fields[name].unit.clone();
        assert_eq!(unit("flux").as_deref(), Some("1e-17 erg/(s cm2 Angstrom)"));
        assert_eq!(unit("wavelength").as_deref(), Some("Angstrom"), "{version}");
        assert_eq!(object.fields["wavelength"].array.shape, [31]);
        // All numeric datasets beside the first field's; a NaN is unknown.
        assert_eq!(object.labels.keys().collect::<Vec<_>>(), ["ans"]);
        assert!(source.labels(4)["redshift"].number().is_some());
        let groups = source.groups().expect("chunks");
        assert_eq!(groups.starts, [0, 7, 14, 21]);
    }
}

#[test]
fn texts_are_labels_and_ids() {
    for version in VERSIONS {
        let source = source(&format!(
            "path = '{version}.h5'\nlabels = ['class', 'ans']\nid = 'fixed'\n\
             fields.image = {{ dataset = 'plain' }}"
        ));
        assert_eq!(source.id(22), "name22", "{version}");
        assert_eq!(source.labels(4)["class"], Label::Text("class 1".into()));
        assert!(source.groups().is_none());
        testkit::source::check_source(&*source).expect("conforms");
    }
}

#[test]
fn a_folder_is_its_files_one_after_the_other() {
    let folder = tempfile::tempdir().expect("a folder");
    for (from, to) in [("earliest", "a.h5"), ("latest", "b.hdf5")] {
        fs::copy(fixture("hdf5").join(format!("{from}.h5")), folder.path().join(to))
            .expect("copied");
    }
    let table = "path = ''\nfields.image = { dataset = 'images' }";
    testkit::source::check("hdf5", table, folder.path()).expect("conforms");
    let source = open("hdf5", table, folder.path()).expect("opens");
    assert_eq!((source.len(), source.id(N)), (2 * N, "b/0".to_owned()));
}

#[test]
fn what_is_not_there_is_named() {
    for (table, words) in [
        ("path = 'latest.h5'\nfields.x = { dataset = 'nope' }", "dataset \"nope\""),
        ("path = 'latest.h5'\nfields.x = { dataset = 'class' }", "no plain numbers"),
        ("path = 'latest.h5'\nfields.x = { dataset = 'class' }", "number them by `codes`"),
        (
            "path = 'latest.h5'\nfields.x = { dataset = 'spectra/wave' }\nfields.y = { dataset = 'ans' }",
            "`shared = true`",
        ),
        ("path = 'latest.h5'\nfields.x = { dataset = 'ans', shared = true }", "one row per object"),
        ("path = 'latest.h5'\nid = 'ans'\nfields.x = { dataset = 'images' }", "the same `id`"),
        ("path = 'circle.h5'\nfields.x = { dataset = 'x/images' }", "circle.h5"),
        ("path = 'circle.h5'\nfields.x = { dataset = 'nested' }", "no plain numbers"),
        ("path = 'answers.json'\nfields.x = { dataset = 'x' }", "neither an HDF5 file"),
    ] {
        let error = open("hdf5", table, &folder()).map(drop).expect_err(table).to_string();
        assert!(error.contains(words), "{error}");
    }
    // A group within itself, and one 200 deep, lead to the same dataset.
    let deep = "d/".repeat(200);
    for path in ["a/self/self/self/../../images", &format!("{deep}images")] {
        let table = format!("path = 'circle.h5'\nfields.x = {{ dataset = '{path}' }}");
        let _ = open("hdf5", &table, &folder()).map(|source| source.read(0));
    }
}

/// Opens and reads everything of a damaged file; what counts is that it comes back.
fn survive(bytes: &[u8]) -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("x.h5"), bytes).expect("written");
    let mut read = 0;
    for dataset in ["images", "lzf", "plain", "spectra/flux", "spectra/grows", "spectra/more"] {
        let table = format!("path = 'x.h5'\nfields.x = {{ dataset = '{dataset}' }}");
        let Ok(source) = open("hdf5", &table, folder.path()) else { continue };
        read += (0..source.len().min(N)).filter(|&k| source.read(k).is_ok()).count();
    }
    read
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    for version in VERSIONS {
        let bytes = fs::read(folder().join(format!("{version}.h5"))).expect("there");
        assert_eq!(survive(&bytes), 6 * N, "{version}");
        for cut in (0..bytes.len() - 1).step_by(bytes.len() / 25) {
            assert_eq!(survive(&bytes[..cut]), 0, "{version}: cut at {cut}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn flipped_bits_never_end_the_program(
        which in 0usize..4,
        flips in prop::collection::vec((0f64..1.0, 0u8..8), 1..6),
        head: bool,
    ) {
        let mut bytes =
            fs::read(folder().join(format!("{}.h5", VERSIONS[which]))).expect("there");
        // Structure lies at the start more than anywhere else.
        let len = if head { 4096 } else { bytes.len() } as f64;
        for (place, bit) in flips {
            bytes[(place * len) as usize] ^= 1 << bit;
        }
        survive(&bytes);
    }
}

/// Every place where `from` stands becomes `to`.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut count = 0;
    for k in 0..bytes.len() - from.len() {
        if bytes[k..].starts_with(from) {
            bytes[k..k + to.len()].copy_from_slice(to);
            count += 1;
        }
    }
    assert!(count > 0, "the fixture has changed");
    bytes
}

#[test]
fn sizes_that_lie_are_refused() {
    // The oldest format has no checksums over its headers.
    let bytes = fs::read(folder().join("earliest.h5")).expect("there");
    let shape = |rows: u64| [rows, 6, 5, 3].map(u64::to_le_bytes).concat();
    let chunk = |rows: u32| [rows, 6, 5, 3, 1].map(u32::to_le_bytes).concat();
    let all = survive(&bytes);
    for (from, to) in [
        (shape(23), shape(1 << 40)),
        (shape(23), shape(u64::MAX)),
        (shape(23), shape(0)),
        (chunk(4), chunk(u32::MAX)),
        (chunk(4), chunk(1 << 24)),
        (chunk(4), chunk(0)),
    ] {
        assert!(survive(&replaced(&bytes, &from, &to)) < all, "{to:?}");
    }
}

#[test]
fn texts_are_shown_as_texts() {
    for version in VERSIONS {
        let path = folder().join(format!("{version}.h5"));
        let format = FormatPlugin::of(&path).expect("a linked format");
        let sections = (format.sections)(&path).expect("readable");
        let holds = |name: &str| {
            let part = sections[0].parts.iter().find(|part| part.name == name);
            part.unwrap_or_else(|| panic!("{version}: no {name}")).holds.clone()
        };
        let shown = ["class", "fixed", "images", "redshift", "TARGETID", "types/half"].map(holds);
        assert_eq!(shown, ["text", "text", "u8", "f64", "i64", "f16"], "{version}");
    }
}

#[test]
fn what_a_source_reads_can_be_described() {
    for (files, name) in [
        (["a.h5", "a.HDF5", "a.hdf", "a.he5", "b/a.x.h5"], "an HDF5 file"),
        (["a.fits", "a.fts.gz", "a.FIT", "a.fit.fz", "a.fits.gz"], "a FITS file"),
    ] {
        let found = files.map(|file| FormatPlugin::of(file.as_ref()).map(|format| format.name));
        assert_eq!(found, [Some(name); 5]);
    }
    assert!(FormatPlugin::of("afits".as_ref()).is_none());
}
