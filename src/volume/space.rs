//! Space: what is left, what is kept for commits and deletions, and what goes back to the host.

use super::committer::Committer;
use super::purge::purge_nodes;
use super::state::{Budget, VolumeState};
use super::{Result, Volume};
use crate::format::NODE_BYTES;
use crate::store::{KEEP_SHARE, Room, StoreError};
use std::sync::atomic::Ordering::Relaxed;

/// Nodes that a commit writes besides the trees of the views: meta tree paths, space map.
const COMMIT_OVERHEAD_NODES: u64 = 48;
/// Records of views and lines that these are enough for.
const RECORDS_IN_OVERHEAD: u64 = 16;
/// Of more, so many are in a leaf of the meta tree at least, on average; each may change one, and each leaf may split.
const RECORDS_PER_LEAF_MIN: u64 = 4;
pub(super) const NODES_PER_LEAF_OF_RECORDS: u64 = 2;
/// Records of views and lines for which room is looked for before it is known how many there are.
const RECORDS_TRIED: usize = 16;
/// Leaves of the meta tree that the deletion of a view changes: records of it and of those beside it, two dead lists, jobs.
const NODES_PER_DELETION: u64 = 5;
/// Deletions in one commit may take one in so many parts of the reserve, of which commits have half; within bounds.
const DELETIONS_SHARE: u64 = 4;
const DELETIONS_MIN: u64 = 32;
const DELETIONS_MAX: u64 = 256;
/// Work in the background may write one in so many parts of what is free beyond all that is promised.
const JOBS_SHARE: u64 = 2;
/// Nodes that a commit writes for each bucket of a dead list that grows: the leaf of its last chunk, if no other shares
/// it.
pub(super) const BUCKET_OVERHEAD_NODES: u64 = 1;
/// Nodes that a commit writes for a range of content that moves: the leaf of the meta tree with its record, and the next
/// commit the same.
const NODES_PER_COPY: u64 = 2;
/// Bytes that a dead reference adds to a dead list in the worst case.
pub(super) const DEFERRED_BYTES: u64 = 64;
/// Free space at hand that is not given back to the host: a share of what the host has left, within bounds, or what was
/// needed since the commit before, up to a larger share. Securing it anew after each commit would cost more than the commit.
const KEEP_SHARE_OF_NEED: u64 = 4;
const KEEP_BYTES_MIN: u64 = 64 << 20;
const KEEP_BYTES_MAX: u64 = 256 << 20;
/// At rest so much more than what is kept may stay: less is not worth a commit.
const SPARE_BYTES_AT_REST: u64 = 32 << 20;

/// Who asks for space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReserveFor {
    /// Must leave the reserve alone.
    Write,
    /// Makes or changes a view or a line, which takes little, and may use a quarter of the reserve.
    Record,
    /// Makes room in the end, and may use half of the reserve.
    Delete,
}

impl ReserveFor {
    /// What it leaves of a reserve.
    pub(super) fn leaves(self, reserve: u64) -> u64 {
        match self {
            ReserveFor::Write => reserve,
            ReserveFor::Record => reserve / 4 * 3,
            ReserveFor::Delete => reserve / 2,
        }
    }
}

/// Space of a store in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// All that it could hold.
    pub total: u64,
    /// Not in use (waiting for reuse included).
    pub free: u64,
    /// What writers can still get.
    pub available: u64,
    /// What is missing of that which is kept for commits and deletions: nothing, while anything is available.
    pub lacking: u64,
    /// In use by live data, snapshots and metadata.
    pub used: u64,
}

fn bytes_of(budget: &Budget, state: &VolumeState) -> u64 {
    budget.bytes + budget.beside_at_most(state.dirty_nodes) * state.copies.node_bytes()
}

impl Volume {
    /// What staging leaves for others. No lock: whoever stages may hold the transaction.
    pub(super) fn keep_for_stage(&self) -> Room {
        self.kept(self.reserve_bytes).and(self.required.load(Relaxed))
    }

    /// Of `reserve` bytes half must be fit for tree nodes: the other half lets a fragmented store still map what goes
    /// into pieces that are too short for nodes.
    pub(super) fn kept(&self, reserve: u64) -> Room {
        Room { bytes: reserve, node_bytes: reserve / 2 }
    }

    /// Space that everything not yet committed needs in the worst case.
    pub(super) fn required_bytes(&self, state: &VolumeState) -> u64 {
        self.required_for(state, &state.budget)
    }

    /// The same if so much is held for the layer above.
    pub(super) fn required_for(&self, state: &VolumeState, budget: &Budget) -> u64 {
        let copies = state.copies as u64;
        let nodes = state.dirty_nodes
            + COMMIT_OVERHEAD_NODES
            + record_nodes(state)
            + state.deferred.len() as u64 * BUCKET_OVERHEAD_NODES
            + self.copied_ranges() * NODES_PER_COPY
            + self.purged_nodes();
        // A node that is freed is as many references as it has copies, and each entry is in as many leaves.
        nodes * state.copies.node_bytes()
            + self.frozen_bytes.load(Relaxed)
            + bytes_of(budget, state)
            + state.freed_count * DEFERRED_BYTES * copies * copies
    }

    /// Has so much and the reserve free, as far as it is to be left, and keeps it from those who stage.
    pub(super) fn secure_required(&self, required: u64, purpose: ReserveFor) -> Result<()> {
        let room = self.kept(purpose.leaves(self.reserve_bytes)).and(required);
        let store = self.shared.store();
        {
            // Whoever stages content looks at what is required with the allocator locked.
            let mut alloc = store.alloc();
            store.secure(&mut alloc, room)?;
            self.required.store(required, Relaxed);
        }
        self.needed_at_most.fetch_max(room.bytes, Relaxed);
        Ok(())
    }

    /// Makes sure that no commit runs out of space by so many records of views and lines that are made, changed or removed
    /// next. Called before they are, while others who change something wait and readers do not.
    pub(super) fn reserve_records(
        &self,
        state: &VolumeState,
        records: usize,
        purpose: ReserveFor,
    ) -> Result<()> {
        let nodes = records as u64 * NODES_PER_LEAF_OF_RECORDS;
        self.secure_required(self.required_bytes(state) + nodes * state.copies.node_bytes(), purpose)
    }

    /// Fails if there is no room for some records of views and lines. Who is about to change these may still look for some
    /// then.
    pub fn check_room_for_records(&self, purpose: ReserveFor) -> Result<()> {
        self.check_writable()?;
        self.reserve_records(&self.turn(), RECORDS_TRIED, purpose)
    }

    /// A commit that has anything to write but points has what that takes, or does not begin: nothing that was accepted is
    /// without, but work in the background is begun by nobody who could be refused.
    pub(super) fn secure_commit(&self, state: &VolumeState, has_work: bool) -> Result<()> {
        let writes = has_work
            || state.changed
            || !(state.unwritten.is_empty() && state.deletes.is_empty())
            || self.budget_bytes(state) > 0;
        if writes {
            let store = self.shared.store();
            store.secure(&mut store.alloc(), Room::default().and(self.required_bytes(state)))?;
        }
        Ok(())
    }

    /// Free space in which nodes fit, beyond all that is required, of which a commit has written so much.
    pub(super) fn room_beyond_required(&self, state: &VolumeState, written: u64) -> u64 {
        let required = self.required_bytes(state).saturating_sub(written);
        let store = self.shared.store();
        let available = store.device().available();
        let alloc = store.alloc();
        let free = alloc.free_bytes() + alloc.kept_bytes() + alloc.unbacked_bytes().min(available);
        let for_nodes = alloc.node_bytes_in_sum() - alloc.quarantined_bytes();
        free.min(for_nodes).saturating_sub(required)
    }

    /// Asks the host for so much, if it has it: what it has kept since earlier mounts is known only then.
    pub(super) fn have_at_hand(&self, bytes: u64) -> Result<()> {
        let store = self.shared.store();
        match store.secure(&mut store.alloc(), Room::default().and(bytes)) {
            Err(StoreError::NoSpace) => Ok(()),
            done => Ok(done?),
        }
    }

    /// What a commit that has written so much may write for work in the background.
    pub(super) fn room_for_jobs(&self, written: u64) -> u64 {
        self.room_beyond_required(&self.state.read(), written) / JOBS_SHARE
    }

    /// Keeps so much from others until the running commit, which has written so much, has ended. False if there is not so much.
    pub(super) fn promise(&self, bytes: u64, written: u64) -> Result<bool> {
        if bytes == 0 {
            return Ok(true);
        }
        let state = self.turn();
        let required = self.required_bytes(&state) + bytes;
        let store = self.shared.store();
        let mut alloc = store.alloc();
        match store.secure(&mut alloc, Room::default().and(required.saturating_sub(written))) {
            Err(StoreError::NoSpace) => return Ok(false),
            done => done?,
        }
        self.frozen_bytes.fetch_add(bytes, Relaxed);
        self.required.store(required, Relaxed);
        Ok(true)
    }

    /// Ranges that wait for a commit to move.
    fn copied_ranges(&self) -> u64 {
        self.copies.lock().iter().map(|copy| copy.ranges()).sum()
    }

    /// Nodes for what is to be purged.
    fn purged_nodes(&self) -> u64 {
        let (places, leaves) = self.purging.ordered_counts();
        purge_nodes(places, leaves)
    }

    /// How many deleted views a commit takes out of the history at most: it reads the meta tree with the state locked for
    /// that, and what it writes is paid for by the reserve. The others wait for the next.
    pub(super) fn deletes_at_once(&self, state: &VolumeState) -> usize {
        let each = NODES_PER_DELETION * state.copies.node_bytes();
        (self.reserve_bytes / DELETIONS_SHARE / each).clamp(DELETIONS_MIN, DELETIONS_MAX) as usize
    }

    /// Of these, what the layer above holds back.
    pub(super) fn budget_bytes(&self, state: &VolumeState) -> u64 {
        bytes_of(&state.budget, state)
    }

    /// Bytes of tree nodes in memory that a commit would write now.
    pub fn dirty_bytes(&self) -> u64 {
        let state = self.state.read();
        state.dirty_nodes * NODE_BYTES as u64
    }

    /// Content that was freed since the last commit, in bytes: its space is of no use before the next.
    pub fn freed_bytes(&self) -> u64 {
        self.state.read().freed_bytes
    }

    /// A commit takes over what was freed.
    pub(super) fn note_freeing(&self, state: &mut VolumeState) {
        self.freeing_bytes.store(std::mem::take(&mut state.freed_bytes), Relaxed);
        self.shared_bytes.fetch_add(state.shared.bytes(), Relaxed);
    }

    /// At the end of a commit.
    pub(super) fn note_shared(&self, committer: &Committer) {
        let nowhere = committer.remap.purged.sums().0;
        self.shared_bytes.store(committer.extra_refs.bytes().saturating_add(nowhere), Relaxed);
    }

    /// Space as it is when what was freed until now is free: the next commit, which whoever lacks space has made, brings it back.
    /// What others may reach still is not counted.
    pub fn space_with_freed(&self) -> Space {
        let state = self.state.read();
        let freed = state.freed_bytes + self.freeing_bytes.load(Relaxed);
        let shared = self.shared_bytes.load(Relaxed).saturating_add(state.shared.bytes());
        let required = self.required_bytes(&state);
        drop(state);
        self.space_of(required, freed.saturating_sub(shared))
    }

    /// What commits bring back of what counts as used or is held for the worst case.
    pub fn comes_back_bytes(&self) -> u64 {
        let state = self.state.read();
        self.budget_bytes(&state) + state.freed_bytes
    }

    /// Space that commits can make available: freed since the last one, quarantined, held for the worst case, or waiting
    /// for background work.
    pub fn reclaimable_bytes(&self) -> u64 {
        let held = self.comes_back_bytes();
        let work = if self.has_background_work() { u64::MAX / 2 } else { 0 };
        self.shared.store().alloc().quarantined_bytes() + held + work
    }

    /// At the end of a commit.
    pub(super) fn trim_after_commit(&self) {
        let available = self.shared.store().device().available();
        let share = (available / KEEP_SHARE).clamp(KEEP_BYTES_MIN, KEEP_BYTES_MAX);
        let needed = self.needed_at_most.swap(0, Relaxed).min(available / KEEP_SHARE_OF_NEED);
        // Never less than what has been promised.
        let keep = share.max(needed).max(self.needed_at_rest());
        self.trim_spare(keep, keep.min(KEEP_BYTES_MAX));
    }

    /// Gives free space beyond what is kept at hand back to the host, if that is more than `least`.
    fn trim_spare(&self, keep: u64, least: u64) {
        let store = self.shared.store();
        let free = store.alloc().free_bytes();
        if free > keep + least {
            store.trim(keep);
        }
    }

    /// Nothing has changed for a while: less is kept at hand.
    pub fn rest(&self) {
        if !self.is_read_only() {
            self.trim_spare(self.kept_at_rest(), SPARE_BYTES_AT_REST);
        }
    }

    /// True if so much of what the last commit freed waits for another that the host should have it back, and another
    /// would let go of it.
    pub fn has_space_to_return(&self) -> bool {
        let keep = self.kept_at_rest();
        let lets_go = self.would_let_go();
        let alloc = self.shared.store().alloc();
        lets_go && alloc.free_bytes() + alloc.quarantined_bytes() > keep + SPARE_BYTES_AT_REST
    }

    /// True if another commit would let go of some of what was freed: older states cannot be mounted any more then, and nobody
    /// reads them.
    pub fn would_let_go(&self) -> bool {
        let unreachable = self.unreachable(self.epoch());
        self.shared.store().alloc().would_release(unreachable)
    }

    /// Free bytes at hand while nothing changes: what the next change needs, and what is secured ahead of that.
    pub(super) fn kept_at_rest(&self) -> u64 {
        self.needed_at_rest() + self.shared.store().ahead_bytes()
    }

    /// Free bytes without which nothing can be changed while nothing is.
    fn needed_at_rest(&self) -> u64 {
        self.kept(self.reserve_bytes).and(self.required.load(Relaxed)).bytes
    }

    /// Has the host secure space before changes need it, the first included, until [`Self::end_space_ahead`] is called. For
    /// a thread of its own.
    pub fn keep_space_ahead(&self) {
        let store = self.shared.store();
        // As if nothing were free, so that it begins at once.
        store.look_ahead(0, self.needed_at_rest());
        let copies = self.state.read().copies;
        store.keep_ahead(copies);
    }

    /// Has whoever is in [`Self::keep_space_ahead`] return.
    pub fn end_space_ahead(&self) {
        self.shared.store().end_ahead();
    }

    /// What is missing for whoever asks for little for that purpose.
    pub fn lacking_for(&self, purpose: ReserveFor) -> u64 {
        self.space().lacking.saturating_sub(self.reserve_bytes - purpose.leaves(self.reserve_bytes))
    }

    /// As if so much more were being written, until the next commit that succeeds: what was promised to whoever changed something has no
    /// room any more.
    #[cfg(test)]
    pub fn break_promises(&self, bytes: u64) {
        self.frozen_bytes.store(bytes, Relaxed);
    }

    /// Space in use and left.
    pub fn space(&self) -> Space {
        let required = self.required_bytes(&self.state.read());
        self.space_beside(required)
    }

    /// The same if so much is required by what is not committed yet.
    pub(super) fn space_beside(&self, required: u64) -> Space {
        self.space_of(required, 0)
    }

    /// The same if so much of what is in use was freed.
    fn space_of(&self, required: u64, freed: u64) -> Space {
        let store = self.shared.store();
        let available = store.device().available();
        let alloc = store.alloc();
        let free = alloc.free_bytes()
            + alloc.kept_bytes()
            + alloc.quarantined_bytes()
            + alloc.unbacked_bytes().min(available);
        let freed = freed.min(alloc.used_bytes());
        let (free, used) = (free + freed, alloc.used_bytes() - freed);
        let for_nodes = alloc.node_bytes_in_sum();
        drop(alloc);
        let kept = self.kept(self.reserve_bytes).and(required);
        Space {
            total: used + free,
            free,
            // Without room for the nodes that map it, free space is of no use to a writer.
            available: if for_nodes > kept.node_bytes { free.saturating_sub(kept.bytes) } else { 0 },
            lacking: kept.bytes.saturating_sub(free),
            used,
        }
    }
}

/// Nodes of the meta tree that the next commit writes for records of views and lines: of those that have changed, and of
/// heads that what is held back will change.
pub(super) fn record_nodes(state: &VolumeState) -> u64 {
    let heads = state.line_budgets.keys().filter_map(|line| state.lines.head(*line));
    let will_change = heads.filter(|head| !state.history.is_changed(*head)).count();
    let copies = state.hydrations.changed() + state.holds.table.changed() + state.trash.changed();
    let records = (state.history.changed() + state.lines.changed() + copies + will_change) as u64;
    let all = (state.history.count() + state.lines.count() + copies) as u64;
    let leaves = records.saturating_sub(RECORDS_IN_OVERHEAD).min(all / RECORDS_PER_LEAF_MIN + 1);
    leaves * NODES_PER_LEAF_OF_RECORDS
}
