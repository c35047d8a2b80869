//! What else is in the picture: stars and other galaxies.
//!
//! The sky around a galaxy is cut into squares of 64 pixels. Each has its own stream of
//! random numbers, so that a larger stamp shows more of the same sky. Nothing reaches further
//! than [`REACH`] pixels.
//!
//! | quantity | distribution |
//! |---|---|
//! | stars | 8,000 to r = 24 on a square degree at 50 degrees from the galactic plane, growing towards it as 1 / sin(b)^1.5, dN/dm ~ 10^(0.18 m) from 12.5 mag on: stand-ins for the counts of high latitudes |
//! | their colours | dwarfs from g - r = 0.3 to 1.5, redder when fainter; r - z along the stellar locus, with the branch of M dwarfs: stand-ins |
//! | their profile | Moffat, beta 3, and from 17 mag an aureole of 3 % (beta 2) and spikes: along the diagonals with DECam, upright with the northern telescopes; bleeding from 15 mag: stand-ins |
//! | galaxies | 65,000 to r = 24 on a square degree, dN/dm ~ 10^(0.38 m) from 15.5 mag on (the slope of counts in r, Yasuda et al. 2001, AJ 122, 1104, and deeper surveys); sizes and colours: stand-ins |

use std::f64::consts::PI;

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Poisson};

use super::galaxy::{Component, Galaxy};
use super::gaussian::{DE_VAUCOULEURS, EXPONENTIAL, FAINTEST, clip, ellipse};
use super::photometry::flux;
use super::population::normal;
use super::render::{Canvas, add_component};
use super::sky::Telescope;
use super::{BANDS, PIXEL_SCALE};

/// Side of a square of sky, in pixels.
pub(super) const SQUARE: i64 = 64;
/// Nothing shines further than this, in pixels.
pub(super) const REACH: f64 = 160.0;
/// Stars on a square degree, 50 degrees from the galactic plane, to `STARS_TO`.
const STARS: f64 = 8000.0;
const STARS_TO: f64 = 24.0;
const STAR_SLOPE: f64 = 0.18;
/// The brightest star: surveys mask what is around brighter ones.
const BRIGHTEST_STAR: f64 = 12.5;
/// Galaxies on a square degree to `GALAXIES_TO`.
const GALAXIES: f64 = 65_000.0;
const GALAXIES_TO: f64 = 24.0;
const GALAXY_SLOPE: f64 = 0.38;
const BRIGHTEST_GALAXY: f64 = 15.5;
/// Stars of this r magnitude and brighter have aureole and spikes.
const BRIGHT: f64 = 17.0;
/// Stars of this r magnitude and brighter fill the pixels' wells, which then overflow.
const SATURATED: f64 = 15.0;
/// What a full pixel shows, in nanomaggies.
const FULL: f32 = 150.0;

/// How many times as many stars and galaxies there are as in the sky.
#[derive(Clone, Copy, Debug)]
pub(super) struct Density {
    pub(super) stars: f64,
    pub(super) galaxies: f64,
}

/// Adds one square, whose corner of least x and y is `corner`.
pub(super) fn add_square(
    canvas: &mut Canvas,
    target: &Galaxy,
    density: Density,
    corner: [i64; 2],
    random: &mut impl Rng,
) {
    let degrees = (SQUARE as f64 * PIXEL_SCALE / 3600.0).powi(2);
    let latitude = target.place.galactic_latitude().to_radians().sin().abs();
    let crowding = (50f64.to_radians().sin() / latitude).powf(1.5);
    for _ in 0..number(density.galaxies * GALAXIES * degrees, random) {
        let place = corner.map(|c| c as f64 + SQUARE as f64 * random.random::<f64>());
        let component = neighbour(random);
        add_component(canvas, &component, place, &target.conditions);
    }
    for _ in 0..number(density.stars * STARS * crowding * degrees, random) {
        let place = corner.map(|c| c as f64 + SQUARE as f64 * random.random::<f64>());
        Star::draw(place, random).add(canvas, target);
    }
}

/// A Poisson number of this mean.
fn number(mean: f64, random: &mut impl Rng) -> u64 {
    Poisson::new(mean).map_or(0, |poisson| poisson.sample(random) as u64)
}

/// Magnitude at the share `u` of counts that grow as 10^(slope m) between two magnitudes.
fn counted(u: f64, slope: f64, [brightest, faintest]: [f64; 2]) -> f64 {
    let least = 10f64.powf(slope * (brightest - faintest));
    faintest + (least + u * (1.0 - least)).log10() / slope
}

/// A galaxy in the field: one profile.
fn neighbour(random: &mut impl Rng) -> Component {
    let r = counted(random.random(), GALAXY_SLOPE, [BRIGHTEST_GALAXY, GALAXIES_TO]);
    let early = random.random::<f64>() < 0.3;
    // The fainter, the further: a redshifted break reddens the old ones.
    let faint = (r - BRIGHTEST_GALAXY) / (GALAXIES_TO - BRIGHTEST_GALAXY);
    let g_r = if early {
        normal(random, 0.8 + 0.75 * faint, 0.08 + 0.25 * faint)
    } else {
        normal(random, 0.5 + 0.2 * faint, 0.1 + 0.15 * faint)
    };
    let g_r = g_r.clamp(0.1, 1.9);
    let r_z = normal(random, 0.1 + 0.7 * g_r, 0.12);
    let radius = 0.85 * 10f64.powf(-0.13 * (r - 20.0)) * normal(random, 0.0, 0.35).exp();
    // No larger than what ends within REACH.
    let radius = radius.min(4.0);
    let q: f64 = if early { 0.6 } else { 0.2 };
    let axis_ratio = (q * q + (1.0 - q * q) * random.random::<f64>().powi(2)).sqrt();
    let position_angle = 180.0 * random.random::<f64>();
    Component {
        flux: [r + g_r, r, r - r_z].map(flux),
        mixture: if early { &DE_VAUCOULEURS } else { &EXPONENTIAL },
        shape: ellipse(radius / PIXEL_SCALE, axis_ratio, position_angle),
    }
}

/// A star in the field.
struct Star {
    flux: [f64; BANDS],
    /// r magnitude.
    r: f64,
    /// x and y, in pixels.
    place: [f64; 2],
}

impl Star {
    fn draw(place: [f64; 2], random: &mut impl Rng) -> Self {
        let r = counted(random.random(), STAR_SLOPE, [BRIGHTEST_STAR, STARS_TO]);
        let red = ((r - 14.0) / 7.0).clamp(0.05, 0.9);
        let (g_r, r_z) = if random.random::<f64>() < red {
            // M dwarfs: g - r stays, r - z grows with falling temperature.
            (normal(random, 1.4, 0.07), 0.6 + 1.3 * random.random::<f64>())
        } else {
            let g_r = 0.35 + 0.9 * random.random::<f64>().powf(1.5);
            (g_r, normal(random, 0.5 * g_r - 0.02, 0.03))
        };
        Self { flux: [r + g_r, r, r - r_z].map(flux), r, place }
    }

    fn add(&self, canvas: &mut Canvas, target: &Galaxy) {
        for band in 0..BANDS {
            let fwhm = target.conditions.seeing[band] / PIXEL_SCALE;
            // The radius at which (1 + (r / alpha)^2)^-3 is a half is fwhm / 2.
            let alpha = 0.5 * fwhm / (2f64.cbrt() - 1.0).sqrt();
            let bright = self.r < BRIGHT;
            let core = if bright { 0.97 } else { 1.0 } * self.flux[band];
            let core = 2.0 * core / (PI * alpha * alpha);
            self.add_round(canvas, band, alpha, core, |t| 1.0 / (t * t * t), 1.0 / 3.0);
            if bright {
                let wide = 6.0 * alpha;
                let aureole = 0.03 * self.flux[band] / (PI * wide * wide);
                self.add_round(canvas, band, wide, aureole, |t| 1.0 / (t * t), 0.5);
                self.add_spikes(canvas, band, alpha, target.place.telescope());
            }
            if self.r < SATURATED {
                self.saturate(canvas, band, target.place.telescope());
            }
        }
    }

    /// Adds `peak` times `falls(1 + r^2 / alpha^2)`, whose inverse is the power `-root`.
    fn add_round(
        &self,
        canvas: &mut Canvas,
        band: usize,
        alpha: f64,
        peak: f64,
        falls: impl Fn(f32) -> f32,
        root: f64,
    ) {
        let end = (peak / FAINTEST).powf(root) - 1.0;
        if end <= 0.0 {
            return;
        }
        let reach = (alpha * end.sqrt()).min(REACH);
        let inverse = (1.0 / (alpha * alpha)) as f32;
        // Less what is left where it ends, so that no edge shows.
        let left = falls(1.0 + (reach * reach) as f32 * inverse);
        canvas.each_within(band, self.place, reach, |dx, dy, pixel| {
            let squared = dx * dx + dy * dy;
            if squared <= (reach * reach) as f32 {
                *pixel += peak as f32 * (falls(1.0 + squared * inverse) - left);
            }
        });
    }

    /// Adds the light that the struts of the secondary mirror bend: a cross.
    fn add_spikes(&self, canvas: &mut Canvas, band: usize, alpha: f64, telescope: Telescope) {
        let length = 8.0 * 10f64.powf(0.13 * (BRIGHT - self.r));
        let peak = (0.002 * self.flux[band] / (4.0 * length * alpha)) as f32;
        let (length, width) = (length as f32, (0.25 * alpha) as f32);
        let turned = telescope == Telescope::South;
        canvas.each_within(
            band,
            self.place,
            REACH.min(6.0 * f64::from(length)),
            |dx, dy, pixel| {
                let (x, y) = match turned {
                    true => (0.707 * (dx + dy), 0.707 * (dx - dy)),
                    false => (dx, dy),
                };
                let (near, far) = (x.abs().min(y.abs()), x.abs().max(y.abs()));
                if near < 3.0 * width {
                    *pixel += peak * (-far / length - 0.5 * (near / width).powi(2)).exp();
                }
            },
        );
    }

    /// Cuts full pixels, and lets them run over along the detector's columns: to the sides
    /// with DECam, up and down with the northern telescopes.
    fn saturate(&self, canvas: &mut Canvas, band: usize, telescope: Telescope) {
        let half = 4.0 * 10f64.powf(0.25 * (SATURATED - self.r));
        let half = half.min(REACH) as f32;
        canvas.each_within(band, self.place, f64::from(half), |dx, dy, pixel| {
            let (along, across) = match telescope {
                Telescope::South => (dx, dy),
                Telescope::North => (dy, dx),
            };
            if across.abs() < 2.5 && along.abs() < half {
                *pixel += 0.2 * FULL * (1.0 - along.abs() / half) * (-across * across).exp();
            }
            *pixel = pixel.min(FULL);
        });
    }
}

/// The squares that a stamp of `size` pixels can get light from: corners of least x and y.
pub(super) fn squares(size: usize) -> impl Iterator<Item = [i64; 2]> {
    let half = size as i64 / 2;
    let first = (-half - REACH as i64).div_euclid(SQUARE);
    let last = (size as i64 - half + REACH as i64).div_euclid(SQUARE);
    (first..=last).flat_map(move |y| (first..=last).map(move |x| [x * SQUARE, y * SQUARE]))
}

impl Canvas {
    /// Calls `change` for the pixels of a band within a box around a place: with their
    /// distance from it in x and y, in pixels.
    fn each_within(
        &mut self,
        band: usize,
        place: [f64; 2],
        reach: f64,
        mut change: impl FnMut(f32, f32, &mut f32),
    ) {
        let size = self.size;
        let [x, y] = place.map(|at| at + (size / 2) as f64);
        let columns = clip(x - reach, x + reach, size);
        for row in clip(y - reach, y + reach, size) {
            let dy = (row as f64 - y) as f32;
            let pixels = &mut self.planes[band][row * size..][columns.clone()];
            for (column, pixel) in columns.clone().zip(pixels) {
                change((column as f64 - x) as f32, dy, pixel);
            }
        }
    }
}
