//! Hooks: programs of the host that are run before and after a snapshot, so that applications write what they hold.
//!
//! They are run by whoever takes the snapshot, with his rights: a command runs what its arguments say, and the daemon, for
//! schedules, what files of the host say. Nothing that a store says is ever run.

mod file;
mod hook;
mod host;
mod making;
pub(super) mod own_frosts;
mod trusted;

pub(super) use host::HostHooks;
pub(super) use making::around;
