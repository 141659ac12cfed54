//! What a commit takes out of the history, and no more than there is room for.
//!
//! What a deletion rewrites in the meta tree is known only by doing it, and nobody has reserved it. So it is done to a copy of
//! history and meta tree first: what that reads is in memory when readers have to wait, and what would be written is counted,
//! view by view. What fits into half of what is free beyond all that is promised is then promised to the commit, and done to the
//! state. The rest waits for another commit; a view that does not fit alone waits until so much is free. It has no name, so
//! whoever opens the store deletes it.

use super::error::corrupt;
use super::history::{History, Meta, Reclaim};
use super::jobs::Jobs;
use super::state::VolumeState;
use super::view::Shared;
use super::{Result, Volume};
use crate::format::job::Job;
use crate::format::line::LineRecord;
use crate::format::view::{Role, ViewRecord};
use crate::format::{BlockPtr, Key, LineId, ViewId};
use crate::tree::{Edit, Kept, TreeError};
use std::collections::{BTreeMap, BTreeSet};

/// Work that nobody has reserved takes one in so many parts of what is free beyond all that is promised: who deletes files has
/// the rest.
const ROOM_SHARE: u64 = 2;
/// Several views together rewrite no more than this: readers wait while it is done.
const TOGETHER_BYTES_MAX: u64 = 64 << 20;
/// What did not fit is tried again with so much more.
const MORE_ROOM_BYTES: u64 = 256 << 10;
/// The space map tells of so many nodes in one block, at least.
const NODES_PER_MAP_BLOCK: u64 = 128;

/// What a commit is to do about views.
pub(super) struct Removal<'a> {
    /// Roots as this commit wrote them.
    pub written: &'a [(ViewId, BlockPtr)],
    /// Views that were deleted.
    pub deletes: Vec<ViewId>,
    /// A hidden view is swept again when this much was freed below it.
    pub grown_min: u64,
    /// Bytes that the commit has written already.
    pub written_bytes: u64,
}

/// What became of it.
pub(super) struct Removed {
    /// View records that changed.
    pub records: Vec<ViewRecord>,
    /// Views of which the records go.
    pub removed: Vec<ViewId>,
    /// What is to be freed in the background.
    pub reclaim: Reclaim,
    /// Every hidden view that was due was swept.
    pub is_swept: bool,
}

/// What there is room for.
#[derive(Default)]
struct Plan {
    deletes: Vec<ViewId>,
    sweeps: Vec<ViewId>,
    /// Views that are not to go yet.
    read: Vec<ViewId>,
    bases: Vec<ViewId>,
    /// Views that go with a later commit, and whether that is for want of room.
    later: Vec<ViewId>,
    sweeps_later: bool,
    /// There was no room for all.
    is_over: bool,
    /// A view for which there is no room at all, and how much it needs.
    too_large: Option<(ViewId, u64)>,
    /// Room that there was.
    room: u64,
    /// Bytes that doing it writes to the meta tree.
    bytes: u64,
    /// Heads that the history had got.
    forks: u64,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.deletes.is_empty() && self.sweeps.is_empty()
    }

    /// Nothing of it is done: the room that there seemed to be is not to be had.
    fn put_off(&mut self) {
        let (deletes, sweeps) = (std::mem::take(&mut self.deletes), std::mem::take(&mut self.sweeps));
        self.too_large =
            deletes.first().or(sweeps.first()).map(|first| (*first, self.room + MORE_ROOM_BYTES));
        self.later.splice(0..0, deletes.into_iter().skip(1));
        self.sweeps_later |= !sweeps.is_empty();
        self.is_over = true;
    }
}

/// The copy that a plan is made on, and how much may be rewritten.
struct Trial<'p, 'm> {
    history: History,
    meta: Meta<'m, 'p>,
    node_bytes: u64,
}

impl Trial<'_, '_> {
    fn bytes(&self) -> u64 {
        let nodes = u64::try_from(self.meta.edit.nodes_made).unwrap_or(0);
        (nodes + nodes.div_ceil(NODES_PER_MAP_BLOCK)) * self.node_bytes
    }

    /// True if what was done last, with `view`, fits. Nothing is to be done to the copy any more if it does not.
    fn fits(&self, view: ViewId, done: crate::tree::Result<()>, plan: &mut Plan) -> Result<bool> {
        let (bytes, most) = (self.bytes(), plan.room / ROOM_SHARE);
        let needed = match done {
            Ok(()) if bytes <= most && (plan.is_empty() || bytes <= TOGETHER_BYTES_MAX) => {
                plan.bytes = bytes;
                return Ok(true);
            }
            Ok(()) => (bytes * ROOM_SHARE).max(plan.room + MORE_ROOM_BYTES),
            Err(e @ (TreeError::Corrupt(_) | TreeError::Device(_))) => {
                if plan.is_empty() {
                    log::warn!("space of what was deleted does not come back before the next mount: {e}");
                }
                u64::MAX
            }
            Err(e) => return Err(e.into()),
        };
        plan.is_over = true;
        if plan.is_empty() {
            plan.too_large = Some((view, needed));
        }
        Ok(false)
    }
}

impl VolumeState {
    /// True if a view that was to go, or to be swept, needs more room than that.
    fn lacks_room(&self, view: ViewId, room: u64) -> bool {
        self.no_room.get(&view).is_some_and(|needed| *needed > room)
    }

    /// Deleted views that are to go and fit into so much room leave the postponed ones.
    pub(super) fn take_unread(&mut self, shared: &Shared, room: u64) -> Vec<ViewId> {
        let go = |id: &&ViewId| !self.is_wanted(**id, shared) && !self.lacks_room(**id, room);
        let unread: BTreeSet<ViewId> = self.postponed.iter().filter(go).copied().collect();
        self.postponed.retain(|id| !unread.contains(id));
        unread.into_iter().collect()
    }

    /// True if the next commit would take something out of the history, with so much room.
    pub(super) fn would_remove(&self, shared: &Shared, room: u64) -> bool {
        let goes = |id: &ViewId| !self.is_wanted(*id, shared) && !self.lacks_room(*id, room);
        let is_due = |(id, needed): (&ViewId, &u64)| *needed <= room && self.history.is_due(*id, 1);
        self.deletes_left
            || self.sweeps_left
            || self.postponed.iter().any(goes)
            || self.no_room.iter().any(is_due)
    }
}

impl Volume {
    /// Room for what nobody has reserved, as a commit that begins now will find it at least. Of no interest to a state in which
    /// nothing waits for room.
    pub(super) fn room_for_removal(&self, state: &VolumeState) -> u64 {
        if state.no_room.is_empty() {
            return 0;
        }
        // What is required now, and as much for the state that comes then.
        self.room_beyond_required(state, 0).saturating_sub(self.required_bytes(state))
    }

    /// True if a commit would take something out of the history, or bring back the room for it.
    pub(super) fn may_remove(&self, state: &VolumeState) -> bool {
        let unreachable = self.unreachable(state.epoch);
        let coming = {
            let alloc = self.shared.store().alloc();
            if alloc.would_release(unreachable) { alloc.quarantined_bytes() } else { 0 }
        };
        state.would_remove(&self.shared, self.room_for_removal(state) + coming)
    }

    /// Deletes views, as far as there is room, and says what came of it.
    pub(super) fn remove_views(
        &self,
        mut removal: Removal<'_>,
        lines: &mut BTreeMap<LineId, Option<LineRecord>>,
        meta: &mut Meta<'_, '_>,
    ) -> Result<Removed> {
        let mut kept = Kept::default();
        let deletes = std::mem::take(&mut removal.deletes);
        let mut plan = self.plan_removal(&removal, deletes, meta, &mut kept)?;
        if plan.bytes > 0 && !self.promise(plan.bytes, removal.written_bytes)? {
            // What is free is not to be had, or somebody was faster.
            plan.put_off();
        }
        let mut state = self.turn();
        // A commit that takes out nothing is no deletion, and no pause of one.
        let mut held_up = (!plan.is_empty()).then(|| self.removals.begin());
        let s = state.alone();
        s.history.appended();
        for (id, ptr) in removal.written {
            s.history.set_root(*id, Some(*ptr));
        }
        let mut removed = self.carry_out(s, plan, meta)?;
        for (gone, below) in s.history.take_gone() {
            s.lines.origin_gone(gone, below, lines);
        }
        (removed.records, removed.removed) = s.history.take_records();
        held_up.iter_mut().for_each(|held_up| held_up.views = removed.removed.len());
        for gone in &removed.removed {
            s.roots.remove(gone);
        }
        // A hidden view's tree may be freed in part: nobody reads it any more.
        for hidden in removed.records.iter().filter(|r| r.role == Role::Hidden) {
            s.roots.remove(&hidden.id);
        }
        Ok(removed)
    }

    /// Does it to a copy of history and meta tree, as far as there is room.
    fn plan_removal(
        &self,
        removal: &Removal<'_>,
        deletes: Vec<ViewId>,
        meta: &mut Meta<'_, '_>,
        kept: &mut Kept,
    ) -> Result<Plan> {
        let mut plan = Plan::default();
        let needed = {
            let state = self.state.read();
            if deletes.is_empty() && state.history.due(removal.grown_min).is_empty() {
                return Ok(plan);
            }
            self.required_bytes(&state).saturating_sub(removal.written_bytes) + self.reserve_bytes
        };
        self.have_at_hand(needed)?;
        let (history, node_bytes, no_room, deletes) = {
            let state = self.state.read();
            let _held_up = self.removals.begin();
            plan.forks = state.history.forks();
            plan.room = self.room_beyond_required(&state, removal.written_bytes);
            // A line was compared with one when this was frozen, or is since then.
            let bases = state.lines.frozen_bases();
            let is_base = |id: &ViewId| bases.contains(id) || state.lines.is_base(*id);
            let (kept, deletes): (Vec<_>, Vec<_>) = deletes.into_iter().partition(is_base);
            plan.bases = kept;
            (state.history.clone(), state.copies.node_bytes(), state.no_room.clone(), deletes)
        };
        kept.meeting(|| {
            let (mut root, mut freed) = (meta.root.clone(), Vec::new());
            let (pager, epoch) = (meta.edit.pager, meta.edit.epoch);
            let mut edit = Edit { pager, epoch, freed: &mut freed, nodes_made: 0 };
            let meta = Meta { edit: &mut edit, root: &mut root };
            let mut trial = Trial { history, meta, node_bytes };
            trial.history.appended();
            for (id, ptr) in removal.written {
                trial.history.set_root(*id, Some(*ptr));
            }
            self.try_deletes(&mut trial, deletes, &mut plan)?;
            let mut due = trial.history.due(removal.grown_min);
            due.retain(|id| no_room.get(id).is_none_or(|needed| *needed <= plan.room));
            try_sweeps(&mut trial, due, &mut plan)
        })?;
        Ok(plan)
    }

    fn try_deletes(&self, trial: &mut Trial<'_, '_>, deletes: Vec<ViewId>, plan: &mut Plan) -> Result<()> {
        let mut deletes = deletes.into_iter();
        while let Some(id) = deletes.next() {
            // Nobody begins to read it any more: it has no name.
            if self.shared.is_read(id) {
                plan.read.push(id);
            } else if !trial.history.deletable(id) {
                plan.later.push(id);
            } else {
                let done = trial.history.delete(id, &mut trial.meta).map(drop);
                if !trial.fits(id, done, plan)? {
                    plan.later.extend(plan.too_large.is_none().then_some(id));
                    plan.later.extend(deletes);
                    break;
                }
                plan.deletes.push(id);
            }
        }
        Ok(())
    }

    /// Does what was planned. What has changed meanwhile ends it: of all else it is not known what it rewrites.
    fn carry_out(&self, s: &mut VolumeState, plan: Plan, meta: &mut Meta<'_, '_>) -> Result<Removed> {
        let mut reclaim = Reclaim::default();
        let mut deletes = plan.deletes.into_iter().peekable();
        let is_same = s.history.forks() == plan.forks;
        let stays = |s: &VolumeState, id: ViewId| {
            s.lines.is_base(id) || self.shared.is_read(id) || !s.history.deletable(id)
        };
        while let Some(id) = deletes.next_if(|id| is_same && !stays(s, *id)) {
            reclaim.extend(s.history.delete(id, meta)?);
            s.no_room.remove(&id);
        }
        let left: Vec<ViewId> = deletes.collect();
        let is_whole = is_same && left.is_empty();
        s.sweeps_left = plan.sweeps_later || !is_whole && !plan.sweeps.is_empty();
        if is_whole && !plan.sweeps.is_empty() {
            let mut sweep = s.history.begin_sweep();
            for view in plan.sweeps {
                s.history.sweep_view(view, &mut sweep, meta)?;
                s.no_room.remove(&view);
            }
            reclaim.extend(sweep.end());
        }
        if let Some((view, needed)) = plan.too_large {
            s.no_room.insert(view, needed);
            // Else it is a hidden one.
            if s.history.get(view).is_some_and(|record| record.role != Role::Hidden) {
                s.postponed.insert(view);
            }
        }
        s.deletes_left |= !left.is_empty() || plan.is_over && !plan.later.is_empty();
        s.deletes.extend(left.into_iter().chain(plan.later));
        s.postponed.extend(plan.bases.into_iter().chain(plan.read));
        let VolumeState { no_room, history, .. } = s;
        no_room.retain(|view, _| history.get(*view).is_some());
        let is_swept = !s.sweeps_left && !s.no_room.keys().any(|view| s.history.is_due(*view, 1));
        Ok(Removed { records: Vec::new(), removed: Vec::new(), reclaim, is_swept })
    }

    /// Notes what a deletion leaves to do. Returns the first numbers that are not given yet.
    pub(super) fn add_jobs(
        &self,
        jobs: &mut Jobs,
        meta: &mut Meta<'_, '_>,
        reclaim: Reclaim,
    ) -> Result<(ViewId, u64)> {
        let new = jobs_of(reclaim)?;
        let (first, next_ids) = {
            let mut turn = self.turn();
            let history = &mut turn.alone().history;
            let first = *history.next_id_mut();
            *history.next_id_mut() += new.len() as u64;
            (first, history.next_ids())
        };
        for (id, job) in (first..).zip(new) {
            jobs.add(id, job, meta)?;
        }
        Ok(next_ids)
    }
}

/// Once for all deletions: each may be about every hidden view below.
fn try_sweeps(trial: &mut Trial<'_, '_>, due: Vec<ViewId>, plan: &mut Plan) -> Result<()> {
    if due.is_empty() || plan.is_over {
        plan.sweeps_later = !due.is_empty();
        return Ok(());
    }
    let mut sweep = trial.history.begin_sweep();
    let last = due.last().copied();
    for view in due {
        let done = trial.history.sweep_view(view, &mut sweep, &mut trial.meta);
        if !trial.fits(view, done, plan)? {
            plan.sweeps_later = plan.too_large.is_none() || last != Some(view);
            return Ok(());
        }
        plan.sweeps.push(view);
    }
    Ok(())
}

/// What a deletion leaves to do.
fn jobs_of(reclaim: Reclaim) -> Result<Vec<Job>> {
    let mut new: Vec<Job> = reclaim.free_lists.into_iter().map(Job::FreeList).collect();
    new.extend(reclaim.drop_lists.into_iter().map(Job::DropList));
    for tree in reclaim.free_trees {
        let root = tree.root.ok_or_else(|| corrupt(format!("deleted view {} has no root", tree.view.0)))?;
        new.push(Job::FreeTree { root, newer_than: tree.newer_than, cursor: Key::MIN });
    }
    Ok(new)
}
