#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| astropt_fuzz::attack(astropt_fuzz::emergence, bytes));
