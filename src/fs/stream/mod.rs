//! Snapshots on their way from one store to another: told as packets, taken in packet by packet, and proved.
//!
//! No state. What is told is items by key and content by file and offset, never places; what is stored goes as it is, with
//! its checksums. Both ends count the same sum over what is in a snapshot, which does not depend on where and in which
//! pieces a store keeps it. Who decides what is sent, and what becomes of what was received, is above. Why so:
//! docs/decisions/0030.

mod beginning;
mod born;
mod content_sum;
mod incoming;
mod inodes;
mod outgoing;
mod packets;
mod shares;
mod sound;
mod stream_error;
mod teller;

pub use beginning::begin_as_base;
pub use born::GoneBase;
pub use content_sum::{sum_of, sums_by_inode};
pub use incoming::{Incoming, take_in};
pub use outgoing::{Outgoing, tell};
pub use packets::PacketReader;
pub use sound::prove;
pub use stream_error::{Result, StreamError};
pub use teller::SentStream;
