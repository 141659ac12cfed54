//! Fuzz target `mount_options`: see `targets::mount_options`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapfs_fuzz::targets::mount_options(bytes));
