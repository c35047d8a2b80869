//! One dataset of an HDF5 file, by whichever of two libraries can read it; chunks of numbers by
//! [`Chunks`] wherever that can.
//!
//! `hdf5-pure` is several times faster and reads what h5py writes by default. It does not know
//! the layout that HDF5 2.0 writes under `libver="latest"`, nor the chunk index of datasets
//! with several unlimited axes; these go through `hdf5-reader`.

use astropt_core::guard::guarded;
use astropt_core::observation::Data;
use hdf5_pure::{ChunkIndex, Datatype, DatatypeByteOrder, Layout};
use hdf5_reader::{Datatype as OtherType, SliceInfoElem, VarLenKind};

use super::chunks::Chunks;
use super::numbers::{Element, Kind, signed};
use crate::sources::tabular::Cell;

/// Largest chunk, and largest run of chunks read at once, in bytes.
pub(super) const MAX_BYTES: u64 = 1 << 30;
/// Most axes of a dataset (the format allows 32).
const MAX_AXES: usize = 8;
/// What is said of a virtual dataset.
const VIRTUAL: &str = "it is a virtual dataset, made of parts of other datasets, and these are \
    not followed; read the files it is made of, or write a copy that holds its numbers";
/// What is said of a dataset with external storage.
const ELSEWHERE: &str = "its numbers lie in other files, which are not followed; write a copy \
    that holds them, such as with h5repack";

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
    pub(super) element: Option<Element>,
    pub(super) stored: Stored,
    /// Its chunks, if they can be read by themselves.
    pub(super) chunks: Option<Chunks>,
}

/// The dataset as one of the libraries has it.
pub(super) enum Stored {
    Fast(Box<hdf5_pure::Dataset>),
    Other(Box<hdf5_reader::Dataset>),
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

/// Whether no library need be asked again after this refusal: it is not about the file's state.
pub(super) fn is_final(message: &str) -> bool {
    [VIRTUAL, ELSEWHERE].contains(&message)
}

/// What a library says, with the way out where the file is at fault.
fn said(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    if text.contains("H5Pset_external") {
        return ELSEWHERE.to_owned();
    }
    match text.strip_prefix("HDF5 format error: ") {
        Some(cause) => format!("it is damaged ({cause}): fetch the file again or remove it"),
        None => text,
    }
}

/// Opens a dataset with the fast library; refuses what it would fail to read later.
pub(super) fn fast(file: &hdf5_pure::File, name: &str) -> Result<Dataset, String> {
    let fail = |error: hdf5_pure::Error| said(error);
    let dataset = file.dataset(name).map_err(fail)?;
    if dataset.chunk_index().map_err(fail)? == Some(ChunkIndex::BTreeV2) {
        return Err("its chunks are indexed by a version 2 B-tree".to_owned());
    }
    if dataset.layout().map_err(fail)? == Layout::Virtual {
        return Err(VIRTUAL.to_owned());
    }
    let shape = lengths(&dataset.shape().map_err(fail)?)?;
    let size = dataset.element_size().map_err(fail)?;
    let element = fast_element(&dataset.datatype().map_err(fail)?);
    let units = dataset.attrs().ok().and_then(|attributes| {
        let value = attributes.get("units").or_else(|| attributes.get("unit"))?;
        value.as_str().map(str::to_owned).or_else(|| Some(one_of(value.as_strings()?)))
    });
    Ok(Dataset {
        chunk_rows: chunk_rows(dataset.chunk_shape().map_err(fail)?, &shape, size)?,
        row_bytes: row_bytes(&shape, size),
        numbers: element.is_some_and(|element| element.kind != Kind::Text),
        units: tidy(units),
        element,
        shape,
        stored: Stored::Fast(Box::new(dataset)),
        chunks: None,
    })
}

/// The unit that an attribute of several texts states, as a rule one: all, where they differ.
fn one_of(texts: &[String]) -> String {
    let mut texts = texts.to_vec();
    texts.dedup();
    texts.join(", ")
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

/// Whether the first library knows the type of the dataset `name` and it is none that is read.
/// The other does not look at the bits that its numbers leave out (reduced precision, as the N-bit
/// filter packs them).
pub(super) fn is_unreadable(file: &hdf5_pure::File, name: &str) -> bool {
    let datatype = file.dataset(name).and_then(|dataset| dataset.datatype());
    datatype.is_ok_and(|datatype| fast_element(&datatype).is_none())
}

/// Opens a dataset with the other library; `unreadable`: whether its elements are of a type that
/// is not read.
pub(super) fn other(
    file: &hdf5_reader::Hdf5File,
    name: &str,
    unreadable: bool,
) -> Result<Dataset, String> {
    let fail = |error: hdf5_reader::error::Error| said(error);
    let dataset = file.dataset(name).map_err(fail)?;
    let shape = lengths(dataset.shape())?;
    let size = dataset.raw_element_size().map_err(fail)? as u64;
    let element = other_element(dataset.dtype()).filter(|_| !unreadable);
    let units = ["units", "unit"].iter().find_map(|name| dataset.attribute(name).ok());
    let chunk = dataset.chunks().map(|chunk| chunk.into_iter().map(u64::from).collect());
    Ok(Dataset {
        chunk_rows: chunk_rows(chunk, &shape, size)?,
        row_bytes: row_bytes(&shape, size),
        numbers: element.is_some_and(|element| element.kind != Kind::Text),
        units: tidy(units.and_then(|attribute| {
            let one = attribute.read_string();
            one.or_else(|_| attribute.read_strings().map(|all| one_of(&all))).ok()
        })),
        element,
        shape,
        stored: Stored::Other(Box::new(dataset)),
        chunks: None,
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

/// The numbers of a dataset, in the order of bytes that the file has.
pub(super) fn stored_element(datatype: &OtherType) -> Option<Element> {
    let big_endian = match datatype {
        OtherType::FixedPoint { byte_order, .. } | OtherType::FloatingPoint { byte_order, .. } => {
            *byte_order == hdf5_reader::ByteOrder::BigEndian
        }
        OtherType::Enum { base, .. } => return stored_element(base),
        _ => return None,
    };
    other_element(datatype).map(|element| Element { big_endian, ..element })
}

impl Dataset {
    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        rows(&self.shape)
    }

    /// Whether it has one value for each of `rows` objects: `[rows]`, or `[rows, 1]`.
    pub(super) fn is_column(&self, rows: usize) -> bool {
        self.rows() == rows && self.shape.iter().skip(1).all(|&axis| axis == 1)
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
        let data = guarded(|| {
            let own = self.chunks.as_ref().map(|chunks| {
                let bytes = chunks.read(first as u64, count as u64);
                // What cannot be read here is left to the libraries, to read or to refuse.
                bytes.ok().flatten().map(|bytes| chunks.element.numbers(bytes))
            });
            match (own.flatten(), &self.stored) {
                (Some(numbers), _) => numbers,
                (None, Stored::Fast(dataset)) => {
                    let bytes = dataset.read_raw_rows(first as u64, count as u64);
                    element.numbers(bytes.map_err(said)?)
                }
                (None, Stored::Other(dataset)) => self.read_other(dataset, element, first, count),
            }
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
                dataset.read_slice::<$type>(&selection).map_err(said)?.into_raw_vec_and_offset().0
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
                Ok(element.wide(&bytes.map_err(said)?))
            }
            Stored::Other(dataset) => {
                let wide = dataset.read_slice::<u64>(&self.selection(first, count));
                Ok(wide.map_err(said)?.into_raw_vec_and_offset().0)
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
                dataset.read_string_rows(first as u64, count as u64).map_err(said)
            }
            Stored::Other(dataset) => {
                let all = dataset.read_strings().map_err(said)?;
                Ok(all.into_iter().skip(first).take(count).collect())
            }
        })?;
        if texts.len() != count {
            return Err(format!("it holds {} texts for {count} rows", texts.len()));
        }
        Ok(texts.into_iter().map(|text| text.trim_matches(['\0', ' ']).to_owned()).collect())
    }
}
