//! Fuzz target `space_map`: see `targets::space_map_block`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapfs_fuzz::targets::space_map_block(bytes));
