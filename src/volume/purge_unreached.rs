//! What no tree leads to: the ring of the log but for what is in force, and free space. Whatever of a purged file was there
//! once is written over. So is space that files have and never wrote to: it is what it was when it was free.
//!
//! Only what the device has stored is looked at, and what is zeros stays as it is, so that space which the host has never given
//! is not asked for. What is out of reach keeps the record that this is under way, and is written over when it is not
//! any more: what somebody reads still, and a side of a mirror that is not there.

use crate::format::superblock::INCOMPAT_PURGED;
use crate::format::{BLOCK_BYTES, Epoch, ViewId};
use crate::store::{RangeSet, Store, StoreError};
use crate::volume::purge::OutOfReach;
use crate::volume::state::VolumeState;
use crate::volume::{Result, Volume};
use parking_lot::MutexGuard;
use std::collections::BTreeSet;

/// So much is looked at at once. Nobody gets it meanwhile.
const WINDOW_BYTES: u64 = 1 << 20;

/// What was written over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WipedBytes {
    /// Of the log.
    pub log: u64,
    /// Of free space.
    pub free: u64,
    /// Of space that files have and never wrote to.
    pub reserved: u64,
    /// What was freed, and waits for readers: it was not looked at.
    pub held_up: u64,
    /// Points that somebody began to read while the purge was planned, and reads still: what they have was not looked at.
    pub read_snapshots: u64,
    /// Some of what was deleted is not free yet: it cannot be read, or there is no room for what freeing it would write.
    pub has_unfreed: bool,
    /// One of two sides of the mirror was not there.
    pub lacks_a_side: bool,
}

impl WipedBytes {
    /// True if nothing was out of reach.
    pub fn is_all(&self) -> bool {
        self.held_up == 0 && self.read_snapshots == 0 && !self.has_unfreed && !self.lacks_a_side
    }
}

/// The writing over, while it is under way. The one of the volume.
pub struct Wiping<'v> {
    volume: &'v Volume,
    _one: MutexGuard<'v, ()>,
    out_of_reach: OutOfReach,
    wiped: WipedBytes,
}

impl VolumeState {
    /// Views of no line: deleted snapshots that somebody reads, or that lines are compared with, and what waits to be given back after
    /// others.
    pub(super) fn going_views(&self) -> BTreeSet<ViewId> {
        self.postponed.iter().chain(&self.deletes).copied().collect()
    }
}

impl Volume {
    /// Begins to write over what no tree leads to. What commits freed up to the epoch `until` is counted as out of reach if it
    /// is not free by now.
    pub fn begin_wiping(&self, until: Epoch) -> Result<Wiping<'_>> {
        let one = self.purging.wiping.lock();
        self.check_writable()?;
        let (side, going) = (self.lacks_a_side(), self.going_views());
        let (views, fillings) = {
            let mut waiting = self.purging.waiting.lock();
            // What was made later has nothing of it.
            waiting.unseen.retain(|view| going.contains(view));
            (waiting.unseen.clone(), waiting.fillings)
        };
        let unfreed = self.has_unfreed();
        let out_of_reach = OutOfReach { until, views, unfreed, side, fillings };
        let held_up = self.shared.store().alloc().quarantined_until(until);
        let wiped = WipedBytes { held_up, has_unfreed: unfreed, ..WipedBytes::default() };
        Ok(Wiping { volume: self, _one: one, out_of_reach, wiped })
    }

    fn going_views(&self) -> BTreeSet<ViewId> {
        self.state.read().going_views()
    }

    /// Some of what was deleted is not free, and will not be by the next commits.
    fn has_unfreed(&self) -> bool {
        self.is_set_aside() || self.purging.waiting.lock().sweep
    }

    /// A side of a mirror is about to be filled. What was purged before may be in what is not copied to it, and is written
    /// over when it is there. True if a commit is to say so before.
    pub fn wipe_when_filled(&self) -> bool {
        let mut turn = self.turn();
        let state = turn.alone();
        if state.incompat & INCOMPAT_PURGED == 0 {
            return false;
        }
        state.changed = true;
        let mut waiting = self.purging.waiting.lock();
        waiting.fillings += 1;
        waiting.wiping = Some(true);
        let fillings = waiting.fillings;
        waiting.out_of_reach.get_or_insert_default().side = true;
        waiting.out_of_reach.get_or_insert_default().fillings = fillings;
        true
    }

    /// True if some of a purge is left to do that can be done now.
    pub fn purge_goes_on(&self) -> bool {
        !self.is_read_only() && (self.purge_rest().is_some() || self.wiping_goes_on())
    }

    /// True if that is to write over something: what was out of reach is not any more.
    pub fn wiping_goes_on(&self) -> bool {
        let is_wiping = self.committer.lock().wiping;
        if !is_wiping && !self.has_held() {
            return false;
        }
        let Some(last) = self.purging.waiting.lock().out_of_reach.clone() else { return true };
        let is_free = self.shared.store().alloc().quarantined_until(last.until) == 0;
        let views = self.going_views();
        let has_side = !last.side || !self.lacks_a_side();
        let has_all = !last.unfreed || !self.has_unfreed();
        self.has_held() || (is_free && has_side && has_all && last.views.is_disjoint(&views))
    }
}

impl Wiping<'_> {
    /// The log, and all free space. Durable when it returns. False if `go_on` ended it.
    pub fn free(&mut self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<bool> {
        let (volume, store) = (self.volume, self.volume.shared.store());
        self.wiped.log = volume.note(volume.log.wipe(store).map_err(Into::into))?;
        for (start, len) in store.device().all_stored().map_err(StoreError::from)? {
            let (mut at, end) = (start, start + len);
            loop {
                // Not with the allocator locked.
                let next = store.alloc().next_free(at);
                let Some(next) = next.filter(|next| *next < end) else { break };
                at = next + WINDOW_BYTES.min(end - next);
                let taken = store.alloc().take_to_wipe(next, at - next);
                let done =
                    taken.ranges().map(|(addr, len)| wipe_range(store, addr, len)).sum::<Result<u64>>();
                store.alloc().put_back(taken);
                self.wiped.free += volume.note(done)?;
                if !go_on(at) {
                    return Ok(false);
                }
            }
        }
        volume.note(store.flush().map_err(Into::into))?;
        Ok(true)
    }

    /// Space that files have and never wrote to. Nobody ever writes to its places: content gets others, which is why it may be
    /// written over beside everything else. To be called after a commit that follows [`Self::free`]: what a file has got
    /// meanwhile is known then. Durable when it returns. False if `go_on` ended it.
    pub fn reserved(&mut self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<bool> {
        let (volume, store) = (self.volume, self.volume.shared.store());
        // What of it is let go of meanwhile stays in quarantine as long as this state is read.
        let state = volume.committed()?;
        let (mut places, mut goes_on) = (RangeSet::new(), true);
        state.each_extent(&mut |_, ino, extent| {
            if extent.is_unwritten() {
                for (addr, len) in state.remap.runs(extent) {
                    places.take(addr, len);
                    places.insert(addr, len);
                }
            }
            goes_on = go_on(ino.0);
            goes_on
        })?;
        if !goes_on {
            return Ok(false);
        }
        for (start, len) in store.device().all_stored().map_err(StoreError::from)? {
            let parts: Vec<(u64, u64)> = places.clipped(start, len).collect();
            for (addr, len) in parts {
                for at in (addr..addr + len).step_by(WINDOW_BYTES as usize) {
                    let part = WINDOW_BYTES.min(addr + len - at);
                    self.wiped.reserved += volume.note(wipe_range(store, at, part))?;
                    if !go_on(at) {
                        return Ok(false);
                    }
                }
            }
        }
        volume.note(store.flush().map_err(Into::into))?;
        Ok(true)
    }

    /// All was written over that was in reach. The next commit says so, if nothing was out of reach.
    pub fn end(mut self) -> WipedBytes {
        let lacks_a_side = self.volume.lacks_a_side();
        let mut waiting = self.volume.purging.waiting.lock();
        // One that was filled meanwhile was not written over.
        self.out_of_reach.side |= lacks_a_side || self.out_of_reach.fillings != waiting.fillings;
        self.out_of_reach.fillings = waiting.fillings;
        self.wiped.lacks_a_side = self.out_of_reach.side;
        self.wiped.read_snapshots = self.out_of_reach.views.len() as u64;
        waiting.wiping = Some(!self.wiped.is_all());
        waiting.out_of_reach = (!self.wiped.is_all()).then_some(self.out_of_reach);
        self.wiped
    }
}

/// Writes zeros over what is not zeros.
fn wipe_range(store: &Store, addr: u64, len: u64) -> Result<u64> {
    let block = BLOCK_BYTES as usize;
    let mut dirty = vec![false; (len / BLOCK_BYTES) as usize];
    let mut bytes = vec![0; len as usize];
    for side in store.device().sides() {
        // What cannot be read is written over.
        let read = store.read_raw_side(side, addr, &mut bytes);
        for (n, block) in bytes.chunks(block).enumerate() {
            dirty[n] |= read.is_err() || block.iter().any(|byte| *byte != 0);
        }
    }
    let (mut n, mut written) = (0, 0);
    while n < dirty.len() {
        let run = dirty[n..].iter().take_while(|dirty| **dirty).count();
        if run > 0 {
            bytes[..run * block].fill(0);
            store.write_raw(addr + n as u64 * BLOCK_BYTES, &bytes[..run * block])?;
            written += (run * block) as u64;
        }
        n += run.max(1);
    }
    Ok(written)
}
