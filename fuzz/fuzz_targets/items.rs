//! Fuzz target `items`: see `targets::items`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapfs_fuzz::targets::items(bytes));
