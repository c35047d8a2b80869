//! Inputs that once did harm, in `found/TARGET/`: none does any more.

use std::alloc::System;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::Instant;

use astropt_fuzz::TARGETS;

/// More memory than any of these small files may take ends the process.
const MEMORY: usize = 2 << 30;
/// Seconds that one may take.
const PATIENCE: u64 = 20;

#[global_allocator]
static MEMORY_USED: cap::Cap<System> = cap::Cap::new(System, MEMORY);

#[test]
fn what_did_harm_is_answered() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("found");
    let mut known = 0;
    for (name, target) in TARGETS {
        let Ok(entries) = std::fs::read_dir(folder.join(name)) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            let bytes = std::fs::read(&path).expect("a readable input");
            let begun = Instant::now();
            let answer = catch_unwind(|| drop(target(&bytes)));
            assert!(answer.is_ok(), "{} panics", path.display());
            assert!(begun.elapsed().as_secs() < PATIENCE, "{} takes its time", path.display());
            known += 1;
        }
    }
    // Folders of names that are no target would never be read.
    let all = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let all: usize =
        all.map(|entry| std::fs::read_dir(entry.path()).map_or(0, Iterator::count)).sum();
    assert_eq!(known, all, "an input lies under the name of no target");
}
