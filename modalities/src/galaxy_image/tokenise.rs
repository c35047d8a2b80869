//! Pixels -> tokens and back: the inner loops.
//!
//! Each patch is gathered once into a small buffer of the file's own type, where its
//! moments are taken, and written once to where its token lies. Integer pixels have exact
//! moments; floating-point ones are summed in double precision.

use astropt_core::tokens::Tokens;

/// Added to the standard deviation, so that an even patch becomes zeros.
const EPSILON: f64 = 1e-8;

/// Where the patches of a window lie and in which order they are read.
#[derive(Debug)]
pub(super) struct Layout {
    /// Side of a patch, in pixels.
    pub(super) patch: usize,
    /// Patches along a side of the window.
    pub(super) side: usize,
    /// Numbers per pixel.
    pub(super) bands: usize,
    /// Whether rows and columns are swapped before patching.
    pub(super) transpose: bool,
    /// `row * side + column` of each token's patch, after the swap.
    pub(super) order: Vec<usize>,
}

/// The number type of a source image.
pub(super) trait Pixel: Copy + Default {
    /// Whether NaN and infinity can occur.
    const FLOAT: bool;

    /// As a token's number.
    fn value(self) -> f32;

    /// Mean and unbiased standard deviation of at least two numbers.
    fn moments(patch: &[Self]) -> (f64, f64);

    /// Appends `(x - mean) / scale` for every number of the patch.
    fn standardise(patch: &[Self], mean: f64, scale: f64, out: &mut Vec<f32>);
}

macro_rules! integer_pixel {
    ($type:ty, $chunk_sum:ty) => {
        impl Pixel for $type {
            const FLOAT: bool = false;

            fn value(self) -> f32 {
                f32::from(self)
            }

            fn moments(patch: &[Self]) -> (f64, f64) {
                let (mut sum, mut squares) = (0i128, 0i128);
                // Short chunks fit the narrow sums that vectorise.
                for chunk in patch.chunks(4096) {
                    let (mut s, mut q): ($chunk_sum, $chunk_sum) = (0, 0);
                    for &x in chunk {
                        let x = <$chunk_sum>::from(x);
                        s += x;
                        q += x * x;
                    }
                    sum += i128::from(s);
                    squares += i128::from(q);
                }
                let n = patch.len() as i128;
                let variance = (n * squares - sum * sum) as f64 / (n * (n - 1)) as f64;
                (sum as f64 / n as f64, variance.sqrt())
            }

            fn standardise(patch: &[Self], mean: f64, scale: f64, out: &mut Vec<f32>) {
                let (mean, inverse) = (mean as f32, (1.0 / scale) as f32);
                out.extend(patch.iter().map(|&x| (f32::from(x) - mean) * inverse));
            }
        }
    };
}

integer_pixel!(u8, i32);
integer_pixel!(u16, i64);

impl Pixel for f32 {
    const FLOAT: bool = true;

    fn value(self) -> f32 {
        self
    }

    fn moments(patch: &[Self]) -> (f64, f64) {
        let n = patch.len() as f64;
        let mean = sum(patch, |x| x) / n;
        let variance = sum(patch, |x| (x - mean) * (x - mean)) / (n - 1.0);
        (mean, variance.sqrt())
    }

    fn standardise(patch: &[Self], mean: f64, scale: f64, out: &mut Vec<f32>) {
        let inverse = 1.0 / scale;
        out.extend(patch.iter().map(|&x| ((f64::from(x) - mean) * inverse) as f32));
    }
}

/// The sum of `f` over `values`, in eight partial sums that vectorise.
fn sum(values: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f(f64::from(x));
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&x| f(f64::from(x))).sum::<f64>()
}

impl Layout {
    /// Side of the window, in pixels.
    pub(super) fn pixels(&self) -> usize {
        self.side * self.patch
    }

    /// The tokens of the window whose first pixel is at `(top, left)` of an image with
    /// `width` pixels in a row. `None`: a pixel is not a finite number.
    pub(super) fn tokens<T: Pixel>(
        &self,
        image: &[T],
        width: usize,
        (top, left): (usize, usize),
        standardise: bool,
    ) -> Option<Tokens> {
        let numbers = self.patch * self.patch * self.bands;
        let mut patch = vec![T::default(); numbers];
        let mut values = Vec::with_capacity(self.order.len() * numbers);
        let mut affine = Vec::with_capacity(if standardise { self.order.len() } else { 0 });
        for &place in &self.order {
            let (row, column) = self.file_place(place);
            let corner = (top + row * self.patch, left + column * self.patch);
            self.gather(image, width, corner, &mut patch);
            if standardise {
                let (mean, deviation) = T::moments(&patch);
                let scale = deviation + EPSILON;
                T::standardise(&patch, mean, scale, &mut values);
                affine.push([mean as f32, scale as f32]);
            } else {
                values.extend(patch.iter().map(|x| x.value()));
            }
            let token = &values[values.len() - numbers..];
            if T::FLOAT && token.iter().any(|v| !v.is_finite()) {
                return None;
            }
        }
        if affine.iter().flatten().any(|v| !v.is_finite()) {
            return None;
        }
        let len = self.order.len();
        let indices = (0..len as u32).collect();
        Some(Tokens { len, values: values.into(), indices, affine, ..Tokens::default() })
    }

    /// The window's pixels from a full set of tokens: `[pixels, pixels, bands]`, in the
    /// file's axes.
    pub(super) fn pixels_of(&self, tokens: &Tokens) -> Vec<f32> {
        let numbers = self.patch * self.patch * self.bands;
        let stride = self.pixels() * self.bands;
        let mut image = vec![0.0; self.pixels() * stride];
        for (token, &place) in self.order.iter().enumerate() {
            let values = &tokens.values[token * numbers..][..numbers];
            let [offset, scale] = tokens.affine.get(token).copied().unwrap_or([0.0, 1.0]);
            let (row, column) = self.file_place(place);
            let corner = row * self.patch * stride + column * self.patch * self.bands;
            for (i, pixel) in values.chunks_exact(self.bands).enumerate() {
                let (mut y, mut x) = (i / self.patch, i % self.patch);
                if self.transpose {
                    (y, x) = (x, y);
                }
                let out = &mut image[corner + y * stride + x * self.bands..][..self.bands];
                for (out, value) in out.iter_mut().zip(pixel) {
                    *out = value * scale + offset;
                }
            }
        }
        image
    }

    /// Row and column of a patch in the file's axes.
    fn file_place(&self, place: usize) -> (usize, usize) {
        let (row, column) = (place / self.side, place % self.side);
        if self.transpose { (column, row) } else { (row, column) }
    }

    /// Copies the patch whose first pixel is at `(top, left)`, swapping axes if need be.
    fn gather<T: Pixel>(
        &self,
        image: &[T],
        width: usize,
        (top, left): (usize, usize),
        patch: &mut [T],
    ) {
        let row_numbers = self.patch * self.bands;
        for y in 0..self.patch {
            let row = &image[((top + y) * width + left) * self.bands..][..row_numbers];
            match (self.transpose, self.bands) {
                (false, _) => patch[y * row_numbers..][..row_numbers].copy_from_slice(row),
                (true, 1) => self.put_column::<T, 1>(row, y, patch),
                (true, 3) => self.put_column::<T, 3>(row, y, patch),
                (true, bands) => {
                    for (x, pixel) in row.chunks_exact(bands).enumerate() {
                        patch[(x * self.patch + y) * bands..][..bands].copy_from_slice(pixel);
                    }
                }
            }
        }
    }

    /// Writes a row of pixels as column `column` of the patch.
    fn put_column<T: Pixel, const BANDS: usize>(&self, row: &[T], column: usize, patch: &mut [T]) {
        let pixels = row.as_chunks::<BANDS>().0;
        let places = patch.as_chunks_mut::<BANDS>().0;
        for (place, pixel) in places[column..].iter_mut().step_by(self.patch).zip(pixels) {
            *place = *pixel;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_agree_between_types() {
        let bytes: Vec<u8> = (0..768u32).map(|i| (i * 37 % 251) as u8).collect();
        let shorts: Vec<u16> = bytes.iter().map(|&x| x.into()).collect();
        let floats: Vec<f32> = bytes.iter().map(|&x| x.into()).collect();
        let (mean, deviation) = u8::moments(&bytes);
        assert_eq!(u16::moments(&shorts), (mean, deviation));
        let (m, d) = f32::moments(&floats);
        assert!((m - mean).abs() < 1e-12 && (d - deviation).abs() < 1e-11);
    }

    #[test]
    fn an_even_patch_becomes_zeros() {
        let mut out = Vec::new();
        let (mean, deviation) = f32::moments(&[0.1; 4]);
        f32::standardise(&[0.1; 4], mean, deviation + EPSILON, &mut out);
        assert_eq!(out, [0.0; 4]);
    }
}
