//! Fluxes -> colours, as the Legacy Surveys' JPEG cut-outs show them.

use astropt_core::observation::Data;
use astropt_core::{Error, Result};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::BANDS;
use crate::sources::decode;

/// Brightness of g, r and z as blue, green and red, per nanomaggy and pixel.
const GAINS: [f32; BANDS] = [6.0, 3.4, 2.2];
/// Added to every colour, so that noise below the sky still shows.
const FLOOR: f32 = 0.03;
/// Above 1 / SOFTENING the stretch is logarithmic.
const SOFTENING: f32 = 20.0;
/// Quality of the JPEG: the default of the imaging libraries that survey pages are made with.
const QUALITY: u8 = 75;
/// Side of a JPEG's smallest unit where colours have half the resolution, in pixels.
const UNIT: usize = 16;

/// Side of a stamp of which `size` pixels are asked, when the units of its JPEG have to begin
/// at the middle: two halves of whole units.
pub(super) fn whole_units(size: usize) -> usize {
    2 * size.div_ceil(2).next_multiple_of(UNIT)
}

/// What a JPEG makes of square `pixels` `[side, side, 3]`: fine noise and most of the noise
/// of colours are lost, as in the stamps that models are trained on.
///
/// # Errors
/// When the codec fails.
pub(super) fn through_jpeg(pixels: &[u8], side: usize) -> Result<Vec<u8>> {
    let fail = |error| Error::Failed(format!("a stamp of {side} pixels as JPEG: {error}"));
    // Checked sides are at most 4128.
    let pixels_a_side = u16::try_from(side).map_err(|error| fail(error.to_string()))?;
    let mut file = Vec::with_capacity(pixels.len() / 4);
    let mut encoder = Encoder::new(&mut file, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder
        .encode(pixels, pixels_a_side, pixels_a_side, ColorType::Rgb)
        .map_err(|error| fail(error.to_string()))?;
    match decode::decode(&file).map_err(fail)?.data {
        Data::U8(bytes) => Ok(bytes),
        _ => Err(fail("it has other than 8 bits a colour".to_owned())),
    }
}

/// `[height, width, 3]` red, green and blue bytes of the planes g, r, z.
///
/// An arcsinh of the mean intensity I that keeps hues (Lupton et al. 2004, PASP 116, 133):
/// colour x asinh(Q I) / (sqrt(Q) I), cut at 1.
pub(super) fn colour([g, r, z]: &[Vec<f32>; BANDS]) -> Vec<u8> {
    let mut bytes = vec![0; BANDS * g.len()];
    for (((pixel, g), r), z) in bytes.chunks_exact_mut(BANDS).zip(g).zip(r).zip(z) {
        let [blue, green, red] =
            [g * GAINS[0], r * GAINS[1], z * GAINS[2]].map(|x| (x + FLOOR).max(0.0));
        let intensity = ((red + green + blue) / 3.0).max(1e-6);
        let x = SOFTENING * intensity;
        // Arcsinh by its formula: exact enough for bytes, and a third of the time.
        let asinh = (x + (x * x + 1.0).sqrt()).ln();
        let factor = asinh / (SOFTENING.sqrt() * intensity);
        // A float cast saturates at 255, and cuts: the half rounds.
        pixel.copy_from_slice(&[red, green, blue].map(|x| (255.0 * x * factor + 0.5) as u8));
    }
    bytes
}
