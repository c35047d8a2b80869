//! `astropt verify`, from both files of weights.

use std::path::PathBuf;

use astropt_tests::{fails, shared, succeeds, workspace};

fn cases() -> Vec<PathBuf> {
    let mut cases = vec![workspace().join("tests/golden/v1_paper")];
    if let Some(golden) = shared("golden") {
        let names = [
            "v2_images",
            "v3_images_aim",
            "v3_images_affine",
            "v2_images_spectra",
            "v3_three_modalities",
            "v3_discrete",
        ];
        cases.extend(names.map(|name| golden.join(name)));
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
