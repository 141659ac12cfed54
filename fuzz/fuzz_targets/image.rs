//! Fuzz target `image`: see `targets::image::image`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapfs_fuzz::targets::image::image(bytes));
