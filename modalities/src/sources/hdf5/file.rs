//! An HDF5 file and its datasets, opened with two libraries, see [`Dataset`].

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use astropt_core::guard::guarded;
use hdf5_pure::ChunkCacheConfig;
use hdf5_reader::storage::DynStorage;
use hdf5_reader::{ExternalLinkResolver, FileStorage, FilterRegistry, OpenOptions};

use super::chunks::Chunks;
use super::dataset::{
    Dataset, MAX_BYTES, Stored, fast, is_final, is_unreadable, other, stored_element,
};
use super::lzf;

/// Deflate, the most that HDF5's filters shrink numbers, packs 1,032 bytes into one.
const MAX_RATIO: u64 = 1032;
/// HDF5's number of h5py's LZF filter.
const LZF: u16 = 32_000;

/// An open HDF5 file.
pub(super) struct File {
    fast: Result<hdf5_pure::File, String>,
    other: Result<Other, String>,
    len: u64,
}

/// The file as the other library has it.
struct Other {
    file: hdf5_reader::Hdf5File,
    storage: DynStorage,
    registry: Arc<FilterRegistry>,
    links: Arc<Links>,
}

/// The files that external links on the way to a dataset lead to. None is opened: what a recipe
/// reads is what it names.
#[derive(Default)]
struct Links(Mutex<Vec<String>>);

impl Links {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ExternalLinkResolver for Links {
    fn resolve_external_link(
        &self,
        filename: &str,
    ) -> hdf5_reader::error::Result<Option<hdf5_reader::Hdf5File>> {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A damaged file may name any number of any length.
        if links.len() < 3 {
            links.push(filename.chars().take(200).collect());
        }
        Ok(None)
    }
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
            let links = Arc::new(Links::default());
            let options = OpenOptions::default()
                .with_external_link_resolver(links.clone())
                .with_chunk_cache_bytes(0)
                .with_max_chunk_bytes(MAX_BYTES as usize)
                .with_max_read_bytes(MAX_BYTES as usize)
                .with_filter_registry(registry());
            // Not mapped into memory: a file that becomes shorter would end the program.
            let storage: DynStorage = Arc::new(FileStorage::open(path).map_err(|e| fail(&e))?);
            hdf5_reader::Hdf5File::from_storage_with_options(storage.clone(), options)
                .map(|file| Other { file, storage, registry: Arc::new(registry()), links })
                .map_err(|e| fail(&e))
        });
        let end = match (&fast, &other) {
            (Ok(file), _) => file.superblock().eof_address,
            (_, Ok(other)) => other.file.superblock().eof_address,
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
        let (fast, unreadable) = match &self.fast {
            Ok(file) => {
                let unreadable = || guarded(|| Ok(is_unreadable(file, name)));
                let opened = guarded(|| fast(file, name));
                let unreadable = opened.is_err() && unreadable().unwrap_or(false);
                (opened, unreadable)
            }
            Err(error) => (Err(error.clone()), false),
        };
        let dataset = match (fast, &self.other) {
            (Ok(dataset), _) => Ok(dataset),
            (Err(first), _) if is_final(&first) => Err(first),
            (Err(first), Ok(known)) => {
                drop(known.links.take());
                guarded(|| other(&known.file, name, unreadable)).map_err(|second| {
                    let links = known.links.take();
                    // Of two refusals of a dataset that is there the first is about the content.
                    match second.contains("not found") {
                        false => first,
                        true if links.is_empty() => second,
                        true => format!(
                            "it is not in this file but linked to from it: external links, which \
                             are not followed, lead to {}; name that file in `path`",
                            links.join(", ")
                        ),
                    }
                })
            }
            (Err(error), Err(_)) => Err(error),
        };
        let mut dataset = dataset.map_err(fail)?;
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
        dataset.chunks = guarded(|| Ok(self.chunks(name, &dataset))).unwrap_or_default();
        Ok(dataset)
    }

    /// The chunks of `dataset`, if they can be read by themselves.
    fn chunks(&self, name: &str, dataset: &Dataset) -> Option<Chunks> {
        let other = self.other.as_ref().ok().filter(|_| dataset.numbers)?;
        let opened;
        let (found, element) = match &dataset.stored {
            Stored::Other(found) => (&**found, stored_element(found.dtype())?),
            Stored::Fast(_) => {
                opened = other.file.dataset(name).ok()?;
                (&opened, dataset.element?)
            }
        };
        let same = found.shape().iter().copied().eq(dataset.shape.iter().map(|&n| n as u64))
            && found.raw_element_size().is_ok_and(|size| size == element.size);
        same.then(|| Chunks::of(&other.file, &other.storage, &other.registry, found, element))?
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
            let file = &self.other.as_ref().map_err(|_| error)?.file;
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

impl File {
    /// The files that external links in the group `path` lead to; at most a few.
    pub(super) fn linked(&self, path: &str) -> Vec<String> {
        let Ok(Other { file, links, .. }) = &self.other else { return Vec::new() };
        drop(links.take());
        let group = guarded(|| {
            let group = if path.is_empty() { file.root_group() } else { file.group(path) };
            group.and_then(|group| group.member_names()).map_err(|e| e.to_string())
        });
        let found = links.take();
        if group.is_ok() { found } else { Vec::new() }
    }
}

/// The filters of the other library, and LZF.
fn registry() -> FilterRegistry {
    let mut filters = FilterRegistry::new();
    let unlzf = |_: &_, packed: &[u8], _| {
        lzf::unpack(packed, MAX_BYTES as usize)
            .map_err(hdf5_reader::error::Error::DecompressionError)
    };
    filters.register(LZF, Box::new(unlzf));
    filters
}

/// A chunk of one row, as h5repack wants it.
fn chunk_of_one(shape: &[usize]) -> String {
    let rest = shape.iter().skip(1).map(usize::to_string);
    std::iter::once("1".to_owned()).chain(rest).collect::<Vec<_>>().join("x")
}
