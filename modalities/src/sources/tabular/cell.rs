//! One cell of a table, of whatever type its column is.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types as arrow;
use arrow_schema::DataType;
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
        _ => Cell::Unknown,
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
