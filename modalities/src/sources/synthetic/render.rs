//! A galaxy -> pixels.

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Exp1};

use super::BANDS;
use super::galaxy::{Component, Galaxy};
use super::gaussian::{Gaussian, clip, ellipse};
use super::morphology::Arms;
use super::photometry::youth;
use super::sky::{Conditions, Noise};
use super::spiral::{OUTER, Pattern};

/// The planes g, r, z of a square stamp, in nanomaggies a pixel. Places on the sky are
/// counted in pixels from the one at column and row `size / 2`, so that a smaller stamp is a
/// crop of a larger one.
pub(super) struct Canvas {
    pub(super) size: usize,
    pub(super) planes: [Vec<f32>; BANDS],
}

impl Canvas {
    /// An empty sky.
    pub(super) fn new(size: usize) -> Self {
        Self { size, planes: std::array::from_fn(|_| vec![0.0; size * size]) }
    }
}

/// Size of a component in g, r, z over that in r: galaxies grow redder towards their centres
/// (de Jong 1996, A&A 313, 377); a stand-in for his gradients.
const EXTENT: [f64; BANDS] = [1.08, 1.0, 0.92];
/// Share of a disc's young stars in knots: clusters and the gas that they light up.
const KNOTS: f64 = 0.06;
/// How many knots there are at most.
const MOST_KNOTS: usize = 40;
/// Share of the old stars that follow the arms too.
const OLD_FOLLOW: f32 = 0.15;
/// Observed g - r and r - z of young stars.
const YOUNG: [f64; 2] = [0.1, -0.05];
/// Inclinations with a smaller cosine show the dust in the disc as a lane.
const EDGE_ON: f64 = 0.26;
/// How much of the light behind it a lane takes in g, r, z, before seeing.
const LANE: [f64; BANDS] = [0.95, 0.88, 0.7];

/// Adds a component seen through the point-spread functions.
pub(super) fn add_component(
    canvas: &mut Canvas,
    component: &Component,
    centre: [f64; 2],
    conditions: &Conditions,
) {
    for band in 0..BANDS {
        for gaussian in gaussians(component, centre, conditions, band) {
            gaussian.add(&mut canvas.planes[band], canvas.size);
        }
    }
}

fn gaussians(
    component: &Component,
    centre: [f64; 2],
    conditions: &Conditions,
    band: usize,
) -> impl Iterator<Item = Gaussian> {
    let Component { flux, mixture, shape } = component;
    let shape = shape.map(|s| s * EXTENT[band] * EXTENT[band]);
    Gaussian::profile(mixture, flux[band], centre, shape, conditions.blur(band))
}

/// Adds a galaxy; `random` is for the details of its disc.
pub(super) fn add_galaxy(canvas: &mut Canvas, galaxy: &Galaxy, random: &mut impl Rng) {
    let Galaxy { bulge, disc, bar, centre, conditions, .. } = galaxy;
    if let Some(bar) = bar {
        add_component(canvas, bar, *centre, conditions);
    }
    if galaxy.morphology.cosine < EDGE_ON && !galaxy.morphology.elliptical {
        let lane = Lane::draw(galaxy, random);
        lane.add(canvas, bulge, galaxy);
        lane.add(canvas, disc, galaxy);
        return;
    }
    add_component(canvas, bulge, *centre, conditions);
    match &galaxy.morphology.arms {
        Some(arms) => add_spiral(canvas, galaxy, arms, random),
        None => add_component(canvas, disc, *centre, conditions),
    }
}

/// Dust in a disc seen from its edge.
struct Lane {
    /// Covariance before seeing, in squared pixels.
    shape: [f64; 3],
    /// Share of the light that it takes, by band, before seeing.
    depth: [f64; BANDS],
}

impl Lane {
    fn draw(galaxy: &Galaxy, random: &mut impl Rng) -> Self {
        let amount =
            youth(galaxy.population.log_ssfr).sqrt() * (0.5 + 0.5 * random.random::<f64>());
        let edge = (1.0 - galaxy.morphology.cosine / EDGE_ON).sqrt();
        let [long, thin] = [1.6 * galaxy.scale, 0.13 * galaxy.scale];
        Self {
            shape: ellipse(long, thin / long, galaxy.morphology.position_angle),
            depth: LANE.map(|depth| depth * amount * edge),
        }
    }

    /// Adds a component behind and around the lane. What the lane takes is put back in as a
    /// brighter component, so that the component's flux stays.
    fn add(&self, canvas: &mut Canvas, component: &Component, galaxy: &Galaxy) {
        let determinant = |[xx, xy, yy]: [f64; 3]| xx * yy - xy * xy;
        for band in 0..BANDS {
            let blur = galaxy.conditions.blur(band);
            let seen = [self.shape[0] + blur, self.shape[1], self.shape[2] + blur];
            let depth = self.depth[band] * (determinant(self.shape) / determinant(seen)).sqrt();
            let light: Vec<_> =
                gaussians(component, galaxy.centre, &galaxy.conditions, band).collect();
            let dark: Vec<_> = light.iter().map(|light| light.times(-depth, seen)).collect();
            let left: f64 = light.iter().chain(&dark).map(|gaussian| gaussian.flux).sum();
            let gain = component.flux[band] / left;
            for gaussian in light.into_iter().chain(dark).filter(|_| left > 0.0) {
                let gaussian = Gaussian { flux: gain * gaussian.flux, ..gaussian };
                gaussian.add(&mut canvas.planes[band], canvas.size);
            }
        }
    }
}

/// Adds a disc with arms: the smooth disc times the pattern of its young stars, and knots.
fn add_spiral(canvas: &mut Canvas, galaxy: &Galaxy, arms: &Arms, random: &mut impl Rng) {
    let Galaxy { disc, centre, conditions, .. } = galaxy;
    let size = canvas.size;
    // In the plane of the disc the seeing is stretched across the major axis.
    let blur = (conditions.blur(1) / galaxy.morphology.cosine).sqrt();
    let pattern = Pattern::new(arms, galaxy.scale, blur, random);
    let young = young_shares(disc.flux, arms.young);
    let knots = KNOTS * arms.flocculence.min(1.0);
    let frame = Frame::new(galaxy);
    let rows = frame.rows(size);
    let mut smooth: [Vec<f32>; BANDS] = std::array::from_fn(|_| vec![0.0; size * size]);
    for band in 0..BANDS {
        for gaussian in gaussians(disc, *centre, conditions, band) {
            let flux = gaussian.flux * (1.0 - knots * young[band]);
            Gaussian { flux, ..gaussian }.add(&mut smooth[band], size);
        }
    }
    let follow = young.map(|y| y as f32 + OLD_FOLLOW * (1.0 - y as f32));
    for row in 0..size {
        let columns = if rows.contains(&row) { frame.columns(size) } else { 0..0 };
        for column in 0..size {
            let at = row * size + column;
            let excess = if columns.contains(&column) {
                let [x, y] = frame.in_the_disc(row, column, size);
                pattern.at(x, y)
            } else {
                0.0
            };
            for band in 0..BANDS {
                canvas.planes[band][at] += smooth[band][at] * (1.0 + follow[band] * excess);
            }
        }
    }
    let flux = std::array::from_fn(|band| knots * young[band] * disc.flux[band]);
    add_knots(canvas, galaxy, &pattern, flux, random);
}

/// Share of the young stars in the disc's light in g, r, z, when it is `young` in r.
fn young_shares([g, r, z]: [f64; BANDS], young: f64) -> [f64; BANDS] {
    let of = |flux: f64, colour: f64| young * r / flux * 10f64.powf(0.4 * colour);
    [of(g, -YOUNG[0]), young, of(z, -YOUNG[1])].map(|share| share.clamp(0.0, 0.95))
}

/// Adds knots of a total flux along the arms.
fn add_knots(
    canvas: &mut Canvas,
    galaxy: &Galaxy,
    pattern: &Pattern,
    flux: [f64; BANDS],
    random: &mut impl Rng,
) {
    let shares: Vec<f64> = (0..MOST_KNOTS)
        .map(|_| {
            let unit: f64 = Exp1.sample(random);
            unit * unit
        })
        .collect();
    let total: f64 = shares.iter().sum();
    for share in shares {
        let [along, across] = pattern.on_an_arm(random);
        let frame = Frame::new(galaxy);
        let width = 0.06 * galaxy.scale * (0.5 + random.random::<f64>());
        for (band, flux) in flux.iter().enumerate() {
            let variance = width * width + galaxy.conditions.blur(band);
            Gaussian {
                flux: flux * share / total,
                centre: frame.on_the_sky(along, across),
                covariance: [variance, 0.0, variance],
            }
            .add(&mut canvas.planes[band], canvas.size);
        }
    }
}

/// The plane of a galaxy's disc on the sky.
struct Frame {
    centre: [f64; 2],
    /// Sine and cosine of the position angle.
    angle: (f64, f64),
    cosine: f64,
    /// Where the disc's pattern ends, in pixels.
    reach: f64,
}

impl Frame {
    fn new(galaxy: &Galaxy) -> Self {
        Self {
            centre: galaxy.centre,
            angle: galaxy.morphology.position_angle.to_radians().sin_cos(),
            cosine: galaxy.morphology.cosine,
            reach: OUTER * galaxy.scale,
        }
    }

    /// Place along and across the major axis, in the plane of the disc, of a pixel.
    fn in_the_disc(&self, row: usize, column: usize, size: usize) -> [f32; 2] {
        let middle = (size / 2) as f64;
        let (x, y) =
            (column as f64 - middle - self.centre[0], row as f64 - middle - self.centre[1]);
        let (s, c) = self.angle;
        [(-s * x - c * y) as f32, ((c * x - s * y) / self.cosine) as f32]
    }

    /// The place on the sky, in pixels, of one in the plane of the disc.
    fn on_the_sky(&self, along: f64, across: f64) -> [f64; 2] {
        let (s, c) = self.angle;
        let across = across * self.cosine;
        [self.centre[0] - s * along + c * across, self.centre[1] - c * along - s * across]
    }

    fn rows(&self, size: usize) -> std::ops::Range<usize> {
        let middle = (size / 2) as f64 + self.centre[1];
        clip(middle - self.reach, middle + self.reach, size)
    }

    fn columns(&self, size: usize) -> std::ops::Range<usize> {
        let middle = (size / 2) as f64 + self.centre[0];
        clip(middle - self.reach, middle + self.reach, size)
    }
}

/// Adds sky noise, `scale` times the survey's, to every pixel; `keys` has a band's each.
pub(super) fn add_noise(
    canvas: &mut Canvas,
    conditions: &Conditions,
    scale: f64,
    keys: [u64; BANDS],
) {
    if scale == 0.0 {
        return;
    }
    let (size, middle) = (canvas.size, (canvas.size / 2) as i32);
    for (band, plane) in canvas.planes.iter_mut().enumerate() {
        let deviation = (scale * conditions.noise[band]) as f32;
        let noise = Noise(keys[band]);
        for (row, pixels) in plane.chunks_exact_mut(size).enumerate() {
            for (column, pixel) in pixels.iter_mut().enumerate() {
                *pixel += deviation * noise.at(column as i32 - middle, row as i32 - middle);
            }
        }
    }
}
