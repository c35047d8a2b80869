//! Stopping: on a signal, where the first asks the work to finish its step and save and the second
//! ends the process at once, and ahead of a limit of time.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::error::{Error, Result};
use crate::progress;

/// The signal that asked; 0 before one did.
static ASKED: AtomicI32 = AtomicI32::new(0);
static WALLTIME: OnceLock<Walltime> = OnceLock::new();

/// How soon after the first signal another is taken for the same wish: `timeout` and launchers signal a
/// process and then its group.
const SAME: Duration = Duration::from_millis(300);
/// Added to a signal's number, the exit code of a process that it ended.
const ENDED_BY: i32 = 128;
/// What is left of a walltime when work that saves nothing on its way stops: a share of it, at
/// most so long.
const RESERVE: (u32, Duration) = (50, Duration::from_secs(30));

/// A limit of time.
#[derive(Clone, Copy, Debug)]
struct Walltime {
    started: Instant,
    limit: Duration,
}

/// Makes a write past the limit on the size of files (`ulimit -f`) fail, which is told, where it would
/// end the process without a word. Called once, by the program.
///
/// # Errors
/// When the operating system refuses.
pub fn outlive_file_limits() -> Result<()> {
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map(drop).map_err(failed)
}

/// Listens for SIGINT, SIGTERM and, unless `nohup` or its like started the program, SIGHUP. Called
/// once, by the program.
///
/// # Errors
/// When the operating system refuses.
pub fn listen() -> Result<()> {
    let heard = [SIGINT, SIGTERM].into_iter().chain((!ignores_hangups()).then_some(SIGHUP));
    let mut signals = Signals::new(heard).map_err(failed)?;
    let listens = std::thread::Builder::new().name("signals".into());
    let heard = move || {
        let mut first = None;
        signals.forever().for_each(|signal| ask(signal, *first.get_or_insert_with(Instant::now)));
    };
    listens.spawn(heard).map(drop).map_err(failed)
}

fn failed(error: std::io::Error) -> Error {
    Error::Failed(format!("cannot listen for signals: {error}"))
}

fn ask(signal: i32, first: Instant) {
    match ASKED.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => {
            progress::say("stopping once what is under way is kept; once more to stop at once")
        }
        // A terminal that closes sends it more than once, of itself and by its shell.
        _ if signal == SIGHUP || first.elapsed() < SAME => {}
        _ => end_at_once(ENDED_BY + signal),
    }
}

/// Ends the process while other threads compute: nothing is done of what libraries do when a process
/// ends in good order, for libtorch takes down what those threads use.
pub(crate) fn end_at_once(code: i32) -> ! {
    signal_hook::low_level::exit(code)
}

/// Whether the process was started to live on when its terminal closes, as Linux tells it; elsewhere
/// it is taken to be so.
fn ignores_hangups() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return true };
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_none_or(|mask| mask >> (SIGHUP - 1) & 1 == 1)
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
    ASKED.load(Ordering::SeqCst) != 0 || WALLTIME.get().is_some_and(over)
}

/// The error that work ends with where it was [`asked`] to stop: `stopped` with what asked, then
/// `rest`, such as ` before training began`.
pub fn stopped(rest: &str) -> Error {
    let by = match (ASKED.load(Ordering::SeqCst), WALLTIME.get()) {
        (SIGTERM, _) => " by SIGTERM".to_owned(),
        (SIGHUP, _) => " by SIGHUP, as its terminal closed,".to_owned(),
        (0, Some(walltime)) => {
            format!(" ahead of the walltime of {}", humantime::format_duration(walltime.limit))
        }
        _ => String::new(),
    };
    Error::Interrupted(format!("stopped{by}{rest}"))
}
