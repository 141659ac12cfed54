//! The rules against brute force: a model that knows for every view exactly which blocks it reaches.
//!
//! The model frees nothing by rules; it only checks: a block is freed exactly when no visible view reaches it, every
//! dead list is the difference of two views, every count is a count of bits. Operations run between all steps of a
//! commit, and a crash goes back to what the commit wrote. Addresses are reused as soon as they are free.

use super::dead_set::DeadSet;
use super::*;
use crate::device::{Device, DeviceError};
use crate::format::deadlist::DeadEntry;
use crate::format::view::{Consistency, Role, ViewRecord};
use crate::format::{BLOCK_BYTES, Epoch, Generation, LineId, Slot, ViewId};
use crate::store::{Allocator, Store};
use crate::tree::{Child, Edit, FreedNode, Pager};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

struct NoDevice;

impl Device for NoDevice {
    fn size(&self) -> u64 {
        1 << 30
    }
    fn read_at(&self, _: u64, _: &mut [u8]) -> Result<(), DeviceError> {
        unreachable!("the tree stays in memory")
    }
    fn write_at(&self, _: u64, _: &[u8]) -> Result<(), DeviceError> {
        unreachable!("the tree stays in memory")
    }
    fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn back(&self, _: u64, _: u64) -> Result<(), DeviceError> {
        Ok(())
    }
    fn discard(&self, _: u64, _: u64) {}
    fn available(&self) -> u64 {
        1 << 30
    }
    fn describe(&self) -> String {
        "none".into()
    }
}

const UNITS: usize = 1024;

/// A set of blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bits([u64; UNITS / 64]);

impl Bits {
    const NONE: Bits = Bits([0; UNITS / 64]);
    fn has(&self, u: usize) -> bool {
        self.0[u / 64] >> (u % 64) & 1 == 1
    }
    fn set(&mut self, u: usize) {
        self.0[u / 64] |= 1 << (u % 64);
    }
    fn clear(&mut self, u: usize) {
        self.0[u / 64] &= !(1 << (u % 64));
    }
    fn or(&self, o: &Bits) -> Bits {
        Bits(std::array::from_fn(|i| self.0[i] | o.0[i]))
    }
    fn minus(&self, o: &Bits) -> Bits {
        Bits(std::array::from_fn(|i| self.0[i] & !o.0[i]))
    }
    fn bytes(&self) -> u64 {
        self.0.iter().map(|w| u64::from(w.count_ones())).sum::<u64>() * BLOCK_BYTES
    }
    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(i, word)| {
            let next = |w: &u64| Some(w & (w - 1)).filter(|w| *w != 0);
            std::iter::successors(Some(*word).filter(|w| *w != 0), next)
                .map(move |w| i * 64 + w.trailing_zeros() as usize)
        })
    }
}

fn addr(unit: usize) -> u64 {
    (unit as u64 + 1) * BLOCK_BYTES
}

fn units(e: &DeadEntry) -> std::ops::Range<usize> {
    let first = (e.addr / BLOCK_BYTES) as usize - 1;
    first..first + (e.len / BLOCK_BYTES) as usize
}

#[derive(Clone)]
struct World {
    history: History,
    root: Child,
    /// What each view reaches; of hidden views what is not freed yet.
    bits: BTreeMap<ViewId, Bits>,
    births: [u64; UNITS],
    allocated: Bits,
    entries: BTreeMap<(u64, Epoch), Vec<DeadEntry>>,
    frozen: BTreeMap<(u64, Epoch), Vec<DeadEntry>>,
    free_lists: Vec<u64>,
    drop_lists: Vec<u64>,
    free_trees: Vec<Bits>,
    epoch: u64,
    /// Heads that have changed nothing since they came to be on a view.
    untouched: BTreeMap<ViewId, ViewId>,
}

struct Run {
    pager: Pager,
    rng: fastrand::Rng,
    w: World,
    disk: BTreeMap<ViewId, ViewRecord>,
    /// State after the last commit, as a crash leaves it.
    saved: Option<World>,
    views_max: usize,
}

macro_rules! meta {
    ($run:ident, $freed:ident, $edit:ident, $meta:ident) => {
        let mut $freed: Vec<FreedNode> = Vec::new();
        let mut $edit = Edit { pager: &$run.pager, epoch: Epoch(1), freed: &mut $freed, nodes_made: 0 };
        let mut $meta = Meta { edit: &mut $edit, root: &mut $run.w.root };
    };
}

impl Run {
    fn new(seed: u64) -> Run {
        let store = Arc::new(Store::new(Arc::new(NoDevice), 77, Allocator::new(1 << 20, 1 << 30)));
        let pager = Pager::new(store, 1 << 20);
        let mut freed = Vec::new();
        let root = Edit { pager: &pager, epoch: Epoch(1), freed: &mut freed, nodes_made: 0 }.new_root();
        let (history, head) = History::new((0, 0));
        let mut rng = fastrand::Rng::with_seed(seed);
        let views_max = rng.usize(4..14);
        let w = World {
            history,
            root,
            bits: BTreeMap::from([(head, Bits::NONE)]),
            births: [0; UNITS],
            allocated: Bits::NONE,
            entries: BTreeMap::new(),
            frozen: BTreeMap::new(),
            free_lists: Vec::new(),
            drop_lists: Vec::new(),
            free_trees: Vec::new(),
            epoch: 1,
            untouched: BTreeMap::new(),
        };
        Run { pager, rng, w, disk: BTreeMap::new(), saved: None, views_max }
    }

    fn read(&self) -> MetaRead<'_> {
        MetaRead { pager: &self.pager, root: &self.w.root }
    }

    fn role(&self, v: ViewId) -> Role {
        self.w.history.view(v).role
    }

    fn some_view(&mut self, role: Role) -> Option<ViewId> {
        let all: Vec<ViewId> = self.w.history.views().filter(|v| v.role == role).map(|v| v.id).collect();
        (!all.is_empty()).then(|| all[self.rng.usize(0..all.len())])
    }

    fn visible(&self) -> impl Iterator<Item = (ViewId, &Bits)> {
        self.w.bits.iter().filter(|(v, _)| self.role(**v) != Role::Hidden).map(|(v, b)| (*v, b))
    }

    fn union_without(&self, set: &BTreeSet<ViewId>) -> Bits {
        self.visible().filter(|(v, _)| !set.contains(v)).fold(Bits::NONE, |sum, (_, b)| sum.or(b))
    }

    fn free(&mut self, unit: usize) {
        assert!(self.w.allocated.has(unit), "block {unit} was freed twice");
        let reached = self.visible().find(|(_, b)| b.has(unit)).map(|(v, _)| v);
        assert_eq!(reached, None, "block {unit} was freed under a view");
        self.w.allocated.clear(unit);
        self.w.bits.values_mut().for_each(|b| b.clear(unit));
    }

    fn operate(&mut self) {
        match self.rng.u8(0..100) {
            0..=39 => self.write(),
            40..=84 => self.kill(),
            85..=93 => self.point(),
            _ => self.fork(),
        }
    }

    fn write(&mut self) {
        let Some(head) = self.some_view(Role::Head) else { return };
        self.w.untouched.remove(&head);
        let (start, len) = (self.rng.usize(0..UNITS), self.rng.usize(1..12));
        let mut wrote = 0;
        for u in start..(start + len).min(UNITS) {
            if !self.w.allocated.has(u) {
                self.w.allocated.set(u);
                self.w.births[u] = self.w.epoch;
                self.w.bits.get_mut(&head).unwrap().set(u);
                wrote += BLOCK_BYTES;
            }
        }
        self.w.history.born(head, wrote);
    }

    /// A head loses a part of a run of blocks of the same birth.
    fn kill(&mut self) {
        let Some(head) = self.some_view(Role::Head) else { return };
        let mine: Vec<usize> = self.w.bits[&head].iter().collect();
        if mine.is_empty() {
            return;
        }
        let first = mine[self.rng.usize(0..mine.len())];
        let birth = self.w.births[first];
        let mut end = first + 1;
        let end_max = first + self.rng.usize(1..16);
        while end < end_max.min(UNITS) && self.w.bits[&head].has(end) && self.w.births[end] == birth {
            end += 1;
        }
        let len = (end - first) as u64 * BLOCK_BYTES;
        self.w.untouched.remove(&head);
        (first..end).for_each(|u| self.w.bits.get_mut(&head).unwrap().clear(u));
        match self.w.history.free(head, Epoch(birth), len) {
            Freeing::Now => (first..end).for_each(|u| self.free(u)),
            Freeing::Deferred { list, bucket } => {
                let entry = DeadEntry { addr: addr(first), len, birth: Epoch(birth) };
                self.w.entries.entry((list, bucket)).or_default().push(entry);
            }
        }
    }

    fn point(&mut self) {
        if self.w.history.views().count() >= self.views_max {
            return;
        }
        let Some(head) = self.some_view(Role::Head) else { return };
        let point = Point {
            identity: None,
            provenance: crate::format::provenance::Provenance::default(),
            epoch: Epoch(self.w.epoch),
            name: b"x".to_vec(),
            slot: Slot(1),
            generation: Generation(1),
            created: (1, 2),
            consistency: Consistency::Crash,
        };
        let snapshot = self.w.history.point(head, point);
        self.w.epoch += 1;
        self.w.bits.insert(snapshot, self.w.bits[&head]);
        self.w.untouched.insert(head, snapshot);
    }

    fn fork(&mut self) {
        if self.w.history.views().count() >= self.views_max {
            return;
        }
        if self.rng.bool()
            && let Some(other) = self.some_view(Role::Head)
            && let Some(prev) = self.w.history.view(other).prev.filter(|p| self.is_as_at(other, *p))
        {
            let head = self.w.history.fork_beside(other, LineId::MAIN, (0, 0));
            self.w.bits.insert(head, self.w.bits[&other]);
            self.w.untouched.insert(head, prev);
        } else if let Some(origin) = self.some_view(Role::Snapshot) {
            let head = self.w.history.fork(origin, LineId::MAIN, (0, 0));
            self.w.bits.insert(head, self.w.bits[&origin]);
            self.w.untouched.insert(head, origin);
        }
    }

    /// True if a head has changed nothing since the view that it is on; of a hidden one some may be freed.
    fn is_as_at(&self, head: ViewId, prev: ViewId) -> bool {
        self.w.untouched.get(&head) == Some(&prev)
    }

    fn operate_some(&mut self, max: usize) {
        for _ in 0..self.rng.usize(0..=max) {
            self.operate();
        }
    }

    fn append(&mut self) {
        for ((list, bucket), entries) in std::mem::take(&mut self.w.frozen) {
            match self.w.history.route(list, bucket) {
                None => {}
                Some(Freeing::Now) => entries.iter().flat_map(units).for_each(|u| self.free(u)),
                Some(Freeing::Deferred { list, bucket }) => {
                    let mut next_id = *self.w.history.next_id_mut();
                    meta!(self, freed_nodes, edit, meta);
                    deadlist::append(&mut meta, list, bucket, &entries, &mut next_id).unwrap();
                    *self.w.history.next_id_mut() = next_id;
                }
            }
        }
        self.w.history.appended();
    }

    fn delete(&mut self, view: ViewId) {
        let set = BTreeSet::from([view]);
        let quiet = self.w.entries.is_empty();
        let expected = self.w.history.would_free(&set, self.read()).unwrap();
        let before = self.w.bits[&view];
        meta!(self, freed_nodes, edit, meta);
        let reclaim = self.w.history.delete(view, &mut meta).unwrap();
        if quiet {
            assert_eq!(expected, before.minus(&self.union_without_gone(view)).bytes(), "would free {view:?}");
        }
        self.take_over(reclaim);
        let left: BTreeSet<ViewId> = self.w.history.views().map(|v| v.id).collect();
        self.w.bits.retain(|v, _| left.contains(v));
    }

    /// What the visible views but a deleted one reach.
    fn union_without_gone(&self, gone: ViewId) -> Bits {
        let alive = |v: &ViewId| *v != gone && self.w.history.get(*v).is_some_and(|r| r.role != Role::Hidden);
        self.w.bits.iter().filter(|(v, _)| alive(v)).fold(Bits::NONE, |sum, (_, b)| sum.or(b))
    }

    fn take_over(&mut self, reclaim: Reclaim) {
        self.w.free_lists.extend(reclaim.free_lists);
        self.w.drop_lists.extend(reclaim.drop_lists);
        for tree in reclaim.free_trees {
            let mut owned = self.w.bits[&tree.view];
            let births = &self.w.births;
            (0..UNITS).filter(|u| births[*u] <= tree.newer_than.0).for_each(|u| owned.clear(u));
            self.w.free_trees.push(owned);
        }
    }

    fn sweep(&mut self) {
        meta!(self, freed_nodes, edit, meta);
        let reclaim = self.w.history.sweep_hidden(&mut meta, 0).unwrap();
        self.take_over(reclaim);
    }

    fn drain(&mut self, list: u64) -> Vec<DeadEntry> {
        let max = self.rng.usize(1..400);
        meta!(self, freed_nodes, edit, meta);
        deadlist::drain(&mut meta, list, max).unwrap()
    }

    /// Does a part of what deletions left to do, or all.
    fn reclaim(&mut self, steps: usize) {
        for _ in 0..steps {
            if let Some(list) = self.w.free_lists.pop() {
                let entries = self.drain(list);
                if !entries.is_empty() {
                    self.w.free_lists.push(list);
                }
                entries.iter().flat_map(units).for_each(|u| self.free(u));
            } else if let Some(list) = self.w.drop_lists.pop() {
                if !self.drain(list).is_empty() {
                    self.w.drop_lists.push(list);
                }
            } else if let Some(tree) = self.w.free_trees.pop() {
                tree.iter().for_each(|u| self.free(u));
            } else {
                return;
            }
        }
    }

    fn commit(&mut self) {
        self.w.epoch += 1;
        self.w.history.freeze();
        self.w.frozen = std::mem::take(&mut self.w.entries);
        let frozen_bits = self.w.bits.clone();
        let frozen_births = self.w.births;
        let quiet = self.rng.bool();
        let max = if quiet { 0 } else { 4 };
        self.operate_some(max);
        self.check();
        self.append();
        self.check();
        self.operate_some(max);
        for _ in 0..self.rng.usize(0..3) {
            let role = if self.rng.u8(0..4) == 0 { Role::Head } else { Role::Snapshot };
            if let Some(view) = self.some_view(role)
                && self.w.history.deletable(view)
                && (role == Role::Snapshot
                    || self.w.history.views().filter(|v| v.role == Role::Head).count() > 1)
            {
                self.delete(view);
                self.check();
                self.operate_some(max);
            }
        }
        self.sweep();
        let all = self.rng.bool();
        let steps = if all { 1 << 20 } else { self.rng.usize(0..4) };
        self.reclaim(steps);
        self.check_lists();
        if all {
            self.check_nothing_leaked();
        }
        self.save(&frozen_bits, frozen_births);
        self.operate_some(max);
    }

    /// Writes the records, checks them against the model as of the freeze, and keeps what a crash leaves.
    fn save(&mut self, frozen_bits: &BTreeMap<ViewId, Bits>, births: [u64; UNITS]) {
        let (written, removed) = self.w.history.take_records();
        self.disk.extend(written.into_iter().map(|r| (r.id, r)));
        removed.iter().for_each(|v| drop(self.disk.remove(v)));
        let (next_view, next_id) = self.w.history.next_ids();
        let history =
            History::from_records(self.disk.values().cloned().collect(), next_view, next_id).unwrap();
        let mut bits = BTreeMap::new();
        for r in history.views() {
            let old = &frozen_bits[&r.id];
            bits.insert(r.id, if r.role == Role::Hidden { self.w.bits[&r.id] } else { *old });
        }
        let mut w = World {
            history,
            bits,
            births,
            entries: BTreeMap::new(),
            allocated: Bits::NONE,
            untouched: BTreeMap::new(),
            ..self.w.clone()
        };
        w.allocated = w.bits.values().chain(&w.free_trees).fold(Bits::NONE, |sum, b| sum.or(b));
        for list in &w.free_lists {
            let listed = deadlist::entries(self.read(), *list, deadlist::ALL).unwrap();
            listed.iter().flat_map(|(_, e)| units(e)).for_each(|u| w.allocated.set(u));
        }
        std::mem::swap(&mut self.w, &mut w);
        self.check();
        self.check_lists();
        std::mem::swap(&mut self.w, &mut w);
        self.saved = Some(w);
    }

    fn crash(&mut self) {
        if let Some(saved) = &self.saved {
            // Epochs and numbers of what got lost are not used again.
            let epoch = self.w.epoch;
            self.w = saved.clone();
            self.w.epoch = epoch + 1;
            self.check();
        }
    }

    /// Every counter of every view.
    fn check(&mut self) {
        let h = &self.w.history;
        assert_eq!(h.views().count(), self.w.bits.len());
        let quiet = self.w.entries.is_empty() && self.w.frozen.is_empty();
        for r in h.views() {
            if r.role != Role::Head {
                assert!(r.epoch > h.base(r.id));
            }
            let (bits, base) = (&self.w.bits[&r.id], h.base(r.id).0);
            let own: usize = bits.iter().filter(|u| self.w.births[*u] > base).count();
            if r.role != Role::Hidden {
                assert_eq!(r.written, own as u64 * BLOCK_BYTES, "written of {r:?}");
                assert_eq!(r.referenced, bits.bytes(), "referenced of {r:?}");
                let children = h.children(r.id);
                let hidden = |v: &ViewId| h.view(*v).role == Role::Hidden;
                let simple = children.len() <= 1 && !children.iter().chain(&r.prev).any(hidden);
                let counted = h.counted_exclusive(r);
                assert_eq!(counted.is_some(), simple, "a counter tells what {r:?} has");
                if simple || quiet {
                    let only = bits.minus(&self.union_without(&BTreeSet::from([r.id]))).bytes();
                    assert!(counted.is_none_or(|counted| counted == only), "exclusive of {r:?}");
                    assert_eq!(h.exclusive(r.id, self.read()).unwrap(), only, "exclusive of {r:?}");
                }
            }
        }
        let branches = h.views().any(|r| h.children(r.id).len() > 1);
        if quiet || !branches {
            let all: Vec<ViewId> = h.views().map(|r| r.id).collect();
            let set: BTreeSet<ViewId> = all.into_iter().filter(|_| self.rng.bool()).collect();
            let chosen = self.visible().filter(|(v, _)| set.contains(v));
            let reached = chosen.fold(Bits::NONE, |sum, (_, b)| sum.or(b));
            let freed = reached.minus(&self.union_without(&set)).bytes();
            let got = self.w.history.would_free(&set, self.read()).unwrap();
            assert_eq!(got, freed, "would free {set:?}");
        }
    }

    /// Every dead list is the difference of two views, in the right buckets.
    fn check_lists(&self) {
        let waiting: BTreeSet<usize> =
            self.w.entries.values().chain(self.w.frozen.values()).flatten().flat_map(units).collect();
        let mut freed = Bits::NONE;
        for list in &self.w.free_lists {
            let listed = deadlist::entries(self.read(), *list, deadlist::ALL).unwrap();
            listed.iter().flat_map(|(_, e)| units(e)).for_each(|u| freed.set(u));
        }
        for r in self.w.history.views() {
            if r.role == Role::Hidden {
                let held = self.w.bits[&r.id].minus(&freed);
                let base = self.w.history.base(r.id).0;
                let own = held.iter().filter(|u| self.w.births[*u] > base).count() as u64;
                assert_eq!(r.written, own * BLOCK_BYTES, "written of {r:?}");
            }
            let mut listed = Bits::NONE;
            let list = deadlist::entries(self.read(), r.list, deadlist::ALL).unwrap();
            for (bucket, e) in &list {
                assert!(*bucket < e.birth && *bucket < self.w.history.base(r.id));
                for u in units(e) {
                    assert!(!listed.has(u), "{u} is twice in a list");
                    assert_eq!(self.w.births[u], e.birth.0);
                    listed.set(u);
                }
            }
            let total: u64 = list.iter().map(|(_, e)| e.len).sum();
            assert_eq!(deadlist::sum(self.read(), r.list, deadlist::ALL).unwrap(), total);
            let Some(prev) = r.prev else {
                assert_eq!(total, 0);
                continue;
            };
            let mut dead = self.w.bits[&prev].minus(&self.w.bits[&r.id]).minus(&freed);
            waiting.iter().filter(|u| !listed.has(**u)).for_each(|u| dead.clear(*u));
            assert_eq!(listed, dead, "dead list of {r:?}");
        }
    }

    /// After a sweep and all reclaims: what is allocated is what is reached, or waits for the next commit.
    fn check_nothing_leaked(&self) {
        assert!(self.w.free_lists.is_empty() && self.w.drop_lists.is_empty());
        let mut reached = self.union_without(&BTreeSet::new());
        self.w.entries.values().flatten().flat_map(units).for_each(|u| reached.set(u));
        assert_eq!(self.w.allocated, reached, "leaked, or freed under a view");
        let lists: BTreeSet<u64> = self.w.history.views().map(|r| r.list).collect();
        let all =
            crate::tree::range(&self.pager, &self.w.root, &crate::format::Key::MIN, &crate::format::Key::MAX);
        for (key, _) in all.map(|item| item.unwrap()) {
            if key.kind == crate::format::Kind::DeadBucket as u8 {
                assert!(lists.contains(&key.object), "buckets of list {} without a view", key.object);
            }
        }
    }

    fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..=89 => self.operate(),
            90..=97 => self.commit(),
            98 => self.rollback(),
            _ => self.crash(),
        }
        if self.rng.u8(0..8) == 0 {
            self.check();
        }
    }

    /// Back to a snapshot; the old head stays, or goes in this commit or a later one.
    fn rollback(&mut self) {
        let Some(old) = self.some_view(Role::Head) else { return };
        if self.rng.bool() {
            self.point();
        }
        self.fork();
        self.commit();
        if self.rng.bool() && self.w.history.views().filter(|v| v.role == Role::Head).count() > 1 {
            self.w.history.freeze();
            self.w.frozen = std::mem::take(&mut self.w.entries);
            let (bits, births) = (self.w.bits.clone(), self.w.births);
            self.w.epoch += 1;
            self.append();
            if self.w.history.deletable(old) {
                self.delete(old);
            }
            self.sweep();
            self.save(&bits, births);
        }
    }
}

/// Prints the seed when a run fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

fn run(seed: u64, steps: usize) {
    let _seed = Seed(seed);
    let mut run = Run::new(seed);
    for _ in 0..steps {
        run.step();
    }
}

#[test]
fn equals_brute_force() {
    (0..400).chain([5133]).for_each(|seed| run(seed, 600));
}

#[test]
fn equals_brute_force_in_the_long_run() {
    (1000..1004).for_each(|seed| run(seed, 10_000));
}

/// Lists against a map from (list, bucket) to the set of blocks, with buckets of many chunks.
#[test]
fn lists_equal_sets() {
    for seed in 0..6 {
        let _seed = Seed(seed);
        let mut run = Run::new(seed);
        let mut model: BTreeMap<(u64, u64), BTreeSet<u64>> = BTreeMap::new();
        let (mut next_id, mut next_addr) = (1000, BLOCK_BYTES);
        for _ in 0..100 {
            let (list, bucket) = (run.rng.u64(1..4), run.rng.u64(0..3));
            let (to, range) = (list % 3 + 1, bucket..run.rng.u64(0..4));
            let epochs = Epoch(range.start)..Epoch(range.end.max(range.start));
            let inside = |k: &(u64, u64)| k.0 == list && range.contains(&k.1);
            let steps = run.rng.usize(0..600);
            let (mut picked, mut chosen) = (DeadSet::new(), BTreeSet::new());
            for ((_, bucket), blocks) in &model {
                for b in blocks {
                    if run.rng.u8(0..8) == 0 {
                        chosen.insert(*b);
                        let birth = Epoch(bucket + 1);
                        picked.insert(&DeadEntry { addr: *b, len: BLOCK_BYTES, birth });
                    }
                }
            }
            let what = run.rng.u8(0..8);
            meta!(run, freed_nodes, edit, meta);
            match what {
                0..=3 => {
                    let mut entries = Vec::new();
                    for n in 0..steps {
                        let (addr, len) = (next_addr, (n as u64 % 3 + 1) * BLOCK_BYTES);
                        entries.push(DeadEntry { addr, len, birth: Epoch(bucket + 1) });
                        let blocks = model.entry((list, bucket)).or_default();
                        blocks.extend((addr..addr + len).step_by(BLOCK_BYTES as usize));
                        next_addr += len;
                    }
                    deadlist::append(&mut meta, list, Epoch(bucket), &entries, &mut next_id).unwrap();
                }
                4 => {
                    deadlist::move_buckets(&mut meta, list, epochs, to).unwrap();
                    for key in model.keys().copied().filter(inside).collect::<Vec<_>>() {
                        let blocks = model.remove(&key).unwrap();
                        model.entry((to, key.1)).or_default().extend(blocks);
                    }
                }
                5 => {
                    let out = deadlist::drain(&mut meta, list, steps).unwrap();
                    assert!(out.len() <= steps.max(168));
                    assert_eq!(out.is_empty(), !model.iter().any(|(k, b)| k.0 == list && !b.is_empty()));
                    for e in out {
                        for b in (e.addr..e.addr + e.len).step_by(BLOCK_BYTES as usize) {
                            assert!(model.get_mut(&(list, e.birth.0 - 1)).unwrap().remove(&b));
                        }
                    }
                }
                _ => {
                    let out = deadlist::remove(&mut meta, list, epochs, &picked).unwrap();
                    let mut bytes = 0;
                    for (_, blocks) in model.iter_mut().filter(|(k, _)| inside(k)) {
                        let before = blocks.len();
                        blocks.retain(|b| !chosen.contains(b));
                        bytes += (before - blocks.len()) as u64 * BLOCK_BYTES;
                    }
                    assert_eq!(out.iter().map(|(_, e)| e.len).sum::<u64>(), bytes);
                }
            }
            for list in 1..4 {
                let mut found: BTreeMap<(u64, u64), BTreeSet<u64>> = BTreeMap::new();
                for (bucket, e) in deadlist::entries(run.read(), list, deadlist::ALL).unwrap() {
                    for b in (e.addr..e.addr + e.len).step_by(BLOCK_BYTES as usize) {
                        assert!(found.entry((list, bucket.0)).or_default().insert(b));
                    }
                }
                let bytes: usize = found.values().map(|b| b.len()).sum();
                let sum = deadlist::sum(run.read(), list, deadlist::ALL).unwrap();
                assert_eq!(sum, bytes as u64 * BLOCK_BYTES);
                let expected = model.iter().filter(|(k, b)| k.0 == list && !b.is_empty());
                assert_eq!(found, expected.map(|(k, b)| (*k, b.clone())).collect());
            }
        }
    }
}
