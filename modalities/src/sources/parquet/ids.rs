//! Ids of all objects, where a column holds them.

use astropt_core::{Error, Result};

use super::schema::Found;
use super::shard::Rows;
use crate::sources::tabular::{Cell, cell};

/// Ids by index, in as little memory as they take.
#[derive(Debug)]
pub(super) enum Ids {
    /// Integers are kept whole: survey ids pass what a double can hold.
    Integers(Vec<i64>),
    Texts {
        text: String,
        ends: Vec<u64>,
    },
}

impl Ids {
    pub(super) fn new() -> Self {
        Self::Integers(Vec::new())
    }

    pub(super) fn get(&self, index: usize) -> Option<String> {
        match self {
            Self::Integers(ids) => ids.get(index).map(i64::to_string),
            Self::Texts { text, ends } => {
                let start = index.checked_sub(1).map_or(Some(0), |k| ends.get(k).copied())?;
                text.get(start as usize..*ends.get(index)? as usize).map(str::to_owned)
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Integers(ids) => ids.len(),
            Self::Texts { ends, .. } => ends.len(),
        }
    }

    /// Adds the ids in the column `found` of `rows`.
    ///
    /// # Errors
    /// The row, counted from 0, that has none.
    pub(super) fn extend(&mut self, rows: &Rows, found: &Found) -> Result<(), usize> {
        let (top, path) = found.path.split_first().ok_or(0usize)?;
        for row in 0..rows.len() {
            let (column, at) = rows.column(top, row).ok_or(row)?;
            match super::table::descend(column, path, at).map(|column| cell(column, at)) {
                Some(Cell::Integer(id)) => self.push_integer(id),
                Some(Cell::Number(id)) if id.is_finite() => self.push_text(&id.to_string()),
                Some(Cell::Text(id)) if !id.is_empty() => self.push_text(id),
                _ => return Err(row),
            }
        }
        Ok(())
    }

    fn push_integer(&mut self, id: i128) {
        match (&mut *self, i64::try_from(id)) {
            (Self::Integers(ids), Ok(id)) => ids.push(id),
            _ => self.push_text(&id.to_string()),
        }
    }

    fn push_text(&mut self, id: &str) {
        if let Self::Integers(ids) = self {
            let ids = std::mem::take(ids);
            *self = Self::Texts { text: String::new(), ends: Vec::new() };
            ids.iter().for_each(|id| self.push_text(&id.to_string()));
        }
        if let Self::Texts { text, ends } = self {
            text.push_str(id);
            ends.push(text.len() as u64);
        }
    }

    /// Checks that no id occurs twice.
    ///
    /// # Errors
    /// The id that does.
    pub(super) fn check_unique(&self) -> Result<()> {
        use std::hash::BuildHasher;
        let hasher = std::hash::RandomState::new();
        let hash = |index: usize| hasher.hash_one(self.get(index));
        let mut hashes: Vec<(u64, u32)> =
            (0..self.len()).map(|index| (hash(index), index as u32)).collect();
        hashes.sort_unstable();
        let twice = hashes.windows(2).find_map(|pair| {
            let (a, b) = (self.get(pair[0].1 as usize)?, self.get(pair[1].1 as usize)?);
            (a == b).then_some((a, pair[0].1, pair[1].1))
        });
        match twice {
            None => Ok(()),
            Some((id, a, b)) => Err(Error::Failed(format!(
                "the id {id:?} occurs twice, in rows {a} and {b} of the table (counted from 0, \
                 through all shards); name another column with `id`, or leave the key out"
            ))),
        }
    }
}
