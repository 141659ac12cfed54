//! What a device is: the trait that everything above is built on.

use super::{DeviceError, StoreLocation};
use crate::format::mark::FileBirth;
use std::time::Duration;

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
    /// Size of the address space in bytes: no offset at or past it is valid. Fixed while the device is open, but that of a
    /// mirror grows when its smaller side leaves.
    fn size(&self) -> u64;

    /// Fills `buf` from `offset`. Ranges inside `size` that were never written read as zeros or as old bytes.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError>;

    /// The same for whoever proves what is read, and asks each side of [`Self::sides`] if it is not right: an error of one
    /// is not made good by another.
    fn read_one(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        self.read_at(offset, buf)
    }

    /// Sides that hold the same and of which each can be read alone: more than one only of a mirror.
    fn sides(&self) -> Vec<usize> {
        vec![0]
    }

    /// True if there are more than one.
    fn is_mirror(&self) -> bool {
        false
    }

    /// Fills `buf` from one side.
    fn read_side(&self, _side: usize, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        self.read_at(offset, buf)
    }

    /// Writes to one side what another has: for places that are bad there. One that does not take it is not left out by that.
    fn write_side(&self, _side: usize, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        self.write_at(offset, buf)
    }

    /// Makes no call on one side any more, unless it is the last. False if it is that, and goes on.
    #[must_use]
    fn leave_out(&self, _side: usize, _why: &str) -> bool {
        false
    }

    /// Says that the state of an epoch is in force, durably, which was written then (seconds since 1970 UTC): sides that part later
    /// have it in common.
    fn reached(&self, _epoch: u64, _secs: i64) {}

    /// How long one side of a mirror may keep the other waiting. None of what has no other side.
    fn side_limit(&self) -> Option<Duration> {
        None
    }

    /// Has that be so from now on, durably, whichever side is left.
    fn set_side_limit(&self, _limit: Duration) -> Result<(), DeviceError> {
        Err(DeviceError::refused(std::io::ErrorKind::Unsupported, "it is no side of a mirror".into()))
    }

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

    /// The same, for whoever must not leave any of it out.
    ///
    /// # Errors
    /// If the host does not tell of all of it.
    fn all_stored(&self) -> Result<Vec<(u64, u64)>, DeviceError> {
        Ok(self.stored())
    }

    /// All parts of the address space (offset, length, bytes) for which the host keeps any space, with how much at most, ascending.
    /// None if it does not tell.
    fn kept_parts(&self) -> Option<Vec<(u64, u64, u64)>> {
        None
    }

    /// What of these ranges (offset, length) is in no file of it, or behind its end: what was stored there is gone. Ascending. What
    /// was never backed is among that. Best effort: what cannot be examined is taken to be there.
    fn lacks(&self, ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
        behind(self.size(), ranges)
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

/// What of these ranges is behind an end.
pub(super) fn behind(end: u64, ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let part = |(at, len): &(u64, u64)| {
        let from = end.clamp(*at, at + len);
        (from, at + len - from)
    };
    ranges.iter().map(part).filter(|(_, len)| *len > 0).collect()
}
