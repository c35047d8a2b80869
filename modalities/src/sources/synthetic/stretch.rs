//! Fluxes -> colours, as the Legacy Surveys' JPEG cut-outs show them.

use super::BANDS;

/// Brightness of g, r and z as blue, green and red, per nanomaggy and pixel.
const GAINS: [f32; BANDS] = [6.0, 3.4, 2.2];
/// Added to every colour, so that noise below the sky still shows.
const FLOOR: f32 = 0.03;
/// Above 1 / SOFTENING the stretch is logarithmic.
const SOFTENING: f32 = 20.0;

/// `[height, width, 3]` red, green and blue bytes of the planes g, r, z.
///
/// An arcsinh of the mean intensity I that keeps hues (Lupton et al. 2004, PASP 116, 133):
/// colour x asinh(Q I) / (sqrt(Q) I), cut at 1.
pub(super) fn colour([g, r, z]: &[Vec<f32>; BANDS]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BANDS * g.len());
    for ((g, r), z) in g.iter().zip(r).zip(z) {
        let [blue, green, red] =
            [g * GAINS[0], r * GAINS[1], z * GAINS[2]].map(|x| (x + FLOOR).max(0.0));
        let intensity = ((red + green + blue) / 3.0).max(1e-6);
        let x = SOFTENING * intensity;
        // Arcsinh by its formula: exact enough for bytes, and a third of the time.
        let asinh = (x + (x * x + 1.0).sqrt()).ln();
        let factor = asinh / (SOFTENING.sqrt() * intensity);
        // A float cast saturates at 255.
        bytes.extend([red, green, blue].map(|x| (255.0 * x * factor).round() as u8));
    }
    bytes
}
