//! Fuzz target `records`: see `targets::records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapfs_fuzz::targets::records(bytes));
