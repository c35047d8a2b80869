//! Amounts of memory and disk as a recipe writes them: `"256MB"`, `"50 GB"`, `"1GiB"`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Units with the bytes they stand for; the first is what a plain number means.
const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Reads `"50GB"` and the like; case and spaces do not matter.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = if unit.trim().is_empty() { "B" } else { unit.trim() };
        let (_, scale) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
        let bytes = number.parse::<f64>().ok()? * *scale as f64;
        (bytes.is_finite() && bytes < 1e18).then_some(Self(bytes.round() as u64))
    }
}

impl fmt::Display for ByteSize {
    /// The shortest exact way to write it, which [`parse`](Self::parse) reads back.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, scale): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*scale);
        let (name, scale) = UNITS.iter().filter(fits).max_by_key(|u| u.1).unwrap_or(&UNITS[0]);
        write!(out, "{}{name}", self.0 / scale)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "{text:?} is no amount of bytes; write a number and a unit, such as \"50GB\""
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_with_their_units() {
        for (text, bytes) in [
            ("50GB", Some(50_000_000_000)),
            ("1.5 mb", Some(1_500_000)),
            ("1GiB", Some(1 << 30)),
            ("12", Some(12)),
            ("0", Some(0)),
            ("", None),
            ("GB", None),
            ("-1GB", None),
            ("1e3MB", None),
            ("9999999999TB", None),
        ] {
            assert_eq!(ByteSize::parse(text), bytes.map(ByteSize), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes in 0u64..1 << 50) {
            prop_assert_eq!(ByteSize::parse(&ByteSize(bytes).to_string()), Some(ByteSize(bytes)));
        }
    }
}
