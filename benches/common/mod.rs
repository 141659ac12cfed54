//! What the benchmarks that mount file systems share: the medium, the peers on it, counters of the kernel, programs, what
//! is done to files, and system calls. Each of them uses a part of it.

#![allow(dead_code)]

pub mod counters;
pub mod medium;
pub mod memory;
pub mod mounts;
pub mod process;
pub mod raw;
pub mod report;
pub mod work;

/// Whatever stops a piece of work: told, and the rest goes on.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;
