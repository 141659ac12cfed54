//! snapfs: a snapshotting file system in user space.
//!
//! The map of the crate, top to bottom. Imports point down only; `tests/tidy` checks this table (tests are exempt):
//!
//! | module | currency | may import |
//! |---|---|---|
//! | [`cli`] | commands | everything |
//! | [`check`] | the auditor's report | `fs`, `volume`, `tree`, `store`, `device`, leaves |
//! | [`repair`] | derived data made right again | `check`, `volume`, `tree`, `store`, `device`, leaves |
//! | [`salvage`] | files out of a broken store | `volume`, `tree`, `store`, `device`, leaves |
//! | [`scrub`] | progress and findings | `check`, `volume`, `tree`, `store`, leaves |
//! | [`fuse`] | kernel requests | leaves |
//! | [`ctl`] | requests to the daemon | leaves |
//! | [`fs`] | inodes and names | `volume`, `schedule`, leaves |
//! | [`schedule`] | when snapshots are taken by themselves, and which are kept | leaves |
//! | [`volume`] | transactions, views, snapshots | `tree`, `store`, `device`, leaves |
//! | [`tree`] | sorted keys | `store`, leaves |
//! | [`store`] | verified blocks by pointer | `device`, leaves |
//! | [`device`] | bytes at offsets | leaves |
//! | [`format`](mod@format) | layouts | `ops`, `limits`, `names` |
//! | [`bell`] | wake-ups | |
//! | [`clock`] | time | `ops` |
//! | [`ops`] | the vocabulary of requests | |
//! | [`limits`] | bounds | |
//! | [`names`] | names as text | |
//! | [`sys`] | system calls | |
//!
//! Leaves are the last seven. `docs/architecture.md` has the bird's eye view.

pub mod bell;
pub mod check;
pub mod cli;
pub mod clock;
pub mod ctl;
pub mod device;
pub mod format;
pub mod fs;
pub mod fuse;
pub mod limits;
pub mod names;
pub mod ops;
pub mod repair;
pub mod salvage;
pub mod schedule;
pub mod scrub;
pub mod store;
pub mod sys;
pub mod tree;
pub mod volume;

/// So that tests in the crate and beside it may share a file.
#[cfg(test)]
extern crate self as snapfs;
#[path = "../tests/common/fixtures.rs"]
#[cfg(test)]
mod fixtures;
