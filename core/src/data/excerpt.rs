//! Objects of which parts are read, and what came of them.

use super::batch::{Batch, Row};
use crate::observation::Observation;

/// What of an object is read.
#[derive(Clone, Debug, Default)]
pub struct Excerpt {
    /// The spans of these modalities; of all when empty. An object that has none of them is
    /// left out.
    pub modalities: Vec<String>,
    /// Of what is left, so many tokens from the first on; all when `None`.
    pub tokens: Option<usize>,
}

impl Excerpt {
    /// Leaves of `row` what is read of it.
    pub(super) fn cut(&self, row: &mut Row) {
        row.retain(|(name, _)| self.modalities.is_empty() || self.modalities.contains(name));
        let Some(mut left) = self.tokens else { return };
        for (_, tokens) in row.iter_mut() {
            tokens.truncate(left);
            left -= tokens.len.min(left);
        }
        row.retain(|(_, tokens)| tokens.len > 0);
    }
}

/// Objects read, tokenised and chained.
pub struct Loaded {
    /// Their indices in the source.
    pub indices: Vec<u32>,
    /// The objects themselves.
    pub observations: Vec<Observation>,
    /// Their spans, with their ids.
    pub rows: Vec<(String, Row)>,
    /// The spans as the model reads them.
    pub batch: Batch,
}
