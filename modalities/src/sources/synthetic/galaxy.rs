//! What a galaxy is, and how one is drawn.
//!
//! | quantity | distribution |
//! |---|---|
//! | r magnitude | counts dN/dm ~ 10^(0.6 m) over 15.5 to 18, as uniform space gives and SDSS finds (Yasuda et al. 2001, AJ 122, 1104) |
//! | luminosity | Schechter function, M* = -21.21 (h = 0.7), alpha = -1.05 (Blanton et al. 2003, ApJ 592, 819), times the volume a magnitude limit sees, ~L^1.5: L/L* is Gamma(alpha + 2.5) |
//! | redshift | from m - M, to second order in z with q0 = -0.55, H0 = 70; no K-correction |
//! | size | log-normal about the size-luminosity relations of Shen et al. 2003 (MNRAS 343, 978) for early and late types |
//! | type, bulge fraction | early types more often among the bright; fractions 0.5 to 1 for them, below 0.5 for late types: stand-ins in the manner of Simard et al. 2011 (ApJS 196, 11) |
//! | orientation | isotropic: cos(inclination) and position angle uniform; spheroids of intrinsic flattening 0.2 (disc) and 0.65 (bulge) (Hubble 1926, ApJ 64, 321) |
//! | colours | bulge on a red sequence that reddens with redshift and luminosity, bluer disc whose colours rise together; observed frame, stand-ins |
//! | seeing | Gaussian; median FWHM 1.29, 1.18, 1.11 arcsec in g, r, z (Dey et al. 2019, AJ 157, 168), scatter 10 % |

use std::f64::consts::LN_10;

use astropt_core::observation::{Label, Labels};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Gamma, StandardNormal};

/// Range of r magnitudes (AB).
const MAGNITUDES: [f64; 2] = [15.5, 18.0];
/// Characteristic absolute magnitude of the luminosity function, r band.
const M_STAR: f64 = -21.21;
/// Faint-end slope of the luminosity function.
const ALPHA: f64 = -1.05;
/// Hubble distance c / H0, in Mpc.
const HUBBLE_DISTANCE: f64 = 299_792.458 / 70.0;
/// Deceleration parameter of a flat universe with matter density 0.3.
const Q0: f64 = -0.55;
/// Intrinsic axis ratios of bulge and disc.
const FLATTENING: [f64; 2] = [0.65, 0.2];
/// Median seeing in g, r, z: full width at half maximum, in arcsec.
const SEEING: [f64; 3] = [1.29, 1.18, 1.11];

/// One component of a galaxy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Component {
    /// Total flux in g, r, z, in nanomaggies.
    pub(super) flux: [f64; 3],
    /// Half-light radius along the major axis, in arcsec.
    pub(super) radius: f64,
    /// Apparent minor over major axis.
    pub(super) axis_ratio: f64,
}

/// A galaxy, and the seeing it was observed in.
#[derive(Clone, Debug)]
pub(super) struct Galaxy {
    redshift: f64,
    /// Half-light radius of the whole, r band, major axis, in arcsec.
    radius: f64,
    /// In degrees; 0 is face-on.
    inclination: f64,
    /// Of the major axis, in degrees east of north.
    pub(super) position_angle: f64,
    /// De Vaucouleurs profile.
    pub(super) bulge: Component,
    /// Exponential profile.
    pub(super) disc: Component,
    /// Offset from the middle of the stamp, x and y, in pixels.
    pub(super) offset: [f64; 2],
    /// Seeing in g, r, z: full width at half maximum, in arcsec.
    pub(super) seeing: [f64; 3],
}

/// A normal number of this mean and deviation.
fn normal(random: &mut impl Rng, mean: f64, deviation: f64) -> f64 {
    let unit: f64 = StandardNormal.sample(random);
    mean + deviation * unit
}

impl Galaxy {
    /// Draws a galaxy.
    pub(super) fn draw(random: &mut impl Rng) -> Self {
        let mag_r = magnitude(random.random());
        let absolute = luminosity(random);
        let redshift = redshift(mag_r - absolute);
        let early = random.random::<f64>() < early_share(absolute);
        let bulge_fraction = bulge_fraction(random, early);
        let cosine: f64 = random.random();
        let axis_ratio = |q0: f64| (q0 * q0 + (1.0 - q0 * q0) * cosine * cosine).sqrt();
        let radius = size(random, absolute, early) / kiloparsecs_per_arcsec(redshift);
        let ratio = normal(random, if early { 0.6f64 } else { 0.2 }.ln(), 0.3).exp();
        let disc_radius = radius / half_light(bulge_fraction, ratio);
        let flux_r = 10f64.powf(0.4 * (22.5 - mag_r));
        let component = |share: f64, [g_r, r_z]: [f64; 2], radius, q0| Component {
            flux: [10f64.powf(-0.4 * g_r), 1.0, 10f64.powf(0.4 * r_z)].map(|x| x * share * flux_r),
            radius,
            axis_ratio: axis_ratio(q0),
        };
        let bulge_colours = [
            normal(random, 0.70 + 2.4 * redshift - 0.02 * (absolute + 21.0), 0.04),
            normal(random, 0.58 + 0.9 * redshift, 0.03),
        ];
        let g_r = normal(random, 0.42 + 1.5 * redshift, 0.08);
        let disc_colours = [g_r, normal(random, 0.34 + 0.9 * (g_r - 0.42), 0.04)];
        Self {
            redshift,
            radius,
            inclination: cosine.acos().to_degrees(),
            position_angle: 180.0 * random.random::<f64>(),
            bulge: component(bulge_fraction, bulge_colours, ratio * disc_radius, FLATTENING[0]),
            disc: component(1.0 - bulge_fraction, disc_colours, disc_radius, FLATTENING[1]),
            offset: [random.random::<f64>() - 0.5, random.random::<f64>() - 0.5],
            seeing: SEEING.map(|fwhm| fwhm * normal(random, 0.0, 0.1).exp()),
        }
    }

    /// The true parameters, as the module's documentation lists them.
    pub(super) fn labels(&self) -> Labels {
        let magnitude = |band| {
            let flux: f64 = self.bulge.flux[band] + self.disc.flux[band];
            22.5 - 2.5 * flux.log10()
        };
        let [g, r, z] = [magnitude(0), magnitude(1), magnitude(2)];
        let bulge_fraction = self.bulge.flux[1] / (self.bulge.flux[1] + self.disc.flux[1]);
        [
            ("mag_g", g),
            ("mag_r", r),
            ("mag_z", z),
            ("g_r", g - r),
            ("r_z", r - z),
            ("redshift", self.redshift),
            ("bulge_fraction", bulge_fraction),
            ("half_light_radius", self.radius),
            ("inclination", self.inclination),
            ("position_angle", self.position_angle),
        ]
        .map(|(name, value)| (name.to_owned(), Label::Number(value)))
        .into()
    }
}

/// Apparent magnitude at the share `u` of counts that grow as 10^(0.6 m).
fn magnitude(u: f64) -> f64 {
    let [bright, faint] = MAGNITUDES.map(|m| 10f64.powf(0.6 * m));
    (bright + u * (faint - bright)).log10() / 0.6
}

/// Absolute r magnitude in a magnitude-limited sample.
fn luminosity(random: &mut impl Rng) -> f64 {
    // The shape is positive and the scale 1: the distribution exists.
    let ratio = Gamma::new(ALPHA + 2.5, 1.0).map_or(1.0, |gamma| gamma.sample(random));
    // Dwarfs that a survey would hardly list are lifted to a thousandth of L*.
    M_STAR - 2.5 * ratio.max(1e-3).log10()
}

/// Redshift of a distance modulus, from d_L = c/H0 (z + (1 - q0)/2 z^2).
fn redshift(modulus: f64) -> f64 {
    let distance = 10f64.powf((modulus - 25.0) / 5.0) / HUBBLE_DISTANCE;
    let a = (1.0 - Q0) / 2.0;
    ((1.0 + 4.0 * a * distance).sqrt() - 1.0) / (2.0 * a)
}

/// Angular scale at a redshift.
fn kiloparsecs_per_arcsec(z: f64) -> f64 {
    let luminosity_distance = HUBBLE_DISTANCE * (z + (1.0 - Q0) / 2.0 * z * z);
    luminosity_distance / (1.0 + z).powi(2) * 1000.0 * (1.0f64 / 3600.0).to_radians()
}

/// Share of early types at an absolute magnitude.
fn early_share(absolute: f64) -> f64 {
    0.1 + 0.6 / (1.0 + ((absolute + 21.3) / 0.5).exp())
}

/// Bulge over total flux in the r band.
fn bulge_fraction(random: &mut impl Rng, early: bool) -> f64 {
    if early {
        normal(random, 0.8, 0.12).clamp(0.5, 1.0)
    } else {
        0.5 * random.random::<f64>().powi(2)
    }
}

/// Half-light radius in kpc: the r-band fits of Shen et al. 2003 to early and late types,
/// told apart by concentration, with the scatter of the late types.
fn size(random: &mut impl Rng, absolute: f64, early: bool) -> f64 {
    const M_0: f64 = -20.91;
    let relative = 10f64.powf(-0.4 * (absolute - M_0));
    let log_radius = if early {
        -0.26 * absolute - 5.06
    } else {
        -0.4 * 0.26 * absolute + (0.51 - 0.26) * (1.0 + relative).log10() - 1.71
    };
    let scatter = 0.25 + (0.48 - 0.25) / (1.0 + relative * relative);
    (LN_10 * log_radius + normal(random, 0.0, scatter)).exp()
}

/// Half-light radius of bulge and disc together, seen face-on, in units of the disc's;
/// `ratio` is the bulge's in the same units.
fn half_light(bulge_fraction: f64, ratio: f64) -> f64 {
    let within = |r: f64| {
        bulge_fraction * de_vaucouleurs_within(r / ratio)
            + (1.0 - bulge_fraction) * exponential_within(r)
    };
    let (mut low, mut high) = (0.5 * ratio.min(1.0), 2.0 * ratio.max(1.0));
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if within(middle) < 0.5 { low = middle } else { high = middle }
    }
    low
}

/// Share of an exponential disc's flux within `x` half-light radii.
pub(super) fn exponential_within(x: f64) -> f64 {
    let r = 1.678_347 * x;
    1.0 - (1.0 + r) * (-r).exp()
}

/// Share of a de Vaucouleurs profile's flux within `x` half-light radii: the regularised
/// incomplete gamma function of 8 and 7.669 x^(1/4).
pub(super) fn de_vaucouleurs_within(x: f64) -> f64 {
    let t = 7.669_249 * x.powf(0.25);
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..8 {
        term *= t / f64::from(k);
        sum += term;
    }
    1.0 - sum * (-t).exp()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn profiles_hold_half_their_light_within_one_radius() {
        assert!((exponential_within(1.0) - 0.5).abs() < 1e-6);
        assert!((de_vaucouleurs_within(1.0) - 0.5).abs() < 1e-6);
        assert!((half_light(0.0, 0.2) - 1.0).abs() < 1e-5);
        assert!((half_light(1.0, 0.2) - 0.2).abs() < 1e-5);
    }

    #[test]
    fn redshifts_follow_from_distances() {
        // Flat universe, matter 0.3, H0 70: d_L(0.1) = 460.3 Mpc, 1.844 kpc per arcsec.
        let z = redshift(25.0 + 5.0 * 460.3f64.log10());
        assert!((z - 0.1).abs() < 5e-4, "{z}");
        assert!((kiloparsecs_per_arcsec(0.1) - 1.844).abs() < 0.01);
    }

    #[test]
    fn galaxies_are_plausible() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut sizes = Vec::new();
        for _ in 0..2000 {
            let labels = Galaxy::draw(&mut random).labels();
            let get = |name: &str| labels[name].number().expect("a number");
            for (name, low, high) in [
                ("mag_r", 15.4, 18.1),
                ("g_r", 0.0, 2.0),
                ("r_z", 0.0, 1.6),
                ("redshift", 0.0005, 0.6),
                ("bulge_fraction", 0.0, 1.0),
                ("half_light_radius", 0.1, 60.0),
                ("inclination", 0.0, 90.0),
                ("position_angle", 0.0, 180.0),
            ] {
                assert!((low..=high).contains(&get(name)), "{name} {}", get(name));
            }
            sizes.push(get("half_light_radius"));
        }
        sizes.sort_by(f64::total_cmp);
        assert!((1.0..3.0).contains(&sizes[1000]), "median {}", sizes[1000]);
    }
}
