//! What the bytes mean: every layout that can reach a device. Pure: no I/O, no policy. Normative text: `docs/format.md`.
//!
//! Everything is little-endian, without implicit padding; reserved bytes are zero and checked. Decoders return
//! errors, never panic, whatever the bytes.

pub mod age;
pub mod compression;
pub mod deadlist;
pub mod dirent;
mod error;
pub mod extent;
pub mod header;
pub mod hold;
pub mod hydration;
pub mod ids;
pub mod inner;
pub mod inode;
pub mod item;
pub mod job;
pub mod key;
pub mod layout;
pub mod leaf;
pub mod line;
pub mod link;
pub mod log;
pub mod mark;
pub mod mirror;
pub mod peer;
pub mod pointer;
pub mod provenance;
pub mod purge;
pub mod remap;
pub mod rest;
pub mod schedule;
pub mod scrub;
pub mod space_map;
pub mod stream;
pub mod superblock;
pub mod terms;
pub mod trash;
pub mod view;
pub mod xattr;

pub(crate) use error::bad;

pub use compression::{Compression, CompressionProperty};
pub use error::FormatError;
pub use extent::{ContentHome, Extent, Frame, PlacedExtent};
pub use ids::{BlockAddr, Epoch, Generation, Identity, Ino, LineId, Slot, ViewId};
pub use key::{Key, Kind};
pub use layout::{Layout, LayoutProperty};
pub use pointer::{BlockPtr, Copies, CopyAddrs};

/// Unit of allocation and of data checksums, in bytes.
pub const BLOCK_BYTES: u64 = 4096;
/// Size of a tree node and of a space map block, in bytes.
pub const NODE_BYTES: usize = 16384;
