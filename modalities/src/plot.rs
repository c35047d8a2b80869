//! A small plot of numbers, as a preview of what is no picture.

use astropt_core::seam::Preview;

use crate::normalise::quantile;

const WIDTH: usize = 320;
const HEIGHT: usize = 160;
/// Pixels between the frame and the data.
const MARGIN: usize = 6;
const FRAME: [u8; 3] = [190, 190, 190];
/// Colours of the groups, told apart also without seeing red and green (Okabe & Ito 2008).
const COLOURS: [[u8; 3]; 6] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233]];

/// A place in a plot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// Which colour it has.
    pub(crate) group: usize,
    /// Whether a line leads to it from the mark before; else it is a dot.
    pub(crate) joined: bool,
}

/// The marks in a frame from the least to the greatest x and from the 0.5th to the 99.5th
/// percentile of y; what lies outside is drawn at the edge. `downwards`: y grows
/// downwards, as magnitudes do.
pub(crate) fn draw(marks: &[Mark], downwards: bool) -> Preview {
    let mut canvas = Canvas { rgb: vec![255; WIDTH * HEIGHT * 3] };
    canvas.frame();
    let x = Axis::new(marks.iter().map(|m| m.x), (0.0, 1.0), WIDTH);
    let y = Axis::new(marks.iter().map(|m| m.y), (0.005, 0.995), HEIGHT);
    let mut before = None;
    for mark in marks {
        let (Some(column), Some(row)) = (x.place(mark.x), y.place(mark.y)) else {
            before = None;
            continue;
        };
        let row = if downwards { row } else { HEIGHT - 1 - row };
        let colour = COLOURS[mark.group % COLOURS.len()];
        match before {
            Some(start) if mark.joined => canvas.line(start, (column, row), colour),
            _ if mark.joined => canvas.put(column, row, colour),
            _ => canvas.dot(column, row, colour),
        }
        before = Some((column, row));
    }
    Preview { width: WIDTH, height: HEIGHT, rgb: canvas.rgb }
}

/// From numbers to pixels.
struct Axis {
    low: f64,
    high: f64,
    pixels: usize,
}

impl Axis {
    fn new(numbers: impl Iterator<Item = f64>, ranks: (f64, f64), pixels: usize) -> Self {
        let mut sorted: Vec<f64> = numbers.filter(|x| x.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (low, high) = (quantile(&sorted, ranks.0), quantile(&sorted, ranks.1));
        Self { low, high, pixels }
    }

    fn place(&self, x: f64) -> Option<usize> {
        let inner = (self.pixels - 1 - 2 * MARGIN) as f64;
        // Halved, so that the greatest numbers there are do not overflow.
        let range = self.high / 2.0 - self.low / 2.0;
        let share = if range > 0.0 { (x / 2.0 - self.low / 2.0) / range } else { 0.5 };
        x.is_finite().then(|| MARGIN + (share.clamp(0.0, 1.0) * inner).round() as usize)
    }
}

struct Canvas {
    rgb: Vec<u8>,
}

impl Canvas {
    fn put(&mut self, column: usize, row: usize, colour: [u8; 3]) {
        self.rgb[3 * (row * WIDTH + column)..][..3].copy_from_slice(&colour);
    }

    fn frame(&mut self) {
        for column in 0..WIDTH {
            self.put(column, 0, FRAME);
            self.put(column, HEIGHT - 1, FRAME);
        }
        for row in 0..HEIGHT {
            self.put(0, row, FRAME);
            self.put(WIDTH - 1, row, FRAME);
        }
    }

    fn dot(&mut self, column: usize, row: usize, colour: [u8; 3]) {
        for (x, y) in (0..9).map(|k| (column + k % 3 - 1, row + k / 3 - 1)) {
            self.put(x, y, colour);
        }
    }

    fn line(&mut self, from: (usize, usize), to: (usize, usize), colour: [u8; 3]) {
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        let between = |a: usize, b: usize, k: usize| (a * (steps - k) + b * k + steps / 2) / steps;
        for k in 0..=steps {
            self.put(between(from.0, to.0, k), between(from.1, to.1, k), colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(ys: &[f64], joined: bool) -> Vec<Mark> {
        ys.iter().enumerate().map(|(x, &y)| Mark { x: x as f64, y, group: 0, joined }).collect()
    }

    fn column(preview: &Preview, column: usize) -> Vec<usize> {
        let row = |row| &preview.rgb[3 * (row * WIDTH + column)..][..3];
        (0..HEIGHT).filter(|&r| row(r) == COLOURS[0]).collect()
    }

    #[test]
    fn a_rising_line_ends_at_the_top() {
        let up = draw(&marks(&[0.0, 1.0, 2.0], true), false);
        assert_eq!(column(&up, MARGIN), [HEIGHT - 1 - MARGIN]);
        assert_eq!(column(&up, WIDTH - 1 - MARGIN), [MARGIN]);
        let down = draw(&marks(&[0.0, 1.0, 2.0], true), true);
        assert_eq!(column(&down, MARGIN), [MARGIN]);
        // The line has no hole.
        assert!((MARGIN..WIDTH - MARGIN).all(|x| !column(&up, x).is_empty()));
    }

    #[test]
    fn whatever_the_numbers_there_is_a_plot() {
        for y in [0.0, f64::NAN, f64::INFINITY, f64::MAX, -1e-300] {
            for joined in [false, true] {
                let preview = draw(&marks(&[y, -y, 1.0, f64::MAX, f64::MIN], joined), false);
                assert_eq!(preview.rgb.len(), preview.width * preview.height * 3);
            }
        }
        draw(&[], false);
    }
}
