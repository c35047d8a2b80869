//! What the pages of a Parquet file claim to hold, looked at before any of them is decoded.
//!
//! A page of a few bytes can stand for gigabytes: a run of one value, or a compressed run of
//! zeros. The decoder believes the headers of pages, so these are read first (the Thrift
//! compact protocol, <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>)
//! and refused when they claim too much.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use parquet::basic::Compression;
use parquet::file::metadata::ColumnChunkMetaData;

/// Most that one page may hold when decoded, in bytes, if it takes but a small part of that in the
/// file. The format's own limit, a signed number of 32 bits, is twice as much.
const MAX_PAGE: u64 = 1 << 30;
/// How many times its size in the file a page beyond that may hold: compressed pictures hardly
/// shrink any further.
const BACKED: u64 = 16;
/// Most that the columns of one row group that are read may hold when decoded, in bytes.
pub(super) const MAX_GROUP: u64 = 4 << 30;
/// Bytes a number takes when decoded: the widest value and its two levels.
const PER_VALUE: u64 = 12;
/// Longest page header that is read: it may hold the smallest and largest value of the page.
const MAX_HEADER: usize = 1 << 20;
/// Bytes read at first; a header without statistics has about 30.
const FIRST_READ: usize = 256;
/// Most that DEFLATE can compress, as a factor (RFC 1951: 258 bytes in 2 bits).
const DEFLATE_MOST: u64 = 1032;

/// What one page claims.
#[derive(Debug, Default, PartialEq, Eq)]
struct Header {
    uncompressed: u64,
    compressed: u64,
    values: u64,
    /// Length of the header itself.
    len: u64,
}

/// Bytes that pages decode to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    /// All of them.
    pub(super) total: u64,
    /// The largest one.
    pub(super) largest: u64,
}

/// The bytes that a column chunk decodes to, as the headers of all its pages claim.
///
/// # Errors
/// When a header is damaged, a page lies outside the file, or one claims too much.
pub(super) fn decoded_size(file: &mut File, chunk: &ColumnChunkMetaData) -> Result<Sizes, String> {
    let file_len = file.metadata().map_err(|e| e.to_string())?.len();
    let unsigned = |n: i64| u64::try_from(n).map_err(|_| "a negative offset".to_owned());
    let data = unsigned(chunk.data_page_offset())?;
    let dictionary = chunk.dictionary_page_offset().map(unsigned).transpose()?;
    // As the decoder has it: a dictionary stands first.
    let mut at = dictionary.unwrap_or(data);
    let end = at.checked_add(unsigned(chunk.compressed_size())?).filter(|&end| end <= file_len);
    let end = end.ok_or("it is cut short: a column lies beyond its end")?;
    let mut sizes = Sizes::default();
    while at < end {
        let header = header_at(file, at, end - at)?;
        let size = header.uncompressed.saturating_add(header.values.saturating_mul(PER_VALUE));
        at += header.len;
        if header.compressed > end.saturating_sub(at) {
            return Err("a page is longer than its column".to_owned());
        }
        let backed = header.compressed.saturating_mul(BACKED);
        let stated = u64::try_from(chunk.uncompressed_size()).unwrap_or(0);
        if size > MAX_PAGE && (size > backed || header.uncompressed > stated) {
            return Err(format!(
                "a page claims {} values in {} bytes, more than {MAX_PAGE} bytes when decoded, and \
                 takes {} in the file; write the file again with smaller pages (pyarrow: \
                 `write_batch_size=16`)",
                header.values, header.uncompressed, header.compressed
            ));
        }
        sizes.total = sizes.total.saturating_add(size);
        sizes.largest = sizes.largest.max(size);
        if matches!(chunk.compression(), Compression::GZIP(_))
            && header.compressed.saturating_mul(DEFLATE_MOST) > MAX_PAGE
        {
            check_gzip(file, at, &header)?;
        }
        at += header.compressed;
    }
    Ok(sizes)
}

/// The decoder of gzip does not stop at the size that the header states: counts first.
fn check_gzip(file: &mut File, at: u64, header: &Header) -> Result<(), String> {
    file.seek(SeekFrom::Start(at)).map_err(|e| e.to_string())?;
    let stream = flate2::read::MultiGzDecoder::new(file.take(header.compressed));
    let found = std::io::copy(&mut stream.take(header.uncompressed + 1), &mut std::io::sink());
    match found {
        Ok(found) if found <= header.uncompressed => Ok(()),
        Ok(_) => Err(format!("a page holds more than the {} bytes it states", header.uncompressed)),
        Err(e) => Err(format!("a page cannot be decompressed ({e})")),
    }
}

/// The header that starts at byte `at`; it ends within `room` bytes.
fn header_at(file: &mut File, at: u64, room: u64) -> Result<Header, String> {
    let mut buffer = Vec::new();
    let mut wanted = FIRST_READ;
    loop {
        buffer.clear();
        file.seek(SeekFrom::Start(at)).map_err(|e| e.to_string())?;
        file.take(room.min(wanted as u64)).read_to_end(&mut buffer).map_err(|e| e.to_string())?;
        match Header::parse(&buffer) {
            Some(header) => return Ok(header),
            None if buffer.len() < wanted || wanted >= MAX_HEADER => {
                return Err("the header of a page is damaged".to_owned());
            }
            None => wanted *= 8,
        }
    }
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Compact { left: bytes };
        let mut header = Self::default();
        let (mut sizes, mut id) = (0, 0);
        while let Some(kind) = reader.field(&mut id)? {
            match (id, kind) {
                (2, INTEGER) => header.uncompressed = reader.size()?,
                (3, INTEGER) => header.compressed = reader.size()?,
                // A data page, a dictionary, a data page of version 2: their first field
                // is the number of values.
                (5 | 7 | 8, STRUCT) => {
                    header.values = header.values.max(reader.first_size()?);
                }
                _ => reader.skip(kind, 0)?,
            }
            sizes += usize::from(id == 2 || id == 3);
        }
        header.len = (bytes.len() - reader.left.len()) as u64;
        (sizes == 2).then_some(header)
    }
}

/// Kinds of fields of the compact protocol.
const INTEGER: u8 = 5;
const STRUCT: u8 = 12;

/// A reader of the Thrift compact protocol; `None` when the bytes end or make no sense.
struct Compact<'a> {
    left: &'a [u8],
}

impl Compact<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.left.split_first()?;
        self.left = rest;
        Some(first)
    }

    fn advance(&mut self, count: u64) -> Option<()> {
        self.left = self.left.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A signed number in zigzag form.
    fn integer(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn size(&mut self) -> Option<u64> {
        u64::try_from(self.integer()?).ok()
    }

    /// The kind of the next field, whose number goes to `id`; the inner `None` ends a struct.
    fn field(&mut self, id: &mut i64) -> Option<Option<u8>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(None);
        }
        *id = match byte >> 4 {
            0 => self.integer()?,
            delta => id.checked_add(delta.into())?,
        };
        Some(Some(byte & 0x0f))
    }

    /// Field 1 of a struct, which must be a size; the rest is passed over.
    fn first_size(&mut self) -> Option<u64> {
        let (mut id, mut size) = (0, None);
        while let Some(kind) = self.field(&mut id)? {
            match (id, kind) {
                (1, INTEGER) => size = Some(self.size()?),
                _ => self.skip(kind, 0)?,
            }
        }
        size
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        const DEEPEST: usize = 8;
        if depth > DEEPEST {
            return None;
        }
        match kind {
            1 | 2 => Some(()), // a truth value is its kind
            3 => self.advance(1),
            4..=6 => self.varint().map(drop),
            7 => self.advance(8),
            8 => {
                let len = self.varint()?;
                self.advance(len)
            }
            9 | 10 => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.varint()? } else { (byte >> 4).into() };
                let kind = byte & 0x0f;
                // A truth value in a list takes a byte, unlike in a struct.
                let kind = if kind <= 2 { 3 } else { kind };
                (0..count).try_for_each(|_| self.skip(kind, depth + 1))
            }
            STRUCT => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, depth + 1)?;
                }
                Some(())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A data page of 100 values: 1,000 bytes in 60, with a checksum and statistics.
    const PAGE: [u8; 25] = [
        0x15, 0x00, 0x15, 0xd0, 0x0f, 0x15, 0x78, 0x15, 0x02, // type, sizes, checksum
        0x1c, 0x15, 0xc8, 0x01, 0x15, 0x00, 0x15, 0x06, 0x15, 0x06, // a data page's header
        0x1c, 0x18, 0x01, 0x2a, 0x00, // its statistics
        0x00,
    ];

    #[test]
    fn a_header_is_read_as_the_format_has_it() {
        let mut bytes = PAGE.to_vec();
        bytes.push(0); // the end of the page's header
        let expected = Header { uncompressed: 1000, compressed: 60, values: 100, len: 26 };
        assert_eq!(Header::parse(&bytes), Some(expected));
        for cut in 0..bytes.len() {
            assert_eq!(Header::parse(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    /// A page of one value, these bytes when decoded, in these bytes of the file.
    fn page(uncompressed: u64, compressed: u64) -> Vec<u8> {
        let size = |n: u64| {
            let (mut n, mut bytes) = (n << 1, vec![0x15]);
            while n > 0x7f {
                bytes.push((n & 0x7f) as u8 | 0x80);
                n >>= 7;
            }
            bytes.push(n as u8);
            bytes
        };
        let rest = [0x2c, 0x15, 0x02, 0x15, 0x00, 0x15, 0x06, 0x15, 0x06, 0x00, 0x00];
        [&[0x15, 0x00], &size(uncompressed)[..], &size(compressed), &rest].concat()
    }

    /// What the pages of a column claim, whose one page stands at the beginning of a file.
    fn claimed(uncompressed: u64, compressed: u64, stated: u64) -> Result<Sizes, String> {
        use parquet::schema::{parser::parse_message_type, types::SchemaDescriptor};
        let mut file = tempfile::tempfile().expect("a file");
        let header = page(uncompressed, compressed);
        std::io::Write::write_all(&mut file, &header).expect("written");
        let length = header.len() as u64 + compressed;
        file.set_len(length).expect("a file with a hole");
        let schema = parse_message_type("message m { required binary x; }").expect("a schema");
        let column = SchemaDescriptor::new(std::sync::Arc::new(schema)).column(0);
        let chunk = ColumnChunkMetaData::builder(column)
            .set_compression(Compression::SNAPPY)
            .set_data_page_offset(0)
            .set_total_compressed_size(length as i64)
            .set_total_uncompressed_size(stated as i64)
            .build();
        decoded_size(&mut file, &chunk.expect("a column"))
    }

    #[test]
    fn a_large_page_is_believed_where_the_file_holds_it() {
        let gib = 1u64 << 30;
        let most = i32::MAX as u64 - 99;
        for (size, packed) in [(gib / 2, 999), (gib + gib / 2, gib), (most, most / 15)] {
            let sizes = claimed(size, packed, size + 99).expect("believed");
            assert_eq!((sizes.largest, sizes.total), (size + PER_VALUE, size + PER_VALUE));
        }
        for (size, packed, stated) in [(most, 999, most), (most, most / 17, most), (most, gib, gib)]
        {
            let error = claimed(size, packed, stated).expect_err("a page that lies");
            assert!(error.contains("write_batch_size"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_confuse_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(header) = Header::parse(&bytes) {
                prop_assert!(header.len as usize <= bytes.len());
            }
        }

        #[test]
        fn a_flipped_bit_gives_another_header_or_none(place in 0usize..25, bit in 0u8..8) {
            let mut bytes = PAGE.to_vec();
            bytes[place] ^= 1 << bit;
            let _ = Header::parse(&bytes);
        }
    }
}
