//! Bytes of an array -> numbers or texts.

use astropt_core::observation::Data;
use half::f16;

use super::header::{Header, Kind};
use crate::sources::tabular::Cell;

/// The numbers in `bytes`, in the narrowest type that keeps them: `bool` and `uint8` as bytes,
/// `uint16` as 16-bit counts, other integers as 64-bit ones, `float16` and `float32` in single
/// precision, `float64` in double.
///
/// # Errors
/// When they are text, or an unsigned integer is larger than 64-bit integers with a sign go.
pub(super) fn numbers(header: &Header, bytes: &[u8]) -> Result<Data, String> {
    let big = header.big_endian;
    macro_rules! read {
        ($type:ty) => {
            words(bytes).map(move |word| match big {
                true => <$type>::from_be_bytes(word),
                false => <$type>::from_le_bytes(word),
            })
        };
    }
    Ok(match (header.kind, header.width) {
        (Kind::Bool, _) => Data::U8(bytes.iter().map(|&byte| u8::from(byte != 0)).collect()),
        (Kind::Unsigned, 1) => Data::U8(bytes.to_vec()),
        (Kind::Unsigned, 2) => Data::U16(read!(u16).collect()),
        (Kind::Unsigned, 4) => Data::I64(read!(u32).map(i64::from).collect()),
        (Kind::Unsigned, _) => {
            let signed = |x| {
                i64::try_from(x).map_err(|_| format!("holds {x}, too large for a 64-bit integer"))
            };
            Data::I64(read!(u64).map(signed).collect::<Result<_, _>>()?)
        }
        (Kind::Signed, 1) => Data::I64(bytes.iter().map(|&b| i64::from(b as i8)).collect()),
        (Kind::Signed, 2) => Data::I64(read!(i16).map(i64::from).collect()),
        (Kind::Signed, 4) => Data::I64(read!(i32).map(i64::from).collect()),
        (Kind::Signed, _) => Data::I64(read!(i64).collect()),
        (Kind::Float, 2) => {
            Data::F32(read!(u16).map(|bits| f16::from_bits(bits).to_f32()).collect())
        }
        (Kind::Float, 4) => Data::F32(read!(f32).collect()),
        (Kind::Float, _) => Data::F64(read!(f64).collect()),
        (Kind::Bytes | Kind::Unicode, _) => return Err("holds text, not numbers".to_owned()),
    })
}

/// The texts in `bytes`.
///
/// # Errors
/// When they are numbers, or no sound text.
fn texts(header: &Header, bytes: &[u8]) -> Result<Vec<String>, String> {
    let each = || bytes.chunks_exact(header.width.max(1));
    match header.kind {
        Kind::Bytes => each()
            .map(|text| {
                let text = String::from_utf8(text.to_vec());
                let text = text.map_err(|_| "holds text that is not UTF-8".to_owned())?;
                Ok(text.trim_end_matches('\0').to_owned())
            })
            .collect(),
        Kind::Unicode => each()
            .map(|text| {
                let character = |word: [u8; 4]| {
                    let code = match header.big_endian {
                        true => u32::from_be_bytes(word),
                        false => u32::from_le_bytes(word),
                    };
                    char::from_u32(code).ok_or_else(|| "holds text that is not Unicode".to_owned())
                };
                let text: String = words(text).map(character).collect::<Result<_, _>>()?;
                Ok(text.trim_end_matches('\0').to_owned())
            })
            .collect(),
        Kind::Bool | Kind::Signed | Kind::Unsigned | Kind::Float => {
            Err("holds numbers, not text".to_owned())
        }
    }
}

/// Calls `each` with the numbers or texts in `bytes`, integers with all their digits.
///
/// # Errors
/// When they are no sound text, or the first error of `each`.
pub(super) fn cells(
    header: &Header,
    bytes: &[u8],
    each: &mut dyn FnMut(Cell<'_>) -> Result<(), String>,
) -> Result<(), String> {
    if !header.is_numeric() {
        return texts(header, bytes)?.iter().try_for_each(|text| each(Cell::Text(text)));
    }
    if (header.kind, header.width) == (Kind::Unsigned, 8) {
        let order = if header.big_endian { u64::from_be_bytes } else { u64::from_le_bytes };
        return words(bytes).try_for_each(|word| each(Cell::Integer(order(word).into())));
    }
    match numbers(header, bytes)? {
        Data::U8(v) => v.into_iter().try_for_each(|x| each(Cell::Integer(x.into()))),
        Data::U16(v) => v.into_iter().try_for_each(|x| each(Cell::Integer(x.into()))),
        Data::I64(v) => v.into_iter().try_for_each(|x| each(Cell::Integer(x.into()))),
        Data::F32(v) => v.into_iter().try_for_each(|x| each(Cell::Number(x.into()))),
        Data::F64(v) => v.into_iter().try_for_each(|x| each(Cell::Number(x))),
    }
}

/// The ids that `bytes` hold: texts or integers.
///
/// # Errors
/// When they are fractions, or no sound text.
pub(super) fn names(header: &Header, bytes: &[u8]) -> Result<Vec<Box<str>>, String> {
    let mut names = Vec::new();
    cells(header, bytes, &mut |cell| {
        let name = cell.with_name(|name| Some(name.into()));
        names.push(name.ok_or("holds fractions; ids are integers or text")?);
        Ok(())
    })?;
    Ok(names)
}

/// `bytes` in pieces of N.
fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    let (words, _) = bytes.as_chunks::<N>();
    words.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: Kind, width: usize, big_endian: bool) -> Header {
        Header { shape: vec![2], kind, width, big_endian, fortran: false, length: 0 }
    }

    #[test]
    fn every_type_is_read_in_both_byte_orders() {
        for big in [false, true] {
            macro_rules! check {
                ($kind:ident, $width:literal, $bytes:expr, $expected:expr) => {
                    let mut bytes: Vec<u8> = $bytes.concat();
                    if big {
                        bytes.chunks_exact_mut($width).for_each(<[u8]>::reverse);
                    }
                    let data = numbers(&header(Kind::$kind, $width, big), &bytes);
                    assert_eq!(data, Ok($expected), "{} {}", stringify!($kind), $width);
                };
            }
            check!(Bool, 1, [[0], [7]], Data::U8(vec![0, 1]));
            check!(Unsigned, 2, [[1, 2], [0xff, 0xff]], Data::U16(vec![513, 65535]));
            check!(Unsigned, 4, [u32::MAX.to_le_bytes()], Data::I64(vec![4_294_967_295]));
            check!(Signed, 1, [[0xff], [1]], Data::I64(vec![-1, 1]));
            check!(Signed, 2, [(-300i16).to_le_bytes()], Data::I64(vec![-300]));
            check!(Signed, 4, [(-70_000i32).to_le_bytes()], Data::I64(vec![-70_000]));
            check!(Signed, 8, [i64::MIN.to_le_bytes()], Data::I64(vec![i64::MIN]));
            check!(Float, 2, [[0, 0x3e], [0, 0xbc]], Data::F32(vec![1.5, -1.0]));
            check!(Float, 4, [1.25f32.to_le_bytes()], Data::F32(vec![1.25]));
            check!(Float, 8, [(-1e300f64).to_le_bytes()], Data::F64(vec![-1e300]));
        }
        let large = numbers(&header(Kind::Unsigned, 8, false), &u64::MAX.to_le_bytes());
        assert!(large.expect_err("too large").contains("18446744073709551615"));
    }

    #[test]
    fn ids_are_exact_text() {
        let texts = |header: &Header, bytes: &[u8]| {
            Ok::<Vec<String>, String>(names(header, bytes)?.into_iter().map(Into::into).collect())
        };
        let large = texts(&header(Kind::Unsigned, 8, false), &u64::MAX.to_le_bytes());
        assert_eq!(large.expect("text"), ["18446744073709551615"]);
        let odd = (1u64 << 53) + 1;
        let id = texts(&header(Kind::Signed, 8, true), &odd.to_be_bytes());
        assert_eq!(id.expect("text"), ["9007199254740993"]);
        let bytes = texts(&header(Kind::Bytes, 3, false), b"ab\0c\0\0");
        assert_eq!(bytes.expect("text"), ["ab", "c"]);
        let wide: Vec<u8> = "å\0☉x".chars().flat_map(|c| (c as u32).to_be_bytes()).collect();
        let unicode = texts(&header(Kind::Unicode, 8, true), &wide);
        assert_eq!(unicode.expect("text"), ["å", "☉x"]);
        let none = texts(&header(Kind::Unicode, 4, false), &0x00d8_0000_u32.to_le_bytes());
        assert!(none.is_err());
        assert!(texts(&header(Kind::Float, 4, false), &[0; 4]).is_err());
    }
}
