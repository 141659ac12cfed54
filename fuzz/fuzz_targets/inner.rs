//! Fuzz target `inner`: see `targets::inner_node`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapfs_fuzz::targets::inner_node(bytes));
