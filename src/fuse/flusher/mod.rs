//! The flusher: a second process that does for the daemon whatever has to be done *in* the mount.
//!
//! A thread that waits for an answer of a FUSE mount cannot be killed before the answer comes. If the process that serves
//! the mount waited for itself and were killed, the answer would never come, `/dev/fuse` would stay open, and every program
//! in the mount would hang for ever. So the daemon never opens, looks up or unmounts anything of its own mount; the flusher
//! does, and has none of the daemon's descriptors. When the daemon dies, in whatever way, `/dev/fuse` closes, whatever the
//! flusher waits for fails, and it takes the dead mount away and ends.

mod keeper;
mod order;
mod process;
mod reach;

pub(super) use keeper::{Flusher, Registered};
pub(super) use order::NODES_MAX;
pub use process::run_flusher;
