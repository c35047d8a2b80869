//! What is done to an image before it is cut into patches: planes picked, bad pixels filled.

use std::borrow::Cow;
use std::ops::Range;

use astropt_core::observation::Data;

/// The numbers of `planes` alone, of an image with `bands` numbers per pixel.
pub(super) fn pick(data: &Data, bands: usize, planes: &[usize]) -> Data {
    fn of<T: Copy>(pixels: &[T], bands: usize, planes: &[usize]) -> Vec<T> {
        let pixels = pixels.chunks_exact(bands);
        pixels.flat_map(|pixel| planes.iter().map(|&plane| pixel[plane])).collect()
    }
    match data {
        Data::U8(v) => Data::U8(of(v, bands, planes)),
        Data::U16(v) => Data::U16(of(v, bands, planes)),
        Data::F32(v) => Data::F32(of(v, bands, planes)),
        Data::F64(v) => Data::F64(of(v, bands, planes)),
        Data::I64(v) => Data::I64(of(v, bands, planes)),
    }
}

/// The square of `side` pixels from `top`, `left` on, of an image of `width` pixels a row.
pub(super) fn cut(
    data: &Data,
    (width, bands): (usize, usize),
    (top, left): (usize, usize),
    side: usize,
) -> Data {
    let of = |row: usize| {
        ((top + row) * width + left) * bands..((top + row) * width + left + side) * bands
    };
    fn rows<T: Copy>(pixels: &[T], ranges: impl Iterator<Item = Range<usize>>) -> Vec<T> {
        ranges.flat_map(|range| pixels[range].iter().copied()).collect()
    }
    let ranges = (0..side).map(of);
    match data {
        Data::U8(v) => Data::U8(rows(v, ranges)),
        Data::U16(v) => Data::U16(rows(v, ranges)),
        Data::F32(v) => Data::F32(rows(v, ranges)),
        Data::F64(v) => Data::F64(rows(v, ranges)),
        Data::I64(v) => Data::I64(rows(v, ranges)),
    }
}

/// The image with pixels that are not finite set to the median of their band, which stays as
/// it is where none is finite.
pub(super) fn fill(data: Cow<'_, Data>, bands: usize) -> Cow<'_, Data> {
    let finite = match &*data {
        Data::F32(v) => v.iter().all(|x| x.is_finite()),
        Data::F64(v) => v.iter().all(|x| x.is_finite()),
        Data::U8(_) | Data::U16(_) | Data::I64(_) => true,
    };
    if finite {
        return data;
    }
    let mut pixels = data.to_f32().into_owned();
    for band in 0..bands {
        let mut good: Vec<f32> =
            pixels.iter().skip(band).step_by(bands).copied().filter(|x| x.is_finite()).collect();
        if good.is_empty() {
            continue;
        }
        let middle = good.len() / 2;
        let median = *good.select_nth_unstable_by(middle, f32::total_cmp).1;
        for pixel in pixels.iter_mut().skip(band).step_by(bands) {
            if !pixel.is_finite() {
                *pixel = median;
            }
        }
    }
    Cow::Owned(Data::F32(pixels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_is_cut_out_of_the_middle() {
        let image = Data::U8((0..24).collect());
        assert_eq!(cut(&image, (4, 2), (1, 1), 2), Data::U8(vec![10, 11, 12, 13, 18, 19, 20, 21]));
    }

    #[test]
    fn planes_are_picked_in_the_order_asked_for() {
        let picked = pick(&Data::U8(vec![1, 2, 3, 4, 5, 6]), 3, &[2, 0]);
        assert_eq!(picked, Data::U8(vec![3, 1, 6, 4]));
    }

    #[test]
    fn bad_pixels_take_the_median_of_their_band() {
        let nan = f32::NAN;
        let image = Data::F32(vec![1.0, nan, nan, nan, 3.0, nan, 2.0, nan]);
        let filled = fill(Cow::Owned(image), 2).to_f32().into_owned();
        assert_eq!([filled[0], filled[2], filled[4], filled[6]], [1.0, 2.0, 3.0, 2.0]);
        let second_band = filled.iter().skip(1).step_by(2);
        assert!(second_band.into_iter().all(|x| x.is_nan()), "no finite pixel, no median");
        let whole = Data::U8(vec![1, 2]);
        assert!(matches!(fill(Cow::Borrowed(&whole), 1), Cow::Borrowed(_)));
    }
}
