//! Tests that cross crates; see `tests/all/main.rs`.
