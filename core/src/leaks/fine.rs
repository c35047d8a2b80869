//! What of a picture is finer than a tenth of it: noise, stars, arms.

use super::picture::{Picture, pixels_in_frame};
use super::pixels::moved;

/// Cells along a side, at most.
const FINE: usize = 44;
/// Cells that pictures may be shifted by, beside their centres of light.
const SHIFT: i64 = 1;
/// Cells on each side that a cell is compared with.
const AROUND: i64 = 2;
/// The part of the whole picture's contrast that is added to that around a cell.
const FLOOR: f64 = 0.3;

/// Cells along a side at which two pictures, as wide as this in pixels, can be compared.
pub(super) fn common_side(a: &Picture, b: &Picture) -> usize {
    FINE.min(pixels_in_frame(a.side.min(b.side)))
}

/// The correlation from which pictures of `side` cells are the same. Fewer cells are more alike
/// by chance: different galaxies reach 0.37 at 44 cells, 0.56 at 36, 0.74 at 26 and 0.91 at 20
/// (EFIGI).
pub(super) fn same(side: usize) -> f64 {
    (0.45 + 0.33 * (FINE - side.min(FINE)) as f64 / 18.0).min(0.95)
}

/// The detail of a picture.
pub(super) struct Fine {
    side: usize,
    /// 0 where nothing is known.
    cells: Vec<f64>,
    /// 1 where something is, else 0.
    known: Vec<f64>,
}

impl Fine {
    /// At `side` x `side` cells about the centre of light: less the mean around each cell and
    /// that of its ring about the centre, which galaxies have in common, over the contrast
    /// around it, so that the core does not outweigh the rest. `None` without detail.
    pub(super) fn new(picture: &Picture, side: usize) -> Option<Self> {
        let cells = picture.cells(side);
        let largest = cells.iter().filter(|cell| cell.is_finite()).fold(0.0, largest);
        let smooth = around(&cells, side);
        let mut fine: Vec<f64> = cells.iter().zip(smooth).map(|(cell, mean)| cell - mean).collect();
        take_rings_out(&mut fine, side);
        let squares: Vec<f64> = fine.iter().map(|cell| cell * cell).collect();
        let finite = || squares.iter().filter(|square| square.is_finite());
        let contrast = (finite().sum::<f64>() / finite().count() as f64).sqrt();
        // Rounding of a smooth picture is no detail.
        if contrast.is_nan() || contrast <= 1e-6 * largest {
            return None;
        }
        let contrasts = around(&squares, side);
        let known: Vec<f64> = fine.iter().map(|cell| f64::from(cell.is_finite())).collect();
        let cells = fine.iter().zip(contrasts).map(|(&cell, square)| {
            if cell.is_finite() { cell / (square.sqrt() + FLOOR * contrast) } else { 0.0 }
        });
        Some(Self { side, cells: cells.collect(), known })
    }

    /// The largest correlation with `other`, turned, mirrored and shifted by a cell, of the cells
    /// that both know; `None` where these are less than half in every position, or they have
    /// different sides.
    pub(super) fn correlation(&self, other: &Self) -> Option<f64> {
        if self.side != other.side {
            return None;
        }
        let shifts = || (-SHIFT..=SHIFT).flat_map(|dy| (-SHIFT..=SHIFT).map(move |dx| (dy, dx)));
        let positions = (0..8).map(|position| other.turned(position));
        let all = positions.flat_map(|other| {
            shifts().filter_map(move |(dy, dx)| self.shifted(&other, dy, dx)).collect::<Vec<_>>()
        });
        all.max_by(f64::total_cmp)
    }

    fn turned(&self, position: usize) -> Self {
        let side = self.side;
        let places = || (0..side).flat_map(|y| (0..side).map(move |x| (y, x)));
        let turn = |numbers: &[f64]| {
            places().map(|(y, x)| numbers[moved(side, position, y, x)]).collect::<Vec<f64>>()
        };
        Self { side, cells: turn(&self.cells), known: turn(&self.known) }
    }

    /// The correlation with `other` moved by so many cells.
    fn shifted(&self, other: &Self, dy: i64, dx: i64) -> Option<f64> {
        let side = self.side as i64;
        let (first, last) = (dx.max(0), side.min(side + dx));
        let (mut product, mut of_self, mut of_other, mut common) = (0.0, 0.0, 0.0, 0.0);
        for y in dy.max(0)..side.min(side + dy) {
            let here = (y * side + first) as usize..(y * side + last) as usize;
            let start = (y - dy) * side + first - dx;
            let there = start as usize..(start + last - first) as usize;
            let ours = self.cells[here.clone()].iter().zip(&self.known[here]);
            let theirs = other.cells[there.clone()].iter().zip(&other.known[there]);
            for ((a, known_a), (b, known_b)) in ours.zip(theirs) {
                product += a * b;
                of_self += a * a * known_b;
                of_other += b * b * known_a;
                common += known_a * known_b;
            }
        }
        let correlation = product / (of_self * of_other).sqrt();
        (2.0 * common >= (side * side) as f64 && correlation.is_finite()).then_some(correlation)
    }
}

fn largest(most: f64, number: &f64) -> f64 {
    most.max(number.abs())
}

/// The mean of the finite cells of the square around each cell; NaN where there are none.
fn around(cells: &[f64], side: usize) -> Vec<f64> {
    let within = |k: i64| k.clamp(0, side as i64 - 1) as usize;
    let places = (0..side as i64).flat_map(|y| (0..side as i64).map(move |x| (y, x)));
    let mean = |(y, x): (i64, i64)| {
        let square = (-AROUND..=AROUND).flat_map(|dy| (-AROUND..=AROUND).map(move |dx| (dy, dx)));
        let numbers = square.map(|(dy, dx)| cells[within(y + dy) * side + within(x + dx)]);
        let (sum, count) = numbers
            .filter(|number| number.is_finite())
            .fold((0.0, 0.0), |(sum, count), number| (sum + number, count + 1.0));
        sum / count
    };
    places.map(mean).collect()
}

/// Takes out the mean over each ring, a cell wide, about the centre.
fn take_rings_out(cells: &mut [f64], side: usize) {
    let middle = 0.5 * (side as f64 - 1.0);
    let ring = |k: usize| {
        let (y, x) = ((k / side) as f64 - middle, (k % side) as f64 - middle);
        y.hypot(x) as usize
    };
    let mut rings = vec![(0.0, 0.0); side + 1];
    for (k, cell) in cells.iter().enumerate().filter(|(_, cell)| cell.is_finite()) {
        rings[ring(k)].0 += cell;
        rings[ring(k)].1 += 1.0;
    }
    for (k, cell) in cells.iter_mut().enumerate() {
        *cell -= rings[ring(k)].0 / rings[ring(k)].1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::pixels::tests::{mapped, picture};
    use super::*;
    use crate::observation::{Array, Data};

    fn alike(a: &Array, b: &Array) -> (f64, usize) {
        let [a, b] = [a, b].map(|array| Picture::new(array).expect("light"));
        let side = common_side(&a, &b);
        let [a, b] = [a, b].map(|picture| Fine::new(&picture, side).expect("detail"));
        (a.correlation(&b).expect("one size"), side)
    }

    /// The `size` pixels of a side from this corner on.
    fn cut(array: &Array, size: usize, corner: usize) -> Array {
        let (side, data) = (array.shape[0], array.data.to_f32());
        let places = (0..size).flat_map(|y| (0..size).map(move |x| (y, x)));
        let numbers = places.map(|(y, x)| data[(y + corner) * side + x + corner]).collect();
        Array::new(vec![size, size], Data::F32(numbers)).expect("a square")
    }

    #[test]
    fn shifts_up_to_a_fortieth_hide_nothing_at_any_size() {
        for (size, seed) in [(88, 3), (120, 4), (205, 5)] {
            let original = picture(size + 5, seed);
            for shift in 1..=size / 40 {
                let (a, b) = (cut(&original, size, 0), cut(&original, size, shift));
                let (correlation, side) = alike(&a, &b);
                assert!(correlation >= same(side), "{size} by {shift}: {correlation}");
            }
            let (correlation, side) = alike(&cut(&original, size, 0), &picture(size, seed + 20));
            assert!(correlation < same(side), "{size}, another: {correlation}");
        }
    }

    #[test]
    fn pictures_of_two_sizes_are_compared_at_the_smaller() {
        let original = picture(96, 3);
        let data = original.data.to_f32().into_owned();
        let half = (0..48).flat_map(|y| (0..48).map(move |x| (2 * y, 2 * x)));
        let mean = |(y, x): (usize, usize)| {
            [0, 1, 96, 97].map(|k| data[y * 96 + x + k]).iter().sum::<f32>() / 4.0
        };
        let half = Array::new(vec![48, 48], Data::F32(half.map(mean).collect())).expect("a square");
        let (correlation, side) = alike(&original, &half);
        assert!(side < FINE && correlation >= same(side), "{side} cells: {correlation}");
    }

    #[test]
    fn what_one_of_them_does_not_know_is_left_out() {
        let original = picture(60, 3);
        let data = original.data.to_f32().into_owned();
        let known = |rows: usize| {
            mapped(&original, |y, x| if y < rows { f32::NAN } else { data[y * 60 + x] })
        };
        let (correlation, side) = alike(&original, &known(10));
        assert!(correlation >= same(side), "{correlation}");
        let (correlation, _) = alike(&known(10), &known(10));
        assert!(correlation > 0.999, "{correlation}");
        // Too little of it is no comparison.
        let [a, b] =
            [original.clone(), known(40)].map(|array| Picture::new(&array).expect("light"));
        let [a, b] = [a, b].map(|picture| Fine::new(&picture, FINE).expect("detail"));
        assert_eq!(a.correlation(&b), None);
    }

    #[test]
    fn the_less_cells_the_more_must_they_correlate() {
        assert!((same(44) - 0.45).abs() < 1e-12 && (same(26) - 0.78).abs() < 1e-12);
        assert!((13..44).all(|side| same(side) >= same(side + 1) && same(side) <= 0.95));
    }
}
