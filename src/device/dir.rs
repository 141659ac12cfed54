//! A store in a directory: `super.a` and `super.b` hold the superblock rings, `seg/NNNNNNNN` a GiB of addresses each.
//!
//! Invariants: a segment file ends where its last backed or written range ends, so that a read past the end is damage
//! and not zeros; it is only shortened when a discard reaches its end. A write that returned before a flush was called
//! is covered by that flush: the writer enters its file in `dirty` after the write and before it returns.
//!
//! Addresses below `RESERVED_BYTES` live in the super files and those of the log, up to 64 MiB, in `log`; the start of
//! segment 0 stays a hole. Keeping other processes out is `lock`'s work.
//!
//! Lock order: the gate, the cache of segments, a segment's `shape`, `dirty`. No flush waits while the cache is locked.

mod device;
mod home;
mod pieces;
mod segments;
#[cfg(test)]
mod tests;

pub use device::DirDevice;
