//! Rows of chunked datasets: chunks are found and decoded with a library and put in their places
//! here.
//!
//! Both libraries move what is contiguous in chunk and dataset alike, which of an image in colour
//! is three bytes, and work out every such place anew: more time than unpacking takes. Here runs
//! are as long as the shapes allow, and steps between them are known beforehand.

use std::sync::{Arc, OnceLock};

use hdf5_reader::btree_v1::{BTreeV1Key, collect_btree_v1_leaves_storage};
use hdf5_reader::chunk_index::{
    ChunkEntry, collect_implicit_chunk_entries, collect_v2_chunk_entries_storage,
    single_chunk_entry,
};
use hdf5_reader::error::Error;
use hdf5_reader::extensible_array::collect_extensible_array_chunk_entries_storage;
use hdf5_reader::filters::apply_pipeline_with_limit;
use hdf5_reader::fixed_array::collect_fixed_array_chunk_entries_storage;
use hdf5_reader::messages::HdfMessage;
use hdf5_reader::messages::filter_pipeline::FilterDescription;
use hdf5_reader::messages::layout::{ChunkIndexing, DataLayout};
use hdf5_reader::object_header::ObjectHeader;
use hdf5_reader::storage::DynStorage;
use hdf5_reader::{Dataset, FilterRegistry, Hdf5File};

use super::dataset::MAX_BYTES;
use super::numbers::Element;

/// Most chunks of a dataset whose places are kept, some 100 bytes each; of more, those that are
/// wanted are looked up again.
const MOST_KEPT: u64 = 1 << 16;
/// Longest header of a dataset that is read, in bytes.
const MAX_HEADER: usize = 16 << 20;

/// Where the chunks of a dataset are and how they are packed.
pub(super) struct Chunks {
    storage: DynStorage,
    /// Bytes of an address and of a length in the file.
    sizes: (u8, u8),
    filters: Vec<FilterDescription>,
    registry: Arc<FilterRegistry>,
    /// Of the index of chunks.
    address: u64,
    /// `None` for that of versions before 1.10, a B-tree.
    indexing: Option<ChunkIndexing>,
    shape: Vec<u64>,
    largest: Option<Vec<u64>>,
    /// Lengths of a chunk's axes.
    chunk: Vec<u32>,
    /// The numbers, as they are stored.
    pub(super) element: Element,
    /// All chunks in order, once they have been asked for, if they are few.
    kept: OnceLock<Vec<ChunkEntry>>,
}

/// A range of chunks along every axis, the ends included.
struct Grid {
    first: Vec<u64>,
    last: Vec<u64>,
}

impl Chunks {
    /// The chunks of `dataset`, where they are of a kind that is read here.
    pub(super) fn of(
        file: &Hdf5File,
        storage: &DynStorage,
        registry: &Arc<FilterRegistry>,
        dataset: &Dataset,
        element: Element,
    ) -> Option<Self> {
        let head = file.superblock();
        let sizes = (head.offset_size, head.length_size);
        if head.base_address != 0 {
            return None; // every address would have to be moved
        }
        let header = ObjectHeader::parse_at_storage_with_limit(
            storage.as_ref(),
            dataset.address(),
            sizes.0,
            sizes.1,
            MAX_HEADER,
        );
        let (mut layout, mut filters) = (None, Vec::new());
        for message in header.ok()?.messages {
            match message {
                HdfMessage::DataLayout(message) => layout = Some(message.layout),
                HdfMessage::FilterPipeline(message) => filters = message.filters,
                HdfMessage::Shared(_) | HdfMessage::ExternalFiles(_) => return None,
                _ => {}
            }
        }
        let DataLayout::Chunked { address, dims: mut chunk, chunk_indexing, .. } = layout? else {
            return None;
        };
        let shape = dataset.shape().to_vec();
        chunk.truncate(shape.len());
        let bytes = chunk.iter().try_fold(element.size as u64, |n, &axis| {
            n.checked_mul(axis.into()).filter(|&bytes| (1..=MAX_BYTES).contains(&bytes))
        })?;
        if chunk.len() != shape.len() || bytes == 0 || address == u64::MAX {
            return None;
        }
        Some(Self {
            storage: storage.clone(),
            sizes,
            filters,
            registry: registry.clone(),
            address,
            indexing: chunk_indexing,
            largest: dataset.max_dims().map(<[u64]>::to_vec),
            shape,
            chunk,
            element,
            kept: OnceLock::new(),
        })
    }

    /// The bytes of `count` rows from `first`, as they are stored; `None` where a chunk is
    /// missing, so that a fill value stands for it, or there twice.
    ///
    /// # Errors
    /// When the index or a chunk is damaged.
    pub(super) fn read(&self, first: u64, count: u64) -> Result<Option<Vec<u8>>, Error> {
        let end = first.saturating_add(count).min(self.shape[0]);
        let size = self.element.size as u64;
        let row = self.shape[1..].iter().fold(size, |n, &axis| n.saturating_mul(axis));
        let bytes = row.saturating_mul(end.saturating_sub(first));
        if bytes == 0 || bytes > MAX_BYTES {
            return Ok(None);
        }
        let mut grid = Grid { first: Vec::new(), last: Vec::new() };
        for (k, (&length, &chunk)) in self.shape.iter().zip(&self.chunk).enumerate() {
            let (start, end) = if k == 0 { (first, end) } else { (0, length) };
            grid.first.push(start / u64::from(chunk));
            grid.last.push((end - 1) / u64::from(chunk));
        }
        let mut entries = self.within(&grid)?;
        entries.retain(|entry| self.place(entry, &grid).is_some());
        entries.sort_by(|a, b| a.offsets.cmp(&b.offsets));
        let twice = entries.windows(2).any(|pair| pair[0].offsets == pair[1].offsets);
        let wanted = grid.first.iter().zip(&grid.last).try_fold(1usize, |n, (first, last)| {
            n.checked_mul(usize::try_from(last - first + 1).ok()?)
        });
        if twice || wanted != Some(entries.len()) {
            return Ok(None);
        }
        let mut out = vec![0; bytes as usize];
        let whole = self.chunk.iter().fold(self.element.size, |n, &axis| n * axis as usize);
        for entry in &entries {
            let size = if entry.size > 0 { entry.size } else { whole as u64 };
            let size = usize::try_from(size.min(self.storage.len())).unwrap_or(usize::MAX);
            let raw = self.storage.read_range(entry.address, size)?;
            let chunk = apply_pipeline_with_limit(
                raw.as_ref(),
                &self.filters,
                entry.filter_mask,
                self.element.size,
                Some(&self.registry),
                Some(whole + 1),
            )?;
            if chunk.len() != whole {
                return Err(Error::InvalidData(format!(
                    "the chunk at {:?} unpacks to {} bytes where {whole} are promised",
                    entry.offsets,
                    chunk.len()
                )));
            }
            self.put(&chunk, &entry.offsets, (first, end), &mut out);
        }
        Ok(Some(out))
    }

    /// The chunks within `grid`, and perhaps others.
    fn within(&self, grid: &Grid) -> Result<Vec<ChunkEntry>, Error> {
        let along = self.shape.iter().zip(&self.chunk);
        let along = along.map(|(axis, &chunk)| axis.div_ceil(chunk.into()));
        if along.fold(1u64, u64::saturating_mul) > MOST_KEPT {
            return self.entries(Some((&grid.first, &grid.last)));
        }
        let kept = match self.kept.get() {
            Some(kept) => kept,
            None => {
                let mut entries = self.entries(None)?;
                entries.sort_by(|a, b| a.offsets.cmp(&b.offsets));
                self.kept.get_or_init(|| entries)
            }
        };
        let row = |entry: &ChunkEntry| entry.offsets.first().copied().unwrap_or(0);
        let length = u64::from(self.chunk[0]);
        let start = kept.partition_point(|entry| row(entry) / length < grid.first[0]);
        let wanted = kept[start..].iter().take_while(|entry| row(entry) / length <= grid.last[0]);
        Ok(wanted.cloned().collect())
    }

    /// The chunks of the index, or those within `bounds` and perhaps others.
    fn entries(&self, bounds: Option<(&[u64], &[u64])>) -> Result<Vec<ChunkEntry>, Error> {
        let Self { address, shape, chunk, .. } = self;
        let ((offsets, lengths), storage) = (self.sizes, self.storage.as_ref());
        let rank = shape.len();
        match &self.indexing {
            None => collect_btree_v1_leaves_storage(
                storage,
                *address,
                offsets,
                lengths,
                Some(rank as u32),
                chunk,
                bounds,
            )
            .map(|leaves| leaves.into_iter().filter_map(|leaf| of_leaf(leaf, rank)).collect()),
            Some(ChunkIndexing::SingleChunk { filtered_size, filters }) => {
                Ok(vec![single_chunk_entry(*address, *filtered_size, *filters, rank)])
            }
            Some(ChunkIndexing::BTreeV2) => collect_v2_chunk_entries_storage(
                storage,
                *address,
                offsets,
                lengths,
                rank as u32,
                chunk,
                bounds,
            ),
            Some(ChunkIndexing::Implicit) => collect_implicit_chunk_entries(
                *address,
                shape,
                chunk,
                self.element.size,
                bounds,
                storage.len(),
            ),
            Some(ChunkIndexing::FixedArray { .. }) => collect_fixed_array_chunk_entries_storage(
                storage, *address, offsets, lengths, shape, chunk, bounds,
            ),
            Some(ChunkIndexing::ExtensibleArray { .. }) => {
                collect_extensible_array_chunk_entries_storage(
                    storage,
                    *address,
                    offsets,
                    lengths,
                    shape,
                    self.largest.as_deref(),
                    chunk,
                    bounds,
                )
            }
        }
    }

    /// The place of a chunk in the grid of all chunks; `None` where it is not within `grid`.
    fn place(&self, entry: &ChunkEntry, grid: &Grid) -> Option<Vec<u64>> {
        if entry.offsets.len() != self.chunk.len() {
            return None;
        }
        let bounds = grid.first.iter().zip(&grid.last);
        let axis = |((&offset, &length), (&first, &last)): ((&u64, &u32), (&u64, &u64))| {
            let place = offset / u64::from(length);
            (offset.is_multiple_of(length.into()) && (first..=last).contains(&place))
                .then_some(place)
        };
        entry.offsets.iter().zip(&self.chunk).zip(bounds).map(axis).collect()
    }

    /// Puts what a chunk at `offsets` has of these rows (from, to) into `out`.
    fn put(&self, chunk: &[u8], offsets: &[u64], rows: (u64, u64), out: &mut [u8]) {
        let size = self.element.size;
        let (mut from, mut to, mut run) = (0, 0, size);
        let (mut chunk_step, mut row_step) = (size, size);
        let mut axes = Vec::new();
        for k in (0..self.shape.len()).rev() {
            let (start, end) = if k == 0 { rows } else { (0, self.shape[k]) };
            let (offset, length) = (offsets[k], u64::from(self.chunk[k]));
            let begin = offset.max(start);
            let count = (offset + length).min(end).saturating_sub(begin) as usize;
            from += (begin - offset) as usize * chunk_step;
            to += (begin - start) as usize * row_step;
            if axes.is_empty() && (chunk_step, row_step) == (run, run) {
                run *= count;
            } else {
                axes.push(Steps { count, chunk: chunk_step, rows: row_step });
            }
            chunk_step *= length as usize;
            row_step *= (end - start) as usize;
        }
        axes.reverse();
        if let (Some(chunk), Some(out)) = (chunk.get(from..), out.get_mut(to..)) {
            copy(&axes, run, chunk, out);
        }
    }
}

/// The chunk that a leaf of a B-tree names.
fn of_leaf((key, address): (BTreeV1Key, u64), rank: usize) -> Option<ChunkEntry> {
    let BTreeV1Key::RawData { chunk_size, filter_mask, mut offsets } = key else { return None };
    offsets.truncate(rank);
    Some(ChunkEntry { address, size: chunk_size.into(), filter_mask, offsets })
}

/// An axis along which runs of bytes follow each other.
struct Steps {
    count: usize,
    /// Bytes from one to the next in the chunk.
    chunk: usize,
    /// The same in the rows.
    rows: usize,
}

/// Copies runs of `run` bytes.
fn copy(axes: &[Steps], run: usize, chunk: &[u8], out: &mut [u8]) {
    match (axes, run) {
        ([], _) => moved(run, chunk, out),
        // Short runs of a length that is known when this is compiled need no call each.
        ([axis], 1) => short::<1>(axis, chunk, out),
        ([axis], 2) => short::<2>(axis, chunk, out),
        ([axis], 3) => short::<3>(axis, chunk, out),
        ([axis], 4) => short::<4>(axis, chunk, out),
        ([axis], 8) => short::<8>(axis, chunk, out),
        ([axis, rest @ ..], _) => {
            let (from, to) = (chunk.chunks(axis.chunk), out.chunks_mut(axis.rows));
            if rest.is_empty() {
                from.zip(to).take(axis.count).for_each(|(from, to)| moved(run, from, to));
            } else {
                for k in 0..axis.count {
                    let (from, to) = (chunk.get(k * axis.chunk..), out.get_mut(k * axis.rows..));
                    if let (Some(from), Some(to)) = (from, to) {
                        copy(rest, run, from, to);
                    }
                }
            }
        }
    }
}

fn moved(run: usize, from: &[u8], to: &mut [u8]) {
    if let (Some(from), Some(to)) = (from.get(..run), to.get_mut(..run)) {
        to.copy_from_slice(from);
    }
}

fn short<const N: usize>(axis: &Steps, chunk: &[u8], out: &mut [u8]) {
    let places = chunk.chunks(axis.chunk).zip(out.chunks_mut(axis.rows));
    for (from, to) in places.take(axis.count) {
        if let (Some(from), Some(to)) = (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
            *to = *from;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::file::File;
    use super::*;

    /// Every index of chunks, every filter and all ranges of rows, beside the libraries.
    #[test]
    fn rows_are_those_that_the_libraries_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hdf5");
        for version in ["earliest", "v108", "v110", "latest"] {
            let file = File::open(&folder.join(format!("{version}.h5"))).expect("opens");
            for name in ["images", "lzf", "planes", "spectra/flux", "spectra/grows", "spectra/more"]
            {
                let mut dataset = file.dataset(name).expect("there");
                let own = dataset.chunks.take().unwrap_or_else(|| panic!("{version}, {name}"));
                let rows = dataset.rows();
                for first in 0..rows {
                    for count in [1, 2, 5, 8, 11, rows].map(|n: usize| n.min(rows - first)) {
                        let expected = dataset.read(first, count).expect("readable");
                        let found = own.read(first as u64, count as u64).expect("sound");
                        let found = own.element.numbers(found.expect("all are there"));
                        let what = format!("{version}, {name}, {count} rows from {first}");
                        assert!(found == Ok(expected), "{what}");
                    }
                }
                assert!(own.read(rows as u64, 1).expect("no rows").is_none());
            }
            let plain = file.dataset("plain").expect("there");
            assert!(plain.chunks.is_none());
        }
    }

    #[test]
    fn runs_are_copied_whatever_their_length() {
        for run in 1..12 {
            let (counts, gap) = ([2, 3, 4], 5);
            let step = |k: usize, gap: usize| -> usize {
                counts[k + 1..].iter().product::<usize>() * (run + gap)
            };
            let axes: Vec<Steps> = (0..3)
                .map(|k| Steps { count: counts[k], chunk: step(k, 0), rows: step(k, gap) })
                .collect();
            let chunk: Vec<u8> = (0..24 * run).map(|k| k as u8).collect();
            let mut out = vec![255; 24 * (run + gap)];
            copy(&axes, run, &chunk, &mut out);
            for (k, piece) in out.chunks(run + gap).enumerate() {
                assert_eq!(piece[..run], chunk[k * run..(k + 1) * run]);
                assert!(piece[run..].iter().all(|&byte| byte == 255));
            }
        }
    }
}
