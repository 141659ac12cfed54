//! Fuzz target `log`: see `targets::log`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapfs_fuzz::targets::log(bytes));
