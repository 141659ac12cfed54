//! What a request was refused for want of, and for how long it may wait for that.

use std::time::Duration;

/// For so long whoever was refused for want of space waits for room, at most.
pub const ROOM_WAIT_MAX: Duration = Duration::from_secs(60);

/// What room is wanted for. What is greater cannot be had where less cannot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RoomFor {
    /// For what makes room in the end. It may use much of what is kept for that.
    Deletion,
    /// For records of views and lines, which may use some of it.
    Record,
    /// For a change with so many bytes of content, 0 if it is little or not known. It must leave all that is kept alone.
    Change(u64),
}
