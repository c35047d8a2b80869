//! Which checkpoints stay, and how the others go: never in a way that a crash could leave half of
//! one under a checkpoint's name, and never before a later one is known to be whole and sound.

use std::path::Path;

use super::folder::RunFolder;
use super::saved::{Saved, name_of};
use crate::checkpoint::files::{remove_folder, write_folder_atomic};
use crate::error::{Error, Result};
use crate::progress;
use crate::recipe::CheckpointSchedule;

impl RunFolder {
    /// Makes `saved`, the best model or a checkpoint, the last checkpoint: what was saved after it
    /// is deleted, the newest first, so that whatever is left is what a run goes on from.
    ///
    /// # Errors
    /// When a checkpoint is damaged or cannot be deleted.
    pub(crate) fn back_to(&self, saved: &Saved) -> Result<()> {
        let best = self.best()?;
        if best.as_ref().is_some_and(|best| best.path == saved.path) {
            let place = saved.path.with_file_name(name_of(saved.step));
            write_folder_atomic(&place, |folder| copy_files(&saved.path, folder))?;
        }
        // A best model of the steps that are undone makes room for the next.
        let later = self.checkpoints()?.into_iter().rev().chain(best);
        let mut later = later.filter(|other| other.step > saved.step);
        later.try_for_each(|other| remove_folder(&other.path))
    }

    /// Deletes the checkpoints that `schedule` does not keep, and those of earlier stops; where
    /// `all_needed` (probes through training read them), only the latter. The last one stays, and
    /// when that is damaged nothing is deleted. Until a step later than the last one was `taken`,
    /// which shows that its model is sound, the last that is known to be stays too.
    ///
    /// # Errors
    /// When the folder cannot be read or a checkpoint not be deleted.
    pub(crate) fn prune(
        &self,
        schedule: &CheckpointSchedule,
        all_needed: bool,
        taken: u64,
    ) -> Result<()> {
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
            let sound = scheduled.iter().rfind(|saved| saved.step < taken && last.step >= taken);
            let sound = sound.map(|saved| saved.step);
            let stays = |saved: &Saved| for_good(saved) || Some(saved.step) == sound;
            gone.extend(scheduled.into_iter().take(count).filter(|saved| !stays(saved)));
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

/// Copies the files of one folder into another.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("copy", from, &e);
    for entry in std::fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        std::fs::copy(entry.path(), to.join(entry.file_name())).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        run.prune(&schedule(""), false, 8).expect("pruned");
        assert_eq!(steps(&run), [0, 2, 4, 6, 8]);
        run.prune(&schedule("keep = 1"), true, 9).expect("pruned");
        assert_eq!(steps(&run), [0, 2, 4, 6, 8], "probes through training need them");
        run.prune(&schedule("keep = 3\nkeep_every = 4"), false, 8).expect("pruned");
        assert_eq!(steps(&run), [0, 4, 6, 8]);
        // The last is the only one that is kept, and it is damaged.
        let last = folder.path().join("checkpoints/step-000008/state.json");
        let text = std::fs::read(&last).expect("readable");
        std::fs::write(&last, "{}").expect("written");
        run.prune(&schedule("keep = 1"), false, 9).expect("pruned");
        assert_eq!(steps(&run), [0, 4, 6, 8]);
        std::fs::write(&last, text).expect("mended");
        // No step was taken from the last yet: the one before is the last that is known to be sound.
        run.prune(&schedule("keep = 1"), false, 8).expect("pruned");
        assert_eq!(steps(&run), [6, 8]);
        run.prune(&schedule("keep = 1"), false, 9).expect("pruned");
        assert_eq!(steps(&run), [8]);
        let left = std::fs::read_dir(folder.path().join("checkpoints")).expect("readable").count();
        assert_eq!(left, 1, "nothing hidden is left");
    }

    /// What comes after the model that a run goes back to is gone, and that model is a checkpoint.
    #[test]
    fn going_back_leaves_nothing_that_came_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunFolder::locked(folder.path()).expect("locked");
        [0, 2, 4, 6].into_iter().for_each(|step| checkpoint(folder.path(), step, false));
        let checkpoints = folder.path().join("checkpoints");
        checkpoint(folder.path(), 3, false);
        std::fs::rename(checkpoints.join("step-000003"), checkpoints.join("best")).expect("moved");
        let best = || run.best().expect("readable");
        run.back_to(&run.checkpoint("4").expect("there")).expect("gone back");
        assert_eq!(steps(&run), [0, 2, 4]);
        run.back_to(&best().expect("there")).expect("gone back");
        assert_eq!(steps(&run), [0, 2, 3]);
        run.checkpoint("3").expect("there").state().expect("whole");
        assert!(best().is_some(), "it is not of later steps");
        run.back_to(&run.checkpoint("0").expect("there")).expect("gone back");
        assert_eq!((steps(&run), best()), (vec![0], None));
    }
}
