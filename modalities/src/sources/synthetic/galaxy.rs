//! A galaxy as the survey lists it: what it is, where it is, and what the telescope gets.
//!
//! Masses and star-formation rates (`population.rs`) give shapes (`morphology.rs`) and, part
//! by part, colours and luminosities (`photometry.rs`): stars form in the disc alone, a bulge
//! is old. Apparent magnitudes are drawn, and distances follow.
//!
//! | quantity | distribution |
//! |---|---|
//! | r magnitude | counts dN/dm ~ 10^(0.6 m) over 14 to 17.77, as uniform space gives and SDSS finds (Yasuda et al. 2001, AJ 122, 1104), the range of Galaxy Zoo DECaLS (Walmsley et al. 2022, MNRAS 509, 3966) |
//! | which are seen | galaxies of much light for their mass more often, by (L / M)^1.5, the volume that the magnitude limit leaves them |
//! | redshift | where a galaxy of that absolute magnitude has that magnitude |
//! | size | half-light radius of 2 arcsec at least, were the profiles not cut off and a bar's light the disc's: a stand-in for a Petrosian radius of 3 arcsec, Galaxy Zoo DECaLS's other limit. The label `half_light_radius` is of the light as drawn, so that barred galaxies may have less |
//! | dust | dims discs by up to 0.8, 0.55, 0.35 mag in g, r, z times log10 of major over minor axis: stand-in |

use astropt_core::observation::{Label, Labels};
use rand::{Rng, RngExt};

use super::artefact::Artefact;
use super::gaussian::{
    DE_VAUCOULEURS, EXPONENTIAL, GAUSSIAN, ellipse, elongated_within, rotated, within,
};
use super::morphology::{EXPONENTIAL_HALF, Morphology, half_light};
use super::photometry::{
    SUN_R, absolute_magnitudes, distance_modulus, flux, in_north, k_corrections,
    kiloparsecs_per_arcsec, magnitude, redshift, rest_colours, youth,
};
use super::population::{Population, VOLUME, normal};
use super::sky::{Conditions, Place, Telescope};
use super::votes::Votes;
use super::{BANDS, PIXEL_SCALE};

/// Range of r magnitudes.
const MAGNITUDES: [f64; 2] = [14.0, 17.77];
/// Least half-light radius, in arcsec.
const LEAST_RADIUS: f64 = 2.0;
/// Specific star-formation rate of a bulge, log10 of 1/yr.
const OLD: f64 = -12.0;
/// Dimming of a star-forming disc in g, r, z by a factor of ten in axis ratio, in mag.
const DUST: [f64; BANDS] = [0.8, 0.55, 0.35];
/// Light over mass of the youngest galaxies, r band, log10 in solar units.
const BRIGHTEST: f64 = 0.25;
/// Standard deviation of a part's colours about the relation, in mag.
const COLOUR_SCATTER: f64 = 0.03;

/// Stars that share a profile.
#[derive(Clone, Debug)]
pub(super) struct Component {
    /// Total flux in g, r, z, as the telescope measures it, in nanomaggies.
    pub(super) flux: [f64; BANDS],
    /// The profile as a mixture of Gaussians.
    pub(super) mixture: &'static [(f64, f64)],
    /// Covariance on the sky of a Gaussian of variance 1 in the mixture, in squared pixels.
    pub(super) shape: [f64; 3],
}

/// A galaxy, and who saw it how.
#[derive(Clone, Debug)]
pub(super) struct Galaxy {
    pub(super) place: Place,
    pub(super) conditions: Conditions,
    pub(super) population: Population,
    pub(super) morphology: Morphology,
    redshift: f64,
    /// Rest-frame absolute magnitudes in g, r, z of DECam.
    absolute: [f64; BANDS],
    /// Half-light radius of the disc, in pixels.
    disc_radius: f64,
    /// Scale length of the disc, in pixels.
    pub(super) scale: f64,
    pub(super) bulge: Component,
    pub(super) disc: Component,
    pub(super) bar: Option<Component>,
    /// x and y of the centre, in pixels from the pixel that is 0, 0 in stamps of every size.
    pub(super) centre: [f64; 2],
}

/// The light of a galaxy's parts, absolute magnitudes, rest frame.
struct Light {
    /// Bulge, disc and bar.
    parts: [[f64; BANDS]; 3],
    /// Rest-frame g - r of each.
    colours: [f64; 3],
}

impl Light {
    /// The light of a bulge, a disc and a bar of these stars. A part of no mass has none.
    fn draw(population: &Population, morphology: &Morphology, random: &mut impl Rng) -> Self {
        let Population { log_mass, log_ssfr } = *population;
        let disc = 1.0 - morphology.bulge_share;
        let bar = disc * morphology.bar.map_or(0.0, |bar| bar.share);
        let forming = if morphology.elliptical { log_ssfr } else { log_ssfr - disc.log10() };
        let of_bulge = if morphology.elliptical { log_ssfr } else { OLD };
        // A bar is redder than the disc around it.
        let of_bar = 0.5 * (forming + OLD);
        let [_, axis_ratio] = morphology.axis_ratios();
        let dust = DUST.map(|dust| -dust * axis_ratio.log10() * youth(forming));
        let shares = [morphology.bulge_share, disc - bar, bar];
        let mut parts = [[f64::INFINITY; BANDS]; 3];
        let mut colours = [0.0; 3];
        for (k, log_ssfr) in [of_bulge, forming, of_bar].into_iter().enumerate() {
            let relation = rest_colours(log_ssfr, log_mass);
            let rest = relation.map(|colour| normal(random, colour, COLOUR_SCATTER));
            let magnitudes = absolute_magnitudes(log_mass + shares[k].log10(), rest);
            let dust = if k == 0 { [0.0; BANDS] } else { dust };
            parts[k] = std::array::from_fn(|band| magnitudes[band] + dust[band]);
            colours[k] = rest[0];
        }
        Self { parts, colours }
    }

    /// Observed fluxes of the parts at redshift `z`, in nanomaggies of DECam.
    fn at(&self, z: f64) -> [[f64; BANDS]; 3] {
        let modulus = distance_modulus(z);
        std::array::from_fn(|part| {
            let k = k_corrections(z, self.colours[part]);
            std::array::from_fn(|band| flux(self.parts[part][band] + modulus + k[band]))
        })
    }

    /// Redshift at which the whole has the magnitude `r`.
    fn redshift(&self, r: f64) -> f64 {
        let mut modulus = r - total(&self.parts.map(|part| part.map(flux))).map(magnitude)[1];
        for _ in 0..4 {
            let now = total(&self.at(redshift(modulus))).map(magnitude)[1];
            modulus += r - now;
        }
        redshift(modulus)
    }
}

/// Sums over parts, band by band.
fn total(parts: &[[f64; BANDS]; 3]) -> [f64; BANDS] {
    std::array::from_fn(|band| parts.iter().map(|part| part[band]).sum())
}

impl Galaxy {
    /// Draws a galaxy that the survey lists. `conditions` tells those of a place.
    pub(super) fn draw(random: &mut impl Rng, conditions: impl Fn(Place) -> Conditions) -> Self {
        let place = Place::draw(random);
        let conditions = conditions(place);
        loop {
            if let Some(galaxy) = Self::draw_any(random, place, conditions) {
                return galaxy;
            }
        }
    }

    /// Draws a galaxy; none where it would be too faint for its mass to be seen, or too small.
    fn draw_any(random: &mut impl Rng, place: Place, conditions: Conditions) -> Option<Self> {
        let population = Population::draw(random);
        let morphology = Morphology::draw(&population, random);
        let light = Light::draw(&population, &morphology, random);
        let absolute = total(&light.parts.map(|part| part.map(flux))).map(magnitude);
        if random.random::<f64>() > seen_volume(absolute[1], population.log_mass) {
            return None;
        }
        let redshift = light.redshift(apparent_magnitude(random.random()));
        let radius = morphology.radius / kiloparsecs_per_arcsec(redshift);
        if radius < LEAST_RADIUS {
            return None;
        }
        let fluxes = light.at(redshift).map(|part| as_measured(part, place.telescope()));
        let bulge_fraction = fluxes[0][1] / total(&fluxes)[1];
        let disc_radius = radius / half_light(bulge_fraction, morphology.radius_ratio);
        let pixels = disc_radius / PIXEL_SCALE;
        let scale = pixels / EXPONENTIAL_HALF;
        let [round, flat] = morphology.axis_ratios();
        let angle = morphology.position_angle;
        let bar = morphology.bar.map(|bar| Component {
            flux: fluxes[2],
            mixture: &GAUSSIAN,
            shape: rotated(bar.seen(scale, flat), angle),
        });
        Some(Self {
            bulge: Component {
                flux: fluxes[0],
                mixture: &DE_VAUCOULEURS,
                shape: ellipse(morphology.radius_ratio * pixels, round, angle),
            },
            disc: Component {
                flux: fluxes[1],
                mixture: &EXPONENTIAL,
                shape: ellipse(pixels, flat, angle),
            },
            bar,
            absolute,
            // Between the four middle pixels of a stamp of even size, half a pixel more or less.
            centre: [-random.random::<f64>(), -random.random::<f64>()],
            place,
            conditions,
            population,
            morphology,
            redshift,
            disc_radius: pixels,
            scale,
        })
    }

    /// Radius that holds half the r-band light of the galaxy as it is drawn, seen face-on and before
    /// seeing, in arcsec.
    pub(super) fn half_light_radius(&self) -> f64 {
        let Morphology { radius_ratio, bar, .. } = self.morphology;
        let bar = self.bar.as_ref().zip(bar);
        let bar = bar.map(|(seen, bar)| (seen.flux[1], bar.variances(self.scale)));
        let inside = |r: f64| {
            self.bulge.flux[1] * within(&DE_VAUCOULEURS, radius_ratio * self.disc_radius, r)
                + self.disc.flux[1] * within(&EXPONENTIAL, self.disc_radius, r)
                + bar.map_or(0.0, |(flux, variances)| flux * elongated_within(variances, r))
        };
        let half = 0.5 * self.flux()[1];
        // All parts hold nearly all of their light within four radii of the larger one.
        let (mut low, mut high) = (0.0, 4.0 * self.disc_radius * radius_ratio.max(1.0));
        for _ in 0..24 {
            let middle = 0.5 * (low + high);
            if inside(middle) < half { low = middle } else { high = middle }
        }
        low * PIXEL_SCALE
    }

    /// Flux of the whole, in nanomaggies.
    pub(super) fn flux(&self) -> [f64; BANDS] {
        let bar = self.bar.as_ref().map_or([0.0; BANDS], |bar| bar.flux);
        total(&[self.bulge.flux, self.disc.flux, bar])
    }

    /// The true parameters, and the votes that `random` is for, as the module's documentation
    /// lists them.
    pub(super) fn labels(&self, artefact: Option<&Artefact>, random: &mut impl Rng) -> Labels {
        let flux = self.flux();
        let [g, r, z] = flux.map(magnitude);
        let resolution = self.scale * PIXEL_SCALE / self.conditions.seeing[1];
        let disc_share = 1.0 - self.bulge.flux[1] / flux[1];
        let spoilt = artefact.map_or(0.0, Artefact::severity);
        let votes = Votes::draw(&self.morphology, disc_share, resolution, spoilt, random);
        let bar = self.bar.as_ref().map_or(0.0, |bar| bar.flux[1] / flux[1]);
        let tile = self.place.tile();
        let numbers = [
            ("mag_g", g),
            ("mag_r", r),
            ("mag_z", z),
            ("g_r", g - r),
            ("r_z", r - z),
            ("abs_mag_g", self.absolute[0]),
            ("abs_mag_r", self.absolute[1]),
            ("abs_mag_z", self.absolute[2]),
            ("redshift", self.redshift),
            ("log_stellar_mass", self.population.log_mass),
            ("log_ssfr", self.population.log_ssfr),
            ("smooth", votes.first[0]),
            ("disc", votes.first[1]),
            ("artefact", votes.first[2]),
            ("edge_on", votes.edge_on),
            ("tight_spiral", votes.tight_spiral),
            ("bulge_fraction", 1.0 - disc_share),
            ("bar_fraction", bar),
            ("half_light_radius", self.half_light_radius()),
            ("inclination", self.morphology.inclination()),
            ("position_angle", self.morphology.position_angle),
            ("ra", self.place.ra),
            ("dec", self.place.dec),
        ];
        let number = |(name, value): (&str, f64)| (name.to_owned(), Label::Number(value));
        let arms = self.morphology.arms.map(|arms| ("pitch_angle", arms.pitch.abs()));
        let texts = [
            ("telescope", self.place.telescope().name().to_owned()),
            ("tile", format!("{:02}-{:02}", tile[0], tile[1])),
        ];
        numbers
            .into_iter()
            .chain(arms)
            .map(number)
            .chain(texts.map(|(name, text)| (name.to_owned(), Label::Text(text))))
            .collect()
    }
}

/// The volume in which a magnitude limit sees a galaxy, over the largest of its mass: masses
/// are drawn as if all gave the same light.
fn seen_volume(absolute_r: f64, log_mass: f64) -> f64 {
    let log_light_to_mass = 0.4 * (SUN_R - absolute_r) - log_mass;
    10f64.powf(VOLUME * (log_light_to_mass - BRIGHTEST)).min(1.0)
}

/// Fluxes of DECam as a telescope measures them; a part of no light keeps none.
fn as_measured(fluxes: [f64; BANDS], telescope: Telescope) -> [f64; BANDS] {
    match telescope {
        Telescope::North if fluxes[1] > 0.0 => in_north(fluxes.map(magnitude)).map(flux),
        _ => fluxes,
    }
}

/// Apparent magnitude at the share `u` of counts that grow as 10^(0.6 m).
fn apparent_magnitude(u: f64) -> f64 {
    let [bright, faint] = MAGNITUDES.map(|m| 10f64.powf(0.6 * m));
    (bright + u * (faint - bright)).log10() / 0.6
}
