//! The header of an `.npy` array: type, shape and order of its numbers.
//!
//! The format is NumPy's NEP 1: magic, version, length, and a Python dictionary literal of
//! `descr`, `fortran_order` and `shape`.

use std::io::Read;

use py_literal::Value;

/// Longest dictionary that is read; NumPy writes some hundred bytes.
const MAX_LENGTH: usize = 64 << 10;

/// Deepest nesting of brackets: that of a record within a record.
const MAX_DEPTH: usize = 6;

/// Most axes that NumPy itself allows.
const MAX_AXES: usize = 64;

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// What the header of an array says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Length of every axis, slowest first (unless `fortran`).
    pub(super) shape: Vec<usize>,
    pub(super) kind: Kind,
    /// Bytes of one number or text.
    pub(super) width: usize,
    pub(super) big_endian: bool,
    /// The first axis runs fastest, not the last.
    pub(super) fortran: bool,
    /// Bytes of the header itself.
    pub(super) length: u64,
}

/// What the numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Signed,
    Unsigned,
    Float,
    /// Bytes, padded with zeros.
    Bytes,
    /// UCS-4 characters, padded with zeros.
    Unicode,
}

impl Header {
    /// Reads the header at the start of `file`.
    ///
    /// # Errors
    /// What is wrong, in words that follow the name of the array.
    pub(super) fn read(file: &mut dyn Read) -> Result<Self, String> {
        let mut start = [0u8; 8];
        let cut = |e: std::io::Error| format!("its header cannot be read: {e}");
        file.read_exact(&mut start).map_err(|_| "is no .npy array: it is too short".to_owned())?;
        if !start.starts_with(MAGIC) {
            return Err("is no .npy array: it does not begin with \\x93NUMPY".to_owned());
        }
        let (stated, prefix) = match start[6] {
            1 => {
                let mut length = [0u8; 2];
                file.read_exact(&mut length).map_err(cut)?;
                (usize::from(u16::from_le_bytes(length)), 10)
            }
            2 | 3 => {
                let mut length = [0u8; 4];
                file.read_exact(&mut length).map_err(cut)?;
                (u32::from_le_bytes(length) as usize, 12)
            }
            other => return Err(format!("is of .npy version {other}; 1, 2 and 3 are known")),
        };
        if stated > MAX_LENGTH {
            return Err(format!(
                "states a header of {stated} bytes; at most {MAX_LENGTH} are read"
            ));
        }
        let mut text = vec![0; stated];
        file.read_exact(&mut text).map_err(cut)?;
        let text =
            String::from_utf8(text).map_err(|_| "has a header that is no text".to_owned())?;
        let mut header = parse(&text)?;
        header.length = prefix + stated as u64;
        Ok(header)
    }

    /// Bytes of all numbers, or `None` where that cannot be counted.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.shape.iter().try_fold(self.width as u64, |n, &axis| n.checked_mul(axis as u64))
    }

    /// Bytes of one entry of the first axis.
    pub(super) fn row_bytes(&self) -> Option<u64> {
        let rest = self.shape.get(1..)?;
        rest.iter().try_fold(self.width as u64, |n, &axis| n.checked_mul(axis as u64))
    }

    /// Whether it holds numbers.
    pub(super) fn is_numeric(&self) -> bool {
        !matches!(self.kind, Kind::Bytes | Kind::Unicode)
    }

    /// What it holds, in words: `u8`, `f32`, `text`.
    pub(super) fn holds(&self) -> String {
        let letter = match self.kind {
            Kind::Bool => return "true or false".to_owned(),
            Kind::Bytes | Kind::Unicode => return "text".to_owned(),
            Kind::Signed => 'i',
            Kind::Unsigned => 'u',
            Kind::Float => 'f',
        };
        format!("{letter}{}", 8 * self.width)
    }

    /// As NumPy prints a shape: `(196, 4300)`.
    pub(super) fn shape_text(&self) -> String {
        match self.shape.as_slice() {
            [one] => format!("({one},)"),
            axes => {
                format!("({})", axes.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

fn parse(text: &str) -> Result<Header, String> {
    let wrong = |what: &str| format!("has a header without a sound {what}");
    // The parser is recursive, and looks several times at what is nested.
    let mut depth = 0usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err("has a header of brackets within brackets".to_owned());
        }
    }
    let value: Value = text.trim().parse().map_err(|_| wrong("dictionary"))?;
    let Value::Dict(entries) = value else { return Err(wrong("dictionary")) };
    let get = |key: &str| {
        let found = entries.iter().find(|(k, _)| matches!(k, Value::String(k) if k == key));
        found.map(|(_, value)| value).ok_or_else(|| wrong(key))
    };
    let (kind, width, big_endian) = match get("descr")? {
        Value::String(descr) => number_type(descr)?,
        _ => {
            return Err(
                "holds records (a structured dtype); save each field as its own array".to_owned()
            );
        }
    };
    let Value::Boolean(fortran) = *get("fortran_order")? else {
        return Err(wrong("fortran_order"));
    };
    let (Value::Tuple(axes) | Value::List(axes)) = get("shape")? else {
        return Err(wrong("shape"));
    };
    if axes.len() > MAX_AXES {
        return Err(format!("states {} axes; NumPy has at most {MAX_AXES}", axes.len()));
    }
    let axis = |value: &Value| match value {
        Value::Integer(length) => usize::try_from(length).map_err(|_| wrong("shape")),
        _ => Err(wrong("shape")),
    };
    let shape = axes.iter().map(axis).collect::<Result<Vec<_>, _>>()?;
    let fortran = fortran && shape.len() > 1; // the orders of one axis are the same
    Ok(Header { shape, kind, width, big_endian, fortran, length: 0 })
}

/// Kind, width in bytes and byte order that a type such as `<f4` or `|S10` stands for.
fn number_type(descr: &str) -> Result<(Kind, usize, bool), String> {
    let unknown =
        || format!("has the unknown type {:?}", descr.chars().take(20).collect::<String>());
    let mut rest = descr.chars();
    let order = rest.next().ok_or_else(unknown)?;
    let (order, letter) = match order {
        '<' | '>' | '|' | '=' => (order, rest.next().ok_or_else(unknown)?),
        letter => ('|', letter),
    };
    let size = rest.as_str();
    if letter == 'O' {
        return Err(
            "holds Python objects (pickled), which are never loaded, for loading them runs \
                    code; save it as an array of numbers or of text"
                .to_owned(),
        );
    }
    if let 'M' | 'm' = letter {
        return Err("holds dates or durations; save it as days".to_owned());
    }
    let size: usize = size.parse().map_err(|_| unknown())?;
    let kind = match (letter, size) {
        ('b' | '?', 1) => Kind::Bool,
        ('i', 1 | 2 | 4 | 8) => Kind::Signed,
        ('u', 1 | 2 | 4 | 8) => Kind::Unsigned,
        ('f', 2 | 4 | 8) => Kind::Float,
        ('S' | 'a', 1..) => Kind::Bytes,
        ('U', 1..) => Kind::Unicode,
        ('f', _) => return Err("holds long doubles; save it as float64".to_owned()),
        ('c', _) => return Err("holds complex numbers; save real and imaginary parts".to_owned()),
        _ => return Err(unknown()),
    };
    let width = if kind == Kind::Unicode { size.checked_mul(4) } else { Some(size) };
    Ok((
        kind,
        width.ok_or_else(unknown)?,
        order == '>' || (order == '=' && cfg!(target_endian = "big")),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An `.npy` header of version 1 around `dictionary`.
    fn npy(dictionary: &str) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend([1, 0]);
        out.extend((dictionary.len() as u16).to_le_bytes());
        out.extend(dictionary.as_bytes());
        out
    }

    fn header(descr: &str, shape: &str) -> Result<Header, String> {
        let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}   \n");
        Header::read(&mut npy(&text).as_slice())
    }

    #[test]
    fn types_are_what_numpy_calls_them() {
        for (descr, kind, width, big) in [
            ("<f2", Kind::Float, 2, false),
            (">f8", Kind::Float, 8, true),
            ("|u1", Kind::Unsigned, 1, false),
            ("|b1", Kind::Bool, 1, false),
            (">i4", Kind::Signed, 4, true),
            ("<U10", Kind::Unicode, 40, false),
            ("|S7", Kind::Bytes, 7, false),
        ] {
            let header = header(&format!("'{descr}'"), "(3, 5)").expect(descr);
            assert_eq!((header.kind, header.width, header.big_endian), (kind, width, big));
            assert_eq!(header.shape, [3, 5]);
        }
    }

    #[test]
    fn what_is_no_array_of_numbers_is_refused_in_words() {
        let huge = format!("({},)", "9".repeat(400));
        for (descr, shape, words) in [
            ("'|O'", "(3,)", "never loaded"),
            ("[('a', '<f4'), ('b', '|O')]", "(3,)", "records"),
            ("'<c16'", "(3,)", "complex"),
            ("'<M8[D]'", "(3,)", "days"),
            ("'<f16'", "(3,)", "long doubles"),
            ("'<U99999999999999999999'", "(3,)", "unknown type"),
            ("'<f4x'", "(3,)", "unknown type"),
            ("'<f4'", "(-3,)", "sound shape"),
            ("'<f4'", huge.as_str(), "sound shape"),
            ("'<f4'", "3", "sound shape"),
            ("'<f4'", "((((((((3,),),),),),),),)", "brackets"),
            ("'<f4'", "(", "dictionary"),
        ] {
            let error = header(descr, shape).expect_err(descr);
            assert!(error.contains(words), "{descr} {shape}: {error}");
        }
        let mut long = npy("");
        long[6] = 2;
        long.extend([0xff, 0xff]);
        assert!(Header::read(&mut long.as_slice()).expect_err("4 GiB").contains("at most"));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            shape in prop::collection::vec(0usize..1_000_000_000_000, 0..6),
            fortran: bool,
            kind in prop::sample::select(vec![("<f4", 4), (">i8", 8), ("|S12", 12), ("<U3", 12)]),
            spaces in 0usize..64,
            reversed: bool,
        ) {
            let axes: String = shape.iter().map(|n| format!("{n}, ")).collect();
            let mut entries = [
                format!("'descr': '{}', ", kind.0),
                format!("'fortran_order': {}, ", if fortran { "True" } else { "False" }),
                format!("'shape': ({axes}), "),
            ];
            if shape.len() == 1 || shape.is_empty() {
                entries[2] = entries[2].replace(", ), ", ",), ");
            }
            if reversed {
                entries.reverse();
            }
            let text = format!("{{{}}}{}\n", entries.concat(), " ".repeat(spaces));
            let bytes = npy(&text);
            let header = Header::read(&mut bytes.as_slice());
            let header = header.map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
            prop_assert_eq!(&header.shape, &shape);
            prop_assert_eq!(header.width, kind.1);
            prop_assert_eq!(header.fortran, fortran && shape.len() > 1);
            prop_assert_eq!(header.length as usize, bytes.len());
            let _ = (header.bytes(), header.row_bytes(), header.shape_text());
        }

        #[test]
        fn no_bytes_make_it_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            version in 0u8..5,
            magic: bool,
        ) {
            if magic && bytes.len() >= 8 {
                bytes[..6].copy_from_slice(MAGIC);
                bytes[6] = version;
            }
            let _ = Header::read(&mut bytes.as_slice());
        }

        #[test]
        fn no_dictionary_makes_it_panic(text in "[\\[\\](){}'a-f0-9:,+\\-jTrue. \\\\]{0,60}") {
            let _ = Header::read(&mut npy(&text).as_slice());
            let _ = header(&text, "(3,)");
            let _ = header("'<f4'", &text);
        }
    }
}
