//! Arrays and tables as FITS files (the FITS Standard 4.0, 2018): an image in the primary HDU
//! with its unit as `BUNIT`, columns in a binary table with theirs as `TUNITn`. The object's id
//! is `OBJECT`. Numbers keep their type; values that the standard calls unsigned are stored
//! with its offsets.

use std::collections::BTreeMap;

use fitsio_pure::BLOCK_SIZE;
use fitsio_pure::header::{Card, serialize_header};
use fitsio_pure::value::Value;

use super::unit::{ascii, in_fits};
use crate::error::{Error, Result};
use crate::observation::{Array, Data, Field, Label, LabelUnits, Observation};

/// What readers of the files should know of them, each once.
pub(super) type Remarks = std::collections::BTreeSet<String>;

/// A file with `array` as the image of its primary HDU. `[height, width, bands]` becomes one
/// plane a band (`NAXIS3`), none where there is one band; other shapes keep their axes, the
/// fastest first as FITS has it. Adds to `remarks` what FITS cannot say of the unit.
///
/// # Errors
/// When the array's parts disagree.
pub(super) fn image(
    id: &str,
    array: &Array,
    unit: Option<&str>,
    remarks: &mut Remarks,
) -> Result<Vec<u8>> {
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
    cards.extend(
        unit.map(|unit| unit_cards("BUNIT", unit, remarks)).transpose()?.into_iter().flatten(),
    );
    cards.push(object(id, remarks)?);
    let mut out = header(&cards)?;
    let pixels = array.data.len() / planes;
    for plane in 0..planes {
        (0..pixels).for_each(|pixel| push(&array.data, pixel * planes + plane, &mut out));
    }
    pad(&mut out);
    Ok(out)
}

/// A file with the one-dimensional fields of `observation` as the columns of a binary table
/// or, where it has none, its labels in these `units` as a table of one row. `None` when neither is
/// all there is. `notes` tell of columns what name and unit do not; see [`image`] for `remarks`.
///
/// # Errors
/// When a column cannot be described.
pub(super) fn table(
    id: &str,
    observation: &Observation,
    units: &LabelUnits,
    notes: &BTreeMap<String, String>,
    remarks: &mut Remarks,
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
        cards.extend(column.cards(k + 1, notes.get(column.name), remarks)?);
    }
    cards.push(object(id, remarks)?);
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
    /// Whether FITS has its letters.
    plain: bool,
}

impl<'a> Column<'a> {
    fn of_field(name: &'a str, field: &'a Field) -> Self {
        let data = &field.array.data;
        let Kind { form, bytes, zero, .. } = Kind::of(data);
        let unit = field.unit.as_deref();
        let (cells, form, plain) = (Cells::Numbers(data), form.to_owned(), name.is_ascii());
        Self { name, unit, rows: data.len(), form, bytes, zero, cells, plain }
    }

    fn of_label(name: &'a str, label: &Label) -> Self {
        let plain = |words: &str| name.is_ascii() && words.is_ascii();
        let (form, bytes, cells, plain) = match label {
            Label::Number(number) => ("D".to_owned(), 8, Cells::Number(*number), plain("")),
            Label::Text(words) => {
                let (plain, words) = (plain(words), ascii(words));
                (format!("{}A", words.len()), words.len(), Cells::Text(words), plain)
            }
        };
        Self { name, unit: None, rows: 1, form, bytes, zero: 0, cells, plain }
    }

    /// The cards that describe it as column `number`, with a note of what it holds.
    fn cards(
        &self,
        number: usize,
        note: Option<&String>,
        remarks: &mut Remarks,
    ) -> Result<Vec<Card>> {
        let key = |name: &str| format!("{name}{number}");
        let comment = note.map(|note| ascii(note));
        let name = Card { comment, ..card(&key("TTYPE"), text(self.name))? };
        let mut cards = vec![name, card(&key("TFORM"), text(&self.form))?];
        if let Some(unit) = self.unit {
            cards.extend(unit_cards(&key("TUNIT"), unit, remarks)?);
        }
        if !self.plain {
            remarks.insert(LETTERS.to_owned());
        }
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

/// The unit under `keyword`, with a comment in the file where FITS cannot say it.
fn unit_cards(keyword: &str, unit: &str, remarks: &mut Remarks) -> Result<Vec<Card>> {
    let found = in_fits(unit);
    let mut cards = Vec::new();
    if !found.text.is_empty() {
        cards.push(card(keyword, text(&found.text))?);
    }
    if let Some(odd) = found.odd {
        remarks.insert(format!("the unit {unit:?} is written as {:?}: {odd}", found.text));
        let comment = Some(format!(" {keyword}: {odd}"));
        cards.push(Card { comment, value: None, ..card("COMMENT", text(""))? });
    }
    Ok(cards)
}

/// What is said where words are written that FITS has no letters for.
const LETTERS: &str = "FITS has ASCII alone: other letters of ids and words are written as ?";

/// The object's id.
fn object(id: &str, remarks: &mut Remarks) -> Result<Card> {
    if !id.is_ascii() {
        remarks.insert(LETTERS.to_owned());
    }
    card("OBJECT", text(id))
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
        let file = image("NGC 1", &array.unwrap(), Some("nanomaggy"), &mut Remarks::new()).unwrap();
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
        let file = image("x", &grey, None, &mut Remarks::new()).unwrap();
        let (cards, data) = self::cards(&file, 0);
        assert!(has(&cards, "NAXIS", "2") && has(&cards, "BZERO", "32768"), "{cards:?}");
        assert_eq!(file[data..data + 4], [0x80, 0, 0x7f, 0xff]);
    }

    #[test]
    fn units_that_fits_has_not_are_told() {
        let array = || Array::new(vec![1, 1], Data::F32(vec![0.0])).unwrap();
        let mut remarks = Remarks::new();
        let file = image("x", &array(), Some("µJy"), &mut remarks).unwrap();
        let (cards, _) = self::cards(&file, 0);
        assert!(has(&cards, "BUNIT", "'uJy     '") && remarks.is_empty(), "{cards:?} {remarks:?}");
        let file = image("x", &array(), Some("3.631e-6 Jy"), &mut remarks).unwrap();
        let (cards, _) = self::cards(&file, 0);
        assert!(has(&cards, "BUNIT", "'3.631e-6 Jy'"), "{cards:?}");
        assert!(cards.iter().any(|card| card.starts_with("COMMENT  BUNIT: ")), "{cards:?}");
        assert!(remarks.iter().any(|said| said.contains("powers of ten")), "{remarks:?}");
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
        let notes = BTreeMap::from([("time".to_owned(), "counted from the first".to_owned())]);
        let table = |id, observation: &Observation, units, remarks: &mut Remarks| {
            table(id, observation, units, &notes, remarks).unwrap()
        };
        let mut remarks = Remarks::new();
        let file = table("ZTF", &observation, &none, &mut remarks).unwrap();
        let (_, at) = cards(&file, 0);
        let (cards, data) = cards(&file, at);
        for (key, value) in [
            ("NAXIS1", "20"),
            ("NAXIS2", "2"),
            ("TFORM1", "'K       '"),
            ("TTYPE2", "'flux    '"),
            ("TUNIT2", "'Jy      '"),
            ("TFORM3", "'D       '"),
            ("TTYPE3", "'time    '"),
        ] {
            assert!(has(&cards, key, value), "{key} {value}: {cards:?}");
        }
        let noted = |card: &String| card.ends_with("/ counted from the first");
        assert!(cards.iter().any(noted), "{cards:?}");
        let row = [&1i64.to_be_bytes()[..], &1.5f32.to_be_bytes(), &59000.25f64.to_be_bytes()];
        assert_eq!(file[data..data + 20], row.concat());
        assert_eq!(file.len() % BLOCK_SIZE, 0);
        observation.fields.insert("ivar".into(), field(Data::F32(vec![1.0]), None));
        assert!(table("x", &observation, &none, &mut remarks).is_none());
        assert!(remarks.is_empty(), "{remarks:?}");
        let labels = [
            ("teff".to_owned(), Label::Number(5777.0)),
            ("type".to_owned(), Label::Text("G2V é".into())),
        ];
        let star = Observation { labels: labels.into(), ..Observation::default() };
        let units = LabelUnits::from([("teff".to_owned(), "K".to_owned())]);
        let file = table("Sun", &star, &units, &mut remarks).unwrap();
        assert!(remarks.contains(LETTERS), "{remarks:?}");
        let (_, at) = self::cards(&file, 0);
        let (cards, data) = self::cards(&file, at);
        assert!(has(&cards, "TFORM2", "'5A      '"), "{cards:?}");
        assert!(has(&cards, "TUNIT1", "'K       '"), "{cards:?}");
        assert_eq!(&file[data + 8..data + 13], b"G2V ?");
    }
}
