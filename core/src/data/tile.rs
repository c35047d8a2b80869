//! Equal-area tiles of the sky, so that neighbours stay in one split.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::observation::{Label, LabelUnits, Labels};

/// Largest side of a tile in degrees: HEALPix's twelve base pixels.
const LARGEST: f64 = 60.0;
/// Smallest side of a tile in degrees, a third of an arcsecond.
const SMALLEST: f64 = 1e-4;

/// `[split] tile`: objects of one tile of the sky stay together.
///
/// Tiles are the pixels of HEALPix in the ring scheme (Górski et al. 2005, ApJ 622, 759), which
/// have all the same area; their side is the one nearest to `degrees` that the scheme has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TileConfig {
    /// Label that holds the right ascension, in degrees.
    #[serde(default = "ra")]
    pub ra: String,
    /// Label that holds the declination, in degrees.
    #[serde(default = "dec")]
    pub dec: String,
    /// Side of a tile, in degrees.
    #[serde(default = "degrees")]
    pub degrees: f64,
}

fn ra() -> String {
    "ra".to_owned()
}

fn dec() -> String {
    "dec".to_owned()
}

fn degrees() -> f64 {
    1.0
}

impl TileConfig {
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(SMALLEST..=LARGEST).contains(&self.degrees) {
            let message =
                format!("degrees = {}; {SMALLEST} to {LARGEST} are possible", self.degrees);
            return Err(message);
        }
        Ok(())
    }

    /// What objects of one tile are hashed by; `None` for an object without coordinates.
    ///
    /// # Errors
    /// When the labels are no right ascension and declination in degrees.
    pub fn key(&self, id: &str, labels: &Labels) -> Result<Option<String>> {
        let Some((ra, dec)) = position(id, labels, &self.ra, &self.dec)? else { return Ok(None) };
        let nside = self.nside();
        Ok(Some(format!("tile {} of {nside}", pixel(nside, ra, dec))))
    }

    /// Pixels along the side of a base pixel: a pixel's area is pi / (3 nside^2) steradians.
    fn nside(&self) -> u64 {
        let side = (PI / 3.0).sqrt().to_degrees();
        (side / self.degrees).round().max(1.0) as u64
    }
}

/// Checks that the labels called `ra` and `dec` are in degrees, where a unit of theirs is stated in
/// `units`.
///
/// # Errors
/// When one is in something else: hours would all be places on the sky, and other ones.
pub(crate) fn check_degrees(units: &LabelUnits, ra: &str, dec: &str) -> Result<()> {
    let degrees = |unit: &str| unit.contains('°') || unit.to_lowercase().contains("deg");
    let wrong = [ra, dec]
        .into_iter()
        .find_map(|name| units.get(name).filter(|unit| !degrees(unit)).map(|unit| (name, unit)));
    wrong.map_or(Ok(()), |(name, unit)| {
        Err(Error::Misuse(format!(
            "the label {name:?} is in {unit:?}, and places on the sky are read in degrees; write it \
             in \"deg\", or name another label"
        )))
    })
}

/// Right ascension and declination of an object in degrees, read from the labels of these names;
/// `None` where one of them is missing.
///
/// # Errors
/// When they are text, or no angles of the sky.
pub fn position(id: &str, labels: &Labels, ra: &str, dec: &str) -> Result<Option<(f64, f64)>> {
    let number = |name: &str| match labels.get(name) {
        None => Ok(None),
        Some(Label::Number(number)) => Ok(Some(*number)),
        Some(Label::Text(text)) => {
            let message =
                format!("its label {name} is {text:?}, and should be degrees as a number");
            Err(Error::object(id, message))
        }
    };
    let (Some(right), Some(north)) = (number(ra)?, number(dec)?) else { return Ok(None) };
    if !(-360.0..=360.0).contains(&right) || !(-90.0..=90.0).contains(&north) {
        return Err(Error::object(
            id,
            format!("{ra} = {right} and {dec} = {north} are no place on the sky in degrees"),
        ));
    }
    Ok(Some((right, north)))
}

/// The pixel of HEALPix in the ring scheme that a place in degrees lies in (Górski et al. 2005,
/// section 4.1): `nside` pixels along the side of each of twelve base pixels, counted from the
/// north in rings of constant declination.
pub fn pixel(nside: u64, ra: f64, dec: f64) -> u64 {
    let n = nside as f64;
    let z = dec.to_radians().sin();
    // Quarters of a turn, 0 to 4.
    let quarters = (ra.rem_euclid(360.0) / 90.0).rem_euclid(4.0);
    if z.abs() <= 2.0 / 3.0 {
        // Lines that rise and fall with longitude bound the pixels.
        let (along, up) = (n * (0.5 + quarters), n * z * 0.75);
        let (falling, rising) = ((along - up).floor() as i64, (along + up).floor() as i64);
        let side = nside as i64;
        let ring = side + 1 + falling - rising;
        let shift = 1 - ring.rem_euclid(2);
        let place = ((falling + rising - side + shift + 1).div_euclid(2)).rem_euclid(4 * side);
        return (2 * side * (side - 1) + (ring - 1) * 4 * side + place) as u64;
    }
    let within = quarters.fract();
    // sqrt(3 (1 - |z|)), without the loss of digits at the poles.
    let from_pole = (0.5 * (90.0 - dec.abs()).to_radians()).sin();
    let width = n * 6.0f64.sqrt() * from_pole;
    let ring = (within * width).floor() as u64 + ((1.0 - within) * width).floor() as u64 + 1;
    let place = ((quarters * ring as f64).floor() as u64).min(4 * ring - 1);
    match z > 0.0 {
        true => 2 * ring * (ring - 1) + place,
        false => 12 * nside * nside - 2 * ring * (ring + 1) + place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of healpy 1.20.1, `ang2pix(nside, ra, dec, lonlat=True)`, within pixels: on their
    /// borders rounding decides.
    #[test]
    fn pixels_are_those_of_healpix() {
        for (nside, ra, dec, expected) in [
            (1, 0.0, 90.0, 0),
            (1, 10.0, -90.0, 8),
            (3, 180.0, 66.6, 8),
            (16, 1.3, 0.7, 1504),
            (16, 47.1, 45.3, 427),
            (16, 90.9, -0.4, 1520),
            (59, 10.684708, 41.26875, 7087),
            (59, 187.70593, 12.39112, 16407),
            (59, 80.8942, -69.7561, 40494),
            (586, 359.999, 0.001, 2056860),
            (1024, 266.4168, -29.0078, 9343959),
        ] {
            assert_eq!(pixel(nside, ra, dec), expected, "{nside} {ra} {dec}");
        }
    }

    #[test]
    fn places_are_in_degrees_where_a_unit_is_stated() {
        let check = |unit: &str| {
            let units = LabelUnits::from([("ra".to_owned(), unit.to_owned())]);
            check_degrees(&units, "ra", "dec").map_err(|error| error.to_string())
        };
        for unit in ["deg", "degree", "Degrees", "Angle[deg]", "°"] {
            assert_eq!(check(unit), Ok(()), "{unit}");
        }
        for unit in ["rad", "hourangle", "h", "arcsec"] {
            let error = check(unit).expect_err(unit);
            assert!(error.contains("\"ra\"") && error.contains(unit), "{error}");
        }
        assert!(check_degrees(&LabelUnits::new(), "ra", "dec").is_ok());
    }

    #[test]
    fn tiles_have_equal_areas() {
        let nside = 4;
        let mut counts = vec![0u32; 12 * 16];
        // A spiral whose points are spread evenly over the sphere (Swinbank & Purser 2006).
        let points = 200_000;
        for k in 0..points {
            let z = 1.0 - (2.0 * f64::from(k) + 1.0) / f64::from(points);
            let ra = (f64::from(k) * 222.492_235_949_962_15).rem_euclid(360.0);
            counts[pixel(nside, ra, z.asin().to_degrees()) as usize] += 1;
        }
        let mean = points / 192;
        assert!(counts.iter().all(|&n| n.abs_diff(mean as u32) < 40), "{counts:?}");
    }

    #[test]
    fn an_object_without_coordinates_has_no_tile_and_a_wrong_one_is_told() {
        let config = TileConfig { ra: ra(), dec: dec(), degrees: 1.0 };
        let labels = |ra: f64, dec: f64| {
            Labels::from([("ra".into(), Label::Number(ra)), ("dec".into(), Label::Number(dec))])
        };
        let near = |ra, dec| config.key("x", &labels(ra, dec)).expect("a place").expect("a tile");
        assert_eq!(near(10.0, 20.0), near(370.0 - 360.0, 20.001));
        assert_ne!(near(10.0, 20.0), near(12.0, 20.0));
        assert_eq!(config.key("x", &Labels::new()).expect("no error"), None);
        let error = config.key("galaxy 7", &labels(10.0, 95.0)).expect_err("beyond the pole");
        assert!(error.to_string().contains("galaxy 7") && error.to_string().contains("95"));
        assert!(TileConfig { degrees: 90.0, ..config }.check().is_err());
    }
}
