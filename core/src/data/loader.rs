//! A pool of workers that keeps a bounded queue of prepared work full, in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Items `0..count`, made by several threads and handed out in order: what comes out does
/// not depend on the number of workers.
pub struct Loader<T> {
    incoming: Receiver<(u64, Result<T>)>,
    early: BTreeMap<u64, Result<T>>,
    next: u64,
    count: u64,
    waited: Duration,
}

impl<T: Send + 'static> Loader<T> {
    /// Starts `workers` threads that call `make` for each of `0..count`. The queue holds
    /// two items per worker; a worker that is ahead waits.
    pub fn start<F>(workers: usize, count: u64, make: F) -> Self
    where
        F: Fn(u64) -> Result<T> + Send + Sync + 'static,
    {
        let (outgoing, incoming) = sync_channel(2 * workers.max(1));
        let make = Arc::new(make);
        let counter = Arc::new(AtomicU64::new(0));
        for _ in 0..workers.max(1) {
            let (outgoing, make, counter) = (outgoing.clone(), make.clone(), counter.clone());
            std::thread::spawn(move || {
                loop {
                    let item = counter.fetch_add(1, Ordering::Relaxed);
                    // The send fails when the loader is dropped: the work is over.
                    if item >= count || outgoing.send((item, make(item))).is_err() {
                        return;
                    }
                }
            });
        }
        Self { incoming, early: BTreeMap::new(), next: 0, count, waited: Duration::ZERO }
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
        made
    }
}

#[cfg(test)]
mod tests {
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
    fn an_error_comes_at_its_place() {
        let loader = Loader::start(3, 10, |k| match k {
            4 => Err(Error::Failed("four".into())),
            k => Ok(k),
        });
        let items: Vec<_> = loader.collect();
        assert_eq!(items.iter().position(Result::is_err), Some(4));
    }

    #[test]
    fn a_dead_worker_is_an_error_not_a_hang() {
        let mut loader = Loader::<u64>::start(1, 3, |_| panic!("on purpose"));
        assert!(loader.next().expect("an item").is_err());
        assert!(loader.next().is_none());
    }
}
