//! Objects of one source in different units, through every command that reads them.

use std::path::Path;

use crate::program::{astropt, fails, succeeds, workspace};

/// An image of 4 x 4 numbers, in this unit.
fn image(k: usize, unit: Option<&str>) -> Vec<u8> {
    let mut cards: Vec<String> =
        ["SIMPLE  = T", "BITPIX  = -32", "NAXIS   = 2", "NAXIS1  = 4", "NAXIS2  = 4"]
            .map(str::to_owned)
            .into();
    cards.extend(unit.map(|unit| format!("BUNIT   = '{unit}'")));
    cards.push("END".to_owned());
    let mut bytes: Vec<u8> =
        cards.iter().flat_map(|card| format!("{card:<80}").into_bytes()).collect();
    bytes.resize(2880, b' ');
    let number = |i: usize| ((i * i + 7 * k) % 31) as f32;
    bytes.extend((0..16).flat_map(|i| number(i).to_be_bytes()));
    bytes.resize(2 * 2880, 0);
    bytes
}

const OBJECTS: usize = 24;

/// A folder of images, of which every second is in the unit `other`, and a recipe for it.
fn survey(folder: &Path, other: Option<&str>) {
    std::fs::create_dir_all(folder.join("data")).expect("writable");
    for k in 0..OBJECTS {
        let unit = if k.is_multiple_of(2) { Some("nanomaggy") } else { other };
        let path = folder.join(format!("data/g{k:02}.fits"));
        std::fs::write(path, image(k, unit)).expect("writable");
    }
    let text = "name = \"units\"\nextends = \"galaxy-grz\"\ndefault_scale = \"tiny\"\n\
                [source]\nkind = \"fits\"\npath = \"data\"\n\
                [modality.images]\nsize = 4\npatch = 2\npositions = 4\nbands = 1\n\
                [split]\nvalidation_fraction = 0.2\ntest_fraction = 0.1\n\
                [scale.tiny]\nmodel = { layers = 1, heads = 1, width = 8 }\n\
                [train]\nsteps = 6\nbatch = 4\nmicro_batch = 2\nwarmup_steps = 1\n\
                decay_steps = 6\neval_every = 3\neval_batches = 1\n";
    std::fs::write(folder.join("units.toml"), text).expect("writable");
}

#[test]
fn different_units_end_whatever_reads_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    survey(at, Some("nanomaggy"));
    succeeds(at, &["pretrain", "units.toml", "--out", "r", "--quiet"]);
    survey(at, Some("Jy"));
    for arguments in [
        &["pretrain", "units.toml", "--out", "r2", "--set", "train.workers=1"][..],
        &["pretrain", "units.toml", "--out", "r3", "--set", "train.workers=3"],
        &["convert", "units.toml", "--data", "data", "--out", "c"],
        &["embed", "r"],
        &["generate", "r", "--objects", "3", "--prompt", "1"],
    ] {
        let error = fails(at, arguments, 1);
        for word in ["\"image\"", "\"nanomaggy\"", "\"Jy\"", "object g", "in one unit"] {
            assert!(error.contains(word), "{arguments:?}: no {word} in: {error}");
        }
    }
    // All of them in another unit than the model was trained in.
    (0..OBJECTS).for_each(|k| {
        std::fs::write(at.join(format!("data/g{k:02}.fits")), image(k, Some("Jy"))).expect("there");
    });
    for arguments in [
        &["embed", "r", "--data", "data", "--out", "e"][..],
        &["generate", "r", "--data", "data", "--out", "g", "--objects", "3", "--prompt", "1"],
        &["pretrain", "--resume", "--out", "r", "--set", "train.steps=7"],
    ] {
        let error = fails(at, arguments, 1);
        assert!(error.contains("was in \"nanomaggy\" and is in \"Jy\""), "{error}");
    }
    // However few they are, and though unusable objects would be left out.
    survey(at, Some("nanomaggy"));
    std::fs::write(at.join("data/g13.fits"), image(13, Some("Jy"))).expect("writable");
    let convert = ["convert", "units.toml", "--data", "data", "--out", "c2", "--set"];
    let error = fails(at, &[&convert[..], &["train.max_rejected=0.5"]].concat(), 1);
    assert!(error.contains("object g13") && error.contains("object g00"), "{error}");
    // What the modality itself refuses is left out, and not used.
    let more = ["train.max_rejected=0.5", "--set", "modality.images.unit=nanomaggy"];
    let convert = convert.map(|word| if word == "c2" { "c3" } else { word });
    succeeds(at, &[&convert[..], &more].concat());
    let left_out = std::fs::read_to_string(at.join("c3/rejected.csv")).expect("there");
    assert!(left_out.contains("g13") && left_out.lines().count() == 2, "{left_out}");
}

#[test]
fn an_interrupted_conversion_goes_on_in_its_units() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    survey(at, Some("nanomaggy"));
    let convert = ["convert", "units.toml", "--data", "data", "--out", "c", "--shard-size", "300B"];
    std::fs::write(at.join("data/g20.fits"), image(20, Some("Jy"))).expect("writable");
    fails(at, &convert, 1);
    assert!(at.join("c/shard-00001.safetensors").exists(), "more than one shard before that");
    // From here on, all are in the other unit.
    for k in 8..OBJECTS {
        std::fs::write(at.join(format!("data/g{k:02}.fits")), image(k, Some("Jy"))).expect("there");
    }
    let error = fails(at, &convert, 1);
    assert!(error.contains("\"Jy\"") && error.contains("object g00"), "{error}");
}

#[test]
fn a_unit_that_some_lack_is_told_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    survey(at, None);
    let output = astropt(at, &["pretrain", "units.toml", "--out", "r", "--quiet"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    let lines: Vec<_> = told.lines().filter(|line| line.contains("without a unit")).collect();
    assert_eq!(lines.len(), 1, "{told}");
    assert!(lines[0].contains("\"image\"") && lines[0].contains("\"nanomaggy\""), "{told}");
}

#[test]
fn labels_that_are_left_out_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = workspace().join("modalities/tests/fixtures/hdf5/units/a.h5");
    let root = root.display().to_string();
    let set = "source.fields.flux.dataset=flux";
    let inspect = ["inspect", root.as_str(), "--source", "hdf5", "--set", set];
    let output = astropt(folder.path(), &inspect);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    let lines: Vec<_> = told.lines().filter(|line| line.contains("labels left out")).collect();
    assert_eq!(lines.len(), 1, "{told}");
    for word in ["\"name\" (text)", "\"quad\"", "elsewhere.h5", "warning"] {
        assert!(lines[0].contains(word), "no {word} in: {told}");
    }
    assert!(!lines[0].contains("flux") && !lines[0].contains("pair"), "{told}");
}
