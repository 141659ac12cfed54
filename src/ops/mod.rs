//! The vocabulary of requests: what a transport (FUSE today) asks of the file system, in our own types.
//!
//! [`Operations`] is implemented by `fs::Fs` and called by `fuse`; [`Kernel`] is the way back, implemented by the
//! transport and called by `fs`. No type of any transport crate appears here, and no errno: `fuse` has the only table.

mod file_type;
mod node;
mod open_flags;
mod request;
mod room_for;

pub use file_type::FileType;
pub use node::{Entrance, NodeId, NodeKind, Way};
pub use open_flags::OpenFlags;
pub use request::*;
pub use room_for::{ROOM_WAIT_MAX, RoomFor};
