//! Which file has an address, and where in it.

use super::home::StoreFile;
use crate::device::RESERVED_BYTES;
use crate::device::probe::SUPER_NAMES;
use crate::limits::LOG_BYTES_MAX;

/// Bytes of one super file: half of the reserved space.
pub(super) const SUPER_BYTES: u64 = RESERVED_BYTES / 2;
/// Where the file of the log ends.
pub(super) const LOG_END: u64 = RESERVED_BYTES + LOG_BYTES_MAX;
/// A segment file holds `1 << SEGMENT_SHIFT` bytes of the address space.
pub(super) const SEGMENT_SHIFT: u32 = 30;
pub(super) const SEGMENT_BYTES: u64 = 1 << SEGMENT_SHIFT;
/// Segment numbers have eight hexadecimal digits.
pub(super) const SIZE_MAX: u64 = 1 << (SEGMENT_SHIFT + 32);

/// The part of a call that one file serves.
pub(super) struct Piece {
    pub slot: StoreFile,
    /// Offset within the file.
    pub start: u64,
    pub len: u64,
    /// Offset within the caller's range.
    done: u64,
}

impl Piece {
    pub fn in_buffer(&self) -> std::ops::Range<usize> {
        self.done as usize..(self.done + self.len) as usize
    }
}

/// The pieces of a range.
pub(super) fn pieces(offset: u64, len: u64) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let (slot, start, file_bytes) = place(offset + done);
        let piece = Piece { slot, start, len: (file_bytes - start).min(len - done), done };
        done += piece.len;
        (piece.len > 0).then_some(piece)
    })
}

/// The file of an address, the offset in it, and where its part of the address space ends.
pub(super) fn place(address: u64) -> (StoreFile, u64, u64) {
    if address < RESERVED_BYTES {
        let ring = address / SUPER_BYTES;
        return (StoreFile::Super(ring as usize % SUPER_NAMES.len()), address % SUPER_BYTES, SUPER_BYTES);
    }
    if address < LOG_END {
        return (StoreFile::Log, address - RESERVED_BYTES, LOG_BYTES_MAX);
    }
    // Fits: addresses are below `SIZE_MAX`, which `open` checked.
    let number = (address >> SEGMENT_SHIFT) as u32;
    (StoreFile::Segment(number), address % SEGMENT_BYTES, SEGMENT_BYTES)
}
