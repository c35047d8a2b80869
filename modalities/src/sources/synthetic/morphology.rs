//! What a galaxy of given mass and star-formation rate looks like.
//!
//! | quantity | distribution |
//! |---|---|
//! | ellipticals | 3 % of the star-forming, most of the quiescent at high mass: stand-in |
//! | bulge over total mass | ellipticals 0.6 to 1; discs log-normal about 0.3 (star-forming) to 0.45 (quiescent), less in dwarfs: stand-in in the manner of Simard et al. 2011 (ApJS 196, 11) |
//! | half-light radius | log-normal about the mass-size relations of Shen et al. 2003 (MNRAS 343, 978), R = 2.88e-6 (M)^0.56 kpc for early types and 0.1 M^0.14 (1 + M / 3.98e10)^0.25 kpc for late ones, with their scatter |
//! | orientation | isotropic: cos(inclination) and position angle uniform; spheroids of intrinsic flattening about 0.2 (discs) and 0.7 (bulges) (Hubble 1926, ApJ 64, 321) |
//! | bar | a third of the discs, more with mass: stand-in |
//! | arms | nearly all star-forming discs, few quiescent ones; two (60 %), three or four; logarithmic spirals whose pitch angle falls with the bulge, as along Hubble's sequence (Kennicutt 1981, AJ 86, 1847): stand-in numbers |

use rand::{Rng, RngExt};

use super::photometry::{logistic, youth};
use super::population::{Population, normal};

/// Half-light radius over scale length of an exponential disc.
pub(super) const EXPONENTIAL_HALF: f64 = 1.678_347;

/// The shapes of a galaxy's parts, and how it is turned.
#[derive(Clone, Debug)]
pub(super) struct Morphology {
    /// Bulge over total mass.
    pub(super) bulge_share: f64,
    /// Whether it is an elliptical: its bulge shines like the whole.
    pub(super) elliptical: bool,
    /// Intrinsic minor over major axis of bulge and disc.
    pub(super) flattening: [f64; 2],
    /// Half-light radius of the whole, along the major axis, in kpc.
    pub(super) radius: f64,
    /// Half-light radius of the bulge in units of the disc's.
    pub(super) radius_ratio: f64,
    /// Cosine of the inclination.
    pub(super) cosine: f64,
    /// Of the major axis, in degrees east of north.
    pub(super) position_angle: f64,
    /// A bar, if there is one.
    pub(super) bar: Option<Bar>,
    /// Spiral arms, if there are any.
    pub(super) arms: Option<Arms>,
}

/// A bar in the plane of the disc.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    /// Share of the disc's mass.
    pub(super) share: f64,
    /// Half its length, in scale lengths of the disc.
    pub(super) length: f64,
    /// From the major axis, in the plane of the disc, in degrees.
    pub(super) angle: f64,
}

/// Logarithmic spiral arms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arms {
    /// How many there are.
    pub(super) count: usize,
    /// Angle between an arm and a circle, in degrees; negative arms wind the other way.
    pub(super) pitch: f64,
    /// Logarithm of the contrast of young stars, crest to mean.
    pub(super) strength: f64,
    /// The same of irregular structure.
    pub(super) flocculence: f64,
    /// Where the first arm crosses one scale length, from the major axis, in radians.
    pub(super) phase: f64,
    /// Share of young stars in the disc's light, r band.
    pub(super) young: f64,
}

impl Morphology {
    /// Draws one.
    pub(super) fn draw(population: &Population, random: &mut impl Rng) -> Self {
        let young = youth(population.log_ssfr);
        let massive = logistic((population.log_mass - 10.7) / 0.3);
        let elliptical = random.random::<f64>() < 0.03 + (1.0 - young) * (0.2 + 0.5 * massive);
        let bulge_share = if elliptical {
            normal(random, 0.95, 0.15).clamp(0.6, 1.0)
        } else {
            (normal(random, 0.0, 0.5).exp() * (0.3 * young + 0.45 * (1.0 - young)) * massive.sqrt())
                .clamp(0.01, 0.8)
        };
        let bar = !elliptical && random.random::<f64>() < 0.2 + 0.25 * massive;
        let bar = bar.then(|| Bar {
            share: 0.1 + 0.2 * random.random::<f64>(),
            length: 0.6 + 0.6 * random.random::<f64>(),
            angle: 180.0 * random.random::<f64>(),
        });
        let armed = !elliptical && random.random::<f64>() < 0.12 + 0.85 * young;
        let arms = armed.then(|| Arms::draw(young, massive, bulge_share, bar, random));
        let round = normal(random, 0.72, 0.1).clamp(0.45, 0.95);
        let thick = normal(random, if young > 0.5 { 0.17 } else { 0.24 }, 0.03).clamp(0.1, 0.35);
        let ratio = normal(random, if elliptical { 0.6f64 } else { 0.22 }.ln(), 0.3).exp();
        Self {
            bulge_share,
            elliptical,
            flattening: [round, thick],
            radius: radius(population.log_mass, elliptical, random),
            radius_ratio: ratio,
            cosine: random.random(),
            position_angle: 180.0 * random.random::<f64>(),
            bar,
            arms,
        }
    }

    /// In degrees; 0 is face-on.
    pub(super) fn inclination(&self) -> f64 {
        self.cosine.acos().to_degrees()
    }

    /// Apparent minor over major axis of bulge and disc: of a spheroid of flattening q seen
    /// at inclination i, the root of q^2 sin^2 i + cos^2 i (Hubble 1926).
    pub(super) fn axis_ratios(&self) -> [f64; 2] {
        let squared = self.cosine * self.cosine;
        self.flattening.map(|q| (q * q * (1.0 - squared) + squared).sqrt())
    }
}

impl Bar {
    /// Variances along and across the bar, in the plane of a disc of this scale length.
    pub(super) fn variances(&self, scale: f64) -> [f64; 2] {
        /// Standard deviation over half the length, and minor over major axis.
        const SHAPE: [f64; 2] = [0.55, 0.24];
        let long = (SHAPE[0] * self.length * scale).powi(2);
        [long, long * SHAPE[1] * SHAPE[1]]
    }

    /// Covariance along and across the major axis of a disc of this scale length that is seen
    /// with this axis ratio.
    pub(super) fn seen(&self, scale: f64, axis_ratio: f64) -> [f64; 3] {
        let (s, c) = self.angle.to_radians().sin_cos();
        let [long, short] = self.variances(scale);
        [
            long * c * c + short * s * s,
            (long - short) * s * c * axis_ratio,
            (long * s * s + short * c * c) * axis_ratio * axis_ratio,
        ]
    }
}

impl Arms {
    fn draw(
        young: f64,
        massive: f64,
        bulge_share: f64,
        bar: Option<Bar>,
        random: &mut impl Rng,
    ) -> Self {
        let count = match random.random::<f64>() {
            u if u < 0.6 || bar.is_some() => 2,
            u if u < 0.8 => 3,
            _ => 4,
        };
        let pitch = normal(random, 24.0 - 30.0 * bulge_share, 6.0).clamp(6.0, 40.0);
        let pitch = if random.random() { pitch } else { -pitch };
        let grand = random.random::<f64>();
        // Arms leave a bar at its ends.
        let phase = match bar {
            Some(bar) => bar.angle.to_radians() - bar.length.ln() / pitch.to_radians().tan(),
            None => std::f64::consts::TAU * random.random::<f64>(),
        };
        Self {
            count,
            pitch,
            strength: (0.4 + 0.7 * grand + 0.7 * massive) * (0.5 + 0.5 * young),
            flocculence: 0.6 * (1.2 - 0.7 * grand) * (0.3 + 0.7 * young),
            phase,
            young: 0.25 + 0.35 * young,
        }
    }
}

/// Half-light radius in kpc (Shen et al. 2003, equations 17 to 19). Both types scatter as the
/// late ones do.
fn radius(log_mass: f64, early: bool, random: &mut impl Rng) -> f64 {
    const KNEE: f64 = 3.98e10;
    let mass = 10f64.powf(log_mass);
    let mean = if early {
        2.88e-6 * mass.powf(0.56)
    } else {
        0.1 * mass.powf(0.14) * (1.0 + mass / KNEE).powf(0.39 - 0.14)
    };
    let scatter = 0.34 + (0.47 - 0.34) / (1.0 + (mass / KNEE).powi(2));
    mean * normal(random, 0.0, scatter).exp()
}

/// Half-light radius of bulge and disc together, seen face-on, in units of the disc's;
/// `ratio` is the bulge's in the same units, `bulge_fraction` the bulge's share of the light.
pub(super) fn half_light(bulge_fraction: f64, ratio: f64) -> f64 {
    let within = |r: f64| {
        bulge_fraction * de_vaucouleurs_within(r / ratio)
            + (1.0 - bulge_fraction) * exponential_within(r)
    };
    let (mut low, mut high) = (0.5 * ratio.min(1.0), 2.0 * ratio.max(1.0));
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if within(middle) < 0.5 { low = middle } else { high = middle }
    }
    low
}

/// Share of an exponential disc's flux within `x` half-light radii.
pub(super) fn exponential_within(x: f64) -> f64 {
    let r = EXPONENTIAL_HALF * x;
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
    fn shapes_follow_star_formation() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(9);
        let mut drawn = |log_ssfr| -> Vec<Morphology> {
            let population = Population { log_mass: 10.7, log_ssfr };
            (0..4000).map(|_| Morphology::draw(&population, &mut random)).collect()
        };
        let (blue, red) = (drawn(-9.8), drawn(-11.9));
        let share = |of: &[Morphology], is: fn(&Morphology) -> bool| {
            of.iter().filter(|m| is(m)).count() as f64 / of.len() as f64
        };
        assert!(share(&blue, |m| m.arms.is_some()) > 0.8);
        assert!(share(&red, |m| m.arms.is_some()) < 0.2);
        assert!(share(&blue, |m| m.elliptical) < 0.1 && share(&red, |m| m.elliptical) > 0.35);
        // Isotropic: cos(inclination) is uniform.
        assert!((share(&blue, |m| m.inclination() < 60.0) - 0.5).abs() < 0.03);
        // Tighter arms with larger bulges.
        let pitch = |of: &[Morphology]| {
            let pitches: Vec<_> = of.iter().filter_map(|m| Some(m.arms?.pitch.abs())).collect();
            pitches.iter().sum::<f64>() / pitches.len() as f64
        };
        assert!(pitch(&blue) > pitch(&red) + 2.0, "{} {}", pitch(&blue), pitch(&red));
        let mut radii: Vec<_> = blue.iter().filter(|m| !m.elliptical).map(|m| m.radius).collect();
        radii.sort_by(f64::total_cmp);
        // Shen et al. 2003 at 10^10.7: 0.1 M^0.14 (1 + 1.26)^0.25 kpc.
        assert!((radii[radii.len() / 2] / 3.87 - 1.0).abs() < 0.05);
    }
}
