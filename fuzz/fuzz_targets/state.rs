#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(astropt_fuzz::state(bytes)));
