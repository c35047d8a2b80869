//! What stands between libFuzzer and a target.

use std::alloc::System;
use std::panic::catch_unwind;
use std::sync::{Mutex, Once, PoisonError};

use cap::Cap;

use crate::Target;

/// More memory than any file of the fuzzer may take: an allocation beyond it ends the process,
/// also one that is never written to, which libFuzzer does not see.
const MEMORY: usize = 2 << 30;

#[global_allocator]
static MEMORY_USED: Cap<System> = Cap::new(System, MEMORY);

/// What the last panic said, and where.
static LAST: Mutex<String> = Mutex::new(String::new());

/// Gives `bytes` to `target`; a panic that comes out of it ends the process.
///
/// libFuzzer's own hook ends the process at any panic. Readers catch those of the file-format
/// libraries and answer with an error, which is as it should be.
pub fn attack(target: Target, bytes: &[u8]) {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            *LAST.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
        }));
    });
    if catch_unwind(|| drop(target(bytes))).is_err() {
        eprintln!("{}", LAST.lock().unwrap_or_else(PoisonError::into_inner));
        std::process::abort();
    }
}
