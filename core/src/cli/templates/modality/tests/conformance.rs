//! What every modality owes, and what this one promises beyond.

use std::process::Command;

use astropt_core::observation::{Array, Data, Field, Observation};
use astropt_core::seam::find_modality;
use astropt_core::testkit;
use astropt_new_modality as _;

const TABLE: &str = "samples = 12\nwindow = 4\noffset = 2.0\nscale = 0.5\nunit = 'mJy'";

// PHYSICS: an object as your instrument sees it.
fn object() -> Observation {
    let numbers: Vec<f64> = (0..12).map(|t| 2.0 + (0.7 * f64::from(t)).sin()).collect();
    let array = Array { shape: vec![12], data: Data::F64(numbers) };
    let field = Field { array, unit: Some("mJy".into()) };
    Observation {
        id: "J0534+2200".into(),
        fields: [("samples".into(), field)].into(),
        ..Observation::default()
    }
}

/// Spec and tokens agree, tokens go back within the stated error, the same object gives the
/// same tokens, and nothing that a file can hold makes it panic.
#[test]
fn the_modality_conforms() {
    testkit::check_registered().unwrap_or_else(|wrong| panic!("{wrong}"));
    // PHYSICS: how far numbers may be off once they went to tokens and back, in their own unit.
    // `Sample` also has `lost` for places that do not come back, `range` for numbers that are
    // clipped, and `may_lack`.
    let sample = testkit::modality::Sample {
        config: TABLE,
        observation: object(),
        field: "samples",
        inverse_within: Some(1e-5),
        ..Default::default()
    };
    testkit::modality::check("new-modality", &sample).unwrap_or_else(|wrong| panic!("{wrong}"));
}

// PHYSICS: a test for each thing you decided, such as what becomes of bad values.
#[test]
fn a_bad_sample_and_another_unit_are_refused() {
    let plugin = find_modality("new-modality").expect("registered");
    let config = (plugin.parse)(TABLE.parse().expect("TOML")).expect("a sound table");
    let modality = config.build().expect("a sound configuration");
    let refused = |change: fn(&mut Field), word: &str| {
        let mut object = object();
        object.fields.values_mut().for_each(change);
        let error = modality.tokenise(&object).expect_err(word).to_string();
        assert!(error.contains("J0534+2200") && error.contains(word), "{error}");
    };
    refused(|field| field.array.data = Data::F64(vec![f64::NAN; 12]), "sample 0");
    refused(|field| field.unit = Some("Jy".into()), "\"Jy\"");
    // A prefix that another case makes another.
    refused(|field| field.unit = Some("MJy".into()), "\"MJy\"");
}

/// The program runs the recipe on `data/`, from tokens to report.
#[test]
fn the_recipe_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_astropt-new-modality"))
        .args(["run", "recipe.toml", "--quiet", "--set", "train.steps=20", "--out"])
        .arg(folder.path().join("run"))
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(folder.path().join("run/report.html").exists());
}
