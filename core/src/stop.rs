//! Stopping: on SIGINT and SIGTERM, where the first asks the work to finish its step and save and
//! the second ends the process at once, and ahead of a limit of time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::progress;

static ASKED: AtomicBool = AtomicBool::new(false);
static WALLTIME: OnceLock<Walltime> = OnceLock::new();

/// Exit code of a process stopped by a second signal (128 + SIGINT).
const INTERRUPTED: i32 = 130;
/// What is left of a walltime when work that saves nothing on its way stops: a share of it, at
/// most so long.
const RESERVE: (u32, Duration) = (50, Duration::from_secs(30));

/// A limit of time.
#[derive(Clone, Copy, Debug)]
struct Walltime {
    started: Instant,
    limit: Duration,
}

/// Listens for the signals. Called once, by the program.
///
/// # Errors
/// When the operating system refuses.
pub fn listen() -> Result<()> {
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED);
        }
        progress::say("stopping once what is under way is kept; once more to stop at once");
    })
    .map_err(|e| Error::Failed(format!("cannot listen for interrupts: {e}")))
}

/// Stops work ahead of `limit` from now on. Called once, by the program.
pub fn set_walltime(limit: Duration) {
    let _ = WALLTIME.set(Walltime { started: Instant::now(), limit });
}

/// What is left of the walltime; `None` without one.
pub fn time_left() -> Option<Duration> {
    WALLTIME.get().map(|walltime| walltime.limit.saturating_sub(walltime.started.elapsed()))
}

/// Whether the user has asked to stop, or the walltime is all but over.
pub fn asked() -> bool {
    let over = |walltime: &Walltime| {
        let reserve = (walltime.limit / RESERVE.0).min(RESERVE.1);
        walltime.started.elapsed() + reserve >= walltime.limit
    };
    ASKED.load(Ordering::SeqCst) || WALLTIME.get().is_some_and(over)
}

/// Why work stops, as a part of a sentence: ` ahead of the walltime of 3h 50m`, or nothing where a
/// signal asked.
pub fn reason() -> String {
    match WALLTIME.get() {
        Some(walltime) if !ASKED.load(Ordering::SeqCst) => {
            format!(" ahead of the walltime of {}", humantime::format_duration(walltime.limit))
        }
        _ => String::new(),
    }
}

/// Stops between two pieces of work, where that was asked; `how` says how to go on.
///
/// # Errors
/// [`Error::Interrupted`] where it was.
pub fn check(before: &str, how: &str) -> Result<()> {
    if asked() {
        return Err(Error::Interrupted(format!("stopped{} before {before}; {how}", reason())));
    }
    Ok(())
}
