//! What is asked of a volume for a purge, and the writing over of what is held.

use super::purge::{InlineContents, LeafPlace, NewLeaf, Ordered, PurgeOrder, purge_nodes};
use crate::format::purge::{HeldRecord, PurgeRest};
use crate::format::superblock::{INCOMPAT_MIRRORED, INCOMPAT_PURGED};
use crate::format::{BlockAddr, Epoch, Extent, Key};
use crate::store::StoreError;
use crate::tree;
use crate::volume::remap::reference;
use crate::volume::{ReserveFor, Result, View, Volume};
use parking_lot::{RwLockReadGuard, RwLockWriteGuard};
use std::sync::atomic::Ordering::Relaxed;

/// So much is written over with one look at whether it is still to be.
const WRITE_BYTES: u64 = 1 << 20;

/// While it is held nothing is purged.
pub struct NothingPurged<'a> {
    _turn: RwLockReadGuard<'a, ()>,
}

/// While it is held no content moves.
pub struct NothingMoves<'a> {
    _turn: RwLockWriteGuard<'a, ()>,
}

impl View {
    /// The leaf that has `key`, once it is on the device.
    pub fn leaf_of(&self, key: &Key) -> Result<Option<LeafPlace>> {
        Ok(tree::leaf_of(&self.shared.pager, &self.root, key)?.map(LeafPlace))
    }

    /// True if some content of an extent was purged.
    pub fn is_purged(&self, extent: &Extent) -> bool {
        self.shared.places.is_purged(extent)
    }

    /// True if some content of an extent was not purged.
    pub fn has_content_left(&self, extent: &Extent) -> bool {
        !extent.is_unwritten() && !self.shared.places.runs_left(extent).is_empty()
    }

    /// Fails if some content of an extent was purged, or is about to be.
    pub(super) fn refuse_closed(&self, extent: &Extent) -> Result<()> {
        match self.shared.places.is_closed(extent) {
            true => Err(StoreError::Purged(BlockAddr(reference(extent).addr)).into()),
            false => Ok(()),
        }
    }

    /// Fails if some content of an extent was purged.
    pub fn refuse_purged(&self, extent: &Extent) -> Result<()> {
        match self.is_purged(extent) {
            true => Err(StoreError::Purged(BlockAddr(reference(extent).addr)).into()),
            false => Ok(()),
        }
    }
}

impl Volume {
    /// True if one of two sides is not there, or is being filled: it would keep what is purged.
    pub fn lacks_a_side(&self) -> bool {
        self.incompat.load(Relaxed) & INCOMPAT_MIRRORED != 0 && self.shared.store().device().sides().len() < 2
    }

    /// Has content stay where it is. What was on its way before is there after two commits.
    pub fn hold_content(&self) -> NothingMoves<'_> {
        NothingMoves { _turn: self.purging.turn.write() }
    }

    /// For whoever moves content, from the reading of it until a tree or a table has its new place; none while something is
    /// purged.
    pub fn hold_off_purges(&self) -> Option<NothingPurged<'_>> {
        Some(NothingPurged { _turn: self.purging.turn.try_read()? })
    }

    /// True if commits have something to do without which it is not known what refers to what.
    pub fn is_moving(&self) -> bool {
        let committer = self.committer.lock();
        !committer.jobs.is_empty() || committer.remap.doubled_len() > 0 || !self.copies.lock().is_empty()
    }

    /// True if that cannot be done before the store is opened anew: some of what was deleted cannot be read.
    pub fn is_set_aside(&self) -> bool {
        self.committer.lock().jobs.set_aside() > 0
    }

    /// Places with their extra references, part by part.
    pub fn extra_references(&self, places: &[(u64, u64)]) -> Vec<(u64, u64, u32)> {
        let committer = self.committer.lock();
        places.iter().flat_map(|(addr, len)| committer.extra_refs.parts(*addr, *len)).collect()
    }

    /// A leaf without the inline content of these inodes; none if it has none of it.
    pub fn leaf_without(&self, place: &LeafPlace, contents: &InlineContents) -> Result<Option<NewLeaf>> {
        NewLeaf::without(self.shared.store(), place, contents)
    }

    /// What an order of so many takes, in bytes.
    pub fn purge_bytes(&self, places: &[(u64, u64)], leaves: usize) -> u64 {
        purge_nodes(places.len() as u64, leaves as u64) * self.state.read().copies.node_bytes()
    }

    /// Has the next commit hold what is ordered, and say that what no tree leads to is to be written over. [`Self::ordered`]
    /// tells what came of it; if that commit fails, [`Self::cancel_purge`] is to follow.
    ///
    /// # Errors
    /// `Held`: somebody has come to hold one of the snapshots.
    pub fn order_purge(&self, _: &NothingMoves<'_>, order: PurgeOrder) -> Result<()> {
        self.check_writable()?;
        let mut turn = self.turn();
        let required = self.required_bytes(&turn)
            + purge_nodes(order.places.len() as u64, order.leaf_count()) * turn.copies.node_bytes();
        self.secure_required(required, ReserveFor::Delete)?;
        self.reserve_records(&turn, order.edited.len(), ReserveFor::Delete)?;
        let state = turn.alone();
        order.edited.iter().try_for_each(|view| state.check_not_needed(*view))?;
        state.incompat |= INCOMPAT_PURGED;
        state.changed = true;
        let mut unseen = state.going_views();
        unseen.retain(|view| !order.seen.contains(view));
        let mut waiting = self.purging.waiting.lock();
        waiting.unseen.extend(unseen);
        waiting.order = Some(order);
        waiting.ordered = None;
        Ok(())
    }

    /// The commit that was to take the order in has failed: no later one does.
    pub fn cancel_purge(&self) {
        self.purging.waiting.lock().order = None;
    }

    /// What came of the last order, once a commit has taken it in.
    pub fn ordered(&self) -> Option<Ordered> {
        self.purging.waiting.lock().ordered.take()
    }

    /// Writes over what is held, durably. The next commit gives it back. Returns how many bytes were written over.
    pub fn write_over_purged(&self) -> Result<u64> {
        self.write_over_purged_while(&mut |_| true)
    }

    /// The same as long as `go_on` says so, which is asked after each piece. What is left is held, and written over the next time.
    pub fn write_over_purged_while(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<u64> {
        self.check_writable()?;
        let (mut places, mut leaves) = {
            let committer = self.committer.lock();
            let leaves = committer.leaves.iter().filter(|(_, record)| record.in_pieces);
            let leaves: Vec<(u64, Epoch)> = leaves.map(|(addr, record)| (*addr, record.birth)).collect();
            (committer.remap.purged.to_wipe(), leaves)
        };
        if places.is_empty() && leaves.is_empty() {
            return Ok(0);
        }
        let written = self.note(self.write_over(&mut places, &mut leaves, go_on))?;
        let mut waiting = self.purging.waiting.lock();
        waiting.wiped = places;
        waiting.in_place = leaves;
        Ok(written)
    }

    /// Leaves in the lists what was done.
    fn write_over(
        &self,
        places: &mut Vec<(u64, u64)>,
        leaves: &mut Vec<(u64, Epoch)>,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<u64> {
        let (store, mut written, mut goes_on) = (self.shared.store(), 0, true);
        let zeros = vec![0; WRITE_BYTES as usize];
        let mut done = 0;
        'places: for (addr, len) in &*places {
            for at in (*addr..addr + len).step_by(WRITE_BYTES as usize) {
                let part = WRITE_BYTES.min(addr + len - at);
                // A commit would have to let go of it before it could be anybody else's.
                let committer = self.committer.lock();
                let held = committer.remap.purged.place(*addr);
                if held != Some(HeldRecord { len: *len, wiped: false }) {
                    break;
                }
                store.write_raw(at, &zeros[..part as usize])?;
                written += part;
                goes_on = go_on(at);
                if !goes_on && at + part < addr + len {
                    break 'places;
                }
            }
            done += 1;
            if !goes_on {
                break;
            }
        }
        places.truncate(done);
        done = 0;
        for (addr, birth) in &*leaves {
            if !goes_on {
                break;
            }
            done += 1;
            goes_on = go_on(*addr);
            let committer = self.committer.lock();
            let record = committer.leaves.get(addr).filter(|r| r.birth == *birth && r.in_pieces);
            let bytes = store.rewrites().bytes_of(*addr, *birth);
            let (Some(record), Some(bytes)) = (record, bytes) else { continue };
            for at in [*addr, record.copy.0].into_iter().filter(|at| *at != 0) {
                store.write_raw(at, &bytes)?;
                written += bytes.len() as u64;
            }
        }
        leaves.truncate(done);
        store.flush()?;
        leaves.iter().for_each(|(addr, birth)| store.rewrites().at_its_place(*addr, *birth));
        Ok(written)
    }

    /// What a purge has left to do that is to be planned anew.
    pub fn purge_rest(&self) -> Option<PurgeRest> {
        self.committer.lock().purge_rest.clone()
    }

    /// Has the next commit free what only hidden views hold, however little it is: no tree leads to it, and nobody looks there for what is purged.
    pub fn free_hidden(&self) {
        self.purging.waiting.lock().sweep = true;
    }

    /// Nothing is left of it: the next commit says so.
    pub fn end_purge_rest(&self) {
        self.purging.waiting.lock().rest_is_over = true;
    }

    /// True if something of a purge is left to do.
    pub fn has_purged_left(&self) -> bool {
        let (wiping, has_rest) = {
            let committer = self.committer.lock();
            (committer.wiping, committer.purge_rest.is_some())
        };
        wiping || has_rest || self.has_held()
    }

    /// True if something that is held is to be written over.
    pub(super) fn has_held(&self) -> bool {
        let committer = self.committer.lock();
        committer.remap.purged.sums().1 > 0 || committer.leaves.values().any(|leaf| leaf.in_pieces)
    }
}
