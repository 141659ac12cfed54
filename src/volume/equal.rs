//! After a crash the sides of a mirror may differ in what was not flushed. What recovery takes as the state must be on
//! both before a superblock depends on it.
//!
//! Rings and the records that were found: when a store is opened. Ranges that replayed records published: when they were
//! replayed, proved where an extent tells how, else from the first side that can be read. Where nothing differs nothing is
//! written, and where none of several proves nothing either.

use super::intent::FoundLog;
use super::levelling::Levelling;
use super::{Result, ring};
use crate::device::{Device, RESERVED_BYTES};
use crate::format::BLOCK_BYTES;
use crate::format::log::FLUSH_BYTES;
use crate::store::RangeSet;
use std::collections::HashMap;

/// Makes rings and found records of the log the same on all sides, durably.
pub(super) fn equalise_tables(device: &dyn Device, found: &FoundLog, log_bytes: u64) -> Result<()> {
    if !device.is_mirror() {
        return Ok(());
    }
    let mut levelling = Levelling::new(device);
    for (at, why) in ring::equalise(device, &mut levelling) {
        log::warn!("a superblock slot of a side is bad and is written anew, at {at:#x}: {why}");
    }
    for record in &found.records {
        // A record may go on at the start of the ring.
        let at = record.header.lsn % log_bytes;
        let (head, tail) = record.bytes().split_at(((log_bytes - at) as usize).min(record.bytes().len()));
        for (place, bytes) in [(at, head), (0, tail)] {
            equalise_bytes(device, place, bytes, &mut levelling);
        }
    }
    levelling.end()
}

/// Has all sides hold these bytes of the log.
fn equalise_bytes(device: &dyn Device, place: u64, bytes: &[u8], levelling: &mut Levelling<'_>) {
    if bytes.is_empty() {
        return;
    }
    let start = place / FLUSH_BYTES * FLUSH_BYTES;
    let end = (place + bytes.len() as u64).next_multiple_of(FLUSH_BYTES);
    let inside = (place - start) as usize..(place - start) as usize + bytes.len();
    for side in device.sides() {
        let mut blocks = vec![0; (end - start) as usize];
        let read = device.read_side(side, RESERVED_BYTES + start, &mut blocks);
        if read.is_err() {
            // Of what is around, each block from whichever side has it.
            for (n, block) in blocks.chunks_mut(FLUSH_BYTES as usize).enumerate() {
                let at = RESERVED_BYTES + start + n as u64 * FLUSH_BYTES;
                let mut any = std::iter::once(side).chain(device.sides());
                if !any.any(|from| device.read_side(from, at, block).is_ok()) {
                    block.fill(0);
                }
            }
        }
        if read.is_err() || blocks[inside.clone()] != *bytes {
            blocks[inside.clone()].copy_from_slice(bytes);
            levelling.bring(side, RESERVED_BYTES + start, &blocks);
        }
    }
}

/// Makes published ranges the same on all sides, durably. `crcs` are those of the blocks of which they are known. Returns
/// the addresses of blocks that differ and that no side proves: they are left as they are. Beside these, where content was
/// written without that, what one side proves: what differs and is proved by none is nobody's there.
pub(super) fn equalise_content(
    device: &dyn Device,
    (published, beside): (&RangeSet, &RangeSet),
    crcs: &HashMap<u64, u32>,
) -> Result<Vec<u64>> {
    let mut unproved = Vec::new();
    if !device.is_mirror() {
        return Ok(unproved);
    }
    let mut levelling = Levelling::new(device);
    for (addr, len) in published.iter() {
        for at in (addr..addr + len).step_by(BLOCK_BYTES as usize) {
            if !equalise_block(device, at, crcs.get(&at).copied(), &mut levelling) {
                unproved.push(at);
            }
        }
    }
    for (addr, len) in beside.iter() {
        for at in (addr..addr + len).step_by(BLOCK_BYTES as usize) {
            if let Some(crc) = crcs.get(&at) {
                let _is_proved = equalise_block(device, at, Some(*crc), &mut levelling);
            }
        }
    }
    levelling.end()?;
    Ok(unproved)
}

/// False if the block differs and none is proved.
fn equalise_block(device: &dyn Device, at: u64, crc: Option<u32>, levelling: &mut Levelling<'_>) -> bool {
    let read = |side| {
        let mut block = vec![0; BLOCK_BYTES as usize];
        device.read_side(side, at, &mut block).ok().map(|()| block)
    };
    let found: Vec<_> = device.sides().into_iter().map(|side| (side, read(side))).collect();
    let proves = |block: &&Vec<u8>| crc.is_none_or(|crc| crc32c::crc32c(block) == crc);
    let mut readable = found.iter().filter_map(|(_, block)| block.as_ref());
    let Some(good) = readable.find(proves) else {
        return found.windows(2).all(|pair| pair[0].1 == pair[1].1);
    };
    for (side, block) in &found {
        if block.as_ref() != Some(good) {
            levelling.bring(*side, at, good);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Mirror, Op, Persistence, Sim};
    use crate::fixtures::{Hooked, Hooks, together_labels};
    use parking_lot::Mutex;
    use std::sync::{Arc, Weak};

    const AT: u64 = 8 << 20;

    /// Takes the first side away before a write to the second.
    #[derive(Default)]
    struct Takes(Mutex<Weak<Mirror>>);

    impl Hooks for Takes {
        fn before_write(&self, _: usize) {
            if let Some(mirror) = self.0.lock().upgrade() {
                assert!(mirror.leave_out(0, "it was taken away"));
            }
        }
    }

    fn pair() -> ([Arc<Sim>; 2], Mirror) {
        let sims = [1, 2].map(|n| Arc::new(Sim::new(16 << 20, n)));
        let ([a, b], [one, two]) = (sims.clone(), together_labels());
        (sims, Mirror::together([(a, one), (b, two)], 7))
    }

    fn ranges(len: u64) -> RangeSet {
        let mut ranges = RangeSet::new();
        ranges.insert(AT, len);
        ranges
    }

    #[test]
    fn a_block_is_written_over_only_with_one_that_proves() {
        let crcs = HashMap::from([(AT, crc32c::crc32c(&[7; 4096]))]);
        // None proves; the second does; nobody knows.
        for (second, crcs, first_then, unproved) in
            [(8, crcs.clone(), 1, vec![AT]), (7, crcs, 7, vec![]), (8, HashMap::new(), 1, vec![])]
        {
            let (sims, mirror) = pair();
            sims[0].write_at(AT, &[1; 4096]).unwrap();
            sims[1].write_at(AT, &[second; 4096]).unwrap();
            assert_eq!(
                equalise_content(&mirror, (&ranges(4096), &RangeSet::new()), &crcs).unwrap(),
                unproved
            );
            let second_then = if unproved.is_empty() { first_then } else { second };
            assert_eq!(sims[0].peek(AT, 4096), [first_then; 4096]);
            assert_eq!(sims[1].peek(AT, 4096), [second_then; 4096]);
        }
    }

    #[test]
    fn a_side_that_takes_nothing_is_left_out_when_the_other_has_what_it_had() {
        let content = |n: u64| vec![n as u8 + 1; 4096];
        let crcs: HashMap<u64, u32> = (0..8).map(|n| (AT + n * 4096, crc32c::crc32c(&content(n)))).collect();
        for victim in 0..2 {
            let (sims, mirror) = pair();
            // Blocks that only the one has and such that only the other has by turns.
            (0..8).for_each(|n| sims[n as usize % 2].write_at(AT + n * 4096, &content(n)).unwrap());
            sims[victim].fail(Op::Write, 1, Persistence::Once);
            assert!(
                equalise_content(&mirror, (&ranges(8 * 4096), &RangeSet::new()), &crcs).unwrap().is_empty()
            );
            assert_eq!(mirror.sides(), [1 - victim]);
            (0..8).for_each(|n| assert_eq!(sims[1 - victim].peek(AT + n * 4096, 4096), content(n)));
        }
        // The one that has everything goes when the other has not taken it.
        let sims = [1, 2].map(|n| Arc::new(Sim::new(16 << 20, n)));
        sims[0].write_at(AT, &content(0)).unwrap();
        let second = Arc::new(Hooked::over_shared(sims[1].clone(), Takes::default()));
        let [a, b] = together_labels();
        let mirror = Arc::new(Mirror::together([(sims[0].clone(), a), (second.clone(), b)], 7));
        *second.hooks.0.lock() = Arc::downgrade(&mirror);
        sims[1].fail(Op::Write, 1, Persistence::Once);
        assert!(
            equalise_content(&*mirror, (&ranges(4096), &RangeSet::new()), &crcs).is_err(),
            "the last lacks something"
        );
        assert_eq!(mirror.sides(), [1]);
        let (sims, mirror) = pair();
        (0..8).for_each(|n| sims[n as usize % 2].write_at(AT + n * 4096, &content(n)).unwrap());
        sims.iter().for_each(|sim| sim.fail(Op::Write, 1, Persistence::Once));
        assert!(
            equalise_content(&mirror, (&ranges(8 * 4096), &RangeSet::new()), &crcs).is_err(),
            "neither is whole"
        );
        assert_eq!(mirror.sides(), [0, 1]);
    }
}
