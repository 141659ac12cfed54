//! What deleting snapshots and lines would bring back, before anybody deletes them: the deletion itself, done to a copy of the
//! history and of the meta tree that is thrown away.
//!
//! So it is exact by construction, whatever branches, hidden views, moved content and shared blocks there are. It is about
//! what views reach: the store's own tables, which change with each commit, are counted apart. All as of the last
//! commit; what is on its way back already is taken to be back.
//!
//! Any thread may plan, for as long as it likes: the state is pinned, and nobody waits for it.

use super::commit::SWEEP_GROWN_BYTES_MIN;
use super::extra_refs::ExtraRefs;
use super::history::{Freeing, Meta, MetaRead, Reclaim, deadlist};
use super::jobs::STEP_ENTRIES_MAX;
use super::reclaim::{self, ReclaimProgress};
use super::remap::Remap;
use super::space::Space;
use super::state::{Freed, VolumeState};
use super::view::{Pin, Shared};
use super::{Result, Volume};
use crate::format::deadlist::DeadEntry;
use crate::format::job::Job;
use crate::format::superblock::Superblock;
use crate::format::view::Role;
use crate::format::{BlockPtr, Epoch, Key, LineId, ViewId};
use crate::tree::{self, Child, Edit, Pager, Step, Visit};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sets of snapshots that are tried at most when some are looked for that bring back an amount.
const TRIES_MAX: usize = 1 << 10;
/// The same where trying one reads everything that it would let go of.
const TRIES_OF_PLANS_MAX: usize = 64;

/// Why a view stays for now although it is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StaysFor {
    /// Somebody reads it, or has it mounted.
    Reader,
    /// That line is compared with it when it is merged.
    Line(LineId),
}

/// A view of a set to be deleted that stays for now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StayingView {
    /// It.
    pub id: ViewId,
    /// For whom.
    pub stays_for: StaysFor,
    /// What comes back when it goes, after those that are listed before it. Bytes.
    pub freed: u64,
}

/// What deleting a set of views brings back, in bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeletionPlan {
    /// With the next commits.
    pub freed: u64,
    /// Of what goes with the next commits, what is referred to from elsewhere as well, and so stays.
    pub shared: u64,
    /// What comes back later.
    pub staying: Vec<StayingView>,
}

impl DeletionPlan {
    /// All that comes back in the end.
    pub fn freed_in_the_end(&self) -> u64 {
        self.staying.iter().fold(self.freed, |sum, stays| sum.saturating_add(stays.freed))
    }
}

/// What a store's space is used for, in bytes: the parts add up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpaceParts {
    /// All that there is.
    pub total: u64,
    /// All that is in use.
    pub used: u64,
    /// What lines have now: the main line and clones, each block once.
    pub live: u64,
    /// What only snapshots have.
    pub snapshots: u64,
    /// The store's own tables.
    pub tables: u64,
    /// What deletions have let go of and the background has not given back yet.
    pub freeing: u64,
    /// How much more it would be if nothing were shared between files.
    pub saved_by_sharing: u64,
}

/// References that are let go of, and the places that nobody refers to any more.
#[derive(Clone, Copy, Default)]
struct LetGo {
    references: u64,
    places: u64,
}

impl LetGo {
    fn add(&mut self, other: LetGo) {
        self.references = self.references.saturating_add(other.references);
        self.places = self.places.saturating_add(other.places);
    }
}

/// A copy of everything that deletions change.
#[derive(Clone)]
struct Draft {
    state: VolumeState,
    meta_root: Child,
    remap: Remap,
    extra_refs: ExtraRefs,
}

/// Plans deletions on one state of a volume, which stays readable until this is dropped.
pub struct Planner<'v> {
    volume: &'v Volume,
    now: Draft,
    /// As of the same moment, or just after.
    space: Space,
    superblock: Superblock,
    space_map: Vec<BlockPtr>,
    begun: Instant,
    _pin: Arc<Pin>,
}

impl Volume {
    /// To plan on the state as of the last commit.
    pub fn planner(&self) -> Result<Planner<'_>> {
        let committer = self.committer.lock();
        let begun = Instant::now();
        let mut state = self.state.read().clone();
        // What is published in between counts as on its way, and the other way round nothing is missing.
        let space = self.space_beside(self.required_bytes(&state));
        let superblock = committer.superblock.clone();
        let pin = Pin::epoch(&self.shared, superblock.epoch);
        // What a job that is set aside would let go of stays referred to.
        let jobs: Vec<Job> = committer.jobs.going_on().copied().collect();
        let space_map = committer.space_map.blocks().to_vec();
        // No tree of a view is looked at.
        state.roots.clear();
        state.unwritten.clear();
        let mut now = Draft {
            state,
            meta_root: committer.meta_root.clone(),
            remap: committer.remap.clone(),
            extra_refs: committer.extra_refs.clone(),
        };
        drop(committer);
        now.begin(&self.shared, jobs)?;
        Ok(Planner { volume: self, now, space, superblock, space_map, begun, _pin: pin })
    }
}

impl Planner<'_> {
    /// How long it has been there, without what it waited for a commit.
    pub fn worked_for(&self) -> Duration {
        self.begun.elapsed()
    }

    /// What comes back when these snapshots and lines are deleted. Those that do not exist are left out.
    pub fn plan(&self, snapshots: &[ViewId], lines: &[LineId]) -> Result<DeletionPlan> {
        let mut draft = self.now.clone();
        draft.give_up(snapshots, lines);
        self.rehearse(draft)
    }

    /// What is given up is deleted.
    fn rehearse(&self, mut draft: Draft) -> Result<DeletionPlan> {
        let (shared, before) = (&self.volume.shared, self.now.state.postponed.clone());
        let deletes = draft.deleted(shared);
        let (read, now): (Vec<_>, Vec<_>) = deletes.into_iter().partition(|id| shared.is_read(*id));
        let nowhere = draft.remap.purged.sums().0;
        let let_go = draft.delete(&shared.pager, &now)?;
        // What was purged is referred to and is nowhere: nobody has it.
        let nowhere = nowhere.saturating_sub(draft.remap.purged.sums().0);
        let mut staying = Vec::new();
        for id in read {
            let freed = draft.delete(&shared.pager, &[id])?.places;
            staying.push(StayingView { id, stays_for: StaysFor::Reader, freed });
        }
        let bases: Vec<ViewId> = draft.state.postponed.difference(&before).copied().collect();
        for id in bases {
            let line = draft.state.lines.records().find(|line| line.base == Some(id)).map(|line| line.id);
            let freed = draft.delete(&shared.pager, &[id])?.places;
            let stays_for = line.map_or(StaysFor::Reader, StaysFor::Line);
            staying.push(StayingView { id, stays_for, freed });
        }
        let elsewhere = let_go.references.saturating_sub(let_go.places.saturating_add(nowhere));
        Ok(DeletionPlan { freed: let_go.places, shared: elsewhere, staying })
    }

    /// What comes back in the end when these snapshots are deleted: from sums alone while no blocks are shared between files.
    pub fn would_free(&self, snapshots: &[ViewId]) -> Result<u64> {
        self.would_free_with_points(snapshots, &[])
    }

    /// The same if nobody reads these points any more. One that has a name, or is in the trash, is somebody's, and stays.
    pub fn would_free_with_points(&self, snapshots: &[ViewId], points: &[ViewId]) -> Result<u64> {
        if self.now.counts_by_sums() {
            return self.sum(&[snapshots, &self.now.unnamed(points)].concat());
        }
        self.rehearse_all(self.now.clone(), snapshots, points)
    }

    /// The same if all that is in the trash goes as well.
    pub fn would_free_with_trash(&self, snapshots: &[ViewId], points: &[ViewId]) -> Result<u64> {
        if self.now.counts_by_sums() {
            let all = [snapshots, &self.now.unnamed(points), &self.now.state.views_in_trash()];
            return self.sum(&all.concat());
        }
        let mut draft = self.now.clone();
        draft.state.trash_numbers().into_iter().for_each(|number| draft.state.empty_trash(number));
        self.rehearse_all(draft, snapshots, points)
    }

    /// What comes back with the next commits when these snapshots are deleted and these things in the trash go for good.
    pub fn would_free_emptying(&self, snapshots: &[ViewId], trash: &BTreeSet<u64>) -> Result<u64> {
        if trash.is_empty() {
            return self.would_free(snapshots);
        }
        if self.now.counts_by_sums() {
            let mut all = self.now.state.views_gone_with(trash);
            all.retain(|id| !self.volume.shared.is_read(*id));
            return self.sum(&[snapshots, &all].concat());
        }
        let mut draft = self.now.clone();
        trash.iter().for_each(|number| draft.state.empty_trash(*number));
        draft.give_up(snapshots, &[]);
        Ok(self.rehearse(draft)?.freed)
    }

    fn rehearse_all(&self, mut draft: Draft, snapshots: &[ViewId], points: &[ViewId]) -> Result<u64> {
        draft.give_up(snapshots, &[]);
        draft.give_up_unnamed(points);
        Ok(self.rehearse(draft)?.freed_in_the_end())
    }

    /// What comes back of these snapshots with the next commits, so not of those that somebody reads or that a line is compared with.
    /// None if only a whole plan could tell.
    pub fn would_free_now(&self, snapshots: &[ViewId]) -> Result<Option<u64>> {
        if !self.now.counts_by_sums() {
            return Ok(None);
        }
        let stays = |id: &ViewId| self.is_base(*id) || self.volume.shared.is_read(*id);
        let go: Vec<ViewId> = snapshots.iter().filter(|id| !stays(id)).copied().collect();
        self.sum(&go).map(Some)
    }

    /// How many sets may be tried one by one: without the sums each is a deletion of its own.
    pub fn tries_max(&self) -> usize {
        if self.now.counts_by_sums() { TRIES_MAX } else { TRIES_OF_PLANS_MAX }
    }

    fn sum(&self, snapshots: &[ViewId]) -> Result<u64> {
        let set: BTreeSet<ViewId> = snapshots.iter().copied().collect();
        let meta = MetaRead { pager: &self.volume.shared.pager, root: &self.now.meta_root };
        Ok(self.now.state.history.would_free(&set, meta)?)
    }

    /// True if a line is compared with it: deleting it brings nothing back before that ends.
    pub fn is_base(&self, id: ViewId) -> bool {
        self.now.state.lines.is_base(id)
    }

    /// What only it has, counted by references: see [`super::history::History::exclusive`].
    pub fn exclusive(&self, id: ViewId) -> Result<u64> {
        let meta = MetaRead { pager: &self.volume.shared.pager, root: &self.now.meta_root };
        Ok(self.now.state.history.exclusive(id, meta)?)
    }

    /// What the space is used for. Reads the nodes of the meta tree above its leaves.
    pub fn parts(&self) -> Result<SpaceParts> {
        let history = &self.now.state.history;
        let references = history.views().fold(0u64, |sum, view| sum.saturating_add(view.written));
        let saved_by_sharing = self.now.extra_refs.bytes();
        // What was purged is referred to and nowhere; a place that is to be written over has one more reference.
        let (nowhere, held) = self.now.remap.purged.sums();
        let views = references.saturating_add(held).saturating_sub(saved_by_sharing.saturating_add(nowhere));
        let all: Vec<ViewId> = history.views().filter(|v| v.role == Role::Snapshot).map(|v| v.id).collect();
        let snapshots = match self.now.counts_by_sums() {
            true => self.sum(&all)?,
            false => self.now.clone().delete(&self.volume.shared.pager, &all)?.places,
        };
        let snapshots = snapshots.min(views);
        let tables = self.tables()?;
        // Nodes have no place before they are written, and count all the same.
        let used = self.space.used.max(views.saturating_add(tables));
        let freeing = used.saturating_sub(views).saturating_sub(tables);
        Ok(SpaceParts {
            total: self.space.total.max(used),
            used,
            live: views - snapshots,
            snapshots,
            tables,
            freeing,
            saved_by_sharing,
        })
    }

    /// Bytes of the meta tree and of the space map.
    fn tables(&self) -> Result<u64> {
        let bytes_of = |ptr: &BlockPtr| ptr.ranges().map(|(_, len)| len).sum::<u64>();
        let mut bytes: u64 = self.space_map.iter().map(bytes_of).sum();
        let visit = &mut |visit: Visit<'_>| {
            if let Visit::Node(ptr, _, height) = visit {
                bytes += bytes_of(ptr);
                return Ok(if height == 0 { Step::Over } else { Step::Into });
            }
            Ok(Step::Into)
        };
        tree::walk(&self.volume.shared.pager, &self.superblock.meta_root, Epoch(0), visit)?;
        Ok(bytes)
    }
}

impl Draft {
    /// What the next commits would do, if nobody deleted anything any more.
    fn begin(&mut self, shared: &Shared, jobs: Vec<Job>) -> Result<()> {
        let pager = &shared.pager;
        // A commit that failed may have left what it froze.
        self.state.history.appended();
        self.state.history.freeze();
        let mut let_go: Vec<DeadEntry> = Vec::new();
        let mut next_id = *self.state.history.next_id_mut();
        for ((list, bucket), deferred) in std::mem::take(&mut self.state.deferred) {
            // Nodes that were not written yet have no place that anybody could free.
            let entries: Vec<DeadEntry> = deferred.iter().flat_map(as_entries).collect();
            match self.state.history.route(list, bucket) {
                Some(Freeing::Deferred { list, bucket }) => {
                    edit(pager, self.state.epoch, &mut self.meta_root, |meta| {
                        Ok(deadlist::append(meta, list, bucket, &entries, &mut next_id)?)
                    })?;
                }
                Some(Freeing::Now) => let_go.extend(entries),
                None => {}
            }
        }
        *self.state.history.next_id_mut() = next_id;
        self.state.history.appended();
        for (addr, len) in self.state.shared.take() {
            self.extra_refs.add(addr, len);
        }
        for (addr, len) in self.remap.settle() {
            self.extra_refs.release(addr, len);
        }
        let_go.extend(std::mem::take(&mut self.state.frees).iter().flat_map(as_entries));
        // What is freed already matters for how often blocks are referred to, and for nothing else.
        if !self.counts_by_sums() {
            for e in &let_go {
                self.release(e);
            }
            for job in jobs {
                self.let_go_of(pager, job)?;
            }
        }
        let going = self.deleted(shared);
        let (read, going): (Vec<_>, Vec<_>) = going.into_iter().partition(|id| shared.is_read(*id));
        self.state.postponed.extend(read);
        self.delete(pager, &going).map(drop)
    }

    /// Deletes as a user does.
    fn give_up(&mut self, snapshots: &[ViewId], lines: &[LineId]) {
        for line in lines.iter().filter(|line| **line != LineId::MAIN) {
            let bases = self.state.bases_after_end(*line);
            self.state.drop_line(*line);
            self.state.set_bases(&bases);
        }
        for id in snapshots {
            if self.state.own_snapshot(*id).is_ok() {
                self.state.delete(*id);
            }
        }
    }

    /// Of these, the points that have no name, and are there for nobody but whoever reads them.
    fn unnamed(&self, points: &[ViewId]) -> Vec<ViewId> {
        let is_unnamed = |id: &&ViewId| self.state.postponed.contains(id) && !self.state.lines.is_base(**id);
        points.iter().filter(is_unnamed).copied().collect()
    }

    /// Gives those of them up.
    fn give_up_unnamed(&mut self, points: &[ViewId]) {
        for id in self.unnamed(points) {
            self.state.postponed.remove(&id);
            self.state.deletes.push(id);
        }
    }

    /// What the next commits would delete, of whoever reads it be it later: what a line is compared with stays, and so does what
    /// there is no room to delete, or what cannot be read of it.
    fn deleted(&mut self, shared: &Shared) -> Vec<ViewId> {
        let stays = |id: &ViewId| self.state.is_wanted(*id, shared) || self.state.no_room.contains_key(id);
        let (kept, unread): (BTreeSet<_>, BTreeSet<_>) =
            self.state.postponed.iter().copied().partition(stays);
        self.state.postponed = kept;
        let mut deletes = std::mem::take(&mut self.state.deletes);
        deletes.extend(unread);
        let is_base = |id: &ViewId| self.state.lines.is_base(*id);
        let (bases, deletes): (Vec<_>, Vec<_>) = deletes.into_iter().partition(is_base);
        self.state.postponed.extend(bases);
        deletes
    }

    /// Takes views out of the history, and lets go of what only they had.
    fn delete(&mut self, pager: &Pager, ids: &[ViewId]) -> Result<LetGo> {
        let (mut reclaim, mut written) = (Reclaim::default(), BTreeMap::new());
        let (history, no_room) = (&mut self.state.history, &self.state.no_room);
        edit(pager, self.state.epoch, &mut self.meta_root, |meta| {
            for id in ids {
                let Some(view) = history.get(*id).filter(|_| history.deletable(*id)) else { continue };
                written.insert(*id, view.written);
                reclaim.extend(history.delete(*id, meta)?);
            }
            let mut sweep = history.begin_sweep();
            for view in history.due(SWEEP_GROWN_BYTES_MIN).into_iter().filter(|id| !no_room.contains_key(id))
            {
                history.sweep_view(view, &mut sweep, meta)?;
            }
            reclaim.extend(sweep.end());
            Ok(())
        })?;
        let mut all = LetGo::default();
        for list in reclaim.free_lists {
            all.add(self.let_go_of(pager, Job::FreeList(list))?);
        }
        for tree in reclaim.free_trees {
            let bytes = written.get(&tree.view).copied().unwrap_or(0);
            all.add(match tree.root {
                Some(root) if !self.counts_by_sums() => {
                    let job = Job::FreeTree { root, newer_than: tree.newer_than, cursor: Key::MIN };
                    self.let_go_of(pager, job)?
                }
                _ => LetGo { references: bytes, places: bytes },
            });
        }
        Ok(all)
    }

    /// True if each reference that goes brings back its bytes.
    fn counts_by_sums(&self) -> bool {
        self.extra_refs.is_empty() && self.remap.purged.is_empty()
    }

    /// Lets go of what a job would free. By sums where that is enough.
    fn let_go_of(&mut self, pager: &Pager, job: Job) -> Result<LetGo> {
        let mut all = LetGo::default();
        match job {
            Job::DropList(_) => {}
            Job::FreeList(list) if self.counts_by_sums() => {
                let meta = MetaRead { pager, root: &self.meta_root };
                let bytes = deadlist::sum(meta, list, deadlist::ALL)?;
                all = LetGo { references: bytes, places: bytes };
            }
            Job::FreeList(list) => {
                let root = self.meta_root.clone();
                let meta = MetaRead { pager, root: &root };
                deadlist::each(meta, list, &mut |e| all.add(self.release(e)))?;
            }
            Job::FreeTree { .. } => {
                let mut rest = Some(job);
                while let Some(job) = rest.take() {
                    let mut freed = Vec::new();
                    let epoch = self.state.epoch;
                    let step = edit(pager, epoch, &mut self.meta_root, |meta| {
                        reclaim::step(job, pager, meta, STEP_ENTRIES_MAX, &mut freed)
                    })?;
                    if let (ReclaimProgress::More(job), _) = step {
                        rest = Some(job);
                    }
                    freed.iter().for_each(|e| all.add(self.release(e)));
                }
            }
        }
        Ok(all)
    }

    /// A reference goes.
    fn release(&mut self, e: &DeadEntry) -> LetGo {
        let mut gone = LetGo { references: e.len, places: 0 };
        for (addr, len) in self.remap.release(e) {
            gone.places += self.extra_refs.release(addr, len).iter().map(|(_, len)| len).sum::<u64>();
        }
        gone
    }
}

/// Changes the copy of a meta tree.
fn edit<T>(
    pager: &Pager,
    epoch: Epoch,
    root: &mut Child,
    work: impl FnOnce(&mut Meta<'_, '_>) -> Result<T>,
) -> Result<T> {
    let mut freed = Vec::new();
    let mut edit = Edit { pager, epoch, freed: &mut freed, nodes_made: 0 };
    work(&mut Meta { edit: &mut edit, root })
}

fn as_entries(freed: &Freed) -> impl Iterator<Item = DeadEntry> + use<> {
    freed.resolve().map(|(addr, len, birth)| DeadEntry { addr, len, birth })
}
