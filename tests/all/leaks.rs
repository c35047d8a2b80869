//! Splits by tiles of the sky, and the check for objects that are in two splits.

use std::path::Path;

use image::{Rgb, RgbImage, imageops};

use crate::program::{fails, program, succeeds};

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
    let mut arguments = vec!["leaks", "galaxy-grz", "--data", "data", "--json", "--quiet"];
    arguments.extend(["--set", "split.column=split"]);
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
    let (found, code) = leaks(folder.path(), &["--separation", "3"]);
    assert_eq!(code, Some(1));
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let mut sky = pairs(&found, "sky");
    sky.sort();
    assert_eq!(sky, [pair("g006", "g007"), pair("g006", "g008")], "{found}");
    let expected = [pair("g009", "g010"), pair("g012", "g013"), pair("g015", "g016")];
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
    assert!(said.contains("g009") && said.contains("3 by their pixels"), "{said}");
    let size = ["--set", "modality.images.size=64", "--set", "modality.images.positions=16"];
    let convert = ["convert", "galaxy-grz", "--data", "data", "--out", "converted", "--quiet"];
    succeeds(folder.path(), &[&convert[..], &size].concat());
    let converted = [&["--data", "converted"][..], &size].concat();
    let mut arguments = vec!["leaks", "galaxy-grz", "--json", "--quiet"];
    arguments.extend(["--set", "split.column=split"]);
    arguments.extend(converted);
    let output = crate::program::astropt(folder.path(), &arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: serde_json::Value = serde_json::from_str(text.trim()).expect("JSON");
    assert!(pairs(&found, "pixels").contains(&pair("g009", "g010")), "{found}");
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
