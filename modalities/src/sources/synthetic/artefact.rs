//! What goes wrong at the telescope.
//!
//! A stated share of the images has one artefact: the trail of a satellite, a bad column, a
//! band without data, or an edge of the survey. It lies near the galaxy, so that a crop shows
//! it too.

use rand::{Rng, RngExt};

use super::BANDS;
use super::render::Canvas;

/// Furthest from the middle of the stamp, in pixels, that an artefact passes.
const FURTHEST: f64 = 40.0;

/// A straight line on the sky, or its one side.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Direction of the normal, from x towards y, in radians.
    angle: f64,
    /// Distance from the middle, in pixels.
    distance: f64,
}

impl Line {
    fn draw(random: &mut impl Rng) -> Self {
        Self {
            angle: std::f64::consts::TAU * random.random::<f64>(),
            distance: FURTHEST * random.random::<f64>(),
        }
    }
}

/// One artefact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Artefact {
    kind: Kind,
    line: Line,
    band: usize,
    /// Surface brightness of a trail or a column, in nanomaggies a pixel.
    brightness: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A satellite crossed one exposure, and so one band.
    Trail,
    /// Columns of a detector that count too many or too few.
    Columns,
    /// One band has no data.
    MissingBand,
    /// Beyond a line no band has data.
    Edge,
}

impl Artefact {
    /// Draws whether there is one, with probability `rate`, and which.
    pub(super) fn draw(rate: f64, random: &mut impl Rng) -> Option<Self> {
        let happens = random.random::<f64>() < rate;
        let kind = match random.random::<f64>() {
            u if u < 0.35 => Kind::Trail,
            u if u < 0.55 => Kind::Columns,
            u if u < 0.75 => Kind::MissingBand,
            _ => Kind::Edge,
        };
        let line = Line::draw(random);
        let band = random.random_range(0..BANDS);
        let brightness = 0.05 * 10f64.powf(random.random::<f64>());
        happens.then_some(Self { kind, line, band, brightness })
    }

    /// How much of the image it ruins, from 0 to 1.
    pub(super) fn severity(&self) -> f64 {
        let near = 1.0 - self.line.distance / FURTHEST;
        match self.kind {
            Kind::Trail => 0.4 + 0.4 * near,
            Kind::Columns => 0.3 + 0.4 * near,
            Kind::MissingBand => 1.0,
            Kind::Edge => 0.6 + 0.4 * near,
        }
    }

    /// Spoils a stamp whose sky noise is in it already.
    pub(super) fn apply(&self, canvas: &mut Canvas) {
        let size = canvas.size;
        let middle = (size / 2) as f64;
        let (s, c) = match self.kind {
            Kind::Columns => (0.0, 1.0),
            _ => self.line.angle.sin_cos(),
        };
        let brightness = self.brightness as f32;
        for at in 0..size * size {
            let (x, y) = ((at % size) as f64 - middle, (at / size) as f64 - middle);
            let beyond = (c * x + s * y - self.line.distance) as f32;
            match self.kind {
                Kind::Trail if beyond.abs() < 9.0 => {
                    canvas.planes[self.band][at] += brightness * (-0.06 * beyond * beyond).exp();
                }
                // Each column has its own offset.
                Kind::Columns if beyond.abs() < 2.0 => {
                    canvas.planes[self.band][at] +=
                        brightness * if beyond < 0.0 { 1.0 } else { -0.7 };
                }
                Kind::MissingBand => canvas.planes[self.band][at] = 0.0,
                Kind::Edge if beyond > 0.0 => {
                    canvas.planes.iter_mut().for_each(|plane| plane[at] = 0.0);
                }
                _ => {}
            }
        }
    }
}
