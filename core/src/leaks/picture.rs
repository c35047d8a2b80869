//! Pictures about the middle of their light.
//!
//! Cutouts of one galaxy from two catalogues are shifted by a pixel or a few, and cells averaged
//! at fixed places of them have little in common. So cells are laid about the centre of light,
//! which is found the same way in both and moves with the galaxy, turned and mirrored ones too.

use std::ops::Range;

use crate::observation::Array;

/// Least pixels along a side of a picture; smaller ones are not told from each other.
pub(super) const LEAST: usize = 16;
/// The part of a side that cells are laid over.
const FRAME: f64 = 0.84;
/// How far the centre may be from the middle, of the side: the frame stays within the picture.
const AWAY: f64 = 0.08;
/// Standard deviation of the Gaussian that light is looked at through, of the side.
const WINDOW: f64 = 0.1;
/// Most steps towards the centre, and the step that is none, in pixels.
const STEPS: usize = 20;
const STILL: f64 = 0.01;
/// The part of the pixels that are taken to be no brighter, and no darker, than the rest: a cosmic
/// ray or a hot pixel would outweigh the galaxy.
const CLIPPED: f64 = 0.005;
/// Least part of a picture that is left where a border is taken for unknown. Where less is left, as
/// of galaxies cut out on black, it is background.
const LEFT: f64 = 0.6;

/// Whether an array is a picture: `[height, width]` or `[height, width, bands]`, and large
/// enough to tell from others.
pub(super) fn is_picture(array: &Array) -> bool {
    matches!(array.shape[..], [h, w] | [h, w, _] if h.min(w) >= LEAST)
}

/// The middle square of a picture.
pub(super) struct Picture {
    /// Pixels along a side.
    pub(super) side: usize,
    /// Bands added, row by row; NaN where one is not finite, and in a border of one
    /// value.
    light: Vec<f64>,
    /// Median of the outermost finite pixels.
    background: f64,
    /// Row and column of the centre of light, in pixels from the corner.
    centre: [f64; 2],
}

impl Picture {
    /// `None` where no pixel is finite. A band that is nowhere finite is left out.
    pub(super) fn new(array: &Array) -> Option<Self> {
        let (height, width) = (array.shape[0], array.shape[1]);
        let bands = array.shape.get(2).copied().unwrap_or(1);
        let side = height.min(width);
        let (top, left) = ((height - side) / 2, (width - side) / 2);
        let data = array.data.to_f32();
        let finite = |band: &usize| data.iter().skip(*band).step_by(bands).any(|v| v.is_finite());
        let usable: Vec<usize> = (0..bands).filter(finite).collect();
        let mut light = Vec::with_capacity(side * side);
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
            let pixel = data.get(((top + y) * width + left + x) * bands..)?.get(..bands)?;
            let sum: f64 = usable.iter().map(|&band| f64::from(pixel[band])).sum();
            light.push(if sum.is_finite() { sum } else { f64::NAN });
        }
        let [rows, columns] = take_border_out(&mut light, side);
        clip(&mut light);
        let outermost = (0..side * side).filter(|k| {
            let (y, x) = (k / side, k % side);
            (y == rows.start || y + 1 == rows.end || x == columns.start || x + 1 == columns.end)
                && rows.contains(&y)
                && columns.contains(&x)
        });
        let background = median(outermost.map(|k| light[k])).or(median(light.iter().copied()))?;
        if usable.is_empty() {
            return None;
        }
        let centre = centre_of_light(&light, side, background);
        Some(Self { side, light, background, centre })
    }

    /// Means over `cells` x `cells` cells about the centre; NaN where no pixel is finite.
    pub(super) fn cells(&self, cells: usize) -> Vec<f64> {
        let [rows, columns] = self.centre.map(|centre| shares(self.side, centre, cells));
        let mut out = Vec::with_capacity(cells * cells);
        for (top, down) in &rows {
            let mut sums = vec![(0.0f64, 0.0f64); self.side];
            for (k, share) in down.iter().enumerate() {
                let row = &self.light[(top + k) * self.side..][..self.side];
                for ((sum, weight), &light) in sums.iter_mut().zip(row) {
                    if light.is_finite() {
                        *sum += share * light;
                        *weight += share;
                    }
                }
            }
            out.extend(columns.iter().map(|(left, across)| {
                let mut cell = (0.0, 0.0);
                for (share, (sum, weight)) in across.iter().zip(&sums[*left..]) {
                    cell.0 += share * sum;
                    cell.1 += share * weight;
                }
                cell.0 / cell.1
            }));
        }
        out
    }

    /// The same with the background where nothing is known.
    pub(super) fn filled(&self, cells: usize) -> Vec<f64> {
        let mut out = self.cells(cells);
        out.iter_mut().filter(|cell| cell.is_nan()).for_each(|cell| *cell = self.background);
        out
    }
}

/// Cells along the frame of a picture of `side` pixels that are no finer than its pixels.
pub(super) fn pixels_in_frame(side: usize) -> usize {
    (FRAME * side as f64) as usize
}

/// Of each cell along one axis, the first pixel in it and the shares of that and the next ones.
fn shares(side: usize, centre: f64, cells: usize) -> Vec<(usize, Vec<f64>)> {
    let step = FRAME * side as f64 / cells as f64;
    let start = centre - 0.5 * FRAME * side as f64;
    let of = |cell: usize| {
        let low = (start + cell as f64 * step).max(0.0);
        let high = (start + (cell + 1) as f64 * step).min(side as f64);
        let (first, last) = (low as usize, (high.ceil() as usize).min(side));
        let share = |k: usize| (high.min((k + 1) as f64) - low.max(k as f64)).max(0.0);
        (first, (first..last).map(share).collect())
    };
    (0..cells).map(of).collect()
}

/// Makes whole rows and columns at the edges unknown whose pixels all have one value, as surveys pad
/// with 0 or -99 where an image ends. The rows and columns that are left.
fn take_border_out(light: &mut [f64], side: usize) -> [Range<usize>; 2] {
    let row = |y: usize| (0..side).map(move |x| y * side + x);
    let column = |x: usize| (0..side).map(move |y| y * side + x);
    let rows = within(side, |y, edge| row(y).all(|k| light[k] == light[edge * side]));
    // The rows' border crosses the columns.
    let columns = within(side, |x, edge| {
        let mut inner = column(x).skip(rows.start).take(rows.len());
        inner.all(|k| light[k] == light[rows.start * side + edge])
    });
    if ((rows.len() * columns.len()) as f64) < LEFT * (side * side) as f64 {
        return [0..side, 0..side];
    }
    for (k, light) in light.iter_mut().enumerate() {
        if !rows.contains(&(k / side)) || !columns.contains(&(k % side)) {
            *light = f64::NAN;
        }
    }
    [rows, columns]
}

/// The lines but those at either edge that are `like` the outermost one; none where all are.
fn within(side: usize, like: impl Fn(usize, usize) -> bool) -> Range<usize> {
    let first = (0..side).find(|&line| !like(line, 0)).unwrap_or(side);
    let last = (first..side).rev().find(|&line| !like(line, side - 1));
    first..last.map_or(first, |last| last + 1)
}

/// Brings the brightest and the darkest pixels to where the rest of them end, unless these are all
/// alike.
fn clip(light: &mut [f64]) {
    let mut finite: Vec<f64> = light.iter().copied().filter(|l| l.is_finite()).collect();
    let few = (CLIPPED * finite.len() as f64).ceil() as usize;
    if finite.len() <= 2 * few {
        return;
    }
    let last = finite.len() - 1 - few;
    let low = *finite.select_nth_unstable_by(few, f64::total_cmp).1;
    let high = *finite.select_nth_unstable_by(last, f64::total_cmp).1;
    if low < high {
        // What is NaN stays so.
        light.iter_mut().for_each(|light| *light = light.clamp(low, high));
    }
}

fn median(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let mut numbers: Vec<f64> = numbers.filter(|x| x.is_finite()).collect();
    let middle = numbers.len() / 2;
    if numbers.is_empty() {
        return None;
    }
    Some(*numbers.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// The centre of what is brighter than the background, seen through a Gaussian that moves with
/// it, as adaptive moments are measured (Bernstein & Jarvis 2002, AJ 123, 583).
fn centre_of_light(light: &[f64], side: usize, background: f64) -> [f64; 2] {
    let (middle, size) = (0.5 * side as f64, side as f64);
    let excess = |&l: &f64| if l > background { l - background } else { 0.0 };
    let excess: Vec<f64> = light.iter().map(excess).collect();
    let mut centre = [middle; 2];
    for _ in 0..STEPS {
        let through = centre.map(|c| {
            let at = |k: usize| (-0.5 * ((k as f64 + 0.5 - c) / (WINDOW * size)).powi(2)).exp();
            (0..side).map(at).collect::<Vec<f64>>()
        });
        let (mut total, mut moments) = (0.0, [0.0; 2]);
        for (y, row) in excess.chunks_exact(side).enumerate() {
            let (mut sum, mut moment) = (0.0, 0.0);
            for (x, (light, weight)) in row.iter().zip(&through[1]).enumerate() {
                sum += light * weight;
                moment += light * weight * (x as f64 + 0.5);
            }
            total += through[0][y] * sum;
            moments[0] += through[0][y] * sum * (y as f64 + 0.5);
            moments[1] += through[0][y] * moment;
        }
        if total <= 0.0 {
            return [middle; 2];
        }
        // Light as wide as the window comes half way with each mean; so further is gone.
        let next = [0, 1].map(|k| {
            let step = 1.5 * (moments[k] / total - centre[k]);
            (centre[k] + step).clamp(middle - AWAY * size, middle + AWAY * size)
        });
        let still = (0..2).all(|k| (next[k] - centre[k]).abs() < STILL);
        centre = next;
        if still {
            break;
        }
    }
    centre
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::Data;

    /// A galaxy at (y, x) on a sky of 5, `side` pixels wide.
    fn galaxy(side: usize, y: f64, x: f64) -> Array {
        let places = (0..side).flat_map(|y| (0..side).map(move |x| (y as f64, x as f64)));
        let light = places.map(|(v, u)| {
            let r2 = (v + 0.5 - y).powi(2) + 0.5 * (u + 0.5 - x).powi(2);
            (5.0 + 100.0 * (-0.02 * r2).exp()) as f32
        });
        Array::new(vec![side, side], Data::F32(light.collect())).expect("a square")
    }

    #[test]
    fn the_centre_moves_with_the_light() {
        for (y, x) in [(30.0, 30.0), (31.5, 28.25), (27.0, 33.0)] {
            let picture = Picture::new(&galaxy(60, y, x)).expect("light");
            let [row, column] = picture.centre;
            assert!((row - y).abs() < 0.05 && (column - x).abs() < 0.05, "{y} {x}: {row} {column}");
        }
    }

    #[test]
    fn cells_leave_out_what_is_not_finite() {
        let clean = galaxy(60, 30.0, 30.0);
        let mut numbers = clean.data.to_f32().into_owned();
        numbers[..12 * 60].fill(f32::NAN);
        let cut = Array::new(vec![60, 60], Data::F32(numbers)).expect("a square");
        let [clean, cut] = [clean, cut].map(|array| Picture::new(&array).expect("light"));
        let unknown = cut.cells(16).iter().filter(|cell| cell.is_nan()).count();
        assert!((16..=48).contains(&unknown), "{unknown} of the upper rows");
        assert!(cut.filled(16).iter().all(|cell| cell.is_finite()));
        for (a, b) in cut.cells(16).iter().zip(clean.cells(16)).skip(64) {
            assert!((a - b).abs() < 1.0, "{a} {b}");
        }
        let nothing = Array::new(vec![20, 20], Data::F32(vec![f32::NAN; 400])).expect("a square");
        assert!(Picture::new(&nothing).is_none());
    }

    /// The same with these pixels, told by row and column, of another value.
    fn changed(array: &Array, value: f32, there: impl Fn(usize, usize) -> bool) -> Array {
        let (side, mut numbers) = (array.shape[0], array.data.to_f32().into_owned());
        for (k, number) in numbers.iter_mut().enumerate() {
            if there(k / side, k % side) {
                *number = value;
            }
        }
        Array::new(vec![side, side], Data::F32(numbers)).expect("a square")
    }

    #[test]
    fn one_hot_pixel_moves_neither_the_centre_nor_the_cells() {
        let clean = galaxy(60, 31.5, 28.25);
        let sound = Picture::new(&clean).expect("light");
        for value in [300.0, 2000.0, -2000.0, 1e30] {
            let hot = changed(&clean, value, |y, x| (y, x) == (20, 37));
            let hot = Picture::new(&hot).expect("light");
            let off = [0, 1].map(|k| (hot.centre[k] - sound.centre[k]).abs());
            assert!(off[0] < 0.1 && off[1] < 0.1, "{value}: {off:?}");
            for (a, b) in hot.cells(16).iter().zip(sound.cells(16)) {
                assert!((a - b).abs() < 10.0, "{value}: {a} {b}");
            }
        }
    }

    #[test]
    fn borders_of_one_value_are_unknown_and_black_around_a_cutout_is_not() {
        let clean = galaxy(60, 31.5, 28.25);
        let sound = Picture::new(&clean).expect("light");
        let missing = |array: &Array| {
            let picture = Picture::new(array).expect("light");
            picture.light.iter().filter(|light| light.is_nan()).count()
        };
        for value in [0.0, -99.0, 1e4] {
            let around = changed(&clean, value, |y, x| y.min(x) < 5 || y.max(x) > 56);
            assert_eq!(missing(&around), 60 * 60 - 52 * 52);
            let around = Picture::new(&around).expect("light");
            let off = [0, 1].map(|k| (around.centre[k] - sound.centre[k]).abs());
            assert!(off[0] < 0.2 && off[1] < 0.2, "{value}: {off:?}");
            assert!((around.background - sound.background).abs() < 1.0, "{}", around.background);
            assert_eq!(missing(&changed(&clean, value, |y, _| y < 1)), 60);
        }
        assert_eq!(missing(&clean), 0);
        let cutout = changed(&clean, 0.0, |y, x| y.min(x) < 10 || y.max(x) > 49);
        assert_eq!(missing(&cutout), 0);
        // A source of a few pixels is not clipped away.
        let source = changed(&galaxy(60, 900.0, 900.0), 50.0, |y, x| y.abs_diff(x) + y == 30);
        let brightest = Picture::new(&source).expect("light").light;
        assert!(brightest.contains(&50.0));
    }

    #[test]
    fn a_band_that_is_not_there_hides_no_other() {
        let numbers = |k: usize| if k.is_multiple_of(2) { (k % 37) as f32 } else { f32::NAN };
        let two: Vec<f32> = (0..800).map(numbers).collect();
        let one = two.iter().copied().step_by(2).collect();
        let two = Array::new(vec![20, 20, 2], Data::F32(two)).expect("an array");
        let one = Array::new(vec![20, 20], Data::F32(one)).expect("an array");
        let [two, one] = [two, one].map(|array| Picture::new(&array).expect("light").cells(8));
        assert_eq!(one, two);
    }
}
