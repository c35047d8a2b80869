//! Bands that say nothing.

use astropt_core::tokens::Tokens;

/// Pixels that a band must have to be dead; fewer may be alike by chance.
const DEAD_FROM: usize = 16;
/// How far the same pixel may be from itself in two patches, each standardised by its own mean and
/// scale: half precision, twice.
const ROUNDED: f32 = 2e-3;
/// The same where a patch is a single pixel, and closeness alone tells.
const ROUNDED_ALONE: f32 = 1e-5;

/// The first of `bands`, which are interleaved in patches of `pixels` pixels, that is one number in
/// all of them. Of a patch that was standardised the pixels of such a band are still alike, and
/// patches agree once offset and scale are put back.
pub(super) fn dead_band(tokens: &Tokens, pixels: usize, bands: usize) -> Option<usize> {
    if pixels * tokens.len < DEAD_FROM {
        return None;
    }
    (0..bands).find(|&band| is_dead(tokens, pixels * bands, bands, band))
}

fn is_dead(tokens: &Tokens, width: usize, bands: usize, band: usize) -> bool {
    let rounded = if width > bands { ROUNDED } else { ROUNDED_ALONE };
    let mut known: Option<(f32, f32)> = None;
    for (k, patch) in tokens.values.chunks_exact(width).enumerate() {
        let first = patch[band];
        if patch.iter().skip(band).step_by(bands).any(|&number| number != first) {
            return false; // as a rule at the second pixel of the first patch
        }
        let [offset, scale] = tokens.affine.get(k).copied().unwrap_or([0.0, 1.0]);
        let pixel = first * scale + offset;
        let near = rounded * (offset.abs() + (first * scale).abs());
        match known {
            Some((other, apart)) if (other - pixel).abs() > near + apart => return false,
            Some(_) => {}
            None => known = Some((pixel, near)),
        }
    }
    known.is_some()
}

#[cfg(test)]
mod tests {
    use astropt_core::observation::{Array, Data, Field, Observation};
    use astropt_core::seam::{Modality, ModalityConfig, parse_config};
    use half::f16;

    use super::super::GalaxyImageConfig;

    const SIDE: usize = 12;

    /// An image of three bands; `pixel` says each from its place and band.
    fn image(pixel: impl Fn(usize, usize) -> f32) -> Observation {
        let count = SIDE * SIDE * 3;
        let data = Data::F32((0..count).map(|k| pixel(k / 3, k % 3)).collect());
        let array = Array { shape: vec![SIDE, SIDE, 3], data };
        let fields = [("image".to_owned(), Field { array, unit: None })].into();
        Observation { id: "x".into(), fields, ..Observation::default() }
    }

    fn modality(more: &str) -> Box<dyn Modality> {
        let table = format!("size = {SIDE}\n{more}").parse().expect("TOML");
        let config: GalaxyImageConfig = parse_config(table).expect("valid");
        config.build().expect("builds")
    }

    fn light(place: usize, band: usize) -> f32 {
        let place = place as f32;
        100.0 + 30.0 * (place * (0.3 + band as f32)).sin() + place
    }

    #[test]
    fn a_band_that_is_one_number_is_dead_however_it_is_prepared() {
        let settings = [
            "patch = 4",
            "patch = 1",
            "patch = 3\nstandardise = 'none'",
            "patch = 4\nstretch = { arcsinh = 0.5 }",
            "patch = 4\naxes = 'hub'",
        ];
        for more in settings {
            let modality = modality(more);
            let dead = |pixel: &dyn Fn(usize, usize) -> f32| {
                let tokens = modality.tokenise(&image(pixel)).expect("usable").expect("there");
                let mut halved = tokens.clone();
                halved.values = tokens.values.iter().map(|x| f16::from_f32(*x).to_f32()).collect();
                let of_halved = modality.dead_part(&halved);
                let found = modality.dead_part(&tokens);
                if !more.contains("patch = 1") {
                    assert_eq!(found, of_halved, "{more}");
                }
                found
            };
            assert_eq!(dead(&light), None, "{more}");
            for number in [0.0, 7.25] {
                let found =
                    dead(&|place, band| if band == 1 { number } else { light(place, band) });
                let found = found.unwrap_or_default();
                assert!(found.contains("band 1 of 0 to 2"), "{more}: {found}");
                let one = |place, band| if band == 2 { light(place, band) } else { number };
                assert!(dead(&one).is_some(), "{more}: two bands of three");
                // A single pixel says something.
                let almost = |place, band| match (place, band) {
                    (SIDE..=SIDE, 1) => number + 1.0,
                    (_, 1) => number,
                    (place, band) => light(place, band),
                };
                assert_eq!(dead(&almost), None, "{more}");
            }
            // Even patches of different numbers are an image all the same.
            let steps = |place: usize, band| match band {
                1 => (place % SIDE / 4 + 10 * (place / SIDE / 4)) as f32,
                band => light(place, band),
            };
            assert_eq!(dead(&steps), None, "{more}");
        }
    }
}
