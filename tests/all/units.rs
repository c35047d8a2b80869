//! Objects of one source in different units, through every command that reads them, and the units of
//! labels.

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

/// A table of stars as FITS: a number, a magnitude and a temperature, which may state their units.
fn stars(path: &Path, mag: Option<&str>, teff: Option<&str>) {
    let primary = ["SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 0", "END"].map(str::to_owned);
    let mut cards: Vec<String> =
        ["XTENSION= 'BINTABLE'", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 16", "NAXIS2  = 70"]
            .map(str::to_owned)
            .into();
    cards.extend(["PCOUNT  = 0", "GCOUNT  = 1", "TFIELDS = 4"].map(str::to_owned));
    let columns =
        [("ID", "J", None), ("X", "E", Some("adu")), ("MAG", "E", mag), ("TEFF", "E", teff)];
    for (k, (name, form, unit)) in (1..).zip(columns) {
        cards.push(format!("TTYPE{k}  = '{name}'"));
        cards.push(format!("TFORM{k}  = '{form}'"));
        cards.extend(unit.map(|unit| format!("TUNIT{k}  = '{unit}'")));
    }
    cards.push("END".to_owned());
    let block = |cards: &[String]| {
        let mut bytes: Vec<u8> =
            cards.iter().flat_map(|card| format!("{card:<80}").into_bytes()).collect();
        bytes.resize(bytes.len().next_multiple_of(2880), b' ');
        bytes
    };
    let mut bytes = [block(&primary), block(&cards)].concat();
    for k in 0..70i32 {
        bytes.extend(k.to_be_bytes());
        let x = (k as f32 * 0.7).sin();
        bytes.extend([x, 15.0 + x, 5000.0 + 800.0 * x].iter().flat_map(|x| x.to_be_bytes()));
    }
    bytes.resize(bytes.len().next_multiple_of(2880), 0);
    std::fs::write(path, bytes).expect("writable");
}

/// A recipe for that table, in which TEFF has a unit.
const STARS: &str = "name = \"stars\"\n[source]\nkind = \"fits\"\npath = \"stars.fits\"\n\
    objects = \"row\"\nfields.x = { hdu = 1, column = \"X\" }\nlabel_hdu = 1\nid = \"ID\"\n\
    label_columns = [\"MAG\", \"TEFF\"]\n\
    [modality.a]\nkind = \"scalar\"\ncolumns = [{ name = \"MAG\", mean = 15.0 }]\n\
    [modality.b]\nkind = \"scalar\"\n\
    columns = [{ name = \"TEFF\", unit = \"K\", mean = 5000.0, std = 500.0 }]\n\
    [split]\nvalidation_fraction = 0.3\ntest_fraction = 0.3\n\
    [model]\nlayers = 1\nheads = 2\nwidth = 16\ntokeniser = \"aim\"\n\
    [train]\nsteps = 8\nbatch = 8\nmicro_batch = 4\npeak_lr = 1e-3\nfinal_lr = 1e-4\n\
    warmup_steps = 2\ndecay_steps = 8\nweight_decay = 0.1\nclip = 1.0\neval_every = 4\n\
    eval_batches = 0\n\
    [embed]\nlayer = \"last\"\ntokens = \"all\"\npooling = \"mean\"\n\
    [probe]\nprotocol = \"validation-test\"\n";

fn survey_of_stars(folder: &Path) {
    stars(&folder.join("stars.fits"), Some("mag"), None);
    std::fs::write(folder.join("stars.toml"), STARS).expect("writable");
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn units_of_labels_are_carried_through() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    survey_of_stars(at);
    let has = |shown: &str, words: &[&str]| {
        for word in words {
            assert!(shown.contains(word), "no {word} in: {shown}");
        }
    };
    let set = ["objects=row", "fields.x.column=X", "label_hdu=1", "id=ID"];
    let set: Vec<String> =
        set.iter().flat_map(|k| ["--set".into(), format!("source.{k}")]).collect();
    let inspect = ["inspect", "stars.fits", "--source", "fits"].into_iter();
    let inspect: Vec<&str> = inspect.chain(set.iter().map(String::as_str)).collect();
    has(&succeeds(at, &inspect), &["MAG [mag]", "X [adu]", ", TEFF,"]);
    succeeds(at, &["run", "stars.toml", "--out", "r", "--quiet"]);
    // That of TEFF is the recipe's.
    has(&text(&at.join("r/manifest.json")), &["\"label_units\"", "\"TEFF\": \"K\"", "\"mag\""]);
    let shown = succeeds(at, &["inspect", "r/embeddings.parquet"]);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for (label, unit) in [("MAG", "mag"), ("TEFF", "K")] {
        let row = shown.lines().map(words).find(|row| row.first().is_some_and(|w| w == label));
        assert_eq!(row.expect("a row")[1], unit, "{shown}");
    }
    let shown = succeeds(at, &["probe", "r", "--quiet"]);
    has(&shown, &["in its unit", " K", " mag"]);
    has(&text(&at.join("r/probes.json")), &["\"units\"", "\"TEFF\": \"K\""]);
    has(&text(&at.join("r/report.html")), &["TEFF (K)", "MAG (mag)"]);
    let generate = ["generate", "r", "--objects", "1", "--make", "b", "--prompt", "0"];
    succeeds(at, &generate);
    let file = |ending: &str| {
        let all = std::fs::read_dir(at.join("r/generated")).expect("a folder").flatten();
        let found =
            all.map(|entry| entry.path()).find(|p| p.extension().is_some_and(|e| e == ending));
        found.expect(ending)
    };
    has(&text(&file("csv")), &["TEFF [K]"]);
    succeeds(at, &[&generate[..], &["--format", "fits"]].concat());
    has(&String::from_utf8_lossy(&std::fs::read(file("fits")).expect("there")), &["TUNIT1  = 'K"]);
    succeeds(at, &["convert", "stars.toml", "--data", "stars.fits", "--out", "c"]);
    has(&succeeds(at, &["inspect", "c"]), &["MAG [mag], TEFF [K]"]);
    succeeds(at, &["run", "stars.toml", "--data", "c", "--out", "r2", "--quiet"]);
    let [a, b] = ["r", "r2"].map(|run| text(&at.join(run).join("probes.json")));
    assert!(a == b, "of converted data the probes are the same, units and all");
}

#[test]
fn a_label_in_another_unit_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    survey_of_stars(at);
    succeeds(at, &["pretrain", "stars.toml", "--out", "r", "--quiet"]);
    let path = at.join("stars.fits");
    stars(&path, Some("mmag"), Some("k"));
    for arguments in [
        &["pretrain", "--resume", "--out", "r", "--set", "train.steps=9"][..],
        &["embed", "r"],
        &["embed", "r", "--data", "stars.fits", "--out", "e"],
        &["generate", "r", "--data", "stars.fits", "--out", "g", "--make", "b", "--prompt", "0"],
    ] {
        let error = fails(at, arguments, 1);
        assert!(error.contains("label \"MAG\" was in \"mag\" and is in \"mmag\""), "{error}");
    }
    succeeds(at, &["embed", "r", "--data", "stars.fits", "--out", "e", "--no-self-check"]);
    stars(&path, Some("mag"), Some("k"));
    succeeds(at, &["embed", "r"]);
    // One that states none is taken to be in the unit that it had.
    stars(&path, None, None);
    succeeds(at, &["embed", "r"]);
    stars(&path, Some("mag"), Some("mK"));
    for command in ["pretrain", "convert"] {
        let error = fails(at, &[command, "stars.toml", "--data", "stars.fits", "--out", "o"], 2);
        for word in ["modality.b", "\"TEFF\"", "\"mK\"", "\"K\"", "nothing is converted"] {
            assert!(error.contains(word), "no {word} in: {error}");
        }
    }
    // Two units of one label in one recipe.
    stars(&path, None, None);
    let twice = STARS.replace("name = \"MAG\"", "name = \"TEFF\", unit = \"mK\"");
    std::fs::write(at.join("twice.toml"), twice).expect("writable");
    let error = fails(at, &["pretrain", "twice.toml", "--out", "o"], 2);
    for word in ["modality.a", "modality.b", "\"TEFF\"", "\"mK\"", "\"K\""] {
        assert!(error.contains(word), "no {word} in: {error}");
    }
}

/// The beginning of a conversion is not gone on with in other units; one of before there were units
/// is.
#[test]
fn a_conversion_goes_on_in_the_units_of_its_labels() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    survey_of_stars(at);
    let convert =
        ["convert", "stars.toml", "--data", "stars.fits", "--out", "c", "--shard-size", "200B"];
    succeeds(at, &convert);
    let index = at.join("c/astropt-index.json");
    let whole = text(&index);
    let unfinished = |units: bool| {
        let mut json: serde_json::Value = serde_json::from_str(&whole).expect("JSON");
        let mut head = json["head"].take();
        head["astropt_format"] = json["astropt_format"].take();
        let known = head.as_object_mut().expect("a table").remove("label_units");
        if let Some(known) = known.filter(|_| units) {
            head["label_units"] = known;
        }
        std::fs::write(at.join("c/astropt-unfinished.json"), head.to_string()).expect("writable");
        let _ = std::fs::remove_file(&index);
        std::fs::remove_file(at.join("c/shard-00001.json")).expect("more than one shard");
    };
    unfinished(true);
    stars(&at.join("stars.fits"), Some("nanomaggy"), None);
    let error = fails(at, &convert, 2);
    for word in ["\"MAG\"", "\"mag\"", "\"nanomaggy\"", "another conversion"] {
        assert!(error.contains(word), "no {word} in: {error}");
    }
    stars(&at.join("stars.fits"), Some("mag"), None);
    succeeds(at, &convert);
    assert_eq!(text(&index), whole);
    unfinished(false);
    succeeds(at, &convert);
    assert_eq!(text(&index), whole);
    // An index of before there were units is read as it is.
    let mut json: serde_json::Value = serde_json::from_str(&whole).expect("JSON");
    json["head"].as_object_mut().expect("a table").remove("label_units").expect("units");
    std::fs::write(&index, json.to_string()).expect("writable");
    succeeds(at, &["pretrain", "stars.toml", "--data", "c", "--out", "r", "--quiet"]);
}
