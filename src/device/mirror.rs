//! A mirror: one address space on two devices, of which either alone is the whole store while they are in sync.
//!
//! Every changing call goes to both sides at once, and a flush returns when both are durable. A side that fails, has no
//! space or keeps its partner waiting for longer than its time limit, while that answers, is lost: before the next flush
//! returns, the other side's label says durably that it goes on alone. Nothing here knows checksums: who does reads one named side, and has
//! what is bad there written again.
//!
//! With one side calls are made by the caller, at no cost; with two by threads that serve both, of which a side that hangs
//! can keep only some, so that it keeps no caller for longer than its limit and as long as its partner takes to answer.

mod calls;
mod copying;
mod crew;
mod label;
mod lateness;
mod meeting;
mod membership;
#[expect(clippy::module_inception, reason = "the module is named after the type that everybody has from it")]
mod mirror;
mod opening;
mod pace;
mod parts;
mod side;
#[cfg(test)]
mod tests;
mod timed;

pub use copying::{Copied, IsNeeded};
pub use label::{
    clear_labels, clear_rest, is_copied, never_labelled, read_label, read_rest, read_rests, write_label,
    write_rest,
};
pub use lateness::bystander;
pub use meeting::{Both, SideFound, alone, meet, meet_in_states, parted_at};
pub use mirror::{Mirror, MirrorError, NewSide, Parted, SideState};
pub use opening::{DETACHED, MirrorOpening, Present, open_sides, part_for_repair};
pub use timed::{Ends, Holding, Timed};
