//! The fuzz targets of snapfs; see README.md. Each file in `fuzz_targets/` hands its bytes to a body in [`targets`].

pub mod targets;
