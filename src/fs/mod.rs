//! POSIX meaning on top of the volume: inodes, names, data, extended attributes and `.snapshots`.
//!
//! [`Fs`] implements [`Operations`](crate::ops::Operations). It does not check permissions (the kernel does) and knows no
//! addresses. Its rooms, lowest first; each uses those before it, and only two have a state besides `heads`:
//!
//! - `items`: what the items of a tree mean;
//! - `log`: what the log says of the part of a head that is not in its tree;
//! - `heads`: the writable trees, and what belongs to them beside the tree; what a change is;
//! - `commits`: how changes become durable;
//! - `attributes`, `content`, `past`, `names`: what requests do;
//! - `difference`: what became of each path between two views;
//! - `timeline`: what became of one path over all snapshots of a line;
//! - `transfer`: what a line takes over from another view, as one change of any size;
//! - `merging`: what two sides have changed since a common view, brought together;
//! - `stream`: snapshots on their way to another store;
//! - `file_system`, `operations`, `standalone`: all of it together.
//!
//! Lock order: the past's `snapshot_lock`, the commits' `commit_lock`, the gates of heads in their order, then the volume's
//! transaction. All others are leaves.

mod attributes;
mod commits;
mod compare;
mod content;
mod deleting;
mod difference;
mod error;
mod file_system;
mod follow;
mod freezing;
mod heads;
mod held_paths;
mod holding;
mod hydrating;
mod items;
mod listing;
mod log;
mod merge;
mod merging;
mod names;
mod operations;
mod options;
mod past;
mod past_of_path;
mod planning;
mod purging;
mod receiving;
mod restoring;
mod scheduling;
mod sending;
mod standalone;
mod stream;
mod timeline;
mod transfer;
mod trashing;
mod tripping;
mod undoing;
mod use_of;
mod whole_lines;

#[cfg(test)]
mod tests;

pub use crate::format::provenance::{Provenance, Reason};
pub use attributes::{method_of, stores_with};
pub use compare::Compared;
pub use difference::{ChangeKind, FileVersion, PathChange};
pub use file_system::Fs;
pub use follow::Follow;
pub use freezing::{FreezeDone, FreezeOrder, ThawDone};
pub use heads::{Frost, FrostEnd};
pub use held_paths::{HeldContent, HeldPath};
pub use hydrating::{NewHydration, WentOn};
pub use merge::{MergeDone, MergeOrder, MergeRefusal, MergeWay};
pub use merging::{Conflict, ConflictEnd, ConflictKind, Merged, three_way};
pub use options::{
    AtimeMode, AtimeOptions, Between, CLONEDIR_NAME, ClonedirMode, FsOptions, GroupMay, SNAPDIR_NAME,
    SnapGroup, SnapdirMode, Steps,
};

pub use past::{
    Applications, COPY_KEPT_SECS, Cover, DELETED_AT_ONCE, Deletion, Departure, GoesOn, Gone, GuardedChange,
    HasToo, HoldTerms, InTheWay, OpenForWriting, OpenWithoutName, OtherSnapshot, Prepared, Promoted,
    PromotionOrder, PurgeAsked, PurgeEnd, PurgePlan, PurgedIn, Reached, Switched, Uncovered, UnderDeparture,
    Undoable,
};
pub use past::{TripwireState, check_snapshot_name, moment_of};
pub use past_of_path::PathAsked;
pub use planning::RoomPlan;
pub use receiving::{Arrival, KEPT_SECS, ReceiveOrder, ReceivedSnapshot, first_of, parse_token};
pub use restoring::{NamedPath, RestoreOrder, Restored};
pub use scheduling::{PRUNED_AT_ONCE, RuledSnapshot, ScheduleRun, ScheduleState};
pub use sending::SendOrder;
pub use standalone::Standalone;
pub use stream::{SentStream, StreamError};
pub use timeline::{LogEntry, Moment, PathVersion};
pub use transfer::{Aspects, Done, Plan, Refusal, Takeover, Transferred};
pub use undoing::TakenBack;
