//! The past: snapshots, their making and deletion, and the `.snapshots` through which they are reached; and what begins as
//! some past, the clones, with their `.clones`.
//!
//! State: [`Past`]. Below: `commits`, `heads`; uses `attributes` for what `.snapshots` shows. What is inside of a snapshot
//! is read by the same code as a head.

mod ageing;
mod applications;
mod arriving;
mod clonedir;
mod covers;
mod deleting;
mod deletion;
mod departing;
mod description;
mod expiry;
mod given_up;
mod guards;
mod holds;
mod known;
mod made_room;
mod moment;
mod pick;
mod promote;
mod purge;
mod purge_plan;
mod received;
mod rollback;
mod room;
mod scheduled;
mod seen_guards;
mod snapdir;
mod timekeeper;
mod trash;
mod trials;
mod tripping;
mod underway;
mod undo;
mod watch;

pub use applications::{Applications, Prepared, Reached};
pub use arriving::{AtWork, arrival_key, arrival_name};
pub use clonedir::{MAIN_CLONEDIR, clonedir_ttl};
pub use covers::Uncovered;
pub use deleting::DELETED_AT_ONCE;
pub use deletion::{Deletion, Gone};
pub use departing::{Departure, UnderDeparture};
pub use guards::OtherSnapshot;
pub use holds::{COPY_KEPT_SECS, HoldTerms, moment};
pub use pick::moment_of;
pub use promote::{Promoted, PromotionOrder};
pub use purge::{PurgeAsked, PurgeEnd};
pub use purge_plan::{HasToo, OpenWithoutName, PurgePlan, PurgedIn};
pub use received::{Published, Unfit};
pub use rollback::{InTheWay, OpenForWriting, Switched};
pub use snapdir::{OneAtATime, Past, check_snapshot_name};
pub use timekeeper::WatchedSchedule;
pub use tripping::TripwireState;
pub use underway::{Cover, GoesOn};
pub use undo::{GuardedChange, Undoable};
