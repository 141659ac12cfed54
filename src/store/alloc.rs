//! The allocator: knows for each address of the store whether it is in use, and chooses places for what is written.
//!
//! It only keeps books: it is deterministic and does no I/O, [`crate::store::Store`] does. Every address is in exactly one
//! of these states:
//! - *unbacked*: free, but the host has not promised space for it (a file of the store has a hole there, say);
//! - *free*: the host has promised space, so it may be handed out;
//! - *out*: handed out, and not yet part of a committed state. A crash forgets it, so it is not in the space map;
//! - *allocated*: part of a committed state, in the space map;
//! - *kept*: free and backed, but for whoever's content belongs there. Handed out to nobody else, as long as there is room;
//! - *quarantined*: freed by a commit, but an older superblock or a reader may still reach it.
//!
//! The usual way of an address is unbacked, free, out, allocated, quarantined, free. What a class writes is placed
//! behind what it wrote last (next fit), so that things of one kind and time lie together.

use super::range_set::RangeSet;
use crate::format::{BLOCK_BYTES, Epoch, NODE_BYTES};
use std::collections::VecDeque;

/// What a range is for. Each class has a cursor of its own, so that content and metadata do not fragment each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllocClass {
    /// Tree nodes, space map.
    Metadata,
    /// Second copies of these.
    Copy,
    /// File content.
    Data,
}

/// Allocator state.
pub struct Allocator {
    reserved: u64,
    size: u64,
    free: RangeSet,
    unbacked: RangeSet,
    out: RangeSet,
    quarantine: VecDeque<(Epoch, Vec<(u64, u64)>)>,
    quarantined_bytes: u64,
    /// All ranges of `quarantine`.
    quarantined: RangeSet,
    kept: Homes,
    /// For each [`AllocClass`] the end of what was handed out last.
    cursors: [u64; 3],
}

/// What is kept for content that belongs there.
#[derive(Default)]
struct Homes {
    /// All that anybody's content belongs to.
    wanted: RangeSet,
    /// What of that was asked for since the round began.
    asked: RangeSet,
    /// What of it is free.
    free: RangeSet,
}

impl Homes {
    fn want(&mut self, addr: u64, len: u64) {
        for set in [&mut self.wanted, &mut self.asked] {
            set.take(addr, len);
            set.insert(addr, len);
        }
    }
}

/// Free space that was handed out for a while: free, unbacked, and kept.
pub struct TakenFree([Vec<(u64, u64)>; 3]);

impl TakenFree {
    /// All of it.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().flatten().copied()
    }
}

/// The two copies of a block are at least this far apart where the store is large enough and has room, so that a bad
/// stretch of a disk, or the loss of one segment of a directory store, does not hit both.
const COPY_DISTANCE: u64 = 1 << 30;

/// One free piece of this size is kept at hand for the next second copies.
const ROOM_FOR_COPIES: u64 = 1 << 20;

impl Allocator {
    /// All of `reserved..size` free and unbacked.
    pub fn new(reserved: u64, size: u64) -> Allocator {
        let mut unbacked = RangeSet::new();
        unbacked.insert(reserved, (size - reserved) / BLOCK_BYTES * BLOCK_BYTES);
        Allocator {
            reserved,
            size,
            free: RangeSet::searchable(),
            unbacked,
            out: RangeSet::new(),
            quarantine: VecDeque::new(),
            quarantined_bytes: 0,
            quarantined: RangeSet::new(),
            kept: Homes::default(),
            cursors: [reserved; 3],
        }
    }

    /// While loading: marks a range as allocated. False if it is not free.
    pub fn mark_allocated(&mut self, addr: u64, len: u64) -> bool {
        self.unbacked.remove(addr, len) || self.free.remove(addr, len)
    }

    /// While loading: marks a range as free again. False if it was not allocated.
    pub fn mark_free(&mut self, addr: u64, len: u64) -> bool {
        addr >= self.reserved
            && addr.checked_add(len).is_some_and(|end| end <= self.size)
            && !self.free.overlaps(addr, len)
            && self.unbacked.insert(addr, len)
    }

    /// Hands out exactly this range: for the replay of a log that says that it was handed out. False if it is not free.
    pub fn take(&mut self, addr: u64, len: u64) -> bool {
        self.mark_allocated(addr, len) && self.out.insert(addr, len)
    }

    /// Somebody's content belongs there: what of it is free, or comes to be, is kept for that.
    pub fn keep(&mut self, addr: u64, len: u64) {
        self.kept.want(addr, len);
        for (s, l) in self.free.take(addr, len) {
            assert!(self.kept.free.insert(s, l));
        }
    }

    /// Hands out a range that content belongs to. None, and nothing changes, if not all of it is free or kept. True if the host
    /// has promised space for it; else it is to be asked.
    pub fn take_home(&mut self, addr: u64, len: u64) -> Option<bool> {
        let sets = [&self.kept.free, &self.free, &self.unbacked];
        let covered = |set: &RangeSet| set.clipped(addr, len).map(|(_, l)| l).sum::<u64>();
        if sets.map(covered).iter().sum::<u64>() != len {
            return None;
        }
        self.kept.free.take(addr, len);
        self.free.take(addr, len);
        let unbacked = self.unbacked.take(addr, len);
        assert!(self.out.insert(addr, len));
        Some(unbacked.is_empty())
    }

    /// How much of a range is free, kept or not, or waits in quarantine.
    pub fn free_of_home(&self, addr: u64, len: u64) -> (u64, u64) {
        let covered = |set: &RangeSet| set.clipped(addr, len).map(|(_, l)| l).sum::<u64>();
        let free = covered(&self.kept.free) + covered(&self.free) + covered(&self.unbacked);
        (free, covered(&self.quarantined))
    }

    /// Begins to count anew what is to be kept: what nobody asks for until [`Self::end_keeping_round`] will not be.
    pub fn begin_keeping_round(&mut self) {
        self.kept.asked = RangeSet::new();
    }

    /// What was not asked for since the round began is not kept any more.
    pub fn end_keeping_round(&mut self) {
        let asked = std::mem::take(&mut self.kept.asked);
        let mut rest = std::mem::take(&mut self.kept.free);
        for (s, l) in asked.iter() {
            for (s, l) in rest.take(s, l) {
                assert!(self.kept.free.insert(s, l));
            }
        }
        self.kept.wanted = asked;
        for (s, l) in rest.iter() {
            assert!(self.free.insert(s, l));
        }
    }

    /// Room is short: nothing is kept any more. Returns how much that makes free.
    pub fn keep_nothing(&mut self) -> u64 {
        let kept = std::mem::take(&mut self.kept);
        for (s, l) in kept.free.iter() {
            assert!(self.free.insert(s, l));
        }
        kept.free.bytes()
    }

    /// Free bytes that are kept.
    pub fn kept_bytes(&self) -> u64 {
        self.kept.free.bytes()
    }

    /// What is free again: kept if it is wanted. False if it was free already.
    fn make_free(&mut self, addr: u64, len: u64) -> bool {
        if self.kept.wanted.is_empty() || !self.kept.wanted.overlaps(addr, len) {
            return self.free.insert(addr, len);
        }
        let wanted: Vec<_> = self.kept.wanted.clipped(addr, len).collect();
        let (mut at, mut done) = (addr, true);
        for (s, l) in wanted {
            done &= at == s || self.free.insert(at, s - at);
            done &= self.kept.free.insert(s, l);
            at = s + l;
        }
        done && (at == addr + len || self.free.insert(at, addr + len - at))
    }

    /// Undoes [`Allocator::take`]. Nothing is known of what the host has promised there: after a crash it may be nothing.
    pub fn take_back(&mut self, addr: u64, len: u64) {
        assert!(
            self.out.remove(addr, len) && self.unbacked.insert(addr, len),
            "{addr:#x}+{len} was not taken"
        );
    }

    /// Bytes that can be handed out now.
    pub fn free_bytes(&self) -> u64 {
        self.free.bytes()
    }

    /// The part of [`Allocator::free_bytes`] that is long enough for tree nodes, counted in whole nodes of each free range.
    /// Handing out a range lowers it by at most the range's own length in whole nodes.
    pub fn node_bytes(&self) -> u64 {
        self.free.node_bytes()
    }

    /// The same for free and unbacked space together, and all quarantined bytes, of which it is not known how they will
    /// lie.
    pub fn node_bytes_in_sum(&self) -> u64 {
        self.kept.free.node_bytes()
            + self.free.node_bytes()
            + self.unbacked.node_bytes()
            + self.quarantined_bytes
    }

    /// Free bytes without backing.
    pub fn unbacked_bytes(&self) -> u64 {
        self.unbacked.bytes()
    }

    /// Bytes waiting for reuse.
    pub fn quarantined_bytes(&self) -> u64 {
        self.quarantined_bytes
    }

    /// Those of them that commits freed up to an epoch.
    pub fn quarantined_until(&self, epoch: Epoch) -> u64 {
        let before = self.quarantine.iter().filter(|(freed, _)| *freed <= epoch);
        before.flat_map(|(_, ranges)| ranges).map(|(_, len)| len).sum()
    }

    /// Bytes that are neither free nor waiting for reuse.
    pub fn used_bytes(&self) -> u64 {
        self.size / BLOCK_BYTES * BLOCK_BYTES
            - self.reserved
            - self.free.bytes()
            - self.unbacked.bytes()
            - self.kept.free.bytes()
            - self.quarantined_bytes
    }

    /// Which range the host should be asked for next: the chunk (aligned, `chunk` bytes) with the lowest unbacked address.
    pub fn next_to_back(&self, chunk: u64) -> Option<(u64, u64)> {
        self.next_to_back_from(chunk, 0)
    }

    /// The same at `from` or behind it.
    pub fn next_to_back_from(&self, chunk: u64, from: u64) -> Option<(u64, u64)> {
        let (start, _) = self.unbacked.iter_from(from).next()?;
        let base = start.max(from) / chunk * chunk;
        Some((base, chunk.min(self.size - base)))
    }

    /// Bytes of a range for which the host has promised nothing.
    pub fn unbacked_bytes_in(&self, addr: u64, len: u64) -> u64 {
        self.unbacked.clipped(addr, len).map(|(_, len)| len).sum()
    }

    /// The host has backed the range: its unbacked parts become free.
    pub fn backed(&mut self, addr: u64, len: u64) {
        for (s, l) in self.unbacked.take(addr, len) {
            assert!(self.make_free(s, l));
        }
    }

    /// Hands out one range of `len` bytes (multiple of 4096), or a long one if none is that long.
    pub fn alloc(&mut self, len: u64, purpose: AllocClass) -> Option<(u64, u64)> {
        if let Some(addr) = self.next_fit(len, purpose) {
            return Some((addr, len));
        }
        let (addr, free) = self.free.long_from(self.cursors[purpose as usize])?;
        let got = free.min(len);
        self.hand_out(addr, got, purpose);
        Some((addr, got))
    }

    fn hand_out(&mut self, addr: u64, len: u64, purpose: AllocClass) {
        assert!(self.free.remove(addr, len) && self.out.insert(addr, len));
        self.cursors[purpose as usize] = addr + len;
    }

    /// How far copies are from each other.
    fn copy_distance(&self) -> u64 {
        COPY_DISTANCE.min(self.size / 4)
    }

    /// Hands out one range of exactly `len` bytes for the second copy of what is at `first`, far from it. None if all
    /// free ranges are near or short.
    pub fn alloc_far(&mut self, len: u64, first: u64) -> Option<u64> {
        let addr = self.fit_far(len, first)?;
        self.hand_out(addr, len, AllocClass::Copy);
        Some(addr)
    }

    /// A place for the second copies of the metadata that is written next, `len` bytes long.
    fn room_for_copies(&self, len: u64) -> Option<u64> {
        self.fit_far(len, self.cursors[AllocClass::Metadata as usize])
    }

    fn fit_far(&self, len: u64, first: u64) -> Option<u64> {
        let (low, high) = (first.saturating_sub(self.copy_distance()), first + self.copy_distance());
        let near = |at: u64| low < at && at < high;
        let cursor = self.cursors[AllocClass::Copy as usize];
        let from = [cursor, 0, high].into_iter().filter(|from| !near(*from));
        from.filter_map(|from| self.fit(len, from)).find(|addr| !near(*addr))
    }

    /// As [`Allocator::next_to_back`], for second copies of what is at `first`: a chunk at least [`COPY_DISTANCE`] away, and
    /// a quarter farther where there is room, so that it is still far enough from what is written next.
    pub fn next_to_back_far(&self, chunk: u64, first: u64) -> Option<(u64, u64)> {
        let behind = |distance: u64| {
            let high = (first + distance).next_multiple_of(chunk);
            self.unbacked.iter_from(high).next().map(|(s, _)| s.max(high) / chunk * chunk)
        };
        let before = self.unbacked.iter().next().map(|(s, _)| s / chunk * chunk);
        let before = before.filter(|b| b + chunk + self.copy_distance() <= first);
        let distance = self.copy_distance();
        let base = behind(distance + distance / 4).or_else(|| behind(distance)).or(before)?;
        Some((base, chunk.min(self.size - base)))
    }

    /// The chunk that the host should be asked for so that the second copies of what is written next find a place. None if
    /// they have one.
    pub fn next_to_back_for_copies(&self, chunk: u64) -> Option<(u64, u64)> {
        match self.room_for_copies(ROOM_FOR_COPIES) {
            Some(_) => None,
            None => self.next_to_back_far(chunk, self.cursors[AllocClass::Metadata as usize]),
        }
    }

    /// The first place at `from` or behind it with `len` free bytes.
    fn fit(&self, len: u64, from: u64) -> Option<u64> {
        let (start, free) = self.free.iter_from(from).next()?;
        // What is left in front of `from` stays a multiple of a node's size, so that no place for a node is lost.
        let skip = from.saturating_sub(start).next_multiple_of(NODE_BYTES as u64);
        if skip + len <= free {
            return Some(start + skip);
        }
        self.free.first_of(len, from).map(|(addr, _)| addr)
    }

    /// Hands out one range of exactly `len` bytes (a power of two, as nodes are), wherever it is: next fit.
    pub fn alloc_exact(&mut self, len: u64, purpose: AllocClass) -> Option<u64> {
        debug_assert!(len.is_power_of_two());
        self.next_fit(len, purpose)
    }

    fn next_fit(&mut self, len: u64, purpose: AllocClass) -> Option<u64> {
        let addr = self.fit(len, self.cursors[purpose as usize]).or_else(|| self.fit(len, 0))?;
        self.hand_out(addr, len, purpose);
        Some(addr)
    }

    /// Hands out at most `len` bytes from the end of a free range, behind its last whole node: content uses up what tree
    /// nodes cannot.
    pub fn alloc_rest(&mut self, len: u64) -> Option<(u64, u64)> {
        let rest =
            |(s, l): (u64, u64)| (s + l / NODE_BYTES as u64 * NODE_BYTES as u64, l % NODE_BYTES as u64);
        let ahead = self.free.iter_from(self.cursors[AllocClass::Data as usize]);
        let mut all = ahead.chain(self.free.iter()).map(rest);
        let (addr, got) = all.find(|(_, l)| *l > 0)?;
        let got = got.min(len);
        drop(all);
        self.hand_out(addr, got, AllocClass::Data);
        Some((addr, got))
    }

    /// Takes back a range that was handed out and never became part of a commit.
    pub fn give_back(&mut self, addr: u64, len: u64) {
        assert!(
            self.out.remove(addr, len) && self.make_free(addr, len),
            "range {addr:#x}+{len} given back twice"
        );
    }

    /// A range that was handed out is part of the state that is being committed.
    pub fn settle(&mut self, addr: u64, len: u64) {
        assert!(self.out.remove(addr, len), "range {addr:#x}+{len} settled twice");
    }

    /// What the space map calls allocated: neither free in any way nor out.
    pub fn allocated(&self) -> RangeSet {
        let mut all = RangeSet::new();
        for (addr, len) in self.allocated_from(0, usize::MAX).0 {
            assert!(all.insert(addr, len));
        }
        all
    }

    /// A part of [`Allocator::allocated`], from the address `from` on: stops after `others` ranges that are not allocated.
    /// Also returns where the next part begins, none after the last.
    pub fn allocated_from(&self, from: u64, others: usize) -> (Vec<(u64, u64)>, Option<u64>) {
        let sets = [&self.free, &self.unbacked, &self.quarantined, &self.out, &self.kept.free];
        let mut sets = sets.map(|s| s.iter_from(from).peekable());
        let (mut at, mut found) = (from.max(self.reserved), Vec::new());
        for _ in 0..others {
            let starts = sets.iter_mut().map(|s| s.peek().map_or(u64::MAX, |(start, _)| *start));
            let lowest = starts.enumerate().min_by_key(|(_, start)| *start).map_or(0, |(n, _)| n);
            let Some((start, len)) = sets[lowest].next() else {
                let end = self.size / BLOCK_BYTES * BLOCK_BYTES;
                found.extend((at < end).then(|| (at, end - at)));
                return (found, None);
            };
            found.extend((at < start).then(|| (at, start - at)));
            at = start + len;
        }
        (found, Some(at))
    }

    /// All that is not free in any way, or only waits for reuse: what a copy of the store needs.
    pub fn in_use(&self) -> RangeSet {
        let mut all = RangeSet::new();
        all.insert(self.reserved, self.size / BLOCK_BYTES * BLOCK_BYTES - self.reserved);
        for (addr, len) in self.free.iter().chain(self.unbacked.iter()).chain(self.kept.free.iter()) {
            assert!(all.remove(addr, len));
        }
        all
    }

    /// The parts of a range that are in use in that sense.
    pub fn in_use_of(&self, addr: u64, len: u64) -> Vec<(u64, u64)> {
        let mut parts = RangeSet::new();
        parts.insert(addr, len);
        for (addr, len) in self.free.clipped(addr, len).chain(self.unbacked.clipped(addr, len)) {
            parts.take(addr, len);
        }
        parts.iter().collect()
    }

    /// The parts of a range for which the host has promised no space.
    pub fn unbacked_of(&self, addr: u64, len: u64) -> Vec<(u64, u64)> {
        self.unbacked.clipped(addr, len).collect()
    }

    /// What is free, kept or not, and the host has promised space for.
    pub fn free_backed(&self) -> Vec<(u64, u64)> {
        self.free.iter().chain(self.kept.free.iter()).collect()
    }

    /// All for which the host has promised space, or that is in use.
    pub fn not_unbacked(&self) -> Vec<(u64, u64)> {
        self.not_unbacked_of(self.reserved, self.size / BLOCK_BYTES * BLOCK_BYTES - self.reserved)
    }

    /// The parts of a range that are so.
    pub fn not_unbacked_of(&self, addr: u64, len: u64) -> Vec<(u64, u64)> {
        let mut parts = RangeSet::new();
        parts.insert(addr, len);
        for (addr, len) in self.unbacked.clipped(addr, len) {
            parts.take(addr, len);
        }
        parts.iter().collect()
    }

    /// The part of it that the committed state does not have.
    pub fn in_use_uncommitted(&self) -> RangeSet {
        let mut all = self.out.clone();
        for (addr, len) in self.quarantined.iter() {
            assert!(all.insert(addr, len));
        }
        all
    }

    /// What was handed out since the last commit.
    pub fn handed_out(&self) -> &RangeSet {
        &self.out
    }

    /// Makes the store end at `size`, if nothing is in use behind that (what is kept is not, and is kept no more). Else returns
    /// where the last thing in use ends.
    pub fn end_at(&mut self, size: u64) -> Result<(), u64> {
        self.keep_nothing();
        let size = size / BLOCK_BYTES * BLOCK_BYTES;
        let last = self.in_use().iter().last().map_or(0, |(addr, len)| addr + len);
        if last > size {
            return Err(last);
        }
        if size < self.size {
            let behind = self.size - size;
            self.free.take(size, behind);
            self.unbacked.take(size, behind);
            self.size = size;
            self.cursors = self.cursors.map(|cursor| cursor.min(size));
        }
        Ok(())
    }

    /// Makes the store end at `size`, which is behind its end: what is between is free, and nobody has promised it.
    pub fn widen(&mut self, size: u64) {
        let [from, size] = [self.size, size].map(|size| size / BLOCK_BYTES * BLOCK_BYTES);
        if size > from {
            self.unbacked.insert(from, size - from);
            self.size = size;
        }
    }

    /// [`Allocator::allocated`] has no more ranges than this.
    pub fn allocated_count_max(&self) -> usize {
        let sets = [&self.free, &self.unbacked, &self.quarantined, &self.out, &self.kept.free];
        sets.iter().map(|set| set.len()).sum::<usize>() + 1
    }

    /// The first of these ranges that a commit may not free, because a part of it is free or waits for reuse, is outside
    /// the store or is there twice. They ascend and begin at `from` or later. Proved before a commit is written: an extent
    /// that is wrong must not break the map.
    pub fn not_allocated(&self, ranges: &[(u64, u64)], from: u64) -> Option<(u64, u64)> {
        let mut before = from.max(self.reserved);
        ranges.iter().copied().find(|(addr, len)| {
            let end = addr.checked_add(*len).filter(|end| *end <= self.size);
            let sets = [&self.free, &self.unbacked, &self.quarantined, &self.kept.free];
            let fine = *addr >= before && end.is_some() && !sets.iter().any(|s| s.overlaps(*addr, *len));
            before = end.unwrap_or(u64::MAX);
            !fine
        })
    }

    /// True if all of a range is part of the committed state. While a store is being opened its space is not known yet;
    /// then it is true for every range, because nothing was freed or handed out since.
    pub fn is_settled(&self, addr: u64, len: u64) -> bool {
        self.size == 0
            || (self.not_allocated(&[(addr, len)], addr).is_none() && !self.out.overlaps(addr, len))
    }

    /// A commit of `epoch` freed these ranges.
    pub fn quarantine(&mut self, epoch: Epoch, ranges: Vec<(u64, u64)>) {
        if !ranges.is_empty() {
            self.quarantined_bytes += ranges.iter().map(|(_, l)| l).sum::<u64>();
            for (s, l) in &ranges {
                assert!(self.quarantined.insert(*s, *l), "range {s:#x}+{l} freed twice");
            }
            self.quarantine.push_back((epoch, ranges));
        }
    }

    /// True if [`Self::release_some`] has something to let go of.
    pub fn would_release(&self, epoch: Epoch) -> bool {
        self.quarantine.front().is_some_and(|(e, _)| *e < epoch)
    }

    /// Makes free again what one call of [`Self::quarantine`] put into quarantine, if its epoch is before `epoch`. False if
    /// there is no such call.
    pub fn release_some(&mut self, epoch: Epoch) -> bool {
        if !self.would_release(epoch) {
            return false;
        }
        for (s, l) in self.quarantine.pop_front().map(|(_, r)| r).unwrap_or_default() {
            let moved = self.quarantined.remove(s, l) && self.make_free(s, l);
            assert!(moved, "range {s:#x}+{l} freed twice");
            self.quarantined_bytes -= l;
        }
        true
    }

    /// Where free space is that begins at `from` or later, or goes on there.
    pub fn next_free(&self, from: u64) -> Option<u64> {
        let sets = [&self.free, &self.unbacked, &self.kept.free];
        sets.iter().filter_map(|set| set.iter_from(from).next()).map(|(start, _)| start.max(from)).min()
    }

    /// Hands out all free space in a range, until [`Self::put_back`].
    pub fn take_to_wipe(&mut self, addr: u64, len: u64) -> TakenFree {
        let sets = [&mut self.free, &mut self.unbacked, &mut self.kept.free];
        let taken = TakenFree(sets.map(|set| set.take(addr, len)));
        for (addr, len) in taken.ranges() {
            assert!(self.out.insert(addr, len));
        }
        taken
    }

    /// It is what it was.
    pub fn put_back(&mut self, taken: TakenFree) {
        let [free, unbacked, kept] = taken.0;
        for (addr, len) in free.into_iter().chain(kept) {
            assert!(self.out.remove(addr, len) && self.make_free(addr, len));
        }
        for (addr, len) in unbacked {
            assert!(self.out.remove(addr, len) && self.unbacked.insert(addr, len));
        }
    }

    /// Picks free space to give back to the host: whole aligned pieces of `grain` bytes, while more than `keep` bytes
    /// stay backed and free, and not where the next second copies go. The picked ranges are out until
    /// [`Self::discarded`].
    pub fn pick_to_discard(&mut self, grain: u64, keep: u64) -> Vec<(u64, u64)> {
        let mut spare = self.free.bytes().saturating_sub(keep);
        let mut picked = Vec::new();
        let mut candidates: Vec<_> = self.free.iter().filter(|(_, l)| *l >= grain).collect();
        let spared =
            self.room_for_copies(ROOM_FOR_COPIES).or_else(|| self.room_for_copies(NODE_BYTES as u64));
        if let Some(at) = spared
            && let Some(i) = candidates.iter().position(|(s, l)| *s <= at && at < s + l)
        {
            let (s, end) = (candidates[i].0, candidates[i].0 + candidates[i].1);
            // A piece that is begun, and the one behind it.
            let behind = (at + 2 * ROOM_FOR_COPIES).min(end);
            candidates.splice(i..=i, [(s, at - s), (behind, end - behind)]);
        }
        for (s, l) in candidates.into_iter().rev() {
            let (start, end) = (s.next_multiple_of(grain), (s + l) / grain * grain);
            if spare < grain {
                break;
            }
            if start >= end {
                continue;
            }
            let len = (end - start).min(spare / grain * grain);
            let start = end - len;
            spare -= len;
            assert!(self.free.remove(start, len) && self.out.insert(start, len));
            picked.push((start, len));
        }
        picked
    }

    /// The host has taken a picked range back.
    pub fn discarded(&mut self, addr: u64, len: u64) {
        assert!(self.out.remove(addr, len) && self.unbacked.insert(addr, len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_kept_until_room_is_short() {
        let mut alloc = Allocator::new(0, 1 << 20);
        alloc.backed(0, 1 << 20);
        let home = (64 << 10, 32 << 10);
        // In use when it is asked for, and kept once it is free.
        assert_eq!(alloc.alloc(1 << 20, AllocClass::Data), Some((0, 1 << 20)));
        alloc.settle(0, 1 << 20);
        alloc.keep(home.0, home.1);
        assert_eq!((alloc.take_home(home.0, home.1), alloc.free_of_home(home.0, home.1)), (None, (0, 0)));
        alloc.quarantine(Epoch(1), vec![(0, 512 << 10)]);
        assert_eq!(alloc.free_of_home(home.0, home.1), (0, home.1));
        while alloc.release_some(Epoch(2)) {}
        assert_eq!((alloc.kept_bytes(), alloc.free_bytes()), (home.1, (512 << 10) - home.1));
        assert_eq!(alloc.used_bytes(), 512 << 10);
        assert!(!alloc.allocated().overlaps(0, 512 << 10));
        assert!(alloc.not_allocated(&[home], 0).is_some());
        // A part of it goes home, and is given back.
        assert_eq!(alloc.take_home(home.0 + 4096, 4096), Some(true));
        assert_eq!(alloc.take_home(home.0, 8192), None);
        alloc.give_back(home.0 + 4096, 4096);
        assert_eq!(alloc.kept_bytes(), home.1);
        // Nobody else gets it.
        while let Some((addr, len)) = alloc.alloc(4096, AllocClass::Data) {
            assert!(addr + len <= home.0 || addr >= home.0 + home.1);
        }
        // What nobody asks for any more is free.
        alloc.begin_keeping_round();
        alloc.keep(home.0, 8192);
        alloc.end_keeping_round();
        assert_eq!((alloc.kept_bytes(), alloc.free_bytes()), (8192, home.1 - 8192));
        assert_eq!(alloc.keep_nothing(), 8192);
        assert_eq!((alloc.kept_bytes(), alloc.free_bytes()), (0, home.1));
    }

    #[test]
    fn what_a_replay_takes_back_is_not_promised_by_the_host() {
        let mut alloc = Allocator::new(0, 1 << 20);
        let before = (alloc.free_bytes(), alloc.unbacked_bytes());
        assert!(alloc.take(8192, 4096) && !alloc.take(8192, 4096));
        alloc.take_back(8192, 4096);
        assert_eq!((alloc.free_bytes(), alloc.unbacked_bytes()), before);
        assert_eq!(alloc.alloc(4096, AllocClass::Data), None, "it is to be secured first");
        assert!(alloc.take(8192, 4096));
    }

    #[test]
    fn what_is_not_allocated_may_not_be_freed() {
        let mut a = Allocator::new(8192, 1 << 20);
        assert!(a.mark_allocated(16384, 65536));
        let first = |a: &Allocator, ranges: &[(u64, u64)]| a.not_allocated(ranges, 0).map(|r| r.0);
        assert_eq!(first(&a, &[(16384, 4096), (20480, 4096)]), None);
        for wrong in [(4096, 4096), (8192, 4096), (77824, 8192), (1 << 20, 4096), (u64::MAX - 4095, 8192)] {
            assert_eq!(first(&a, &[wrong]), Some(wrong.0), "{wrong:?}");
        }
        assert_eq!(first(&a, &[(20480, 8192), (24576, 4096)]), Some(24576), "twice");
        assert_eq!(
            a.not_allocated(&[(20480, 4096)], 20484),
            Some((20480, 4096)),
            "overlaps what came before"
        );
        assert!(a.is_settled(16384, 65536) && !a.is_settled(16384, 69632));
        a.backed(81920, 4096);
        assert_eq!(a.alloc_exact(4096, AllocClass::Copy), Some(81920));
        assert!(!a.is_settled(81920, 4096), "handed out");
        a.quarantine(Epoch(1), vec![(20480, 4096)]);
        assert_eq!(first(&a, &[(20480, 4096)]), Some(20480), "waits for reuse");
        assert!(!a.release_some(Epoch(1)) && a.release_some(Epoch(2)) && !a.release_some(Epoch(3)));
        assert_eq!(first(&a, &[(20480, 4096)]), Some(20480), "is free");
    }

    #[test]
    fn second_copies_have_room_at_hand_that_is_far_and_stays() {
        let (size, node, chunk) = (8 << 30, NODE_BYTES as u64, 1 << 20);
        let mut a = Allocator::new(0, size);
        a.backed(0, 64 << 20);
        let mut asked = 0;
        for _ in 0..1000 {
            let first = a.alloc_exact(node, AllocClass::Metadata).unwrap();
            while let Some((addr, len)) = a.next_to_back_for_copies(chunk) {
                assert!(addr >= first + COPY_DISTANCE && len == chunk);
                a.backed(addr, len);
                asked += 1;
            }
            // All is given back but what the next copies need.
            for (addr, len) in a.pick_to_discard(chunk, 0) {
                assert!(addr < 64 << 20);
                a.discarded(addr, len);
            }
            let copy = a.alloc_far(node, first).expect("at hand");
            assert!(copy >= first + COPY_DISTANCE);
            a.backed(0, 64 << 20);
        }
        assert!((1000 * node / chunk..1000 * node / chunk + 3).contains(&asked), "{asked}");
    }

    #[test]
    fn nothing_is_handed_out_twice_or_lost() {
        let mut rng = fastrand::Rng::with_seed(11);
        let size = 64 << 20;
        let mut a = Allocator::new(1 << 20, size);
        let (mut held, mut settled, mut epoch) = (Vec::new(), RangeSet::new(), Epoch(1));
        for _ in 0..3_000 {
            match rng.u8(0..10) {
                0 => {
                    if let Some((s, l)) = a.next_to_back(4 << 20) {
                        a.backed(s, l);
                    }
                }
                1 => {
                    let first = rng.u64(1..size / BLOCK_BYTES) * BLOCK_BYTES;
                    if let Some(addr) = a.alloc_far(NODE_BYTES as u64, first) {
                        assert!(addr.abs_diff(first) >= a.copy_distance());
                        held.push((addr, NODE_BYTES as u64));
                    }
                    if let Some((s, l)) = a.next_to_back_far(1 << 20, first) {
                        assert!(s.abs_diff(first) >= a.copy_distance() && s + l <= size);
                        assert!(s >= first || s + l <= first);
                    }
                }
                2..=5 => {
                    let want = rng.u64(1..40) * BLOCK_BYTES;
                    if let Some((s, l)) =
                        a.alloc(want, if rng.bool() { AllocClass::Data } else { AllocClass::Metadata })
                    {
                        assert!(l <= want && l > 0);
                        held.push((s, l));
                    }
                }
                6 | 7 if !held.is_empty() => {
                    let r = held.swap_remove(rng.usize(..held.len()));
                    if rng.bool() {
                        a.give_back(r.0, r.1)
                    } else {
                        a.settle(r.0, r.1);
                        assert!(settled.insert(r.0, r.1));
                    }
                }
                8 => {
                    let picked = settled.iter().nth(rng.usize(..=settled.len()));
                    if let Some(r) = picked {
                        assert!(settled.remove(r.0, r.1));
                        a.quarantine(epoch, vec![r]);
                    }
                    epoch = epoch.next();
                    while a.release_some(epoch) {}
                }
                _ => {
                    for (s, l) in a.pick_to_discard(1 << 20, 2 << 20) {
                        a.discarded(s, l);
                    }
                }
            }
            let (mut from, mut allocated) = (Some(0), Vec::new());
            while let Some(at) = from {
                let (some, next) = a.allocated_from(at, rng.usize(1..5));
                allocated.extend(some);
                from = next;
            }
            assert_eq!(allocated, settled.iter().collect::<Vec<_>>());
            assert_eq!(a.allocated(), settled);
            assert!(allocated.len() <= a.allocated_count_max());
            assert_eq!(a.out.bytes(), held.iter().map(|(_, l)| l).sum::<u64>());
            let free = a.free.bytes() + a.unbacked.bytes() + a.quarantined_bytes();
            assert_eq!(free + a.out.bytes() + settled.bytes(), size - (1 << 20));
        }
    }
}
