//! Stored numbers -> what they mean: byte order, scale, offset and blanks.

use astropt_core::observation::Data;
use fitsio_pure::image::ImageData;

/// How stored numbers become physical ones: `BSCALE`, `BZERO` and `BLANK` of an image,
/// `TSCALn`, `TZEROn` and `TNULLn` of a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    /// Factor.
    pub(super) scale: f64,
    /// Offset, added after.
    pub(super) zero: f64,
    /// The stored integer that stands for an unknown value.
    pub(super) blank: Option<i64>,
    /// Whether scaled numbers are kept in double precision whatever they are stored in, as is
    /// usual for tables.
    pub(super) double: bool,
}

/// 2^63, by which the standard shifts unsigned integers of 64 bits.
const HALF_64: f64 = 9_223_372_036_854_775_808.0;

/// A float of either precision, made of a double.
trait Float: Copy {
    const NAN: Self;
    fn of(x: f64) -> Self;
}

impl Float for f32 {
    const NAN: Self = f32::NAN;
    fn of(x: f64) -> Self {
        x as f32
    }
}

impl Float for f64 {
    const NAN: Self = f64::NAN;
    fn of(x: f64) -> Self {
        x
    }
}

/// Big-endian bytes as numbers of the type that `BITPIX` says.
pub(super) fn decode(bytes: &[u8], bitpix: i64) -> ImageData {
    fn all<T, const N: usize>(bytes: &[u8], one: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (numbers, _) = bytes.as_chunks::<N>();
        numbers.iter().map(|&n| one(n)).collect()
    }
    match bitpix {
        8 => ImageData::U8(bytes.to_vec()),
        16 => ImageData::I16(all(bytes, i16::from_be_bytes)),
        32 => ImageData::I32(all(bytes, i32::from_be_bytes)),
        64 => ImageData::I64(all(bytes, i64::from_be_bytes)),
        -32 => ImageData::F32(all(bytes, f32::from_be_bytes)),
        _ => ImageData::F64(all(bytes, f64::from_be_bytes)),
    }
}

impl Scale {
    /// The numbers that `raw` stands for, in the narrowest type of [`Data`] that holds them:
    /// integers stay exact, the unsigned ones of the usual offsets included. Blanks are NaN,
    /// and make integers floats.
    ///
    /// # Errors
    /// When an unsigned 64-bit integer passes 2^63 - 1.
    pub(super) fn apply(&self, raw: ImageData) -> Result<Data, String> {
        if self.blank.is_some() || self.scale != 1.0 {
            return Ok(self.scaled(&raw));
        }
        match unscaled(raw, self.zero)? {
            Exact::Data(data) => Ok(data),
            Exact::Not(raw) => Ok(self.scaled(&raw)),
        }
    }

    /// The integer that the stored `raw` stands for, with all its digits; `None` where it is
    /// blank, or what it stands for may be none.
    pub(super) fn integer(&self, raw: i64) -> Option<i128> {
        let whole = self.scale == 1.0 && self.zero.fract() == 0.0 && self.zero.abs() <= HALF_64;
        (whole && self.blank != Some(raw)).then(|| i128::from(raw) + self.zero as i128)
    }

    /// Scaled numbers in the precision that is usual for what they are stored in.
    fn scaled(&self, raw: &ImageData) -> Data {
        let narrow = matches!(raw, ImageData::U8(_) | ImageData::I16(_) | ImageData::F32(_));
        if narrow && !self.double {
            Data::F32(self.floats(raw))
        } else {
            Data::F64(self.floats(raw))
        }
    }

    /// Scaled numbers, rounded once.
    fn floats<T: Float>(&self, raw: &ImageData) -> Vec<T> {
        let float = |x: f64| T::of(self.scale * x + self.zero);
        let integer = |x: i64| if self.blank == Some(x) { T::NAN } else { float(x as f64) };
        match raw {
            ImageData::U8(v) => v.iter().map(|&x| integer(x.into())).collect(),
            ImageData::I16(v) => v.iter().map(|&x| integer(x.into())).collect(),
            ImageData::I32(v) => v.iter().map(|&x| integer(x.into())).collect(),
            ImageData::I64(v) => v.iter().map(|&x| integer(x)).collect(),
            ImageData::F32(v) => v.iter().map(|&x| float(x.into())).collect(),
            ImageData::F64(v) => v.iter().map(|&x| float(x)).collect(),
        }
    }
}

/// Numbers that an offset leaves exact, or else the numbers as they were.
enum Exact {
    Data(Data),
    Not(ImageData),
}

/// Numbers under an offset that keeps them exact: 0, or for integers the half range by which
/// the standard stores the other signedness (section 5.2.5 of FITS 4.0).
fn unscaled(raw: ImageData, zero: f64) -> Result<Exact, String> {
    Ok(Exact::Data(match raw {
        ImageData::U8(v) if zero == 0.0 => Data::U8(v),
        ImageData::U8(v) if zero == -128.0 => {
            Data::I64(v.iter().map(|&x| i64::from(x) - 128).collect())
        }
        ImageData::I16(v) if zero == 32_768.0 => {
            Data::U16(v.iter().map(|&x| (x as u16) ^ 0x8000).collect())
        }
        ImageData::I16(v) if zero == 0.0 => Data::I64(v.iter().map(|&x| x.into()).collect()),
        ImageData::I32(v) if zero == 0.0 => Data::I64(v.iter().map(|&x| x.into()).collect()),
        ImageData::I32(v) if zero == 2_147_483_648.0 => {
            Data::I64(v.iter().map(|&x| i64::from(x) + (1 << 31)).collect())
        }
        ImageData::I64(v) if zero == 0.0 => Data::I64(v),
        ImageData::I64(v) if zero == HALF_64 => {
            let signed = |&x: &i64| i64::try_from((x as u64) ^ (1 << 63));
            let all: Result<Vec<i64>, _> = v.iter().map(signed).collect();
            Data::I64(all.map_err(|_| {
                "an unsigned 64-bit integer is larger than 2^63 - 1, more than is kept exactly; \
                 write the column as text"
                    .to_owned()
            })?)
        }
        ImageData::F32(v) if zero == 0.0 => Data::F32(v),
        ImageData::F64(v) if zero == 0.0 => Data::F64(v),
        raw => return Ok(Exact::Not(raw)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Scale = Scale { scale: 1.0, zero: 0.0, blank: None, double: false };

    #[test]
    fn unsigned_conventions_are_exact() {
        let zero = |zero| Scale { zero, ..PLAIN };
        let shorts = || ImageData::I16(vec![i16::MIN, 0, i16::MAX]);
        assert_eq!(zero(32768.0).apply(shorts()), Ok(Data::U16(vec![0, 32768, 65535])));
        assert_eq!(zero(-128.0).apply(ImageData::U8(vec![0, 255])), Ok(Data::I64(vec![-128, 127])));
        let longs = ImageData::I64(vec![i64::MIN, i64::MIN + 7]);
        assert_eq!(zero(2f64.powi(63)).apply(longs), Ok(Data::I64(vec![0, 7])));
        assert!(zero(2f64.powi(63)).apply(ImageData::I64(vec![0])).is_err());
        assert_eq!(zero(1.0).apply(shorts()), Ok(Data::F32(vec![-32767.0, 1.0, 32768.0])));
    }

    #[test]
    fn integers_keep_all_their_digits_beside_blanks_and_offsets() {
        let zero = |zero| Scale { zero, blank: Some(-1), ..PLAIN };
        assert_eq!(zero(0.0).integer(9_007_199_254_740_993), Some(9_007_199_254_740_993));
        assert_eq!(zero(2f64.powi(63)).integer(i64::MAX), Some(u64::MAX.into()));
        assert_eq!((zero(0.0).integer(-1), zero(0.5).integer(1)), (None, None));
        assert_eq!(Scale { scale: 2.0, ..PLAIN }.integer(1), None);
    }

    #[test]
    fn blanks_are_nan_and_large_integers_stay_whole() {
        let exact = ImageData::I64(vec![39_628_433_498_145_678]);
        assert_eq!(PLAIN.apply(exact), Ok(Data::I64(vec![39_628_433_498_145_678])));
        let blank = Scale { blank: Some(-1), ..PLAIN };
        let Ok(Data::F32(v)) = blank.apply(ImageData::I16(vec![-1, 2])) else { panic!("floats") };
        assert!(v[0].is_nan() && v[1] == 2.0);
    }
}
