//! The source `npz` on archives that NumPy would write, and on those it would not.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use astropt_core::observation::{Data, Label};
use astropt_core::testkit;
use proptest::prelude::*;
use tempfile::TempDir;
use zip::CompressionMethod::{Deflated, Stored};
use zip::write::SimpleFileOptions;

use crate::fixtures::{open, refusal, survive};

/// An `.npy` file of this type, shape and content.
pub(crate) fn npy(descr: &str, fortran: bool, shape: &str, content: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let header = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let mut out = b"\x93NUMPY\x01\0".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(content);
    out
}

fn floats(numbers: impl IntoIterator<Item = f32>) -> Vec<u8> {
    numbers.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// Writes an archive of these entries.
fn archive(path: &Path, entries: &[(&str, Vec<u8>)], method: zip::CompressionMethod) {
    let mut writer = zip::ZipWriter::new(File::create(path).expect("a file"));
    for (name, content) in entries {
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).expect("an entry");
        writer.write_all(content).expect("written");
    }
    writer.finish().expect("written");
}

/// Three stars: fluxes of four samples, 19-digit ids, a shared grid, names.
fn stars() -> Vec<(&'static str, Vec<u8>)> {
    let flux = (0..12).map(|k| if k == 5 { f32::NAN } else { k as f32 });
    let ids: Vec<u8> =
        (0..3u64).flat_map(|k| (1_237_650_795_683_184_714 + k).to_be_bytes()).collect();
    let names: Vec<u8> = ["α", "b", ""]
        .iter()
        .flat_map(|n| [n.chars().next(), None])
        .flat_map(|c| c.map_or(0, u32::from).to_le_bytes())
        .collect();
    vec![
        ("flux.npy", npy("'<f4'", false, "(3, 4)", &floats(flux))),
        ("id.npy", npy("'>i8'", false, "(3,)", &ids)),
        ("wave.npy", npy("'<f2'", false, "(4,)", &[0, 0x3c, 0, 0x40, 0, 0x42, 0, 0x44])),
        ("name.npy", npy("'<U2'", false, "(3,)", &names)),
        ("teff.npy", npy("'<f4'", false, "(3,)", &floats([5000.0, f32::NAN, 4000.0]))),
        ("cube.npy", npy("'|u1'", false, "(3, 2, 1, 2)", &(0..12).collect::<Vec<u8>>())),
        ("object.npy", npy("'|O'", false, "(3,)", b"\x80\x03cos\nsystem\nq\0.")),
    ]
}

/// As a disk may change it: NumPy says that the checksum is another.
#[test]
fn a_changed_bit_in_a_stored_array_is_found() {
    let folder = folder();
    let root = folder.path();
    let path = root.join("stars.npz");
    archive(&path, &stars(), Stored);
    let sound = fs::read(&path).expect("there");
    // One number of the flux, of the grid that all share, of the labels and of the ids.
    for (number, name) in [
        (7f32.to_le_bytes().to_vec(), "flux"),
        (vec![0, 0x3c, 0, 0x40], "wave"),
        (4000f32.to_le_bytes().to_vec(), "teff"),
        (1_237_650_795_683_184_716u64.to_be_bytes().to_vec(), "id"),
    ] {
        let mut bytes = sound.clone();
        let at = bytes.windows(number.len()).position(|window| window == number);
        bytes[at.expect("stored as it is")] ^= 1;
        fs::write(&path, bytes).expect("written");
        let error = refusal("npz", STARS, root);
        assert!(error.contains(&format!("the array {name:?} is damaged")), "{error}");
        assert!(error.contains("checksum") && error.contains("stars.npz"), "{error}");
    }
    // What is not read is not looked at.
    let mut bytes = sound;
    let at = bytes.windows(4).position(|window| window == 7f32.to_le_bytes());
    bytes[at.expect("stored as it is")] ^= 1;
    fs::write(&path, bytes).expect("written");
    let cube = open("npz", "path = 'stars.npz'\nfields.image = { array = 'cube' }", root);
    assert!(cube.expect("opens").read(2).is_ok());
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

const STARS: &str = "path = 'stars.npz'\nids = 'id'\nshared = ['wave']\n\
                     label_arrays = ['teff', 'name']\n\
                     fields.flux = { array = 'flux', unit = 'Jy' }\n\
                     fields.image = { array = 'cube', axes = 'chw' }";

#[test]
fn arrays_become_fields_stored_deflated_or_loose() {
    let folder = folder();
    let root = folder.path();
    archive(&root.join("stars.npz"), &stars(), Stored);
    archive(&root.join("packed.npz"), &stars(), Deflated);
    fs::create_dir(root.join("loose")).expect("a folder");
    for (name, content) in stars() {
        fs::write(root.join("loose").join(name), content).expect("written");
    }
    for place in ["stars.npz", "packed.npz", "loose"] {
        let table = STARS.replace("stars.npz", place);
        let source = open("npz", &table, root).expect(place);
        assert_eq!((source.len(), source.id(1)), (3, "1237650795683184715".to_owned()));
        let star = source.read(1).expect("readable");
        assert_eq!(star.fields.keys().collect::<Vec<_>>(), ["flux", "image", "wave"]);
        let flux = &star.fields["flux"];
        assert_eq!((flux.array.shape.as_slice(), flux.unit.as_deref()), (&[4][..], Some("Jy")));
        let Data::F32(numbers) = &flux.array.data else { panic!("singles") };
        assert_eq!((numbers[0], numbers[2], numbers[3]), (4.0, 6.0, 7.0));
        assert!(numbers[1].is_nan(), "NaN is carried through");
        assert_eq!(star.fields["wave"].array.data, Data::F32(vec![1.0, 2.0, 3.0, 4.0]));
        let image = &star.fields["image"].array;
        assert_eq!(image.shape, [1, 2, 2]);
        assert_eq!(image.data, Data::U8(vec![4, 6, 5, 7]));
        assert_eq!(source.labels(0)["name"], Label::Text("α".into()));
        assert!(!source.labels(1).contains_key("teff") && !source.labels(2).contains_key("name"));
        testkit::source::check("npz", &table, root).expect(place);
    }
}

/// The same without the array of Python objects.
fn plain_stars() -> Vec<(&'static str, Vec<u8>)> {
    stars().into_iter().filter(|(name, _)| *name != "object.npy").collect()
}

#[test]
fn every_array_of_numbers_is_a_field_unless_the_recipe_says() {
    let folder = folder();
    let root = folder.path();
    archive(&root.join("stars.npz"), &plain_stars(), Stored);
    let source = open("npz", "path = 'stars.npz'\nshared = ['wave']", root).expect("opens");
    assert_eq!(source.id(2), "2", "the entry's number");
    let star = source.read(2).expect("readable");
    assert_eq!(star.fields.keys().collect::<Vec<_>>(), ["cube", "flux", "id", "teff", "wave"]);
    assert!(star.fields["teff"].array.shape.is_empty(), "one number per object has no axis");
    assert_eq!(star.fields["id"].array.data, Data::I64(vec![1_237_650_795_683_184_716]));
    fs::write(root.join("x.npy"), npy("'<f4'", false, "(2, 3)", &floats((0..6).map(|k| k as f32))))
        .expect("written");
    let source = open("npz", "path = 'x.npy'", root).expect("opens");
    assert_eq!(
        source.read(1).expect("readable").fields["x"].array.data,
        Data::F32(vec![3., 4., 5.])
    );
}

#[test]
fn fortran_order_is_turned() {
    let folder = folder();
    // numpy.arange(12).reshape(2, 3, 2) in Fortran order, as numpy.save writes it.
    let stored = [0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11];
    let array = npy("'|u1'", true, "(2, 3, 2)", &stored);
    fs::write(folder.path().join("x.npy"), &array).expect("written");
    archive(&folder.path().join("x.npz"), &[("x.npy", array)], Deflated);
    for path in ["x.npy", "x.npz"] {
        let source = open("npz", &format!("path = '{path}'"), folder.path()).expect("opens");
        let second = source.read(1).expect("readable").fields["x"].array.clone();
        assert_eq!((second.shape, second.data), (vec![3, 2], Data::U8((6..12).collect())));
    }
}

#[test]
fn labels_are_joined_by_id_or_by_order() {
    let folder = folder();
    let root = folder.path();
    archive(&root.join("stars.npz"), &stars(), Stored);
    let csv = "objid,z\n1237650795683184716,0.3\n1237650795683184714,0.1\n5,0.2\n";
    fs::write(root.join("labels.csv"), csv).expect("written");
    let of = |rest: &str| {
        let table =
            format!("path = 'stars.npz'\nfields.flux = 'flux'\nlabels = 'labels.csv'\n{rest}");
        open("npz", &table, root).expect(rest)
    };
    let by_id = of("ids = 'id'\nname_column = 'objid'");
    assert_eq!(by_id.labels(0)["z"], Label::Number(0.1));
    assert!(by_id.labels(1).is_empty());
    let in_order = of("labels_in_order = true\nname_column = 'objid'");
    assert_eq!((in_order.id(2), in_order.labels(2).len()), ("5".to_owned(), 1));
    assert_eq!(in_order.labels(0)["z"], Label::Number(0.3));
    fs::write(root.join("labels.csv"), "objid,z\n1,0.3\n").expect("written");
    let table = "path = 'stars.npz'\nfields.flux = 'flux'\nlabels = 'labels.csv'\n\
                 labels_in_order = true";
    let error = refusal("npz", table, root);
    assert!(error.contains("1 rows for 3 objects"), "{error}");
}

#[test]
fn what_cannot_be_used_says_why_and_what_to_do() {
    let folder = folder();
    let root = folder.path();
    archive(&root.join("stars.npz"), &stars(), Stored);
    archive(&root.join("plain.npz"), &plain_stars(), Stored);
    archive(&root.join("empty.npz"), &[("readme.txt", b"x".to_vec())], Stored);
    let none = npy("'<f4'", false, "(0, 4)", &[]);
    archive(&root.join("none.npz"), &[("flux.npy", none)], Stored);
    let twice = npy("'|S1'", false, "(3,)", b"aba");
    let flux = stars().swap_remove(0);
    archive(&root.join("twice.npz"), &[flux, ("id.npy", twice)], Stored);
    for (table, words) in [
        ("path = 'absent.npz'", "check the path"),
        ("path = 'empty.npz'", "no .npy array"),
        ("path = 'none.npz'\nfields.x = 'flux'", "holds nothing"),
        ("path = 'plain.npz'", "`shared`"),
        ("path = 'stars.npz'", "never loaded"),
        ("path = 'stars.npz'\nfields.x = 'object'", "never loaded"),
        ("path = 'stars.npz'\nfields.x = 'name'", "holds text"),
        ("path = 'stars.npz'\nfields.x = 'fluxes'", "it has flux, id, wave"),
        ("path = 'stars.npz'\nids = 'flux'\nfields.x = 'flux'", "one axis"),
        ("path = 'stars.npz'\nids = 'teff'\nfields.x = 'flux'", "fractions"),
        ("path = 'stars.npz'\nids = 'name'\nfields.x = 'flux'", "entry 2 is empty"),
        ("path = 'twice.npz'\nids = 'id'", "twice"),
        ("path = 'stars.npz'\nfields.x = 'flux'\nlabel_arrays = ['cube']", "(3,)"),
        ("path = 'stars.npz'\nfields.x = 'flux'\nname_column = 'z'", "`labels` names"),
        ("path = 'stars.npz'\nfields = {}", "leave it out"),
    ] {
        let error = refusal("npz", table, root);
        assert!(error.contains(words), "{table}: {error}");
    }
}

#[test]
fn headers_that_lie_are_refused_before_memory_is_taken() {
    let folder = folder();
    let root = folder.path();
    let some = floats((0..12).map(|k| k as f32));
    for shape in [
        "(1000000000000,)",
        "(1000000000000, 1000000000000)",
        "(4294967296, 4294967296, 4294967296)",
        "(3, 18446744073709551615)",
        "(0, 18446744073709551615, 18446744073709551615)",
        "(4, 4)",
        "()",
    ] {
        let lie = npy("'<f4'", false, shape, &some);
        fs::write(root.join("x.npy"), &lie).expect("written");
        archive(&root.join("stored.npz"), &[("x.npy", lie.clone())], Stored);
        archive(&root.join("packed.npz"), &[("x.npy", lie)], Deflated);
        for path in ["x.npy", "stored.npz", "packed.npz"] {
            let error = refusal("npz", &format!("path = '{path}'\nfields.x = 'x'"), root);
            let told = error.contains("shape") && error.contains(path);
            assert!(told, "{path} {shape}: {error}");
        }
    }
}

/// 600 MB of zeros in 600 KB: within the limit they are read, beyond it they are refused before
/// anything is inflated; and sizes that deflate cannot reach are lies.
#[test]
fn bombs_are_refused() {
    let folder = folder();
    let root = folder.path();
    let path = root.join("bomb.npz");
    let mut writer = zip::ZipWriter::new(File::create(&path).expect("a file"));
    let options = SimpleFileOptions::default().compression_method(Deflated);
    writer.start_file("x.npy", options).expect("an entry");
    writer.write_all(&npy("'|u1'", false, "(3, 200000000)", &[])).expect("written");
    for _ in 0..600 {
        writer.write_all(&vec![0; 1_000_000]).expect("written");
    }
    writer.finish().expect("written");
    assert!(fs::metadata(&path).expect("there").len() < 2_000_000);
    let error = refusal("npz", "path = 'bomb.npz'\nmemory_mib = 64", root);
    assert!(error.contains("`memory_mib`") && error.contains("numpy.savez"), "{error}");

    let lie = npy("'|u1'", false, "(1000000000,)", &[0; 1000]);
    archive(&path, &[("x.npy", lie)], Deflated);
    let mut bytes = fs::read(&path).expect("readable");
    let stated = (1_000_000_000 + 76u32).to_le_bytes();
    // The uncompressed size in the directory at the end of the archive.
    let at = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").expect("a directory") + 24;
    bytes[at..at + 4].copy_from_slice(&stated);
    fs::write(&path, bytes).expect("written");
    let error = refusal("npz", "path = 'bomb.npz'\nfields.x = 'x'", root);
    assert!(error.contains("deflated bytes can hold"), "{error}");
}

#[test]
fn entries_named_like_paths_are_refused() {
    let folder = folder();
    for name in ["../x.npy", "/etc/x.npy", "a/../../x.npy", "..\\x.npy"] {
        let array = npy("'|u1'", false, "(1,)", &[1]);
        archive(&folder.path().join("x.npz"), &[(name, array)], Stored);
        let error = refusal("npz", "path = 'x.npz'", folder.path());
        assert!(error.contains("named like a path"), "{name}: {error}");
    }
}

#[test]
fn a_torn_archive_is_an_error_and_no_panic() {
    let folder = folder();
    let path = folder.path().join("stars.npz");
    for method in [Stored, Deflated] {
        archive(&path, &stars(), method);
        let whole = fs::read(&path).expect("readable");
        for cut in (0..whole.len()).step_by(13) {
            fs::write(&path, &whole[..cut]).expect("written");
            let error = refusal("npz", STARS, folder.path());
            assert!(error.contains("stars.npz"), "{error}");
        }
    }
    // A deflated array whose numbers were changed does not pass its checksum.
    archive(&path, &stars()[..1], Deflated);
    let mut bytes = fs::read(&path).expect("readable");
    let crc = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").expect("a directory") + 16;
    bytes[crc] ^= 1;
    fs::write(&path, bytes).expect("written");
    let error = refusal("npz", "path = 'stars.npz'", folder.path());
    assert!(error.contains("cannot be read"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn flipped_bits_never_end_the_program(
        deflated: bool,
        flips in prop::collection::vec((0f64..1.0, 0u8..8), 1..6),
    ) {
        let folder = folder();
        let path = folder.path().join("stars.npz");
        archive(&path, &stars(), if deflated { Deflated } else { Stored });
        let mut bytes = fs::read(&path).expect("readable");
        for (place, bit) in flips {
            let at = (place * bytes.len() as f64) as usize;
            bytes[at] ^= 1 << bit;
        }
        fs::write(&path, bytes).expect("written");
        survive("npz", STARS, folder.path());
    }
}
