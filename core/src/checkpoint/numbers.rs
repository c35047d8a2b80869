//! Numbers as files store them, little-endian, to `f32`.

/// How a file stores a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Number {
    /// Bytes of one.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Every number of `bytes`, whose length is a multiple of [`size`](Self::size).
    ///
    /// # Errors
    /// When an integer is too large for `f32` to hold exactly, or a 64-bit number leaves
    /// its range.
    pub(crate) fn decode(self, bytes: &[u8]) -> Result<Vec<f32>, String> {
        match self {
            Self::F64 => each(bytes, |b: [u8; 8]| narrow(f64::from_le_bytes(b))),
            Self::F32 => each(bytes, |b: [u8; 4]| Ok(f32::from_le_bytes(b))),
            Self::F16 => each(bytes, |b: [u8; 2]| Ok(half(u16::from_le_bytes(b)))),
            Self::Bf16 => {
                each(bytes, |b: [u8; 2]| Ok(f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)))
            }
            Self::I64 => each(bytes, |b: [u8; 8]| integer(i64::from_le_bytes(b))),
            Self::I32 => each(bytes, |b: [u8; 4]| integer(i64::from(i32::from_le_bytes(b)))),
            Self::I16 => each(bytes, |b: [u8; 2]| Ok(f32::from(i16::from_le_bytes(b)))),
            Self::I8 => each(bytes, |b: [u8; 1]| Ok(f32::from(i8::from_le_bytes(b)))),
            Self::U8 => each(bytes, |[b]: [u8; 1]| Ok(f32::from(b))),
            Self::Bool => each(bytes, |[b]: [u8; 1]| Ok(f32::from(b != 0))),
        }
    }
}

fn each<const N: usize>(
    bytes: &[u8],
    one: impl Fn([u8; N]) -> Result<f32, String>,
) -> Result<Vec<f32>, String> {
    let (numbers, _) = bytes.as_chunks::<N>();
    numbers.iter().map(|&b| one(b)).collect()
}

fn narrow(x: f64) -> Result<f32, String> {
    let y = x as f32;
    if x.is_finite() && !y.is_finite() {
        return Err(format!("the number {x} is too large for 32 bits"));
    }
    Ok(y)
}

fn integer(x: i64) -> Result<f32, String> {
    let y = x as f32;
    if y as i128 != i128::from(x) {
        return Err(format!("the integer {x} has no exact 32-bit floating-point value"));
    }
    Ok(y)
}

/// IEEE 754 half precision.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        0x1f if fraction == 0.0 => sign * f32::INFINITY,
        0x1f => f32::NAN,
        _ => sign * (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_and_brains_are_read() {
        let cases: [(u16, f32); 7] = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
            (0x7bff, 65504.0),
            (0xfc00, f32::NEG_INFINITY),
            (0x8000, -0.0),
        ];
        for (bits, expected) in cases {
            assert_eq!(half(bits).to_bits(), expected.to_bits(), "{bits:#x}");
        }
        assert!(half(0x7e00).is_nan());
        assert_eq!(Number::Bf16.decode(&[0x80, 0x3f, 0x40, 0xc0]), Ok(vec![1.0, -3.0]));
    }

    #[test]
    fn integers_are_exact_or_refused() {
        assert_eq!(Number::I64.decode(&16_777_216i64.to_le_bytes()), Ok(vec![16_777_216.0]));
        assert!(Number::I64.decode(&16_777_217i64.to_le_bytes()).is_err());
        assert!(Number::I64.decode(&i64::MAX.to_le_bytes()).is_err());
        assert_eq!(Number::I32.decode(&(-5i32).to_le_bytes()), Ok(vec![-5.0]));
        assert!(Number::F64.decode(&1e300f64.to_le_bytes()).is_err());
        assert_eq!(Number::Bool.decode(&[0, 1]), Ok(vec![0.0, 1.0]));
    }
}
