//! One cell of a table, of whatever type its column is.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types as arrow;
use arrow_schema::{DataType, TimeUnit};
use astropt_core::observation::Label;

/// One cell of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell<'a> {
    /// As written in a CSV file, of whatever type.
    Written(&'a str),
    /// A text column's.
    Text(&'a str),
    /// An integer column's; kept whole, for ids have 19 digits.
    Integer(i128),
    /// A floating-point column's.
    Number(f64),
    /// Empty, or of a type that is no label.
    Unknown,
}

impl Cell<'_> {
    /// Calls `f` with the text that could name an object.
    pub(crate) fn with_name<T>(self, f: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        match self {
            Self::Written(text) | Self::Text(text) => f(text),
            Self::Integer(number) => f(&number.to_string()),
            Self::Number(_) | Self::Unknown => None,
        }
    }

    /// The label it holds; of an integer see [`Label::integer`].
    pub(crate) fn label(self) -> Option<Label> {
        match self {
            Self::Written(text) => Label::parse(text),
            Self::Text(text) => (!text.is_empty()).then(|| Label::Text(text.to_owned())),
            Self::Integer(number) => Some(Label::integer(number)),
            Self::Number(number) => number.is_finite().then_some(Label::Number(number)),
            Self::Unknown => None,
        }
    }

    /// Whether there is nothing in it. A NaN is a number.
    pub(crate) fn is_missing(self) -> bool {
        match self {
            Self::Written(text) | Self::Text(text) => Label::is_missing(text),
            Self::Unknown => true,
            Self::Integer(_) | Self::Number(_) => false,
        }
    }
}

impl std::fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Written(text) | Self::Text(text) => write!(f, "{:?}", shorten(text)),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Unknown => f.write_str("missing"),
        }
    }
}

/// The refusal of a text that has no code.
pub(crate) fn uncoded(cell: &Cell<'_>) -> String {
    format!(
        "{cell} is not among its `codes`; list it there, or say with `other` which code such texts \
         have, such as -1, which a modality may leave out"
    )
}

/// The beginning of a text that may be of any length, for an error.
fn shorten(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// Cell `i` of an Arrow column; unknown in one of neither numbers, truth values nor texts, which
/// is not to be taken for labels.
pub(crate) fn cell(column: &dyn Array, i: usize) -> Cell<'_> {
    if column.is_null(i) {
        return Cell::Unknown;
    }
    macro_rules! integer {
        ($type:ty) => {
            Cell::Integer(column.as_primitive::<$type>().value(i).into())
        };
    }
    match column.data_type() {
        DataType::Utf8 => Cell::Text(column.as_string::<i32>().value(i)),
        DataType::LargeUtf8 => Cell::Text(column.as_string::<i64>().value(i)),
        DataType::Utf8View => Cell::Text(column.as_string_view().value(i)),
        DataType::Boolean => Cell::Integer(column.as_boolean().value(i).into()),
        DataType::Int8 => integer!(arrow::Int8Type),
        DataType::Int16 => integer!(arrow::Int16Type),
        DataType::Int32 => integer!(arrow::Int32Type),
        DataType::Int64 => integer!(arrow::Int64Type),
        DataType::UInt8 => integer!(arrow::UInt8Type),
        DataType::UInt16 => integer!(arrow::UInt16Type),
        DataType::UInt32 => integer!(arrow::UInt32Type),
        DataType::UInt64 => integer!(arrow::UInt64Type),
        DataType::Float16 => {
            Cell::Number(column.as_primitive::<arrow::Float16Type>().value(i).into())
        }
        DataType::Float32 => {
            Cell::Number(column.as_primitive::<arrow::Float32Type>().value(i).into())
        }
        DataType::Float64 => Cell::Number(column.as_primitive::<arrow::Float64Type>().value(i)),
        DataType::Dictionary(..) => dictionary_cell(column, i),
        other if is_converted(other) => converted(column, i).unwrap_or(Cell::Unknown),
        _ => Cell::Unknown,
    }
}

/// Whether a type's values become numbers of another: decimals; dates and times, which become
/// days of the modified Julian date (of an hour in no time zone, that hour); and durations, which
/// become seconds.
pub(crate) fn is_converted(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..)
            | DataType::Date32
            | DataType::Date64
            | DataType::Timestamp(..)
            | DataType::Duration(_)
    )
}

/// The unit of the numbers that a type's values become, whatever the file counts them in: days of
/// dates and times, seconds of durations.
pub(crate) fn converted_unit(data_type: &DataType) -> Option<&'static str> {
    match data_type {
        DataType::Duration(_) => Some("s"),
        date if is_converted(date) && date.is_temporal() => Some("d"),
        _ => None,
    }
}

/// The modified Julian date of 1970-01-01, from which Arrow counts.
const EPOCH_MJD: f64 = 40_587.0;
const SECONDS_A_DAY: f64 = 86_400.0;

fn converted(column: &dyn Array, i: usize) -> Option<Cell<'static>> {
    macro_rules! decimal {
        ($type:ty) => {
            decimal(&column.as_primitive::<$type>().value_as_string(i))
        };
    }
    macro_rules! time {
        ($type:ty, $a_second:expr) => {{
            let (whole, rest) = divided(column.as_primitive::<$type>().value(i), $a_second);
            Some(Cell::Number(EPOCH_MJD + whole + rest))
        }};
    }
    // Divided once, so that whole counts become the nearest double.
    macro_rules! seconds {
        ($type:ty, $a_second:expr) => {{
            let count = column.as_primitive::<$type>().value(i);
            Some(Cell::Number(count as f64 / f64::from($a_second)))
        }};
    }
    match column.data_type() {
        DataType::Duration(TimeUnit::Second) => seconds!(arrow::DurationSecondType, 1),
        DataType::Duration(TimeUnit::Millisecond) => {
            seconds!(arrow::DurationMillisecondType, 1_000)
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            seconds!(arrow::DurationMicrosecondType, 1_000_000)
        }
        DataType::Duration(TimeUnit::Nanosecond) => {
            seconds!(arrow::DurationNanosecondType, 1_000_000_000)
        }
        DataType::Decimal32(..) => decimal!(arrow::Decimal32Type),
        DataType::Decimal64(..) => decimal!(arrow::Decimal64Type),
        DataType::Decimal128(..) => decimal!(arrow::Decimal128Type),
        DataType::Decimal256(..) => decimal!(arrow::Decimal256Type),
        DataType::Date32 => {
            let days = column.as_primitive::<arrow::Date32Type>().value(i);
            Some(Cell::Number(EPOCH_MJD + f64::from(days)))
        }
        DataType::Date64 => time!(arrow::Date64Type, 1_000),
        DataType::Timestamp(TimeUnit::Second, _) => time!(arrow::TimestampSecondType, 1),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            time!(arrow::TimestampMillisecondType, 1_000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            time!(arrow::TimestampMicrosecondType, 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            time!(arrow::TimestampNanosecondType, 1_000_000_000)
        }
        _ => None,
    }
}

/// Whole days, and the rest in days, of a count of so many a second.
fn divided(count: i64, a_second: i64) -> (f64, f64) {
    let a_day = a_second * SECONDS_A_DAY as i64;
    let (whole, rest) = (count.div_euclid(a_day), count.rem_euclid(a_day));
    (whole as f64, rest as f64 / a_day as f64)
}

/// A decimal, written out: an integer where it is one, for ids are kept in such columns too.
fn decimal(text: &str) -> Option<Cell<'static>> {
    match Label::whole(text).map(str::parse) {
        Some(Ok(number)) => Some(Cell::Integer(number)),
        _ => text.parse().ok().map(Cell::Number),
    }
}

/// Cell `i` of a column of categories.
fn dictionary_cell(column: &dyn Array, i: usize) -> Cell<'_> {
    macro_rules! categories {
        ($($type:ty),*) => {
            $(if let Some(column) = column.as_dictionary_opt::<$type>()
                && let Some(key) = column.key(i)
            {
                return cell(column.values(), key);
            })*
        };
    }
    categories!(arrow::Int8Type, arrow::Int16Type, arrow::Int32Type, arrow::Int64Type);
    categories!(arrow::UInt8Type, arrow::UInt16Type, arrow::UInt32Type, arrow::UInt64Type);
    Cell::Unknown
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        ArrayRef, ArrowPrimitiveType, Date32Array, Decimal128Array, Decimal256Array,
        DurationMillisecondArray, TimestampMicrosecondArray,
    };

    use super::*;

    #[test]
    fn decimals_and_dates_are_numbers() {
        let label = |column: ArrayRef| cell(&column, 0).label();
        let decimal = |number, scale| {
            let column = Decimal128Array::from(vec![number]).with_precision_and_scale(38, scale);
            label(Arc::new(column.expect("fits")))
        };
        assert_eq!(decimal(-12_345, 4), Some(Label::Number(-1.2345)));
        assert_eq!(decimal(9_007_199_254_740_993, 0), Some(Label::Text("9007199254740993".into())));
        assert_eq!(decimal(700, 2), Some(Label::Number(7.0)));
        let fifteen = <arrow::Decimal256Type as ArrowPrimitiveType>::Native::from_i128(15);
        let wide = Decimal256Array::from(vec![fifteen]).with_precision_and_scale(76, 1);
        assert_eq!(label(Arc::new(wide.expect("fits"))), Some(Label::Number(1.5)));
        // 2000-01-01 is MJD 51544, its noon J2000.0.
        assert_eq!(label(Arc::new(Date32Array::from(vec![10_957]))), Some(Label::Number(51_544.0)));
        let noon = (10_957 * 86_400 + 43_200) * 1_000_000;
        let noon = TimestampMicrosecondArray::from(vec![noon]);
        assert_eq!(label(Arc::new(noon)), Some(Label::Number(51_544.5)));
        let exposure = DurationMillisecondArray::from(vec![-86_400_500]);
        assert_eq!(label(Arc::new(exposure)), Some(Label::Number(-86_400.5)));
        let before = TimestampMicrosecondArray::from(vec![-21_600_000_000]);
        assert_eq!(label(Arc::new(before)), Some(Label::Number(40_586.75)));
    }
}
