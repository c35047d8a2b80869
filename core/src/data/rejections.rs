//! Unusable objects: those that several processes met, known to all, and too many of them.

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

/// `count` of `total` objects cannot be used, the last because of `error`.
pub(crate) fn too_many_rejected(
    count: usize,
    total: usize,
    error: &dyn std::fmt::Display,
) -> Error {
    let more = enough(count, total)
        .map(|share| format!(", or allow those met so far with --set train.max_rejected={share}"));
    Error::Failed(format!(
        "{count} of {total} objects cannot be used, more than train.max_rejected allows; the last: \
         {error}. If all are like this the recipe's modality does not fit the data; else mend the \
         data{}",
        more.unwrap_or_default()
    ))
}

/// The least share of one digit by which `count` of `total` may be left out; `None` where that is
/// more than half, which no data are worth.
fn enough(count: usize, total: usize) -> Option<f64> {
    let wanted = count as f64 / total as f64;
    let place = (-wanted.log10()).ceil().max(1.0) as i32;
    let shares = (1..=10).map(|digit| f64::from(digit) / 10f64.powi(place));
    let mut enough = shares.filter(|share| (share * total as f64) as usize >= count);
    enough.next().filter(|share| *share <= 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_advised_allows_what_was_met_and_no_more_than_half() {
        for (count, total, share) in [
            (3, 30, 0.1),
            (21, 100, 0.3),
            (1, 10, 0.1),
            (7, 1000, 0.007),
            (95, 1000, 0.1),
            (11, 8_474_000, 0.000_002),
            (49, 100, 0.5),
        ] {
            assert_eq!(enough(count, total), Some(share), "{count} of {total}");
        }
        assert_eq!(enough(51, 100), None);
        for total in 1..400 {
            for count in 1..=total {
                let allows = |share: f64| (share * total as f64) as usize >= count;
                assert!(enough(count, total).is_none_or(allows), "{count} of {total}");
            }
        }
        let said = |count| too_many_rejected(count, 10, &"torn").to_string();
        assert!(said(3).contains("train.max_rejected=0.3"), "{}", said(3));
        assert!(said(6).ends_with("else mend the data"), "{}", said(6));
    }
}
