//! Bad input: one clear sentence that names the file and the way out, no panic, and
//! nothing half-written.

use std::path::{Path, PathBuf};

use crate::program::{fails, shared, succeeds, unlist};
use image::{Rgb, RgbImage};

/// A folder of `count` small pictures, `g000.png` and so on.
pub(crate) fn pictures(folder: &Path, count: u32) -> PathBuf {
    let data = folder.join("data");
    std::fs::create_dir_all(&data).expect("writable");
    for k in 0..count {
        let picture = RgbImage::from_fn(32, 32, |x, y| {
            let r2 = (f64::from(x) - 16.0).powi(2) + (f64::from(y) - 16.0).powi(2);
            let light = 200.0 * (-r2 / f64::from(20 + k)).exp();
            Rgb([light as u8, (x * 3 + k) as u8, (y * 5) as u8])
        });
        picture.save(data.join(format!("g{k:03}.png"))).expect("writable");
    }
    data
}

/// A run of seconds on a folder of 32-pixel pictures.
pub(crate) fn on_pictures<'a>(data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["pretrain", "galaxy-grz", "--data", data, "--out", "r", "--quiet"];
    for set in [
        "modality.images.size=32",
        "modality.images.patch=8",
        "modality.images.positions=16",
        "model={layers=1,heads=2,width=16}",
        "train={steps=2,batch=4,micro_batch=4,warmup_steps=1,decay_steps=2,eval_batches=1}",
        "split.validation_fraction=0.2",
    ] {
        arguments.extend(["--set", set]);
    }
    arguments.extend(more);
    arguments
}

#[test]
fn an_empty_and_a_missing_folder_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("empty")).expect("writable");
    for name in ["empty", "missing"] {
        let error = fails(folder.path(), &on_pictures(name, &[]), 1);
        assert!(error.contains(name), "{error}");
        // It may be there seen from another folder.
        let elsewhere = error.contains("missing is a relative path, which starts at");
        assert_eq!(elsewhere, name == "missing", "{error}");
    }
    assert!(!folder.path().join("r").exists(), "nothing half-written");
}

/// Truncated, not an image at all, and too small: the file is named and, when the budget
/// allows, skipped and listed.
#[test]
fn unusable_images_are_named_then_skipped_within_the_budget() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = pictures(folder.path(), 30);
    let bytes = std::fs::read(data.join("g003.png")).expect("readable");
    std::fs::write(data.join("g003.png"), &bytes[..bytes.len() / 2]).expect("writable");
    std::fs::write(data.join("g007.png"), "not a picture").expect("writable");
    RgbImage::new(8, 8).save(data.join("g011.png")).expect("writable");

    let error = fails(folder.path(), &on_pictures("data", &[]), 1);
    assert!(error.contains("train.max_rejected"), "{error}");
    assert!(["g003", "g007", "g011"].iter().any(|name| error.contains(name)), "{error}");

    // 8 steps of 4 show every training object.
    let more = ["--overwrite", "--set", "train.max_rejected=0.2", "--set", "train.steps=8"];
    succeeds(folder.path(), &on_pictures("data", &more));
    succeeds(folder.path(), &["embed", "r", "--quiet", "--set", "embed.tokens=all"]);
    let rejected = std::fs::read_to_string(folder.path().join("r/rejected.csv")).expect("there");
    for name in ["g003", "g007", "g011"] {
        assert!(rejected.contains(name), "{name} is not in rejected.csv:\n{rejected}");
    }
}

#[test]
fn pixels_that_are_not_numbers_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = pictures(folder.path(), 10);
    let mut picture = image::Rgb32FImage::from_pixel(32, 32, Rgb([0.5, 0.25, 1.0]));
    picture.put_pixel(4, 5, Rgb([0.5, f32::NAN, 1.0]));
    picture.save(data.join("nan.tiff")).expect("writable");
    let arguments = [
        "tokenise",
        "--recipe",
        "galaxy-grz",
        "--set",
        "modality.images.size=32",
        "data/nan.tiff",
        "--out",
        "x.safetensors",
    ];
    let error = fails(folder.path(), &arguments, 1);
    assert!(error.contains("nan"), "{error}");
    assert!(!folder.path().join("x.safetensors").exists(), "nothing half-written");
}

#[test]
fn labels_that_match_no_file_are_told_so() {
    let folder = tempfile::tempdir().expect("a folder");
    pictures(folder.path(), 10);
    std::fs::write(folder.path().join("data/other.csv"), "name,T\nPGC1,3\nPGC2,4\n")
        .expect("writable");
    let more = ["--set", "source.labels=other.csv"];
    let error = fails(folder.path(), &on_pictures("data", &more), 1);
    assert!(error.contains("other.csv"), "{error}");
}

#[test]
fn a_recipes_error_has_its_line_and_column() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = |text: &str| {
        std::fs::write(folder.path().join("mine.toml"), text).expect("writable");
        fails(folder.path(), &["pretrain", "mine.toml", "--demo"], 2)
    };
    let head = "extends = 'galaxy-grz'\n[train]\n";
    for (text, expected) in [
        (format!("{head}  stpes = 3\n"), "mine.toml:3:3: train.stpes"),
        (format!("{head}clip = 'many'\n"), "mine.toml:3:1: train.clip"),
        (
            format!("{head}[scale.demo.train]\nmicro_batch = 7\n"),
            "mine.toml:4:1: train.micro_batch",
        ),
        ("extends = 'galaxy-grz'\n[modality.images]\norder = 'spirl'\n".into(), "mine.toml:3:1"),
        ("extends = 'galaxy-grz'\n[modality.images]\nkind = 'galaxy'\n".into(), "mine.toml:3:1"),
        ("extends = 'galaxy-gz'\n".into(), "did you mean \"galaxy-grz\"?"),
        ("extends = 'mine.toml'\n".into(), "circle"),
        ("steps == 3\n".into(), "mine.toml:1:"),
        ("extends = 'galaxy-grz'\ntrian = {}\n".into(), "mine.toml:2:1: trian"),
    ] {
        let error = recipe(&text);
        assert!(error.contains(expected), "{text}\n{error}");
    }
}

#[test]
fn a_checkpoint_of_another_shape_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    pictures(folder.path(), 20);
    succeeds(folder.path(), &on_pictures("data", &[]));
    let wider = ["--set", "model.width=32", "--out", "wide"];
    let mut arguments = on_pictures("data", &[]);
    let at = arguments.iter().position(|&a| a == "r").expect("the folder");
    arguments[at] = wider[3];
    arguments.extend(&wider[..2]);
    succeeds(folder.path(), &arguments);
    let model = "checkpoints/step-000002/model.safetensors";
    let (from, to) = (folder.path().join("wide").join(model), folder.path().join("r").join(model));
    std::fs::copy(from, &to).expect("writable");
    unlist(to.parent().expect("a checkpoint"));
    let error = fails(folder.path(), &["pretrain", "--resume", "--out", "r"], 1);
    assert!(error.contains("another shape") && error.contains("model.safetensors"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    pictures(folder.path(), 10);
    std::fs::write(folder.path().join("file"), "").expect("writable");
    let mut arguments = on_pictures("data", &[]);
    let at = arguments.iter().position(|&a| a == "r").expect("the folder");
    arguments[at] = "file/run";
    let error = fails(folder.path(), &arguments, 1);
    assert!(error.contains("file/run"), "{error}");
}

/// A real JPEG cut short is refused, not half-read.
#[test]
fn a_truncated_jpeg_is_refused() {
    let Some(stamps) = shared("data/galaxies/efigi_trainval_88px/images") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let stamp = std::fs::read_dir(stamps).expect("readable").flatten().next().expect("a stamp");
    let bytes = std::fs::read(stamp.path()).expect("readable");
    let out = folder.path().join("t.safetensors");
    let out = out.to_str().expect("UTF-8");
    for (kept, works) in [(bytes.len(), true), (bytes.len() * 3 / 4, false), (100, false)] {
        let file = folder.path().join("cut.jpg");
        std::fs::write(&file, &bytes[..kept]).expect("writable");
        let arguments = ["tokenise", "--recipe", "efigi", "cut.jpg", "--out", out];
        if works {
            let line = succeeds(folder.path(), &arguments);
            assert!(line.contains("121 images tokens of 192"), "{line}");
            std::fs::remove_file(out).expect("written");
        } else {
            let error = fails(folder.path(), &arguments, 1);
            assert!(error.contains("cut.jpg"), "{error}");
            assert!(!Path::new(out).exists(), "nothing half-written");
        }
    }
}
