//! Headers of a FITS file: what each HDU holds and where.
//!
//! Everything that a header states is checked here, before anything trusts it: numbers of
//! axes, columns and bytes, and that the data lie within the file.

use astropt_core::guard::guarded;
use astropt_core::observation::Label;
use fitsio_pure::header::{Card, parse_header_blocks};
use fitsio_pure::value::{Value, parse_value};

use super::reader::Reader;

/// Bytes of a block; headers and data fill whole ones.
pub(super) const BLOCK: u64 = 2880;
/// Longest header that is read, in blocks of 36 cards.
const MAX_BLOCKS: u64 = 1000;
/// Most axes of an array; the standard allows 999, nobody has more than these.
const MAX_AXES: i64 = 8;
/// Most columns of a table (FITS standard 4.0, section 7.3.1).
const MAX_COLUMNS: i64 = 999;
/// Largest array that is read for one object, in bytes.
pub(super) const MAX_BYTES: u64 = 2 << 30;

/// The keyword of cards whose own is longer.
const HIERARCH: &str = "HIERARCH";
/// The keyword of cards with the rest of a long text.
const CONTINUE: &str = "CONTINUE";

/// The cards of a header.
#[derive(Debug)]
pub(super) struct Header(pub(super) Vec<Card>);

impl Header {
    fn value(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|card| card.keyword_str() == key)?.value.as_ref()
    }

    /// The integer `key`.
    pub(super) fn integer(&self, key: &str) -> Option<i64> {
        match self.value(key)? {
            Value::Integer(n) => Some(*n),
            // Some writers put a point behind a whole number.
            Value::Float(x) if x.fract() == 0.0 && x.abs() < 9e15 => Some(*x as i64),
            _ => None,
        }
    }

    /// The number `key`, which the header need not state.
    ///
    /// # Errors
    /// When its card holds something else: passed over, it would change every number.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, String> {
        let Some(card) = self.0.iter().find(|card| card.keyword_str() == key) else {
            return Ok(None);
        };
        let found = match &card.value {
            Some(Value::Integer(n)) => return Ok(Some(*n as f64)),
            Some(Value::Float(x)) if x.is_finite() => return Ok(Some(*x)),
            Some(Value::Undefined) => return Ok(None),
            Some(Value::String(text)) => format!("the text {text:?}"),
            _ => "no number".to_owned(),
        };
        Err(format!(
            "{key} is {found}, where a number is wanted; write it as one, without quotation marks, \
             or take the card out"
        ))
    }

    /// The integer `key`, as [`number`](Self::number).
    ///
    /// # Errors
    /// When its card holds something else.
    pub(super) fn whole(&self, key: &str) -> Result<Option<i64>, String> {
        match (self.integer(key), self.number(key)?) {
            (None, Some(x)) => Err(format!("{key} is {x}, where an integer is wanted")),
            (found, _) => Ok(found),
        }
    }

    /// The text `key`, if it is not empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.value(key)? {
            Value::String(text) => Some(text.trim()).filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    fn is_true(&self, key: &str) -> bool {
        matches!(self.value(key), Some(Value::Logical(true)))
    }

    /// Whether there is a card `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|card| card.keyword_str() == key) || self.long_value(key).is_some()
    }

    /// The value of `key`, also of a long one such as `ESO DET X`, as a label.
    pub(super) fn label(&self, key: &str) -> Option<Label> {
        match self.value(key).cloned().or_else(|| self.long_value(key))? {
            Value::Logical(yes) => Some(Label::Number(f64::from(u8::from(yes)))),
            // Blanks count at the beginning of a text, not at its end (FITS standard 4.0,
            // section 4.2.1.1).
            Value::String(text) => {
                Some(text.trim_end()).filter(|t| !t.is_empty()).map(|t| Label::Text(t.to_owned()))
            }
            Value::Integer(n) => Some(Label::integer(n.into())),
            Value::Float(x) => Some(x).filter(|x| x.is_finite()).map(Label::Number),
            _ => None,
        }
    }

    /// The value of a keyword of several words or more than 8 letters, which ESO's convention
    /// writes as `HIERARCH ESO DET X = 1` (<https://fits.gsfc.nasa.gov/registry/hierarch_keyword.html>).
    fn long_value(&self, key: &str) -> Option<Value> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let wanted = words(key.strip_prefix(HIERARCH).unwrap_or(key));
        // The library keeps the rest of such a card as a comment.
        let value = |card: &Card| {
            let (name, value) = card.comment.as_deref()?.split_once('=')?;
            let found = card.keyword_str() == HIERARCH && words(name) == wanted;
            found.then(|| parse_value(value.as_bytes()).map(|(value, _)| value))
        };
        let (at, value) = self.0.iter().enumerate().find_map(|(k, c)| Some((k, value(c)?)))?;
        let Some(Value::String(mut text)) = value else { return value };
        // A text that ends in `&` goes on in the cards behind (section 4.2.1.2), which the library
        // joins to other keywords.
        for card in self.0.iter().skip(at + 1).take_while(|card| card.keyword_str() == CONTINUE) {
            let more = match (&card.value, &card.comment) {
                (Some(value), _) => Some(value.clone()),
                (None, rest) => parse_value(rest.as_deref()?.as_bytes()).map(|(value, _)| value),
            };
            match (text.strip_suffix('&'), more) {
                (Some(begun), Some(Value::String(more))) => text = format!("{begun}{more}"),
                _ => break,
            }
        }
        Some(Value::String(text))
    }

    /// The whole number `key`, which must lie in `0..=most`.
    fn count(&self, key: &str, most: i64) -> Result<usize, String> {
        match self.integer(key) {
            Some(n) if (0..=most).contains(&n) => Ok(n as usize),
            Some(n) => Err(format!("{key} is {n}; it must lie between 0 and {most}")),
            None => Err(format!("the header has no {key}, or it is no whole number")),
        }
    }

    /// Lengths of the axes under `NAXIS` or `ZNAXIS`, the slowest first.
    fn axes(&self, key: &str) -> Result<Vec<usize>, String> {
        let axes = self.count(key, MAX_AXES)?;
        (1..=axes).rev().map(|k| self.count(&format!("{key}{k}"), i64::from(u32::MAX))).collect()
    }

    fn bitpix(&self, key: &str) -> Result<i64, String> {
        match self.integer(key) {
            Some(n) if [8, 16, 32, 64, -32, -64].contains(&n) => Ok(n),
            other => {
                let found = other.map_or_else(|| "missing".to_owned(), |n| n.to_string());
                Err(format!("{key} is {found}; it must be 8, 16, 32, 64, -32 or -64"))
            }
        }
    }
}

/// What an HDU holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// An array of numbers.
    Image {
        /// Bits of a number; negative for floating point.
        bitpix: i64,
        /// Lengths of the axes, the slowest first.
        axes: Vec<usize>,
    },
    /// An array of numbers, compressed by tiles.
    Tiles {
        /// As of an image.
        bitpix: i64,
        /// As of an image.
        axes: Vec<usize>,
    },
    /// A binary table.
    Table {
        /// Bytes of a row.
        row: usize,
        /// Number of rows.
        rows: usize,
    },
    /// A binary table of so many rows, compressed by tiles (FITS standard 4.0, section 10.3).
    PackedTable {
        /// Number of rows.
        rows: usize,
    },
    /// Something else, such as an ASCII table.
    Other,
}

/// One header-data unit.
#[derive(Debug)]
pub(super) struct Hdu {
    /// 0 for the primary HDU.
    pub(super) number: usize,
    /// Its header.
    pub(super) header: Header,
    /// What it holds.
    pub(super) kind: Kind,
    /// Where its data start.
    pub(super) data: u64,
    /// Bytes of its data, without the filling of the last block.
    pub(super) len: u64,
}

impl Hdu {
    /// Reads the header at `offset`, that of HDU `number`.
    ///
    /// # Errors
    /// What is wrong with it, naming the HDU.
    pub(super) fn read(reader: &mut Reader, offset: u64, number: usize) -> Result<Self, String> {
        let fail = |message: String| format!("HDU {number}: {message}");
        let (header, blocks) = cards(reader, offset).map_err(fail)?;
        let data = offset + blocks * BLOCK;
        let (kind, len) = describe(&header, number).map_err(fail)?;
        if data.checked_add(len).is_none_or(|end| end > reader.len()) {
            return Err(fail(format!(
                "its header promises {len} bytes of data, but the file ends {} bytes after it; \
                 it is cut short or damaged: fetch it again or remove it",
                reader.len().saturating_sub(data)
            )));
        }
        Ok(Self { number, header, kind, data, len })
    }

    /// Where the next HDU starts, if there is one.
    pub(super) fn next(&self, reader: &Reader) -> Option<u64> {
        let end = (self.data + self.len).checked_next_multiple_of(BLOCK)?;
        (end < reader.len()).then_some(end)
    }

    /// The name, as errors show it: number, EXTNAME and EXTVER.
    pub(super) fn title(&self) -> String {
        match self.name() {
            Some(name) => format!("HDU {} ({name})", self.number),
            None => format!("HDU {}", self.number),
        }
    }

    /// EXTNAME, followed by EXTVER where that is not 1: `SCI,2`.
    pub(super) fn name(&self) -> Option<String> {
        let name = self.header.text("EXTNAME")?;
        Some(match self.header.integer("EXTVER").filter(|&version| version != 1) {
            Some(version) => format!("{name},{version}"),
            None => name.to_owned(),
        })
    }

    /// Whether it is called `name`: its EXTNAME, or EXTNAME and EXTVER as in `SCI,2`.
    pub(super) fn is_called(&self, name: &str) -> bool {
        let Some(own) = self.header.text("EXTNAME") else { return false };
        // The standard's version where none is stated (section 4.4.2.6).
        let version = self.header.integer("EXTVER").unwrap_or(1);
        let versioned = name.rsplit_once(',').is_some_and(|(name, wanted)| {
            own.eq_ignore_ascii_case(name.trim()) && wanted.trim().parse() == Ok(version)
        });
        own.eq_ignore_ascii_case(name) || versioned
    }

    /// Whether it holds a binary table, compressed or not.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.kind, Kind::Table { .. } | Kind::PackedTable { .. })
    }

    /// Bytes from the start of its data to the heap of its table.
    ///
    /// # Errors
    /// When THEAP is negative.
    pub(super) fn heap(&self, row: usize, rows: usize) -> Result<u64, String> {
        match self.header.integer("THEAP") {
            Some(theap) => u64::try_from(theap).map_err(|_| "THEAP is negative".to_owned()),
            None => Ok((row * rows) as u64),
        }
    }

    /// Whether it holds an array with at least one number.
    pub(super) fn is_image(&self) -> bool {
        match &self.kind {
            Kind::Image { axes, .. } | Kind::Tiles { axes, .. } => {
                !axes.is_empty() && !axes.contains(&0)
            }
            _ => false,
        }
    }
}

/// The cards of the header at `offset` and how many blocks they take.
fn cards(reader: &mut Reader, offset: u64) -> Result<(Header, u64), String> {
    let start = reader.at(offset, 8)?;
    let expected: &[u8] = if offset == 0 { b"SIMPLE  " } else { b"XTENSION" };
    if start != expected {
        return Err(format!(
            "no FITS header starts at byte {offset}; the file is damaged, or something else is \
             appended to it"
        ));
    }
    for blocks in 1..=MAX_BLOCKS {
        let block = reader.at(offset + (blocks - 1) * BLOCK, BLOCK as usize)?;
        if !block.chunks_exact(80).any(|card| card.starts_with(b"END     ")) {
            continue;
        }
        let header = reader.at(offset, (blocks * BLOCK) as usize)?;
        let cards = guarded(|| {
            parse_header_blocks(header)
                .map_err(|e| format!("the header cannot be read ({e}); the file is damaged"))
        })?;
        return Ok((Header(cards), blocks));
    }
    Err(format!("its header has no END within {MAX_BLOCKS} blocks; the file is damaged"))
}

/// What the HDU of this header holds, and in how many bytes.
fn describe(header: &Header, number: usize) -> Result<(Kind, u64), String> {
    let bitpix = header.bitpix("BITPIX")?;
    let axes = header.axes("NAXIS")?;
    let big = |key: &str, otherwise: i64| match header.integer(key) {
        None => Ok(otherwise as u64),
        Some(_) => header.count(key, i64::MAX).map(|n| n as u64),
    };
    let (extra, groups) = (big("PCOUNT", 0)?, big("GCOUNT", 1)?);
    let numbers = if axes.is_empty() {
        Some(0)
    } else {
        axes.iter().try_fold(1u64, |n, &axis| n.checked_mul(axis as u64))
    };
    let bytes = numbers
        .and_then(|n| n.checked_mul(bitpix.unsigned_abs() / 8)?.checked_add(extra))
        .and_then(|n| n.checked_mul(groups))
        .ok_or("its axes and PCOUNT promise more bytes than a file can have")?;
    if number == 0 {
        let groups = axes.last() == Some(&0) && header.is_true("GROUPS");
        return Ok(if groups {
            (Kind::Other, bytes)
        } else {
            (Kind::Image { bitpix, axes }, bytes)
        });
    }
    let kind = match header.text("XTENSION").unwrap_or_default() {
        "IMAGE" => Kind::Image { bitpix, axes },
        "BINTABLE" | "A3DTABLE" if header.is_true("ZIMAGE") => {
            Kind::Tiles { bitpix: header.bitpix("ZBITPIX")?, axes: header.axes("ZNAXIS")? }
        }
        "BINTABLE" | "A3DTABLE" => {
            let [rows, row] = axes[..] else {
                return Err("a table has two axes; the header says otherwise".to_owned());
            };
            header.count("TFIELDS", MAX_COLUMNS)?;
            match header.is_true("ZTABLE") {
                true => Kind::PackedTable { rows: header.count("ZNAXIS2", i64::from(u32::MAX))? },
                false => Kind::Table { row, rows },
            }
        }
        _ => Kind::Other,
    };
    Ok((kind, bytes))
}
