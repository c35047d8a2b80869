//! What a person, or a linear probe, sees of an image without any model.

use astropt_core::seam::Preview;

/// How numbers become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scaling {
    /// They are 0 to 255 already.
    Bytes,
    /// From the 0.5th to the 99.5th percentile.
    Linear,
    /// Arcsinh from the sky, taken as the median, to the 99.7th percentile.
    Asinh,
}

/// How far above the sky the arcsinh turns logarithmic: a share of the range.
const ASINH_SOFTENING: f32 = 0.05;
/// Where the sky lies in an arcsinh picture, so that noise below it still shows.
const SKY_LEVEL: f32 = 0.08;

/// The picture of a square `image` with `side` pixels along a side and `bands` numbers each;
/// `rgb` names the bands shown as red, green and blue.
pub(super) fn picture(
    image: &[f32],
    side: usize,
    bands: usize,
    rgb: [usize; 3],
    scaling: Scaling,
) -> Preview {
    let map: Box<dyn Fn(f32) -> f32> = match scaling {
        Scaling::Bytes => Box::new(|x| x),
        Scaling::Linear => {
            let (low, high) = percentiles(image, 0.005, 0.995);
            Box::new(move |x| 255.0 * (x - low) / (high - low))
        }
        Scaling::Asinh => {
            let (sky, high) = percentiles(image, 0.5, 0.997);
            let softening = (high - sky) * ASINH_SOFTENING;
            let top = (1.0 / ASINH_SOFTENING).asinh();
            Box::new(move |x| {
                let level = ((x - sky) / softening).asinh() / top;
                255.0 * (SKY_LEVEL + (1.0 - SKY_LEVEL) * level)
            })
        }
    };
    let rgb = image
        .chunks_exact(bands)
        // A float cast saturates, and NaN becomes 0.
        .flat_map(|pixel| rgb.map(|band| map(pixel[band]).round() as u8))
        .collect();
    Preview { width: side, height: side, rgb }
}

/// The numbers at two ranks between 0 and 1, never equal.
fn percentiles(image: &[f32], low: f32, high: f32) -> (f32, f32) {
    let mut sorted: Vec<f32> = image.iter().copied().filter(|x| x.is_finite()).collect();
    if sorted.is_empty() {
        return (0.0, 1.0);
    }
    sorted.sort_unstable_by(f32::total_cmp);
    let at = |rank: f32| sorted[((sorted.len() - 1) as f32 * rank).round() as usize];
    let (low, high) = (at(low), at(high));
    if high > low { (low, high) } else { (low, low + low.abs().max(1.0)) }
}

/// A square image, `[side, side, bands]`, averaged to `[cells, cells, bands]`: each cell the
/// mean over its area, with pixels on a boundary shared by area.
pub(super) fn average(image: &[f32], bands: usize, side: usize, cells: usize) -> Vec<f32> {
    let shares = shares(side, cells);
    let mut means = vec![0.0f64; cells * cells * bands];
    for y in 0..side {
        let row = &image[y * side * bands..][..side * bands];
        // First along the row, so that each pixel is visited once or twice.
        let mut line = vec![0.0f64; cells * bands];
        for (pixel, share) in row.chunks_exact(bands).zip(&shares) {
            for &(cell, weight) in share {
                for (sum, &x) in line[cell * bands..].iter_mut().zip(pixel) {
                    *sum += weight * f64::from(x);
                }
            }
        }
        for &(cell, weight) in &shares[y] {
            for (sum, x) in means[cell * cells * bands..].iter_mut().zip(&line) {
                *sum += weight * x;
            }
        }
    }
    means.into_iter().map(|x| x as f32).collect()
}

/// For each of `side` pixels the cells it falls into, with its share of each cell; the
/// shares of a cell add up to 1. At most `side` cells.
fn shares(side: usize, cells: usize) -> Vec<Vec<(usize, f64)>> {
    (0..side)
        .map(|pixel| {
            // In units of 1 / cells of a pixel, where every edge is a whole number.
            let (start, end) = (pixel * cells, (pixel + 1) * cells);
            (start / side..end.div_ceil(side))
                .map(|cell| {
                    let overlap = end.min((cell + 1) * side) - start.max(cell * side);
                    (cell, overlap as f64 / side as f64)
                })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_a_cell_add_up_to_one() {
        for (side, cells) in [(5, 2), (16, 16), (88, 11), (96, 7)] {
            let mut total = vec![0.0; cells];
            for (cell, share) in shares(side, cells).into_iter().flatten() {
                total[cell] += share;
            }
            assert!(total.iter().all(|t| (t - 1.0f64).abs() < 1e-12), "{side} {cells}: {total:?}");
        }
    }

    #[test]
    fn an_average_over_one_cell_is_the_mean() {
        assert_eq!(average(&[5.0, 6.0, 9.0, 10.0], 1, 2, 1), [30.0 / 4.0]);
    }

    #[test]
    fn bytes_are_shown_as_they_are_and_clamped() {
        let image = [0.4, 254.6, 300.0, -3.0, f32::NAN, 7.0];
        let picture = picture(&image[..3], 1, 3, [0, 1, 2], Scaling::Bytes);
        assert_eq!(picture.rgb, [0, 255, 255]);
        let picture = super::picture(&image[3..], 1, 3, [0, 1, 2], Scaling::Bytes);
        assert_eq!(picture.rgb, [0, 0, 7]);
    }

    #[test]
    fn flat_or_broken_images_still_make_a_picture() {
        for scaling in [Scaling::Linear, Scaling::Asinh] {
            for value in [0.0, 5.0, f32::NAN, f32::INFINITY, f32::MAX] {
                assert_eq!(picture(&[value; 4], 2, 1, [0; 3], scaling).rgb.len(), 12);
            }
        }
    }
}
