//! Properties of `galaxy-image` over random shapes and settings.

use astropt_core::observation::Data;
use proptest::prelude::*;

use crate::fixtures::{bytes, galaxy_image, object};

/// The middle of a `[side, side, bands]` image, `used` pixels wide.
fn centre(pixels: &[u8], side: usize, bands: usize, used: usize) -> Vec<f32> {
    let corner = (side - used) / 2;
    let row = |y: usize| &pixels[((corner + y) * side + corner) * bands..][..used * bands];
    (0..used).flat_map(row).map(|&x| x.into()).collect()
}

proptest! {
    #[test]
    fn detokenise_undoes_tokenise(
        patch in 1usize..9,
        grid in 1usize..6,
        rest in 0usize..8,
        margin in 0usize..5,
        bands in 1usize..6,
        order in prop::sample::select(vec![
            "order = 'raster'", "order = 'spiral'", "orientation = 'figure-1'",
        ]),
        axes in prop::sample::select(vec!["file", "hub"]),
        stretch in prop::sample::select(vec!["'none'", "{ arcsinh = 20.0 }"]),
        standardise in prop::sample::select(vec!["patch", "none"]),
    ) {
        prop_assume!(standardise == "none" || patch * patch * bands > 1);
        let used = patch * grid;
        let size = used + rest % patch;
        let side = size + margin;
        let modality = galaxy_image(&format!(
            "size = {size}\npatch = {patch}\nbands = {bands}\n{order}\naxes = '{axes}'\n\
             stretch = {stretch}\nstandardise = '{standardise}'"
        ));
        let pixels = bytes(side * side * bands);
        let expected = centre(&pixels, side, bands, used);
        let observation = object([side, side, bands], Data::U8(pixels));
        let tokens = modality.tokenise(&observation).expect("sound").expect("an image");
        tokens.check(&modality.spec()).expect("as the spec says");
        let back = modality.detokenise(&tokens).expect("its own tokens");
        prop_assert_eq!(&back.shape, &[used, used, bands]);
        for (a, b) in back.data.to_f32().iter().zip(&expected) {
            prop_assert!((a - b).abs() < 2e-3, "{} and not {}", a, b);
        }
    }

    #[test]
    fn all_number_types_give_the_same_tokens(patch in 2usize..8, grid in 1usize..5) {
        let side = patch * grid;
        let modality = galaxy_image(&format!("size = {side}\npatch = {patch}"));
        let pixels = bytes(side * side * 3);
        let of = |data| {
            let tokens = modality.tokenise(&object([side, side, 3], data));
            tokens.expect("sound").expect("an image").values
        };
        let expected = of(Data::U8(pixels.clone()));
        let others = [
            of(Data::U16(pixels.iter().map(|&x| x.into()).collect())),
            of(Data::F32(pixels.iter().map(|&x| x.into()).collect())),
            of(Data::F64(pixels.iter().map(|&x| x.into()).collect())),
            of(Data::I64(pixels.iter().map(|&x| x.into()).collect())),
        ];
        for other in others {
            for (a, b) in expected.iter().zip(&other) {
                prop_assert!((a - b).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_in_words() {
    let modality = galaxy_image("size = 32\npatch = 8\ncrop = 'refuse'");
    let mut flux = vec![1.0; 32 * 32 * 3];
    flux[(5 * 32 + 7) * 3 + 2] = f32::NAN;
    for (observation, words) in [
        (object([16, 40, 3], Data::U8(bytes(16 * 40 * 3))), "16 x 40 pixels, smaller than the 32"),
        (object([33, 32, 3], Data::U8(bytes(33 * 32 * 3))), "`crop = \"centre\"`"),
        (object([32, 32, 1], Data::U8(bytes(32 * 32))), "1 bands, not 3"),
        (object([32, 32, 3], Data::F32(flux)), "row 5, column 7, band 2"),
    ] {
        for answer in [
            modality.tokenise(&observation).map(drop),
            modality.raw_features(&observation).map(drop),
        ] {
            let error = answer.expect_err(words).to_string();
            assert!(error.contains("galaxy-7") && error.contains(words), "{error}");
        }
    }
}

#[test]
fn features_are_coarse_and_of_one_length() {
    let image = object([64, 80, 3], Data::U8(bytes(64 * 80 * 3)));
    for (table, len) in [("size = 64\npatch = 2", 16 * 16 * 3), ("size = 64", 4 * 4 * 3)] {
        let features = galaxy_image(table).raw_features(&image).expect("sound");
        assert_eq!(features.expect("an image").len(), len);
    }
}

#[test]
fn a_preview_shows_the_picture_itself() {
    let pixels = bytes(32 * 32 * 3);
    let modality = galaxy_image("size = 32\npatch = 8");
    let image = object([32, 32, 3], Data::U8(pixels.clone()));
    let tokens = modality.tokenise(&image).expect("sound").expect("an image");
    let preview = modality.preview(&tokens).expect("its own tokens").expect("a picture");
    assert_eq!((preview.width, preview.height), (32, 32));
    assert_eq!(preview.rgb, pixels);
}
