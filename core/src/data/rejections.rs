//! Unusable objects that several processes met, known to all.

use std::collections::BTreeSet;

use super::dataset::{Dataset, Rejected};
use crate::error::{Error, Result};
use crate::parallel::{Ranks, settled};

/// The unusable objects that every process knows of.
#[derive(Debug, Default)]
pub(crate) struct SharedRejections {
    told: BTreeSet<String>,
}

impl SharedRejections {
    /// Whether this process has met some that the others do not know.
    pub(crate) fn has_news(&self, data: &Dataset) -> bool {
        data.rejected_count() != self.told.len()
    }

    /// Tells all processes what each has met.
    ///
    /// # Errors
    /// When they are too many together, or the processes cannot be reached.
    pub(crate) fn tell(&mut self, ranks: &dyn Ranks, data: &Dataset) -> Result<()> {
        if ranks.size() == 1 {
            return Ok(());
        }
        let wrong = |e: serde_json::Error| {
            Error::Failed(format!("cannot tell the other processes of unusable objects: {e}"))
        };
        let mine = serde_json::to_vec(&data.rejected_beside(&self.told)).map_err(wrong)?;
        let mut last = String::new();
        for bytes in ranks.share(&mine)? {
            let theirs: Rejected = serde_json::from_slice(&bytes).map_err(wrong)?;
            for (id, reason) in &theirs {
                if self.told.insert(id.clone()) {
                    last.clone_from(reason);
                }
            }
            data.resume_rejected(theirs);
        }
        // The same on every process, as are those told.
        match last.is_empty() {
            true => Ok(()),
            false => data.allow_rejected(self.told.len(), &last).map_err(settled),
        }
    }
}
