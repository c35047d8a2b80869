//! The order of objects: a pure function of seed and place, at no cost in memory.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::seam::Groups;

/// A pseudo-random permutation of 0..n, one per seed and epoch, evaluated in place: a
/// four-round Feistel network on the next even power of two, walked until it lands
/// inside (Black & Rogaway 2002, "Ciphers with arbitrary finite domains").
#[derive(Clone, Copy, Debug)]
struct Permutation {
    n: u64,
    half_bits: u32,
    seed: u64,
}

impl Permutation {
    /// The permutation of `0..n` for `epoch` under `seed`. `n` must be at least 1.
    fn new(n: u64, seed: u64, epoch: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let seed = xxh3_64_with_seed(&epoch.to_le_bytes(), seed);
        Self { n, half_bits: bits.div_ceil(2).max(1), seed }
    }

    /// Where `place` (below n) goes.
    fn at(&self, place: u64) -> u64 {
        let mut x = self.encrypt(place);
        while x >= self.n {
            x = self.encrypt(x);
        }
        x
    }

    fn encrypt(&self, x: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        for round in 0..4u64 {
            let mut key = [0u8; 16];
            key[..8].copy_from_slice(&right.to_le_bytes());
            key[8..].copy_from_slice(&round.to_le_bytes());
            (left, right) = (right, left ^ (xxh3_64_with_seed(&key, self.seed) & mask));
        }
        left << self.half_bits | right
    }
}

/// What to try instead when the object at position `k` cannot be used: draw number
/// `attempt` (from 1), again a pure function.
fn substitute_at(k: u64, attempt: u64, n: u64, seed: u64) -> u64 {
    let mut key = [0u8; 16];
    key[..8].copy_from_slice(&k.to_le_bytes());
    key[8..].copy_from_slice(&attempt.to_le_bytes());
    xxh3_64_with_seed(&key, seed) % n
}

/// An endless stream of shuffled epochs over some objects of a source.
///
/// Where the source reads groups of neighbours, an epoch goes through the shards in random
/// order, through the groups of a shard in random order, and shuffles the objects of a few
/// groups in a row: as random as what the source can hold allows.
#[derive(Debug)]
pub(super) struct Order {
    objects: Vec<u32>,
    seed: u64,
    groups: Option<Grouped>,
}

impl Order {
    /// The order of `objects` (ascending indices, at least one) under `seed`, for a source
    /// whose objects lie in `groups`.
    pub(super) fn new(objects: Vec<u32>, seed: u64, groups: Option<&Groups>) -> Self {
        let groups = groups.map(|groups| Grouped::new(&objects, groups));
        Self { objects, seed, groups }
    }

    /// The object at position `k` of the stream.
    pub(super) fn at(&self, k: u64) -> u32 {
        let n = self.objects.len() as u64;
        let (epoch, place) = (k / n, k % n);
        let member = match &self.groups {
            None => Permutation::new(n, self.seed, epoch).at(place),
            Some(groups) => groups.at(epoch, place, self.seed),
        };
        self.objects[member as usize]
    }

    /// What to read instead of the object at position `k`, on the `attempt`th try from 1.
    pub(super) fn instead(&self, k: u64, attempt: u64) -> u32 {
        let n = self.objects.len() as u64;
        self.objects[substitute_at(k, attempt, n, self.seed) as usize]
    }

    /// An object of each of the shards that positions from `k` on are read from, the nearest
    /// first. None where all data are at hand.
    pub(super) fn upcoming(&self, k: u64) -> Vec<u32> {
        const SHARDS: usize = 3; // the one that is read, and a little ahead
        let Some(groups) = self.groups.as_ref().filter(|groups| groups.shards.len() > 1) else {
            return Vec::new();
        };
        let n = self.objects.len() as u64;
        let (epoch, place) = (k / n, k % n);
        let mut members = groups.epoch(epoch, self.seed).shards_from(place, SHARDS);
        if members.len() < SHARDS {
            let left = SHARDS - members.len();
            members.extend(groups.epoch(epoch + 1, self.seed).shards_from(0, left));
        }
        members.into_iter().map(|member| self.objects[member as usize]).collect()
    }

    /// Number of objects in an epoch.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.objects.len()
    }
}

/// Members of an order by the groups of their source.
#[derive(Debug)]
struct Grouped {
    /// For each shard its groups, for each group its members (places in `Order::objects`).
    shards: Vec<Vec<Range<u64>>>,
    /// Groups whose members are shuffled together.
    window: usize,
    /// The windows of the epochs asked for last: training and its workers are in one epoch
    /// or on the border of two.
    epochs: Mutex<VecDeque<Arc<Epoch>>>,
}

/// One epoch's groups in the order they are read, in windows.
#[derive(Debug)]
struct Epoch {
    epoch: u64,
    seed: u64,
    /// Position in the epoch where each window begins, and its groups.
    windows: Vec<(u64, Vec<Range<u64>>)>,
    /// Position in the epoch where each shard begins, and a member of it.
    shards: Vec<(u64, u64)>,
}

impl Epoch {
    /// A member of each of the first `count` shards that are read from `place` on.
    fn shards_from(&self, place: u64, count: usize) -> Vec<u64> {
        let first = self.shards.partition_point(|(start, _)| *start <= place).saturating_sub(1);
        self.shards.iter().skip(first).take(count).map(|(_, member)| *member).collect()
    }
}

impl Grouped {
    fn new(objects: &[u32], groups: &Groups) -> Self {
        let place = |object: u32| objects.partition_point(|&o| o < object) as u64;
        let ends = groups.starts.iter().skip(1).map(|&start| place(start));
        let ends = ends.chain([objects.len() as u64]);
        let mut shards: Vec<Vec<Range<u64>>> = Vec::new();
        for (&start, end) in groups.starts.iter().zip(ends) {
            if shards.is_empty() || groups.shards.binary_search(&start).is_ok() {
                shards.push(Vec::new());
            }
            let members = place(start)..end;
            if let (Some(shard), false) = (shards.last_mut(), members.is_empty()) {
                shard.push(members);
            }
        }
        shards.retain(|shard| !shard.is_empty());
        // Half of what the source holds: workers that are ahead read the next window
        // while others still read this one.
        Self { shards, window: groups.held.div_ceil(2).max(1), epochs: Mutex::default() }
    }

    fn at(&self, epoch: u64, place: u64, seed: u64) -> u64 {
        let epoch = self.epoch(epoch, seed);
        let window = epoch.windows.partition_point(|(start, _)| *start <= place) - 1;
        let (start, groups) = &epoch.windows[window];
        let n = groups.iter().map(|g| g.end - g.start).sum();
        let seed = xxh3_64_with_seed(&(window as u64).to_le_bytes(), seed);
        let mut member = Permutation::new(n, seed, epoch.epoch).at(place - start);
        for group in groups {
            let size = group.end - group.start;
            if member < size {
                return group.start + member;
            }
            member -= size;
        }
        unreachable!("a permutation stays inside its window")
    }

    fn epoch(&self, epoch: u64, seed: u64) -> Arc<Epoch> {
        // The cache is whole whatever a panicking thread left undone.
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = epochs.iter().find(|e| e.epoch == epoch && e.seed == seed) {
            return found.clone();
        }
        let made = Arc::new(self.shuffle(epoch, seed));
        if epochs.len() == 2 {
            epochs.pop_front();
        }
        epochs.push_back(made.clone());
        made
    }

    fn shuffle(&self, epoch: u64, seed: u64) -> Epoch {
        let shards = Permutation::new(self.shards.len() as u64, seed, epoch);
        let (mut groups, mut begun, mut position) = (Vec::new(), Vec::new(), 0);
        for k in 0..self.shards.len() as u64 {
            let shard = shards.at(k);
            let within = xxh3_64_with_seed(&shard.to_le_bytes(), seed);
            let shard = &self.shards[shard as usize];
            let order = Permutation::new(shard.len() as u64, within, epoch);
            begun.extend(shard.first().map(|group| (position, group.start)));
            position += shard.iter().map(|g| g.end - g.start).sum::<u64>();
            groups.extend((0..shard.len() as u64).map(|g| shard[order.at(g) as usize].clone()));
        }
        let mut start = 0;
        let windows = groups.chunks(self.window).map(|groups| {
            let window = (start, groups.to_vec());
            start += groups.iter().map(|g| g.end - g.start).sum::<u64>();
            window
        });
        Epoch { epoch, seed, windows: windows.collect(), shards: begun }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn epoch(order: &Order, epoch: u64) -> Vec<u32> {
        let n = order.len() as u64;
        (epoch * n..(epoch + 1) * n).map(|k| order.at(k)).collect()
    }

    /// Groups of `size` objects, four to a shard.
    fn groups(n: u32, size: u32, held: usize) -> Groups {
        let starts: Vec<u32> = (0..n).step_by(size as usize).collect();
        Groups { shards: starts.iter().copied().step_by(4).collect(), starts, held }
    }

    proptest! {
        #[test]
        fn every_epoch_shows_every_object_once(
            n in 1u32..2000, seed: u64, e in 0u64..5, size in 1u32..300, held in 1usize..9,
            left_out in 2u32..50,
        ) {
            let objects: Vec<u32> = (0..n).filter(|k| n < 10 || k % left_out != 0).collect();
            for groups in [None, Some(groups(n, size, held))] {
                let mut seen = epoch(&Order::new(objects.clone(), seed, groups.as_ref()), e);
                seen.sort_unstable();
                prop_assert_eq!(&seen, &objects);
            }
        }

        #[test]
        fn few_groups_are_read_at_a_time(seed: u64, held in 2usize..8) {
            let order = Order::new((0..1000).collect(), seed, Some(&groups(1000, 10, held)));
            for window in epoch(&order, 1).windows(10) {
                let groups: BTreeSet<u32> = window.iter().map(|k| k / 10).collect();
                prop_assert!(groups.len() <= held + 1);
            }
            // A shard is done with soon after it was begun: it holds 40 objects, and a
            // window at either end may mix it with its neighbours.
            let order = epoch(&order, 0);
            for shard in 0..25 {
                let first = order.iter().position(|k| k / 40 == shard).expect("begun");
                let last = order.iter().rposition(|k| k / 40 == shard).expect("ended");
                prop_assert!(last - first < 40 + 2 * 10 * held.div_ceil(2));
            }
        }
    }

    #[test]
    fn the_shards_ahead_are_those_that_are_read_next() {
        let order = Order::new((0..1000).collect(), 7, Some(&groups(1000, 10, 2)));
        let shard = |object: u32| object / 40;
        let mut read: Vec<u32> = (0..2000).map(|k| shard(order.at(k))).collect();
        read.dedup();
        for k in 0..1000u64 {
            let ahead: Vec<u32> = order.upcoming(k).into_iter().map(shard).collect();
            let at = (k / 40) as usize;
            assert_eq!(ahead, read[at..at + 3], "position {k}");
        }
        assert!(Order::new((0..1000).collect(), 7, None).upcoming(0).is_empty());
    }

    #[test]
    fn epochs_and_seeds_differ() {
        for groups in [None, Some(groups(100, 10, 4))] {
            let order = |seed| Order::new((0..100).collect(), seed, groups.as_ref());
            assert_ne!(epoch(&order(1), 0), epoch(&order(1), 1));
            assert_ne!(epoch(&order(1), 0), epoch(&order(2), 0));
            assert_eq!(epoch(&order(1), 0), epoch(&order(1), 0));
        }
    }
}
