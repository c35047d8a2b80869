//! A cache of what several threads read of the same files: the least recently used is let go.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use astropt_core::Result;

/// Values by number, up to a size in all. Each value is made once, however many threads ask
/// for it at the same time.
#[derive(Debug)]
pub(crate) struct Lru<T> {
    state: Mutex<State<T>>,
    made: Condvar,
    capacity: u64,
}

#[derive(Debug)]
struct State<T> {
    entries: HashMap<u32, Entry<T>>,
    held: u64,
    clock: u64,
}

#[derive(Debug)]
enum Entry<T> {
    /// A thread is making it.
    Pending,
    Ready {
        value: Arc<T>,
        size: u64,
        used: u64,
    },
}

impl<T> Lru<T> {
    /// A cache that holds values of `capacity` in all, and always the one made last.
    pub(crate) fn new(capacity: u64) -> Self {
        let state = State { entries: HashMap::new(), held: 0, clock: 0 };
        Self { state: Mutex::new(state), made: Condvar::new(), capacity }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // The state is whole between any two of its changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Value `key`, made with its size by `make` where it is not held.
    ///
    /// # Errors
    /// What `make` answers; it is asked again the next time.
    pub(crate) fn get(&self, key: u32, make: impl FnOnce() -> Result<(T, u64)>) -> Result<Arc<T>> {
        let mut state = self.lock();
        loop {
            state.clock += 1;
            let now = state.clock;
            match state.entries.get_mut(&key) {
                Some(Entry::Ready { value, used, .. }) => {
                    *used = now;
                    return Ok(value.clone());
                }
                Some(Entry::Pending) => {
                    state = self.made.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                None => break,
            }
        }
        state.entries.insert(key, Entry::Pending);
        drop(state);
        let pending = Pending { cache: self, key };
        let (value, size) = make()?;
        let value = Arc::new(value);
        let mut state = self.lock();
        state.make_room(self.capacity.saturating_sub(size));
        state.held += size;
        let used = state.clock;
        state.entries.insert(key, Entry::Ready { value: value.clone(), size, used });
        drop(state);
        drop(pending);
        Ok(value)
    }
}

impl<T> State<T> {
    /// Lets go of values until no more than `capacity` is held.
    fn make_room(&mut self, capacity: u64) {
        while self.held > capacity {
            let ready = self.entries.iter().filter_map(|(&key, entry)| match entry {
                Entry::Ready { used, size, .. } => Some((*used, key, *size)),
                Entry::Pending => None,
            });
            let Some((_, key, size)) = ready.min() else { return };
            self.entries.remove(&key);
            self.held -= size;
        }
    }
}

/// Wakes those who wait when a value is made, and clears its place when making it failed,
/// be it by a panic.
struct Pending<'a, T> {
    cache: &'a Lru<T>,
    key: u32,
}

impl<T> Drop for Pending<'_, T> {
    fn drop(&mut self) {
        let mut state = self.cache.lock();
        if matches!(state.entries.get(&self.key), Some(Entry::Pending)) {
            state.entries.remove(&self.key);
        }
        self.cache.made.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use astropt_core::Error;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_least_recently_used_goes_first() {
        let cache = Lru::new(30);
        let made = AtomicUsize::new(0);
        let get = |key| {
            let make = || Ok((made.fetch_add(1, Ordering::Relaxed), 10));
            cache.get(key, make).map(|value| *value).expect("made")
        };
        assert_eq!([get(1), get(2), get(3), get(1)], [0, 1, 2, 0]);
        assert_eq!(get(4), 3); // 2 goes
        assert_eq!([get(1), get(3), get(4), get(2)], [0, 2, 3, 4]);
        assert_eq!(*cache.get(9, || Ok((77, 1000))).expect("larger than all"), 77);
        assert_eq!(*cache.get(9, || Ok((78, 1000))).expect("held"), 77);
    }

    #[test]
    fn threads_share_one_making_and_a_failure_is_not_kept() {
        let cache = Lru::new(100);
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let value = cache.get(5, || {
                        std::thread::sleep(std::time::Duration::from_millis(20));
                        Ok((made.fetch_add(1, Ordering::Relaxed), 1))
                    });
                    assert_eq!(*value.expect("made"), 0);
                });
            }
        });
        assert!(cache.get(6, || Err(Error::Failed("no".into()))).is_err());
        assert_eq!(*cache.get(6, || Ok((3, 1))).expect("asked again"), 3);
        let panicking = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            cache.get(7, || panic!("on purpose")).map(drop)
        }));
        assert!(panicking.is_err());
        assert_eq!(*cache.get(7, || Ok((4, 1))).expect("not stuck"), 4);
    }
}
