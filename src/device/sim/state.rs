//! What a simulated disk knows, and what every call on it does first.
//!
//! Invariant: `current` is `durable` with all of `unsynced` carried out. Held under the simulator's lock.

use std::io;

use super::faults::{FaultKind, Faults};
use super::image::{Image, Unsynced, blocks_out};
use super::random::SplitMix;
use super::{Call, Op};
use crate::device::ranges::ByteRanges;
use crate::device::{Counts, DeviceError};

#[derive(Debug)]
pub(super) struct SimState {
    pub current: Image,
    pub durable: Image,
    pub unsynced: Vec<Unsynced>,
    pub space_limit: u64,
    pub faults: Faults,
    /// Ranges whose reads fail until they are written again.
    pub unreadable: ByteRanges,
    /// The changing call, counted from 1, that the power does not outlive.
    pub crash_at: Option<u64>,
    pub crashed: bool,
    pub changes: u64,
    pub counts: Counts,
    pub record: Option<Vec<Call>>,
    pub random: SplitMix,
}

impl SimState {
    pub fn new(image: Image, space_limit: u64, seed: u64) -> SimState {
        SimState {
            durable: image.clone(),
            current: image,
            unsynced: Vec::new(),
            space_limit,
            faults: Faults::default(),
            unreadable: ByteRanges::default(),
            crash_at: None,
            crashed: false,
            changes: 0,
            counts: Counts::default(),
            record: None,
            random: SplitMix::new(seed),
        }
    }

    /// What every call does first: counts, records, and fails if it has to.
    pub fn enter(&mut self, op: Op, offset: u64, len: u64) -> Result<(), DeviceError> {
        if !self.crashed && !matches!(op, Op::Read | Op::Release | Op::WillNeed) {
            self.changes += 1;
            self.crashed = self.crash_at.is_some_and(|nth| self.changes >= nth);
        }
        if self.crashed {
            return Err(failure("crashed", op, offset, len));
        }
        let counts = &mut self.counts;
        match op {
            Op::Read => (counts.reads, counts.bytes_read) = (counts.reads + 1, counts.bytes_read + len),
            Op::Write => {
                (counts.writes, counts.bytes_written) = (counts.writes + 1, counts.bytes_written + len)
            }
            Op::Flush => counts.flushes += 1,
            Op::Back => counts.backs += 1,
            Op::Discard => counts.discards += 1,
            Op::Release | Op::WillNeed => {}
        }
        if let Some(calls) = &mut self.record {
            calls.push(Call { op, offset, len });
        }
        match self.faults.strike(op) {
            None => Ok(()),
            Some(FaultKind::NoSpace) => Err(DeviceError::NoSpace),
            Some(FaultKind::Io) => Err(failure("injected fault", op, offset, len)),
        }
    }

    /// Backs a range, as much as the limit allows.
    pub fn secure(&mut self, offset: u64, len: u64) -> Result<(), DeviceError> {
        let blocks = blocks_out(&(offset..offset + len));
        let gaps = self.current.backed.gaps(blocks.start, blocks.end);
        if gaps.is_empty() {
            return Ok(());
        }
        let before = self.current.backed.total();
        let fits = self.current.backed.insert_within(blocks.start, blocks.end, self.space_limit);
        if self.current.backed.total() > before {
            // After a shortage a part is backed: the prefix up to the first gap that is left.
            let left = self.current.backed.gaps(blocks.start, blocks.end);
            let end = left.first().map_or(blocks.end, |gap| gap.0);
            self.unsynced.push(Unsynced::Back { offset: blocks.start, len: end - blocks.start });
        }
        if fits { Ok(()) } else { Err(DeviceError::NoSpace) }
    }

    pub fn carry_out(&mut self, change: Unsynced) {
        self.current.apply(&change);
        self.unsynced.push(change);
    }
}

pub(super) fn failure(why: &str, op: Op, offset: u64, len: u64) -> DeviceError {
    DeviceError::Io {
        what: format!("{op:?} of {len} bytes at {offset} of the simulated device"),
        source: io::Error::other(why.to_owned()),
    }
}
