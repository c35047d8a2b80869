//! Pictures that are the same.
//!
//! Two steps. Averaged to 16 x 16 cells about the centre of light, brightness and contrast taken
//! out, copies of a picture correlate at 0.98 or more, turned by right angles, mirrored, shifted,
//! resized or compressed as they may be; so do 0.5 % of pairs of galaxies that are not the same
//! (EFIGI). Pairs that do are read again and compared in their detail ([`super::fine`]), which
//! tells them apart.

use rayon::prelude::*;

use super::picture::Picture;
use crate::data::Split;
use crate::error::Result;

/// Cells along a side of the coarse picture.
pub(super) const COARSE: usize = 16;
/// Correlation of the coarse pictures from which a pair is looked at closely.
const CLOSE: f32 = 0.98;

/// Takes the mean out and brings to length 1; `None` where nothing is left.
fn standardised(numbers: &[f64]) -> Option<Vec<f32>> {
    let n = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / n;
    let largest = numbers.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let length = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>().sqrt();
    // Rounding of a blank picture is no picture.
    if length <= 1e-5 * largest * n.sqrt() || !length.is_finite() {
        return None;
    }
    Some(numbers.iter().map(|x| ((x - mean) / length) as f32).collect())
}

/// The coarse picture, standardised; `None` of a blank one.
pub(super) fn coarse(picture: &Picture) -> Option<Vec<f32>> {
    standardised(&picture.filled(COARSE))
}

/// Where cell (y, x) of a picture of `side` goes in its eight positions: turned by right angles,
/// and mirrored.
pub(super) fn moved(side: usize, position: usize, y: usize, x: usize) -> usize {
    let (y, x) = if position >= 4 { (y, side - 1 - x) } else { (y, x) };
    let (y, x) = match position % 4 {
        0 => (y, x),
        1 => (x, side - 1 - y),
        2 => (side - 1 - y, side - 1 - x),
        _ => (side - 1 - x, y),
    };
    y * side + x
}

/// Coarse pictures that can be searched.
pub(super) struct Coarse {
    side: usize,
    /// One picture after the other.
    pictures: Vec<f32>,
    /// The part of each that is the same in all eight positions, in coordinates of its own.
    /// Leaving the rest out brings pictures nearer, never further apart, so that pairs that are
    /// too far apart in it need no second look.
    symmetric: Vec<f32>,
    /// Numbers of the symmetric part.
    orbits: usize,
}

impl Coarse {
    pub(super) fn new(pictures: Vec<f32>, side: usize) -> Self {
        let orbits = orbits(side);
        let symmetric: Vec<f32> = pictures
            .par_chunks(side * side)
            .flat_map_iter(|picture| {
                orbits.iter().map(move |orbit| {
                    let sum: f32 = orbit.iter().map(|&cell| picture[cell]).sum();
                    sum / (orbit.len() as f32).sqrt()
                })
            })
            .collect();
        let orbits = orbits.len();
        Self { side, symmetric: sorted_by_spread(symmetric, orbits), pictures, orbits }
    }

    fn picture(&self, k: usize) -> &[f32] {
        let n = self.side * self.side;
        &self.pictures[k * n..(k + 1) * n]
    }

    fn symmetric(&self, k: usize) -> &[f32] {
        &self.symmetric[k * self.orbits..(k + 1) * self.orbits]
    }

    /// Pairs of different splits that correlate closely in some position: the `most` that do so most,
    /// the same for any number of threads. `between` is called now and then, with how many
    /// pictures are done.
    ///
    /// # Errors
    /// What `between` answers.
    pub(super) fn alike(
        &self,
        splits: &[Split],
        most: usize,
        mut between: impl FnMut(usize) -> Result<()>,
    ) -> Result<Alike> {
        // |a - b|^2 = 2 - 2 correlation between vectors of length 1.
        let far = 2.0 - 2.0 * CLOSE;
        let mut order: Vec<u32> = (0..splits.len() as u32).collect();
        let first = |k: u32| self.symmetric(k as usize)[0];
        order.sort_by(|&a, &b| first(a).total_cmp(&first(b)).then(a.cmp(&b)));
        let of_place = |place: usize| {
            let a = order[place];
            // Those after it in the order, until their first number alone is too far.
            let reach = first(a) + far.sqrt();
            let next = order[place + 1..].iter().take_while(move |&&b| first(b) <= reach);
            next.copied().filter_map(move |b| {
                let other = splits[a as usize] != splits[b as usize];
                let correlation = other.then(|| self.close(a as usize, b as usize, far))??;
                Some((correlation, a.min(b), a.max(b)))
            })
        };
        let mut found = Alike { pairs: Vec::new(), more: 0 };
        for block in (0..order.len()).step_by(BLOCK) {
            between(block)?;
            let places = block..(block + BLOCK).min(order.len());
            found.pairs.par_extend(places.into_par_iter().flat_map_iter(of_place));
            found.keep(most);
        }
        Ok(found)
    }

    /// Their correlation in the position in which it is largest, where that is close.
    fn close(&self, a: usize, b: usize, far: f32) -> Option<f32> {
        let mut apart = 0.0;
        for (x, y) in self.symmetric(a).iter().zip(self.symmetric(b)) {
            apart += (x - y) * (x - y);
            if apart > far {
                return None;
            }
        }
        let (a, b) = (self.picture(a), self.picture(b));
        let largest = (0..8).map(|position| turned(a, b, self.side, position)).fold(0.0, f32::max);
        (largest >= CLOSE).then_some(largest)
    }
}

/// Pictures that are compared between two looks at whether to stop.
const BLOCK: usize = 256;

/// Pairs of pictures that may be one.
pub(super) struct Alike {
    /// Correlation and places, the most alike first.
    pub(super) pairs: Vec<(f32, u32, u32)>,
    /// How many less alike ones there are beside.
    pub(super) more: u64,
}

impl Alike {
    fn keep(&mut self, most: usize) {
        let alike = |a: &(f32, u32, u32), b: &(f32, u32, u32)| {
            b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2)))
        };
        self.pairs.par_sort_unstable_by(alike);
        self.more += self.pairs.len().saturating_sub(most) as u64;
        self.pairs.truncate(most);
    }
}

/// The product of `a` and `b` in one of its positions.
fn turned(a: &[f32], b: &[f32], side: usize, position: usize) -> f32 {
    let cells = (0..side).flat_map(|y| (0..side).map(move |x| (y, x)));
    let products = a.iter().zip(cells).map(|(a, (y, x))| a * b[moved(side, position, y, x)]);
    products.sum()
}

/// The cells that the eight positions bring to each other.
fn orbits(side: usize) -> Vec<Vec<usize>> {
    let mut out = Vec::new();
    for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
        let mut orbit: Vec<usize> = (0..8).map(|p| moved(side, p, y, x)).collect();
        orbit.sort_unstable();
        orbit.dedup();
        if orbit[0] == y * side + x {
            out.push(orbit);
        }
    }
    out
}

/// The same vectors with their numbers in another order: those that differ most come first, so
/// that most comparisons end early.
fn sorted_by_spread(vectors: Vec<f32>, width: usize) -> Vec<f32> {
    let count = (vectors.len() / width.max(1)) as f64;
    let spread = |k: usize| {
        let numbers = || vectors.iter().skip(k).step_by(width).map(|&x| f64::from(x));
        let mean = numbers().sum::<f64>() / count;
        numbers().map(|x| (x - mean).powi(2)).sum::<f64>()
    };
    let mut order: Vec<(f64, usize)> = (0..width).map(|k| (spread(k), k)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    vectors.chunks(width).flat_map(|v| order.iter().map(|&(_, k)| v[k])).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::fine::{Fine, common_side, same};
    use super::super::picture::is_picture;
    use super::*;
    use crate::observation::{Array, Data};

    fn coarse_of(array: &Array) -> Option<Vec<f32>> {
        coarse(&Picture::new(array)?)
    }

    /// A bright middle, of another shape for each seed, and noise of its own.
    pub(in super::super) fn picture(side: usize, seed: u32) -> Array {
        let noise = |y: usize, x: usize| {
            let mut h = seed.wrapping_mul(73_856_093)
                ^ (y as u32).wrapping_mul(19_349_663)
                ^ (x as u32).wrapping_mul(83_492_791);
            h = (h ^ (h >> 13)).wrapping_mul(0x5bd1_e995);
            h = (h ^ (h >> 15)).wrapping_mul(0x5bd1_e995);
            ((h ^ (h >> 14)) % 2001) as f32 / 1000.0 - 1.0
        };
        let widths = [seed * 7 % 13, seed * 5 % 11].map(|w| (4.0 + w as f32) * side as f32 / 60.0);
        let middle = side as f32 / 2.0;
        let places = (0..side).flat_map(|y| (0..side).map(move |x| (y, x)));
        let light = places.map(|(y, x)| {
            let (u, v) = ((x as f32 - middle) / widths[0], (y as f32 - middle) / widths[1]);
            20.0 + 80.0 * (-0.5 * (u * u + v * v)).exp() + 8.0 * noise(y, x)
        });
        Array::new(vec![side, side], Data::F32(light.collect())).expect("a square")
    }

    pub(in super::super) fn mapped(array: &Array, at: impl Fn(usize, usize) -> f32) -> Array {
        let side = array.shape[0];
        let numbers = (0..side).flat_map(|y| (0..side).map(move |x| (y, x)));
        let numbers = numbers.map(|(y, x)| at(y, x)).collect();
        Array::new(vec![side, side], Data::F32(numbers)).expect("a square")
    }

    #[test]
    fn copies_are_found_turned_mirrored_brighter_and_noisier_and_others_are_not() {
        let side = 60;
        let original = picture(side, 1);
        let data = original.data.to_f32().into_owned();
        let noise = |y: usize, x: usize| ((y * 7919 + x * 104_729) % 101) as f32 / 50.0 - 1.0;
        let turned = mapped(&original, |y, x| data[x * side + side - 1 - y]);
        let mirrored = mapped(&original, |y, x| data[y * side + side - 1 - x]);
        let changed = mapped(&original, |y, x| 3.0 * data[y * side + x] + 7.0 + 2.0 * noise(y, x));
        let mut arrays = vec![original, turned, mirrored, changed];
        arrays.extend((2..40).map(|seed| picture(side, seed)));
        let pictures: Vec<f32> =
            arrays.iter().flat_map(|a| coarse_of(a).expect("a picture")).collect();
        let splits: Vec<Split> =
            (0..arrays.len()).map(|k| if k == 0 { Split::Test } else { Split::Train }).collect();
        let coarse = Coarse::new(pictures, COARSE);
        let found = coarse.alike(&splits, usize::MAX, |_| Ok(())).expect("not stopped");
        let pairs = |found: &Alike| found.pairs.iter().map(|&(_, a, b)| (a, b)).collect::<Vec<_>>();
        for copy in 1..4 {
            assert!(pairs(&found).contains(&(0, copy)), "{copy} is not among {:?}", pairs(&found));
        }
        // The most alike come first, and how many were left is told.
        let few = coarse.alike(&splits, 2, |_| Ok(())).expect("not stopped");
        assert_eq!(pairs(&few), pairs(&found)[..2]);
        assert_eq!((few.more, found.more), (found.pairs.len() as u64 - 2, 0));
        let pictures: Vec<Picture> =
            arrays.iter().map(|a| Picture::new(a).expect("light")).collect();
        let side = common_side(&pictures[0], &pictures[1]);
        let fine = |k: usize| Fine::new(&pictures[k], side).expect("detail");
        for k in 1..arrays.len() {
            let correlation = fine(0).correlation(&fine(k)).expect("one size");
            assert_eq!(correlation >= same(side), k < 4, "{k}: {correlation}");
        }
    }

    #[test]
    fn the_search_leaves_out_nothing_that_comparing_all_finds() {
        let pictures: Vec<f32> =
            (0..300).flat_map(|k| coarse_of(&picture(40, k % 97)).expect("a picture")).collect();
        let splits: Vec<Split> =
            (0..300).map(|k| if k % 5 == 0 { Split::Validation } else { Split::Train }).collect();
        let coarse = Coarse::new(pictures, COARSE);
        let mut expected = Vec::new();
        for b in 0..300 {
            for a in 0..b {
                let (x, y) = (coarse.picture(a), coarse.picture(b));
                let near = (0..8).any(|p| turned(x, y, COARSE, p) >= CLOSE);
                if splits[a] != splits[b] && near {
                    expected.push((a as u32, b as u32));
                }
            }
        }
        expected.sort_unstable();
        assert!(expected.len() > 50, "{}", expected.len());
        let found = coarse.alike(&splits, usize::MAX, |_| Ok(())).expect("not stopped");
        let mut found: Vec<_> = found.pairs.into_iter().map(|(_, a, b)| (a, b)).collect();
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn copies_with_hot_pixels_or_a_border_of_one_value_are_found() {
        let (side, original) = (60, picture(60, 3));
        let data = original.data.to_f32().into_owned();
        let plain = |y: usize, x: usize| data[y * side + x];
        let most = data.iter().copied().fold(0.0f32, f32::max);
        let mut copies: Vec<(String, Array)> = Vec::new();
        for (amplitude, apart) in [3.0, 10.0, 20.0].iter().flat_map(|a| [(a, 7919), (a, 499)]) {
            // One pixel, or eight of them.
            let hot = |y: usize, x: usize| (y * side + x) % apart == 401;
            let copy = mapped(&original, |y, x| {
                plain(y, x) + if hot(y, x) { amplitude * most } else { 0.0 }
            });
            copies.push((format!("{amplitude} times, every {apart}"), copy));
        }
        for value in [0.0, -99.0] {
            let known = |y: usize, x: usize| y.min(x) >= 4 && y.max(x) < side - 4;
            let copy = mapped(&original, |y, x| if known(y, x) { plain(y, x) } else { value });
            copies.push((format!("a border of {value}"), copy));
        }
        let ours = coarse_of(&original).expect("a picture");
        for (what, copy) in copies {
            let theirs = coarse_of(&copy).expect("a picture");
            let whole = turned(&ours, &theirs, COARSE, 0);
            assert!(whole >= CLOSE, "{what}: {whole} as a whole");
            let [a, b] = [&original, &copy].map(|array| Picture::new(array).expect("light"));
            let cells = common_side(&a, &b);
            let [a, b] = [a, b].map(|picture| Fine::new(&picture, cells).expect("detail"));
            let detail = a.correlation(&b).expect("one size");
            assert!(detail >= same(cells), "{what}: {detail} in detail");
        }
    }

    #[test]
    fn blank_pictures_and_small_ones_are_none() {
        let blank = Array::new(vec![20, 30, 3], Data::U8(vec![7; 1800])).expect("an array");
        let picture = Picture::new(&blank).expect("light");
        assert!(is_picture(&blank) && coarse(&picture).is_none());
        assert!(Fine::new(&picture, 16).is_none());
        let small = Array::new(vec![8, 8], Data::U8(vec![7; 64])).expect("an array");
        assert!(!is_picture(&small));
    }
}
