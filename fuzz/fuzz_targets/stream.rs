//! Fuzz target `stream`: see `targets::stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapfs_fuzz::targets::stream::stream(bytes));
