//! Hooks: programs of the host that are run before and after a snapshot, so that applications write what they hold.
//!
//! They are run by whoever takes the snapshot, with his rights: a command runs what its arguments say. Nothing that a store
//! says is ever run.

mod hook;
mod making;

pub(super) use making::around;
