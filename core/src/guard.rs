//! The one place where a panic of a file-format library is caught.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What `f`, a call into a library that reads a damaged file for all we know, answers.
///
/// The libraries behind the readers check what they read, but index slices on the way; a
/// mistake in one must not end a run of days over one damaged file. Nothing that `f` touches
/// may be used after a panic, which holds as every reader is dropped with its error.
///
/// # Errors
/// When it panics.
pub fn guarded<T>(f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let outer = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(f));
    GUARDED.set(outer);
    done.unwrap_or_else(|_| {
        Err("the decoder gave up; the file is damaged or cut short: fetch it again or remove it"
            .to_owned())
    })
}

/// Whether a panic of this thread will be caught, so that nothing need be said of it.
pub(crate) fn is_guarded() -> bool {
    GUARDED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_next_one_is_told_of_again() {
        let slice: &[u8] = &[];
        let at = std::hint::black_box(3);
        let failed = guarded(|| Ok(slice[at]));
        assert!(failed.is_err_and(|e| e.contains("damaged")));
        assert!(!is_guarded());
        assert_eq!(guarded(|| guarded(|| Ok(is_guarded()))), Ok(true));
    }
}
