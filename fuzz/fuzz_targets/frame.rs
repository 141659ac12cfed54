//! Fuzz target `frame`: see `targets::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapfs_fuzz::targets::frame(bytes));
