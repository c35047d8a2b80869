//! When checkpoints are saved, and which stay.

use serde::{Deserialize, Serialize};

/// Most checkpoints that a schedule may ask for.
const MAX_SAVES: u64 = 1_000_000;
/// Longest time between checkpoints, in minutes: a year.
const MOST_MINUTES: f64 = 525_600.0;

/// `[train.checkpoints]`: steps to save after, the union of what is set, and which of them stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSchedule {
    /// Every so many steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// So many steps, evenly spaced in the logarithm of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<u64>,
    /// So many steps, evenly spaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub even: Option<u64>,
    /// These steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<Vec<u64>>,
    /// How many of the last to keep, beside the best and the last that a step was taken from, which
    /// shows that it is sound; unset, all are kept. Where `probe.checkpoints` asks for probes through
    /// training, all are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u64>,
    /// Of those that `keep` would delete, keep one every so many steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_every: Option<u64>,
    /// Save, too, when the last checkpoint is so old, in minutes of training; such a one goes when
    /// the next stands. 0: never.
    #[serde(default = "minutes")]
    pub minutes: f64,
}

fn minutes() -> f64 {
    30.0
}

impl Default for CheckpointSchedule {
    fn default() -> Self {
        Self {
            every: None,
            log: None,
            even: None,
            list: None,
            keep: None,
            keep_every: None,
            minutes: minutes(),
        }
    }
}

impl CheckpointSchedule {
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        let counts = [
            ("every", self.every, u64::MAX),
            ("even", self.even, MAX_SAVES),
            ("log", self.log, MAX_SAVES),
            ("keep", self.keep, u64::MAX),
            ("keep_every", self.keep_every, u64::MAX),
        ];
        for (key, count, most) in counts {
            if count.is_some_and(|count| count == 0 || count > most) {
                let message = format!("{key} must lie between 1 and {most}");
                return Err(("checkpoints", message));
            }
        }
        if !(0.0..=MOST_MINUTES).contains(&self.minutes) {
            let message = format!("minutes must lie between 0 and {MOST_MINUTES}");
            return Err(("checkpoints", message));
        }
        if self.keep_every.is_some() && self.keep.is_none() {
            let message = "keep_every spares checkpoints that keep would delete: set keep too";
            return Err(("checkpoints", message.into()));
        }
        Ok(())
    }

    /// The steps after which to save in a run of `steps`: sorted, without repeats, 0 and
    /// `steps` always among them.
    pub fn steps(&self, steps: u64) -> Vec<u64> {
        let mut out = vec![0, steps];
        if let Some(every) = self.every.filter(|&every| every > 0) {
            out.extend((0..steps).step_by(every as usize));
        }
        if let Some(count) = self.even {
            out.extend((1..=count).map(|k| steps * k / count));
        }
        if let Some(count) = self.log {
            let at = |k: u64| (steps as f64).powf(k as f64 / count as f64).round() as u64;
            out.extend((0..=count).map(at));
        }
        out.extend(self.list.iter().flatten());
        out.retain(|&step| step <= steps);
        out.sort_unstable();
        out.dedup();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoint_schedules_hold_first_and_last() {
        let schedule =
            |text: &str| -> CheckpointSchedule { toml::from_str(text).expect("a valid schedule") };
        assert_eq!(schedule("").steps(10), [0, 10]);
        assert_eq!(schedule("every = 4").steps(10), [0, 4, 8, 10]);
        assert_eq!(schedule("even = 4").steps(100), [0, 25, 50, 75, 100]);
        assert_eq!(schedule("log = 3").steps(1000), [0, 1, 10, 100, 1000]);
        assert_eq!(schedule("list = [3, 70]").steps(10), [0, 3, 10]);
        assert_eq!(schedule("every = 5\nlist = [5, 7]").steps(10), [0, 5, 7, 10]);
        assert!(schedule("keep = 1").check().is_ok());
        for wrong in [
            "keep = 0",
            "keep_every = 5",
            "keep = 2\nkeep_every = 0",
            "minutes = -1.0",
            "minutes = nan",
        ] {
            assert!(schedule(wrong).check().is_err(), "{wrong}");
        }
    }
}
