//! What every plugin owes, and what this one promises beyond.

use std::path::Path;
use std::process::Command;

use astropt_core::observation::{Array, Data, Field, Observation};
use astropt_core::seam::{Modality, find_modality};
use astropt_core::testkit;
use astropt_sed as _;

const RECIPE: &str = "wavelengths = [3557, 4702, 6176, 7490]\nsoftening = 2.0\n";

fn object(flux: &[f64], error: &[f64], unit: Option<&str>) -> Observation {
    let field = |numbers: &[f64]| Field {
        array: Array { shape: vec![numbers.len()], data: Data::F64(numbers.to_vec()) },
        unit: unit.map(str::to_owned),
    };
    let fields = [("flux".to_owned(), field(flux)), ("flux_error".to_owned(), field(error))];
    Observation { id: "HD 1".into(), fields: fields.into(), ..Observation::default() }
}

fn sed(unit: &str) -> Box<dyn Modality> {
    let table = format!("{RECIPE}unit = '{unit}'").parse().expect("TOML");
    let plugin = find_modality("sed").expect("registered");
    (plugin.parse)(table).expect("a sound table").build().expect("a sound configuration")
}

#[test]
fn the_plugin_conforms() {
    testkit::check_registered().unwrap_or_else(|wrong| panic!("{wrong}"));
    let wavelengths = "objects = 40\nwavelengths = [1535, 6176, 46028]";
    testkit::source::check("black-bodies", wavelengths, Path::new("")).expect("a sound source");
}

#[test]
fn photometry_comes_back_in_its_own_unit() {
    let fluxes = [12.0, -0.5, f64::NAN, 250.0];
    let magnitudes = [21.3, 18.0, -99.0, 25.1];
    for (unit, values) in [("uJy", fluxes), ("nanomaggy", fluxes), ("mag", magnitudes)] {
        let sample = testkit::modality::Sample {
            config: &format!("{RECIPE}unit = '{unit}'"),
            observation: object(&values, &[0.5, 0.2, -1.0, 0.3], Some(unit)),
            field: "flux",
            inverse_within: Some(1e-4),
            // A band without a positive error was not measured, whatever number stands there.
            lost: &[2],
            // An object without any band that was measured has no photometry.
            may_lack: true,
            ..Default::default()
        };
        testkit::modality::check("sed", &sample).unwrap_or_else(|wrong| panic!("{unit}: {wrong}"));
    }
}

/// The same star in three units makes the same tokens.
#[test]
fn tokens_do_not_depend_on_the_unit() {
    let tokens = |unit: &str, flux: f64, error: f64| {
        let object = object(&[flux; 4], &[error; 4], Some(unit));
        sed(unit).tokenise(&object).expect("sound").expect("photometry").values
    };
    let expected = tokens("uJy", 3.631, 0.03631);
    for (unit, flux, error) in [("nanomaggy", 1.0, 0.01), ("mag", 22.5, 0.010857)] {
        let found = tokens(unit, flux, error);
        let close = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(close, "{unit}: {found:?}, not {expected:?}");
    }
}

#[test]
fn only_measured_bands_have_tokens() {
    let some = object(&[1.0, f64::NAN, 3.0, 4.0], &[0.1, 0.1, -99.0, 0.1], None);
    let tokens = sed("uJy").tokenise(&some).expect("sound").expect("photometry");
    assert_eq!(tokens.len, 2);
    let places: Vec<f64> = tokens.positions.iter().map(|&p| 1e4 * 10f64.powf(p.into())).collect();
    assert!((places[0] - 3557.0).abs() < 0.1 && (places[1] - 7490.0).abs() < 0.1, "{places:?}");
    let none = object(&[f64::NAN; 4], &[0.1; 4], None);
    assert_eq!(sed("uJy").tokenise(&none).expect("sound"), None);
}

#[test]
fn a_file_in_another_unit_is_refused() {
    let object = object(&[1.0; 4], &[0.1; 4], Some("mJy"));
    let error = sed("uJy").tokenise(&object).expect_err("another unit").to_string();
    assert!(
        error.contains("HD 1") && error.contains("\"mJy\"") && error.contains("`unit`"),
        "{error}"
    );
}

/// The program with this plugin runs its recipe, and the model learns.
#[test]
fn the_recipe_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_astropt-sed"))
        .args(["run", "stars-sed", "--quiet", "--out", "run", "--set", "train.steps=60"])
        .args(["--set", "source.objects=400", "--set", "train.eval_every=30"])
        .current_dir(folder.path())
        .output()
        .expect("the program runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(folder.path().join("run/report.html").exists());
}
