//! Spectra: windows, wavelengths, bad samples, and stars of the MILES library.

use std::io::Read;
use std::path::Path;

use astropt_core::observation::{Data, Observation};
use astropt_core::tokens::{Positions, Values};
use proptest::prelude::*;

use crate::fixtures::{columns, modality, shared};

const SCALE: &str = "positions = 'wavelength'\n\
                     wavelength_scale.linear = { offset = 5000.0, scale = 1000.0 }\n";

fn spectrum(flux: &[f32], start: f64, step: f64) -> Observation {
    let wavelengths = (0..flux.len()).map(|i| start + step * i as f64).collect();
    columns(vec![("flux", Data::F32(flux.to_vec())), ("wavelength", Data::F64(wavelengths))])
}

fn field(observation: &Observation, name: &str) -> Vec<f64> {
    observation.field(name).expect("there").array.data.to_f64().into_owned()
}

fn with(mut observation: Observation, name: &str, data: Data) -> Observation {
    let other = columns(vec![(name, data)]);
    observation.fields.extend(other.fields);
    observation
}

#[test]
fn a_window_is_standardised_as_the_formula_says() {
    let modality = modality("spectrum", "window = 4\nsamples = 8");
    let spectrum = spectrum(&[1.0, 2.0, 3.0, 6.0, 5.0, 5.0, 5.0, 5.0], 5000.0, 1.0);
    let tokens = modality.tokenise(&spectrum).expect("sound").expect("a spectrum");
    // Mean 3, unbiased variance (4 + 1 + 0 + 9) / 3.
    let deviation = (14.0f32 / 3.0).sqrt();
    for (found, x) in tokens.values.iter().zip([-2.0, -1.0, 0.0, 3.0]) {
        assert!((found - x / deviation).abs() < 1e-5, "{found}");
    }
    assert_eq!(tokens.values[4..], [0.0; 4]);
    assert_eq!((tokens.affine[0][0], tokens.affine[1][0]), (3.0, 5.0));
    assert_eq!(tokens.indices, [0, 1]);
}

#[test]
fn positions_are_scaled_wavelengths() {
    let spectrum = spectrum(&[1.0, 2.0, 3.0, 4.0], 5000.0, 100.0);
    let place = |table: &str| {
        let modality = modality("spectrum", &format!("window = 2\nsamples = 4\n{table}"));
        modality.tokenise(&spectrum).expect("sound").expect("a spectrum").positions
    };
    assert_eq!(place(SCALE), [0.0, 0.1, 0.2, 0.3]);
    assert_eq!(place(&SCALE.replace("'wave", "'mean-wave")), [0.05, 0.25]);
    let log = place("positions = 'wavelength'\nwavelength_scale.log10 = { scale = 0.5 }");
    assert_eq!(log[1], (5100f64.log10() / 0.5) as f32);
}

#[test]
fn bad_samples_follow_the_recipe() {
    let spectrum = spectrum(&[1.0, 9.0, 3.0, 4.0, f32::NAN, 6.0], 5000.0, 1.0);
    let spectrum = with(spectrum, "ivar", Data::F32(vec![1.0, 0.0, 1.0, 1.0, 1.0, 1.0]));
    let tokens = |bad: &str| {
        modality(
            "spectrum",
            &format!(
                "window = 2\nsamples = 6\nivar = 'ivar'\nstandardise = 'none'\nbad = '{bad}'\n{SCALE}"
            ),
        )
        .tokenise(&spectrum)
    };
    let error = tokens("refuse").expect_err("bad samples").to_string();
    assert!(error.contains("object-12") && error.contains("2 of 6"), "{error}");
    assert!(error.contains("sample 1") && error.contains("`bad`"), "{error}");
    let values = |bad| tokens(bad).expect("sound").expect("a spectrum").values;
    assert_eq!(values("zero"), [1.0, 0.0, 3.0, 4.0, 0.0, 6.0]);
    assert_eq!(values("interpolate"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(values("drop-window"), [3.0, 4.0]);
}

#[test]
fn a_spectrum_without_a_good_sample_may_be_absent() {
    let ivar = |spectrum, ivar: &[f32]| with(spectrum, "ivar", Data::F32(ivar.to_vec()));
    let empty = ivar(spectrum(&[1.0, 2.0, f32::NAN], 5000.0, 1.0), &[0.0, -1.0, 1.0]);
    let part = ivar(spectrum(&[1.0, 2.0, 3.0], 5000.0, 1.0), &[0.0, 1.0, 1.0]);
    for bad in ["refuse", "zero", "interpolate", "drop-window"] {
        let table = format!("window = 2\nsamples = 4\nivar = 'ivar'\nbad = '{bad}'");
        let refuse = modality("spectrum", &table);
        let error = refuse.tokenise(&empty).expect_err("no sample").to_string();
        assert!(error.contains("no sample") && error.contains("`empty = \"absent\"`"), "{error}");
        let absent = modality("spectrum", &format!("{table}\nempty = 'absent'"));
        assert_eq!(absent.tokenise(&empty).expect("absent"), None);
        assert_eq!(absent.raw_features(&empty).expect("absent"), None);
        let tokens = |modality: &dyn astropt_core::seam::Modality| {
            modality.tokenise(&part).map_err(|e| e.to_string())
        };
        assert_eq!(tokens(absent.as_ref()), tokens(refuse.as_ref()), "{bad}");
    }
}

/// Spectra of one length in a file are padded with what is no wavelength.
#[test]
fn wavelengths_of_bad_samples_need_not_be() {
    let flux = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 0.0];
    let ivar = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0];
    let padded = |pad: f64, good: f64| {
        let wavelengths = vec![5000.0, 5100.0, pad, 5300.0, good, 5500.0, pad, pad];
        let spectrum = columns(vec![("flux", Data::F32(flux.into()))]);
        let spectrum = with(spectrum, "ivar", Data::F32(ivar.into()));
        with(spectrum, "wavelength", Data::F64(wavelengths))
    };
    let tokens = |bad: &str, object: &Observation| {
        let table = format!("window = 2\nsamples = 8\nivar = 'ivar'\nbad = '{bad}'\n{SCALE}");
        modality("spectrum", &table).tokenise(object)
    };
    for pad in [-1.0, 0.0, f64::NAN] {
        let object = padded(pad, 5400.0);
        let dropped = tokens("drop-window", &object).expect("sound").expect("a spectrum");
        assert_eq!(dropped.positions, [0.0, 0.1, 0.4, 0.5]);
        for bad in ["interpolate", "zero"] {
            let whole = tokens(bad, &object).expect("sound").expect("a spectrum");
            for (k, &found) in whole.positions.iter().enumerate() {
                assert!((found - 0.1 * k as f32).abs() < 1e-5, "{bad}: {:?}", whole.positions);
            }
        }
        // That of a good sample must be one.
        for bad in ["drop-window", "interpolate", "zero"] {
            let error = tokens(bad, &padded(pad, pad)).expect_err(bad).to_string();
            assert!(error.contains("at sample 4"), "{error}");
        }
    }
}

#[test]
fn masks_count_by_their_bits() {
    let spectrum = spectrum(&[1.0, 2.0, 3.0, 4.0], 5000.0, 1.0);
    let spectrum = with(spectrum, "mask", Data::I64(vec![0, 4, 1 << 40, 0]));
    let kept = |line: &str| {
        let table = "window = 1\nsamples = 4\nstandardise = 'none'\nbad = 'drop-window'";
        let modality = modality("spectrum", &format!("{table}\nmask = 'mask'\n{line}"));
        modality.tokenise(&spectrum).expect("sound").expect("a spectrum").indices
    };
    assert_eq!(kept(""), [0, 3]);
    assert_eq!(kept("mask_bits = 4"), [0, 2, 3]);
    assert_eq!(kept("mask_bits = 1099511627776"), [0, 1, 3]);
}

/// Windows that were left out stay gaps in what the inverse gives.
#[test]
fn the_inverse_knows_which_windows_were_left_out() {
    let mut flux: Vec<f32> = (0..12).map(|x| x as f32).collect();
    flux[5] = f32::INFINITY;
    let spectrum = spectrum(&flux, 4000.0, 2.0);
    let expected: Vec<f64> = [0, 1, 2, 3, 8, 9, 10, 11].map(|i| 4000.0 + 2.0 * f64::from(i)).into();
    let linear = "wavelength_scale.linear = { offset = 5000.0, scale = 1000.0 }";
    for places in [
        SCALE.to_owned(),
        format!("positions = 'mean-wavelength'\n{linear}\ngrid.linear.step = 2.0"),
        "grid.linear = { start = 4000.0, step = 2.0 }".to_owned(),
    ] {
        let table = format!("window = 4\nsamples = 12\nbad = 'drop-window'\n{places}");
        let modality = modality("spectrum", &table);
        let tokens = modality.tokenise(&spectrum).expect("sound").expect("a spectrum");
        assert_eq!(tokens.len, 2);
        let back = modality.reconstruct(&tokens).expect("sound").expect("fields");
        for (found, expected) in field(&back, "wavelength").iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-3, "{places}: {found} and not {expected}");
        }
        for (found, expected) in field(&back, "flux").iter().zip([0., 1., 2., 3., 8., 9.]) {
            assert!((found - expected).abs() < 1e-5, "{places}");
        }
    }
}

#[test]
fn the_last_window_is_padded_or_left_out() {
    let spectrum = spectrum(&[1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 8.0], 5000.0, 1.0);
    let tokens = |line: &str| {
        let table = format!("window = 3\nsamples = 7\nstandardise = 'none'\n{line}");
        let modality = modality("spectrum", &table);
        let tokens = modality.tokenise(&spectrum).expect("sound").expect("a spectrum");
        (modality.detokenise(&tokens).expect("sound").data.to_f64().len(), tokens)
    };
    let (len, padded) = tokens("");
    assert_eq!((len, &padded.values[6..]), (9, [8.0, 0.0, 0.0].as_slice()));
    // With all wavelengths as positions, the padding is recognised.
    assert_eq!(tokens(SCALE).0, 7);
    assert_eq!(tokens("tail = 'drop'").0, 6);
}

#[test]
fn sdss_grids_are_even_in_the_logarithm() {
    let n = 40;
    let loglam = (0..n).map(|i| (3.58 + 1e-4 * i as f64) as f32).collect();
    let spectrum = columns(vec![("flux", Data::F32(vec![1.0; n])), ("loglam", Data::F32(loglam))]);
    let table = |step| {
        format!(
            "window = 8\nsamples = 40\nwavelength = 'loglam'\nwavelength_as = 'log10'\n\
             grid.log10.step = {step}\npositions = 'mean-wavelength'\n\
             wavelength_scale.log10 = {{ offset = 3.6, scale = 0.1 }}\nmedium = 'vacuum'"
        )
    };
    let sdss = modality("spectrum", &table("1e-4"));
    let tokens = sdss.tokenise(&spectrum).expect("sound").expect("a spectrum");
    let back = sdss.reconstruct(&tokens).expect("sound").expect("fields");
    for (found, expected) in field(&back, "loglam").iter().zip(field(&spectrum, "loglam")) {
        assert!((found - expected).abs() < 1e-6, "{found} and not {expected}");
    }
    assert!(sdss.choices().iter().any(|(_, choice)| choice.contains("vacuum")));
    let wrong = modality("spectrum", &table("2e-4"));
    let error = wrong.tokenise(&spectrum).expect_err("another grid").to_string();
    assert!(error.contains("sample 1") && error.contains("`grid`"), "{error}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let good = spectrum(&[1.0, 2.0, 3.0, 4.0], 5000.0, 1.0);
    let tokenise = |line: &str, observation: &Observation| {
        let modality = modality("spectrum", &format!("window = 2\nsamples = 4\n{line}"));
        modality.tokenise(observation).expect_err(line).to_string()
    };
    let mut nanometres = good.clone();
    nanometres.fields.get_mut("wavelength").expect("there").unit = Some("nm".to_owned());
    let angstrom = format!("wavelength_unit = 'Angstrom'\n{SCALE}");
    let falling = with(good.clone(), "wavelength", Data::F64(vec![4.0, 3.0, 2.0, 1.0]));
    let negative = spectrum(&[-1.0; 4], 5000.0, 1.0);
    let blurred = spectrum(&[1.0; 4], 5600.0, 1e-7);
    for (line, observation, words) in [
        ("ivar = 'IVAR'", &good, "no field \"IVAR\""),
        (SCALE, &columns(vec![("flux", Data::F32(vec![1.0; 4]))]), "\"wavelength\""),
        (angstrom.as_str(), &nanometres, "\"nm\""),
        (SCALE, &falling, "ascend"),
        (SCALE, &blurred, "single precision"),
        ("standardise = 'median'", &negative, "median -1"),
        ("", &spectrum(&[1.0; 5], 1.0, 1.0), "`samples`"),
        ("bad = 'zero'", &spectrum(&[f32::NAN; 4], 1.0, 1.0), "no sample"),
    ] {
        let error = tokenise(line, observation);
        assert!(error.contains("object-12") && error.contains(words), "{line}: {error}");
    }
}

/// Token widths, positions and weights of the recorded models with spectra, light curves
/// and codes can be said in recipes.
#[test]
fn recorded_models_can_be_described() {
    let Some(root) = shared("golden") else { return };
    let spectra = format!("window = 16\nsamples = 1024\nloss_weight = 0.5\n{SCALE}");
    let photometry = "max_tokens = 64\nloss_weight = 0.7\npositions.periodic = [100.0]";
    let codes = "vocabulary = 23\nmax_tokens = 64";
    for (case, name, kind, table) in [
        ("v2_images_spectra", "spectra", "spectrum", spectra.as_str()),
        ("v3_three_modalities", "spectra", "spectrum", &spectra),
        ("v3_three_modalities", "photometry", "time-series", photometry),
        ("v3_discrete", "aion_tokens", "codes", codes),
    ] {
        let text = std::fs::read_to_string(root.join(case).join("case.json")).expect("readable");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let all = json["modalities"].as_array().expect("modalities");
        let recorded = all.iter().find(|m| m["name"] == name).expect(name);
        let size = |key: &str| recorded[key].as_u64().expect(key) as usize;
        let spec = modality(kind, table).spec();
        assert_eq!(spec.values.size(), size("input_size"), "{case} {name}");
        assert_eq!(matches!(spec.values, Values::Codes { .. }), recorded["vocab_size"].is_u64());
        match spec.positions {
            Positions::Continuous { width } => assert_eq!(width, size("pos_input_size"), "{name}"),
            Positions::Index { .. } => assert_eq!(recorded["embed_pos"], true),
        }
        assert_eq!(
            f64::from(spec.loss_weight) as f32,
            recorded["loss_weight"].as_f64().expect("a weight") as f32
        );
    }
}

/// An array of numbers from a .npz file.
fn npz(path: &Path, name: &str) -> Vec<f32> {
    let file = std::fs::File::open(path).expect("readable");
    let mut archive = zip::ZipArchive::new(file).expect("a zip archive");
    let mut bytes = Vec::new();
    let mut entry = archive.by_name(&format!("{name}.npy")).expect(name);
    entry.read_to_end(&mut bytes).expect("readable");
    npyz::NpyFile::new(&bytes[..]).expect("npy").into_vec().expect("single precision")
}

#[test]
fn stars_of_miles_come_back() {
    let Some(path) = shared("data/spectra/miles_stars_dev/spectra.npz") else { return };
    let (wavelength, flux) = (npz(&path, "wavelength"), npz(&path, "flux"));
    let table = format!("window = 43\nsamples = 4300\nmedium = 'air'\n{SCALE}");
    let exact = modality("spectrum", &table);
    let even = modality(
        "spectrum",
        &table
            .replace("'wavelength'", "'mean-wavelength'")
            .replace("window", "grid.linear = { start = 3540.5, step = 0.9 }\nwindow"),
    );
    let stars = flux.chunks_exact(wavelength.len());
    assert!(stars.len() > 100);
    for star in stars {
        let star = columns(vec![
            ("flux", Data::F32(star.to_vec())),
            ("wavelength", Data::F32(wavelength.clone())),
        ]);
        for modality in [&exact, &even] {
            let tokens = modality.tokenise(&star).expect("sound").expect("a star");
            assert_eq!(tokens.len, 100);
            let back = modality.reconstruct(&tokens).expect("sound").expect("fields");
            for (name, within) in [("flux", 1e-5), ("wavelength", 1e-2)] {
                for (a, b) in field(&back, name).iter().zip(field(&star, name)) {
                    assert!((a - b).abs() < within, "{name}: {a} and not {b}");
                }
            }
            assert_eq!(modality.raw_features(&star).expect("sound").map(|f| f.len()), Some(256));
        }
    }
}

proptest! {
    #[test]
    fn fluxes_come_back_in_any_unit(
        numbers in proptest::collection::vec(-1.0f32..1.0, 2..90),
        exponent in -25i32..25,
        window in 2usize..20,
        kind in 0usize..3,
    ) {
        let unit = 10f32.powi(exponent);
        let flux: Vec<f32> = numbers.iter().map(|x| x * unit).collect();
        let standardise = ["'window'", "'robust'", "'none'"][kind];
        let window = window.min(flux.len());
        let table = format!("window = {window}\nsamples = 100\nstandardise = {standardise}\n{SCALE}");
        let modality = modality("spectrum", &table);
        let tokens = modality.tokenise(&spectrum(&flux, 4800.0, 3.0)).expect("sound").expect("one");
        let back = modality.detokenise(&tokens).expect("sound");
        prop_assert_eq!(back.data.len(), flux.len());
        for (a, b) in back.data.to_f32().iter().zip(&flux) {
            prop_assert!((a - b).abs() <= 2e-6 * unit, "{} and not {}", a, b);
        }
    }
}
