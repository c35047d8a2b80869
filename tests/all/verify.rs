//! `astropt verify`, from both files of weights.

use std::path::PathBuf;

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
