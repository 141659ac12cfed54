//! Three ways: what one side changed since a common view, brought to the other side, or all in which they contradict.
//!
//! No state, and changes nothing: [`three_way`] gives a [`Plan`](super::transfer::Plan). It goes by inodes and by entries
//! (directory, name), whose numbers are the same in all lines of a store, and what else tells files apart in those of others; paths are for reports. Reads only what differs on either
//! side, and content where both have written the same file.

mod conflict;
mod side;
mod three_way;

pub use conflict::{Conflict, ConflictEnd, ConflictKind};
pub use three_way::{Merged, three_way};
