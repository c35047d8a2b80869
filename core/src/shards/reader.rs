//! A shard that is read. Nothing in the file is believed before it is checked; what the hash
//! has confirmed once is not read again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::{Dtype, Metadata};

use super::hash;
use super::index::Precision;
use super::mapping::Mapping;
use crate::checkpoint::format;
use crate::checkpoint::tensors::read_header;
use crate::error::{Error, Result};
use crate::numbers::{Numbers, SharedBytes};
use crate::tokens::{Positions, TokenSpec, Tokens, Values};

/// What the file of a shard must be.
#[derive(Clone, Debug)]
pub(super) struct ShardFile {
    /// Its size.
    pub(super) bytes: u64,
    /// Its hash.
    pub(super) xxh3: String,
    /// How many objects it has, the unusable ones included.
    pub(super) objects: usize,
}

/// A shard, mapped and found whole.
pub(super) struct Shard {
    path: PathBuf,
    file: Arc<Mapping>,
    bytes: SharedBytes,
    columns: BTreeMap<String, Column>,
    precision: Precision,
}

/// Where the arrays of one modality lie, in bytes of the file.
struct Column {
    /// Number of tokens before each object and after the last.
    offsets: Vec<usize>,
    width: usize,
    values: Option<Range<usize>>,
    codes: Option<Range<usize>>,
    indices: Option<Range<usize>>,
    positions: Option<Range<usize>>,
    affine: Option<Range<usize>>,
    position_width: usize,
    raw: Option<Raw>,
}

/// Plain features: how many numbers there are before each object and after the last, and
/// where they lie.
type Raw = (Vec<usize>, Range<usize>);

impl Shard {
    /// Maps the shard `path` and checks that it is `file`.
    ///
    /// # Errors
    /// When the file is not the one that was written, or contradicts itself.
    pub(super) fn open(
        path: &Path,
        file: &ShardFile,
        specs: &BTreeMap<String, TokenSpec>,
        precision: Precision,
    ) -> Result<Self> {
        let map = Mapping::open(path)?;
        let bytes = map.as_ref();
        let size = bytes.len() as u64;
        let changed = if size != file.bytes {
            Some(other_length(size, file.bytes))
        } else {
            (hash(bytes) != file.xxh3).then(|| changed("its hash is another"))
        };
        if let Some(how) = changed {
            return Err(Error::file(path, how));
        }
        let broken = |e: String| Error::file(path, format!("{e}; convert the data again"));
        let header = read_header(&mut &bytes[..], size).map_err(broken)?;
        let stated = header.metadata().clone().unwrap_or_default().into_iter().collect();
        format::of_metadata(path, &stated)?;
        // The header's length, the header, and then the arrays.
        let data = bytes.len().saturating_sub(header.data_len());
        let arrays = Arrays { header: &header, data, bytes };
        let mut columns = BTreeMap::new();
        for (name, spec) in specs {
            let column = arrays.column(name, spec, file.objects, precision).map_err(broken)?;
            if !column.finite(bytes, precision) {
                let e = format!("the array {name}.values holds a number that is not finite");
                return Err(broken(e));
            }
            columns.insert(name.clone(), column);
        }
        let file = Arc::new(map);
        Ok(Self { path: path.to_owned(), bytes: file.clone(), file, columns, precision })
    }

    /// Whether the file is still the one that was found whole.
    ///
    /// # Errors
    /// When it was written since, or is gone.
    pub(super) fn unchanged(&self) -> Result<()> {
        match self.file.unchanged() {
            true => Ok(()),
            false => Err(Error::Failed(format!(
                "{}: was written while it was read, or taken away: it is not what was converted any \
                 more; copy it again, or convert the data again",
                self.path.display()
            ))),
        }
    }

    /// The tokens of object `k` of the shard, of the modalities in `wanted`.
    pub(super) fn tokens(
        &self,
        k: usize,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<(String, Tokens)>, String> {
        let mut row = Vec::new();
        for (name, column) in self.columns.iter().filter(|(name, _)| wanted(name)) {
            let span = span(&column.offsets, k)?;
            if !span.is_empty() {
                row.push((name.clone(), self.span(column, span)?));
            }
        }
        Ok(row)
    }

    fn span(&self, column: &Column, span: Range<usize>) -> Result<Tokens, String> {
        let bytes = (*self.bytes).as_ref();
        let range = |array: &Option<Range<usize>>, size: usize| {
            array.as_ref().map(|a| a.start + span.start * size..a.start + span.end * size)
        };
        let part = |array, size| {
            let range = range(array, size);
            range.map_or(Some(&[][..]), |r| bytes.get(r)).ok_or("a span lies beyond its shard")
        };
        let mut tokens = Tokens { len: span.len(), ..Tokens::default() };
        if let Some(values) = range(&column.values, self.precision.bytes() * column.width) {
            let mapped = match self.precision {
                Precision::F32 => Numbers::mapped(&self.bytes, values),
                Precision::F16 => Numbers::mapped_half(&self.bytes, values),
            };
            tokens.values = mapped.ok_or("a span lies beyond its shard")?;
        }
        tokens.codes = integers(part(&column.codes, 4)?);
        tokens.indices = integers(part(&column.indices, 4)?);
        if column.indices.is_none() && column.position_width == 0 {
            tokens.indices = (0..).take(span.len()).collect();
        }
        tokens.positions = floats(part(&column.positions, 4 * column.position_width)?);
        tokens.affine = floats(part(&column.affine, 8)?).as_chunks::<2>().0.to_vec();
        Ok(tokens)
    }

    /// The plain features of object `k` of the shard in `modality`.
    pub(super) fn raw_features(
        &self,
        k: usize,
        modality: &str,
    ) -> Result<Option<Vec<f32>>, String> {
        let Some((offsets, array)) = self.columns.get(modality).and_then(|c| c.raw.as_ref()) else {
            return Ok(None);
        };
        let span = span(offsets, k)?;
        let range = array.start + 4 * span.start..array.start + 4 * span.end;
        let bytes = (*self.bytes).as_ref().get(range).ok_or("features lie beyond their shard")?;
        Ok((!span.is_empty()).then(|| floats(bytes)))
    }
}

impl Column {
    /// Whether all values are finite. They are read once, with the hash, so that no batch of
    /// them has to be.
    fn finite(&self, bytes: &[u8], precision: Precision) -> bool {
        let values = self.values.clone().and_then(|range| bytes.get(range)).unwrap_or_default();
        // A block is read whole, without a way out, so that it is read many numbers at a time.
        let block = 4096;
        values.chunks(block).all(|block| match precision {
            Precision::F32 => {
                block.as_chunks::<4>().0.iter().fold(true, |all, &b| {
                    all & (u32::from_le_bytes(b) & 0x7f80_0000 != 0x7f80_0000)
                })
            }
            Precision::F16 => block
                .as_chunks::<2>()
                .0
                .iter()
                .fold(true, |all, &b| all & (u16::from_le_bytes(b) & 0x7c00 != 0x7c00)),
        })
    }
}

/// What is said of a file that is not the one which was written.
fn changed(how: &str) -> String {
    format!("is not what was converted: {how}; copy it again, or convert the data again")
}

/// What is said of a shard that has `found` bytes in the place of `expected`.
pub(super) fn other_length(found: u64, expected: u64) -> String {
    changed(&format!("it has {found} bytes, {expected} expected"))
}

/// What object `k` has of an array with these offsets.
fn span(offsets: &[usize], k: usize) -> Result<Range<usize>, String> {
    match offsets.get(k..).and_then(|rest| rest.first_chunk::<2>()) {
        Some(&[start, end]) => Ok(start..end),
        None => Err(format!("the shard has no object {k}")),
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn integers(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b)).collect()
}

/// The arrays of a shard that is being opened.
struct Arrays<'a> {
    header: &'a Metadata,
    /// Where they begin.
    data: usize,
    bytes: &'a [u8],
}

impl Arrays<'_> {
    fn column(
        &self,
        name: &str,
        spec: &TokenSpec,
        objects: usize,
        precision: Precision,
    ) -> Result<Column, String> {
        let offsets = self.offsets(&format!("{name}.tokens"), objects)?;
        let n = offsets.last().copied().unwrap_or(0);
        let longest = offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        if longest > spec.max_tokens {
            let most = spec.max_tokens;
            return Err(format!(
                "an object has {longest} tokens of {name}, at most {most} expected"
            ));
        }
        let must = |part: &str, dtype, shape: &[usize]| {
            let array = self.array(&format!("{name}.{part}"), dtype, shape)?;
            array.map(Some).ok_or_else(|| format!("it has no array {name}.{part}"))
        };
        let may = |part: &str, dtype, shape: &[usize]| {
            self.array(&format!("{name}.{part}"), dtype, shape)
        };
        let (mut width, mut values, mut codes) = (0, None, None);
        match spec.values {
            Values::Continuous { width: numbers } => {
                let dtype = match precision {
                    Precision::F32 => Dtype::F32,
                    Precision::F16 => Dtype::F16,
                };
                width = numbers;
                values = must("values", dtype, &[n, width])?;
            }
            Values::Codes { .. } => codes = must("codes", Dtype::U32, &[n])?,
        }
        let (mut position_width, mut indices, mut positions) = (0, None, None);
        match spec.positions {
            Positions::Index { .. } => indices = may("indices", Dtype::U32, &[n])?,
            Positions::Continuous { width } => {
                position_width = width;
                positions = must("positions", Dtype::F32, &[n, width])?;
            }
        }
        let affine = may("affine", Dtype::F32, &[n, 2])?;
        let raw = self.raw(name, objects)?;
        Ok(Column {
            offsets,
            width,
            values,
            codes,
            indices,
            positions,
            affine,
            position_width,
            raw,
        })
    }

    fn raw(&self, name: &str, objects: usize) -> Result<Option<Raw>, String> {
        if self.header.info(&format!("{name}.raw")).is_none() {
            return Ok(None);
        }
        let offsets = self.offsets(&format!("{name}.raw_offsets"), objects)?;
        let numbers = offsets.last().copied().unwrap_or(0);
        let array = self.array(&format!("{name}.raw"), Dtype::F32, &[numbers])?;
        Ok(array.map(|array| (offsets, array)))
    }

    /// Where the array `name` lies, if there is one.
    fn array(
        &self,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
    ) -> Result<Option<Range<usize>>, String> {
        let Some(info) = self.header.info(name) else { return Ok(None) };
        if info.dtype != dtype || info.shape != shape {
            return Err(format!(
                "the array {name} is {} of the shape {:?}, {dtype} of {shape:?} expected",
                info.dtype, info.shape
            ));
        }
        let (start, end) = info.data_offsets;
        Ok(Some(self.data + start..self.data + end))
    }

    /// The offsets `name` of `objects` objects.
    fn offsets(&self, name: &str, objects: usize) -> Result<Vec<usize>, String> {
        let shape = [objects.saturating_add(1)];
        let range = self.array(name, Dtype::U64, &shape)?;
        let bytes = range.and_then(|r| self.bytes.get(r));
        let bytes = bytes.ok_or_else(|| format!("it has no array {name}"))?;
        let number = |&b: &[u8; 8]| usize::try_from(u64::from_le_bytes(b));
        let offsets: Result<Vec<usize>, _> = bytes.as_chunks::<8>().0.iter().map(number).collect();
        match offsets {
            Ok(offsets) if offsets.first() == Some(&0) && offsets.is_sorted() => Ok(offsets),
            _ => Err(format!("the array {name} does not ascend from 0")),
        }
    }
}
