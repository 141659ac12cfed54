//! Fuzz target `request`: see `targets::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapfs_fuzz::targets::request(bytes));
