//! Fuzz target `leaf`: see `targets::leaf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapfs_fuzz::targets::leaf(bytes));
