//! `astropt verify`, from both files of weights.

use std::path::PathBuf;

use astropt_core::checkpoint::tensors::{load_tensors, save_tensors};

use crate::program::{fails, shared, succeeds, workspace};

fn cases() -> Vec<PathBuf> {
    let single = ["v1_paper", "v2_images", "v3_images_aim", "v3_images_affine"];
    let golden = workspace().join("tests/golden");
    let mut cases: Vec<_> = single.iter().map(|name| golden.join(name)).collect();
    if let Some(golden) = shared("golden") {
        let several = ["v2_images_spectra", "v3_three_modalities", "v3_discrete"];
        cases.extend(several.map(|name| golden.join(name)));
    }
    cases
}

/// Every quantity agrees, from safetensors and from the pickled checkpoint alike.
#[test]
fn recorded_cases_agree() {
    for case in cases() {
        let case = case.to_str().expect("UTF-8");
        for weights in ["weights.safetensors", "ckpt.pt"] {
            let lines = succeeds(workspace(), &["verify", case, "--weights", weights, "--json"]);
            let mut quantities = 0;
            for line in lines.lines() {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                assert_eq!(line["ok"], true, "{weights}: {line}");
                assert!(line["tolerance"].as_f64() <= Some(5e-5), "{line}");
                quantities += 1;
            }
            assert!(quantities > 40, "{case}: only {quantities} quantities");
        }
    }
}

/// Every comparison of `case`, as `astropt verify --json` prints them.
fn comparisons(case: &str) -> Vec<serde_json::Value> {
    let lines = succeeds(workspace(), &["verify", case, "--json"]);
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Tokens of pictures and the order of patches are recordings of a modality, not of a model.
#[test]
fn recorded_tokens_and_spirals_agree() {
    let own = workspace().join("modalities/tests/golden");
    let mut recordings = vec![(own.clone(), 2), (own.join("spiral.json"), 5)];
    recordings.extend(shared("golden/tokens").map(|path| (path, 16)));
    recordings.extend(shared("golden/v3_images_mae").map(|path| (path, 2)));
    for (path, least) in recordings {
        let all = comparisons(path.to_str().expect("UTF-8"));
        assert!(all.len() >= least && all.iter().all(|line| line["ok"] == true), "{all:?}");
    }
}

/// A pixel changed after the recording, an array that no one understands: both disagree.
#[test]
fn recorded_tokens_disagree_where_they_should() {
    let folder = tempfile::tempdir().expect("a folder");
    let from = workspace().join("modalities/tests/golden");
    let put = |name: &str, as_name: &str| {
        std::fs::copy(from.join(name), folder.path().join(as_name)).expect("copies");
    };
    put("class_0_4.safetensors", "a.safetensors");
    let mut picture = image::open(from.join("class_0_4.png")).expect("a picture").to_rgb8();
    let pixel = picture.get_pixel_mut(40, 40);
    pixel.0[0] = pixel.0[0].wrapping_add(60);
    picture.save(folder.path().join("a.png")).expect("saves");
    let path = folder.path().to_str().expect("UTF-8");
    let output = crate::program::astropt(workspace(), &["verify", path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("DISAGREES"));
    std::fs::remove_file(folder.path().join("a.png")).expect("removes");
    let error = fails(workspace(), &["verify", path], 1);
    assert!(error.contains("no case.json"), "{error}");
}

/// What a folder of pictures lacks was not compared: an array that another picture has, a picture
/// without tokens, tokens without a picture.
#[test]
fn recorded_tokens_that_are_not_whole_disagree() {
    let folder = tempfile::tempdir().expect("a folder");
    let from = workspace().join("modalities/tests/golden");
    let at = |name: &str| folder.path().join(name);
    for name in ["a", "b"] {
        for ending in ["png", "safetensors"] {
            let copy = at(&format!("{name}.{ending}"));
            std::fs::copy(from.join(format!("class_0_4.{ending}")), copy).expect("copies");
        }
    }
    let path = folder.path().to_str().expect("UTF-8");
    let disagreeing = || -> Vec<String> {
        let output = crate::program::astropt(workspace(), &["verify", path, "--json"]);
        let lines = String::from_utf8(output.stdout).expect("UTF-8");
        let lines = lines.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        let bad: Vec<serde_json::Value> =
            lines.filter(|line: &serde_json::Value| line["ok"] == false).collect();
        assert_eq!(output.status.success(), bad.is_empty());
        let name = |line: &serde_json::Value| {
            let [case, quantity] =
                ["case", "quantity"].map(|key| line[key].as_str().expect("text"));
            format!("{case} {quantity}")
        };
        bad.iter().map(name).collect()
    };
    assert!(disagreeing().is_empty());
    let (mut arrays, metadata) = load_tensors(at("b.safetensors")).expect("loads");
    arrays.pop_first().expect("an array");
    save_tensors(at("b.safetensors"), &arrays, &metadata).expect("saves");
    assert_eq!(disagreeing(), ["b p16.spiral.hub"]);
    std::fs::remove_file(at("b.png")).expect("removes");
    assert_eq!(disagreeing(), ["b picture"]);
    std::fs::rename(at("b.safetensors"), at("a.safetensors")).expect("renames");
    std::fs::copy(at("a.png"), at("b.png")).expect("copies");
    assert_eq!(disagreeing(), ["b tokens"]);
}

/// A recording in which there is nothing agrees with nothing.
#[test]
fn recordings_of_nothing_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let refused = |path: &std::path::Path| {
        let error = fails(workspace(), &["verify", path.to_str().expect("UTF-8")], 1);
        assert!(error.contains("nothing that could be compared"), "{error}");
    };
    std::fs::write(at("spiral.json"), r#"{"spiral":{}}"#).expect("written");
    refused(&at("spiral.json"));
    let from = workspace().join("modalities/tests/golden/class_0_4.png");
    std::fs::copy(from, at("a.png")).expect("copies");
    save_tensors(at("a.safetensors"), &[].into(), &[].into()).expect("saves");
    refused(folder.path());
}

#[test]
fn a_case_that_is_not_there_is_named() {
    let error = fails(workspace(), &["verify", "no/such/case"], 1);
    assert!(error.contains("no/such/case"), "{error}");
}

/// A folder that is no case is told and fails; the others are still compared.
#[test]
fn one_bad_case_does_not_hide_the_others() {
    let arguments = ["verify", "no/such/case", "tests/golden/v1_paper"];
    let output = crate::program::astropt(workspace(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("quantities agree"), "{text}");
}
