//! The order of objects: a pure function of seed and place, at no cost in memory.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A pseudo-random permutation of 0..n, one per seed and epoch, evaluated in place: a
/// four-round Feistel network on the next even power of two, walked until it lands
/// inside (Black & Rogaway 2002, "Ciphers with arbitrary finite domains").
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    n: u64,
    half_bits: u32,
    seed: u64,
}

impl Permutation {
    /// The permutation of `0..n` for `epoch` under `seed`. `n` must be at least 1.
    pub fn new(n: u64, seed: u64, epoch: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let seed = xxh3_64_with_seed(&epoch.to_le_bytes(), seed);
        Self { n, half_bits: bits.div_ceil(2).max(1), seed }
    }

    /// Where `place` (below n) goes.
    pub fn at(&self, place: u64) -> u64 {
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

/// Which object (0..n) stands at position `k` of an endless stream of shuffled epochs.
pub fn object_at(k: u64, n: u64, seed: u64) -> u64 {
    Permutation::new(n, seed, k / n).at(k % n)
}

/// What to try instead when the object at position `k` cannot be used: draw number
/// `attempt` (from 1), again a pure function.
pub fn substitute_at(k: u64, attempt: u64, n: u64, seed: u64) -> u64 {
    let mut key = [0u8; 16];
    key[..8].copy_from_slice(&k.to_le_bytes());
    key[8..].copy_from_slice(&attempt.to_le_bytes());
    xxh3_64_with_seed(&key, seed) % n
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_epoch_shows_every_object_once(n in 1u64..2000, seed: u64, epoch in 0u64..5) {
            let mut seen = vec![false; n as usize];
            for place in 0..n {
                let object = object_at(epoch * n + place, n, seed) as usize;
                prop_assert!(!std::mem::replace(&mut seen[object], true));
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let order = |seed, epoch: u64| -> Vec<u64> {
            (0..100).map(|k| object_at(epoch * 100 + k, 100, seed)).collect()
        };
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
        assert_eq!(order(1, 0), order(1, 0));
    }
}
