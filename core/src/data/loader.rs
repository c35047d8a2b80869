//! A pool of workers that keeps a bounded queue of prepared work full, in order.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Batch, Uploads};
use crate::error::{Error, Result};

/// Items `0..count`, made by several threads and handed out in order: what comes out does
/// not depend on the number of workers.
pub struct Loader<T> {
    incoming: Receiver<(u64, Result<T>)>,
    turns: Arc<Turns>,
    early: BTreeMap<u64, Result<T>>,
    next: u64,
    count: u64,
    waited: Duration,
}

impl<T: Send + 'static> Loader<T> {
    /// Starts `workers` threads that call `make` for each of `0..count`. At most three items
    /// per worker are begun and not yet handed out, however slow one of them is; a worker
    /// that is ahead waits.
    pub fn start<F>(workers: usize, count: u64, make: F) -> Self
    where
        F: Fn(u64) -> Result<T> + Send + Sync + 'static,
    {
        let workers = workers.max(1);
        let (outgoing, incoming) = channel();
        let make = Arc::new(make);
        let turns = Arc::new(Turns::new(3 * workers as u64, count));
        for _ in 0..workers {
            let (outgoing, make, turns) = (outgoing.clone(), make.clone(), turns.clone());
            std::thread::spawn(move || {
                while let Some(item) = turns.take() {
                    // The send fails when the loader is dropped: the work is over.
                    if outgoing.send((item, make(item))).is_err() {
                        return;
                    }
                }
            });
        }
        Self { incoming, turns, early: BTreeMap::new(), next: 0, count, waited: Duration::ZERO }
    }

    /// The same items once `finish` is done with them, which works on one after the other, in
    /// their order, on a thread of its own that is at most three items ahead.
    pub fn then<F>(self, finish: F) -> Self
    where
        F: Fn(T) -> Result<T> + Send + Sync + 'static,
    {
        let left = self.count - self.next;
        let items = Mutex::new(self);
        Self::start(1, left, move |_| {
            let item = items.lock().unwrap_or_else(PoisonError::into_inner).next();
            item.unwrap_or_else(|| Err(Error::Failed("the items ended before their time".into())))
                .and_then(&finish)
        })
    }

    /// Time spent waiting for items since the last call.
    pub fn take_waited(&mut self) -> Duration {
        std::mem::take(&mut self.waited)
    }
}

impl<T> Iterator for Loader<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        if self.next >= self.count {
            return None;
        }
        let start = Instant::now();
        while !self.early.contains_key(&self.next) {
            match self.incoming.recv() {
                Ok((item, made)) => {
                    self.early.insert(item, made);
                }
                Err(_) => {
                    self.count = self.next;
                    return Some(Err(Error::Failed(
                        "a worker that prepares data has died; this is a bug".into(),
                    )));
                }
            }
        }
        self.waited += start.elapsed();
        let made = self.early.remove(&self.next);
        self.next += 1;
        self.turns.allow_one_more();
        made
    }
}

impl<T> Drop for Loader<T> {
    fn drop(&mut self) {
        self.turns.end();
    }
}

impl Loader<Batch> {
    /// The same batches, a few of which `uploads` brings onto the device before they are wanted.
    pub fn uploaded(self, uploads: Option<Arc<dyn Uploads>>) -> Self {
        match uploads {
            None => self,
            // In the order in which they are wanted, for the device has room for a few.
            Some(uploads) => self.then(move |mut batch| {
                batch.upload(uploads.as_ref())?;
                Ok(batch)
            }),
        }
    }
}

/// Which item a worker makes next, and how far ahead of the reader it may be.
struct Turns {
    state: Mutex<Turn>,
    changed: Condvar,
}

struct Turn {
    /// The next item that nobody has begun.
    next: u64,
    /// Items before this one may be begun.
    allowed: u64,
    count: u64,
}

impl Turns {
    fn new(ahead: u64, count: u64) -> Self {
        let state = Mutex::new(Turn { next: 0, allowed: ahead, count });
        Self { state, changed: Condvar::new() }
    }

    /// The next item, when its turn has come; `None` when there is none left.
    fn take(&self) -> Option<u64> {
        // Three numbers are whole whatever a panicking thread left undone.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |turn: &mut Turn| turn.next < turn.count && turn.next >= turn.allowed;
        let waited = self.changed.wait_while(state, waits);
        let mut turn = waited.unwrap_or_else(PoisonError::into_inner);
        (turn.next < turn.count).then(|| {
            turn.next += 1;
            turn.next - 1
        })
    }

    fn allow_one_more(&self) {
        self.change(|turn| turn.allowed += 1);
    }

    fn end(&self) {
        self.change(|turn| turn.count = 0);
    }

    fn change(&self, change: impl FnOnce(&mut Turn)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn items_come_in_order_from_any_number_of_workers() {
        for workers in 1..5 {
            let loader = Loader::start(workers, 50, |k| {
                std::thread::sleep(Duration::from_micros((k * 7919) % 300));
                Ok(k)
            });
            let items: Vec<u64> = loader.map(|item| item.expect("made")).collect();
            assert_eq!(items, (0..50).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_slow_item_does_not_let_the_others_run_ahead() {
        let begun = Arc::new(AtomicU64::new(0));
        let counter = begun.clone();
        let mut loader = Loader::start(4, 500, move |k| {
            counter.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(if k == 0 { 50 } else { 0 }));
            Ok(k)
        });
        assert_eq!(loader.next().expect("an item").expect("made"), 0);
        let ahead = begun.load(Ordering::Relaxed);
        assert!(ahead <= 13, "{ahead} items begun while the first was made");
        assert_eq!(loader.count(), 499);
    }

    #[test]
    fn an_error_comes_at_its_place() {
        let four = |k| if k == 4 { Err(Error::Failed("four".into())) } else { Ok(k) };
        let at = |loader: Loader<u64>| loader.map(|item| item.is_err()).collect::<Vec<_>>();
        let there = (0..10).map(|k| k == 4).collect::<Vec<_>>();
        assert_eq!(at(Loader::start(3, 10, four)), there);
        assert_eq!(at(Loader::start(3, 10, four).then(Ok)), there);
        assert_eq!(at(Loader::start(3, 10, Ok).then(four)), there);
    }

    #[test]
    fn what_finishes_items_sees_them_in_order_and_is_not_far_ahead() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let finished = seen.clone();
        let mut loader = Loader::start(4, 40, Ok).then(move |k| {
            finished.lock().unwrap_or_else(PoisonError::into_inner).push(k);
            Ok(10 * k)
        });
        assert_eq!(loader.next().expect("an item").expect("made"), 0);
        std::thread::sleep(Duration::from_millis(20));
        let ahead = seen.lock().unwrap_or_else(PoisonError::into_inner).len();
        assert!(ahead <= 4, "{ahead} items finished while the first was handed out");
        let rest: Vec<u64> = loader.map(|item| item.expect("made")).collect();
        assert_eq!(rest, (1..40).map(|k| 10 * k).collect::<Vec<_>>());
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(*seen, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn a_dead_worker_is_an_error_not_a_hang() {
        let mut loader = Loader::<u64>::start(1, 3, |_| panic!("on purpose"));
        assert!(loader.next().expect("an item").is_err());
        assert!(loader.next().is_none());
    }
}
