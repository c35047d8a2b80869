//! Shards in the order they are needed, fetched beside the training.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use astropt_core::progress::{self, duration};
use astropt_core::seam::Pin;
use astropt_core::{Error, Result};

use super::cache::{Cache, InUse};
use super::download::Downloader;
use crate::sources::parquet::{Held, table::Store};

/// Files that are fetched at the same time: one that is waited for and one ahead.
pub(super) const FETCHERS: usize = 2;
/// Time between two lines about progress.
const SPEAK: Duration = Duration::from_secs(10);
/// How often a wait looks whether the user has asked to stop.
const GLANCE: Duration = Duration::from_millis(200);

/// The shards of a dataset, here or on their way. Dropping it ends the fetching.
pub(super) struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` where the hub may not be asked.
    downloader: Option<Downloader>,
    cache: Cache,
    listing: super::listing::Listing,
    budget: Option<u64>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    shards: Vec<Status>,
    /// Waited for at this moment.
    urgent: VecDeque<usize>,
    /// Wanted before long, the nearest first.
    expected: Vec<usize>,
    meter: Meter,
    closed: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Status {
    Absent,
    Fetching,
    Here,
    /// Why; told to who waits for it, and tried again the next time it is asked for.
    Failed(String),
}

/// How fast bytes arrive, and how many are still to come.
struct Meter {
    started: Option<Instant>,
    arrived: u64,
    left: u64,
    spoken: Option<Instant>,
}

impl Queue {
    /// Begins to fetch what is not here.
    pub(super) fn start(
        downloader: Option<Downloader>,
        cache: Cache,
        listing: super::listing::Listing,
        budget: Option<u64>,
    ) -> Self {
        let here = |file| match cache.find(&listing, file) {
            Some(_) => Status::Here,
            None => Status::Absent,
        };
        let shards: Vec<Status> = listing.files.iter().map(here).collect();
        let absent = listing.files.iter().zip(&shards).filter(|(_, s)| **s == Status::Absent);
        let left = absent.map(|(file, _)| file.size).fold(0, u64::saturating_add);
        let state = State {
            shards,
            urgent: VecDeque::new(),
            expected: Vec::new(),
            meter: Meter { started: None, arrived: 0, left, spoken: None },
            closed: false,
        };
        let changed = Condvar::new();
        let state = Mutex::new(state);
        let shared = Arc::new(Shared { downloader, cache, listing, budget, state, changed });
        if shared.downloader.is_some() {
            for _ in 0..FETCHERS {
                let shared = shared.clone();
                std::thread::spawn(move || shared.work());
            }
        }
        Self { shared }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some(downloader) = &self.shared.downloader {
            downloader.client.cancel();
        }
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Store for Queue {
    fn file(&self, shard: usize) -> Result<(PathBuf, Held)> {
        let (path, held) = self.shared.wait(shard)?;
        Ok((path, Box::new(held)))
    }

    fn expect(&self, shards: &[usize]) {
        let mut state = self.shared.lock();
        if state.expected != shards {
            state.expected = shards.to_vec();
            self.shared.changed.notify_all();
        }
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn pins(&self) -> Vec<Pin> {
        let pin = self.shared.listing.pin();
        pin.map(|pin| (vec![super::PINNED.to_owned()], pin)).into_iter().collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two of its changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shard's file, once it is here.
    fn wait(&self, shard: usize) -> Result<(PathBuf, InUse)> {
        let file = self.listing.files.get(shard);
        let file = file.ok_or_else(|| Error::Failed("no such shard".into()))?;
        let mut state = self.lock();
        let mut waited = false;
        loop {
            match state.shards[shard].clone() {
                Status::Here => {
                    let held = self.cache.take(&file.hash)?;
                    // Held first, then looked for: nobody deletes it in between.
                    if let (Some(held), Some(path)) = (held, self.cache.find(&self.listing, file)) {
                        return Ok((path, held));
                    }
                    state.shards[shard] = Status::Absent;
                    state.meter.left = state.meter.left.saturating_add(file.size);
                }
                Status::Failed(why) => {
                    state.shards[shard] = Status::Absent;
                    // What failed before anyone waited for it may go better now.
                    if waited {
                        return Err(Error::Failed(why));
                    }
                }
                Status::Absent | Status::Fetching => {}
            }
            let Some(downloader) = &self.downloader else {
                return Err(Error::Failed(format!(
                    "{} of the dataset {} is not here, and HF_HUB_OFFLINE is set",
                    file.path, self.listing.repo
                )));
            };
            downloader.client.check_wanted()?;
            if !state.urgent.contains(&shard) {
                state.urgent.push_back(shard);
                self.changed.notify_all();
            }
            waited = true;
            let woken = self.changed.wait_timeout(state, GLANCE);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What a fetching thread does until the queue is dropped.
    fn work(&self) {
        let Some(downloader) = &self.downloader else { return };
        loop {
            let mut state = self.lock();
            let shard = loop {
                if state.closed {
                    return;
                }
                match self.next(&mut state) {
                    Some(shard) => break shard,
                    None => {
                        let woken = self.changed.wait(state);
                        state = woken.unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            state.shards[shard] = Status::Fetching;
            state.meter.started.get_or_insert_with(Instant::now);
            drop(state);
            let file = &self.listing.files[shard];
            let fetched = downloader.fetch(file, &|bytes| self.arrived(shard, bytes));
            let mut state = self.lock();
            state.shards[shard] = match fetched {
                Ok(_) => Status::Here,
                Err(error) => Status::Failed(error.to_string()),
            };
            state.urgent.retain(|&s| s != shard);
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The shard to fetch next: what is waited for, then what is expected, then, where there
    /// is room for all of them, the others in order.
    fn next(&self, state: &mut State) -> Option<usize> {
        let absent = |shard: usize| state.shards.get(shard) == Some(&Status::Absent);
        let size = |shard: usize| self.listing.files[shard].size;
        if let Some(&shard) = state.urgent.iter().find(|&&shard| absent(shard)) {
            // Training stands still without it: it is fetched even beyond the budget.
            let room = self.make_room(state, size(shard), &state.expected);
            let _ = room || self.make_room(state, size(shard), &[]);
            return Some(shard);
        }
        let expected = state.expected.iter().copied().find(|&shard| absent(shard));
        if let Some(shard) = expected {
            let keep = &state.expected;
            return self.make_room(state, size(shard), keep).then_some(shard);
        }
        let all = (0..state.shards.len()).find(|&shard| absent(shard))?;
        let total = self.listing.files.iter().map(|f| f.size).fold(0, u64::saturating_add);
        let fits = self.budget.is_none_or(|budget| total <= budget);
        (fits && self.make_room(state, size(all), &[])).then_some(all)
    }

    fn make_room(&self, state: &State, wanted: u64, keep: &[usize]) -> bool {
        let Some(budget) = self.budget else { return true };
        let kept = |hash: &str| {
            let waited = state.urgent.iter().chain(keep);
            waited.filter_map(|&s| self.listing.files.get(s)).any(|f| f.hash.name() == hash)
        };
        // Files on their way take room as well.
        let fetching = state.shards.iter().zip(&self.listing.files);
        let fetching = fetching.filter(|(status, _)| **status == Status::Fetching);
        let wanted = fetching.map(|(_, file)| file.size).fold(wanted, u64::saturating_add);
        self.cache.make_room(budget, wanted, &kept)
    }

    /// Counts bytes, and says from time to time how far it is.
    fn arrived(&self, shard: usize, bytes: u64) {
        let mut state = self.lock();
        let here = state.shards.iter().filter(|s| **s == Status::Here).count();
        let of = state.shards.len();
        let meter = &mut state.meter;
        meter.arrived += bytes;
        meter.left = meter.left.saturating_sub(bytes);
        let seconds = meter.started.map_or(0.0, |at| at.elapsed().as_secs_f64()).max(1e-3);
        let last = *meter.spoken.get_or_insert_with(Instant::now);
        if last.elapsed() < SPEAK {
            return;
        }
        meter.spoken = Some(Instant::now());
        let rate = meter.arrived as f64 / seconds;
        let left = meter.left as f64;
        drop(state);
        progress::say(&format!(
            "fetching {}: {here} of {of} shards here, {:.1} MB/s, {} left for all",
            self.listing.files[shard].path,
            rate / 1e6,
            duration(left / rate)
        ));
    }
}
