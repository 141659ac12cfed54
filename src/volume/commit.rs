//! The commit: freeze in an instant, write down, flush, point the superblock, flush, publish.
//!
//! Numbered as in `docs/architecture.md`:
//! 1. freeze: roots, by-products and counters are taken under the state lock, the epoch moves on;
//! 2. the trees of changed views are written bottom-up;
//! 3. the meta tree takes in dead lists, freed ranges, deletions, background work and view records;
//! 4. the space map takes in what was allocated and freed;
//! 5. flush; superblock to both rings; flush;
//! 6. publish: freed ranges go to quarantine, older ones come back, written nodes go to the cache.
//!
//! Any failure after 1 leaves the previous superblock in force and poisons the volume.

use super::committer::Committer;
use super::error::corrupt;
use super::extra_refs::ExtraRefs;
use super::history::{Freeing, Meta, deadlist};
use super::purge::PurgeTurn;
use super::remap::{Moving, Remap};
use super::removal::Removal;
use super::state::{Budget, DeferredFrees, Freed, StateTurn, VolumeState};
use super::view::Shared;
use super::writer::CommitWriter;
use super::{Result, Txn, Volume, ring};
use crate::format::deadlist::DeadEntry;
use crate::format::line::LineRecord;
use crate::format::remap::RemapRecord;
use crate::format::superblock::{PENDING_ROOM, PendingPoint, Superblock};
use crate::format::view::Role;
use crate::format::{BlockPtr, Epoch, Generation, Ino, Key, Kind, LineId, ViewId};
use crate::store::{BATCH, end_batch};
use crate::tree::{self, Child, Edit};
use parking_lot::MutexGuard;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

/// A hidden view is swept again when this much was freed below it.
pub(super) const SWEEP_GROWN_BYTES_MIN: u64 = 1 << 20;

/// One frozen moment.
struct Frozen {
    epoch: Epoch,
    /// Trees with nodes that are not written yet: snapshots before heads.
    roots: Vec<(ViewId, Child)>,
    deferred: DeferredFrees,
    frees: Vec<Freed>,
    allocs: Vec<(u64, u64)>,
    shared: Vec<(u64, u64)>,
    points: Vec<PendingPoint>,
    deletes: Vec<ViewId>,
    /// Items of the scrub, and of other stores.
    beside: Vec<(Key, Option<Vec<u8>>)>,
    /// Copied content that is to move.
    copies: Vec<Moving>,
    purge: PurgeTurn,
    /// Nothing but `points`: the superblock alone can tell of them.
    points_only: bool,
    /// Position in the log of the first record that this commit does not contain.
    log_start: u64,
    /// A record stands there.
    log_begins: bool,
    /// Records of lines that changed; none for a line that went.
    lines: BTreeMap<LineId, Option<LineRecord>>,
    next_ids: (ViewId, u64),
    next_line: LineId,
    next_generation: Generation,
    next_ino: Ino,
    incompat: u64,
}

/// A commit in progress. Holds the committer's mutex: one at a time.
pub struct CommitSession<'a> {
    volume: &'a Volume,
    committer: MutexGuard<'a, Committer>,
    frozen: Option<Frozen>,
}

/// A closure that brings what the layer above holds back into the transaction.
pub type Prepare<'p> = &'p mut dyn FnMut(&mut Txn<'_>) -> Result<()>;

impl Volume {
    /// Waits for a running commit and starts another.
    pub fn begin_commit(&self) -> Result<CommitSession<'_>> {
        self.check_writable()?;
        let committer = self.committer.lock();
        self.check_writable()?;
        Ok(CommitSession { volume: self, committer, frozen: None })
    }

    /// Makes everything published, and what `prepare` adds, durable.
    pub fn commit(&self, prepare: Prepare<'_>) -> Result<()> {
        let mut session = self.begin_commit()?;
        session.freeze(prepare)?;
        session.finish()
    }

    /// After the last commit: takes no more changes, and has the superblock say that nothing is in the log, if that is so,
    /// because it may get lost then. Whoever was about to change something gets an error.
    pub fn close(&self) -> Result<()> {
        let mut committer = self.committer.lock();
        let begins = {
            // Whoever changes something has the turn: nothing is half done, and nothing begins.
            let _turn = self.turn();
            let begins = committer.superblock.log_begins && self.log.is_at_beginning();
            let begins = begins && !self.is_read_only();
            self.closed.store(true, Relaxed);
            self.log.end();
            begins
        };
        if begins { self.tell_that_the_log_is_empty(&mut committer) } else { Ok(()) }
    }

    /// Writes nothing to the device from when this returns on, whoever is on the way to it. The last call.
    pub fn let_go(&self) {
        self.shared.store().let_go();
    }

    fn tell_that_the_log_is_empty(&self, committer: &mut Committer) -> Result<()> {
        let old = &committer.superblock;
        let superblock = Superblock { seq: old.seq + 1, log_begins: false, ..old.clone() };
        let store = self.shared.store();
        self.note(ring::write(store, &superblock).and_then(|()| Ok(store.flush()?)))?;
        committer.superblock = superblock;
        Ok(())
    }

    /// True if freed space waits for background work.
    pub fn has_background_work(&self) -> bool {
        let committer = self.committer.lock();
        let work = committer.jobs.go_on() || committer.remap.doubled_len() > 0;
        work || self.may_remove(&self.state.read())
    }

    /// What commits before this epoch freed is reached by nobody once the commit of `epoch` is in force.
    pub(super) fn unreachable(&self, epoch: Epoch) -> Epoch {
        self.shared.oldest_reader().map_or(epoch, |oldest| oldest.min(epoch))
    }
}

impl VolumeState {
    /// True if somebody reads a deleted snapshot, or a line is compared with it.
    pub(super) fn is_wanted(&self, id: ViewId, shared: &Shared) -> bool {
        self.lines.is_base(id) || shared.is_read(id)
    }
}

impl<'a> CommitSession<'a> {
    /// True if freed space waits for work in the background, content to be moved, or what was deleted for room.
    fn has_work(&self, state: &VolumeState) -> bool {
        let moving = !self.volume.copies.lock().is_empty() || self.committer.remap.doubled_len() > 0;
        let removes = state.would_remove(&self.volume.shared, self.volume.room_for_removal(state));
        self.committer.jobs.go_on() || moving || self.volume.purging.waits() || removes
    }

    /// Step 1. On error nothing is frozen.
    pub fn freeze(&mut self, prepare: Prepare<'_>) -> Result<()> {
        let mut txn = self.volume.begin(LineId::MAIN)?;
        self.volume.secure_commit(txn.state(), self.has_work(txn.state()))?;
        let (held, required) =
            (self.volume.budget_bytes(txn.state()), self.volume.required_bytes(txn.state()));
        txn.attempt(prepare)?;
        let state = txn.end();
        let now = self.volume.required_bytes(&state) - self.volume.budget_bytes(&state);
        // After a replay nothing is held: the space that was secured then is free.
        debug_assert!(held == 0 || now <= required, "{now} bytes needed of {required}, {held} of them held");
        self.freeze_state(state);
        Ok(())
    }

    fn freeze_state(&mut self, mut state: StateTurn<'a>) {
        let s = state.alone();
        let unwritten = std::mem::take(&mut s.unwritten);
        let mut roots: Vec<_> =
            unwritten.iter().filter_map(|id| s.roots.get(id).map(|r| (*id, r.clone()))).collect();
        // A snapshot is written before the heads that share its nodes, so that a node's owner is where it was born.
        roots
            .sort_by_key(|(id, _)| (s.history.get(*id).map_or(u64::MAX, |v| v.epoch.0).wrapping_sub(1), *id));
        let pending =
            self.committer.superblock.pending.iter().chain(&s.points).map(PendingPoint::encoded_len);
        let has_room_for_points = pending.sum::<usize>() <= PENDING_ROOM;
        let mut purge = PurgeTurn::taken_from(&self.volume.purging);
        // Whoever holds one from here on holds what it is then.
        purge.refuse_if(|view| s.check_not_needed(view).is_err());
        purge.refuse_beside(self.committer.purge_rest.as_ref());
        if let Some(order) = &purge.order {
            // Whoever has shared some of it until now is seen by this commit.
            self.volume.shared.places.may_not_be_shared(&order.places);
        }
        let work = self.has_work(s) || purge.has_work();
        let copies = std::mem::take(&mut *self.volume.copies.lock());
        let unread = s.take_unread(&self.volume.shared, self.volume.room_for_removal(s));
        s.deletes.extend(unread);
        let points_only =
            !s.changed && s.deletes.is_empty() && roots.is_empty() && has_room_for_points && !work;
        let later = s.deletes.split_off(s.deletes.len().min(self.volume.deletes_at_once(s)));
        let deletes = std::mem::replace(&mut s.deletes, later);
        s.deletes_left = !s.deletes.is_empty();
        // All that is still to be written, but what is held for the layer above, which has brought it in.
        let frozen_bytes = self.volume.required_bytes(s) - self.volume.budget_bytes(s);
        self.volume.frozen_bytes.store(frozen_bytes, Relaxed);
        self.volume.note_freeing(s);
        if !points_only {
            s.history.freeze();
        }
        let (log_start, log_begins) = self.volume.log.mark(LineId::MAIN, s.epoch.next());
        self.frozen = Some(Frozen {
            epoch: s.epoch,
            roots,
            deferred: std::mem::take(&mut s.deferred),
            frees: std::mem::take(&mut s.frees),
            allocs: std::mem::take(&mut s.allocs),
            shared: s.shared.take(),
            points: std::mem::take(&mut s.points),
            deletes,
            beside: s.take_beside(),
            copies,
            purge,
            points_only,
            log_start,
            log_begins,
            lines: if points_only { BTreeMap::new() } else { s.lines.freeze() },
            next_ids: s.history.next_ids(),
            next_line: s.lines.next,
            next_generation: s.lines.slots.next_generation(),
            next_ino: s.next_ino,
            incompat: s.incompat,
        });
        s.freed_count = 0;
        s.dirty_nodes = 0;
        s.budget = Budget::default();
        s.line_budgets.clear();
        s.changed = false;
        s.epoch = s.epoch.next();
        self.volume.required.store(self.volume.required_bytes(s), Relaxed);
    }

    /// Steps 2 to 6.
    pub fn finish(mut self) -> Result<()> {
        let Some(frozen) = self.frozen.take() else { return Ok(()) };
        let (volume, log_start) = (self.volume, frozen.log_start);
        let done = if frozen.points_only { self.write_points(frozen) } else { self.write_all(frozen) };
        volume.frozen_bytes.store(0, Relaxed);
        volume.freeing_bytes.store(0, Relaxed);
        {
            // What was held for the frozen state is no longer kept from those who stage. Under the lock that a
            // transaction holds while it notes what it needs.
            let state = volume.state.read();
            volume.required.store(volume.required_bytes(&state), Relaxed);
        }
        match &done {
            Ok(()) => volume.log.release(log_start),
            Err(e) => volume.poison(e),
        }
        done
    }

    fn next_superblock(&self, frozen: &Frozen) -> Superblock {
        let old = &self.committer.superblock;
        Superblock {
            seq: old.seq + 1,
            epoch: frozen.epoch,
            time: frozen.points.last().map_or(old.time, |p| p.created),
            next_line: frozen.next_line,
            next_generation: frozen.next_generation,
            incompat: frozen.incompat,
            next_view: frozen.next_ids.0,
            next_id: frozen.next_ids.1,
            next_ino: frozen.next_ino,
            log_start: frozen.log_start,
            log_generation: self.volume.log.generation(),
            log_begins: frozen.log_begins,
            ..old.clone()
        }
    }

    /// Nothing was written since the last commit but the log, which is flushed first if it is to begin elsewhere.
    fn write_points(&mut self, frozen: Frozen) -> Result<()> {
        let old = &self.committer.superblock;
        let log_moves = !self.volume.log.is_recording()
            || (old.log_start, old.log_begins) != (frozen.log_start, frozen.log_begins);
        let store = self.volume.shared.store();
        let unreachable = self.volume.unreachable(frozen.epoch);
        if frozen.points.is_empty() && !log_moves && !store.alloc().would_release(unreachable) {
            return Ok(());
        }
        let mut superblock = self.next_superblock(&frozen);
        superblock.pending.extend(frozen.points);
        if log_moves {
            self.volume.log.write_beginning(store)?;
            store.flush()?;
        }
        ring::write(store, &superblock)?;
        store.flush()?;
        store.device().reached(superblock.epoch.0, superblock.time.0);
        self.committer.superblock = superblock;
        self.volume.shared.places.forget(unreachable);
        store.release(unreachable);
        Ok(())
    }

    fn write_all(&mut self, mut frozen: Frozen) -> Result<()> {
        let volume = self.volume;
        let (shared, store) = (&volume.shared, volume.shared.store());
        let epoch = frozen.epoch;
        let mut writer = CommitWriter::new(store, self.committer.superblock.metadata_copies);
        // 2
        let mut written = Vec::with_capacity(frozen.roots.len());
        for (id, root) in std::mem::take(&mut frozen.roots) {
            written.push((id, tree::write_out(&root, id.0, &mut writer)?));
        }
        writer.write_gathered()?;
        // 3
        let mut meta_freed = Vec::new();
        let mut let_go: Vec<DeadEntry> = resolve(&frozen.frees).collect();
        let (mut freed, mut moved): (Vec<(u64, u64)>, Vec<RemapRecord>) = Default::default();
        let committer = &mut *self.committer;
        let (next_ids, gone);
        {
            let mut edit = Edit { pager: &shared.pager, epoch, freed: &mut meta_freed, nodes_made: 0 };
            let mut meta = Meta { edit: &mut edit, root: &mut committer.meta_root };
            volume.append_deferred(std::mem::take(&mut frozen.deferred), &mut meta, &mut let_go)?;
            frozen.shared.iter().for_each(|(addr, len)| committer.extra_refs.add(*addr, *len));
            // Since the last commit nobody can have come to refer to these places by what has moved.
            for (addr, len) in committer.remap.settle() {
                freed.extend(committer.extra_refs.release(addr, len));
            }
            let tables = (&mut committer.remap, &mut committer.extra_refs, &mut committer.leaves);
            freed.extend(frozen.purge.enter(tables, store, &mut meta, epoch)?);
            if let Some((views, secs)) = frozen.purge.edited() {
                let mut state = volume.turn();
                views.iter().for_each(|view| state.alone().history.set_edited(*view, secs));
            }
            committer.wiping = frozen.purge.wiping.unwrap_or(committer.wiping);
            frozen.purge.enter_rest(&mut committer.purge_rest, &mut meta)?;
            volume.purging.need_for(committer.purge_rest.as_ref());
            // The snapshots that they are of are held until the commit is written.
            for copy in &mut frozen.copies {
                moved.extend(copy.enter(&mut committer.remap, &committer.extra_refs));
            }
            frozen.allocs.extend(moved.iter().map(|record| (record.new.0, record.len)));
            let deletes = std::mem::take(&mut frozen.deletes);
            let grown_min = if frozen.purge.sweep { 0 } else { SWEEP_GROWN_BYTES_MIN };
            let written_bytes = bytes_in(&writer.allocated);
            let removal = Removal { written: &written, deletes, grown_min, written_bytes };
            let removed = volume.remove_views(removal, &mut frozen.lines, &mut meta)?;
            if frozen.purge.sweep && !removed.is_swept {
                volume.free_hidden();
            }
            next_ids = volume.add_jobs(&mut committer.jobs, &mut meta, removed.reclaim)?;
            for gone in removed.removed {
                meta.edit.remove(meta.root, &view_key(gone))?;
            }
            for record in removed.records {
                meta.edit.insert(meta.root, &view_key(record.id), &record.encode())?;
            }
            for (id, record) in std::mem::take(&mut frozen.lines) {
                match record {
                    Some(record) => meta.edit.insert(meta.root, &line_key(id), &record.encode())?,
                    None => drop(meta.edit.remove(meta.root, &line_key(id))?),
                }
            }
            let made = meta.edit.nodes_made;
            let room = volume.room_for_jobs(written_bytes);
            let shared_ranges = committer.extra_refs.count() + committer.remap.len();
            let with = (&shared.pager, writer.copies.node_bytes());
            committer.jobs.run((room, shared_ranges), with, &mut meta, &mut let_go)?;
            frozen.purge.release_leaves(&let_go, &mut committer.leaves, &mut meta)?;
            gone = release(let_go, &mut committer.remap, &mut committer.extra_refs, &mut freed);
            frozen.purge.forget(&mut committer.remap, &freed);
            let purged = committer.remap.purged.take_changes();
            for (key, value) in std::mem::take(&mut frozen.beside).into_iter().chain(purged) {
                match value {
                    Some(value) => meta.edit.insert(meta.root, &key, &value)?,
                    None => drop(meta.edit.remove(meta.root, &key)?),
                }
            }
            for (addr, record) in committer.remap.take_changes() {
                let key = Key::new(0, Kind::Remap, addr);
                match record {
                    Some(record) => meta.edit.insert(meta.root, &key, &record.encode())?,
                    None => drop(meta.edit.remove(meta.root, &key)?),
                }
            }
            for (addr, value) in committer.extra_refs.take_changes() {
                let key = Key::new(0, Kind::ExtraRefs, addr);
                match value {
                    Some((len, extra)) => {
                        let mut item = len.to_le_bytes().to_vec();
                        item.extend_from_slice(&u64::from(extra).to_le_bytes());
                        meta.edit.insert(meta.root, &key, &item)?;
                    }
                    None => {
                        meta.edit.remove(meta.root, &key)?;
                    }
                }
            }
            let made = u64::try_from(meta.edit.nodes_made - made).unwrap_or(0);
            // That there is so much was seen before. Nobody else is to take it until it is written.
            volume.promise(made * writer.copies.node_bytes(), written_bytes)?;
        }
        let meta_ptr = tree::write_out(&committer.meta_root, 0, &mut writer)?;
        freed.extend(meta_freed.iter().filter_map(|d| d.ptr()).flat_map(|p| p.ranges()));
        // The space map's own blocks are in use, whatever the bytes of a tree say.
        let map = committer.space_map.blocks().iter().flat_map(|p| p.ranges());
        let checked: Vec<_> = freed.iter().copied().chain(map).collect();
        if let Some((addr, len)) = store.not_allocated(checked) {
            return Err(corrupt(format!("{addr:#x}+{len} would be freed, but is not allocated, or twice")));
        }
        // 4
        committer.space_map.append(&mut writer, store, &frozen.allocs, &mut freed, epoch)?;
        writer.write_gathered()?;
        // 5
        volume.log.write_beginning(store)?;
        store.flush()?;
        let mut superblock = self.next_superblock(&frozen);
        let unreachable = volume.unreachable(epoch);
        let committer = &mut *self.committer;
        superblock.meta_root = meta_ptr;
        superblock.space_map = committer.space_map.head();
        (superblock.next_view, superblock.next_id) = next_ids;
        superblock.pending = Vec::new();
        superblock.allocated =
            superblock.allocated + bytes_in(&writer.allocated) + bytes_in(&frozen.allocs) - bytes_in(&freed);
        ring::write(store, &superblock)?;
        store.flush()?;
        // 6
        volume.incompat.store(superblock.incompat, Relaxed);
        store.device().reached(superblock.epoch.0, superblock.time.0);
        committer.superblock = superblock;
        tree::settle(&shared.pager, &mut committer.meta_root, epoch.next());
        store.settle(&writer.allocated);
        store.settle(&frozen.allocs);
        store.quarantine(epoch, &freed);
        volume.note_shared(committer);
        shared.places.publish(epoch, &moved, gone);
        let purge = std::mem::take(&mut frozen.purge);
        purge.publish(&volume.purging, &shared.places, &shared.pager, epoch, unreachable);
        shared.places.forget(unreachable);
        store.release(unreachable);
        volume.trim_after_commit();
        volume.settle_state(&written, epoch);
        Ok(())
    }
}

impl Volume {
    /// Appends what died to the dead lists. A list may have changed hands since; then it may be free after all.
    fn append_deferred(
        &self,
        deferred: DeferredFrees,
        meta: &mut Meta<'_, '_>,
        let_go: &mut Vec<DeadEntry>,
    ) -> Result<()> {
        let (routes, mut next_id) = {
            let mut turn = self.turn();
            let state = turn.alone();
            let routes: Vec<_> =
                deferred.keys().map(|(list, bucket)| state.history.route(*list, *bucket)).collect();
            let next_id = *state.history.next_id_mut();
            // Each append numbers one new chain at most.
            *state.history.next_id_mut() += routes.len() as u64;
            (routes, next_id)
        };
        for (route, deferred) in routes.into_iter().zip(deferred.into_values()) {
            let entries: Vec<DeadEntry> = resolve(&deferred).collect();
            match route {
                Some(Freeing::Deferred { list, bucket }) => {
                    deadlist::append(meta, list, bucket, &entries, &mut next_id)?
                }
                Some(Freeing::Now) => let_go.extend(entries),
                None => {}
            }
        }
        Ok(())
    }

    /// The state of `epoch` is in force: exchanges written nodes for their stored form, and frees slots.
    fn settle_state(&self, written: &[(ViewId, BlockPtr)], closed: Epoch) {
        let mut turn = self.turn();
        let state = turn.alone();
        let VolumeState { lines, history, .. } = state;
        let is_kept =
            |id| history.get(id).is_some_and(|v| v.role == Role::Snapshot) || self.shared.is_read(id);
        let oldest = self.shared.oldest_reader();
        lines.slots.release(closed, oldest, is_kept, |slot| self.shared.is_known(slot));
        let epoch = state.epoch;
        for (id, _) in written {
            if let Some(root) = state.roots.get_mut(id) {
                tree::settle(&self.shared.pager, root, epoch);
            }
        }
    }
}

/// Key of a view record in the meta tree.
pub(super) fn view_key(id: ViewId) -> Key {
    Key::new(0, Kind::View, id.0)
}

/// Key of a line record in the meta tree.
pub(super) fn line_key(id: LineId) -> Key {
    Key::new(0, Kind::Line, id.0)
}

fn bytes_in(ranges: &[(u64, u64)]) -> u64 {
    ranges.iter().map(|(_, len)| len).sum()
}

fn resolve(deferred: &[Freed]) -> impl Iterator<Item = DeadEntry> + '_ {
    deferred.iter().flat_map(Freed::resolve).map(|(addr, len, birth)| DeadEntry { addr, len, birth })
}

/// References go, and by them places, as far as no others refer to them. Returns those that had moved.
fn release(
    let_go: Vec<DeadEntry>,
    remap: &mut Remap,
    extra_refs: &mut ExtraRefs,
    freed: &mut Vec<(u64, u64)>,
) -> Vec<DeadEntry> {
    let mut moved = Vec::new();
    freed.reserve(let_go.len());
    for (n, e) in let_go.into_iter().enumerate() {
        if !remap.is_in_place(e.addr, e.len, e.birth) {
            moved.push(e);
        }
        for (addr, len) in remap.release(&e) {
            freed.extend(extra_refs.release(addr, len));
        }
        if n % BATCH == BATCH - 1 {
            end_batch();
        }
    }
    moved
}
