//! snapfs: a snapshotting file system in user space.
//!
//! The map of the crate, top to bottom; imports point down only (checked by `tests/tidy.rs`):
//!
//! | module | currency | may import |
//! |---|---|---|
//! | [`cli`] | commands | everything below |
//! | [`fuse`] | kernel requests | `ops`, leaves |
//! | [`ctl`] | commands to the daemon | leaves |
//! | [`check`] | the auditor's report | everything below but `fuse` |
//! | [`fs`] | inodes and names | `ops`, `volume`, leaves |
//! | [`volume`] | transactions, views, snapshots | `tree`, `store`, `device`, leaves |
//! | [`tree`] | sorted keys | `store`, leaves |
//! | [`store`] | verified blocks by pointer | `device`, leaves |
//! | [`device`] | bytes at offsets | `sys`, leaves |
//! | [`ops`] | the vocabulary of requests | leaves |
//! | leaves: [`format`](mod@format), [`limits`], [`clock`], [`counters`], [`sys`] | | each other, down |

pub mod check;
pub mod cli;
pub mod clock;
pub mod ctl;
pub mod device;
pub mod format;
pub mod fs;
pub mod fuse;
pub mod limits;
pub mod ops;
pub mod store;
pub mod sys;
pub mod tree;
pub mod volume;
