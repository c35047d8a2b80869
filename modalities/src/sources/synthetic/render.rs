//! A galaxy -> pixels.
//!
//! Both profiles are sums of Gaussians (Hogg & Lang 2013, PASP 125, 719, arXiv:1210.6563):
//! convolving with a Gaussian point-spread function adds variances, and nothing has to be
//! sampled finely. Along a row of pixels a Gaussian is a recurrence of two
//! multiplications.

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use super::galaxy::{Component, Galaxy};
use super::{BANDS, PIXEL_SCALE};

/// Amplitudes and variances, in squared half-light radii, of the mixture for an exponential
/// disc that ends smoothly at about four radii: "lux", 6 Gaussians (Hogg & Lang 2013).
const EXPONENTIAL: [(f64, f64); 6] = [
    (2.348_538_13e-3, 1.200_789_65e-3),
    (3.079_952_60e-2, 8.845_264_93e-3),
    (2.233_642_14e-1, 3.914_630_84e-2),
    (1.179_491_02, 1.399_768_17e-1),
    (4.338_737_50, 4.609_625_00e-1),
    (5.998_207_70, 1.501_595_66),
];

/// The same for a de Vaucouleurs profile that ends smoothly at about eight radii: "luv",
/// 8 Gaussians.
const DE_VAUCOULEURS: [(f64, f64); 8] = [
    (4.263_476_52e-2, 2.237_592_16e-4),
    (2.401_271_83e-1, 1.002_200_99e-3),
    (6.859_076_32e-1, 4.187_311_26e-3),
    (1.519_373_50, 1.694_325_89e-2),
    (2.836_272_43, 6.848_504_79e-2),
    (4.464_675_01, 2.872_070_80e-1),
    (5.724_408_30, 1.333_202_54),
    (5.609_893_49, 8.402_150_71),
];

/// Magnitude at five times the noise in g, r and z that the Legacy Surveys were designed to
/// reach (Dey et al. 2019, AJ 157, 168); taken here for a point source.
const DEPTH: [f64; BANDS] = [24.0, 23.4, 22.5];
/// Seeing at which the depths hold: full width at half maximum, in arcsec.
const DEPTH_SEEING: [f64; BANDS] = [1.29, 1.18, 1.11];
/// Full width at half maximum over standard deviation of a Gaussian.
const FWHM_PER_SIGMA: f64 = 2.354_820_045;
/// A Gaussian is drawn out to this squared distance, in squared standard deviations: 6 of
/// them, where 1.5e-8 of the peak is left.
const REACH: f64 = 36.0;
/// Pixels of a row that are computed at a time.
const LANES: usize = 8;

/// A Gaussian on the pixel grid.
#[derive(Clone, Copy, Debug)]
struct Gaussian {
    /// Integral, in nanomaggies.
    flux: f64,
    /// x and y of the centre, in pixels; the first pixel's centre is (0, 0).
    centre: [f64; 2],
    /// Covariances xx, xy, yy, in squared pixels.
    covariance: [f64; 3],
}

/// The planes g, r and z of a square stamp of `size` pixels, without noise, in nanomaggies
/// per pixel.
pub(super) fn stamp(galaxy: &Galaxy, size: usize) -> [Vec<f32>; BANDS] {
    std::array::from_fn(|band| {
        let mut plane = vec![0.0; size * size];
        for (component, mixture) in
            [(&galaxy.bulge, &DE_VAUCOULEURS[..]), (&galaxy.disc, &EXPONENTIAL[..])]
        {
            add_component(&mut plane, size, galaxy, component, mixture, band);
        }
        plane
    })
}

/// Adds one component to the plane of `band`.
fn add_component(
    plane: &mut [f32],
    size: usize,
    galaxy: &Galaxy,
    component: &Component,
    mixture: &[(f64, f64)],
    band: usize,
) {
    let total: f64 = mixture.iter().map(|(amplitude, _)| amplitude).sum();
    let middle = (size as f64 - 1.0) / 2.0;
    // North is up and east left: the major axis points along (-sin, -cos) in x and y.
    let (sine, cosine) = galaxy.position_angle.to_radians().sin_cos();
    let flat = component.axis_ratio.powi(2);
    // Seeing, and the pixel's own width: a square of side 1 has variance 1/12.
    let blur = (galaxy.seeing[band] / FWHM_PER_SIGMA / PIXEL_SCALE).powi(2) + 1.0 / 12.0;
    for (amplitude, variance) in mixture {
        let v = variance * (component.radius / PIXEL_SCALE).powi(2);
        let gaussian = Gaussian {
            flux: component.flux[band] * amplitude / total,
            centre: galaxy.offset.map(|offset| middle + offset),
            covariance: [
                v * (sine * sine + flat * cosine * cosine) + blur,
                v * (1.0 - flat) * sine * cosine,
                v * (cosine * cosine + flat * sine * sine) + blur,
            ],
        };
        gaussian.add(plane, size);
    }
}

impl Gaussian {
    /// Adds the Gaussian to a square plane of `size` pixels.
    fn add(&self, plane: &mut [f32], size: usize) {
        let [xx, xy, yy] = self.covariance;
        let determinant = xx * yy - xy * xy;
        // Inverse covariance: the exponent is -(a dx^2 + 2 b dx dy + c dy^2) / 2.
        let (a, b, c) = (yy / determinant, -xy / determinant, xx / determinant);
        let peak = self.flux / (std::f64::consts::TAU * determinant.sqrt());
        let reach = (REACH * yy).sqrt();
        let rows = clip(self.centre[1] - reach, self.centre[1] + reach, size);
        let row_step = Steps::new(a);
        for y in rows {
            let dy = y as f64 - self.centre[1];
            let root = (b * dy).powi(2) - a * (c * dy * dy - REACH);
            if root <= 0.0 {
                continue;
            }
            let (shift, half) = (-b * dy / a, root.sqrt() / a);
            let columns = clip(self.centre[0] + shift - half, self.centre[0] + shift + half, size);
            let dx = columns.start as f64 - self.centre[0];
            let first = peak * (-0.5 * (a * dx * dx + 2.0 * b * dx * dy + c * dy * dy)).exp();
            // Logarithm of the ratio of the first two pixels, without its constant part.
            let slope = -(a * dx + b * dy);
            row_step.add_row(first, slope, &mut plane[y * size..][columns]);
        }
    }
}

/// Whole pixels between two coordinates, within 0 to `size`.
fn clip(low: f64, high: f64, size: usize) -> std::ops::Range<usize> {
    let start = low.ceil().clamp(0.0, size as f64) as usize;
    let end = (high.floor() + 1.0).clamp(0.0, size as f64) as usize;
    start..end.max(start)
}

/// The constants of the recurrence along a row: g(x + n) = g(x) exp(n slope - n^2 a / 2),
/// and the slope falls by a with every pixel.
struct Steps {
    a: f64,
    /// exp(-a / 2) and exp(-a).
    one: [f64; 2],
    /// exp(-LANES a), by which the ratio of pixels LANES apart falls from one to the next.
    across: f64,
    /// exp(-LANES^2 a), by which it falls from one block to the next.
    block: f32,
}

impl Steps {
    fn new(a: f64) -> Self {
        let lanes = LANES as f64;
        Self {
            a,
            one: [(-0.5 * a).exp(), (-a).exp()],
            across: (-lanes * a).exp(),
            block: (-lanes * lanes * a).exp() as f32,
        }
    }

    /// Adds a Gaussian whose value is `first` and logarithmic slope `slope` at the first of
    /// these pixels.
    fn add_row(&self, first: f64, slope: f64, pixels: &mut [f32]) {
        let lanes = LANES as f64;
        let (mut values, mut ratios) = ([0.0f32; LANES], [0.0f32; LANES]);
        let (mut value, mut next) = (first, slope.exp() * self.one[0]);
        let mut ratio = (lanes * slope - 0.5 * lanes * lanes * self.a).exp();
        for (v, r) in values.iter_mut().zip(&mut ratios) {
            (*v, *r) = (value as f32, ratio as f32);
            value *= next;
            next *= self.one[1];
            ratio *= self.across;
        }
        let (blocks, rest) = pixels.as_chunks_mut::<LANES>();
        for block in blocks {
            for (lane, pixel) in block.iter_mut().enumerate() {
                *pixel += values[lane];
                values[lane] *= ratios[lane];
                ratios[lane] *= self.block;
            }
        }
        for (pixel, value) in rest.iter_mut().zip(values) {
            *pixel += value;
        }
    }
}

/// Adds sky noise, `scale` times the survey's, to every pixel.
pub(super) fn add_noise(planes: &mut [Vec<f32>; BANDS], scale: f64, random: &mut impl Rng) {
    if scale == 0.0 {
        return;
    }
    for (band, plane) in planes.iter_mut().enumerate() {
        let deviation = (scale * sky_noise(band)) as f32;
        for pixel in plane {
            let unit: f32 = StandardNormal.sample(random);
            *pixel += deviation * unit;
        }
    }
}

/// Standard deviation of a pixel's sky noise, in nanomaggies: a point source fitted by its
/// profile averages over 4 pi sigma^2 pixels.
fn sky_noise(band: usize) -> f64 {
    let source = 10f64.powf(0.4 * (22.5 - DEPTH[band])) / 5.0;
    let sigma = DEPTH_SEEING[band] / FWHM_PER_SIGMA / PIXEL_SCALE;
    source / (4.0 * std::f64::consts::PI * sigma * sigma).sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::galaxy::{de_vaucouleurs_within, exponential_within};
    use super::*;

    #[test]
    fn mixtures_follow_their_profiles() {
        check_mixture(&EXPONENTIAL, exponential_within);
        check_mixture(&DE_VAUCOULEURS, de_vaucouleurs_within);
    }

    fn check_mixture(mixture: &[(f64, f64)], profile: fn(f64) -> f64) {
        let total: f64 = mixture.iter().map(|m| m.0).sum();
        for radius in [0.25, 0.5, 1.0, 2.0] {
            let inside = |(a, v): &(f64, f64)| a * (1.0 - (-radius * radius / (2.0 * v)).exp());
            let share = mixture.iter().map(inside).sum::<f64>() / total;
            // The mixtures end where the profiles do not, so that they hold a little more.
            let excess = share / profile(radius) - 1.0;
            assert!((-0.01..0.08).contains(&excess), "{radius}: {share}, {excess}");
        }
    }

    #[test]
    fn a_row_by_recurrence_is_the_gaussian() {
        let size = 200;
        let gaussian =
            Gaussian { flux: 10.0, centre: [90.3, 101.7], covariance: [900.0, 500.0, 400.0] };
        let mut plane = vec![0.0; size * size];
        gaussian.add(&mut plane, size);
        let peak = plane.iter().copied().fold(0.0, f32::max);
        let determinant: f64 = 900.0 * 400.0 - 500.0 * 500.0;
        for y in (0..size).step_by(7) {
            for x in (0..size).step_by(5) {
                let (dx, dy) = (x as f64 - 90.3, y as f64 - 101.7);
                let q = (400.0 * dx * dx - 1000.0 * dx * dy + 900.0 * dy * dy) / determinant;
                let truth = 10.0 * (-q / 2.0).exp() / (std::f64::consts::TAU * determinant.sqrt());
                let error = (f64::from(plane[y * size + x]) - truth).abs();
                assert!(error < 1e-5 * f64::from(peak), "{x} {y}: {error}");
            }
        }
        let mut small = vec![0.0; 41 * 41];
        Gaussian { flux: 3.0, centre: [20.0, 20.0], covariance: [3.3, 0.1, 4.0] }
            .add(&mut small, 41);
        assert!((small.iter().sum::<f32>() - 3.0).abs() < 1e-4);
    }
}
