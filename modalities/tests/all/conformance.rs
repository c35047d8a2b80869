//! The behaviour that every plugin of a seam owes, for the plugins of this crate.

use astropt_core::observation::{Array, Data, Field, Observation};
use astropt_core::testkit;
use astropt_modalities as _;

use crate::fixtures::{bytes, columns, object, shared};

#[test]
fn every_plugin_is_sound_without_data() {
    testkit::check_registered().expect("sound plugins");
}

#[test]
fn galaxy_image_conforms() {
    let flux: Vec<f32> = bytes(40 * 40 * 2).iter().map(|&x| f32::from(x) * 0.01 - 0.3).collect();
    let shorts: Vec<u16> = bytes(9 * 9).iter().map(|&x| u16::from(x) * 257).collect();
    let samples = [
        ("size = 48\npatch = 16", object([48, 48, 3], Data::U8(bytes(48 * 48 * 3))), 1e-3),
        (
            "size = 40\npatch = 8\nbands = 2\nstretch = { arcsinh = 0.02 }\naxes = 'hub'\n\
             preview = 'asinh'\npositions = 64",
            object([40, 40, 2], Data::F32(flux)),
            1e-4,
        ),
        (
            "size = 9\npatch = 3\nbands = 1\nstandardise = 'none'\norder = 'raster'",
            object([9, 9, 1], Data::U16(shorts)),
            0.0,
        ),
    ];
    for (config, observation, within) in samples {
        let sample = testkit::modality::Sample {
            config,
            observation,
            field: "image",
            inverse_within: Some(within),
            ..Default::default()
        };
        testkit::modality::check("galaxy-image", &sample).expect(config);
    }
}

/// Each table with an object, and how far what comes back may be off; `may_lack` as in
/// [`testkit::modality::Sample`].
fn conforms(kind: &str, samples: &[(&str, &Observation, f64)], field: &str, may_lack: bool) {
    for (config, observation, within) in samples {
        let sample = testkit::modality::Sample {
            config,
            observation: (*observation).clone(),
            field,
            inverse_within: Some(*within),
            may_lack,
            ..Default::default()
        };
        testkit::modality::check(kind, &sample).unwrap_or_else(|e| panic!("{config}\n{e}"));
    }
}

#[test]
fn spectrum_conforms() {
    let n = 120;
    let noise = bytes(n).into_iter().map(f32::from);
    let lines = (0..n).map(|i| (i as f32 * 0.2).sin() * 5.0);
    let flux: Vec<f32> = lines.zip(noise).map(|(line, noise)| 9.0 + line + noise * 0.01).collect();
    let spectrum = columns(vec![
        ("flux", Data::F32(flux)),
        ("ivar", Data::F32(vec![2.0; n])),
        ("mask", Data::I64(vec![4; n])),
        ("wavelength", Data::F64((0..n).map(|i| 3800.0 + 1.25 * i as f64).collect())),
    ]);
    let scale = "wavelength_scale = { linear = { offset = 6000.0, scale = 2000.0 } }";
    let log = "wavelength_scale.log10 = { offset = 3.6, scale = 0.1 }";
    let longer = format!(
        "window = 50\nsamples = 200\npositions = 'wavelength'\n{scale}\nivar = 'ivar'\n\
         bad = 'interpolate'\nmask = 'mask'\nmask_bits = 3"
    );
    let mean = format!(
        "window = 8\nsamples = 120\npositions = 'mean-wavelength'\n{log}\nbad = 'drop-window'\n\
         grid.linear.step = 1.25\nstandardise = 'robust'\ntail = 'drop'\nstretch.arcsinh = 2.0"
    );
    let samples = [
        ("window = 10\nsamples = 120\nposition_rows = 64", &spectrum, 1e-5),
        (longer.as_str(), &spectrum, 1e-5),
        (mean.as_str(), &spectrum, 1e-4),
        ("window = 1\nsamples = 120\nstandardise = 'median'\nbad = 'zero'", &spectrum, 1e-5),
        (
            "window = 4\nsamples = 120\nstandardise.affine = { offset = 9, scale = 5 }",
            &spectrum,
            1e-5,
        ),
        ("window = 120\nsamples = 120\nstandardise = 'none'", &spectrum, 0.0),
    ];
    conforms("spectrum", &samples, "flux", false);
}

#[test]
fn time_series_conforms() {
    let n = 60;
    let noise: Vec<f64> = bytes(n).into_iter().map(|x| f64::from(x) / 256.0).collect();
    let time = (0..n).map(|i| 58_000.0 + 1.5 * i as f64 + noise[i]).collect();
    let curve = columns(vec![
        ("time", Data::F64(time)),
        ("value", Data::F32((0..n).map(|i| 18.0 + (i as f32 * 0.3).sin()).collect())),
        ("magerr", Data::F32(noise.iter().map(|&x| 0.05 + 0.1 * x as f32).collect())),
        ("fid", Data::I64((0..n).map(|i| 1 + (i % 2) as i64).collect())),
        ("quality", Data::U16(vec![0; n])),
    ]);
    let samples = [
        ("max_tokens = 60\npositions = { affine = 100.0 }", &curve, 1e-5),
        (
            "max_tokens = 64\npositions = { periodic = [1.0, 30.0, 1000.0] }\nerror = 'magerr'\n\
             band = 'fid'\nbands = [1, 2]\nquality = 'quality'\nbad = 'drop'\nunit = 'mag'",
            &curve,
            1e-5,
        ),
        (
            "window = 7\nmax_tokens = 9\npositions = { affine = 10.0 }\nzero = 58000.0\n\
             error = 'magerr'\nband = 'fid'\nbands = [1, 2]\nband_as = 'token'\nnext = false\n\
             standardise = { affine = { offset = 18, scale = 0.5 } }\nother_bands = 'drop'",
            &curve,
            1e-5,
        ),
    ];
    conforms("time-series", &samples, "value", false);
    let absent = [(
        "window = 12\nmax_tokens = 5\npositions = { periodic = [500.0] }\ntail = 'drop'\n\
         error = 'magerr'\nstretch = { arcsinh = 3.0 }\nshort = 'absent'\nkeep = 'strided'",
        &curve,
        1e-4,
    )];
    conforms("time-series", &absent, "value", true);
}

#[test]
fn scalar_and_codes_conform() {
    let object = columns(vec![
        ("teff", Data::F64(vec![5772.0])),
        ("codes", Data::I64((0..40).map(|i| i * 7 % 23).collect())),
    ]);
    let column = "columns = [{ name = 'teff', transform = 'log10', mean = 3.7, std = 0.1 }]";
    let samples = [
        (column, &object, 1e-2),
        ("columns = [{ name = 'teff', transform = { asinh = 10 } }]", &object, 1e-2),
        ("columns = ['teff']\nout_of_domain = 'missing'", &object, 0.0),
    ];
    // A NaN is a number that is not known.
    conforms("scalar", &samples, "teff", true);
    let samples = [
        ("vocabulary = 23\nmax_tokens = 64", &object, 0.0),
        ("vocabulary = 1000000\nshape = [40]\nposition_rows = 64", &object, 0.0),
    ];
    conforms("codes", &samples, "codes", false);
}

#[test]
fn tokens_conforms() {
    let field = |shape: &[usize], data| Field {
        array: Array::new(shape.to_vec(), data).expect("fits"),
        unit: None,
    };
    let numbers = |n: usize| (0..n).map(|k| k as f32 * 0.25 - 1.0).collect::<Vec<f32>>();
    let samples = [
        (
            "field = 'flux'\nwidth = 4\nposition_width = 2\nmax_tokens = 6",
            vec![
                ("flux", field(&[5, 4], Data::F32(numbers(20)))),
                ("flux_positions", field(&[5, 2], Data::F32(numbers(10)))),
            ],
        ),
        (
            "field = 'codes'\nvocabulary = 9\npositions = 8\nmax_tokens = 8",
            vec![("codes", field(&[3], Data::I64(vec![8, 0, 5])))],
        ),
    ];
    for (config, fields) in samples {
        let name = fields[0].0;
        let fields = fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect();
        let observation = Observation { id: "o".into(), fields, ..Observation::default() };
        let sample = testkit::modality::Sample {
            config,
            observation,
            field: name,
            inverse_within: Some(0.0),
            ..Default::default()
        };
        testkit::modality::check("tokens", &sample).expect(config);
    }
}

#[test]
fn synthetic_conforms() {
    let root = std::path::Path::new("");
    for table in ["objects = 50\nsize = 33\nseed = 5", "objects = 3\npixels = 'flux'\nnoise = 0"] {
        testkit::source::check("synthetic", table, root).expect(table);
    }
}

#[test]
fn image_folder_conforms_on_real_galaxies() {
    let Some(root) = shared("data/galaxies") else { return };
    testkit::source::check("image-folder", "path = 'efigi_trainval_88px'", &root).expect("efigi");
}
