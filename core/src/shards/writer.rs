//! A shard being filled.

use std::collections::BTreeMap;
use std::path::Path;

use half::f16;
use safetensors::tensor::Dtype;
use xxhash_rust::xxh3::Xxh3;

use super::index::Precision;
use crate::checkpoint::tensors::header;
use crate::checkpoint::{format, write_atomic};
use crate::data::Row;
use crate::error::{Error, Result};
use crate::tokens::{Positions, TokenSpec, Tokens, Values};

/// What is removed from tokens from which nothing is: offset and scale.
const NOTHING: [f32; 2] = [0.0, 1.0];

/// An object's tokens and plain features, by modality.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spans {
    pub(super) row: Row,
    pub(super) raw: BTreeMap<String, Vec<f32>>,
}

/// The arrays of one modality in a shard.
#[derive(Default)]
struct Column {
    tokens: usize,
    /// Number of tokens before each object and after the last.
    offsets: Vec<u64>,
    values: Vec<u8>,
    codes: Vec<u8>,
    indices: Vec<u8>,
    /// Whether the tokens of every object so far are placed from 0 on, one after the other.
    counted: bool,
    positions: Vec<u8>,
    affine: Vec<u8>,
    /// Whether anything was removed from any token.
    standardised: bool,
    raw: Vec<u8>,
    /// Number of plain features before each object and after the last.
    raw_offsets: Vec<u64>,
}

/// A shard in memory.
pub(super) struct Builder<'a> {
    specs: &'a BTreeMap<String, TokenSpec>,
    precision: Precision,
    columns: BTreeMap<&'a str, Column>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(specs: &'a BTreeMap<String, TokenSpec>, precision: Precision) -> Self {
        let column = || Column {
            offsets: vec![0],
            raw_offsets: vec![0],
            counted: true,
            ..Column::default()
        };
        let columns = specs.keys().map(|name| (name.as_str(), column())).collect();
        Self { specs, precision, columns }
    }

    /// Bytes of all arrays so far.
    pub(super) fn bytes(&self) -> u64 {
        let size = |c: &Column| {
            let arrays = [&c.values, &c.codes, &c.indices, &c.positions, &c.affine, &c.raw];
            let offsets = (c.offsets.len() + c.raw_offsets.len()) * size_of::<u64>();
            arrays.map(Vec::len).iter().sum::<usize>() + offsets
        };
        self.columns.values().map(size).sum::<usize>() as u64
    }

    /// Adds an object; one that cannot be used has no spans.
    pub(super) fn push(&mut self, spans: &Spans) {
        for (name, column) in &mut self.columns {
            if let Some((_, tokens)) = spans.row.iter().find(|(of, _)| of == name) {
                column.push(tokens, self.precision);
            }
            column.offsets.push(column.tokens as u64);
            if let Some(raw) = spans.raw.get(*name) {
                extend(&mut column.raw, raw.iter().map(|x| x.to_le_bytes()));
            }
            column.raw_offsets.push((column.raw.len() / size_of::<f32>()) as u64);
        }
    }

    /// Writes the shard to `path`, whole or not at all; answers with its size and hash.
    pub(super) fn write(self, path: &Path) -> Result<(u64, String)> {
        let mut arrays = Vec::new();
        for (name, column) in self.columns {
            if let Some(spec) = self.specs.get(name) {
                arrays.extend(column.arrays(name, spec, self.precision));
            }
        }
        // The widest numbers first, so that all lie at multiples of their size.
        arrays.sort_by_key(|a| (std::cmp::Reverse(a.dtype.bitsize()), a.name.clone()));
        let metadata = BTreeMap::from([(format::KEY.to_owned(), format::FORMAT.to_string())]);
        let described = arrays.iter().map(|a| {
            (a.name.as_str(), a.dtype, a.shape.as_slice(), a.bytes.len() * 8 / a.dtype.bitsize())
        });
        let header = header(described, &metadata).map_err(|e| Error::file(path, e))?;
        let (mut size, mut hash) = (0, Xxh3::new());
        write_atomic(path, |file| {
            let length = (header.len() as u64).to_le_bytes();
            let parts = [&length[..], &header].into_iter();
            for part in parts.chain(arrays.iter().map(|a| a.bytes.as_slice())) {
                size += part.len() as u64;
                hash.update(part);
                file.write_all(part).map_err(|e| Error::io("write", path, &e))?;
            }
            Ok(())
        })?;
        Ok((size, format!("{:032x}", hash.digest128())))
    }
}

/// An array of a shard.
struct Stored {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Column {
    fn push(&mut self, tokens: &Tokens, precision: Precision) {
        self.tokens += tokens.len;
        match precision {
            Precision::F32 => {
                extend(&mut self.values, tokens.values.iter().map(|x| x.to_le_bytes()))
            }
            Precision::F16 => {
                let halves = tokens.values.iter().map(|&x| f16::from_f32(x).to_le_bytes());
                extend(&mut self.values, halves);
            }
        }
        extend(&mut self.codes, tokens.codes.iter().map(|x| x.to_le_bytes()));
        extend(&mut self.indices, tokens.indices.iter().map(|x| x.to_le_bytes()));
        self.counted &= tokens.indices.iter().zip(0..).all(|(&index, k)| index == k);
        extend(&mut self.positions, tokens.positions.iter().map(|x| x.to_le_bytes()));
        self.standardised |= !tokens.affine.is_empty();
        let none = std::iter::repeat_n(NOTHING, tokens.len.saturating_sub(tokens.affine.len()));
        let pairs = tokens.affine.iter().copied().chain(none).flatten();
        extend(&mut self.affine, pairs.map(f32::to_le_bytes));
    }

    fn arrays(self, modality: &str, spec: &TokenSpec, precision: Precision) -> Vec<Stored> {
        let mut out = Vec::new();
        let mut add = |part: &str, dtype, shape: Vec<usize>, bytes| {
            out.push(Stored { name: format!("{modality}.{part}"), dtype, shape, bytes });
        };
        let n = self.tokens;
        let integers = |v: &[u64]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        add("tokens", Dtype::U64, vec![self.offsets.len()], integers(&self.offsets));
        match spec.values {
            Values::Continuous { width } => {
                let dtype = match precision {
                    Precision::F32 => Dtype::F32,
                    Precision::F16 => Dtype::F16,
                };
                add("values", dtype, vec![n, width], self.values);
            }
            Values::Codes { .. } => add("codes", Dtype::U32, vec![n], self.codes),
        }
        match spec.positions {
            Positions::Index { .. } if self.counted => {}
            Positions::Index { .. } => add("indices", Dtype::U32, vec![n], self.indices),
            Positions::Continuous { width } => {
                add("positions", Dtype::F32, vec![n, width], self.positions);
            }
        }
        if self.standardised {
            add("affine", Dtype::F32, vec![n, 2], self.affine);
        }
        if !self.raw.is_empty() {
            let offsets = integers(&self.raw_offsets);
            add("raw_offsets", Dtype::U64, vec![self.raw_offsets.len()], offsets);
            add("raw", Dtype::F32, vec![self.raw.len() / size_of::<f32>()], self.raw);
        }
        out
    }
}

fn extend<const N: usize>(bytes: &mut Vec<u8>, numbers: impl Iterator<Item = [u8; N]>) {
    bytes.reserve(numbers.size_hint().0 * N);
    numbers.for_each(|number| bytes.extend_from_slice(&number));
}
