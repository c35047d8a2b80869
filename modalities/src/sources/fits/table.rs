//! Binary tables: columns by name or number, for all rows or one.

use std::ops::Range;

use astropt_core::observation::{Array, Data};
use fitsio_pure::bintable::{
    BinaryColumnType as Type, binary_type_byte_size, parse_tdim, parse_tform_binary,
};
use fitsio_pure::image::ImageData;

use super::config::Name;
use super::contents;
use super::header::{Hdu, Header, Kind, MAX_BYTES};
use super::numbers::{Scale, decode};
use super::reader::Reader;
use crate::sources::NO_CODES;
use crate::sources::tabular::Cell;

/// How many bytes of rows are read at a time.
const STEP: usize = 4 << 20;
/// What is said of a compressed table.
pub(super) const PACKED_TABLE: &str =
    "it is compressed by tiles (ZTABLE), which is not read; unpack the file with funpack";
/// The letter of truth values.
const LOGICAL: char = 'L';
/// How many column names an error lists before it stops.
const LISTED: usize = 40;

/// The layout of a binary table.
#[derive(Debug)]
pub(super) struct Table {
    /// Bytes of a row.
    pub(super) row: usize,
    /// Number of rows.
    pub(super) rows: usize,
    /// Its columns, in order.
    pub(super) columns: Vec<Column>,
    /// Why its columns end before those that the header states: the type of the next is unknown,
    /// so that it is not known where those behind it lie.
    pub(super) unknown: Option<String>,
}

/// A column of a binary table.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// TTYPEn, or nothing.
    pub(super) name: String,
    /// Bytes from the start of a row.
    pub(super) offset: usize,
    /// Values per row.
    pub(super) repeat: usize,
    /// Type of a value.
    pub(super) kind: Type,
    /// TUNITn.
    pub(super) unit: Option<String>,
    /// Bytes per row.
    width: usize,
    /// TDIMn, the slowest axis first; empty where there is none.
    pub(super) axes: Vec<usize>,
    /// Or why its numbers cannot be known.
    scale: Result<Scale, String>,
}

impl Table {
    /// The layout of the table in `hdu`.
    ///
    /// # Errors
    /// When there is no table, or its columns do not fit into its rows.
    pub(super) fn of(hdu: &Hdu) -> Result<Self, String> {
        match hdu.kind {
            Kind::Table { .. } => Self::of_tiles(hdu),
            Kind::PackedTable { .. } => Err(format!("{}: {PACKED_TABLE}", hdu.title())),
            _ => Err(format!("{}: it holds no binary table; name another `hdu`", hdu.title())),
        }
    }

    /// The same, also where the table holds the tiles of an image.
    pub(super) fn of_tiles(hdu: &Hdu) -> Result<Self, String> {
        let number = |key| hdu.header.integer(key).and_then(|n| usize::try_from(n).ok());
        let get = || {
            let (row, rows) = number("NAXIS1").zip(number("NAXIS2"))?;
            Some((row, rows, number("TFIELDS").filter(|&n| n <= 999)?))
        };
        let fail = |message: String| format!("{}: {message}", hdu.title());
        let (row, rows, fields) =
            get().ok_or_else(|| fail("no NAXIS1, NAXIS2 or TFIELDS".into()))?;
        let mut columns: Vec<Column> = Vec::with_capacity(fields);
        let (mut offset, mut unknown) = (0, None);
        for k in 1..=fields {
            match Column::of(hdu, k, offset) {
                Ok(column) => {
                    offset = column.offset.saturating_add(column.width);
                    columns.push(column);
                }
                Err(message) => {
                    unknown = Some(fail(message));
                    break;
                }
            }
        }
        // GCOUNT is 1 and PCOUNT the heap: both are within the bytes that the file has.
        let all = row.checked_mul(rows).filter(|&bytes| bytes as u64 <= hdu.len);
        if offset > row || all.is_none() {
            return Err(fail(format!(
                "its columns take {offset} bytes and its rows {row}; the header is damaged"
            )));
        }
        Ok(Self { row, rows, columns, unknown })
    }

    /// The table, if all of its columns are known.
    ///
    /// # Errors
    /// Why they are not.
    pub(super) fn whole(self) -> Result<Self, String> {
        match self.unknown {
            Some(why) => Err(why),
            None => Ok(self),
        }
    }

    /// The column `name`: as it is written, else whatever the case of its letters.
    ///
    /// # Errors
    /// When there is none; lists what there is.
    pub(super) fn find(&self, hdu: &Hdu, name: &Name) -> Result<&Column, String> {
        let found = match name {
            Name::Number(number) => {
                number.checked_sub(1).and_then(|k| self.columns.get(k as usize))
            }
            Name::Text(name) => self
                .columns
                .iter()
                .find(|column| column.name == *name)
                .or_else(|| self.columns.iter().find(|c| c.name.eq_ignore_ascii_case(name))),
        };
        found.ok_or_else(|| {
            if let Some(why) = &self.unknown {
                return why.clone();
            }
            let names: Vec<_> =
                self.columns.iter().take(LISTED).map(|column| column.name.as_str()).collect();
            let more = if self.columns.len() > LISTED { " and more" } else { "" };
            let (title, names) = (hdu.title(), names.join(", "));
            format!("{title}: no column {name}; it has {names}{more}")
        })
    }

    /// The numbers of `column` in these rows: `[rows, ...]`, or without the first axis where
    /// `one` row is asked for.
    ///
    /// # Errors
    /// What is wrong, naming HDU and column.
    pub(super) fn read(
        &self,
        reader: &mut Reader,
        hdu: &Hdu,
        column: &Column,
        rows: Range<usize>,
        one: bool,
    ) -> Result<Array, String> {
        let fail = |message: String| format!("{}, column {}: {message}", hdu.title(), column.name);
        if rows.end > self.rows {
            let (row, all) = (rows.start, self.rows);
            return Err(fail(format!("there is no row {row}; the table has {all}")));
        }
        let (raw, bitpix, lengths) = match column.kind {
            Type::VarArrayP(_) | Type::VarArrayQ(_) => {
                if rows.len() != 1 {
                    return Err(fail(
                        "its rows are of different lengths; say `objects = \
                                     \"row\"`"
                            .to_owned(),
                    ));
                }
                let (bytes, bitpix) = self.heap(reader, hdu, column, rows.start).map_err(fail)?;
                let count = bytes.len() / (bitpix.unsigned_abs() as usize / 8);
                (bytes, bitpix, vec![count])
            }
            kind => {
                let bitpix = bitpix(kind).map_err(fail)?;
                let size = (column.width as u64).saturating_mul(rows.len() as u64);
                if size > MAX_BYTES || size == 0 {
                    return Err(fail(format!(
                        "{size} bytes; between 1 and {MAX_BYTES} are read for one object"
                    )));
                }
                let mut bytes = Vec::with_capacity(size as usize);
                self.blocks(reader, hdu, rows.clone(), &mut |_, row| {
                    bytes.extend_from_slice(&row[column.offset..column.offset + column.width]);
                })
                .map_err(fail)?;
                (bytes, bitpix, column.axes.clone())
            }
        };
        if raw.is_empty() {
            return Err(fail("it is empty".to_owned()));
        }
        let data = column.apply(&raw, bitpix).map_err(fail)?;
        let mut shape = lengths;
        if !one {
            shape.insert(0, rows.len());
        } else if shape.is_empty() {
            shape.push(1);
        }
        Array::new(shape, data).map_err(|error| fail(error.to_string()))
    }

    /// Calls `each` with the number and bytes of these rows.
    fn blocks(
        &self,
        reader: &mut Reader,
        hdu: &Hdu,
        rows: Range<usize>,
        each: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), String> {
        let step = (STEP / self.row.max(1)).max(1);
        for first in rows.clone().step_by(step) {
            let count = step.min(rows.end - first);
            let bytes = reader.at(hdu.data + (first * self.row) as u64, count * self.row)?;
            for (k, row) in bytes.chunks_exact(self.row.max(1)).enumerate() {
                each(first + k, row);
            }
        }
        Ok(())
    }

    /// The bytes of a cell of variable length, and the type of its numbers.
    fn heap(
        &self,
        reader: &mut Reader,
        hdu: &Hdu,
        column: &Column,
        row: usize,
    ) -> Result<(Vec<u8>, i64), String> {
        let (wide, element) = match column.kind {
            _ if column.repeat == 0 => return Err("it is empty".to_owned()),
            Type::VarArrayP(element) => (false, element),
            Type::VarArrayQ(element) => (true, element),
            _ => return Err("its rows are all of one length".to_owned()),
        };
        let bitpix = bitpix(parse_tform_binary(&element.to_string()).map_or(Type::Bit, |t| t.1))?;
        let at = hdu.data + (row * self.row + column.offset) as u64;
        let (count, offset) = descriptor(reader.at(at, if wide { 16 } else { 8 })?, wide)?;
        let heap = hdu.heap(self.row, self.rows)?;
        let bytes = count.saturating_mul(bitpix.unsigned_abs() / 8);
        let start = heap.saturating_add(offset);
        if start.saturating_add(bytes) > hdu.len || bytes > MAX_BYTES {
            return Err(format!(
                "the {count} numbers of row {row} lie outside of the HDU's data; the file is \
                 damaged"
            ));
        }
        Ok((reader.at(hdu.data + start, bytes as usize)?.to_vec(), bitpix))
    }

    /// Checks that it is known what the stored numbers of these columns stand for.
    ///
    /// # Errors
    /// When a keyword of one's scale is no number.
    pub(super) fn check_scales(&self, hdu: &Hdu, columns: &[&Column]) -> Result<(), String> {
        let wrong = columns.iter().find_map(|c| Some((c, c.scale.as_ref().err()?)));
        wrong.map_or(Ok(()), |(column, message)| {
            Err(format!("{}, column {}: {message}", hdu.title(), column.name))
        })
    }

    /// Calls `each` with the cells of these columns, row by row. Cells of several numbers are
    /// [`Cell::Unknown`].
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub(crate) fn cells(
        &self,
        reader: &mut Reader,
        hdu: &Hdu,
        columns: &[&Column],
        rows: Range<usize>,
        each: &mut dyn FnMut(usize, &[Cell<'_>]),
    ) -> Result<(), String> {
        self.check_scales(hdu, columns)?;
        let rows = rows.start..rows.end.min(self.rows);
        self.blocks(reader, hdu, rows, &mut |number, row| {
            let bytes = |c: &Column| row.get(c.offset..c.offset + c.width).unwrap_or_default();
            let texts: Vec<String> = columns.iter().map(|c| c.text(bytes(c))).collect();
            let cells: Vec<_> =
                columns.iter().zip(&texts).map(|(c, text)| c.cell(bytes(c), text)).collect();
            each(number, &cells);
        })
        .map_err(|message| format!("{}: {message}", hdu.title()))
    }
}

impl Column {
    /// Column `k`, from 1, which starts at `offset`.
    fn of(hdu: &Hdu, k: usize, offset: usize) -> Result<Self, String> {
        let header = &hdu.header;
        let form = header.text(&format!("TFORM{k}")).filter(|form| form.is_ascii());
        let (form, rest) = type_of(form.unwrap_or("missing"));
        let (repeat, kind) = parse_tform_binary(form)
            .map_err(|_| format!("TFORM{k} ({form}{rest}) is no type of a column"))?;
        let width = match kind {
            Type::Bit => Some(repeat.div_ceil(8)),
            kind => repeat.checked_mul(binary_type_byte_size(&kind)),
        };
        let width = width
            .filter(|&width| offset.checked_add(width).is_some_and(|end| end as u64 <= MAX_BYTES))
            .ok_or_else(|| format!("TFORM{k} promises more bytes than a row can have"))?;
        let product = |axes: &[usize]| axes.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis));
        let axes = header
            .text(&format!("TDIM{k}"))
            .and_then(parse_tdim)
            .filter(|axes| product(axes) == Some(repeat))
            .map(|axes| axes.into_iter().rev().collect())
            .or_else(|| texts(kind, repeat, rest))
            .unwrap_or_else(|| if repeat == 1 { Vec::new() } else { vec![repeat] });
        let integer = matches!(kind, Type::Byte | Type::Short | Type::Int | Type::Long)
            || matches!(kind, Type::VarArrayP(e) | Type::VarArrayQ(e) if "BIJK".contains(e));
        Ok(Self {
            name: header.text(&format!("TTYPE{k}")).unwrap_or_default().to_owned(),
            offset,
            repeat,
            kind,
            unit: header.text(&format!("TUNIT{k}")).map(str::to_owned),
            width,
            axes,
            scale: scale(header, k, integer),
        })
    }

    fn apply(&self, bytes: &[u8], bitpix: i64) -> Result<Data, String> {
        let data = self.scale.clone()?.apply(decode(bytes, bitpix))?;
        Ok(match (self.kind, data) {
            // `T` and `F`, or 0 where it is not known.
            (Type::Logical | Type::VarArrayP(LOGICAL) | Type::VarArrayQ(LOGICAL), Data::U8(v)) => {
                Data::U8(v.into_iter().map(|x| u8::from(x == b'T')).collect())
            }
            (_, data) => data,
        })
    }

    /// The text of a cell, if the column has texts; blanks at its end are none of it.
    fn text(&self, bytes: &[u8]) -> String {
        if self.kind != Type::Ascii {
            return String::new();
        }
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).trim_end().to_owned()
    }

    /// Whether a cell holds more than one value: several numbers, or several texts.
    pub(super) fn is_several(&self) -> bool {
        match (self.kind, self.axes.split_last()) {
            (Type::Ascii, Some((_, texts))) => texts.iter().any(|&axis| axis != 1),
            (Type::Ascii, None) => false,
            _ => self.repeat != 1,
        }
    }

    /// Whether a cell holds several texts.
    pub(super) fn holds_texts(&self) -> bool {
        self.kind == Type::Ascii && self.is_several()
    }

    fn cell<'a>(&self, bytes: &[u8], text: &'a str) -> Cell<'a> {
        if self.kind == Type::Ascii && !self.is_several() {
            return Cell::Text(text);
        }
        let bitpix = match (self.kind, bitpix(self.kind)) {
            (Type::Logical, _) if self.repeat == 1 => {
                let stated = bytes.first().filter(|&&byte| byte != 0);
                return stated.map_or(Cell::Unknown, |&byte| Cell::Integer((byte == b'T').into()));
            }
            (_, Ok(bitpix)) if self.repeat == 1 => bitpix,
            _ => return Cell::Unknown,
        };
        let Ok(scale) = &self.scale else { return Cell::Unknown };
        let stored = decode(bytes, bitpix);
        let integer = match &stored {
            ImageData::U8(v) => v.first().map(|&x| x.into()),
            ImageData::I16(v) => v.first().map(|&x| x.into()),
            ImageData::I32(v) => v.first().map(|&x| x.into()),
            ImageData::I64(v) => v.first().copied(),
            ImageData::F32(_) | ImageData::F64(_) => None,
        };
        if let Some(number) = integer.and_then(|raw| scale.integer(raw)) {
            return Cell::Integer(number);
        }
        match scale.apply(stored).map(|numbers| numbers.to_f64().first().copied()) {
            Ok(Some(number)) => Cell::Number(number),
            _ => Cell::Unknown,
        }
    }

    /// What it holds, in words.
    pub(super) fn holds(&self) -> String {
        let of = |kind| bitpix(kind).map_or("neither numbers nor text", contents::numbers);
        match self.kind {
            Type::Ascii if self.holds_texts() => "texts".to_owned(),
            Type::Ascii => "text".to_owned(),
            Type::Logical => "true or false".to_owned(),
            Type::Bit => "bits".to_owned(),
            Type::VarArrayP(element) | Type::VarArrayQ(element) => {
                let kind = parse_tform_binary(&element.to_string()).map_or(Type::Bit, |t| t.1);
                format!("any number of {}", of(kind))
            }
            kind => of(kind).to_owned(),
        }
    }

    /// The unit of the label that it is, if it states one and holds numbers.
    pub(super) fn label_unit(&self) -> Option<&str> {
        self.unit.as_deref().filter(|_| self.kind != Type::Ascii)
    }

    /// Whether a cell can be a label: one number, or a text.
    pub(super) fn is_label(&self) -> bool {
        // Texts of no length are no labels: a header can promise any number of them.
        let text = self.kind == Type::Ascii && self.width > 0;
        !self.is_several() && (text || bitpix(self.kind).is_ok())
    }
}

/// A TFORM up to the letters of its type, and what follows them, which is the writer's own (FITS
/// standard 4.0, section 7.3.1) but for the length of each text, as in `12A4`.
fn type_of(form: &str) -> (&str, &str) {
    let digits = form.find(|c: char| !c.is_ascii_digit()).unwrap_or(form.len());
    let letters = if form[digits..].starts_with(['P', 'Q']) { 2 } else { 1 };
    form.split_at_checked(digits + letters).unwrap_or((form, ""))
}

/// The axes of a column of texts of `rest` characters each, where there are several in a cell.
fn texts(kind: Type, repeat: usize, rest: &str) -> Option<Vec<usize>> {
    // `12A:SSTR4/32` is an older way to write it, with the character between them.
    let length = rest.trim_start_matches(":SSTR").split('/').next().unwrap_or_default();
    let length: usize = length.trim().parse().ok().filter(|_| kind == Type::Ascii)?;
    let several = length > 0 && length < repeat && repeat.is_multiple_of(length);
    several.then(|| vec![repeat / length, length])
}

/// How the numbers of column `k`, integers or others, are stored.
fn scale(header: &Header, k: usize, integer: bool) -> Result<Scale, String> {
    Ok(Scale {
        scale: header.number(&format!("TSCAL{k}"))?.unwrap_or(1.0),
        zero: header.number(&format!("TZERO{k}"))?.unwrap_or(0.0),
        blank: if integer { header.whole(&format!("TNULL{k}"))? } else { None },
        double: true,
    })
}

/// Type of the numbers of a column, as BITPIX has it.
fn bitpix(kind: Type) -> Result<i64, String> {
    match kind {
        Type::Logical | Type::Byte => Ok(8),
        Type::Short => Ok(16),
        Type::Int => Ok(32),
        Type::Long => Ok(64),
        Type::Float => Ok(-32),
        Type::Double => Ok(-64),
        Type::Ascii => {
            Err(format!("it holds texts, which are labels or ids, not numbers; {NO_CODES}"))
        }
        Type::Bit => Err("it holds bits; write it as integers".to_owned()),
        _ => Err("it holds complex numbers; write their parts as columns of their own".to_owned()),
    }
}

/// How many values a cell of variable length has, and where in the heap.
pub(super) fn descriptor(bytes: &[u8], wide: bool) -> Result<(u64, u64), String> {
    let numbers: Vec<u64> = if wide {
        bytes.as_chunks().0.iter().map(|&b| u64::from_be_bytes(b)).collect()
    } else {
        bytes.as_chunks().0.iter().map(|&b| u32::from_be_bytes(b).into()).collect()
    };
    match numbers[..] {
        [count, offset] => Ok((count, offset)),
        _ => Err("a cell of variable length is not described".to_owned()),
    }
}
