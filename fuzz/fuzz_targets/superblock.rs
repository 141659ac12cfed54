//! Fuzz target `superblock`: see `targets::superblock`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapfs_fuzz::targets::superblock(bytes));
