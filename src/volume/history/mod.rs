//! The forest of views: who descends from whom, where a freed block goes, and how many bytes each view holds.
//!
//! Invariants, with `base(v)` the epoch of `prev(v)` (0 without):
//! - `D(v)`, the dead list of the edge to `v`, holds exactly what is alive in `prev(v)` and dead in `v`; its buckets
//!   are older than `base(v)`. What only hidden views held has left every list once [`History::sweep_hidden`] ran.
//! - Births in `(base(s), epoch(s)]` are the buckets `base(s)..epoch(s)` in every list below `s`, however many
//!   snapshots of the branch went since: a bucket is a lower bound, not a snapshot.
//! - A hidden view has at least two children, and its tree is never walked: parts of it may be freed.
//!
//! Contract with the commit, in this order; the caller holds its lock around each step, operations
//! ([`History::free`], [`History::born`], [`History::point`], [`History::fork`]) may run between any two:
//!  1. [`History::freeze`], together with the caller's own list of what is deferred;
//!  2. ask [`History::route`] where each frozen (list, bucket) goes, append the entries, then [`History::appended`]
//!     (the append and this call as one step for readers of space: else they count twice);
//!  3. [`History::delete`] for views that are [`History::deletable`], and then [`History::sweep_hidden`];
//!  4. [`History::take_records`]: the records as of the freeze plus the deletions, without what happened since.
//!
//! After an error of the tree the whole commit is to be thrown away and the history loaded again: both may be half
//! changed. Not here: I/O, names, freeing, walking trees.

mod ancestry;
mod dead_set;
pub mod deadlist;
mod delete;
#[expect(clippy::module_inception, reason = "the room is named after the type that owns its state")]
mod history;
mod late;
mod load;
mod records;
mod space;
#[cfg(test)]
mod tests;
mod ways;

pub use deadlist::{Meta, MetaRead};
pub use delete::{FreeTree, Reclaim};
pub use history::{Freeing, History, Point};
