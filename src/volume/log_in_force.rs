//! What of the log a replay would read, and what a side that is filled needs of it.
//!
//! A side needs the records in force, and none of its own that a replay, now or later, could take for what follows: of this
//! session or a later one, and not older than the records in force. Everything else in its ring is dead, whatever it is: only
//! of a store from which something was purged all has to be the same, because the side may have that there.

use super::Volume;
use crate::format::BLOCK_BYTES;
use crate::format::log::RecordHeader;
use crate::format::superblock::INCOMPAT_PURGED;
use crate::limits::RESERVED_BYTES;

/// The part of the ring that is in force. What is appended later is on all sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogInForce {
    bytes: u64,
    /// Positions.
    from: u64,
    to: u64,
    generation: u64,
    /// Something was purged.
    is_purged: bool,
}

impl LogInForce {
    /// True if the block at this address is read by a replay.
    pub fn holds(&self, addr: u64) -> bool {
        let from = self.from / BLOCK_BYTES * BLOCK_BYTES;
        let Some(place) = addr.checked_sub(RESERVED_BYTES).filter(|place| *place < self.bytes) else {
            return false;
        };
        let ahead = (place + self.bytes - from % self.bytes) % self.bytes;
        from + ahead < self.to
    }

    /// True if the block `n` of a piece of the ring at `addr` has to become what the other side has, if it is not: `theirs` is
    /// the piece.
    pub fn is_needed(&self, addr: u64, theirs: &[u8], n: usize) -> bool {
        let start = n * BLOCK_BYTES as usize;
        let block = start..(start + BLOCK_BYTES as usize).min(theirs.len());
        self.is_purged
            || self.holds(addr + start as u64)
            || RecordHeader::may_begin(theirs, block, self.generation, self.from)
    }
}

impl Volume {
    pub(super) fn log_in_force(&self) -> LogInForce {
        // In this order: what is in force when the end is asked for was when the beginning was.
        let superblock = self.committer.lock().superblock.clone();
        let is_purged = (superblock.incompat | self.state.read().incompat) & INCOMPAT_PURGED != 0;
        let from = superblock.log_start;
        LogInForce {
            bytes: superblock.log_bytes,
            from,
            to: self.log.head().max(from),
            generation: superblock.log_generation,
            is_purged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Epoch, LineId};

    const LOG: u64 = 16 * BLOCK_BYTES;

    fn record(generation: u64, lsn: u64) -> Vec<u8> {
        let header = RecordHeader {
            len: 64,
            generation,
            lsn,
            prev_end: lsn,
            durable: 0,
            epoch: Epoch(1),
            line: LineId::MAIN,
        };
        let mut bytes = Vec::new();
        header.seal(&[], &mut bytes);
        bytes
    }

    #[test]
    fn a_ring_that_wraps_holds_what_is_between_its_ends() {
        let log = LogInForce {
            bytes: LOG,
            from: 14 * BLOCK_BYTES + 100,
            to: 17 * BLOCK_BYTES + 1,
            generation: 3,
            is_purged: false,
        };
        let held: Vec<u64> = (0..16).filter(|n| log.holds(RESERVED_BYTES + n * BLOCK_BYTES)).collect();
        assert_eq!(held, [0, 1, 14, 15]);
        assert!(!log.holds(0) && !log.holds(RESERVED_BYTES + LOG));
        let empty = LogInForce { to: 14 * BLOCK_BYTES, from: 14 * BLOCK_BYTES, ..log };
        assert!((0..16).all(|n| !empty.holds(RESERVED_BYTES + n * BLOCK_BYTES)));
    }

    #[test]
    fn of_what_is_dead_only_records_that_could_follow_are_needed() {
        let from = 20 * BLOCK_BYTES;
        let log = LogInForce { bytes: LOG, from, to: from, generation: 3, is_purged: false };
        for (generation, lsn, needed) in [
            (3, from, true),
            (3, from + 5 * BLOCK_BYTES, true),
            (4, from, true),
            (2, from + BLOCK_BYTES, false),
            (3, from - 8, false),
        ] {
            for place in [0, 8, 4096 - 64, 4096 - 16, 4096 - 8, 4096] {
                let mut piece = vec![0; 3 * BLOCK_BYTES as usize];
                piece[place..place + 64].copy_from_slice(&record(generation, lsn));
                let blocks: Vec<usize> =
                    (0..3).filter(|n| log.is_needed(RESERVED_BYTES, &piece, *n)).collect();
                // The block of the magic, without which there is none.
                let expected = if needed { vec![(place + 8) / 4096] } else { vec![] };
                assert_eq!(blocks, expected, "{generation} {lsn} at {place}");
            }
            // A header that the piece has the beginning of.
            let cut = [vec![0; 4096 - 16], record(generation, lsn)[..16].to_vec()].concat();
            assert!(log.is_needed(RESERVED_BYTES, &cut, 0));
        }
        let purged = LogInForce { is_purged: true, ..log };
        assert!(
            purged.is_needed(RESERVED_BYTES, &[7; 4096], 0) && !log.is_needed(RESERVED_BYTES, &[7; 4096], 0)
        );
    }
}
