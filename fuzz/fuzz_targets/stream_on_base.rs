//! Fuzz target `stream_on_base`: see `targets::stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapfs_fuzz::targets::stream::stream_on_base(bytes));
