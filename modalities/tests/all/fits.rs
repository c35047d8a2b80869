//! The source `fits` against astropy's answers, on real files and on damaged ones.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use astropt_core::observation::{Data, Label};
use astropt_core::seam::Source;
use astropt_core::testkit;
use proptest::prelude::*;
use serde_json::Value;

use crate::fixtures::{assert_numbers, fixture, open, shared};

fn folder() -> PathBuf {
    fixture("fits")
}

fn answers(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder().join("answers.json")).expect("there");
    let mut all: Value = serde_json::from_str(&text).expect("JSON");
    all[file].as_array_mut().map(std::mem::take).expect("a file of that name")
}

fn source(table: &str) -> Box<dyn Source> {
    open("fits", table, &folder()).unwrap_or_else(|error| panic!("{table}: {error}"))
}

/// A recipe that reads these HDUs of a file, each as the field `hK`.
fn hdus(path: &str, numbers: impl IntoIterator<Item = usize>) -> String {
    let field = |k| format!("fields.h{k} = {{ hdu = {k}, axes = 'stored' }}\n");
    format!("path = '{path}'\n") + &numbers.into_iter().map(field).collect::<String>()
}

#[test]
fn images_of_every_type_agree_with_astropy() {
    for (file, first) in [("images.fits", 0), ("tiles.fits", 1)] {
        let answers = answers(file);
        let object = source(&hdus(file, first..answers.len())).read(0).expect("readable");
        for (k, answer) in answers.iter().enumerate().skip(first) {
            let array = &object.fields[&format!("h{k}")].array;
            assert_eq!(serde_json::json!(array.shape), answer["shape"], "{file}, HDU {k}");
            assert_numbers(&array.data, &answer["data"], &format!("{file}, HDU {k}"));
        }
    }
}

/// A FITS file of one image with these `NAXISn` and numbers that count from 0.
fn counting(axes: &[usize]) -> Vec<u8> {
    let mut cards = vec![("SIMPLE".to_owned(), "T".to_owned()), ("BITPIX".into(), "-32".into())];
    cards.push(("NAXIS".into(), axes.len().to_string()));
    cards.extend(axes.iter().zip(1..).map(|(n, k)| (format!("NAXIS{k}"), n.to_string())));
    let card = |(key, value)| format!("{:<80}", format!("{key:<8}= {value:>20}"));
    let header: String = cards.into_iter().map(card).collect();
    let mut file = format!("{:<2880}", format!("{header}END")).into_bytes();
    let numbers: usize = axes.iter().product();
    (0..numbers).for_each(|k| file.extend_from_slice(&(k as f32).to_be_bytes()));
    file.resize(file.len().next_multiple_of(2880), 0);
    file
}

#[test]
fn axes_of_stokes_parameters_and_frequency_are_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let read = |axes: &[usize], more: &str| {
        fs::write(folder.path().join("a.fits"), counting(axes)).expect("written");
        let table = format!("path = 'a.fits'\nfields.image = {{ {more} }}");
        let object = open("fits", &table, folder.path()).expect("opens").read(0)?;
        Ok::<_, astropt_core::Error>(object.fields["image"].array.clone())
    };
    let floats = |numbers: &[f32]| Data::F32(numbers.to_vec());
    let plain = floats(&(0..12).map(|k| k as f32).collect::<Vec<_>>());
    for axes in [&[4, 3][..], &[4, 3, 1], &[4, 3, 1, 1], &[4, 3, 1, 1, 1]] {
        let image = read(axes, "").expect("an image");
        assert_eq!((image.shape, image.data), (vec![3, 4, 1], plain.clone()), "{axes:?}");
    }
    // Two frequencies, whichever of the two axes is theirs.
    let bands = floats(&[0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
    for axes in [[2, 2, 2, 1], [2, 2, 1, 2]] {
        let image = read(&axes, "").expect("an image");
        assert_eq!((image.shape, image.data), (vec![2, 2, 2], bands.clone()), "{axes:?}");
    }
    let stored = read(&[4, 3, 1, 1], "axes = 'stored'").expect("as it is");
    assert_eq!(stored.shape, [1, 1, 3, 4]);
    let error = read(&[4, 3, 2, 2], "").expect_err("four axes").to_string();
    assert!(error.contains("has 4 ([2, 2, 3, 4])") && error.contains("one of three"), "{error}");
}

#[test]
fn types_and_units_are_those_of_the_file() {
    let object = source(&hdus("images.fits", 0..13)).read(0).expect("readable");
    let kind = |k: usize| match object.fields[&format!("h{k}")].array.data {
        Data::U8(_) => "u8",
        Data::U16(_) => "u16",
        Data::F32(_) => "f32",
        Data::F64(_) => "f64",
        Data::I64(_) => "i64",
    };
    let kinds: Vec<_> = (0..13).map(kind).collect();
    let expected =
        ["u8", "i64", "i64", "i64", "f64", "u16", "i64", "i64", "i64", "f32", "f32", "f64", "f32"];
    assert_eq!(kinds, expected);
    assert_eq!(object.fields["h12"].unit.as_deref(), Some("nanomaggy"));
    assert_eq!(object.fields["h11"].unit, None);
}

#[test]
fn columns_of_every_type_agree_with_astropy() {
    let answer = answers("table.fits").swap_remove(1);
    let numbers = ["TARGETID", "z", "flag", "byte", "short", "ushort", "int", "scaled", "flux"];
    let columns = numbers.iter().chain(&["stamp", "var", "wide"]);
    let fields: String =
        columns.map(|c| format!("fields.{c} = {{ hdu = 'catalog', column = '{c}' }}\n")).collect();
    let table =
        format!("path = 'table.fits'\nobjects = 'row'\nlabel_hdu = 1\nid = 'TARGETID'\n{fields}");
    let rows = source(&table);
    assert_eq!(rows.len(), 6);
    assert_eq!(rows.id(5), "39628433498145005");
    for row in 0..6 {
        let object = rows.read(row).expect("readable");
        for (name, field) in &object.fields {
            let expected = &answer["columns"][name][row];
            assert_numbers(&field.array.data, expected, &format!("row {row}, {name}"));
        }
        assert_eq!(object.fields["stamp"].array.shape, [3, 4]);
        assert_eq!(object.labels["name"], Label::Text(format!("obj {row}")));
        assert_eq!(object.labels.contains_key("short"), row % 2 == 0 || row == 5);
    }
    assert_eq!(rows.read(0).expect("readable").fields["flux"].unit.as_deref(), Some("nanomaggy"));
    // The same as whole columns, by number.
    let whole = source("path = 'table.fits'\nfields.z = { column = 3 }").read(0).expect("readable");
    assert_eq!(whole.fields["z"].array.shape, [6]);
}

#[test]
fn cubes_bands_and_arms_become_objects() {
    let cube = source(
        "path = 'cube.fits'\nobjects = 'row'\nlabel_hdu = 'IDS'\nid = 'ID'\nfields.image = {}",
    );
    assert_eq!((cube.len(), cube.id(3)), (4, (1u64 << 60 | 3).to_string()));
    assert!(!cube.labels(2).contains_key("mag"));
    let image = &cube.read(1).expect("readable").fields["image"].array;
    assert_eq!(image.shape, [5, 7, 3]);
    let answer = answers("cube.fits").swap_remove(0);
    let Data::F32(pixels) = &image.data else { panic!("floats") };
    let flat = |band: usize, pixel: usize| answer["data"][(3 + band) * 35 + pixel].as_f64();
    for (k, &pixel) in pixels.iter().enumerate() {
        assert_eq!(Some(f64::from(pixel)), flat(k % 3, k / 3));
    }
    let bands = source("path = 'bands'\nfiles = '{id}-{band}.fits'\nbands = ['g', 'r']");
    assert_eq!([bands.id(0), bands.id(1)], ["a", "b"]);
    assert_eq!(bands.read(0).expect("readable").fields["image"].array.shape, [5, 7, 2]);
    let error = bands.read(1).expect_err("no r").to_string();
    assert!(error.contains("b-r.fits"), "{error}");
}

const ARMS: &str = "objects = 'row'\nlabel_hdu = 'FIBERMAP'\nid = 'TARGETID'\n\
    fields.flux = { hdu = '{arm}_FLUX' }\nfields.mask = { hdu = '{arm}_MASK' }\n\
    fields.wavelength = { hdu = '{arm}_WAVELENGTH', shared = true }\n";

const SORTED: &str = "arms = { names = ['B', 'R', 'Z'], along = 'wavelength' }";

#[test]
fn arms_are_sorted_or_cut_by_wavelength() {
    let wavelengths = |arms: &str| {
        let table = format!("path = 'arms.fits'\n{ARMS}arms = {{ names = ['B', 'R', 'Z']{arms} }}");
        let object = source(&table).read(2).expect("readable");
        assert_eq!(object.fields["wavelength"].unit.as_deref(), Some("Angstrom"));
        assert_eq!(object.fields["flux"].array.shape, object.fields["wavelength"].array.shape);
        assert!(matches!(object.fields["mask"].array.data, Data::I64(_)));
        let Data::F64(waves) = &object.fields["wavelength"].array.data else { panic!("doubles") };
        waves.clone()
    };
    let all = wavelengths("");
    assert!(!all.is_sorted());
    let sorted = wavelengths(", along = 'wavelength'");
    assert!(sorted.is_sorted() && sorted.len() == all.len());
    let cut = wavelengths(", along = 'wavelength', cut = [3608.5, 3619.0]");
    assert!(cut.is_sorted() && cut.len() < all.len(), "{cut:?}");
    assert!(cut.windows(2).all(|pair| pair[1] - pair[0] > 0.3), "{cut:?}");
}

#[test]
fn a_file_packed_as_a_whole_is_read_in_groups() {
    let packed = source(&format!("path = 'arms.fits.gz'\n{ARMS}{SORTED}"));
    let plain = source(&format!("path = 'arms.fits'\n{ARMS}{SORTED}"));
    assert_eq!(packed.groups().map(|groups| groups.starts), Some(vec![0]));
    assert!(plain.groups().is_none());
    assert_eq!(packed.read(1).expect("readable"), plain.read(1).expect("readable"));
    testkit::source::check_source(&*packed).expect("conforms");
}

#[test]
fn keywords_and_tables_are_labels() {
    let table = "path = 'images.fits'\nkeywords = ['EXPTIME', 'FILTER', 'TEFF']\n\
                 fields.flux = { hdu = 'FLUX' }";
    let labels = source(table).labels(0);
    assert_eq!(labels["EXPTIME"], Label::Number(90.5));
    assert_eq!(labels["FILTER"], Label::Text("g'".into()));
    assert_eq!((labels["TEFF"].number(), labels.len()), (Some(5777.0), 3));
}

#[test]
fn what_is_not_there_is_named() {
    for (table, words) in [
        ("path = 'images.fits'\nfields.x = { hdu = 'NOPE' }", "no HDU \"NOPE\"; it has HDU 0"),
        (
            "path = 'table.fits'\nfields.x = { column = 'nope' }",
            "no column \"nope\"; it has TARGETID",
        ),
        ("path = 'table.fits'\nfields.x = { column = 'name' }", "holds texts"),
        ("path = 'table.fits'\nfields.x = { column = 'name' }", "number them by `codes`"),
        ("path = 'table.fits'\nfields.x = { column = 'var' }", "different lengths"),
        ("path = 'table.fits'\nfields.x = { hdu = 1 }", "it holds no image"),
    ] {
        let error = source(table).read(0).expect_err(table).to_string();
        assert!(error.contains(words) && error.contains(".fits"), "{error}");
    }
    for (table, words) in [
        ("path = 'images.fits'\nfields.x = { hdu = '{arm}' }", "`arms`"),
        ("path = 'images.fits'\nbands = ['g']", "`bands`"),
        ("path = 'images.fits'\nid = 'x'", "label_hdu"),
        ("path = 'answers.json'", "neither a FITS file"),
        ("path = 'arms.fits'\nobjects = 'row'\nlabel_hdu = 1\nfields.x = { hdu = 2 }", "rows for"),
    ] {
        let error = open("fits", table, &folder()).map(drop).expect_err(table).to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// Opens and reads everything of a damaged file; what counts is that it comes back.
fn survive(bytes: &[u8], table: &str) -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("x.fits"), bytes).expect("written");
    let Ok(source) = open("fits", &format!("path = 'x.fits'\n{table}"), folder.path()) else {
        return 0;
    };
    let objects = 0..source.len().min(30);
    objects
        .filter(|&k| source.read(k).map_err(|e| assert!(e.to_string().len() > 20)).is_ok())
        .count()
}

fn fixtures() -> Vec<(Vec<u8>, String)> {
    let read = |name: &str| fs::read(folder().join(name)).expect("there");
    let columns = ["flux", "var", "wide", "short"];
    let columns: String =
        columns.iter().map(|c| format!("fields.{c} = {{ column = '{c}' }}\n")).collect();
    vec![
        (read("images.fits"), "objects = 'hdu'".to_owned()),
        (read("tiles.fits"), "objects = 'hdu'".to_owned()),
        (read("table.fits"), format!("objects = 'row'\nlabel_hdu = 1\n{columns}")),
        (read("arms.fits"), format!("{ARMS}{SORTED}")),
        (read("arms.fits.gz"), format!("{ARMS}{SORTED}")),
    ]
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    for (bytes, table) in fixtures() {
        let all = survive(&bytes, &table);
        assert!(all > 0, "{table}");
        let step = bytes.len() / 60 + 1;
        for cut in (0..bytes.len().saturating_sub(2880)).step_by(step) {
            let read = survive(&bytes[..cut], &table);
            assert_eq!(read, 0, "{table}: cut at {cut} of {}", bytes.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn flipped_bits_never_end_the_program(
        which in 0usize..5,
        flips in prop::collection::vec((0f64..1.0, 0u8..8), 1..6),
    ) {
        let (mut bytes, table) = fixtures().swap_remove(which);
        for (place, bit) in flips {
            let at = (place * bytes.len() as f64) as usize;
            bytes[at] ^= 1 << bit;
        }
        survive(&bytes, &table);
    }
}

/// Replaces the value of a keyword, in the HDU after byte `from`.
fn with(bytes: &[u8], from: usize, key: &str, value: &str) -> Vec<u8> {
    let card = format!("{key:<8}= {value:>20}");
    let mut bytes = bytes.to_vec();
    let start = format!("{key:<8}=");
    let at = (from..bytes.len()).step_by(80).find(|&k| bytes[k..].starts_with(start.as_bytes()));
    let at = at.unwrap_or_else(|| panic!("there is no {key}"));
    bytes[at..at + card.len()].copy_from_slice(card.as_bytes());
    bytes
}

#[test]
fn headers_that_lie_are_refused() {
    let fixtures = fixtures();
    let lies = [
        (0, 0, "NAXIS1", "-2880"),
        (0, 0, "NAXIS1", "4000000000"),
        (0, 0, "NAXIS", "999999999999"),
        (0, 0, "NAXIS2", "9223372036854775807"),
        (0, 0, "BITPIX", "7"),
        (1, 2880, "PCOUNT", "9223372036854775807"),
        (1, 2880, "PCOUNT", "-5"),
        (1, 2880, "ZNAXIS1", "4294967295"),
        (1, 2880, "ZTILE1", "0"),
        (1, 2880, "ZVAL1", "0"),
        (1, 2880, "TFIELDS", "99999999999"),
        (1, 2880, "TFORM1", "'9999999999999999PB(9)'"),
        (2, 2880, "NAXIS1", "1"),
        (2, 2880, "TFORM10", "'99999999999E'"),
        (2, 2880, "TFORM12", "'1QD(9)'"),
        (2, 2880, "NAXIS2", "4294967295"),
    ];
    for (which, from, key, value) in lies {
        let (bytes, table) = &fixtures[which];
        let all = survive(bytes, table);
        let read = survive(&with(bytes, from, key, value), table);
        assert!(read < all, "{key} = {value}: {read} of {all} objects are read");
    }
}

/// A gzip file of `start` and zeros, of so many MiB.
fn packed(start: &[u8], mebibytes: usize) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![0u8; 1 << 20];
    packer.write_all(start).expect("packed");
    for _ in 0..mebibytes {
        packer.write_all(&zeros).expect("packed");
    }
    packer.finish().expect("packed")
}

/// A gzip file of a few kilobytes that unpacks to gigabytes.
#[test]
fn bombs_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = "path = 'x.fits.gz'\ndisk_budget = '64MB'";
    let primary = fs::read(fixture("fits/cube.fits")).expect("there");
    for (start, words) in [
        (&primary[..2880], ["more than 64MB", "`disk_budget`"]),
        // Nothing that begins otherwise is unpacked at all.
        (&b"otherwise"[..], ["no FITS header", "byte 0"]),
    ] {
        fs::write(folder.path().join("x.fits.gz"), packed(start, 1030)).expect("written");
        let source = open("fits", table, folder.path()).expect("not read yet");
        let error = source.read(0).expect_err("a bomb").to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

/// A cube whose every row is known, unpacked to the disk: rows of one file are read from it by
/// several threads, and of many files no more than a few are held.
#[test]
fn large_packed_files_are_read_from_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let cube = fs::read(fixture("fits/cube.fits")).expect("there");
    let objects = 40_000usize;
    let mut file = with(&cube[..2880], 0, "NAXIS4", &objects.to_string());
    file.extend((0..objects * 5 * 7 * 3).flat_map(|k| ((k / 105) as f32).to_be_bytes()));
    file.resize(file.len().next_multiple_of(2880), 0);
    for name in ["a", "b", "c"] {
        let path = folder.path().join(format!("{name}.fits.gz"));
        fs::write(path, packed(&file, 0)).expect("written");
    }
    let source = open("fits", "path = ''\nobjects = 'row'", folder.path()).expect("opens");
    assert_eq!(source.len(), 3 * objects);
    std::thread::scope(|scope| {
        for start in [0, 17, 39_999] {
            let source = &source;
            scope.spawn(move || {
                for index in (start..3 * objects).step_by(9_973) {
                    let image = &source.read(index).expect("readable").fields["image"].array;
                    let expected = (index % objects) as f32;
                    assert_eq!(image.data, Data::F32(vec![expected; 105]), "{index}");
                }
            });
        }
    });
}

fn real(place: &str, table: &str) -> Option<Box<dyn Source>> {
    let root = shared(place)?;
    Some(open("fits", table, &root).unwrap_or_else(|error| panic!("{table}: {error}")))
}

#[test]
fn real_spectra_of_sdss_have_wavelengths_and_labels() {
    let table = "path = 'spectra'\nlabel_hdu = 'SPECOBJ'\nlabel_columns = ['Z', 'CLASS']\n\
        fields.flux = { hdu = 'COADD', column = 'flux' }\n\
        fields.wavelength = { hdu = 1, column = 'loglam', transform = 'pow10', unit = 'Angstrom' }\n\
        fields.mask = { hdu = 1, column = 'and_mask' }";
    let place = "data/multimodal/sdss_legacy_image_spectrum_pairs_10";
    let Some(source) = real(place, table) else { return };
    assert_eq!((source.len(), source.id(0)), (10, "spec-0266-51630-0168".into()));
    let object = source.read(0).expect("readable");
    assert_eq!(object.fields["flux"].array.shape, [3808]);
    let Data::F64(wavelength) = &object.fields["wavelength"].array.data else { panic!("doubles") };
    assert!(
        wavelength.is_sorted() && (3800.0..3900.0).contains(&wavelength[0]),
        "{}",
        wavelength[0]
    );
    assert_eq!(object.fields["wavelength"].unit.as_deref(), Some("Angstrom"));
    assert_eq!(object.labels["CLASS"], Label::Text("GALAXY".into()));
    assert!(object.labels["Z"].number().is_some_and(|z| (0.0..1.0).contains(&z)));
    testkit::source::check_source(&*source).expect("conforms");
}

#[test]
fn real_coadds_of_desi_are_rows_of_three_arms() {
    let table = format!(
        "path = 'coadd-sv3-dark-26065.fits'\n{ARMS}\
         arms = {{ names = ['B', 'R', 'Z'], along = 'wavelength', cut = [5780.0, 7570.0] }}"
    );
    let Some(source) = real("data/spectra/desi_sv_specutils", &table) else { return };
    assert_eq!(source.len(), 5);
    let object = source.read(4).expect("readable");
    assert_eq!(object.id.len(), 17);
    assert!(object.id.parse::<i64>().is_ok());
    let Data::F64(wavelength) = &object.fields["wavelength"].array.data else { panic!("doubles") };
    assert!(wavelength.is_sorted_by(|a, b| a < b) && wavelength.len() > 7000);
    assert!(object.labels["TARGET_RA"].number().is_some());
    testkit::source::check_source(&*source).expect("conforms");
}

#[test]
fn real_light_curves_keep_their_gaps() {
    let table = "path = ''\nkeywords = ['KEPLERID', 'TEFF']\n\
        fields.time = { hdu = 1, column = 'TIME' }\n\
        fields.flux = { hdu = 1, column = 'PDCSAP_FLUX' }\n\
        fields.error = { hdu = 1, column = 'PDCSAP_FLUX_ERR' }\n\
        fields.quality = { hdu = 1, column = 'SAP_QUALITY' }";
    let Some(source) = real("data/lightcurves/kepler_fits_samples", table) else { return };
    let object = source.read(0).expect("readable");
    let Data::F32(flux) = &object.fields["flux"].array.data else { panic!("floats") };
    assert!(flux.len() == 4370 && flux.iter().any(|x| x.is_nan()));
    assert_eq!(object.fields["flux"].unit.as_deref(), Some("e-/s"));
    assert_eq!(object.fields["time"].unit.as_deref(), Some("BJD - 2454833"));
    assert_eq!(object.labels["KEPLERID"], Label::Number(11_442_793.0));
}

#[test]
fn real_stamps_of_cosmos_are_one_per_hdu() {
    let table = "path = 'real_galaxy_images_extension.fits'\nobjects = 'hdu'\n\
        labels = 'real_galaxy_catalog_26_extension_example.fits'\nname_column = 'GAL_HDU'";
    let Some(source) = real("data/galaxies/cosmos_hst_f814w_fits", table) else { return };
    assert_eq!(source.len(), 100);
    let shapes: Vec<_> = (0..100)
        .map(|k| source.read(k).expect("readable").fields["image"].array.shape.clone())
        .collect();
    assert!(shapes.iter().all(|s| s.len() == 3 && s[2] == 1) && shapes[0] != shapes[1]);
    assert!(source.labels(7)["MAG"].number().is_some_and(|mag| (15.0..30.0).contains(&mag)));
    testkit::source::check_source(&*source).expect("conforms");
}

#[test]
fn fits_conforms() {
    let root = folder();
    for table in [
        "path = 'images.fits'\nobjects = 'hdu'",
        "path = 'cube.fits'\nobjects = 'row'",
        "path = 'images.fits'\nfields.flux = { hdu = 'FLUX' }",
    ] {
        testkit::source::check("fits", table, Path::new(&root)).expect(table);
    }
}

/// A cube far larger than memory; the file has holes where nothing was written.
#[test]
fn one_row_of_a_huge_cube_is_read_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let cube = fs::read(fixture("fits/cube.fits")).expect("there");
    let objects = 40_000_000u64;
    let header = with(&cube[..2880], 0, "NAXIS4", &objects.to_string());
    let path = folder.path().join("cube.fits");
    fs::write(&path, &header).expect("written");
    let len = 2880 + (objects * 5 * 7 * 3 * 4).next_multiple_of(2880);
    fs::File::options().write(true).open(&path).and_then(|f| f.set_len(len)).expect("a hole");
    let source = open("fits", "path = 'cube.fits'\nobjects = 'row'", folder.path()).expect("opens");
    assert_eq!(source.len() as u64, objects);
    let image = &source.read(source.len() - 1).expect("readable").fields["image"].array;
    assert_eq!((image.shape.as_slice(), image.data.len()), (&[5, 7, 3][..], 105));
}
