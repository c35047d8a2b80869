//! Which tiles of queries and keys are visited, and what is hidden within them.

use astropt_core::kernels::AttentionMask;
use burn_flex::Flex;
use burn_tensor::{Int, Tensor};

/// Keys per tile on the diagonal; a multiple of every vector's length.
const STEP: usize = 16;

/// The mask of one row of the batch.
#[derive(Clone, Copy)]
pub(super) struct Mask<'a> {
    causal: bool,
    /// Document of every token.
    documents: Option<&'a [i64]>,
    /// For every token how many tokens from the first on it sees at least.
    reach: Option<&'a [i64]>,
    t: usize,
}

/// An attention mask, read back from the device.
pub(super) struct HostMask {
    pub(super) causal: bool,
    /// `[b t]`.
    pub(super) documents: Option<Vec<i64>>,
    /// `[b t]`.
    pub(super) reach: Option<Vec<i64>>,
}

impl HostMask {
    pub(super) fn new(mask: &AttentionMask<Flex>) -> Self {
        let read = |tensor: &Option<Tensor<Flex, 2, Int>>| {
            tensor.as_ref().map(|tensor| tensor.to_data().iter::<i64>().collect())
        };
        Self {
            causal: mask.causal,
            documents: read(&mask.documents_bt),
            reach: read(&mask.reach_bt),
        }
    }
}

/// Keys that one block of queries meets together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// First key.
    pub(super) key: usize,
    /// Number of keys.
    pub(super) keys: usize,
    /// The first query, counted within its block, that sees any of them.
    pub(super) lane: usize,
    /// Whether something within the tile is hidden.
    pub(super) masked: bool,
}

impl<'a> Mask<'a> {
    /// The mask of `row` of a batch with `t` tokens per row.
    pub(super) fn new(mask: &'a HostMask, row: usize, t: usize) -> Self {
        let of_row = |all: &'a Option<Vec<i64>>| all.as_ref().map(|all| &all[row * t..][..t]);
        let reach = of_row(&mask.reach).filter(|_| mask.causal);
        Self { causal: mask.causal, documents: of_row(&mask.documents), reach, t }
    }

    /// The end of the keys that the queries see at most.
    fn end(self, queries: std::ops::Range<usize>) -> usize {
        match self.reach {
            _ if !self.causal => self.t,
            None => queries.end,
            Some(reach) => {
                let furthest = reach[queries.clone()].iter().copied().max().unwrap_or(0);
                usize::try_from(furthest).unwrap_or(0).clamp(queries.end, self.t)
            }
        }
    }

    /// The tiles of the block of `block` queries from `query` on.
    pub(super) fn tiles(self, query: usize, block: usize) -> impl Iterator<Item = Tile> {
        let end = (query + block).min(self.t);
        let last = self.end(query..end);
        (0..last).step_by(block).flat_map(move |key| {
            let diagonal = self.causal && self.reach.is_none() && key == query;
            let step = if diagonal { STEP } else { block };
            let until = (key + block).min(last);
            (key..until).step_by(step).filter_map(move |key| {
                let keys = step.min(until - key);
                let lane = if diagonal { key - query } else { 0 };
                let (seen, all) = self.overlap(query..end, key..key + keys);
                let ahead = self.causal && key + keys > query;
                seen.then_some(Tile { key, keys, lane, masked: ahead || !all })
            })
        })
    }

    /// Whether some query may share a document with some key, and whether all do.
    fn overlap(
        self,
        queries: std::ops::Range<usize>,
        keys: std::ops::Range<usize>,
    ) -> (bool, bool) {
        let Some(documents) = self.documents else { return (true, true) };
        let range = |tokens: std::ops::Range<usize>| {
            documents[tokens].iter().fold((i64::MAX, i64::MIN), |(low, high), &document| {
                (low.min(document), high.max(document))
            })
        };
        let ((q_low, q_high), (k_low, k_high)) = (range(queries), range(keys));
        let seen = q_low <= k_high && k_low <= q_high;
        (seen, q_low == q_high && k_low == k_high && q_low == k_low)
    }

    /// Writes `value` wherever a key of `tile` is hidden from a query of the block from
    /// `query` on. `scores` has a row of `block` queries per key.
    pub(super) fn hide(
        self,
        tile: Tile,
        query: usize,
        block: usize,
        scores: &mut [f32],
        value: f32,
    ) {
        for (k, row) in scores.chunks_exact_mut(block).take(tile.keys).enumerate() {
            let key = tile.key + k;
            if self.causal && key > query {
                let before = (key - query).min(block);
                match self.reach {
                    None => row[tile.lane.min(before)..before].fill(value),
                    Some(reach) => {
                        let reach = &reach[query..self.t.min(query + before)];
                        for (score, &reach) in row.iter_mut().zip(reach) {
                            if key as i64 >= reach {
                                *score = value;
                            }
                        }
                    }
                }
            }
            if let Some(documents) = self.documents {
                let of_queries = &documents[query..self.t.min(query + block)];
                for (score, &document) in row.iter_mut().zip(of_queries) {
                    if document != documents[key] {
                        *score = value;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every visible pair is visited exactly once and left as it is; every hidden pair that
    /// is visited is overwritten.
    fn check(mask: &HostMask, t: usize, block: usize) {
        let HostMask { causal, documents, reach } = mask;
        let mask = Mask::new(mask, 0, t);
        for query in (0..t).step_by(block) {
            let mut seen = vec![0; t * block];
            for tile in mask.tiles(query, block) {
                let mut scores = vec![1.0; tile.keys * block];
                if tile.masked {
                    mask.hide(tile, query, block, &mut scores, 0.0);
                }
                for k in 0..tile.keys {
                    for lane in tile.lane..block {
                        seen[(tile.key + k) * block + lane] += scores[k * block + lane] as usize;
                    }
                }
            }
            for key in 0..t {
                for q in query..t.min(query + block) {
                    let reached = reach.as_ref().is_some_and(|reach| (key as i64) < reach[q]);
                    let same = |documents: &Vec<i64>| documents[key] == documents[q];
                    let visible =
                        (!causal || key <= q || reached) && documents.as_ref().is_none_or(same);
                    let count = seen[key * block + q - query];
                    assert_eq!(count, usize::from(visible), "key {key} query {q} of {t}");
                }
            }
        }
    }

    #[test]
    fn tiles_cover_what_the_mask_shows_once() {
        for t in [1, 15, 16, 17, 63, 64, 65, 150] {
            let packed: Vec<i64> = (0..t as i64).map(|i| i / 40).collect();
            let prefixes: Vec<i64> = (0..t as i64).map(|i| i / 50 * 50 + 23).collect();
            let mixed: Vec<i64> = (0..t as i64).map(|i| i * 7 % 3).collect();
            for block in [32, 64] {
                for causal in [false, true] {
                    for documents in [None, Some(&packed), Some(&mixed)] {
                        for reach in [None, Some(&prefixes)] {
                            let (documents, reach) = (documents.cloned(), reach.cloned());
                            check(&HostMask { causal, documents, reach }, t, block);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn tiles_of_other_documents_are_not_visited() {
        let documents: Vec<i64> = (0..256).map(|i| i / 64).collect();
        let mask = HostMask { causal: false, documents: Some(documents), reach: None };
        let tiles: Vec<_> = Mask::new(&mask, 0, 256).tiles(64, 64).collect();
        assert_eq!(tiles, [Tile { key: 64, keys: 64, lane: 0, masked: false }]);
    }
}
