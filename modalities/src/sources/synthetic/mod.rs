//! The source `synthetic`: a survey of galaxies that never were, for tests, demonstrations
//! and benches.
//!
//! Object k is a pure function of (`seed`, k). Galaxies are drawn from stated distributions of
//! mass, star formation and distance (`population.rs`, `photometry.rs`, `galaxy.rs`) and of
//! shape (`morphology.rs`, `spiral.rs`), placed on a footprint that two telescopes share
//! (`sky.rs`), and rendered in g, r and z (`render.rs`, `gaussian.rs`) among stars and other
//! galaxies (`field.rs`), with seeing, sky noise and now and then an artefact
//! (`artefact.rs`), in the colours of a survey (`stretch.rs`). Each file says where its numbers
//! come from, or that they are stand-ins.
//!
//! North is up, east left, and a pixel is 0.262 arcsec wide, as in the DESI Legacy Imaging
//! Surveys. A stamp of a smaller `size` shows the middle of the larger one, the same sky with the same
//! noise, and has the same labels; at its rim, where a JPEG's colours are interpolated from other
//! pixels, some bytes are others.
//!
//! | label | |
//! |---|---|
//! | `mag_g`, `mag_r`, `mag_z`, `g_r`, `r_z` | apparent magnitudes (AB) and colours of the whole, as its telescope measures them, without noise |
//! | `abs_mag_g`, `abs_mag_r`, `abs_mag_z` | absolute magnitudes, rest frame, in DECam's bands |
//! | `redshift` | |
//! | `log_stellar_mass`, `log_ssfr` | log10 of solar masses; log10 of star-formation rate over stellar mass, in 1/yr |
//! | `smooth`, `disc`, `artefact`, `edge_on`, `tight_spiral` | shares of 40 volunteers who say so (`votes.rs`) |
//! | `bulge_fraction`, `bar_fraction` | of the r-band flux |
//! | `half_light_radius` | arcsec, r band, of the galaxy as drawn, seen face-on, before seeing: along the major axis of an inclined one |
//! | `inclination`, `position_angle` | degrees: 0 is face-on; east of north, 0 to 180 |
//! | `pitch_angle` | degrees between spiral arms and circles; only where there are arms |
//! | `ra`, `dec` | degrees |
//! | `telescope` | `north` (BASS and MzLS) or `south` (DECam) |
//! | `tile` | a text for each 5 x 5 degrees of sky, whose galaxies share seeing and depth: for `split.group` |

mod artefact;
mod field;
mod galaxy;
mod gaussian;
mod morphology;
mod photometry;
mod population;
mod render;
mod sky;
mod spiral;
mod stretch;
mod votes;

use std::collections::BTreeMap;
use std::path::Path;

use astropt_core::observation::{Array, Data, Field, LabelUnits, Labels, Observation};
use astropt_core::seam::{Source, SourceConfig};
use astropt_core::{Error, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use artefact::Artefact;
use field::Density;
use galaxy::Galaxy;
use render::Canvas;
use sky::{Conditions, Place};

/// Width of a pixel, in arcsec.
pub const PIXEL_SCALE: f64 = 0.262;
/// The bands, in the order of the stored planes.
const BANDS: usize = 3;
/// Largest side of a stamp, in pixels.
const MAX_SIZE: usize = 4096;

/// Units, and the labels that are in them; the others are pure numbers and texts.
const LABEL_UNITS: [(&str, &[&str]); 4] = [
    ("mag", &["mag_g", "mag_r", "mag_z", "g_r", "r_z", "abs_mag_g", "abs_mag_r", "abs_mag_z"]),
    ("dex", &["log_stellar_mass", "log_ssfr"]),
    ("arcsec", &["half_light_radius"]),
    ("deg", &["inclination", "position_angle", "pitch_angle", "ra", "dec"]),
];

/// Most galaxies: ten times the largest survey's.
const MAX_OBJECTS: usize = 1_000_000_000;

/// Configuration of the source `synthetic`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticConfig {
    /// How many galaxies there are.
    pub objects: usize,
    /// Side of a stamp, in pixels of 0.262 arcsec. Smaller stamps show the middle of larger ones.
    #[serde(default = "default_size")]
    pub size: usize,
    /// Another seed gives other galaxies. At most 2^63 - 1, the largest integer of TOML.
    #[serde(default)]
    pub seed: u64,
    /// Sky noise in units of the survey's; 0 for none.
    #[serde(default = "one")]
    pub noise: f64,
    /// Stars in the field in units of the sky's; 0 for none.
    #[serde(default = "one")]
    pub stars: f64,
    /// Other galaxies in the field in units of the sky's; 0 for none.
    #[serde(default = "one")]
    pub neighbours: f64,
    /// Share of images with an artefact: a satellite's trail, a bad column, a band or an edge
    /// without data.
    #[serde(default = "default_artefacts")]
    pub artefacts: f64,
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

fn one() -> f64 {
    1.0
}

fn default_artefacts() -> f64 {
    0.05
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
        let limits = [
            ("noise", self.noise, 1e3),
            ("stars", self.stars, 100.0),
            ("neighbours", self.neighbours, 100.0),
            ("artefacts", self.artefacts, 1.0),
        ];
        for (key, value, most) in limits {
            if !(0.0..=most).contains(&value) {
                return Err(Error::Misuse(format!(
                    "`{key}` is {value}; it must lie between 0 and {most}"
                )));
            }
        }
        Ok(())
    }

    fn open(&self, _root: &Path) -> Result<Box<dyn Source>> {
        self.check()?;
        Ok(Box::new(Synthetic(self.clone())))
    }
}

/// What a stream of random numbers is for. Each has its own, so that a number drawn more or
/// less for one thing leaves the others as they are.
#[derive(Clone, Copy)]
enum Purpose {
    Galaxy,
    Votes,
    Details,
    Noise,
    Artefact,
    /// The square of sky with this corner.
    Field([i64; 2]),
}

impl Purpose {
    /// Bits of a stream's number that say its purpose.
    const BITS: u32 = 20;

    fn number(self) -> u64 {
        match self {
            Self::Galaxy => 0,
            Self::Votes => 1,
            Self::Details => 2,
            Self::Noise => 3,
            Self::Artefact => 4,
            Self::Field(corner) => {
                // Stamps of the largest size see squares -36 to 36.
                let [x, y] = corner.map(|c| (c / field::SQUARE + 64) as u64);
                1 << 16 | y << 8 | x
            }
        }
    }
}

impl Synthetic {
    fn stream(&self, number: u64) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::seed_from_u64(self.0.seed);
        random.set_stream(number);
        random
    }

    /// The random numbers of object `index`.
    fn random(&self, index: usize, purpose: Purpose) -> ChaCha8Rng {
        self.stream((index as u64) << Purpose::BITS | purpose.number())
    }

    /// Seeing and depth at a place: those of its tile.
    fn conditions(&self, place: Place) -> Conditions {
        let [row, number] = place.tile().map(u64::from);
        // The top bit keeps the streams of tiles apart from those of objects.
        Conditions::draw(place.telescope(), &mut self.stream(1 << 63 | row << 16 | number))
    }

    fn galaxy(&self, index: usize) -> Galaxy {
        Galaxy::draw(&mut self.random(index, Purpose::Galaxy), |place| self.conditions(place))
    }

    fn artefact(&self, index: usize) -> Option<Artefact> {
        Artefact::draw(self.0.artefacts, &mut self.random(index, Purpose::Artefact))
    }

    fn labels_of(&self, index: usize, galaxy: &Galaxy) -> Labels {
        galaxy.labels(self.artefact(index).as_ref(), &mut self.random(index, Purpose::Votes))
    }

    /// Fluxes of object `index` on a stamp of `size` pixels.
    fn stamp(&self, index: usize, galaxy: &Galaxy, size: usize) -> Canvas {
        let Self(config) = self;
        let mut canvas = Canvas::new(size);
        render::add_galaxy(&mut canvas, galaxy, &mut self.random(index, Purpose::Details));
        let density = Density { stars: config.stars, galaxies: config.neighbours };
        if density.stars > 0.0 || density.galaxies > 0.0 {
            for corner in field::squares(size) {
                let mut random = self.random(index, Purpose::Field(corner));
                field::add_square(&mut canvas, galaxy, density, corner, &mut random);
            }
        }
        let mut random = self.random(index, Purpose::Noise);
        let keys = std::array::from_fn(|_| random.next_u64());
        render::add_noise(&mut canvas, &galaxy.conditions, config.noise, keys);
        if let Some(artefact) = self.artefact(index) {
            artefact.apply(&mut canvas);
        }
        canvas
    }
}

/// The middle `size` pixels of a square picture `[side, side, 3]`.
fn middle(pixels: &[u8], side: usize, size: usize) -> Vec<u8> {
    let first = side / 2 - size / 2;
    let row = |y: usize| &pixels[((first + y) * side + first) * BANDS..][..size * BANDS];
    (0..size).map(row).collect::<Vec<_>>().concat()
}

impl Source for Synthetic {
    fn len(&self) -> usize {
        self.0.objects
    }

    fn labelled(&self) -> usize {
        self.0.objects
    }

    fn id(&self, index: usize) -> String {
        format!("synthetic-{index:06}")
    }

    fn labels(&self, index: usize) -> Labels {
        self.labels_of(index, &self.galaxy(index))
    }

    fn label_units(&self) -> LabelUnits {
        let units = LABEL_UNITS.iter().flat_map(|(unit, labels)| {
            labels.iter().map(|label| ((*label).to_owned(), (*unit).to_owned()))
        });
        units.collect()
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
        let (data, unit) = match self.0.pixels {
            Pixels::Rgb => {
                let side = stretch::whole_units(size);
                let colours = stretch::colour(&self.stamp(index, &galaxy, side).planes);
                let colours = stretch::through_jpeg(&colours, side)?;
                (Data::U8(middle(&colours, side, size)), None)
            }
            Pixels::Flux => {
                let [g, r, z] = &self.stamp(index, &galaxy, size).planes;
                let pixels = g.iter().zip(r).zip(z).flat_map(|((&g, &r), &z)| [g, r, z]);
                (Data::F32(pixels.collect()), Some("nanomaggy".to_owned()))
            }
        };
        let array = Array::new(vec![size, size, BANDS], data)?;
        Ok(Observation {
            id: self.id(index),
            fields: BTreeMap::from([("image".to_owned(), Field { array, unit })]),
            labels: self.labels_of(index, &galaxy),
        })
    }
}

astropt_core::register_source!(
    "synthetic",
    "A survey of simulated galaxies of known mass, star formation, distance and shape; needs no file",
    "objects = 1000\nsize = 64\nseed = 0",
    None,
    SyntheticConfig
);

#[cfg(test)]
mod tests;
