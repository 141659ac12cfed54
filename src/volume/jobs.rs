//! The background work of a store, and which of it can go on.
//!
//! A commit never fails because of what a job reads: what is to go must not keep commits, and so the next mount, from going on.
//! A job that meets what cannot be read is set aside as it is, and tried again when the store is opened anew: what the device
//! refuses today it may give tomorrow, so its space is not given up.

use super::history::Meta;
use super::reclaim::{self, ReclaimProgress};
use super::{Result, VolumeError};
use crate::format::deadlist::DeadEntry;
use crate::format::job::Job;
use crate::format::{Key, Kind};
use crate::tree::Pager;
use std::collections::{BTreeMap, BTreeSet};

/// Entries that one step frees at most: few in the first, twice as many in each that finds work left over. What little
/// deletions leave is freed a little at a time, so that few requests meet it; what much deleting leaves must not pile up.
const STEP_ENTRIES_MIN: usize = 1 << 14;
pub(super) const STEP_ENTRIES_MAX: usize = 1 << 16;

/// The space map tells of so many ranges in one block, at least.
const ENTRIES_PER_MAP_BLOCK: u64 = 512;
/// So many ranges have their records in a leaf of the meta tree at least, on average.
const RANGES_PER_LEAF_MIN: u64 = 32;

/// Background work by id. Touched by the committing thread alone.
pub(super) struct Jobs {
    all: BTreeMap<u64, Job>,
    /// What met something unreadable since the store was opened.
    set_aside: BTreeSet<u64>,
    /// Entries that the next step frees at most.
    step_entries: usize,
}

impl Jobs {
    /// As the store has them.
    pub fn new(all: BTreeMap<u64, Job>) -> Jobs {
        Jobs { all, set_aside: BTreeSet::new(), step_entries: STEP_ENTRIES_MIN }
    }

    /// True if one can go on.
    pub fn go_on(&self) -> bool {
        self.all.len() > self.set_aside.len()
    }

    /// True if there are none, set aside or not.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many are set aside.
    pub fn set_aside(&self) -> usize {
        self.set_aside.len()
    }

    /// Those that can go on.
    pub fn going_on(&self) -> impl Iterator<Item = &Job> {
        self.all.iter().filter(|(id, _)| !self.set_aside.contains(id)).map(|(_, job)| job)
    }

    /// One more, in the meta tree too.
    pub fn add(&mut self, id: u64, job: Job, meta: &mut Meta<'_, '_>) -> Result<()> {
        meta.edit.insert(meta.root, &key(id), &job.encode())?;
        self.all.insert(id, job);
        Ok(())
    }

    /// The step of one commit. The references that are let go of go to `freed`. What is written for that fits into `room` bytes as far
    /// as a step can be made smaller; so many ranges have records that change when a reference goes.
    pub fn run(
        &mut self,
        (room, ranges): (u64, usize),
        (pager, node_bytes): (&Pager, u64),
        meta: &mut Meta<'_, '_>,
        freed: &mut Vec<DeadEntry>,
    ) -> Result<()> {
        let nodes = room / node_bytes;
        let mut budget = self.step_entries;
        while budget > 1 && nodes_of(budget as u64, ranges as u64) > nodes {
            budget /= 2;
        }
        let begun = meta.edit.nodes_made;
        while budget > 0
            && let Some((id, job)) = self.next()
        {
            let made = u64::try_from(meta.edit.nodes_made - begun).unwrap_or(0);
            // The first step is done whatever it costs.
            if made > 0 && made >= nodes {
                break;
            }
            let step = self.step(id, job, (pager, budget, nodes.saturating_sub(made)), meta, freed)?;
            let Some((progress, done)) = step else { continue };
            match progress {
                ReclaimProgress::Done => {
                    meta.edit.remove(meta.root, &key(id))?;
                    self.all.remove(&id);
                }
                ReclaimProgress::More(job) => {
                    meta.edit.insert(meta.root, &key(id), &job.encode())?;
                    self.all.insert(id, job);
                }
            }
            budget = budget.saturating_sub(done.max(1));
        }
        let twice = (self.step_entries * 2).min(STEP_ENTRIES_MAX);
        self.step_entries = if self.go_on() { twice } else { STEP_ENTRIES_MIN };
        Ok(())
    }

    fn next(&self) -> Option<(u64, Job)> {
        self.all.iter().find(|(id, _)| !self.set_aside.contains(id)).map(|(id, job)| (*id, *job))
    }

    /// A step of one of them, smaller if it would rewrite more of the meta tree than told. None: it met what cannot be read,
    /// nothing of the step is done, and it is set aside.
    fn step(
        &mut self,
        id: u64,
        job: Job,
        (pager, mut budget, nodes): (&Pager, usize, u64),
        meta: &mut Meta<'_, '_>,
        freed: &mut Vec<DeadEntry>,
    ) -> Result<Option<(ReclaimProgress, usize)>> {
        let (root, replaced, made) = (meta.root.clone(), meta.edit.freed.len(), meta.edit.nodes_made);
        let before = freed.len();
        loop {
            let done = reclaim::step(job, pager, meta, budget, freed);
            let is_too_much = u64::try_from(meta.edit.nodes_made - made).is_ok_and(|more| more > nodes);
            match done {
                Ok(_) if is_too_much && budget > 1 => budget /= 8,
                Err(e @ (VolumeError::Device(_) | VolumeError::Corrupt { .. })) => {
                    log::warn!("space of what was deleted does not come back before the next mount: {e}");
                    self.set_aside.insert(id);
                    budget = 0;
                }
                done => return done.map(Some),
            }
            (*meta.root, meta.edit.nodes_made) = (root.clone(), made);
            meta.edit.freed.truncate(replaced);
            freed.truncate(before);
            if budget == 0 && self.set_aside.contains(&id) {
                return Ok(None);
            }
            budget = budget.max(1);
        }
    }
}

/// Nodes that a commit writes at most for so many references that go, of which so many ranges have records: blocks of the space map,
/// and leaves of the meta tree.
fn nodes_of(entries: u64, ranges: u64) -> u64 {
    let leaves = if ranges == 0 { 0 } else { (2 * entries).min(ranges / RANGES_PER_LEAF_MIN + 1) };
    let split = if ranges == 0 { 0 } else { entries / RANGES_PER_LEAF_MIN };
    entries / ENTRIES_PER_MAP_BLOCK + leaves + split
}

fn key(id: u64) -> Key {
    Key::new(0, Kind::Job, id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Depth, check_space};
    use crate::device::Sim;
    use crate::format::provenance::Provenance;
    use crate::format::view::Consistency;
    use crate::format::{BLOCK_BYTES, BlockPtr, Epoch, Extent, LineId, ViewId};
    use crate::tree::{Step, Visit, walk};
    use crate::volume::{
        Access, Need, NewSnapshot, NothingAbove, OpenOptions, ReserveFor, Volume, VolumeError,
    };
    use std::sync::Arc;

    const MAIN: LineId = LineId::MAIN;
    /// Items of which some leaves are full.
    const ITEMS: u64 = 4000;

    fn open(sim: &Arc<Sim>) -> Arc<Volume> {
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
        let volume = Volume::open(sim.clone(), options).unwrap();
        assert_eq!(volume.recover(&mut NothingAbove).damage, None);
        volume
    }

    fn commit(volume: &Volume) {
        volume.commit(&mut |_| Ok(())).expect("no commit fails by what a job reads");
    }

    fn snapshot(volume: &Volume, name: &[u8]) -> ViewId {
        let new = NewSnapshot {
            name,
            created: (1, 2),
            consistency: Consistency::FileSystem,
            provenance: &Provenance::default(),
            pause_ns: &|| 1,
            identity: None,
        };
        volume.create_snapshot(MAIN, &new, &mut |_| Ok(())).unwrap().0
    }

    fn fill(volume: &Volume, line: LineId, byte: u8) {
        let mut txn = volume.begin(line).unwrap();
        for n in 0..ITEMS {
            txn.insert(Key::new(1000 + n, Kind::Inline, 0), &[byte; 80]).unwrap();
        }
    }

    /// So many blocks, each a reference of its own.
    fn write_blocks(volume: &Volume, count: u64) {
        let staged = volume.stage_unwritten(count * BLOCK_BYTES).unwrap();
        let mut txn = volume.begin(MAIN).unwrap();
        txn.reserve(Need { items: count as u32, ..Need::default() }, ReserveFor::Write).unwrap();
        let whole = txn.publish(staged);
        let blocks = whole.iter().flat_map(|extent| {
            (0..extent.len_bytes() / BLOCK_BYTES).map(|n| extent.slice(n * BLOCK_BYTES, BLOCK_BYTES))
        });
        for (n, block) in (0..).zip(blocks) {
            txn.insert(Key::new(100_000 + n, Kind::Extent, 0), &block.encode()).unwrap();
        }
    }

    fn free_blocks(volume: &Volume, count: u64) {
        let mut txn = volume.begin(MAIN).unwrap();
        for n in 0..count {
            let key = Key::new(100_000 + n, Kind::Extent, 0);
            let old = Extent::decode(&txn.view().get(&key).unwrap().unwrap()).unwrap();
            txn.free(&old);
            txn.remove(&key).unwrap();
        }
    }

    /// Leaves of a tree that were born later and have nothing but such items.
    fn leaves(volume: &Volume, root: &BlockPtr, newer_than: Epoch, kind: Kind) -> Vec<BlockPtr> {
        let (mut found, mut other) = (Vec::new(), false);
        let visit = &mut |visit: Visit<'_>| {
            match visit {
                Visit::Node(ptr, _, 0) => {
                    if std::mem::take(&mut other) {
                        found.pop();
                    }
                    found.push(*ptr);
                }
                Visit::Item(key, _) => other |= key.kind != kind as u8,
                Visit::Node(..) | Visit::Old(..) => {}
            }
            Ok(Step::Into)
        };
        walk(&volume.shared.pager, root, newer_than, visit).unwrap();
        if other {
            found.pop();
        }
        found
    }

    fn refuse(sim: &Sim, ptr: &BlockPtr) {
        ptr.ranges().for_each(|(addr, len)| sim.make_unreadable(addr, len));
    }

    fn audit(volume: &Volume) {
        let report = check_space(volume, Depth::Metadata).unwrap();
        assert!(report.is_clean(), "{:#?}", report.problems);
    }

    /// Some of what is deleted cannot be read: all else goes on, in this mount and in the next, and once it can be read it goes too.
    fn goes_on_without_what_is_refused(sim: &Arc<Sim>, volume: Arc<Volume>, other: ViewId) {
        let end = |volume: &Volume| (0..6).for_each(|_| commit(volume));
        end(&volume);
        assert_eq!(volume.read_only_reason(), None);
        assert!(!volume.has_background_work(), "it is not tried again and again");
        let left = volume.leftover().unwrap();
        assert_eq!((left.views, left.jobs, left.jobs_set_aside), (0, 0, 1));
        drop(volume);
        let volume = open(sim);
        end(&volume);
        assert_eq!(volume.leftover().unwrap().jobs_set_aside, 1);
        let before = volume.space().used;
        volume.delete_snapshot(MAIN, other).unwrap();
        end(&volume);
        assert_eq!(volume.read_only_reason(), None);
        let after = volume.space().used;
        assert!(after + (8 << 20) < before, "space of another comes back: {before} bytes in use, {after}");
        drop(volume);
        let volume = open(&Arc::new(sim.clone_image()));
        assert!(volume.has_background_work());
        end(&volume);
        assert_eq!(volume.leftover().unwrap(), crate::volume::Leftover::default());
        audit(&volume);
    }

    /// A snapshot with 10 MiB that nobody else has once this returns.
    fn other_snapshot(volume: &Volume) -> ViewId {
        let staged = volume.stage_unwritten(10 << 20).unwrap();
        let mut txn = volume.begin(MAIN).unwrap();
        let extents = txn.publish(staged);
        let key = |n| Key::new(5, Kind::Extent, n);
        for (n, extent) in (0..).zip(&extents) {
            txn.insert(key(n), &extent.encode()).unwrap();
        }
        drop(txn);
        let id = snapshot(volume, b"other");
        let mut txn = volume.begin(MAIN).unwrap();
        for (n, extent) in (0..).zip(&extents) {
            txn.free(extent);
            txn.remove(&key(n)).unwrap();
        }
        drop(txn);
        id
    }

    #[test]
    fn a_leaf_of_a_deleted_clone_that_the_device_refuses_stops_nothing_else() {
        let sim = Arc::new(Sim::new(256 << 20, 1));
        let volume = Volume::made_on(sim.clone());
        fill(&volume, MAIN, 1);
        let origin = snapshot(&volume, b"origin");
        let line = volume.create_line(b"clone", origin, (0, 0), &Provenance::default()).unwrap().id;
        fill(&volume, line, 2);
        let other = other_snapshot(&volume);
        commit(&volume);
        let state = volume.committed().unwrap();
        let head = state.records.iter().find(|r| r.line == line && r.root.is_some()).unwrap();
        let base = state.records.iter().find(|r| r.id == origin).unwrap().epoch;
        let leaves = leaves(&volume, &head.root.unwrap(), base, Kind::Inline);
        assert!(leaves.len() > 10);
        refuse(&sim, &leaves[leaves.len() / 2]);
        drop(state);
        volume.drop_line(line).unwrap();
        goes_on_without_what_is_refused(&sim, volume, other);
    }

    #[test]
    fn a_list_of_what_is_to_be_freed_that_the_device_refuses_stops_nothing_else() {
        const BLOCKS: u64 = 8000;
        let sim = Arc::new(Sim::new(256 << 20, 1));
        let volume = Volume::made_on(sim.clone());
        let first = snapshot(&volume, b"first");
        write_blocks(&volume, BLOCKS);
        let second = snapshot(&volume, b"second");
        free_blocks(&volume, BLOCKS);
        let other = other_snapshot(&volume);
        commit(&volume);
        drop(volume);
        let volume = open(&sim);
        commit(&volume);
        let root = volume.committed().unwrap().superblock.meta_root;
        let leaves = leaves(&volume, &root, Epoch(0), Kind::DeadChunk);
        assert!(leaves.len() > 5);
        refuse(&sim, &leaves[leaves.len() / 2]);
        volume.delete_snapshot(MAIN, second).unwrap();
        assert!(first < second);
        goes_on_without_what_is_refused(&sim, volume, other);
    }

    #[test]
    fn an_extent_of_what_is_deleted_that_makes_no_sense_stops_nothing() {
        let sim = Arc::new(Sim::new(256 << 20, 1));
        let volume = Volume::made_on(sim.clone());
        let origin = snapshot(&volume, b"origin");
        let line = volume.create_line(b"clone", origin, (0, 0), &Provenance::default()).unwrap().id;
        volume.begin(line).unwrap().insert(Key::new(7, Kind::Extent, 0), b"nonsense").unwrap();
        fill(&volume, line, 2);
        commit(&volume);
        volume.drop_line(line).unwrap();
        (0..4).for_each(|_| commit(&volume));
        assert_eq!(volume.read_only_reason(), None);
        assert_eq!(volume.leftover().unwrap(), crate::volume::Leftover::default());
        audit(&volume);
    }

    #[test]
    fn what_a_device_does_not_write_stops_the_volume_as_ever() {
        let sim = Arc::new(Sim::new(256 << 20, 1));
        let volume = Volume::made_on(sim.clone());
        let origin = snapshot(&volume, b"origin");
        commit(&volume);
        volume.delete_snapshot(MAIN, origin).unwrap();
        sim.fail(crate::device::Op::Write, 1, crate::device::Persistence::Forever);
        let failed = volume.commit(&mut |_| Ok(()));
        assert!(matches!(failed, Err(VolumeError::Device(_))) && volume.is_read_only());
    }
}
