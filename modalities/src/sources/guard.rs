//! The one place where a panic of a file-format library is caught.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `f`, a call into a library that reads a damaged file for all we know, answers.
///
/// The libraries behind the sources check what they read, but index slices on the way; a
/// mistake in one must not end a run of days over one damaged file. Nothing that `f` touches
/// may be used after a panic, which holds as every reader is dropped with its error.
///
/// # Errors
/// When it panics.
pub(crate) fn guarded<T>(f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| {
        Err("the decoder gave up; the file is damaged or cut short: fetch it again or remove it"
            .to_owned())
    })
}
