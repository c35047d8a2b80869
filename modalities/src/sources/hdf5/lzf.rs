//! The LZF filter of h5py (LibLZF's format, HDF5 filter 32000), for the reader that lacks it.

/// Unpacks `packed` to at most `most` bytes.
///
/// A control byte below 32 is followed by one more literal bytes than it says. Otherwise its
/// upper three bits are a length less 2, where 7 adds the next byte; its lower five bits and
/// the next byte are a distance back less 1.
///
/// # Errors
/// When the data end early, point before their start, or unpack to more.
pub(super) fn unpack(packed: &[u8], most: usize) -> Result<Vec<u8>, String> {
    const CUT: &str = "an LZF chunk is damaged";
    let mut out = Vec::new();
    let mut bytes = packed.iter().copied();
    let mut next = || bytes.next();
    while let Some(control) = next() {
        let control = usize::from(control);
        if control < 32 {
            for _ in 0..=control {
                out.push(next().ok_or(CUT)?);
            }
        } else {
            let mut length = control >> 5;
            if length == 7 {
                length += usize::from(next().ok_or(CUT)?);
            }
            let distance = ((control & 31) << 8) + usize::from(next().ok_or(CUT)?) + 1;
            let start = out.len().checked_sub(distance).ok_or(CUT)?;
            for from in start..start + length + 2 {
                let byte = out.get(from).copied().ok_or(CUT)?;
                out.push(byte);
            }
        }
        if out.len() > most {
            return Err(format!("an LZF chunk unpacks to more than its {most} bytes"));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::unpack;
    use proptest::prelude::*;

    #[test]
    fn runs_and_literals_unpack() {
        // "ab", then 9 + 2 bytes from 2 back, then "!".
        let packed = [1, b'a', b'b', 0b111_00000, 2, 1, 0, b'!'];
        assert_eq!(
            unpack(&packed, 100),
            Ok(b"abababababababa".iter().take(13).chain(b"!").copied().collect())
        );
        assert!(unpack(&packed, 10).is_err());
        assert!(unpack(&packed[..5], 100).is_err());
        assert!(unpack(&[0x20, 5], 100).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end_within_bounds(packed: Vec<u8>) {
            if let Ok(bytes) = unpack(&packed, 1000) {
                prop_assert!(bytes.len() <= 1000);
            }
        }
    }
}
