//! Filling a side of a mirror: which ranges it needs, copying them while work goes on, and going on after it was cut off.
//!
//! The side gets all changes from before the ranges are known, so what is copied stays the same. Every so often the side
//! notes what it does not have yet and up to which epoch it has the rest. Whatever was committed later is found by its
//! birth, so a note is never wrong, only old.

use super::mirroring::{PIECE_BYTES, RINGS, StaleSide, Younger, add, ended, newer};
use super::{Result, Volume, VolumeError, ring};
use crate::device::mirror::{IsNeeded, clear_rest, parted_at, read_rest, read_rests, write_rest};
use crate::device::{Device, DeviceError, Mirror, RESERVED_BYTES};
use crate::format::mirror::{Label, Standing};
use crate::format::rest::{FillRest, REST_RANGES_MAX};
use crate::format::superblock::{RING_SLOTS, SLOT_BYTES};
use crate::format::{BLOCK_BYTES, Epoch};
use crate::store::{Allocator, RangeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// After so many bytes the side notes how far it is, or after a part of them all.
const NOTE_BYTES: u64 = 32 << 20;
const NOTES: u64 = 16;
/// Discarded at once: no longer than this are changes of the same place held up.
const DISCARD_BYTES: u64 = 64 << 20;

/// What a side has that is to be filled.
pub enum FillFrom {
    /// Nothing that is known.
    Nothing,
    /// The state of when the two parted, and what it did since.
    Stale(StaleSide),
    /// What an earlier filling left.
    Rest(FillRest),
}

/// How far a filling is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filled {
    /// Bytes that are done with.
    pub done: u64,
    /// Bytes to be done with.
    pub total: u64,
    /// Bytes that were copied: of what is done all but what proved to be the same, or is not in use any more.
    pub copied: u64,
    /// What of that was content that came since the two parted, and not nodes of trees, superblocks, the log, or what was freed
    /// and waits for that to be durable or for readers. Known of a side that was away.
    pub content: Option<u64>,
    /// Bytes that are in use and cannot be read, and so were not copied.
    pub unread: u64,
}

/// What a side needs.
struct Needed {
    ranges: RangeSet,
    /// What of that is known to be content.
    content: RangeSet,
}

impl FillFrom {
    /// What a side has of which the label is `theirs`, as whoever serves with the label `ours` can know. `reached` is
    /// what was committed last.
    pub fn of_side(device: Arc<dyn Device>, ours: &Label, theirs: &Label, reached: Epoch) -> FillFrom {
        if theirs.standing == Standing::Incomplete {
            let rest = rest_that_counts(read_rests(&*device), ours, reached);
            return rest.map_or(FillFrom::Nothing, FillFrom::Rest);
        }
        let parted_at = Epoch(parted_at(ours, theirs));
        if parted_at == Epoch(0) {
            log::warn!("mirror: everything is copied, because the side has lost content");
            return FillFrom::Nothing;
        }
        match StaleSide::read(device, parted_at) {
            Ok(stale) => FillFrom::Stale(stale),
            Err(e) => {
                log::warn!("mirror: everything is copied, because the side cannot be read: {e}");
                FillFrom::Nothing
            }
        }
    }

    /// True if it may have most of the log.
    fn has_log(&self) -> bool {
        !matches!(self, FillFrom::Nothing)
    }

    /// The epoch of which the side has everything, but for what of these ranges it is told not to have.
    fn lacks(&self, ranges: &RangeSet) -> (Epoch, RangeSet) {
        let mut lacks = RangeSet::new();
        match self {
            FillFrom::Nothing => (Epoch(0), ranges.clone()),
            FillFrom::Stale(stale) => {
                lacks = ranges.clone();
                for (addr, len) in stale.allocated.iter() {
                    lacks.take(addr, len);
                }
                for (addr, len) in stale.newer.iter() {
                    ranges.clipped(addr, len).for_each(|(addr, len)| add(&mut lacks, addr, len));
                }
                (stale.parted_at, lacks)
            }
            FillFrom::Rest(rest) => {
                for (addr, len) in &rest.ranges {
                    ranges.clipped(*addr, *len).for_each(|(addr, len)| add(&mut lacks, addr, len));
                }
                (rest.epoch, lacks)
            }
        }
    }
}

/// Of what a side has noted, the newest first, what counts for whoever serves with the label `ours` and committed `reached` last.
pub(super) fn rest_that_counts(rests: Vec<FillRest>, ours: &Label, reached: Epoch) -> Option<FillRest> {
    // Each opening after a filling begins a generation, and so does each filling: what was noted in an earlier one holds as
    // long as we have all of that.
    let had = |rest: &FillRest| {
        ours.past().any(|past| past.generation == rest.generation && rest.epoch.0 <= past.until)
    };
    let is_of_us = |rest: &FillRest| rest.pair == ours.pair && (rest.generation == ours.current || had(rest));
    rests.into_iter().find(|rest| is_of_us(rest) && rest.epoch <= reached)
}

/// The ranges, as many as can be noted: where there are more, the least between them is told as well.
fn noted(ranges: &RangeSet) -> Vec<(u64, u64)> {
    let all: Vec<_> = ranges.iter().collect();
    let mut gaps: Vec<(u64, usize)> =
        all.windows(2).enumerate().map(|(n, two)| (two[1].0 - two[0].0 - two[0].1, n)).collect();
    gaps.sort_unstable();
    let mut closed = vec![false; all.len()];
    gaps.iter().take(all.len().saturating_sub(REST_RANGES_MAX)).for_each(|(_, n)| closed[*n] = true);
    let mut told: Vec<(u64, u64)> = Vec::new();
    let mut goes_on = false;
    for (range, closed) in all.into_iter().zip(closed) {
        match told.last_mut() {
            Some(last) if goes_on => last.1 = range.0 + range.1 - last.0,
            _ => told.push(range),
        }
        goes_on = closed;
    }
    told
}

/// What is still to be copied from `at` on, and the blocks before that could not be read.
fn left(ranges: &RangeSet, at: u64, unread: &[u64]) -> RangeSet {
    let mut left = RangeSet::new();
    ranges.clipped(at, u64::MAX - at).for_each(|(addr, len)| add(&mut left, addr, len));
    unread.iter().for_each(|at| add(&mut left, *at, BLOCK_BYTES));
    left
}

fn pieces((addr, len): (u64, u64)) -> impl Iterator<Item = (u64, u64)> {
    let piece = move |at| (at, PIECE_BYTES.min(addr + len - at));
    (addr..addr + len).step_by(PIECE_BYTES as usize).map(piece)
}

fn rings_bytes() -> u64 {
    RINGS.iter().map(|(_, len)| len).sum()
}

impl Volume {
    fn log_range(&self) -> (u64, u64) {
        (RESERVED_BYTES, self.committer.lock().superblock.log_bytes)
    }

    /// What a side needs that gets all changes from now on, but for log and rings: what is in use, unless it has that. To find
    /// out takes as long as to read all that came since, or until it `ends`.
    fn ranges_to_fill(&self, from: &FillFrom, ends: &mut dyn FnMut() -> bool) -> Result<Needed> {
        let (in_use, uncommitted) = {
            let alloc = self.shared.store().alloc();
            (alloc.in_use(), alloc.in_use_uncommitted())
        };
        let (epoch, mut ranges) = self.lacks(from, &in_use);
        let whole = |ranges| Needed { ranges, content: RangeSet::new() };
        if let FillFrom::Nothing = from {
            return Ok(whole(ranges));
        }
        let mut ended = false;
        let mut asked = || {
            ended |= ends();
            ended
        };
        let found = self.committed().and_then(|state| newer(&state, epoch, &mut asked));
        let Younger { all: younger, content } = match found {
            Ok(younger) => younger,
            Err(e) if ended => return Err(e),
            Err(e) => {
                log::warn!("mirror: everything is copied, because what is newer cannot be found: {e}");
                return Ok(whole(in_use));
            }
        };
        for (addr, len) in younger.iter() {
            in_use.clipped(addr, len).for_each(|(addr, len)| add(&mut ranges, addr, len));
        }
        uncommitted.iter().for_each(|(addr, len)| add(&mut ranges, addr, len));
        Ok(Needed { ranges, content })
    }

    /// What a side should have a place for that is thought to have `from`. None if that is nothing.
    pub(super) fn claimed(
        &self,
        from: &FillFrom,
        ends: &mut dyn FnMut() -> bool,
    ) -> Result<Option<RangeSet>> {
        match from {
            FillFrom::Nothing => Ok(None),
            FillFrom::Stale(stale) => Ok(Some(stale.allocated.clone())),
            FillFrom::Rest(_) => {
                // In this order: what is allocated meanwhile is not claimed.
                let mut claimed = self.shared.store().alloc().in_use();
                for (addr, len) in self.ranges_to_fill(from, ends)?.ranges.iter() {
                    claimed.take(addr, len);
                }
                Ok(Some(claimed))
            }
        }
    }

    /// What a side does not have of the state of an epoch, of which it has everything else: what it is told not to have, and
    /// what was to be written again since, which it may not have taken.
    fn lacks(&self, from: &FillFrom, in_use: &RangeSet) -> (Epoch, RangeSet) {
        let Some(written_again) = self.shared.store().health().written_again() else {
            return FillFrom::Nothing.lacks(in_use);
        };
        let (epoch, mut lacks) = from.lacks(in_use);
        for (addr, len) in written_again.iter() {
            in_use.clipped(addr, len).for_each(|(addr, len)| add(&mut lacks, addr, len));
        }
        (epoch, lacks)
    }

    /// Has a side that is about to be filled note what it does not have: so this need not be found again, and what was noted
    /// in an earlier filling does not count. `ours` is the label of whoever fills it.
    ///
    /// # Errors
    /// The side's.
    pub fn note_rest(&self, from: &FillFrom, ours: &Label, device: &dyn Device) -> Result<()> {
        let in_use = self.shared.store().alloc().in_use();
        let (epoch, lacks) = self.lacks(from, &in_use);
        let number = read_rest(device).map_or(1, |rest| rest.number + 1);
        let (pair, generation, ranges) = (ours.pair, ours.current, noted(&lacks));
        let rest = FillRest { number, pair, generation, epoch, ranges };
        let written = write_rest(device, &rest).and_then(|()| match from {
            // It goes on from that one.
            FillFrom::Rest(_) => Ok(()),
            // The side may have gone on by itself since an earlier filling: what was noted then must not be taken for this, should
            // this become unreadable.
            FillFrom::Nothing | FillFrom::Stale(_) => clear_rest(device, number + 1),
        });
        written.map_err(|e| VolumeError::Device(e.to_string()))
    }

    /// Bytes that would be copied to a side as things are now.
    ///
    /// # Errors
    /// If this side cannot be read.
    pub fn bytes_to_fill(&self, from: &FillFrom, other: &dyn Device) -> Result<u64> {
        let mut bytes = self.ranges_to_fill(from, &mut || false)?.ranges.bytes() + rings_bytes();
        let log = self.log_range();
        if !from.has_log() {
            return Ok(bytes + log.1);
        }
        let (device, in_force) = (self.shared.store().device(), self.log_in_force());
        let (mut ours, mut theirs) = (vec![0; PIECE_BYTES as usize], vec![0; PIECE_BYTES as usize]);
        for (at, len) in pieces(log) {
            let (ours, theirs) = (&mut ours[..len as usize], &mut theirs[..len as usize]);
            let block = BLOCK_BYTES as usize;
            bytes += match device.read_at(at, ours).and_then(|()| other.read_at(at, theirs)) {
                Ok(()) => {
                    let blocks = ours.chunks(block).zip(theirs.chunks(block)).enumerate();
                    let differing = blocks.filter(|(_, (a, b))| a != b);
                    differing.filter(|(n, _)| in_force.is_needed(at, theirs, *n)).count() as u64 * BLOCK_BYTES
                }
                Err(_) => len,
            };
        }
        Ok(bytes)
    }

    /// Copies to the side of a mirror that is being filled all that it needs, superblocks last, and makes the two equals.
    /// `told` hears how far it is, may wait, and may end it.
    ///
    /// # Errors
    /// If a side fails, or it was ended: then the side is lost and stays incomplete.
    pub fn fill(
        &self,
        mirror: &Mirror,
        from: &FillFrom,
        told: &mut dyn FnMut(Filled) -> ControlFlow<()>,
    ) -> Result<Filled> {
        let filled = self.fill_all(mirror, from, told);
        if let Err(e) = &filled {
            mirror.give_up(&e.to_string());
        }
        filled
    }

    fn fill_all(
        &self,
        mirror: &Mirror,
        from: &FillFrom,
        told: &mut dyn FnMut(Filled) -> ControlFlow<()>,
    ) -> Result<Filled> {
        // In this order: what is committed by then and is not in the ranges is there.
        let epoch = mirror.reached_epoch();
        // As long as it is not known what is needed that may be all.
        let in_use = self.alloc_of().in_use().bytes();
        let looking = Filled { total: in_use + self.log_range().1 + rings_bytes(), ..Filled::default() };
        let Needed { ranges, content: of_content } =
            self.ranges_to_fill(from, &mut || told(looking).is_break())?;
        mirror.note_rest(epoch, noted(&ranges))?;
        let log = self.log_range();
        let total = ranges.bytes() + log.1 + rings_bytes();
        let content = matches!(from, FillFrom::Stale(_)).then_some(0);
        let mut filled = Filled { total, content, ..Filled::default() };
        self.discard_unused(mirror, &mut || told(filled).is_break())?;
        let needed = self.log_in_force();
        let of_log: IsNeeded = Arc::new(move |at, theirs, n| needed.is_needed(at, theirs, n));
        let of_rings: IsNeeded = Arc::new(|_, _, _| true);
        let (mut unnoted, note_bytes) = (0, NOTE_BYTES.min(total / NOTES));
        let (mut unread, mut unread_slots) = (Vec::new(), Vec::new());
        let tables = pieces(log).chain(RINGS.into_iter().flat_map(pieces));
        for (at, len) in ranges.iter().flat_map(pieces).chain(tables) {
            let is_content = at >= log.0 + log.1;
            let ends = told(filled).is_break();
            if is_content && (ends || unnoted >= note_bytes) {
                mirror.note_rest(mirror.reached_epoch(), noted(&left(&ranges, at, &unread)))?;
                unnoted = 0;
            }
            if ends {
                return Err(ended());
            }
            let copied = if is_content {
                // What was freed since is not there any more, maybe, and what was allocated has been written to both.
                let copied = mirror.copy_wanted(at, len, &|at, len| self.alloc_of().in_use_of(at, len))?;
                unread.extend(copied.unread);
                let bytes = of_content.clipped(at, len).map(|(_, len)| len).sum::<u64>();
                filled.content.iter_mut().for_each(|content| *content += bytes.min(copied.bytes));
                copied.bytes
            } else {
                let is_of_ring = at < log.0;
                let copied = if from.has_log() {
                    mirror.copy_differing(at, len, if is_of_ring { &of_rings } else { &of_log })?
                } else {
                    mirror.copy(at, len)?
                };
                match is_of_ring {
                    true => unread_slots.extend(copied.unread),
                    false => copied.unread.iter().try_for_each(|at| self.clear_dead_log(mirror, *at))?,
                }
                copied.bytes
            };
            (filled.done, filled.copied, unnoted) =
                (filled.done + len, filled.copied + copied, unnoted + copied);
        }
        // Not what went while it was read.
        unread.retain(|at| !self.alloc_of().in_use_of(*at, BLOCK_BYTES).is_empty());
        filled.unread = unread.len() as u64 * BLOCK_BYTES;
        if let Some(first) = unread.first() {
            let blocks = unread.len();
            log::error!(
                "mirror: {blocks} blocks cannot be read and were not copied, the first at {first:#x}"
            );
        }
        self.write_slot_again(&unread_slots)?;
        self.promise_there(mirror, &mut || told(filled).is_break())?;
        mirror.complete()?;
        Ok(filled)
    }

    /// Has the host of the side that is being filled promise space for what is free and that of the other has promised space for, and
    /// give a place to what was handed out meanwhile and not written. What it has no room for is not promised.
    fn promise_there(&self, mirror: &Mirror, ends: &mut dyn FnMut() -> bool) -> Result<()> {
        let Some(there) = mirror.second() else { return Ok(()) };
        let store = self.shared.store();
        let (free, all) = {
            let alloc = store.alloc();
            (alloc.free_backed(), alloc.not_unbacked())
        };
        let device_error = |e: DeviceError| VolumeError::Device(e.to_string());
        let lacking = mirror.lacks_on(there, all).map_err(device_error)?;
        for range in free.into_iter().chain(lacking) {
            if ends() {
                return Err(ended());
            }
            match store.promise_again(range, |at, len| mirror.back_on(there, at, len)) {
                Ok(()) => {}
                Err(DeviceError::NoSpace) => return Ok(()),
                Err(e) => return Err(device_error(e)),
            }
        }
        Ok(())
    }

    /// A block of the log cannot be read: if it is dead nobody will, and the side that is being filled must not have there what
    /// a replay could take for something.
    fn clear_dead_log(&self, mirror: &Mirror, at: u64) -> Result<()> {
        let is_needed = || self.log_in_force().holds(at);
        if !is_needed() {
            mirror.copy_or_clear(at)?;
            // What came there meanwhile both got, before or after that.
            if !is_needed() {
                return Ok(());
            }
        }
        let what =
            format!("the log, which is needed, cannot be read at {at:#x}: try again after the next commit");
        Err(VolumeError::Device(what))
    }

    /// Superblock slots that cannot be read stay empty on the side that is being filled, which got all that were written since it
    /// came. Only the state in force has to be there, and is written to all sides again if it is in one of them.
    fn write_slot_again(&self, unread: &[u64]) -> Result<()> {
        let committer = self.committer.lock();
        let superblock = &committer.superblock;
        let slot = superblock.seq % RING_SLOTS * SLOT_BYTES as u64;
        if ring::RING_STARTS.iter().any(|start| unread.contains(&(start + slot))) {
            self.check_writable()?;
            ring::write(self.shared.store(), superblock)?;
        }
        Ok(())
    }

    fn alloc_of(&self) -> impl std::ops::Deref<Target = Allocator> + '_ {
        self.shared.store().alloc()
    }

    /// Gives back to the host of a side that is being filled what it has stored and nobody has room promised for. What is just being
    /// promised stays: that is known when the promise is, and not only when the host has given it. What is allocated after it was
    /// looked is written behind the discard, because the range is kept still until then.
    pub(super) fn discard_unused(&self, mirror: &Mirror, ends: &mut dyn FnMut() -> bool) -> Result<()> {
        let start = RESERVED_BYTES + self.log_range().1;
        for (addr, len) in mirror.stored_there() {
            let from = addr.max(start);
            let ranges = (from..addr + len).step_by(DISCARD_BYTES as usize);
            for at in ranges {
                if ends() {
                    return Err(ended());
                }
                let part = DISCARD_BYTES.min(addr + len - at);
                let unbacked = |at: u64, len: u64| self.alloc_of().unbacked_of(at, len);
                let store = self.shared.store();
                store.while_promises_stay(|| mirror.discard_there(at, part, &unbacked))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_are_too_many_ranges_the_nearest_are_told_as_one() {
        let mut ranges = RangeSet::new();
        let count = REST_RANGES_MAX as u64 + 3;
        for n in 0..count {
            let near = n == 5 || n == 6 || n == 9;
            ranges.insert(n * 4096 * 8 + if near { 4096 } else { 0 }, if near { 4096 * 6 } else { 4096 });
        }
        let told = noted(&ranges);
        assert_eq!(told.len(), REST_RANGES_MAX);
        assert!(ranges.iter().all(|(addr, len)| told.iter().any(|(a, l)| *a <= addr && addr + len <= a + l)));
        let bytes: u64 = told.iter().map(|(_, len)| len).sum();
        assert!(bytes <= ranges.bytes() + 6 * 4096, "{bytes} for {}", ranges.bytes());
        assert_eq!(noted(&RangeSet::new()), []);
    }

    #[test]
    fn what_could_not_be_read_is_left_to_do() {
        let mut ranges = RangeSet::new();
        ranges.insert(0, 64 << 10);
        ranges.insert(1 << 20, 4096);
        let told = noted(&left(&ranges, 32 << 10, &[4096, 8192]));
        assert_eq!(told, [(4096, 8192), (32 << 10, 32 << 10), (1 << 20, 4096)]);
    }
}
