//! What the bytes mean: every layout that can reach a device. Pure: no I/O, no policy. Normative text: `docs/format.md`.
//!
//! Everything is little-endian, without implicit padding; reserved bytes are zero and checked. Decoders return
//! errors, never panic, whatever the bytes.

pub mod compression;
pub mod deadlist;
pub mod dirent;
pub mod extent;
pub mod header;
pub mod ids;
pub mod inner;
pub mod inode;
pub mod item;
pub mod job;
pub mod key;
pub mod leaf;
pub mod line;
pub mod link;
pub mod log;
pub mod mark;
pub mod pointer;
pub mod scrub;
pub mod space_map;
pub mod superblock;
pub mod view;
pub mod xattr;

pub use compression::{Compression, CompressionProperty};
pub use extent::{Extent, Frame};
pub use ids::{BlockAddr, Epoch, Generation, Ino, LineId, Slot, ViewId};
pub use key::{Key, Kind};
pub use pointer::{BlockPtr, Copies, CopyAddrs};

/// Unit of allocation and of data checksums, in bytes.
pub const BLOCK_BYTES: u64 = 4096;
/// Size of a tree node and of a space map block, in bytes.
pub const NODE_BYTES: usize = 16384;

/// Bytes that do not mean what they should. The sentence says which field, what was found and what is allowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormatError(pub String);

impl std::fmt::Display for FormatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FormatError {}

/// `Err(FormatError)` from a format string.
macro_rules! bad {
    ($($arg:tt)*) => { Err($crate::format::FormatError(format!($($arg)*))) };
}
pub(crate) use bad;
