//! Which checkpoints stay, and how the others go: never in a way that a crash could leave half of
//! one under a checkpoint's name, and never before a later one is known to be whole.

use super::folder::RunFolder;
use super::saved::Saved;
use crate::checkpoint::files::remove_folder;
use crate::error::Result;
use crate::progress;
use crate::recipe::CheckpointSchedule;

impl RunFolder {
    /// Deletes the checkpoint of the lowest validation loss, where there is one.
    ///
    /// # Errors
    /// When it is damaged or cannot be deleted.
    pub(crate) fn forget_best(&self) -> Result<()> {
        self.best()?.map_or(Ok(()), |best| remove_folder(&best.path))
    }

    /// Deletes the checkpoints that `schedule` does not keep, and those of earlier stops; where
    /// `all_needed` (probes through training read them), only the latter. The last one stays, and
    /// when that is damaged nothing is deleted.
    ///
    /// # Errors
    /// When the folder cannot be read or a checkpoint not be deleted.
    pub(crate) fn prune(&self, schedule: &CheckpointSchedule, all_needed: bool) -> Result<()> {
        let mut older = self.checkpoints()?;
        let Some(last) = older.pop() else { return Ok(()) };
        let (between, scheduled): (Vec<Saved>, Vec<Saved>) =
            older.into_iter().partition(|saved| saved.state().is_ok_and(|state| state.between));
        let mut gone = between;
        if let Some(keep) = schedule.keep.filter(|_| !all_needed) {
            // The last one counts.
            let kept = usize::try_from(keep).unwrap_or(usize::MAX).saturating_sub(1);
            let count = scheduled.len().saturating_sub(kept);
            let for_good = |saved: &Saved| {
                schedule.keep_every.is_some_and(|every| saved.step.is_multiple_of(every.max(1)))
            };
            gone.extend(scheduled.into_iter().take(count).filter(|saved| !for_good(saved)));
        }
        if gone.is_empty() {
            return Ok(());
        }
        if let Err(error) = last.verify() {
            progress::warn(&format!("no checkpoint is deleted, as the last is damaged: {error}"));
            return Ok(());
        }
        gone.iter().try_for_each(|saved| remove_folder(&saved.path))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::saved::TrainState;
    use super::*;
    use crate::checkpoint::{checksums, format, write_bytes};

    fn checkpoint(run: &Path, step: u64, between: bool) {
        let path = run.join(format!("checkpoints/step-{step:06}"));
        std::fs::create_dir_all(&path).expect("made");
        let state = TrainState { step, between, ..TrainState::default() };
        let text = format::to_json(&state).expect("JSON");
        write_bytes(path.join("state.json"), text.as_bytes()).expect("written");
        checksums::write(&path, &["state.json"]).expect("written");
    }

    fn steps(run: &RunFolder) -> Vec<u64> {
        run.checkpoints().expect("readable").iter().map(|saved| saved.step).collect()
    }

    #[test]
    fn the_last_stay_and_those_that_something_needs() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunFolder::locked(folder.path()).expect("locked");
        let schedule = |text: &str| toml::from_str::<CheckpointSchedule>(text).expect("valid");
        for step in [0, 2, 3, 4, 6, 8] {
            checkpoint(folder.path(), step, step == 3);
        }
        checkpoint(folder.path(), 8, true);
        // Nothing to delete but what a stop saved between; the last is one too, and stays.
        run.prune(&schedule(""), false).expect("pruned");
        assert_eq!(steps(&run), [0, 2, 4, 6, 8]);
        run.prune(&schedule("keep = 1"), true).expect("pruned");
        assert_eq!(steps(&run), [0, 2, 4, 6, 8], "probes through training need them");
        run.prune(&schedule("keep = 3\nkeep_every = 4"), false).expect("pruned");
        assert_eq!(steps(&run), [0, 4, 6, 8]);
        // The last is the only one that is kept, and it is damaged.
        let last = folder.path().join("checkpoints/step-000008/state.json");
        let text = std::fs::read(&last).expect("readable");
        std::fs::write(&last, "{}").expect("written");
        run.prune(&schedule("keep = 1"), false).expect("pruned");
        assert_eq!(steps(&run), [0, 4, 6, 8]);
        std::fs::write(&last, text).expect("mended");
        run.prune(&schedule("keep = 1"), false).expect("pruned");
        assert_eq!(steps(&run), [8]);
        let left = std::fs::read_dir(folder.path().join("checkpoints")).expect("readable").count();
        assert_eq!(left, 1, "nothing hidden is left");
    }
}
