//! Bytes at offsets: the bottom seam. Everything that reaches a disk goes through [`Device`].
//!
//! A device is a flat 64-bit address space of 4 KiB blocks. Its first [`RESERVED_BYTES`] hold the two superblock
//! rings and are always backed; the rest belongs to the allocator. A device knows nothing of what it stores: no
//! checksums, no pointers, no files.

/// Bytes at the start of every device that hold the superblock rings (ring A at 0, ring B at half of it).
pub const RESERVED_BYTES: u64 = 1 << 20;

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

    /// Secures space for later writes to the range, so that they cannot fail for want of it. Idempotent; keeps content.
    /// Fails with [`DeviceError::NoSpace`] and may then have secured a part.
    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError>;

    /// Gives the space of the range back to the host. Its content is lost and it is no longer backed. Best effort:
    /// errors are ignored.
    fn discard(&self, offset: u64, len: u64);

    /// Bytes that the host could still give to `back` calls, in sum.
    fn available(&self) -> u64;

    /// What a person calls this device: a path, or `memory`.
    fn describe(&self) -> String;
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
