//! A column that becomes a field: its type, and the numbers of a block of rows.

use std::collections::HashMap;

use astropt_core::observation::{Data, Label};
use astropt_core::{Error, Result};

use super::config::{Codes, FieldConfig, NumberType};
use crate::sources::tabular::{Cell, Content, Table, uncoded};
use crate::sources::units;

/// A field as it is read.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) name: String,
    /// Index of its column.
    pub(super) column: usize,
    pub(super) unit: Option<String>,
    number: NumberType,
    /// Whether the recipe states the type.
    stated: bool,
    codes: Option<HashMap<String, i64>>,
    /// Codes are the places in the sorted list of what the column has, still to be found.
    pub(super) sorted: bool,
    /// The code of what is not among them.
    other: Option<i64>,
    missing: Option<i64>,
}

impl Spec {
    /// What the recipe asks for, as the table can give it.
    ///
    /// # Errors
    /// When there is no such column, or no number can be made of what it holds.
    pub(super) fn new(table: &Table, name: &str, config: &FieldConfig) -> Result<Self> {
        let column = table.column(&config.column, &format!("fields.{name}"))?;
        let known = &table.columns()[column];
        let refuse = |message: String| {
            Err(Error::file(
                table.path(),
                format!("column {:?} (`fields.{name}`) {message}", known.name),
            ))
        };
        let own = match &known.content {
            Content::Integer => NumberType::I64,
            Content::Single => NumberType::F32,
            Content::Other(what) => {
                return refuse(format!(
                    "holds {what}, of which no field is made; convert it to numbers"
                ));
            }
            _ => NumberType::F64,
        };
        if let Some(why) = wrong_codes(&known.content, config) {
            return refuse(why.to_owned());
        }
        let number = match (&config.codes, config.number) {
            (Some(_), _) => NumberType::I64,
            (None, number) => number.unwrap_or(own),
        };
        if config.missing.is_some() && number != NumberType::I64 {
            let message = "has no integers, and a missing cell is NaN; leave out its `missing`";
            return refuse(message.to_owned());
        }
        let codes = config.codes.as_ref().map(|codes| match codes {
            Codes::Sorted => HashMap::new(),
            Codes::Listed(values) => values.iter().cloned().zip(0..).collect(),
        });
        let unit = match units::settled(known.unit.as_deref(), config.unit.as_deref()) {
            Ok(unit) => unit,
            Err(message) => return refuse(format!("has two units: {message}")),
        };
        Ok(Self {
            name: name.to_owned(),
            column,
            unit,
            number,
            stated: config.number.is_some(),
            codes,
            sorted: config.codes == Some(Codes::Sorted),
            other: config.other,
            missing: config.missing,
        })
    }

    /// Takes `values`, sorted, for those that the column has.
    pub(super) fn set_codes(&mut self, values: impl IntoIterator<Item = String>) {
        self.codes = Some(values.into_iter().zip(0..).collect());
    }

    /// Bytes that one number of it takes.
    pub(super) fn width(&self) -> u64 {
        match self.number {
            NumberType::F32 => 4,
            NumberType::F64 | NumberType::I64 => 8,
        }
    }

    /// No numbers yet, and room for `rows`.
    pub(super) fn empty(&self, rows: usize) -> Data {
        match self.number {
            NumberType::F32 => Data::F32(Vec::with_capacity(rows)),
            NumberType::F64 => Data::F64(Vec::with_capacity(rows)),
            NumberType::I64 => Data::I64(Vec::with_capacity(rows)),
        }
    }

    /// Adds the number in `cell` to `numbers`; where there is none, a placeholder, and what is
    /// wrong.
    pub(super) fn push(&self, numbers: &mut Data, cell: Cell<'_>) -> Result<(), String> {
        match numbers {
            Data::F32(numbers) => keep(numbers, self.float(cell).map(|x| x as f32)),
            Data::F64(numbers) => keep(numbers, self.float(cell)),
            Data::I64(numbers) => keep(numbers, self.integer(cell)),
            Data::U8(_) | Data::U16(_) => Ok(()), // never made by `empty`
        }
    }

    fn float(&self, cell: Cell<'_>) -> Result<f64, String> {
        match cell {
            _ if cell.is_missing() => Ok(f64::NAN),
            Cell::Number(number) => Ok(number),
            Cell::Integer(number) => Ok(number as f64),
            Cell::Written(text) | Cell::Text(text) => {
                let number = text.trim().parse().map_err(|_| format!("{cell} is no number"))?;
                match loses_digits(text.trim(), number) && !self.stated {
                    false => Ok(number),
                    true => Err(format!(
                        "{cell} is an integer of more digits than a double holds; keep it whole \
                         with type = \"i64\", or say type = \"f64\" if it may be rounded"
                    )),
                }
            }
            Cell::Unknown => Ok(f64::NAN),
        }
    }

    fn integer(&self, cell: Cell<'_>) -> Result<i64, String> {
        if cell.is_missing() {
            return self.missing.ok_or_else(|| match self.codes {
                Some(_) => "missing; say with `missing` which code that is".to_owned(),
                None => "missing; say with `missing` which integer that is, or type = \"f64\" \
                         for NaN"
                    .to_owned(),
            });
        }
        if let Some(codes) = &self.codes {
            let code = cell.with_name(|text| codes.get(text.trim()).copied()).or(self.other);
            return code.ok_or_else(|| uncoded(&cell));
        }
        let whole = match cell {
            Cell::Integer(number) => i64::try_from(number).ok(),
            Cell::Number(number) => {
                let exact = number.fract() == 0.0 && number.abs() <= (1u64 << 53) as f64;
                exact.then_some(number as i64)
            }
            Cell::Written(text) | Cell::Text(text) => {
                Label::whole(text).and_then(|text| text.parse().ok())
            }
            Cell::Unknown => None,
        };
        whole.ok_or_else(|| format!("{cell} is no integer of 64 bits"))
    }
}

/// What is wrong with the codes that the recipe asks for of a column that holds `content`.
fn wrong_codes(content: &Content, config: &FieldConfig) -> Option<&'static str> {
    match (content, &config.codes, config.number) {
        (Content::Single | Content::Double | Content::Date | Content::Duration, Some(_), _) => {
            Some("holds fractions, which have no `codes`")
        }
        (Content::Text, None, None) => {
            Some("holds text; name its values in `codes`, or say codes = \"sorted\"")
        }
        (_, Some(_), Some(NumberType::F32 | NumberType::F64)) => {
            Some("has `codes`, which are integers; leave out its `type`")
        }
        (_, None | Some(Codes::Sorted), _) if config.other.is_some() => {
            Some("lists no `codes`, so that no text is without one; leave out its `other`")
        }
        (_, Some(Codes::Listed(values)), _)
            if (0..values.len() as i64).contains(&config.other.unwrap_or(-1)) =>
        {
            Some("gives with `other` a code that one of its `codes` has; use another, such as -1")
        }
        _ => None,
    }
}

/// Whether `text` is an integer and `number`, read of it, another.
fn loses_digits(text: &str, number: f64) -> bool {
    let whole = Label::whole(text).filter(|_| number.abs() >= Label::EXACT);
    whole.is_some_and(|whole| whole.parse::<i128>().ok() != Some(number as i128))
}

fn keep<T: Default>(numbers: &mut Vec<T>, number: Result<T, String>) -> Result<(), String> {
    let (number, outcome) = match number {
        Ok(number) => (number, Ok(())),
        Err(message) => (T::default(), Err(message)),
    };
    numbers.push(number);
    outcome
}

/// Appends `from[range]` to `to`, both of one type.
pub(super) fn append(to: &mut Data, from: &Data, range: std::ops::Range<usize>) {
    macro_rules! same_type {
        ($($kind:ident),*) => {
            match (to, from) {
                $((Data::$kind(to), Data::$kind(from)) => {
                    to.extend_from_slice(from.get(range).unwrap_or_default());
                })*
                _ => {}
            }
        };
    }
    same_type!(U8, U16, F32, F64, I64);
}

/// The order that sorts `numbers` ascending, NaN last, ties as they stand.
pub(super) fn ascending(numbers: &Data) -> Vec<usize> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    match numbers {
        Data::U8(v) => order.sort_by_key(|&i| v[i]),
        Data::U16(v) => order.sort_by_key(|&i| v[i]),
        Data::I64(v) => order.sort_by_key(|&i| v[i]),
        Data::F32(v) => order.sort_by(|&i, &j| nan_last(v[i].into(), v[j].into())),
        Data::F64(v) => order.sort_by(|&i, &j| nan_last(v[i], v[j])),
    }
    order
}

fn nan_last(a: f64, b: f64) -> std::cmp::Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// `numbers` in this order.
pub(super) fn reorder(numbers: &Data, order: &[usize]) -> Data {
    match numbers {
        Data::U8(v) => Data::U8(order.iter().map(|&i| v[i]).collect()),
        Data::U16(v) => Data::U16(order.iter().map(|&i| v[i]).collect()),
        Data::F32(v) => Data::F32(order.iter().map(|&i| v[i]).collect()),
        Data::F64(v) => Data::F64(order.iter().map(|&i| v[i]).collect()),
        Data::I64(v) => Data::I64(order.iter().map(|&i| v[i]).collect()),
    }
}
