//! Transactions, views, snapshots, space and commits: what makes trees into a store that survives anything.
//!
//! The state between commits is in [`VolumeState`](state::VolumeState) behind one read-write lock; a commit freezes it in an
//! instant and writes it down while new changes go on. Lock order: the committer's mutex, then a turn at the state, then the
//! allocator's. No lock but the committer's is held over a device write or flush, and none that readers wait for over a read
//! (docs/decisions/0022).

mod attempt;
pub mod audit;
mod base;
mod branch;
mod clones;
mod commit;
mod committer;
mod copy_out;
mod deletions;
mod equal;
mod error;
pub mod examine;
mod extra_refs;
mod features;
mod filling;
mod freeable;
pub mod history;
mod hold_table;
mod holds;
mod homes;
mod hydration_table;
mod hydrations;
mod intent;
mod jobs;
mod lag;
mod levelling;
mod lineage;
mod lines;
mod log_in_force;
mod lost_files;
mod lost_places;
#[cfg(test)]
mod memory;
pub mod mend;
mod mirroring;
mod numbered;
mod older_side;
mod open;
mod options;
mod pack;
mod peers;
mod planning;
pub mod purge;
mod purge_places;
mod purge_unreached;
mod purge_work;
mod receive;
mod reclaim;
mod recover;
pub mod remap;
mod removal;
mod removal_pauses;
mod replay_rules;
pub mod ring;
pub mod scrub;
mod shared_content;
mod sides_compared;
mod slots;
mod snapshot;
mod space;
mod space_map;
mod staged;
mod state;
mod switch;
mod trash;
mod turn;
mod txn;
mod unnamed;
mod view;
pub(crate) mod visits;
#[expect(clippy::module_inception, reason = "the module is named after the type that everybody has from it")]
mod volume;
mod writer;
mod younger;

#[cfg(test)]
mod copy_tests;
#[cfg(test)]
mod lines_tests;
#[cfg(test)]
mod removal_tests;
#[cfg(test)]
mod sides_tests;
#[cfg(test)]
mod space_tests;
#[cfg(test)]
mod tests;

pub use crate::device::Access;
pub use crate::format::line::LineRecord;
pub use clones::CloneInfo;
pub use commit::{CommitSession, Prepare};
pub use deletions::Leftover;
pub use error::{DAMAGED, Result, VolumeError};
pub use filling::{FillFrom, Filled};
pub use holds::NewHold;
pub use homes::AtHome;
pub use lag::{HasUpTo, SideLag};
pub use lineage::{Ancestor, Lineage, SnapshotUses};
pub use lost_files::{LackingSide, log_ends, side_that_is_short, side_that_lacks};
pub use mirroring::{RINGS, StaleSide, newest_and_before, newest_superblock};
pub use older_side::level_states;
pub use open::last_inode;
pub use options::OpenOptions;
pub use pack::{ContentRun, Gain};
pub use planning::{DeletionPlan, Planner, SpaceParts, StayingView, StaysFor};
pub use purge_places::{ContentSet, PlaceSet};
pub use purge_unreached::{WipedBytes, Wiping};
pub use purge_work::{NothingMoves, NothingPurged};
pub use receive::ReceivedAs;
pub use recover::{NothingAbove, Recovered, Replay};
pub use removal_pauses::RemovalPauses;
pub use shared_content::{MetPart, SharedContent};
pub use sides_compared::{SidesCompared, compare_sides};
pub use snapshot::{NewSnapshot, SnapshotInfo};
pub use space::{ReserveFor, Space};
pub use staged::{Staged, StoredContent};
pub use trash::NewTrash;
pub use turn::Turn;
pub use txn::{Need, Txn};
pub use unnamed::PointBelow;
pub use view::{LineHold, View};
pub use volume::Volume;
pub use younger::YoungLeaf;
