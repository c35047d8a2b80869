//! One dataset of an HDF5 file, by whichever of two libraries can read it.
//!
//! `hdf5-pure` is several times faster and reads what h5py writes by default. It does not know
//! the layout that HDF5 2.0 writes under `libver="latest"`, nor the chunk index of datasets
//! with several unlimited axes; these go through `hdf5-reader`.

use std::path::Path;
use std::sync::Arc;

use astropt_core::guard::guarded;
use astropt_core::observation::Data;
use hdf5_pure::{AttrValue, ChunkCacheConfig, ChunkIndex, Datatype, DatatypeByteOrder};
use hdf5_reader::{
    Datatype as OtherType, FileStorage, FilterRegistry, OpenOptions, SliceInfoElem, VarLenKind,
};

use super::lzf;
use super::numbers::{Element, Kind, signed};
use crate::sources::tabular::Cell;

/// Largest chunk, and largest run of chunks read at once, in bytes.
pub(super) const MAX_BYTES: u64 = 1 << 30;
/// Most axes of a dataset (the format allows 32).
const MAX_AXES: usize = 8;
/// Deflate, the most that HDF5's filters shrink numbers, packs 1,032 bytes into one.
const MAX_RATIO: u64 = 1032;
/// HDF5's number of h5py's LZF filter.
const LZF: u16 = 32_000;

/// An open HDF5 file.
pub(super) struct File {
    fast: Result<hdf5_pure::File, String>,
    other: Result<hdf5_reader::Hdf5File, String>,
    len: u64,
}

/// A dataset: rows along its first axis.
pub(super) struct Dataset {
    /// Lengths of its axes, the slowest first.
    pub(super) shape: Vec<usize>,
    /// How many rows a chunk has; 1 where rows can be read one by one.
    pub(super) chunk_rows: usize,
    /// Bytes of a row.
    pub(super) row_bytes: u64,
    /// Whether its elements are numbers.
    pub(super) numbers: bool,
    /// The attribute `units`.
    pub(super) units: Option<String>,
    element: Option<Element>,
    stored: Stored,
}

enum Stored {
    Fast(Box<hdf5_pure::Dataset>),
    Other(Box<hdf5_reader::Dataset>),
}

impl File {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// When it is no HDF5 file or its head is damaged.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let len = std::fs::metadata(path).map_err(|e| format!("cannot be read: {e}"))?.len();
        let fail = |error: &dyn std::fmt::Display| {
            let text = error.to_string();
            let cause = text.strip_prefix("HDF5 format error: ").unwrap_or(&text);
            format!("cannot be opened as an HDF5 file ({cause}); check that it is one, whole")
        };
        let fast = guarded(|| {
            // What is decoded is kept by this source, in runs of whole chunks.
            let cache = ChunkCacheConfig::new().with_max_bytes(0).with_max_slots(0);
            let properties = hdf5_pure::FileAccessProperties::new().with_chunk_cache(cache);
            hdf5_pure::File::open_streaming_with_options(path, properties).map_err(|e| fail(&e))
        });
        let other = guarded(|| {
            let mut filters = FilterRegistry::new();
            let unlzf = |_: &_, packed: &[u8], _| {
                lzf::unpack(packed, MAX_BYTES as usize)
                    .map_err(hdf5_reader::error::Error::DecompressionError)
            };
            filters.register(LZF, Box::new(unlzf));
            let options = OpenOptions::default()
                .with_chunk_cache_bytes(0)
                .with_max_chunk_bytes(MAX_BYTES as usize)
                .with_max_read_bytes(MAX_BYTES as usize)
                .with_filter_registry(filters);
            // Not mapped into memory: a file that becomes shorter would end the program.
            let storage = FileStorage::open(path).map_err(|e| fail(&e))?;
            hdf5_reader::Hdf5File::from_storage_with_options(Arc::new(storage), options)
                .map_err(|e| fail(&e))
        });
        let end = match (&fast, &other) {
            (Ok(file), _) => file.superblock().eof_address,
            (_, Ok(file)) => file.superblock().eof_address,
            (Err(error), Err(_)) => return Err(error.clone()),
        };
        if end > len {
            return Err(format!(
                "the file ends at byte {len}, where its head promises {end}; it is cut short: \
                 fetch it again or remove it"
            ));
        }
        Ok(Self { fast, other, len })
    }

    /// The dataset `name`, a path within the file.
    ///
    /// # Errors
    /// When there is none, it is damaged, of a kind that cannot be read, or promises more than
    /// the file can hold.
    pub(super) fn dataset(&self, name: &str) -> Result<Dataset, String> {
        let fail = |message: String| format!("dataset {name:?}: {message}");
        let fast = match &self.fast {
            Ok(file) => guarded(|| fast(file, name)),
            Err(error) => Err(error.clone()),
        };
        let dataset = match (fast, &self.other) {
            (Ok(dataset), _) => Ok(dataset),
            (Err(first), Ok(file)) => guarded(|| other(file, name)).map_err(|second| {
                // Of two refusals of a dataset that is there the first is about the content.
                if second.contains("not found") { second } else { first }
            }),
            (Err(error), Err(_)) => Err(error),
        };
        let dataset = dataset.map_err(fail)?;
        let rows = dataset.rows() as u64;
        let most = self.len.saturating_mul(MAX_RATIO).saturating_add(1 << 20);
        if rows.saturating_mul(dataset.row_bytes) > most {
            return Err(fail(format!(
                "its shape {:?} is more than a file of {} bytes can hold; it is damaged, or was \
                 never filled",
                dataset.shape, self.len
            )));
        }
        let run = (dataset.chunk_rows as u64).saturating_mul(dataset.row_bytes);
        if run > MAX_BYTES {
            return Err(fail(format!(
                "{} rows of {} bytes are chunked together, {} MiB at once where at most {} are \
                 read; rewrite it with smaller chunks, such as with h5repack -l CHUNK={}",
                dataset.chunk_rows,
                dataset.row_bytes,
                run >> 20,
                MAX_BYTES >> 20,
                chunk_of_one(&dataset.shape)
            )));
        }
        Ok(dataset)
    }

    /// Names of the groups and of the datasets in the group `path`, sorted; empty when they
    /// cannot be listed.
    pub(super) fn members(&self, path: &str) -> (Vec<String>, Vec<String>) {
        let fast = self.fast.as_ref().map_err(Clone::clone).and_then(|file| {
            guarded(|| {
                let group = if path.is_empty() { Ok(file.root()) } else { file.group(path) };
                let names = group.and_then(|group| Ok((group.groups()?, group.datasets()?)));
                names.map_err(|e| e.to_string())
            })
        });
        let names = fast.or_else(|error| {
            let file = self.other.as_ref().map_err(|_| error)?;
            guarded(|| {
                let group = if path.is_empty() { file.root_group() } else { file.group(path) };
                group.and_then(|group| group.member_names()).map_err(|e| e.to_string())
            })
        });
        let (mut groups, mut datasets) = names.unwrap_or_default();
        groups.sort_unstable();
        datasets.sort_unstable();
        (groups, datasets)
    }
}

/// A chunk of one row, as h5repack wants it.
fn chunk_of_one(shape: &[usize]) -> String {
    let rest = shape.iter().skip(1).map(usize::to_string);
    std::iter::once("1".to_owned()).chain(rest).collect::<Vec<_>>().join("x")
}

fn lengths(shape: &[u64]) -> Result<Vec<usize>, String> {
    if shape.is_empty() || shape.len() > MAX_AXES {
        return Err(format!("it has {} axes; 1 to {MAX_AXES} are read", shape.len()));
    }
    let lengths: Result<_, _> = shape.iter().map(|&n| usize::try_from(n)).collect();
    lengths.map_err(|_| format!("its shape {shape:?} is too large for this machine"))
}

fn rows(shape: &[usize]) -> usize {
    shape.first().copied().unwrap_or(0)
}

fn row_bytes(shape: &[usize], size: u64) -> u64 {
    shape.iter().skip(1).fold(size, |n, &axis| n.saturating_mul(axis as u64))
}

/// How many rows a chunk has; 1 where there are no chunks.
fn chunk_rows(chunk: Option<Vec<u64>>, shape: &[usize], size: u64) -> Result<usize, String> {
    let Some(chunk) = chunk else { return Ok(1) };
    if chunk.len() != shape.len() || chunk.contains(&0) {
        return Err(format!(
            "its chunks of {chunk:?} do not fit to its shape {shape:?}; the file is damaged"
        ));
    }
    let bytes = chunk.iter().fold(size, |n, &axis| n.saturating_mul(axis));
    if bytes > MAX_BYTES {
        return Err(format!(
            "its chunks of {chunk:?} are {} MiB, more than the {} that are read at once; \
             rewrite it with smaller ones",
            bytes >> 20,
            MAX_BYTES >> 20
        ));
    }
    let first = chunk.first().copied().unwrap_or(1);
    Ok(usize::try_from(first).unwrap_or(usize::MAX).clamp(1, rows(shape).max(1)))
}

/// What a library says, with the way out where the file is at fault.
fn said(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    match text.strip_prefix("HDF5 format error: ") {
        Some(cause) => format!("it is damaged ({cause}): fetch the file again or remove it"),
        None => text,
    }
}

/// Opens a dataset with the fast library; refuses what it would fail to read later.
fn fast(file: &hdf5_pure::File, name: &str) -> Result<Dataset, String> {
    let fail = |error: hdf5_pure::Error| said(error);
    let dataset = file.dataset(name).map_err(fail)?;
    if dataset.chunk_index().map_err(fail)? == Some(ChunkIndex::BTreeV2) {
        return Err("its chunks are indexed by a version 2 B-tree".to_owned());
    }
    let shape = lengths(&dataset.shape().map_err(fail)?)?;
    let size = dataset.element_size().map_err(fail)?;
    let element = fast_element(&dataset.datatype().map_err(fail)?);
    let units = dataset.attrs().ok().and_then(|attributes| {
        let value = attributes.get("units").or_else(|| attributes.get("unit"))?;
        match value {
            AttrValue::String(text)
            | AttrValue::AsciiString(text)
            | AttrValue::VarLenString(text)
            | AttrValue::VarLenAsciiString(text)
            | AttrValue::StringSized { value: text, .. }
            | AttrValue::AsciiStringSized { value: text, .. } => Some(text.clone()),
            _ => None,
        }
    });
    Ok(Dataset {
        chunk_rows: chunk_rows(dataset.chunk_shape().map_err(fail)?, &shape, size)?,
        row_bytes: row_bytes(&shape, size),
        numbers: element.is_some_and(|element| element.kind != Kind::Text),
        units: tidy(units),
        element,
        shape,
        stored: Stored::Fast(Box::new(dataset)),
    })
}

fn tidy(units: Option<String>) -> Option<String> {
    let text = units?.trim_matches(['\0', ' ']).to_owned();
    (!text.is_empty()).then_some(text)
}

fn fast_element(datatype: &Datatype) -> Option<Element> {
    let element = |kind, size: u32, order: &DatatypeByteOrder| {
        Some(Element {
            kind,
            size: size as usize,
            big_endian: match order {
                DatatypeByteOrder::LittleEndian => false,
                DatatypeByteOrder::BigEndian => true,
                DatatypeByteOrder::Vax => return None,
            },
        })
    };
    match datatype {
        Datatype::FixedPoint { size, byte_order, layout }
            if layout.bit_offset == 0 && u32::from(layout.bit_precision) == size * 8 =>
        {
            let kind = if layout.signed { Kind::Signed } else { Kind::Unsigned };
            element(kind, *size, byte_order)
        }
        Datatype::FloatingPoint { size, byte_order, layout }
            if layout.bit_offset == 0 && u32::from(layout.bit_precision) == size * 8 =>
        {
            let usual = [(2, 5), (4, 8), (8, 11)].contains(&(*size, layout.exponent_size));
            usual.then(|| element(Kind::Float, *size, byte_order)).flatten()
        }
        Datatype::Enumeration { base_type, .. } => fast_element(base_type),
        Datatype::String { size, .. } => {
            Some(Element { kind: Kind::Text, size: *size as usize, big_endian: false })
        }
        Datatype::VariableLength { is_string: true, .. } => {
            Some(Element { kind: Kind::Text, size: 0, big_endian: false })
        }
        _ => None,
    }
}

/// Opens a dataset with the other library.
fn other(file: &hdf5_reader::Hdf5File, name: &str) -> Result<Dataset, String> {
    let fail = |error: hdf5_reader::error::Error| said(error);
    let dataset = file.dataset(name).map_err(fail)?;
    let shape = lengths(dataset.shape())?;
    let size = dataset.raw_element_size().map_err(fail)? as u64;
    let element = other_element(dataset.dtype());
    let units = ["units", "unit"].iter().find_map(|name| dataset.attribute(name).ok());
    let chunk = dataset.chunks().map(|chunk| chunk.into_iter().map(u64::from).collect());
    Ok(Dataset {
        chunk_rows: chunk_rows(chunk, &shape, size)?,
        row_bytes: row_bytes(&shape, size),
        numbers: element.is_some_and(|element| element.kind != Kind::Text),
        units: tidy(units.and_then(|attribute| attribute.read_string().ok())),
        element,
        shape,
        stored: Stored::Other(Box::new(dataset)),
    })
}

fn other_element(datatype: &OtherType) -> Option<Element> {
    // This library hands numbers out in the machine's own order.
    let element = |kind, size: u8| Element { kind, size: size.into(), big_endian: false };
    match datatype {
        OtherType::FixedPoint { size, signed, .. } => {
            Some(element(if *signed { Kind::Signed } else { Kind::Unsigned }, *size))
        }
        OtherType::FloatingPoint { size, .. } => Some(element(Kind::Float, *size)),
        OtherType::Enum { base, .. } => other_element(base),
        OtherType::String { .. } | OtherType::VarLen { kind: VarLenKind::String, .. } => {
            Some(element(Kind::Text, 0))
        }
        _ => None,
    }
}

impl Dataset {
    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        rows(&self.shape)
    }

    /// What it holds, in words.
    pub(super) fn holds(&self) -> String {
        match &self.element {
            Some(element) => element.holds(),
            None => "what is not read".to_owned(),
        }
    }

    /// The numbers of `count` rows from `first`, which the dataset has.
    ///
    /// # Errors
    /// When the file is damaged there, or does not hold numbers.
    pub(super) fn read(&self, first: usize, count: usize) -> Result<Data, String> {
        let element = self.element.ok_or("it holds no plain numbers; convert it first")?;
        if (count as u64).saturating_mul(self.row_bytes) > MAX_BYTES {
            return Err(format!(
                "{count} rows are more than the {} MiB that are read at once",
                MAX_BYTES >> 20
            ));
        }
        let data = guarded(|| match &self.stored {
            Stored::Fast(dataset) => {
                let bytes = dataset.read_raw_rows(first as u64, count as u64);
                element.numbers(bytes.map_err(|e| e.to_string())?)
            }
            Stored::Other(dataset) => self.read_other(dataset, element, first, count),
        })?;
        let numbers = self.shape.iter().skip(1).fold(count, |n, &axis| n.saturating_mul(axis));
        if data.len() != numbers {
            return Err(format!("it holds {} numbers where {numbers} are promised", data.len()));
        }
        Ok(data)
    }

    fn read_other(
        &self,
        dataset: &hdf5_reader::Dataset,
        element: Element,
        first: usize,
        count: usize,
    ) -> Result<Data, String> {
        let selection = self.selection(first, count);
        macro_rules! read {
            ($type:ty) => {
                dataset
                    .read_slice::<$type>(&selection)
                    .map_err(|e| e.to_string())?
                    .into_raw_vec_and_offset()
                    .0
            };
        }
        macro_rules! wide {
            ($type:ty) => {
                Data::I64(read!($type).into_iter().map(i64::from).collect())
            };
        }
        Ok(match (element.kind, element.size) {
            (Kind::Unsigned, 1) => Data::U8(read!(u8)),
            (Kind::Unsigned, 2) => Data::U16(read!(u16)),
            (Kind::Unsigned, 4) => wide!(u32),
            (Kind::Unsigned, 8) => signed(read!(u64))?,
            (Kind::Signed, 1) => wide!(i8),
            (Kind::Signed, 2) => wide!(i16),
            (Kind::Signed, 4) => wide!(i32),
            (Kind::Signed, 8) => Data::I64(read!(i64)),
            (Kind::Float, 4) => Data::F32(read!(f32)),
            (Kind::Float, 8) => Data::F64(read!(f64)),
            (kind, size) => return Err(format!("it holds {kind:?} of {size} bytes; convert it")),
        })
    }

    /// `count` rows from `first`, as the other library wants them named.
    fn selection(&self, first: usize, count: usize) -> hdf5_reader::SliceInfo {
        let slice = |(k, &axis): (usize, &usize)| {
            let (start, end) = if k == 0 { (first, first + count) } else { (0, axis) };
            SliceInfoElem::Slice { start: start as u64, end: end as u64, step: 1 }
        };
        hdf5_reader::SliceInfo { selections: self.shape.iter().enumerate().map(slice).collect() }
    }

    /// Calls `each` with the values of `count` rows from `first`, of which every one has one.
    ///
    /// # Errors
    /// When the file is damaged there, or the first error of `each`.
    pub(super) fn cells(
        &self,
        first: usize,
        count: usize,
        each: &mut dyn FnMut(Cell<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        if !self.numbers {
            return self.texts(first, count)?.iter().try_for_each(|text| each(Cell::Text(text)));
        }
        if self.element.is_some_and(|element| element.is_wide()) {
            let wide = self.wide(first, count)?;
            return wide.into_iter().try_for_each(|x| each(Cell::Integer(x.into())));
        }
        match self.read(first, count)? {
            Data::U8(v) => v.into_iter().try_for_each(|x| each(Cell::Integer(x.into()))),
            Data::U16(v) => v.into_iter().try_for_each(|x| each(Cell::Integer(x.into()))),
            Data::I64(v) => v.into_iter().try_for_each(|x| each(Cell::Integer(x.into()))),
            Data::F32(v) => v.into_iter().try_for_each(|x| each(Cell::Number(x.into()))),
            Data::F64(v) => v.into_iter().try_for_each(|x| each(Cell::Number(x))),
        }
    }

    /// The unsigned integers of 64 bits in `count` rows from `first`, one a row.
    fn wide(&self, first: usize, count: usize) -> Result<Vec<u64>, String> {
        let element = self.element.ok_or("it holds no plain numbers")?;
        let wide = guarded(|| match &self.stored {
            Stored::Fast(dataset) => {
                let bytes = dataset.read_raw_rows(first as u64, count as u64);
                Ok(element.wide(&bytes.map_err(|e| e.to_string())?))
            }
            Stored::Other(dataset) => {
                let wide = dataset.read_slice::<u64>(&self.selection(first, count));
                Ok(wide.map_err(|e| e.to_string())?.into_raw_vec_and_offset().0)
            }
        })?;
        match wide.len() == count {
            true => Ok(wide),
            false => Err(format!("it holds {} numbers for {count} rows", wide.len())),
        }
    }

    /// The texts of `count` rows from `first`.
    ///
    /// # Errors
    /// When the dataset has none, one per row, or is damaged.
    pub(super) fn texts(&self, first: usize, count: usize) -> Result<Vec<String>, String> {
        let texts = guarded(|| match &self.stored {
            Stored::Fast(dataset) => {
                dataset.read_string_rows(first as u64, count as u64).map_err(|e| e.to_string())
            }
            Stored::Other(dataset) => {
                let all = dataset.read_strings().map_err(|e| e.to_string())?;
                Ok(all.into_iter().skip(first).take(count).collect())
            }
        })?;
        if texts.len() != count {
            return Err(format!("it holds {} texts for {count} rows", texts.len()));
        }
        Ok(texts.into_iter().map(|text| text.trim_matches(['\0', ' ']).to_owned()).collect())
    }
}
