//! Where on the sky a galaxy is, which telescope saw it, and how well.
//!
//! | quantity | value |
//! |---|---|
//! | footprint | uniform over -18 < dec < 84 degrees, more than 18 degrees from the plane of the Galaxy (Legacy Surveys DR8) |
//! | telescope | `north` (BASS in g and r, MzLS in z) above dec 32.375 degrees in the northern galactic cap, else `south` (DECam), as DR8 was divided |
//! | seeing | median FWHM 1.29, 1.18, 1.11 arcsec in g, r, z with DECam, 1.61, 1.47 with BASS, 1.01 with MzLS (Dey et al. 2019, AJ 157, 168) |
//! | depth | a galaxy of half-light radius 0.45 arcsec at 24.0, 23.4, 22.5 mag is five times the noise by the surveys' design (Dey et al. 2019); 1.25 mag deeper, because the pixels of published stamps are that quiet |
//!
//! Seeing and depth belong to a tile of the sky of 5 x 5 degrees and scatter by 8 % and
//! 0.15 mag from tile to tile (stand-ins): galaxies of a tile resemble each other in what is
//! none of their own, so that a split by the label `tile` asks more than one by galaxy.

use std::f64::consts::PI;

use rand::{Rng, RngExt};

use super::photometry::flux;
use super::population::normal;
use super::{BANDS, PIXEL_SCALE};

/// Bounds of the footprint in declination, in degrees.
const DECLINATIONS: [f64; 2] = [-18.0, 84.0];
/// Least distance from the galactic plane, in degrees.
const GALACTIC_LATITUDE: f64 = 18.0;
/// Where the northern telescopes take over, in degrees of declination.
const NORTH: f64 = 32.375;
/// Right ascension and declination of the galactic pole, J2000, in degrees.
const GALACTIC_POLE: [f64; 2] = [192.859_48, 27.128_25];
/// Side of a tile, in degrees.
const TILE: f64 = 5.0;
/// Magnitude at five times the noise in g, r, z.
const DEPTH: [f64; BANDS] = [24.0, 23.4, 22.5];
/// How much deeper, in mag, the images are than designed.
const DEEPER: f64 = 1.25;
/// Half-light radius of the galaxy that depths are stated for, in arcsec.
const DEPTH_RADIUS: f64 = 0.45;
/// Full width at half maximum over standard deviation of a Gaussian.
const FWHM_PER_SIGMA: f64 = 2.354_820_045;
/// Half-light radius over standard deviation of a round Gaussian.
const HALF_LIGHT_PER_SIGMA: f64 = 1.177_410_023;

/// Who took the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telescope {
    /// BASS (g, r) and MzLS (z).
    North,
    /// DECam.
    South,
}

impl Telescope {
    /// As the label has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::North => "north",
            Self::South => "south",
        }
    }

    /// Median full width at half maximum in g, r, z, in arcsec.
    fn seeing(self) -> [f64; BANDS] {
        match self {
            Self::North => [1.61, 1.47, 1.01],
            Self::South => [1.29, 1.18, 1.11],
        }
    }
}

/// A place on the sky.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Right ascension, in degrees.
    pub(super) ra: f64,
    /// Declination, in degrees.
    pub(super) dec: f64,
}

impl Place {
    /// Draws one in the footprint.
    pub(super) fn draw(random: &mut impl Rng) -> Self {
        let [low, high] = DECLINATIONS.map(|dec| dec.to_radians().sin());
        loop {
            let ra = 360.0 * random.random::<f64>();
            let dec = (low + (high - low) * random.random::<f64>()).asin().to_degrees();
            let place = Self { ra, dec };
            if place.galactic_latitude().abs() > GALACTIC_LATITUDE {
                return place;
            }
        }
    }

    /// Galactic latitude, in degrees.
    pub(super) fn galactic_latitude(self) -> f64 {
        let (pole_sine, pole_cosine) = GALACTIC_POLE[1].to_radians().sin_cos();
        let (sine, cosine) = self.dec.to_radians().sin_cos();
        let angle = (self.ra - GALACTIC_POLE[0]).to_radians().cos();
        (sine * pole_sine + cosine * pole_cosine * angle).asin().to_degrees()
    }

    /// The telescope that looked there.
    pub(super) fn telescope(self) -> Telescope {
        if self.dec > NORTH && self.galactic_latitude() > 0.0 {
            Telescope::North
        } else {
            Telescope::South
        }
    }

    /// Row of tiles by declination, and the tile's number in it by right ascension.
    pub(super) fn tile(self) -> [u32; 2] {
        let row = ((self.dec + 90.0) / TILE).floor();
        let middle = ((row + 0.5) * TILE - 90.0).to_radians();
        let tiles = (360.0 / TILE * middle.cos()).ceil();
        [row as u32, (self.ra / 360.0 * tiles).floor() as u32]
    }
}

/// How good the images of a place are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions {
    /// Full width at half maximum of a star in g, r, z, in arcsec.
    pub(super) seeing: [f64; BANDS],
    /// Standard deviation of a pixel's sky noise in g, r, z, in nanomaggies.
    pub(super) noise: [f64; BANDS],
}

impl Conditions {
    /// Draws the conditions of a tile, which `random` has to belong to.
    pub(super) fn draw(telescope: Telescope, random: &mut impl Rng) -> Self {
        let seeing = telescope.seeing().map(|fwhm| fwhm * normal(random, 0.0, 0.08).exp());
        let depth = DEPTH.map(|depth| normal(random, depth + DEEPER, 0.15));
        Self { seeing, noise: std::array::from_fn(|band| sky_noise(depth[band], seeing[band])) }
    }

    /// Variance of the point-spread function taken as a Gaussian, in squared pixels; with
    /// that of a square pixel, 1/12.
    pub(super) fn blur(&self, band: usize) -> f64 {
        (self.seeing[band] / FWHM_PER_SIGMA / PIXEL_SCALE).powi(2) + 1.0 / 12.0
    }
}

/// Standard deviation of a pixel's noise, in nanomaggies, at which a galaxy of
/// [`DEPTH_RADIUS`] and magnitude `depth` is five times the noise: fitted by its profile, it
/// averages over 4 pi sigma^2 pixels.
fn sky_noise(depth: f64, seeing: f64) -> f64 {
    let variance =
        (seeing / FWHM_PER_SIGMA).powi(2) + (DEPTH_RADIUS / HALF_LIGHT_PER_SIGMA).powi(2);
    flux(depth) / 5.0 / (4.0 * PI * variance / (PIXEL_SCALE * PIXEL_SCALE)).sqrt()
}

/// Noise of the pixels of one band: a pure function of a key and of the pixel's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise(pub(super) u64);

impl Noise {
    /// A number of mean 0 and deviation 1 for pixel (x, y): the sum of the eight bytes of a
    /// hash, which is normal but for tails that end at five deviations.
    pub(super) fn at(self, x: i32, y: i32) -> f32 {
        /// Every second byte.
        const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
        /// Mean and deviation of a sum of eight bytes.
        const SUM: [f32; 2] = [1020.0, 209.0231];
        let hash = mix(self.0 ^ (u64::from(y as u32) << 32 | u64::from(x as u32)));
        let pairs = (hash & EVEN) + (hash >> 8 & EVEN);
        // The product's top 16 bits are the sum of the four pairs.
        let sum = pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48;
        (sum as f32 - SUM[0]) / SUM[1]
    }
}

/// The finaliser of SplitMix64 (Steele et al. 2014, OOPSLA).
fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn places_lie_in_the_footprint() {
        // The galactic centre, and the pole.
        let centre = Place { ra: 266.405, dec: -28.936 };
        assert!(centre.galactic_latitude().abs() < 0.01);
        let pole = Place { ra: GALACTIC_POLE[0], dec: GALACTIC_POLE[1] };
        assert!(pole.galactic_latitude() > 89.99);
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(0);
        let places: Vec<_> = (0..4000).map(|_| Place::draw(&mut random)).collect();
        let north = places.iter().filter(|p| p.telescope() == Telescope::North).count();
        assert!((0.25..0.45).contains(&(north as f64 / 4000.0)), "{north}");
        assert!(places.iter().all(|p| (-18.0..84.0).contains(&p.dec)));
        let mut tiles: Vec<_> = places.iter().map(|p| p.tile()).collect();
        tiles.sort_unstable();
        tiles.dedup();
        assert!((400..900).contains(&tiles.len()), "{}", tiles.len());
    }

    #[test]
    fn noise_is_standard_and_white() {
        let at = |x, y| f64::from(Noise(77).at(x, y));
        let grid = || (-200..200).flat_map(|y| (-200..200).map(move |x| (x, y)));
        let n = 160_000.0;
        let mean = grid().map(|(x, y)| at(x, y)).sum::<f64>() / n;
        let variance = grid().map(|(x, y)| at(x, y).powi(2)).sum::<f64>() / n;
        let kurtosis = grid().map(|(x, y)| at(x, y).powi(4)).sum::<f64>() / n;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.015, "{mean} {variance}");
        assert!((kurtosis - 2.85).abs() < 0.06, "{kurtosis}");
        for (dx, dy) in [(1, 0), (0, 1), (1, 1), (3, -1)] {
            let product = grid().map(|(x, y)| at(x, y) * at(x + dx, y + dy)).sum::<f64>() / n;
            assert!(product.abs() < 0.01, "{dx} {dy} {product}");
        }
    }
}
