//! Runs of rows that lie in the same chunks, decoded once and kept for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use astropt_core::observation::Data;

/// Decoded runs, the one used last first.
#[derive(Default)]
pub(super) struct Bands {
    held: usize,
    bands: Mutex<VecDeque<(Key, Slot)>>,
}

/// File, field and run.
pub(super) type Key = (usize, usize, usize);

/// A run that one thread decodes while others that want it wait.
type Slot = Arc<Mutex<Option<Arc<Data>>>>;

impl Bands {
    /// Keeps up to `held` runs.
    pub(super) fn new(held: usize) -> Self {
        Self { held: held.max(1), bands: Mutex::default() }
    }

    /// The run `key`, made by `decode` unless it is kept.
    ///
    /// # Errors
    /// Those of `decode`; nothing is kept of a failure.
    pub(super) fn get(
        &self,
        key: Key,
        decode: impl FnOnce() -> Result<Data, String>,
    ) -> Result<Arc<Data>, String> {
        let slot = {
            let mut bands = self.bands.lock().unwrap_or_else(PoisonError::into_inner);
            let known = bands.iter().position(|(k, _)| *k == key).and_then(|k| bands.remove(k));
            let band = known.unwrap_or_else(|| (key, Slot::default()));
            let slot = band.1.clone();
            bands.push_front(band);
            bands.truncate(self.held);
            slot
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(data) = &*slot {
            return Ok(data.clone());
        }
        let data = Arc::new(decode()?);
        *slot = Some(data.clone());
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_decoded_once_while_it_is_kept() {
        let bands = Bands::new(2);
        let mut decoded = Vec::new();
        for band in [0, 1, 0, 1, 2, 1, 0] {
            let data = bands.get((0, 0, band), || {
                decoded.push(band);
                Ok(Data::U8(vec![band as u8]))
            });
            assert_eq!(*data.expect("decoded"), Data::U8(vec![band as u8]));
        }
        assert_eq!(decoded, [0, 1, 2, 0]);
        assert!(bands.get((1, 0, 0), || Err("damaged".to_owned())).is_err());
        assert!(bands.get((1, 0, 0), || Ok(Data::U8(vec![7]))).is_ok());
    }
}
