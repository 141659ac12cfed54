//! Bytes at offsets: the bottom seam. Everything that reaches a disk goes through [`Device`].
//!
//! A device is a flat 64-bit address space of 4 KiB blocks. Its first [`RESERVED_BYTES`] hold the two superblock
//! rings and are always backed; the rest belongs to the allocator. A device knows nothing of what it stores: no
//! checksums, no pointers, no files.

mod backing;
mod dir;
mod file;
mod gate;
pub mod lock;
pub mod mark;
mod mem;
mod overlay;
mod place;
mod probe;
mod ranges;
mod record;
mod sim;
#[cfg(test)]
mod tests;

pub use dir::DirDevice;
pub use file::FileDevice;
pub use mem::Memory;
pub use overlay::Overlay;
pub use place::{FileId, StoreLocation};
pub use probe::{MAKING, StoreKind, probe};
pub use record::{Recorded, RecordedCall, read_changes};
pub use sim::{Call, CrashPolicy, Op, Persistence, Sim};

use crate::format::mark::FileBirth;
pub use crate::limits::RESERVED_BYTES;

/// A flat, growable space of bytes with a durability barrier.
///
/// Any thread may call any method at any time; calls on disjoint ranges never wait for each other. Offsets and
/// lengths are bytes and multiples of 4096, except that `read_at`/`write_at` of the simulator and of memory accept any.
///
/// Media assumptions (all that the layers above rely on):
/// - a write is durable once a later `flush` has returned without error; before that any part of it may survive a
///   power cut, in 512-byte sectors and in any order;
/// - a write never changes bytes outside its range; `flush` covers every write that returned before it was called;
/// - a range that was never written, or was discarded, reads as anything.
pub trait Device: Send + Sync {
    /// Size of the address space in bytes: no offset at or past it is valid. Fixed while the device is open.
    fn size(&self) -> u64;

    /// Fills `buf` from `offset`. Ranges inside `size` that were never written read as zeros or as old bytes.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError>;

    /// Writes all of `buf` at `offset`.
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError>;

    /// Makes every write that has returned durable.
    fn flush(&self) -> Result<(), DeviceError>;

    /// Makes durable, too, what an earlier process wrote and did not flush before it died: what is found in the store
    /// must not go away any more before it is built upon.
    fn flush_inherited(&self) -> Result<(), DeviceError> {
        self.flush()
    }

    /// Secures space for later writes to the range, so that they cannot fail for want of it. Idempotent; keeps content.
    /// Fails with [`DeviceError::NoSpace`] and may then have secured a part.
    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError>;

    /// Gives the space of the range back to the host. Its content is lost and it is no longer backed. Best effort:
    /// errors are ignored.
    fn discard(&self, offset: u64, len: u64);

    /// Says that nobody will soon read the range again: the host need not keep it in memory. Its content stays. Best
    /// effort.
    fn release(&self, _offset: u64, _len: u64) {}

    /// Says that the range will be read soon: the host may begin to. Returns without waiting for it. Best effort.
    fn will_need(&self, _offset: u64, _len: u64) {}

    /// Ranges (offset, length) outside of which nothing was ever written, ascending: for whoever reads everything. Best
    /// effort: all of the address space where the host does not tell.
    fn stored(&self) -> Vec<(u64, u64)> {
        vec![(0, self.size())]
    }

    /// Bytes that the host could still give to `back` calls, in sum.
    fn available(&self) -> u64;

    /// What a person calls this device: a path, or `memory`.
    fn describe(&self) -> String;

    /// Where it is now, and whether files were taken from it while it was open.
    fn location(&self) -> StoreLocation {
        StoreLocation::default()
    }

    /// Which file the address is in, if it is in a file and the host tells.
    fn birth(&self, _offset: u64) -> Option<FileBirth> {
        None
    }

    /// The limit of this process that kept a call from being carried out, in a sentence: what failed then says nothing
    /// about the store.
    fn limit_met(&self) -> Option<String> {
        None
    }
}

/// Whether a store is opened for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every changing call fails; nothing of the host is touched.
    ReadOnly,
    /// All calls work.
    ReadWrite,
}

/// How often a device was called, and for how many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of `read_at`.
    pub reads: u64,
    /// Calls of `write_at`.
    pub writes: u64,
    /// Calls of `flush`.
    pub flushes: u64,
    /// Calls of `back`.
    pub backs: u64,
    /// Calls of `discard`.
    pub discards: u64,
    /// Bytes asked of `read_at`.
    pub bytes_read: u64,
    /// Bytes given to `write_at`.
    pub bytes_written: u64,
}

impl Counts {
    /// What happened between `earlier` and these counts of the same device.
    #[must_use]
    pub fn since(&self, earlier: &Counts) -> Counts {
        Counts {
            reads: self.reads - earlier.reads,
            writes: self.writes - earlier.writes,
            flushes: self.flushes - earlier.flushes,
            backs: self.backs - earlier.backs,
            discards: self.discards - earlier.discards,
            bytes_read: self.bytes_read - earlier.bytes_read,
            bytes_written: self.bytes_written - earlier.bytes_written,
        }
    }
}

/// Why a device call failed.
#[derive(Debug)]
pub enum DeviceError {
    /// The host has no space left for the range.
    NoSpace,
    /// The host refused or failed the call.
    Io {
        /// What was being done, to what, at which offset.
        what: String,
        /// The host's error.
        source: std::io::Error,
    },
}

impl std::fmt::Display for DeviceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceError::NoSpace => write!(f, "no space left on the host of the store"),
            DeviceError::Io { what, source } => write!(f, "{what}: {source}"),
        }
    }
}

impl std::error::Error for DeviceError {}

impl DeviceError {
    /// An error of the host: [`DeviceError::NoSpace`] if that is what it says, else with the place it happened.
    pub(crate) fn host(what: impl FnOnce() -> String, source: std::io::Error) -> DeviceError {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match source.kind() {
            StorageFull | QuotaExceeded => DeviceError::NoSpace,
            // Looked at when the store was opened, and made smaller since.
            FileTooLarge => {
                static TOLD: std::sync::Once = std::sync::Once::new();
                TOLD.call_once(|| {
                    log::error!("{}: {source}: raise the limit of file sizes ('ulimit -f')", what());
                });
                DeviceError::NoSpace
            }
            _ => DeviceError::Io { what: what(), source },
        }
    }

    /// A call that is refused before the host sees it.
    pub(crate) fn refused(kind: std::io::ErrorKind, what: String) -> DeviceError {
        DeviceError::Io { what, source: kind.into() }
    }
}

/// Refuses a range that ends past the address space. Arithmetic on the range is safe afterwards.
fn check_range(device: &dyn Device, offset: u64, len: u64) -> Result<(), DeviceError> {
    let size = device.size();
    if offset.checked_add(len).is_some_and(|end| end <= size) {
        return Ok(());
    }
    let place = device.describe();
    let what =
        format!("{len} bytes at {offset} lie past the end of {place} ({size} bytes): is it truncated?");
    Err(DeviceError::refused(std::io::ErrorKind::UnexpectedEof, what))
}

/// Refuses a changing call on a store that was opened for reading.
fn check_access(device: &dyn Device, access: Access) -> Result<(), DeviceError> {
    match access {
        Access::ReadWrite => Ok(()),
        Access::ReadOnly => {
            let what = format!("{} is open for reading only", device.describe());
            Err(DeviceError::refused(std::io::ErrorKind::ReadOnlyFilesystem, what))
        }
    }
}

/// Refuses to write to files that this process may not make as long as they can become: it would fail half-way.
fn check_file_limit(path: &std::path::Path, access: Access, bytes: u64) -> Result<(), DeviceError> {
    let limit = crate::sys::process::file_bytes_max();
    if access == Access::ReadOnly || bytes <= limit {
        return Ok(());
    }
    let what = format!(
        "{} has files of up to {bytes} bytes, and this process may write {limit}: raise the limit ('ulimit -f')",
        path.display()
    );
    Err(DeviceError::refused(std::io::ErrorKind::FileTooLarge, what))
}

/// Refuses the size of a new store that could not hold its superblocks or is no whole number of blocks.
fn check_new_size(size: u64, size_max: u64) -> Result<(), DeviceError> {
    if size > RESERVED_BYTES && size <= size_max && size.is_multiple_of(4096) {
        return Ok(());
    }
    let what = format!(
        "{size} is no size for a store: a multiple of 4096, above {RESERVED_BYTES}, at most {size_max}"
    );
    Err(DeviceError::refused(std::io::ErrorKind::InvalidInput, what))
}
