//! Fuzz target `deadlist`: see `targets::dead_list`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapfs_fuzz::targets::dead_list(bytes));
