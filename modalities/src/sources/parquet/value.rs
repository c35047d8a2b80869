//! One cell of an Arrow column -> an array.

use std::collections::HashMap;
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types as arrow;
use arrow_array::{Array as Column, ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use arrow_schema::DataType;
use astropt_core::observation::{Array, Data};

use crate::sources::axes::Axes;
use crate::sources::tabular::{self, Cell};

/// Most axes an array may have.
const MAX_AXES: usize = 8;

/// The integers that stand for texts.
#[derive(Clone, Debug)]
pub(super) struct Codes {
    /// By text.
    pub(super) of: HashMap<String, i64>,
    /// Of other texts; none: they are refused.
    pub(super) other: Option<i64>,
}

/// The bytes in cell `row` of the column that `path` leads to from `column`: `None` where
/// nothing is there.
///
/// # Errors
/// When the column holds no bytes.
pub(super) fn bytes<'a>(
    column: &'a ArrayRef,
    path: &[String],
    row: usize,
) -> Result<Option<&'a [u8]>, String> {
    let mut column = column;
    for name in path {
        if column.is_null(row) {
            return Ok(None);
        }
        column = child(column, name)?;
    }
    let found = column.as_binary_view_opt().ok_or("it holds no bytes")?;
    Ok(found.is_valid(row).then(|| found.value(row)))
}

/// The numbers in cell `row` of the column that `path` leads to from `column`, with one axis
/// for every level of lists; a single number has the shape `[1]`. `None` where nothing is
/// there. Floating-point numbers that are missing are NaN. With `axes`, an image is brought
/// to `[height, width, bands]`; with `codes`, texts become integers.
///
/// # Errors
/// When lists on one level differ in length, an integer is missing, or it is no image.
pub(super) fn numbers(
    column: &ArrayRef,
    path: &[String],
    row: usize,
    axes: Option<Axes>,
    codes: Option<&Codes>,
) -> Result<Option<Array>, String> {
    let (mut column, mut cells) = (column, row..row + 1);
    let (mut path, mut shape) = (path.iter(), Vec::new());
    loop {
        let missing = cells.clone().filter(|&cell| column.is_null(cell)).count();
        let leaf = !matches!(
            column.data_type(),
            DataType::Struct(_)
                | DataType::List(_)
                | DataType::LargeList(_)
                | DataType::FixedSizeList(..)
        );
        if missing > 0 && shape.is_empty() {
            return Ok(None);
        }
        if missing > 0 && !leaf {
            return Err(format!("{missing} of the lists in it are missing"));
        }
        match column.data_type() {
            DataType::Struct(_) => {
                let name = path.next().ok_or("it holds several columns; name one of them")?;
                column = child(column, name)?;
            }
            _ if leaf => break,
            _ => {
                let inside = inside(column, &cells)?;
                shape.push((inside.end - inside.start).checked_div(cells.len()).unwrap_or(0));
                column = items(column)?;
                cells = inside;
            }
        }
        if cells.is_empty() {
            return Ok(None);
        }
        if shape.len() > MAX_AXES {
            return Err(format!("more than {MAX_AXES} lists in one another"));
        }
    }
    if shape.is_empty() {
        shape.push(1);
    }
    let data = match codes {
        Some(codes) => Data::I64(coded(column, cells, codes)?),
        None => data(column, cells)?,
    };
    let array = Array::new(shape, data).map_err(|e| e.to_string())?;
    match axes {
        Some(axes) => axes.arrange(array).map(Some),
        None => Ok(Some(array)),
    }
}

fn child<'a>(column: &'a ArrayRef, name: &str) -> Result<&'a ArrayRef, String> {
    let inner = column.as_struct_opt().and_then(|column| column.column_by_name(name));
    inner.ok_or_else(|| format!("it has no part {name:?}"))
}

fn items(column: &ArrayRef) -> Result<&ArrayRef, String> {
    match column.data_type() {
        DataType::List(_) => Ok(column.as_list::<i32>().values()),
        DataType::LargeList(_) => Ok(column.as_list::<i64>().values()),
        DataType::FixedSizeList(..) => Ok(column.as_fixed_size_list().values()),
        other => Err(format!("it is of the type {other}, no list")),
    }
}

/// The items of the lists `cells`, which must all be of one length.
fn inside(column: &ArrayRef, cells: &Range<usize>) -> Result<Range<usize>, String> {
    let ends: Vec<usize> = match column.data_type() {
        DataType::List(_) => {
            let offsets = column.as_list::<i32>().value_offsets();
            offsets[cells.start..=cells.end].iter().map(|&o| o as usize).collect()
        }
        DataType::LargeList(_) => {
            let offsets = column.as_list::<i64>().value_offsets();
            offsets[cells.start..=cells.end].iter().map(|&o| o as usize).collect()
        }
        DataType::FixedSizeList(..) => {
            let length = column.as_fixed_size_list().value_length() as usize;
            (cells.start..=cells.end).map(|cell| cell * length).collect()
        }
        other => return Err(format!("it is of the type {other}, no list")),
    };
    let lengths = || ends.windows(2).map(|pair| pair[1] - pair[0]);
    if let (Some(shortest), Some(longest)) = (lengths().min(), lengths().max())
        && shortest != longest
    {
        return Err(format!(
            "lists of {shortest} and of {longest} items lie side by side in it; an array has \
             rows of one length: pad them"
        ));
    }
    match ends.as_slice() {
        [first, .., last] => Ok(*first..*last),
        _ => Err("it has no items".to_owned()),
    }
}

/// The numbers of `cells`.
fn data(column: &ArrayRef, cells: Range<usize>) -> Result<Data, String> {
    let column = column.slice(cells.start, cells.len());
    let whole = |convert: fn(i128) -> Option<i64>| -> Result<Data, String> {
        refuse_missing(&column)?;
        integers(&column, convert).map(Data::I64)
    };
    match column.data_type() {
        DataType::Float16 => {
            Ok(Data::F32(floats::<arrow::Float16Type, _>(&column, f32::NAN, |x| x.to_f32())))
        }
        DataType::Float32 => {
            Ok(Data::F32(floats::<arrow::Float32Type, _>(&column, f32::NAN, |x| x)))
        }
        DataType::Float64 => {
            Ok(Data::F64(floats::<arrow::Float64Type, _>(&column, f64::NAN, |x| x)))
        }
        DataType::UInt8 => {
            refuse_missing(&column)?;
            Ok(Data::U8(column.as_primitive::<arrow::UInt8Type>().values().to_vec()))
        }
        DataType::UInt16 => {
            refuse_missing(&column)?;
            Ok(Data::U16(column.as_primitive::<arrow::UInt16Type>().values().to_vec()))
        }
        DataType::Boolean => {
            refuse_missing(&column)?;
            Ok(Data::U8(column.as_boolean().values().iter().map(u8::from).collect()))
        }
        other if tabular::is_converted(other) => {
            let number = |i| match tabular::cell(&column, i) {
                Cell::Integer(number) => number as f64,
                Cell::Number(number) => number,
                _ => f64::NAN,
            };
            Ok(Data::F64((0..column.len()).map(number).collect()))
        }
        _ => whole(|x| i64::try_from(x).ok()),
    }
}

/// The codes of the texts `cells`.
fn coded(column: &ArrayRef, cells: Range<usize>, codes: &Codes) -> Result<Vec<i64>, String> {
    let code = |cell| match tabular::cell(column, cell) {
        text @ Cell::Text(name) => {
            let code = codes.of.get(name.trim()).copied().or(codes.other);
            code.ok_or_else(|| tabular::uncoded(&text))
        }
        _ => Err("a text in it is missing, which has no code; fill it".to_owned()),
    };
    cells.map(code).collect()
}

fn refuse_missing(column: &ArrayRef) -> Result<(), String> {
    match column.null_count() {
        0 => Ok(()),
        missing => Err(format!("{missing} of the integers in it are missing; fill them")),
    }
}

fn floats<T: ArrowPrimitiveType, F: Copy>(
    column: &ArrayRef,
    missing: F,
    convert: fn(T::Native) -> F,
) -> Vec<F> {
    let column: &PrimitiveArray<T> = column.as_primitive();
    let mut out: Vec<F> = column.values().iter().map(|&x| convert(x)).collect();
    for (_, x) in out.iter_mut().enumerate().filter(|(i, _)| column.is_null(*i)) {
        *x = missing;
    }
    out
}

fn integers(column: &ArrayRef, convert: fn(i128) -> Option<i64>) -> Result<Vec<i64>, String> {
    macro_rules! of {
        ($type:ty) => {
            column.as_primitive::<$type>().values().iter().map(|&x| convert(x.into())).collect()
        };
    }
    let numbers: Option<Vec<i64>> = match column.data_type() {
        DataType::Int8 => of!(arrow::Int8Type),
        DataType::Int16 => of!(arrow::Int16Type),
        DataType::Int32 => of!(arrow::Int32Type),
        DataType::Int64 => of!(arrow::Int64Type),
        DataType::UInt32 => of!(arrow::UInt32Type),
        DataType::UInt64 => of!(arrow::UInt64Type),
        other => return Err(format!("it holds values of the type {other}, no numbers")),
    };
    numbers.ok_or_else(|| "an integer in it is above 2^63".to_owned())
}
