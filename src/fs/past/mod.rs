//! The past: snapshots, their making and deletion, and the `.snapshots` through which they are reached.
//!
//! State: [`Past`]. Below: `commits`, `heads`; uses `attributes` for what `.snapshots` shows. What is inside of a snapshot
//! is read by the same code as a head.

mod known;
mod moment;
mod pick;
mod snapdir;

pub use snapdir::{Past, SnapshotCreator};
