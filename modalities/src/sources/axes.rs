//! The order of an image's axes in a file -> `[height, width, bands]`.

use astropt_core::observation::{Array, Data};
use serde::{Deserialize, Serialize};

/// How the last axes of a stored image follow each other, the slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axes {
    /// `[height, width, bands]`: nothing is moved.
    Hwc,
    /// `[bands, height, width]`, as cubes of FITS have it.
    Chw,
    /// No image: the array stays as it is stored.
    Stored,
}

impl Axes {
    /// `array` as `[height, width, bands]`. An image of two axes has one band; arrays of
    /// fewer axes are no images and stay as they are.
    ///
    /// # Errors
    /// When it has more than three axes.
    pub(crate) fn arrange(self, array: Array) -> Result<Array, String> {
        match (self, array.shape.as_slice()) {
            (Self::Stored, _) | (_, [] | [_]) | (Self::Hwc, [_, _, _]) => Ok(array),
            (_, &[height, width]) => Ok(Array { shape: vec![height, width, 1], ..array }),
            (Self::Chw, &[bands, height, width]) => {
                let planes = height * width;
                Ok(Array {
                    shape: vec![height, width, bands],
                    data: transposed(&array.data, bands, planes),
                })
            }
            (axes, shape) => axes.check(shape).map(|()| array),
        }
    }

    /// `shape` without axes of length 1 before those of the picture, as long as there are more than
    /// three: FITS images of radio telescopes have such for Stokes parameters and frequency.
    pub(crate) fn without_degenerate(self, shape: &[usize]) -> Vec<usize> {
        let picture = match self {
            Self::Stored => return shape.to_vec(),
            Self::Hwc => 3,
            Self::Chw => 2,
        };
        let mut kept = shape.to_vec();
        while kept.len() > 3
            && let Some(place) = kept[..kept.len() - picture].iter().position(|&n| n == 1)
        {
            kept.remove(place);
        }
        kept
    }

    /// Whether an array of this shape can be arranged, before it is read.
    ///
    /// # Errors
    /// When it has too many axes for an image.
    pub(crate) fn check(self, shape: &[usize]) -> Result<(), String> {
        if self == Self::Stored || shape.len() <= 3 {
            return Ok(());
        }
        Err(format!(
            "an image has two or three axes, this array has {} ({shape:?}); write the planes that \
             are wanted as one of three, or where it is no image say so with `axes = \"stored\"`",
            shape.len()
        ))
    }
}

/// `[rows, columns]` -> `[columns, rows]`.
pub(crate) fn transposed(data: &Data, rows: usize, columns: usize) -> Data {
    fn turn<T: Copy>(data: &[T], rows: usize, columns: usize) -> Vec<T> {
        let mut turned = data.to_vec();
        for (r, row) in data.chunks_exact(columns.max(1)).enumerate() {
            let places = turned.iter_mut().skip(r).step_by(rows.max(1));
            places.zip(row).for_each(|(place, &number)| *place = number);
        }
        turned
    }
    match data {
        Data::U8(v) => Data::U8(turn(v, rows, columns)),
        Data::U16(v) => Data::U16(turn(v, rows, columns)),
        Data::F32(v) => Data::F32(turn(v, rows, columns)),
        Data::F64(v) => Data::F64(turn(v, rows, columns)),
        Data::I64(v) => Data::I64(turn(v, rows, columns)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_of_length_one_are_dropped_before_the_picture() {
        for (shape, kept) in [
            (&[1, 1, 5, 4][..], &[1, 5, 4][..]),
            (&[1, 3, 5, 4], &[3, 5, 4]),
            (&[3, 1, 5, 4], &[3, 5, 4]),
            (&[1, 1, 1, 1, 4], &[1, 1, 4]),
            (&[2, 3, 5, 4], &[2, 3, 5, 4]),
            (&[1, 2, 3, 1, 1], &[2, 3, 1, 1]),
            (&[1, 5, 4], &[1, 5, 4]),
            (&[], &[]),
        ] {
            assert_eq!(Axes::Chw.without_degenerate(shape), kept, "{shape:?}");
            assert_eq!(Axes::Stored.without_degenerate(shape), shape);
        }
        assert_eq!(Axes::Hwc.without_degenerate(&[1, 1, 4, 3]), [1, 4, 3]);
        assert_eq!(Axes::Hwc.without_degenerate(&[2, 1, 4, 3]), [2, 1, 4, 3]);
    }

    #[test]
    fn planes_become_the_last_axis() {
        let array = Array::new(vec![3, 1, 2], Data::U8(vec![1, 2, 3, 4, 5, 6])).expect("fits");
        let image = Axes::Chw.arrange(array.clone()).expect("an image");
        assert_eq!((image.shape, image.data), (vec![1, 2, 3], Data::U8(vec![1, 3, 5, 2, 4, 6])));
        assert_eq!(Axes::Hwc.arrange(array.clone()), Ok(array.clone()));
        let deep = Array { shape: vec![1, 3, 1, 2], ..array };
        assert!(Axes::Chw.arrange(deep.clone()).is_err());
        assert_eq!(Axes::Stored.arrange(deep.clone()), Ok(deep));
    }
}
