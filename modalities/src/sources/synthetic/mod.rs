//! The source `synthetic`: galaxies that never were, for tests, demonstrations and benches.
//!
//! Object k is a pure function of (`seed`, k): its parameters are drawn from the
//! distributions stated in `galaxy.rs`, rendered in g, r and z with seeing and sky noise
//! (`render.rs`), and shown as a survey shows them (`stretch.rs`). North is up, east left,
//! and a pixel is 0.262 arcsec wide, as in the DESI Legacy Imaging Surveys.
//!
//! The true parameters are the labels: `mag_g`, `mag_r`, `mag_z` (AB), `g_r`, `r_z` (mag),
//! `redshift`, `bulge_fraction` (of the r-band flux), `half_light_radius` (arcsec, r band,
//! along the major axis, before seeing), `inclination` (degrees, 0 is face-on) and
//! `position_angle` (degrees east of north, 0 to 180).

mod galaxy;
mod render;
mod stretch;

use std::collections::BTreeMap;
use std::path::Path;

use astropt_core::observation::{Array, Data, Field, Labels, Observation};
use astropt_core::seam::{Source, SourceConfig};
use astropt_core::{Error, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use galaxy::Galaxy;

/// Width of a pixel, in arcsec.
pub const PIXEL_SCALE: f64 = 0.262;
/// The bands, in the order of the stored planes.
const BANDS: usize = 3;
/// Largest side of a stamp, in pixels.
const MAX_SIZE: usize = 4096;

/// Most galaxies: ten times the largest survey's.
const MAX_OBJECTS: usize = 1_000_000_000;

/// Configuration of the source `synthetic`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticConfig {
    /// How many galaxies there are.
    pub objects: usize,
    /// Side of a stamp, in pixels of 0.262 arcsec.
    #[serde(default = "default_size")]
    pub size: usize,
    /// Another seed gives other galaxies. At most 2^63 - 1, the largest integer of TOML.
    #[serde(default)]
    pub seed: u64,
    /// Sky noise in units of the survey's; 0 for none.
    #[serde(default = "default_noise")]
    pub noise: f64,
    /// What a pixel holds.
    #[serde(default)]
    pub pixels: Pixels,
}

/// What a pixel of the field `image` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pixels {
    /// Red, green and blue bytes made of z, r and g, as in a survey's JPEG cut-outs.
    #[default]
    Rgb,
    /// Linear fluxes in nanomaggies, bands g, r, z.
    Flux,
}

fn default_size() -> usize {
    64
}

fn default_noise() -> f64 {
    1.0
}

/// The survey that [`SyntheticConfig`] describes.
#[derive(Debug)]
struct Synthetic(SyntheticConfig);

#[typetag::serde(name = "synthetic")]
impl SourceConfig for SyntheticConfig {
    fn check(&self) -> Result<()> {
        if self.objects == 0 || self.objects > MAX_OBJECTS {
            return Err(Error::Misuse(format!(
                "`objects` is {}; it must lie between 1 and {MAX_OBJECTS}",
                self.objects
            )));
        }
        if self.size == 0 || self.size > MAX_SIZE {
            return Err(Error::Misuse(format!(
                "`size` is {} pixels; it must lie between 1 and {MAX_SIZE}",
                self.size
            )));
        }
        if !(self.noise.is_finite() && self.noise >= 0.0) {
            return Err(Error::Misuse(format!("`noise` is {}; it must be 0 or more", self.noise)));
        }
        Ok(())
    }

    fn open(&self, _root: &Path) -> Result<Box<dyn Source>> {
        self.check()?;
        Ok(Box::new(Synthetic(self.clone())))
    }
}

impl Synthetic {
    /// A stream of random numbers of object `index`. Parameters and noise have their own, so
    /// that a parameter drawn more or less leaves the noise as it is.
    fn random(&self, index: usize, purpose: u64) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::seed_from_u64(self.0.seed);
        random.set_stream(2 * index as u64 + purpose);
        random
    }

    fn galaxy(&self, index: usize) -> Galaxy {
        Galaxy::draw(&mut self.random(index, 0))
    }
}

impl Source for Synthetic {
    fn len(&self) -> usize {
        self.0.objects
    }

    fn id(&self, index: usize) -> String {
        format!("synthetic-{index:06}")
    }

    fn labels(&self, index: usize) -> Labels {
        self.galaxy(index).labels()
    }

    fn read(&self, index: usize) -> Result<Observation> {
        let size = self.0.size;
        if index >= self.len() {
            return Err(Error::Failed(format!(
                "there is no galaxy {index}; `objects` is {}",
                self.len()
            )));
        }
        let galaxy = self.galaxy(index);
        let mut fluxes = render::stamp(&galaxy, size);
        render::add_noise(&mut fluxes, self.0.noise, &mut self.random(index, 1));
        let (data, unit) = match self.0.pixels {
            Pixels::Rgb => (Data::U8(stretch::colour(&fluxes)), None),
            Pixels::Flux => {
                let [g, r, z] = &fluxes;
                let pixels = g.iter().zip(r).zip(z).flat_map(|((&g, &r), &z)| [g, r, z]);
                (Data::F32(pixels.collect()), Some("nanomaggy".to_owned()))
            }
        };
        let array = Array::new(vec![size, size, BANDS], data)?;
        Ok(Observation {
            id: self.id(index),
            fields: BTreeMap::from([("image".to_owned(), Field { array, unit })]),
            labels: galaxy.labels(),
        })
    }
}

astropt_core::register_source!(
    "synthetic",
    "Simulated galaxies of known magnitude, shape and colour; needs no file",
    "objects = 1000\nsize = 64\nseed = 0\nnoise = 1.0",
    None,
    SyntheticConfig
);
