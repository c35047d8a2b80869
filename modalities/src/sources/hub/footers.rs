//! The ends of shards that are not here: what rows they have, without fetching them.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use astropt_core::progress::Progress;
use astropt_core::{Error, Result};

use super::download::Downloader;
use super::listing::RemoteFile;
use crate::sources::parquet::plan::Names;
use crate::sources::parquet::table::{ShardRows, survey};
use crate::sources::parquet::{Columns, Footer, TAIL, metadata_len};

/// Shards that are asked for at the same time.
const AT_ONCE: usize = 8;
/// Bytes asked for at first: most footers are shorter.
const GUESS: u64 = 128 << 10;

/// The columns and the rows of all shards of a dataset.
///
/// # Errors
/// When one cannot be read, or lacks a column.
pub(super) fn read(downloader: &Downloader, columns: &Columns) -> Result<(Names, Vec<ShardRows>)> {
    let files = &downloader.listing.files;
    let next = AtomicUsize::new(0);
    let done = Mutex::new((Progress::new("reading footers", files.len() as u64, 0), 0));
    // Of a footer only what is needed is kept: it may be megabytes long.
    let survey_one = |names: &mut Option<Names>, file: &RemoteFile| {
        let footer = footer(downloader, file)?;
        let surveyed = survey(names, columns, &file.path, Path::new(&file.path), &footer)?;
        if let Ok(mut done) = done.lock() {
            done.1 += 1;
            let count = done.1;
            done.0.update(count, "shards");
        }
        Ok::<_, Error>(surveyed)
    };
    let mut names = None;
    let first = files.first().ok_or_else(|| Error::Failed("the dataset has no shard".into()))?;
    let first = survey_one(&mut names, first)?;
    let found = std::thread::scope(|scope| {
        let work = || {
            let (mut names, mut found) = (names.clone(), Vec::new());
            loop {
                let shard = next.fetch_add(1, Ordering::Relaxed) + 1;
                let Some(file) = files.get(shard) else { return Ok(found) };
                downloader.client.check_wanted()?;
                found.push((shard, survey_one(&mut names, file)?));
            }
        };
        let threads: Vec<_> = (0..AT_ONCE.min(files.len())).map(|_| scope.spawn(work)).collect();
        let mut found = vec![(0, first)];
        for thread in threads {
            let part: Result<_> = thread.join().unwrap_or_else(|_| {
                Err(Error::Failed("a thread that reads footers has died; this is a bug".into()))
            });
            found.extend(part?);
        }
        Ok::<_, Error>(found)
    });
    let mut shards = found?;
    shards.sort_by_key(|(shard, _)| *shard);
    let names = names.ok_or_else(|| Error::Failed("the dataset has no columns".into()))?;
    Ok((names, shards.into_iter().map(|(_, rows)| rows).collect()))
}

/// The footer of a file: from the disk if it is here, otherwise from the hub.
fn footer(downloader: &Downloader, file: &RemoteFile) -> Result<Footer> {
    let Downloader { client, cache, listing } = downloader;
    if let Some(path) = cache.find(listing, file) {
        return Footer::open(&path);
    }
    let (address, size) = (listing.address(client, file), file.size);
    let what = format!("{} of the dataset {}", file.path, listing.repo);
    let wrong = |message: String| Error::Failed(format!("{what}: {message}"));
    let mut start = size.saturating_sub(GUESS);
    let mut end = client.bytes(&address, start, size, &what)?;
    let tail = end.last_chunk::<TAIL>().ok_or_else(|| wrong("it is no Parquet file".into()))?;
    let needed = metadata_len(tail, size).map_err(wrong)? + TAIL as u64;
    if needed > end.len() as u64 {
        start = size.saturating_sub(needed);
        end = client.bytes(&address, start, size, &what)?;
    }
    let metadata = (end.len() as u64).saturating_sub(needed) as usize..end.len() - TAIL;
    let metadata = end.get(metadata).ok_or_else(|| wrong("it is cut short".into()))?;
    Footer::parse(Path::new(&file.path), metadata)
}
