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
