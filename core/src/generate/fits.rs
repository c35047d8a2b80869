//! Arrays and tables as FITS files (the FITS Standard 4.0, 2018): an image in the primary HDU
//! with its unit as `BUNIT`, columns in a binary table with theirs as `TUNITn`. The object's id
//! is `OBJECT`. Numbers keep their type; values that the standard calls unsigned are stored
//! with its offsets.

use fitsio_pure::BLOCK_SIZE;
use fitsio_pure::header::{Card, serialize_header};
use fitsio_pure::value::Value;

use crate::error::{Error, Result};
use crate::observation::{Array, Data, Field, Label, LabelUnits, Observation};

/// A file with `array` as the image of its primary HDU. `[height, width, bands]` becomes one
/// plane a band (`NAXIS3`), none where there is one band; other shapes keep their axes, the
/// fastest first as FITS has it.
///
/// # Errors
/// When the array's parts disagree.
pub(super) fn image(id: &str, array: &Array, unit: Option<&str>) -> Result<Vec<u8>> {
    let planes = match array.shape[..] {
        [_, _, bands] if bands > 0 => bands,
        _ => 1,
    };
    let mut axes: Vec<usize> = array.shape.iter().rev().copied().collect();
    if array.shape.len() == 3 {
        axes.rotate_left(1);
        axes.truncate(if planes == 1 { 2 } else { 3 });
    }
    let kind = Kind::of(&array.data);
    let mut cards = vec![
        card("SIMPLE", Value::Logical(true))?,
        card("BITPIX", Value::Integer(kind.bitpix))?,
        card("NAXIS", Value::Integer(axes.len() as i64))?,
    ];
    for (k, &axis) in axes.iter().enumerate() {
        cards.push(card(&format!("NAXIS{}", k + 1), Value::Integer(axis as i64))?);
    }
    if kind.zero != 0 {
        cards.push(card("BZERO", Value::Integer(kind.zero))?);
        cards.push(card("BSCALE", Value::Integer(1))?);
    }
    cards.extend(unit.map(|unit| card("BUNIT", text(unit))).transpose()?);
    cards.push(card("OBJECT", text(id))?);
    let mut out = header(&cards)?;
    let pixels = array.data.len() / planes;
    for plane in 0..planes {
        (0..pixels).for_each(|pixel| push(&array.data, pixel * planes + plane, &mut out));
    }
    pad(&mut out);
    Ok(out)
}

/// A file with the one-dimensional fields of `observation` as the columns of a binary table
/// or, where it has none, its labels in these `units` as a table of one row. `None` when neither is all there
/// is.
///
/// # Errors
/// When a column cannot be described.
pub(super) fn table(
    id: &str,
    observation: &Observation,
    units: &LabelUnits,
) -> Result<Option<Vec<u8>>> {
    let mut columns: Vec<Column<'_>> = Vec::new();
    for (name, field) in &observation.fields {
        let [_] = field.array.shape[..] else { return Ok(None) };
        columns.push(Column::of_field(name, field));
    }
    if columns.is_empty() {
        columns.extend(observation.labels.iter().map(|(name, label)| {
            let unit = units.get(name).map(String::as_str);
            Column { unit, ..Column::of_label(name, label) }
        }));
    }
    let Some(rows) = columns.first().map(|column| column.rows) else { return Ok(None) };
    if columns.iter().any(|column| column.rows != rows) {
        return Ok(None);
    }
    let mut out = header(&[
        card("SIMPLE", Value::Logical(true))?,
        card("BITPIX", Value::Integer(8))?,
        card("NAXIS", Value::Integer(0))?,
        card("EXTEND", Value::Logical(true))?,
    ])?;
    let width: usize = columns.iter().map(|column| column.bytes).sum();
    let count = |n: usize| Value::Integer(n as i64);
    let mut cards = vec![
        card("XTENSION", text("BINTABLE"))?,
        card("BITPIX", Value::Integer(8))?,
        card("NAXIS", Value::Integer(2))?,
        card("NAXIS1", count(width))?,
        card("NAXIS2", count(rows))?,
        card("PCOUNT", Value::Integer(0))?,
        card("GCOUNT", Value::Integer(1))?,
        card("TFIELDS", count(columns.len()))?,
    ];
    for (k, column) in columns.iter().enumerate() {
        cards.extend(column.cards(k + 1)?);
    }
    cards.push(card("OBJECT", text(id))?);
    out.extend(header(&cards)?);
    for row in 0..rows {
        columns.iter().for_each(|column| column.push(row, &mut out));
    }
    pad(&mut out);
    Ok(Some(out))
}

/// How numbers of one type are stored.
struct Kind {
    bitpix: i64,
    /// Letter and bytes in a table.
    form: &'static str,
    bytes: usize,
    /// What is to be added to the numbers stored.
    zero: i64,
}

impl Kind {
    fn of(data: &Data) -> Self {
        let (bitpix, form, bytes, zero) = match data {
            Data::U8(_) => (8, "B", 1, 0),
            Data::U16(_) => (16, "I", 2, 1 << 15),
            Data::F32(_) => (-32, "E", 4, 0),
            Data::F64(_) => (-64, "D", 8, 0),
            Data::I64(_) => (64, "K", 8, 0),
        };
        Self { bitpix, form, bytes, zero }
    }
}

/// Appends number `at` of `data`, most significant byte first.
fn push(data: &Data, at: usize, out: &mut Vec<u8>) {
    match data {
        Data::U8(v) => out.push(v[at]),
        // Less 32768, in two's complement: the top bit turned.
        Data::U16(v) => out.extend((v[at] ^ (1 << 15)).to_be_bytes()),
        Data::F32(v) => out.extend(v[at].to_be_bytes()),
        Data::F64(v) => out.extend(v[at].to_be_bytes()),
        Data::I64(v) => out.extend(v[at].to_be_bytes()),
    }
}

enum Cells<'a> {
    Numbers(&'a Data),
    Number(f64),
    Text(String),
}

struct Column<'a> {
    name: &'a str,
    unit: Option<&'a str>,
    rows: usize,
    form: String,
    bytes: usize,
    zero: i64,
    cells: Cells<'a>,
}

impl<'a> Column<'a> {
    fn of_field(name: &'a str, field: &'a Field) -> Self {
        let data = &field.array.data;
        let Kind { form, bytes, zero, .. } = Kind::of(data);
        let unit = field.unit.as_deref();
        let cells = Cells::Numbers(data);
        Self { name, unit, rows: data.len(), form: form.to_owned(), bytes, zero, cells }
    }

    fn of_label(name: &'a str, label: &Label) -> Self {
        let (form, bytes, cells) = match label {
            Label::Number(number) => ("D".to_owned(), 8, Cells::Number(*number)),
            Label::Text(words) => {
                let words = ascii(words);
                (format!("{}A", words.len()), words.len(), Cells::Text(words))
            }
        };
        Self { name, unit: None, rows: 1, form, bytes, zero: 0, cells }
    }

    /// The cards that describe it as column `number`.
    fn cards(&self, number: usize) -> Result<Vec<Card>> {
        let key = |name: &str| format!("{name}{number}");
        let mut cards =
            vec![card(&key("TTYPE"), text(self.name))?, card(&key("TFORM"), text(&self.form))?];
        cards.extend(self.unit.map(|unit| card(&key("TUNIT"), text(unit))).transpose()?);
        if self.zero != 0 {
            cards.push(card(&key("TZERO"), Value::Integer(self.zero))?);
            cards.push(card(&key("TSCAL"), Value::Integer(1))?);
        }
        Ok(cards)
    }

    fn push(&self, row: usize, out: &mut Vec<u8>) {
        match &self.cells {
            Cells::Numbers(data) => push(data, row, out),
            Cells::Number(number) => out.extend(number.to_be_bytes()),
            Cells::Text(words) => out.extend(words.as_bytes()),
        }
    }
}

fn card(keyword: &str, value: Value) -> Result<Card> {
    Card::new(keyword, value).map_err(|e| Error::Failed(format!("FITS keyword {keyword}: {e}")))
}

fn text(words: &str) -> Value {
    Value::String(ascii(words))
}

/// FITS text is printable ASCII; what is not becomes a question mark.
fn ascii(words: &str) -> String {
    words.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}

fn header(cards: &[Card]) -> Result<Vec<u8>> {
    serialize_header(cards).map_err(|e| Error::Failed(format!("cannot make a FITS header: {e}")))
}

/// Fills the last block with zeros.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(BLOCK_SIZE), 0);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The cards of the header that begins at `at`, and where its data begin.
    fn cards(file: &[u8], at: usize) -> (Vec<String>, usize) {
        let cards: Vec<String> = file[at..]
            .chunks(80)
            .map(|card| String::from_utf8(card.to_vec()).unwrap().trim_end().to_owned())
            .take_while(|card| card != "END")
            .collect();
        let end = at + (80 * (cards.len() + 1)).next_multiple_of(BLOCK_SIZE);
        (cards, end)
    }

    fn has(cards: &[String], keyword: &str, value: &str) -> bool {
        let holds = |card: &&String| {
            let (key, rest) = card.split_once('=').unwrap_or((card, ""));
            key.trim() == keyword && rest.split('/').next().unwrap_or("").trim() == value
        };
        cards.iter().any(|card| holds(&card))
    }

    #[test]
    fn images_are_planes_of_rows() {
        let array = Array::new(vec![2, 3, 2], Data::F32((0..12).map(|k| k as f32).collect()));
        let file = image("NGC 1", &array.unwrap(), Some("nanomaggy")).unwrap();
        assert_eq!(file.len(), 2 * BLOCK_SIZE);
        let (cards, data) = cards(&file, 0);
        for (key, value) in [
            ("BITPIX", "-32"),
            ("NAXIS", "3"),
            ("NAXIS1", "3"),
            ("NAXIS2", "2"),
            ("NAXIS3", "2"),
            ("BUNIT", "'nanomaggy'"),
            ("OBJECT", "'NGC 1   '"),
        ] {
            assert!(has(&cards, key, value), "{key} {value}: {cards:?}");
        }
        let number = |k: usize| f32::from_be_bytes(file[data + 4 * k..][..4].try_into().unwrap());
        let first: Vec<f32> = (0..12).map(number).collect();
        assert_eq!(first, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0]);
        let grey = Array::new(vec![1, 2, 1], Data::U16(vec![0, 65535])).unwrap();
        let file = image("x", &grey, None).unwrap();
        let (cards, data) = self::cards(&file, 0);
        assert!(has(&cards, "NAXIS", "2") && has(&cards, "BZERO", "32768"), "{cards:?}");
        assert_eq!(file[data..data + 4], [0x80, 0, 0x7f, 0xff]);
    }

    #[test]
    fn columns_keep_types_and_units() {
        let field = |data: Data, unit: Option<&str>| Field {
            array: Array::new(vec![data.len()], data).unwrap(),
            unit: unit.map(str::to_owned),
        };
        let fields = [
            ("flux".to_owned(), field(Data::F32(vec![1.5, -2.0]), Some("Jy"))),
            ("time".to_owned(), field(Data::F64(vec![59000.25, 59001.0]), Some("d"))),
            ("band".to_owned(), field(Data::I64(vec![1, -3]), None)),
        ];
        let mut observation = Observation { fields: fields.into(), ..Observation::default() };
        let none = LabelUnits::new();
        let file = table("ZTF", &observation, &none).unwrap().unwrap();
        let (_, at) = cards(&file, 0);
        let (cards, data) = cards(&file, at);
        for (key, value) in [
            ("NAXIS1", "20"),
            ("NAXIS2", "2"),
            ("TFORM1", "'K       '"),
            ("TTYPE2", "'flux    '"),
            ("TUNIT2", "'Jy      '"),
            ("TFORM3", "'D       '"),
        ] {
            assert!(has(&cards, key, value), "{key} {value}: {cards:?}");
        }
        let row = [&1i64.to_be_bytes()[..], &1.5f32.to_be_bytes(), &59000.25f64.to_be_bytes()];
        assert_eq!(file[data..data + 20], row.concat());
        assert_eq!(file.len() % BLOCK_SIZE, 0);
        observation.fields.insert("ivar".into(), field(Data::F32(vec![1.0]), None));
        assert!(table("x", &observation, &none).unwrap().is_none());
        let labels = [
            ("teff".to_owned(), Label::Number(5777.0)),
            ("type".to_owned(), Label::Text("G2V é".into())),
        ];
        let star = Observation { labels: labels.into(), ..Observation::default() };
        let units = LabelUnits::from([("teff".to_owned(), "K".to_owned())]);
        let file = table("Sun", &star, &units).unwrap().unwrap();
        let (_, at) = self::cards(&file, 0);
        let (cards, data) = self::cards(&file, at);
        assert!(has(&cards, "TFORM2", "'5A      '"), "{cards:?}");
        assert!(has(&cards, "TUNIT1", "'K       '"), "{cards:?}");
        assert_eq!(&file[data + 8..data + 13], b"G2V ?");
    }
}
