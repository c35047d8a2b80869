//! What a person sees of long work: a bar with rate and time left on a terminal, plain
//! lines elsewhere. All of it goes to standard error.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// What is told: all of it, warnings, or nothing.
static TOLD: AtomicU8 = AtomicU8::new(ALL);
const ALL: u8 = 2;
const WARNINGS: u8 = 1;
const NOTHING: u8 = 0;

/// The bar that stands on the terminal: lines go above it.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Silences all but warnings (`--quiet`).
pub fn set_quiet(quiet: bool) {
    TOLD.store(if quiet { WARNINGS } else { ALL }, Ordering::Relaxed);
}

/// Silences warnings too: where several processes work together, one of them talks.
pub(crate) fn set_silent() {
    TOLD.store(NOTHING, Ordering::Relaxed);
}

fn quiet() -> bool {
    TOLD.load(Ordering::Relaxed) < ALL
}

/// A line to a person.
pub fn say(line: &str) {
    if !quiet() {
        put(line);
    }
}

/// A line that a person must see, `--quiet` or not: what goes on is other than they may think.
pub fn warn(line: &str) {
    if TOLD.load(Ordering::Relaxed) >= WARNINGS {
        put(&format!("warning: {line}"));
    }
}

/// Writes a line above the bar. A terminal that is closed by now stops no work.
fn put(line: &str) {
    let write = || drop(writeln!(std::io::stderr(), "{line}"));
    match &*SHOWN.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

fn show(bar: Option<ProgressBar>) {
    *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

/// Progress of one piece of work with a known number of items.
pub struct Progress {
    bar: ProgressBar,
    label: &'static str,
    total: u64,
    first: u64,
    started: Instant,
    spoken: Option<Instant>,
}

impl Progress {
    /// Work called `label` on `total` items, `first` of which are done already.
    pub fn new(label: &'static str, total: u64, first: u64) -> Self {
        let shown = std::io::stderr().is_terminal() && !quiet();
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg}") {
            bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
        bar.set_prefix(label);
        bar.set_position(first);
        if shown {
            show(Some(bar.clone()));
        }
        Self { bar, label, total, first, started: Instant::now(), spoken: None }
    }

    /// `done` items are done; `detail` says what a person wants to know of them.
    pub fn update(&mut self, done: u64, detail: &str) {
        let left = self.time_left(done);
        self.bar.set_position(done);
        self.bar.set_message(format!("{detail} {left} left"));
        let due = self.spoken.is_none_or(|at| at.elapsed() >= PLAIN_EVERY);
        if self.bar.is_hidden() && !quiet() && due {
            self.spoken = Some(Instant::now());
            put(&format!("{} {done}/{} {detail} {left} left", self.label, self.total));
        }
    }

    fn time_left(&self, done: u64) -> String {
        let fresh = done.saturating_sub(self.first);
        if fresh == 0 {
            return "?".into();
        }
        let per_item = self.started.elapsed().as_secs_f64() / fresh as f64;
        duration(per_item * self.total.saturating_sub(done) as f64)
    }

    /// Takes the bar away and leaves a line.
    pub fn finish(self, line: &str) {
        drop(self);
        say(line);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if !self.bar.is_hidden() {
            show(None);
        }
        self.bar.finish_and_clear();
    }
}

/// Seconds as a person says them: `42s`, `3m20s`, `5h07m`, `2d04h`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

/// A large number as a person says it: `12.3k`, `4.56M`, `7.89G`.
pub fn quantity(number: f64) -> String {
    let units = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = number;
    let mut unit = 0;
    while value.abs() >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value.abs() >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_quantities_read_well() {
        assert_eq!(duration(41.6), "42s");
        assert_eq!(duration(200.0), "3m20s");
        assert_eq!(duration(18_420.0), "5h07m");
        assert_eq!(duration(187_200.0), "2d04h");
        assert_eq!(quantity(950.0), "950");
        assert_eq!(quantity(12_345.0), "12.3k");
        assert_eq!(quantity(207e9), "207G");
    }
}
