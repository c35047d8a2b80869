//! The behaviour that every plugin of a seam owes, for the plugins of this crate.

use astropt_core::observation::{Array, Data, Field, Observation};
use astropt_core::testkit;
use astropt_modalities as _;

use crate::fixtures::{bytes, object, shared};

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
        };
        testkit::modality::check("galaxy-image", &sample).expect(config);
    }
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
