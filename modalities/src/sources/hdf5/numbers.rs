//! Stored bytes -> typed arrays.

use astropt_core::observation::Data;

use crate::sources::NO_CODES;

/// The type of a dataset's elements, as far as it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) kind: Kind,
    /// Bytes of an element.
    pub(super) size: usize,
    /// Whether the bytes of a number start with the most significant.
    pub(super) big_endian: bool,
}

/// What an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A signed integer.
    Signed,
    /// An unsigned integer, or the number of an enumeration's member.
    Unsigned,
    /// An IEEE float.
    Float,
    /// A text, of fixed length and filled with zeros or spaces, or of any.
    Text,
}

impl Element {
    /// What it is, in words: `u8`, `f32`, `text`.
    pub(super) fn holds(&self) -> String {
        let letter = match self.kind {
            Kind::Signed => 'i',
            Kind::Unsigned => 'u',
            Kind::Float => 'f',
            Kind::Text => return "text".to_owned(),
        };
        format!("{letter}{}", 8 * self.size)
    }

    /// Whether its numbers may pass those of [`Data::I64`].
    pub(super) fn is_wide(&self) -> bool {
        (self.kind, self.size) == (Kind::Unsigned, 8)
    }

    /// `bytes` as numbers where they are [wide](Self::is_wide).
    pub(super) fn wide(&self, bytes: &[u8]) -> Vec<u64> {
        all(bytes, self.big_endian, u64::from_le_bytes)
    }

    /// `bytes` as numbers: unsigned integers of 8 and 16 bits and floats of 32 and 64 keep their
    /// type, other integers become 64-bit ones, half precision becomes single.
    ///
    /// # Errors
    /// When there is no such type of number, or an integer passes 2^63 - 1.
    pub(super) fn numbers(&self, bytes: Vec<u8>) -> Result<Data, String> {
        if (self.kind, self.size) == (Kind::Unsigned, 1) {
            return Ok(Data::U8(bytes));
        }
        let (bytes, swap) = (bytes.as_slice(), self.big_endian);
        Ok(match (self.kind, self.size) {
            (Kind::Unsigned, 2) => Data::U16(all(bytes, swap, u16::from_le_bytes)),
            (Kind::Unsigned, 4) => Data::I64(all(bytes, swap, |n| u32::from_le_bytes(n).into())),
            (Kind::Unsigned, 8) => signed(all(bytes, swap, u64::from_le_bytes))?,
            (Kind::Signed, 1) => Data::I64(all(bytes, swap, |n| i8::from_le_bytes(n).into())),
            (Kind::Signed, 2) => Data::I64(all(bytes, swap, |n| i16::from_le_bytes(n).into())),
            (Kind::Signed, 4) => Data::I64(all(bytes, swap, |n| i32::from_le_bytes(n).into())),
            (Kind::Signed, 8) => Data::I64(all(bytes, swap, i64::from_le_bytes)),
            (Kind::Float, 2) => Data::F32(all(bytes, swap, |n| half(u16::from_le_bytes(n)))),
            (Kind::Float, 4) => Data::F32(all(bytes, swap, f32::from_le_bytes)),
            (Kind::Float, 8) => Data::F64(all(bytes, swap, f64::from_le_bytes)),
            (Kind::Text, _) => return Err(format!("it holds texts, not numbers; {NO_CODES}")),
            (kind, size) => {
                return Err(format!("it holds {kind:?} numbers of {size} bytes; convert it"));
            }
        })
    }
}

/// The numbers in `bytes`, whose order is turned with `swap`.
fn all<T, const N: usize>(bytes: &[u8], swap: bool, one: impl Fn([u8; N]) -> T) -> Vec<T> {
    let turned = |&n: &[u8; N]| {
        let mut n = n;
        if swap {
            n.reverse();
        }
        one(n)
    };
    bytes.as_chunks::<N>().0.iter().map(turned).collect()
}

/// Unsigned integers as those with a sign.
///
/// # Errors
/// When one is too large.
pub(super) fn signed(wide: Vec<u64>) -> Result<Data, String> {
    let exact: Result<_, _> = wide.into_iter().map(i64::try_from).collect();
    exact.map(Data::I64).map_err(|_| {
        "an integer is larger than 2^63 - 1, which only labels and ids may be".to_owned()
    })
}

/// A number of half precision (IEEE 754 binary16).
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_values_in_either_order() {
        let element = |kind, size, big_endian| Element { kind, size, big_endian };
        let big = element(Kind::Signed, 8, true);
        assert_eq!(big.numbers((1i64 << 60).to_be_bytes().to_vec()), Ok(Data::I64(vec![1 << 60])));
        let half = element(Kind::Float, 2, false);
        let bytes: Vec<u8> =
            [0x3c00u16, 0xc500, 0x0001, 0x7c00].iter().flat_map(|n| n.to_le_bytes()).collect();
        let expected = Data::F32(vec![1.0, -5.0, 2f32.powi(-24), f32::INFINITY]);
        assert_eq!(half.numbers(bytes), Ok(expected));
        assert!(element(Kind::Unsigned, 8, false).numbers(vec![255; 8]).is_err());
        assert!(element(Kind::Float, 16, false).numbers(vec![0; 16]).is_err());
    }
}
