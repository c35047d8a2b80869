//! Which tiles of queries and keys are visited, and what is hidden within them.

/// Keys per tile on the diagonal; a multiple of every vector's length.
const STEP: usize = 16;

/// The mask of one row of the batch.
#[derive(Clone, Copy)]
pub(super) struct Mask<'a> {
    causal: bool,
    /// Document of every token.
    documents: Option<&'a [i64]>,
    t: usize,
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
    pub(super) fn new(causal: bool, documents: Option<&'a [i64]>, row: usize, t: usize) -> Self {
        Self { causal, documents: documents.map(|all| &all[row * t..][..t]), t }
    }

    /// The tiles of the block of `block` queries from `query` on.
    pub(super) fn tiles(self, query: usize, block: usize) -> impl Iterator<Item = Tile> {
        let end = (query + block).min(self.t);
        let last = if self.causal { end } else { self.t };
        (0..last).step_by(block).flat_map(move |key| {
            let diagonal = self.causal && key == query;
            let step = if diagonal { STEP } else { block };
            let until = (key + block).min(self.t);
            (key..until).step_by(step).filter_map(move |key| {
                let keys = step.min(until - key);
                let lane = if diagonal { key - query } else { 0 };
                let (seen, all) = self.overlap(query..end, key..key + keys);
                seen.then_some(Tile { key, keys, lane, masked: diagonal || !all })
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
                row[tile.lane.min(before)..before].fill(value);
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
    fn check(causal: bool, documents: Option<&[i64]>, t: usize, block: usize) {
        let mask = Mask::new(causal, documents, 0, t);
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
                    let visible = (!causal || key <= q)
                        && documents.is_none_or(|documents| documents[key] == documents[q]);
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
            let mixed: Vec<i64> = (0..t as i64).map(|i| i * 7 % 3).collect();
            for block in [32, 64] {
                for causal in [false, true] {
                    check(causal, None, t, block);
                    check(causal, Some(&packed), t, block);
                    check(causal, Some(&mixed), t, block);
                }
            }
        }
    }

    #[test]
    fn tiles_of_other_documents_are_not_visited() {
        let documents: Vec<i64> = (0..256).map(|i| i / 64).collect();
        let tiles: Vec<_> = Mask::new(false, Some(&documents), 0, 256).tiles(64, 64).collect();
        assert_eq!(tiles, [Tile { key: 64, keys: 64, lane: 0, masked: false }]);
    }
}
