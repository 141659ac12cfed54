//! The commands: from the arguments of the program to its exit code.
//!
//! A command talks to the running daemon over [`ctl`](crate::ctl), or opens the store through [`engine`]; `mount` is
//! the daemon. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 damage or conflicts found, 32 failed when called by mount(8).

mod apart;
mod args;
mod background;
mod builtin;
#[cfg(test)]
mod builtin_tests;
mod changes;
mod daemon;
mod diff;
pub mod engine;
mod feed;
mod hold;
mod home;
mod hydrate;
mod hydrate_args;
mod hydrate_order;
mod hydrating;
mod hydration;
mod hydrator;
mod kept_changes;
mod limit;
mod line_args;
mod listed;
mod lost_changes;
mod making;
mod merge;
mod merging;
mod method;
mod mirror;
mod mirror_args;
mod mirror_order;
mod mirroring;
#[cfg(test)]
mod mirroring_tests;
mod mount;
mod not_ours;
mod offline;
mod options;
mod output;
mod pace;
mod past_of_path;
mod paths;
mod pipe;
mod points;
mod program;
mod properties;
mod property;
mod purge;
mod purge_order;
mod refusal;
mod rescue;
mod restore;
mod restoring;
mod rewind;
mod rollback;
mod schedule;
mod schedule_args;
mod schedule_file;
mod schedule_order;
mod scheduling;
mod scrub;
mod scrubber;
mod show;
mod sides;
mod snapshots;
mod store_state;
mod stores;
mod stream_args;
mod streaming;
mod streams;
mod told_change;
mod told_rollback;
mod trial;
mod umount;
mod undo;
mod usage;
mod users;
mod wire;

pub use builtin::Builtin;
pub use options::read_mount_options;
pub use program::run;
