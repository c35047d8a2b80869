//! How long the pieces of training take, to stop in time for a walltime.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::stop;

/// Steps whose times are remembered: the first of a run, which may compile kernels, are forgotten.
const REMEMBERED: usize = 32;
/// What a piece may take beyond the longest that was measured.
const MARGIN: f64 = 1.25;
/// What the end of a process takes beside.
const END: Duration = Duration::from_secs(1);

/// A piece of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// An optimiser step.
    Step,
    /// An evaluation, with the best model saved and previews drawn.
    Evaluation,
    /// A checkpoint.
    Save,
}

/// The longest of the last times of each piece.
#[derive(Debug, Default)]
pub(super) struct Pace {
    steps: VecDeque<Duration>,
    evaluation: Duration,
    save: Duration,
}

impl Pace {
    /// Remembers that a piece took from `started` to now.
    pub(super) fn took(&mut self, piece: Piece, started: Instant) {
        let time = started.elapsed();
        match piece {
            Piece::Step => {
                if self.steps.len() == REMEMBERED {
                    self.steps.pop_front();
                }
                self.steps.push_back(time);
            }
            Piece::Evaluation => self.evaluation = self.evaluation.max(time),
            Piece::Save => self.save = self.save.max(time),
        }
    }

    /// Whether one more step, with an evaluation after it where `evaluates`, and a checkpoint
    /// would pass the walltime, as far as was measured.
    pub(super) fn out_of_time(&self, evaluates: bool) -> bool {
        stop::time_left().is_some_and(|left| left < self.ahead(evaluates))
    }

    fn ahead(&self, evaluates: bool) -> Duration {
        let step = self.steps.iter().max().copied().unwrap_or_default();
        let evaluation = if evaluates { self.evaluation } else { Duration::ZERO };
        (step + evaluation + self.save).mul_f64(MARGIN) + END
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ahead_is_what_was_measured() {
        let ago = |ms: u64| Instant::now() - Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert_eq!(pace.ahead(true), END);
        pace.took(Piece::Step, ago(60_000)); // compiles
        pace.took(Piece::Evaluation, ago(8_000));
        pace.took(Piece::Save, ago(2_000));
        assert!(pace.ahead(false) >= Duration::from_millis(78_500));
        for _ in 0..REMEMBERED {
            pace.took(Piece::Step, ago(100));
        }
        let (plain, evaluating) = (pace.ahead(false), pace.ahead(true));
        assert!((3.6..4.0).contains(&plain.as_secs_f64()), "{plain:?}");
        assert!((13.6..14.0).contains(&evaluating.as_secs_f64()), "{evaluating:?}");
    }
}
