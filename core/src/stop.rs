//! Stopping on SIGINT and SIGTERM: the first asks the work to finish its step and save,
//! the second ends the process at once.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::progress;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Exit code of a process stopped by a second signal (128 + SIGINT).
const INTERRUPTED: i32 = 130;

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

/// Whether the user has asked to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
