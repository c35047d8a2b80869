//! What a source yields: one object of the sky as named host arrays with units and labels.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// One object: its id, its data and its labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Identifies the object in the source: unique, and the same at every reading.
    pub id: String,
    /// Named arrays, such as `image`, `flux` or `time`.
    pub fields: BTreeMap<String, Field>,
    /// Labels by name; see [`Labels`].
    pub labels: Labels,
}

/// Labels of one object by name. A label that is not known is absent.
pub type Labels = BTreeMap<String, Label>;

/// Units of labels by the labels' names; of those that state one.
pub type LabelUnits = BTreeMap<String, String>;

/// One label of an object.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum Label {
    /// A number; never NaN (an unknown label is absent instead).
    Number(f64),
    /// A text, such as a class or the name of a split.
    Text(String),
}

impl Label {
    /// Below this, 2^53, double precision has every integer.
    pub const EXACT: f64 = (1u64 << 53) as f64;

    /// The label that an integer of a file is, of whatever format: a number below
    /// [`EXACT`](Self::EXACT), and from there on, where catalogues have their ids and doubles
    /// are not exact, a text of all its digits.
    pub fn integer(number: i128) -> Self {
        if number.unsigned_abs() < 1 << 53 {
            Self::Number(number as f64)
        } else {
            Self::Text(number.to_string())
        }
    }

    /// Whether a cell of this text has nothing in it: it is empty, or `na`, `n/a`, `nan`,
    /// `null` or `none`, in letters of either case.
    pub fn is_missing(cell: &str) -> bool {
        const WORDS: [&str; 7] = ["na", "n/a", "nan", "null", "none", "-", "--"];
        let cell = cell.trim();
        cell.is_empty() || WORDS.iter().any(|word| cell.eq_ignore_ascii_case(word))
    }

    /// The integer that a cell of this text writes, as it writes it: `-7` of `-7` and of `-7.0`,
    /// as tables write integers beside missing ones. None of `7e3`.
    pub fn whole(cell: &str) -> Option<&str> {
        let cell = cell.trim();
        let whole = match cell.split_once('.') {
            Some((whole, zeros)) if zeros.bytes().all(|byte| byte == b'0') => whole,
            Some(_) => return None,
            None => cell,
        };
        let digits = whole.strip_prefix(['+', '-']).unwrap_or(whole);
        (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(whole)
    }

    /// Reads a table's cell: a finite number, a text, or nothing when the cell is
    /// [missing](Self::is_missing). What is written as an integer is one, see
    /// [`integer`](Self::integer), also with a point and zeros behind it.
    pub fn parse(cell: &str) -> Option<Self> {
        let cell = cell.trim();
        if Self::is_missing(cell) {
            return None;
        }
        if let Some(whole) = Self::whole(cell) {
            let number = whole.parse().ok().map(Self::integer);
            // A text stays as it is written, zeros in front and all.
            return number
                .filter(|label| label.number().is_some())
                .or_else(|| Some(Self::Text(whole.to_owned())));
        }
        match cell.parse::<f64>() {
            Ok(number) => number.is_finite().then_some(Self::Number(number)),
            Err(_) => Some(Self::Text(cell.to_owned())),
        }
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(_) => None,
        }
    }
}

/// A named array of an observation with the unit it is in.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The numbers.
    pub array: Array,
    /// Unit as the file states it, such as `nanomaggy` or `Angstrom`.
    pub unit: Option<String>,
}

/// Whether two units are written alike, blanks aside. The case of letters counts: `mJy` is not
/// `MJy`.
pub fn same_unit(a: &str, b: &str) -> bool {
    let bare = |unit: &str| unit.split_whitespace().collect::<String>();
    a == b || bare(a) == bare(b)
}

/// Whether two units are the same in letters of either case, but for those that a prefix of one of
/// their words makes another by its case: `1e-3 mJy` is not `1e-3 MJy`, while `MAG` is `mag`.
pub fn like_unit(a: &str, b: &str) -> bool {
    let (a, b) = (a.trim(), b.trim());
    let prefixes = |unit: &str| -> Vec<Option<char>> {
        let words = unit.split(|c: char| !c.is_alphabetic());
        words.map(|word| word.chars().next().filter(|c| "mMpP".contains(*c))).collect()
    };
    let capitals = |a: &str, b: &str| {
        a.chars().all(|c| !c.is_lowercase()) && b.chars().all(|c| !c.is_uppercase())
    };
    a.eq_ignore_ascii_case(b) && (prefixes(a) == prefixes(b) || capitals(a, b) || capitals(b, a))
}

/// A dense row-major array on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Length of every axis, slowest first. Images are `[height, width, bands]`.
    pub shape: Vec<usize>,
    /// `shape.product()` numbers.
    pub data: Data,
}

/// The numbers of an [`Array`] in the type the file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Bytes, such as the pixels of a JPEG.
    U8(Vec<u8>),
    /// 16-bit counts.
    U16(Vec<u16>),
    /// Single-precision numbers.
    F32(Vec<f32>),
    /// Double-precision numbers, such as times.
    F64(Vec<f64>),
    /// Integers, such as codes or ids.
    I64(Vec<i64>),
}

impl Data {
    /// How many numbers there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::I64(v) => v.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers as `f32`, converted where they are of another type.
    pub fn to_f32(&self) -> std::borrow::Cow<'_, [f32]> {
        match self {
            Self::U8(v) => v.iter().map(|&x| f32::from(x)).collect(),
            Self::U16(v) => v.iter().map(|&x| f32::from(x)).collect(),
            Self::F32(v) => v.as_slice().into(),
            Self::F64(v) => v.iter().map(|&x| x as f32).collect(),
            Self::I64(v) => v.iter().map(|&x| x as f32).collect(),
        }
    }

    /// The numbers as `f64`, converted where they are of another type: for times and
    /// wavelengths, which single precision blurs.
    pub fn to_f64(&self) -> std::borrow::Cow<'_, [f64]> {
        match self {
            Self::U8(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Self::U16(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Self::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Self::F64(v) => v.as_slice().into(),
            Self::I64(v) => v.iter().map(|&x| x as f64).collect(),
        }
    }
}

impl Array {
    /// An array of `shape` over `data`.
    ///
    /// # Errors
    /// When `data` does not hold `shape.product()` numbers.
    pub fn new(shape: Vec<usize>, data: Data) -> Result<Self> {
        let expected: Option<usize> = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if expected != Some(data.len()) {
            return Err(Error::Failed(format!(
                "an array of shape {shape:?} cannot hold {} numbers",
                data.len()
            )));
        }
        Ok(Self { shape, data })
    }
}

impl Observation {
    /// The array `name`.
    ///
    /// # Errors
    /// When there is none; the message lists what there is.
    pub fn field(&self, name: &str) -> Result<&Field> {
        self.fields.get(name).ok_or_else(|| {
            let known: Vec<_> = self.fields.keys().map(String::as_str).collect();
            Error::object(&self.id, format!("no field {name:?}; it has {}", known.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_become_numbers_texts_or_nothing() {
        assert_eq!(Label::parse(" 1.5 "), Some(Label::Number(1.5)));
        assert_eq!(Label::parse("train"), Some(Label::Text("train".into())));
        assert_eq!(Label::parse("-007"), Some(Label::Number(-7.0)));
        assert_eq!(Label::parse("1e18"), Some(Label::Number(1e18)));
        for id in ["9007199254740992", "-9007199254740993", "01237648720693755918"] {
            assert_eq!(Label::parse(id), Some(Label::Text(id.into())));
        }
        assert_eq!(
            Label::parse("9007199254740993.0"),
            Some(Label::Text("9007199254740993".into()))
        );
        assert_eq!(Label::parse("-12.00"), Some(Label::Number(-12.0)));
        for (number, value) in [(".0", 0.0), ("-3.", -3.0), ("9007199254740993.5", 2f64.powi(53))] {
            assert!(
                matches!(Label::parse(number), Some(Label::Number(n)) if (n - value).abs() < 3.0)
            );
        }
        let long = "1".repeat(60);
        assert_eq!(Label::parse(&long), Some(Label::Text(long)));
        for unknown in ["", " ", "NaN", "null", "None", "NA", "n/a", "inf", "-inf"] {
            assert_eq!(Label::parse(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn integers_keep_all_their_digits() {
        let edge = (1i128 << 53) - 1;
        assert_eq!(Label::integer(-edge), Label::Number(-9_007_199_254_740_991.0));
        assert_eq!(Label::integer(edge + 2), Label::Text("9007199254740993".into()));
        let most = i128::from(u64::MAX);
        assert_eq!(Label::integer(most), Label::Text("18446744073709551615".into()));
    }

    #[test]
    fn the_case_of_a_prefix_counts() {
        for (a, b) in
            [("mag", "MAG"), ("Angstrom", "angstrom"), ("ANGSTROM", "Angstrom"), ("d", " D")]
                .into_iter()
                .chain([("1E-3 mJy", "1e-3 mJy"), ("ERG/S/CM2/MM", "erg/s/cm2/mm")])
        {
            assert!(like_unit(a, b) && like_unit(b, a), "{a} {b}");
        }
        let alone = [("mJy", "MJy"), ("Mpc", "mpc"), ("pm", "Pm"), ("mag", "Jy")];
        let further = [("1e-3 mJy", "1e-3 MJy"), ("km/s/Mpc", "km/s/mpc"), ("10^2mJy", "10^2MJy")];
        for (a, b) in alone.into_iter().chain(further) {
            assert!(!like_unit(a, b) && !like_unit(b, a), "{a} {b}");
        }
    }

    #[test]
    fn an_array_holds_what_its_shape_says() {
        assert!(Array::new(vec![2, 2], Data::U8(vec![0; 4])).is_ok());
        assert!(Array::new(vec![2, 2], Data::U8(vec![0; 3])).is_err());
        assert!(Array::new(vec![usize::MAX, 2], Data::U8(vec![])).is_err());
    }
}
