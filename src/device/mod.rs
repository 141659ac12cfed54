//! Bytes at offsets: the bottom seam. Everything that reaches a disk goes through [`Device`].
//!
//! A device is a flat 64-bit address space of 4 KiB blocks. Its first [`RESERVED_BYTES`] hold the two superblock
//! rings and are always backed; the rest belongs to the allocator. A device knows nothing of what it stores: no
//! checksums, no pointers, no files.

mod access;
mod backing;
pub mod bystander;
mod counts;
#[expect(clippy::module_inception, reason = "the module is named after the trait that everybody has from it")]
mod device;
mod dir;
mod error;
mod file;
mod gate;
#[cfg(test)]
pub(crate) mod hanging;
pub mod lock;
pub mod mark;
mod mem;
pub mod mirror;
mod overlay;
pub mod patience;
mod place;
mod probe;
mod ranges;
mod record;
mod sim;
#[cfg(test)]
mod tests;
mod waited;

pub use access::Access;
pub use backing::paths_below;
pub use counts::Counts;
pub use device::Device;
pub use dir::DirDevice;
pub use error::DeviceError;
pub use file::FileDevice;
pub use mem::Memory;
pub use mirror::Mirror;
pub use overlay::Overlay;
pub use place::{FileId, StoreLocation};
pub use probe::{MAKING, StoreKind, probe};
pub use record::{Recorded, RecordedCall, read_changes};
pub use sim::{Call, CrashPolicy, Op, Persistence, Sim};

pub use crate::limits::RESERVED_BYTES;
