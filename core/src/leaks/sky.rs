//! Neighbours on the sky.

use std::collections::HashMap;

use crate::data::Split;

/// Arcseconds in a radian.
const ARCSECONDS: f64 = 206_264.806_247_096_36;

/// An object on the unit sphere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Whatever its owner calls it.
    object: usize,
    split: Split,
    xyz: [f64; 3],
}

impl Place {
    /// The place of `object` at this right ascension and declination in degrees.
    pub(super) fn new(object: usize, split: Split, ra: f64, dec: f64) -> Self {
        let ((sin_ra, cos_ra), (sin_dec, cos_dec)) =
            (ra.to_radians().sin_cos(), dec.to_radians().sin_cos());
        Self { object, split, xyz: [cos_dec * cos_ra, cos_dec * sin_ra, sin_dec] }
    }

    pub(super) fn object(&self) -> usize {
        self.object
    }

    /// In arcseconds.
    pub(super) fn separation(&self, other: &Self) -> f64 {
        angle(self.chord(other))
    }

    fn chord(&self, other: &Self) -> f64 {
        let squares = self.xyz.iter().zip(&other.xyz).map(|(a, b)| (a - b) * (a - b));
        squares.sum::<f64>().sqrt()
    }
}

/// Arcseconds that a chord of the unit sphere spans.
fn angle(chord: f64) -> f64 {
    2.0 * (0.5 * chord).min(1.0).asin() * ARCSECONDS
}

/// Pairs of different splits at most `separation` arcseconds apart, with their separation; the
/// first `most` of them. Space is cut into cubes as wide as the separation's chord, so that only
/// neighbouring cubes have to be searched.
pub(super) fn near(places: &[Place], separation: f64, most: usize) -> Vec<(usize, usize, f64)> {
    let chord = 2.0 * (0.5 * (separation / ARCSECONDS).min(std::f64::consts::PI)).sin();
    let side = chord.max(1e-9);
    let cube = |place: &Place| place.xyz.map(|x| (x / side).floor() as i64);
    let mut cubes: HashMap<[i64; 3], Vec<usize>> = HashMap::new();
    let mut pairs = Vec::new();
    for (k, place) in places.iter().enumerate() {
        let [x, y, z] = cube(place);
        for neighbour in 0..27 {
            let at = [x + neighbour % 3 - 1, y + neighbour / 3 % 3 - 1, z + neighbour / 9 - 1];
            for &other in cubes.get(&at).into_iter().flatten() {
                let other = &places[other];
                let apart = place.chord(other);
                if other.split != place.split && apart <= chord {
                    pairs.push((other.object, place.object, angle(apart)));
                    if pairs.len() >= most {
                        return pairs;
                    }
                }
            }
        }
        cubes.entry([x, y, z]).or_default().push(k);
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_those_that_comparing_all_finds() {
        let mut places = Vec::new();
        let mut seed = 1u64;
        let mut random = || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 11) as f64 / (1u64 << 53) as f64
        };
        for k in 0..400 {
            let split = if k % 3 == 0 { Split::Test } else { Split::Train };
            // A few arcseconds about the pole and across the meridian, where angles are awkward.
            let (ra, dec) = match k % 2 {
                0 => (360.0 * random(), 90.0 - 0.003 * random()),
                _ => ((359.999 + 0.002 * random()) % 360.0, 0.002 * random()),
            };
            places.push(Place::new(k, split, ra, dec));
        }
        for separation in [0.5, 2.0, 8.0] {
            let mut found = near(&places, separation, usize::MAX);
            found.sort_by_key(|pair| (pair.0, pair.1));
            let mut expected = Vec::new();
            for (b, second) in places.iter().enumerate() {
                for (a, first) in places[..b].iter().enumerate() {
                    let apart = 2.0 * (0.5 * first.chord(second)).asin() * ARCSECONDS;
                    if first.split != second.split && apart <= separation {
                        expected.push((a, b, apart));
                    }
                }
            }
            expected.sort_by_key(|pair| (pair.0, pair.1));
            assert_eq!(found, expected, "{separation}");
            assert!(!found.is_empty());
        }
    }

    #[test]
    fn separations_are_angles() {
        let a = Place::new(0, Split::Train, 150.0, 60.0);
        let b = Place::new(1, Split::Test, 150.0 + 2.0 / 3600.0, 60.0);
        let found = near(&[a, b], 1.1, 10);
        assert!((found[0].2 - 1.0).abs() < 1e-6, "half of two arcseconds: {found:?}");
        assert!((a.separation(&b) - found[0].2).abs() < 1e-9);
        let pole = Place::new(2, Split::Test, 10.0, -90.0);
        assert!((a.separation(&pole) - 150.0 * 3600.0).abs() < 1e-3);
        assert!(near(&[a, b], 0.9, 10).is_empty());
    }
}
