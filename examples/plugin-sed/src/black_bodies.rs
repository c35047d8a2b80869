//! The source `black-bodies`: stars as black bodies in broad bands, to try the modality on.
//!
//! Star k is a pure function of (`seed`, k). Its temperature T is drawn between 3000 and
//! 30000 K and its distance d between 0.1 and 3 kpc, both evenly in the logarithm; its radius
//! is the Sun's. Its flux density at a wavelength is `π (R / d)² B_ν(T)`, with Gaussian noise
//! of [`SKY`] and of 2 % of the flux. Some bands were never observed: NaN.
//!
//! Labels: `log_teff` (log10 of T in K) and `log_distance` (log10 of d in kpc).

use std::f64::consts::PI;
use std::path::Path;

use astropt_core::observation::{Array, Data, Field, Label, Labels, Observation};
use astropt_core::seam::{Source, SourceConfig};
use astropt_core::{Error, Result, register_source};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::config::check_wavelengths;
use crate::unit::Unit;

/// Noise of the sky, in microjansky.
const SKY: f64 = 10.0;
/// Uncertainty of the calibration, relative to the flux.
const CALIBRATION: f64 = 0.02;
/// Radius of the Sun over a kiloparsec.
const RADIUS: f64 = 6.957e8 / 3.085_677_581e19;
/// Planck's constant (J s), the speed of light (m / s) and Boltzmann's constant (J / K).
const PLANCK: f64 = 6.626_070_15e-34;
const LIGHT: f64 = 2.997_924_58e8;
const BOLTZMANN: f64 = 1.380_649e-23;
/// W / m^2 / Hz in microjansky.
const MICROJANSKY: f64 = 1e32;
/// Most stars: more than the Galaxy has.
const MAX_OBJECTS: usize = 1_000_000_000_000;

/// Configuration of the source `black-bodies`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlackBodiesConfig {
    /// How many stars there are.
    pub objects: usize,
    /// Wavelength of each band in angstrom, ascending.
    pub wavelengths: Vec<f64>,
    /// Share of bands that were not observed.
    #[serde(default = "default_missing")]
    pub missing: f64,
    /// Another seed gives other stars. At most 2^63 - 1, the largest integer of TOML.
    #[serde(default)]
    pub seed: u64,
}

fn default_missing() -> f64 {
    0.1
}

#[typetag::serde(name = "black-bodies")]
impl SourceConfig for BlackBodiesConfig {
    fn check(&self) -> Result<()> {
        check_wavelengths(&self.wavelengths)?;
        if !(1..=MAX_OBJECTS).contains(&self.objects) {
            return Err(Error::Misuse(format!(
                "`objects` is {}; it must lie between 1 and {MAX_OBJECTS}",
                self.objects
            )));
        }
        if !(0.0..1.0).contains(&self.missing) {
            return Err(Error::Misuse(format!(
                "`missing` is {}; it must be 0 or more and below 1",
                self.missing
            )));
        }
        Ok(())
    }

    fn open(&self, _root: &Path) -> Result<Box<dyn Source>> {
        self.check()?;
        Ok(Box::new(BlackBodies(self.clone())))
    }
}

/// The stars that [`BlackBodiesConfig`] describes.
#[derive(Debug)]
struct BlackBodies(BlackBodiesConfig);

/// What a star is.
struct Star {
    /// In K.
    temperature: f64,
    /// In kpc.
    distance: f64,
}

impl Star {
    fn draw(random: &mut impl RngExt) -> Self {
        let mut log_uniform = |low: f64, high: f64| low * (high / low).powf(random.random());
        Self { temperature: log_uniform(3e3, 3e4), distance: log_uniform(0.1, 3.0) }
    }

    fn labels(&self) -> Labels {
        let label = |name: &str, x: f64| (name.to_owned(), Label::Number(x.log10()));
        [label("log_teff", self.temperature), label("log_distance", self.distance)].into()
    }

    /// Flux density in microjansky at a wavelength in angstrom.
    fn flux(&self, wavelength: f64) -> f64 {
        let solid_angle = PI * (RADIUS / self.distance).powi(2);
        solid_angle * planck(LIGHT / (wavelength * 1e-10), self.temperature) * MICROJANSKY
    }
}

/// Planck's law: W / m^2 / Hz / sr at a frequency in Hz and a temperature in K.
fn planck(frequency: f64, temperature: f64) -> f64 {
    let x = PLANCK * frequency / (BOLTZMANN * temperature);
    2.0 * PLANCK * frequency.powi(3) / LIGHT.powi(2) / x.exp_m1()
}

impl BlackBodies {
    /// The random numbers of star `index`.
    fn random(&self, index: usize) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::seed_from_u64(self.0.seed);
        random.set_stream(index as u64);
        random
    }
}

impl Source for BlackBodies {
    fn len(&self) -> usize {
        self.0.objects
    }

    fn id(&self, index: usize) -> String {
        format!("star-{index:06}")
    }

    fn labels(&self, index: usize) -> Labels {
        Star::draw(&mut self.random(index)).labels()
    }

    fn read(&self, index: usize) -> Result<Observation> {
        if index >= self.len() {
            return Err(Error::Failed(format!("there is no star {index} of {}", self.len())));
        }
        let mut random = self.random(index);
        let star = Star::draw(&mut random);
        let (mut fluxes, mut errors) = (Vec::new(), Vec::new());
        for &wavelength in &self.0.wavelengths {
            let flux = star.flux(wavelength);
            let error = SKY.hypot(CALIBRATION * flux);
            let noise: f64 = StandardNormal.sample(&mut random);
            let observed = random.random::<f64>() >= self.0.missing;
            fluxes.push(if observed { flux + error * noise } else { f64::NAN });
            errors.push(if observed { error } else { f64::NAN });
        }
        let field = |numbers: Vec<f64>| -> Result<Field> {
            let array = Array::new(vec![numbers.len()], Data::F64(numbers))?;
            Ok(Field { array, unit: Some(Unit::MicroJy.name().to_owned()) })
        };
        let fields =
            [("flux".to_owned(), field(fluxes)?), ("flux_error".to_owned(), field(errors)?)];
        Ok(Observation { id: self.id(index), fields: fields.into(), labels: star.labels() })
    }
}

register_source!(
    "black-bodies",
    "Stars as black bodies in broad bands, some of them missing; needs no file",
    "objects = 1000\nwavelengths = [4702, 6176, 7490]",
    None,
    BlackBodiesConfig
);

#[cfg(test)]
mod tests {
    use super::*;

    /// The Sun at 10 pc, a black body of 5772 K, has an AB magnitude near 4.8 in V.
    #[test]
    fn the_sun_is_as_bright_as_it_should_be() {
        let sun = Star { temperature: 5772.0, distance: 0.01 };
        let (magnitude, _) = Unit::Magnitude.from_microjansky(sun.flux(5500.0), 1.0);
        assert!((magnitude - 4.8).abs() < 0.15, "{magnitude}");
    }
}
