//! Gaussians -> pixels, and profiles as sums of Gaussians.
//!
//! Profiles are mixtures of Gaussians (Hogg & Lang 2013, PASP 125, 719, arXiv:1210.6563):
//! convolving with a Gaussian point-spread function adds variances, and nothing has to be
//! sampled finely. Along a row of pixels a Gaussian is a recurrence of two
//! multiplications.

use std::ops::Range;

/// Amplitudes and variances, in squared half-light radii, of the mixture for an exponential
/// disc that ends smoothly at about four radii: "lux", 6 Gaussians (Hogg & Lang 2013).
pub(super) const EXPONENTIAL: [(f64, f64); 6] = [
    (2.348_538_13e-3, 1.200_789_65e-3),
    (3.079_952_60e-2, 8.845_264_93e-3),
    (2.233_642_14e-1, 3.914_630_84e-2),
    (1.179_491_02, 1.399_768_17e-1),
    (4.338_737_50, 4.609_625_00e-1),
    (5.998_207_70, 1.501_595_66),
];

/// The same for a de Vaucouleurs profile that ends smoothly at about eight radii: "luv",
/// 8 Gaussians.
pub(super) const DE_VAUCOULEURS: [(f64, f64); 8] = [
    (4.263_476_52e-2, 2.237_592_16e-4),
    (2.401_271_83e-1, 1.002_200_99e-3),
    (6.859_076_32e-1, 4.187_311_26e-3),
    (1.519_373_50, 1.694_325_89e-2),
    (2.836_272_43, 6.848_504_79e-2),
    (4.464_675_01, 2.872_070_80e-1),
    (5.724_408_30, 1.333_202_54),
    (5.609_893_49, 8.402_150_71),
];

/// A bar: one Gaussian, whose variance is the squared radius itself.
pub(super) const GAUSSIAN: [(f64, f64); 1] = [(1.0, 1.0)];

/// Nothing is drawn where it adds less than this, in nanomaggies a pixel: a hundredth of the
/// noise of a survey's deepest band.
pub(super) const FAINTEST: f64 = 4e-5;
/// A Gaussian ends at this squared distance at the latest, in squared standard deviations.
const REACH: f64 = 36.0;
/// Pixels of a row that are computed at a time.
const LANES: usize = 8;

/// A Gaussian on the sky.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gaussian {
    /// Integral, in nanomaggies.
    pub(super) flux: f64,
    /// x (to the west) and y (to the south) of the centre, in pixels from the pixel that is
    /// 0, 0 in stamps of every size.
    pub(super) centre: [f64; 2],
    /// Covariances xx, xy, yy, in squared pixels.
    pub(super) covariance: [f64; 3],
}

/// Covariance of an ellipse of `radius` (a length along the major axis) and `axis_ratio`,
/// its major axis at `position_angle` degrees east of north: north is up and east left, so
/// that the axis points along (-sin, -cos) in x and y.
pub(super) fn ellipse(radius: f64, axis_ratio: f64, position_angle: f64) -> [f64; 3] {
    rotated([radius * radius, 0.0, (radius * axis_ratio).powi(2)], position_angle)
}

/// The covariance `[uu, uv, vv]` along and across an axis at `position_angle`, in x and y.
pub(super) fn rotated([uu, uv, vv]: [f64; 3], position_angle: f64) -> [f64; 3] {
    let (s, c) = position_angle.to_radians().sin_cos();
    // The axis is (-s, -c), the one across (c, -s).
    [
        uu * s * s - 2.0 * uv * s * c + vv * c * c,
        uu * s * c + uv * (s * s - c * c) - vv * s * c,
        uu * c * c + 2.0 * uv * s * c + vv * s * s,
    ]
}

/// Share of a profile of this mixture and half-light radius within `r` of its centre, as drawn: the
/// mixtures end where the profiles they stand for do not.
pub(super) fn within(mixture: &[(f64, f64)], radius: f64, r: f64) -> f64 {
    let total: f64 = mixture.iter().map(|(amplitude, _)| amplitude).sum();
    let x = r * r / (2.0 * radius * radius);
    mixture.iter().map(|(a, variance)| a * (1.0 - (-x / variance).exp())).sum::<f64>() / total
}

/// Share of an elongated Gaussian of these variances within `r` of its centre: in polar coordinates
/// the integral over the radius is closed, and that over a quarter of the circle is a sum.
pub(super) fn elongated_within([long, short]: [f64; 2], r: f64) -> f64 {
    const PLACES: u32 = 24;
    let at = |k: u32| {
        let (s, c) =
            (std::f64::consts::FRAC_PI_2 * (f64::from(k) + 0.5) / f64::from(PLACES)).sin_cos();
        let inverse = c * c / long + s * s / short;
        (1.0 - (-0.5 * r * r * inverse).exp()) / inverse
    };
    (0..PLACES).map(at).sum::<f64>() / (f64::from(PLACES) * (long * short).sqrt())
}

impl Gaussian {
    /// The Gaussians of a profile of this mixture, total flux and shape (the covariance of a
    /// part of variance 1), seen through a point-spread function of variance `blur`.
    pub(super) fn profile(
        mixture: &[(f64, f64)],
        flux: f64,
        centre: [f64; 2],
        shape: [f64; 3],
        blur: f64,
    ) -> impl Iterator<Item = Self> {
        let total: f64 = mixture.iter().map(|(amplitude, _)| amplitude).sum();
        mixture.iter().map(move |(amplitude, variance)| {
            let [xx, xy, yy] = shape.map(|s| s * variance);
            let covariance = [xx + blur, xy, yy + blur];
            Self { flux: flux * amplitude / total, centre, covariance }
        })
    }

    /// Inverse covariance a, b, c: the exponent is -(a dx^2 + 2 b dx dy + c dy^2) / 2.
    fn precision(&self) -> [f64; 3] {
        let [xx, xy, yy] = self.covariance;
        let determinant = self.determinant();
        [yy / determinant, -xy / determinant, xx / determinant]
    }

    fn determinant(&self) -> f64 {
        let [xx, xy, yy] = self.covariance;
        xx * yy - xy * xy
    }

    /// Value at the centre.
    fn peak(&self) -> f64 {
        self.flux / (std::f64::consts::TAU * self.determinant().sqrt())
    }

    /// The product with `factor` times a Gaussian of the same centre, of this covariance and
    /// of peak 1: again a Gaussian.
    pub(super) fn times(&self, factor: f64, covariance: [f64; 3]) -> Self {
        let mask = Self { covariance, ..*self };
        let ([a, b, c], [d, e, f]) = (self.precision(), mask.precision());
        let (a, b, c) = (a + d, b + e, c + f);
        let determinant = a * c - b * b;
        Self {
            flux: factor * self.peak() * std::f64::consts::TAU / determinant.sqrt(),
            centre: self.centre,
            covariance: [c / determinant, -b / determinant, a / determinant],
        }
    }

    /// Adds the Gaussian to a square plane of `size` pixels.
    pub(super) fn add(&self, plane: &mut [f32], size: usize) {
        let [a, b, c] = self.precision();
        let peak = self.peak();
        let reach = (2.0 * (peak.abs() / FAINTEST).ln()).min(REACH);
        if reach <= 0.0 {
            return;
        }
        let middle = (size / 2) as f64;
        let [x, y] = self.centre.map(|centre| centre + middle);
        let half = (reach * self.covariance[2]).sqrt();
        let row_step = Steps::new(a);
        for row in clip(y - half, y + half, size) {
            let dy = row as f64 - y;
            let root = (b * dy).powi(2) - a * (c * dy * dy - reach);
            if root <= 0.0 {
                continue;
            }
            let (shift, half) = (-b * dy / a, root.sqrt() / a);
            let columns = clip(x + shift - half, x + shift + half, size);
            let dx = columns.start as f64 - x;
            let first = peak * (-0.5 * (a * dx * dx + 2.0 * b * dx * dy + c * dy * dy)).exp();
            // Logarithm of the ratio of the first two pixels, without its constant part.
            let slope = -(a * dx + b * dy);
            row_step.add_row(first, slope, &mut plane[row * size..][columns]);
        }
    }
}

/// Whole pixels between two coordinates, within 0 to `size`.
pub(super) fn clip(low: f64, high: f64, size: usize) -> Range<usize> {
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

#[cfg(test)]
mod tests {
    use super::super::morphology::{de_vaucouleurs_within, exponential_within};
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
    fn light_within_a_radius_is_that_of_the_mixtures() {
        check_within(&EXPONENTIAL);
        check_within(&DE_VAUCOULEURS);
        // A round Gaussian holds half its light within sqrt(2 ln 2) standard deviations.
        let half = (2.0 * std::f64::consts::LN_2).sqrt();
        assert!((elongated_within([9.0, 9.0], 3.0 * half) - 0.5).abs() < 1e-9);
        // One as thin as a bar, against a sum over the plane.
        let [long, short] = [1.0, 0.0576];
        let mut inside = 0.0;
        for (y, x) in (-100..=100).flat_map(|y| (-100..=100).map(move |x| (y, x))) {
            let [x, y] = [x, y].map(|k| 0.01 * f64::from(k));
            let value = (-0.5 * (x * x / long + y * y / short)).exp();
            inside += if x.hypot(y) < 1.0 { 1e-4 * value } else { 0.0 };
        }
        inside /= std::f64::consts::TAU * f64::sqrt(long * short);
        let found = elongated_within([long, short], 1.0);
        assert!((found - inside).abs() < 2e-3, "{found} {inside}");
        assert!((elongated_within([4.0, 0.2], 40.0) - 1.0).abs() < 1e-3);
    }

    fn check_within(mixture: &[(f64, f64)]) {
        let size = 801;
        let mut plane = vec![0.0; size * size];
        let shape = ellipse(60.0, 1.0, 0.0);
        for gaussian in Gaussian::profile(mixture, 100.0, [0.0, 0.0], shape, 1.0) {
            gaussian.add(&mut plane, size);
        }
        let mut inside = 0.0;
        for y in 0..size {
            for x in 0..size {
                let near = (x as f64 - 400.0).hypot(y as f64 - 400.0) < 60.0;
                inside += if near { f64::from(plane[y * size + x]) } else { 0.0 };
            }
        }
        assert!((inside / 100.0 - within(mixture, 60.0, 60.0)).abs() < 0.005, "{inside}");
    }

    #[test]
    fn a_row_by_recurrence_is_the_gaussian() {
        let size = 200;
        let gaussian =
            Gaussian { flux: 10.0, centre: [-9.7, 1.7], covariance: [900.0, 500.0, 400.0] };
        let mut plane = vec![0.0; size * size];
        gaussian.add(&mut plane, size);
        let determinant: f64 = 900.0 * 400.0 - 500.0 * 500.0;
        for y in (0..size).step_by(7) {
            for x in (0..size).step_by(5) {
                let (dx, dy) = (x as f64 - 90.3, y as f64 - 101.7);
                let q = (400.0 * dx * dx - 1000.0 * dx * dy + 900.0 * dy * dy) / determinant;
                let truth = 10.0 * (-q / 2.0).exp() / (std::f64::consts::TAU * determinant.sqrt());
                let error = (f64::from(plane[y * size + x]) - truth).abs();
                assert!(error < 1.01 * FAINTEST, "{x} {y}: {error}");
            }
        }
        let mut small = vec![0.0; 41 * 41];
        Gaussian { flux: 3.0, centre: [0.0, 0.0], covariance: [3.3, 0.1, 4.0] }.add(&mut small, 41);
        assert!((small.iter().sum::<f32>() - 3.0).abs() < 5e-3);
    }

    #[test]
    fn products_of_gaussians_are_gaussians() {
        let one = Gaussian { flux: 10.0, centre: [0.0, 0.0], covariance: [90.0, 50.0, 40.0] };
        let product = one.times(0.5, [60.0, -10.0, 30.0]);
        let value = |g: &Gaussian, dx: f64, dy: f64| {
            let [a, b, c] = g.precision();
            g.peak() * (-0.5 * (a * dx * dx + 2.0 * b * dx * dy + c * dy * dy)).exp()
        };
        let mask = Gaussian { covariance: [60.0, -10.0, 30.0], ..one };
        for (dx, dy) in [(0.0, 0.0), (3.0, -2.0), (-5.0, 7.0)] {
            let expected = 0.5 * value(&one, dx, dy) * value(&mask, dx, dy) / mask.peak();
            assert!((value(&product, dx, dy) - expected).abs() < 1e-9);
        }
    }

    #[test]
    fn axes_turn_from_north_to_east() {
        // At 90 degrees the major axis lies along x, at 0 along y, at 45 towards upper left.
        assert!(ellipse(3.0, 0.2, 90.0)[0] > 8.9 && ellipse(3.0, 0.2, 0.0)[2] > 8.9);
        assert!(ellipse(3.0, 0.2, 45.0)[1] > 0.0);
    }
}
