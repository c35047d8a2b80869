//! Which galaxies there are: stellar masses and star-formation rates.
//!
//! | quantity | distribution |
//! |---|---|
//! | stellar mass | double Schechter function of GAMA (Baldry et al. 2012, MNRAS 421, 621) times M^1.5, the volume in which a magnitude limit sees galaxies of one mass-to-light ratio: a mixture of gamma distributions; `galaxy.rs` corrects for the ratio |
//! | quiescent share | logistic in log mass about 10^10.6 solar masses: stand-in |
//! | log sSFR, star-forming | -0.35 (log M - 10) - 9.83 (Salim et al. 2007, ApJS 173, 267), scatter 0.3 dex |
//! | log sSFR, quiescent | normal about -11.8, scatter 0.25 dex; a tenth of all in between, -10.9: stand-ins |

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Gamma, StandardNormal};

use super::photometry::logistic;

/// Knee of the mass function, log10 of solar masses.
const KNEE: f64 = 10.66;
/// Its two slopes, and densities at the knee in 10^-3 per Mpc^3.
const SLOPES: [(f64, f64); 2] = [(-0.35, 3.96), (-1.47, 0.79)];
/// Power of mass or light with which the volume grows.
pub(super) const VOLUME: f64 = 1.5;
/// Share of galaxies on their way from the star-forming to the quiescent.
const TRANSITION: f64 = 0.1;
/// Dwarfs below this mass are lifted to it: a survey of stamps would hardly list them.
const LEAST_MASS: f64 = 8.5;

/// What a galaxy is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Population {
    /// Stellar mass, log10 of solar masses.
    pub(super) log_mass: f64,
    /// Star-formation rate over stellar mass, log10 of 1/yr.
    pub(super) log_ssfr: f64,
}

/// A normal number of this mean and deviation.
pub(super) fn normal(random: &mut impl Rng, mean: f64, deviation: f64) -> f64 {
    let unit: f64 = StandardNormal.sample(random);
    mean + deviation * unit
}

impl Population {
    /// Draws one.
    pub(super) fn draw(random: &mut impl Rng) -> Self {
        let log_mass = log_mass(random);
        let log_ssfr = if random.random::<f64>() < TRANSITION {
            normal(random, -10.9, 0.3)
        } else if random.random::<f64>() < logistic((log_mass - 10.6) / 0.3) {
            normal(random, -11.8, 0.25)
        } else {
            normal(random, -0.35 * (log_mass - 10.0) - 9.83, 0.3)
        };
        Self { log_mass, log_ssfr }
    }
}

/// Log mass in a magnitude-limited sample.
fn log_mass(random: &mut impl Rng) -> f64 {
    // Seen are phi Gamma(slope + 1 + VOLUME) of each part: Gamma(2.15) and Gamma(1.03).
    let seen = [SLOPES[0].1 * 1.0730, SLOPES[1].1 * 0.9835];
    let second = random.random::<f64>() * (seen[0] + seen[1]) > seen[0];
    let slope = SLOPES[usize::from(second)].0;
    // The shape is positive and the scale 1: the distribution exists.
    let ratio = Gamma::new(slope + 1.0 + VOLUME, 1.0).map_or(1.0, |gamma| gamma.sample(random));
    (KNEE + ratio.max(1e-9).log10()).max(LEAST_MASS)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn masses_and_rates_follow_their_distributions() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let drawn: Vec<_> = (0..20_000).map(|_| Population::draw(&mut random)).collect();
        // The mean of a gamma distribution is its shape: M / knee is 2.15 and 1.03 on average.
        let mean: f64 = drawn.iter().map(|p| 10f64.powf(p.log_mass - KNEE)).sum::<f64>() / 2e4;
        let expected = (4.249 * 2.15 + 0.777 * 1.03) / (4.249 + 0.777);
        assert!((mean / expected - 1.0).abs() < 0.03, "{mean} {expected}");
        let quantile = |values: &mut Vec<f64>, q: f64| {
            values.sort_by(f64::total_cmp);
            values[(q * values.len() as f64) as usize]
        };
        let near = |mass: f64| drawn.iter().filter(move |p| (p.log_mass - mass).abs() < 0.1);
        let mut forming: Vec<_> =
            near(10.0).filter(|p| p.log_ssfr > -10.6).map(|p| p.log_ssfr).collect();
        assert!((quantile(&mut forming, 0.5) + 9.83).abs() < 0.06);
        let quiescent = |mass| {
            near(mass).filter(|p| p.log_ssfr < -11.3).count() as f64 / near(mass).count() as f64
        };
        assert!((quiescent(10.6) - 0.45).abs() < 0.07, "{}", quiescent(10.6));
        assert!(quiescent(11.2) > 0.7 && quiescent(9.8) < 0.15);
    }
}
