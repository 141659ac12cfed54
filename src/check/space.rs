//! Space, births, dead lists and counters: invariants 3, 5 and 6.
//!
//! Every reference to a range of blocks is claimed exactly once: by the tree of the oldest view that reaches it, by a
//! job that will free it, by the meta tree or by the space map. Together the claims must cover exactly what the space
//! map calls allocated, each range as often as it has references. The dead list of a view must hold exactly what the
//! view below reaches and it does not. The work is proportional to the changes between views, not to the views.
//!
//! All of this is counted from data that is not derived. So the audit knows not only that something is wrong but also
//! what would be right: [`Derived`](super::Derived). If a node cannot be read, what is below it is unknown, and the
//! rest is still audited.

use super::derived::Derived;
use super::moved::{MovedContent, needs_homes};
use super::purged::PurgedContent;
use super::refs::Refs;
use super::report::{Depth, Report};
use crate::format::deadlist::DeadEntry;
use crate::format::job::Job;
use crate::format::superblock::{INCOMPAT_PURGED, INCOMPAT_REMAP};
use crate::format::view::{Role, ViewRecord};
use crate::format::{BlockPtr, Copies, Epoch, Extent, Key, Kind, ViewId};
use crate::names;
use crate::store::{RangeSet, StoreError};
use crate::tree::{Step, Visit, walk, walk_readable};
use crate::volume::audit::Committed;
use crate::volume::remap::reference;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What one view's tree has of its own.
#[derive(Default)]
pub(super) struct Own {
    /// References that no visible view below reaches.
    pub born: Refs,
    /// Older nodes at which the walk stopped: shared with the view below.
    pub boundary: HashSet<BlockPtr>,
    /// Older extents in its own leaves: still alive.
    pub kept: Refs,
    /// Something of it cannot be read.
    pub torn: bool,
}

pub(super) struct Auditor<'a> {
    pub state: &'a Committed,
    depth: Depth,
    pub report: &'a mut Report,
    pub derived: &'a mut Derived,
    /// All claims: (address, length).
    pub claims: Vec<(u64, u64)>,
    /// Where nodes and blocks of the space map are: nobody may share these.
    pub metadata: RangeSet,
    pub own: HashMap<ViewId, Own>,
    /// True bytes that views reach, as far as they are known.
    pub referenced: BTreeMap<ViewId, u64>,
    /// Bad copies that were reported.
    bad: HashSet<u64>,
    /// What references say that has moved.
    pub moved: MovedContent,
    /// What references lead to nothing.
    pub purged: PurgedContent,
}

/// Runs the audit; what it finds goes to `report`, and what would be right to `derived`.
pub(super) fn check(state: &Committed, depth: Depth, report: &mut Report, derived: &mut Derived) {
    let mut auditor = Auditor {
        state,
        depth,
        report,
        derived,
        claims: Vec::new(),
        metadata: RangeSet::new(),
        own: HashMap::new(),
        referenced: BTreeMap::new(),
        bad: HashSet::new(),
        moved: MovedContent::default(),
        purged: PurgedContent::default(),
    };
    auditor.fixed_blocks();
    for record in &state.records {
        if record.role != Role::Hidden {
            auditor.walk_view(record);
        }
    }
    // What is not derived must be there: trees, and what says where their content is.
    auditor.derived.complete = state.remap_is_whole && auditor.own.values().all(|own| !own.torn);
    auditor.claim_views();
    auditor.jobs();
    auditor.dead_lists();
    auditor.strays();
    auditor.moved_content();
    auditor.purged_content();
    auditor.tiling();
}

impl Auditor<'_> {
    pub fn claim(&mut self, addr: u64, len: u64) {
        self.claims.push((addr, len));
    }

    /// What a reference refers to, wherever it is.
    fn claim_reference(&mut self, e: &DeadEntry) {
        self.purged.resolve(self.state, e);
        self.moved.resolve(&self.state.remap, e);
        self.claims.extend(self.state.remap.places(e.addr, e.len, e.birth));
    }

    fn moved_content(&mut self) {
        if self.state.superblock.incompat & INCOMPAT_REMAP == 0 && !self.state.remap.is_empty() {
            let what =
                "content has moved, and the superblock does not say that there may be such (feature bit 3)";
            self.report.problem(what.into());
        }
        for (what, gone) in self.moved.judge(&self.state.remap, self.derived.complete) {
            match gone {
                Some(key) => {
                    self.wrong(what);
                    self.derived.moved_gone.push(key);
                }
                None => self.report.problem(what),
            }
        }
    }

    fn purged_content(&mut self) {
        let purged = &self.state.remap.purged;
        if self.state.superblock.incompat & INCOMPAT_PURGED == 0 && !purged.is_empty() {
            let what = "content was purged, and the superblock does not say so (feature bit 6)";
            self.report.problem(what.into());
        }
        let (complete, state) = (self.derived.complete, self.state);
        for wrong in self.purged.judge(state, &self.claims, complete) {
            // A list that is wrong may lack references.
            if complete && self.derived.lists.is_empty() {
                self.wrong(wrong.what);
                self.derived.purge_items.extend(wrong.items);
            } else {
                self.report.problem(wrong.what);
            }
        }
        // A place that is to be written over is held by its record.
        let held: Vec<_> = self.state.remap.purged.to_wipe();
        self.claims.extend(held);
    }

    /// Reports the bad copies that were met since the last call. What a block has in one place it must have in the other.
    fn bad_copies(&mut self, place: &str) {
        for bad in self.state.pager.store().take_bad_sides() {
            if self.bad.insert(bad.addr) {
                let (addr, side, what) = (bad.addr, bad.side, &bad.what);
                self.wrong(format!(
                    "{place}: {addr:#x} is bad on side {side} of the mirror, and good on the other: {what}"
                ));
            }
        }
        for bad in self.state.pager.store().take_bad() {
            if self.bad.insert(bad.addr.0) {
                let (addr, block, what) = (bad.addr, bad.ptr.addr, &bad.what);
                self.wrong(format!(
                    "{place}: the copy at {addr} of the block at {block} is bad, another is good: {what}"
                ));
                self.derived.copies.push(bad);
            }
        }
    }

    /// Each block must have as many copies as the store says.
    fn count_copies(&mut self, ptr: &BlockPtr) {
        let copies = self.state.superblock.metadata_copies;
        if (ptr.copy.0 != 0) != (copies == Copies::Two) {
            self.report.problem(format!(
                "pointer to the block at {} has a copy at {}; the store keeps {} of each",
                ptr.addr, ptr.copy, copies as u8
            ));
        }
    }

    /// The space of a block of metadata, claimed for the only time.
    fn claim_block(&mut self, ptr: &BlockPtr) {
        self.count_copies(ptr);
        for (addr, len) in ptr.ranges() {
            self.claim(addr, len);
            note_metadata(&mut self.metadata, addr, len);
        }
    }

    /// Something is wrong that can be derived from the rest.
    pub fn wrong(&mut self, what: String) {
        self.derived.found.push(what.clone());
        self.report.problem(what);
    }

    /// Epoch of the nearest visible view below: what is younger is not reached from any visible view below.
    fn visible_base(&self, record: &ViewRecord) -> Epoch {
        let mut at = record.prev.and_then(|p| self.state.history.get(p));
        while let Some(below) = at {
            if below.role != Role::Hidden {
                return below.epoch;
            }
            at = below.prev.and_then(|p| self.state.history.get(p));
        }
        Epoch(0)
    }

    pub fn hidden_below(&self, record: &ViewRecord) -> bool {
        record.prev.and_then(|p| self.state.history.get(p)).is_some_and(|p| p.role == Role::Hidden)
    }

    fn fixed_blocks(&mut self) {
        for ptr in &self.state.space_map {
            self.claim_block(ptr);
        }
        self.bad_copies("superblock's tables");
        let root = self.state.superblock.meta_root;
        let (mut nodes, mut lost) = (Vec::new(), Vec::new());
        let walked = walk_readable(
            &self.state.pager,
            &root,
            Epoch(0),
            &mut |visit| {
                match visit {
                    Visit::Node(ptr, ..) => nodes.push(*ptr),
                    Visit::Item(..) => self.report.items += 1,
                    Visit::Old(..) => {}
                }
                Ok(Step::Into)
            },
            &mut |node| {
                lost.push((*node.ptr, node.level, node.error));
                Ok(())
            },
        );
        self.report.nodes += nodes.len() as u64;
        nodes.iter().for_each(|ptr| self.claim_block(ptr));
        for (ptr, level, error) in lost {
            if level.is_none() {
                self.claim_block(&ptr);
            }
            self.report.problem(format!("meta tree: {error}"));
        }
        self.bad_copies("meta tree");
        if let Err(e) = walked {
            self.report.problem(format!("meta tree: {e}"));
        }
    }

    fn walk_view(&mut self, record: &ViewRecord) {
        let base = self.visible_base(record);
        let mut own = Own::default();
        let Some(root) = record.root else {
            self.own.insert(record.id, Own { torn: true, ..own });
            return self.report.problem(format!("view {} has no root", record.id.0));
        };
        let until = if record.role == Role::Snapshot { record.epoch } else { self.state.superblock.epoch };
        let (mut node_birth, mut last) = (root.birth, Key::MIN);
        let (mut nodes, mut lost) = (Vec::new(), Vec::new());
        let knows_homes = self.state.superblock.incompat & INCOMPAT_REMAP != 0;
        let mut unknown_items = 0;
        let walked = walk_readable(
            &self.state.pager,
            &root,
            base,
            &mut |visit| {
                match visit {
                    Visit::Old(ptr, _) => {
                        own.boundary.insert(*ptr);
                    }
                    Visit::Node(ptr, least, level) => {
                        self.report.nodes += 1;
                        if ptr.birth > until {
                            self.report.problem(format!(
                                "view {}: node at {} is younger than the view",
                                record.id.0, ptr.addr
                            ));
                        }
                        if level == 0 {
                            if least < last {
                                self.report.problem(format!(
                                    "view {}: keys do not ascend at {}",
                                    record.id.0, ptr.addr
                                ));
                            }
                            node_birth = ptr.birth;
                        }
                        nodes.push(*ptr);
                    }
                    Visit::Item(key, value) => {
                        self.report.items += 1;
                        last = key;
                        unknown_items += u64::from(!knows_homes && needs_homes(&key, value));
                        if key.kind == Kind::Extent as u8 {
                            let extent = Extent::decode(value)?;
                            let DeadEntry { addr, len, birth } = reference(&extent);
                            if birth > node_birth {
                                self.report.problem(format!(
                                    "view {}: extent {key:?} is younger than its node",
                                    record.id.0
                                ));
                            }
                            if birth > base {
                                own.born.add(addr, len, birth, 1);
                                if self.depth == Depth::Data {
                                    prove_data(self.state, &extent, record, self.report)?;
                                }
                            } else {
                                own.kept.add(addr, len, birth, 1);
                            }
                        }
                    }
                }
                Ok(Step::Into)
            },
            &mut |node| {
                lost.push((*node.ptr, node.level, node.error));
                Ok(())
            },
        );
        if unknown_items > 0 {
            self.report.problem(format!(
                "view {}: {unknown_items} items are about content away from home, and the superblock does not say that there \
                 may be such (feature bit 3)",
                record.id.0
            ));
        }
        for (ptr, level, error) in lost {
            own.torn = true;
            if level.is_none() {
                nodes.push(ptr);
            }
            self.view_problem(record, &error);
        }
        for ptr in nodes {
            self.count_copies(&ptr);
            for (addr, len) in ptr.ranges() {
                own.born.add(addr, len, ptr.birth, 1);
                note_metadata(&mut self.metadata, addr, len);
            }
        }
        if let Err(e) = walked {
            own.torn = true;
            self.view_problem(record, &e);
        }
        self.bad_copies(&format!("view {}", record.id.0));
        self.own.insert(record.id, own);
    }

    fn view_problem(&mut self, record: &ViewRecord, error: &StoreError) {
        let name = names::shown_bytes(&record.name);
        self.report.problem(format!("view {} ({name}): {error}", record.id.0));
    }

    /// Each view claims what is its own; what a hidden view wrote is claimed once for all views above it.
    fn claim_views(&mut self) {
        for record in &self.state.records {
            let base = self.state.history.base(record.id);
            if record.role == Role::Hidden {
                let alive = self.alive_in_hidden(record);
                self.claim_counts(&alive, base);
            } else if let Some(own) = self.own.remove(&record.id) {
                let newer_than = if self.hidden_below(record) { base } else { Epoch(0) };
                self.claim_counts(&own.born, newer_than);
                self.own.insert(record.id, own);
            }
        }
    }

    fn claim_counts(&mut self, refs: &Refs, newer_than: Epoch) {
        for (birth, addr, len, n) in refs.by_birth_after(newer_than) {
            (0..n).for_each(|_| self.claim_reference(&DeadEntry { addr, len, birth }));
        }
    }

    /// What a hidden view still holds: for each view above it what that reaches and what was freed on the way to it.
    fn alive_in_hidden(&mut self, hidden: &ViewRecord) -> Refs {
        let mut alive = Refs::default();
        for child in self.state.history.children(hidden.id).to_vec() {
            let Some(record) = self.state.history.get(child).cloned() else { continue };
            let mut here = Refs::default();
            if record.role == Role::Hidden {
                here.add_all(&self.alive_in_hidden(&record), hidden.epoch, 1);
            } else if let Some(own) = self.own.get(&child) {
                here.add_all(&own.born, hidden.epoch, 1);
            }
            // What is wrong with the list is told where the lists are proved.
            let listed = self.state.found_list(record.list).map(|l| l.entries).unwrap_or_default();
            listed.iter().for_each(|(_, e)| here.add(e.addr, e.len, e.birth, 1));
            alive = alive.max(&here);
        }
        alive
    }

    fn jobs(&mut self) {
        for (id, job) in &self.state.jobs {
            let done: Result<Vec<DeadEntry>, String> = match job {
                Job::FreeList(list) => self.job_list(*list),
                Job::DropList(list) => self.job_list(*list).map(|_| Vec::new()),
                Job::FreeTree { root, newer_than, cursor } => {
                    self.free_tree(root, *newer_than, cursor).map_err(|e| e.to_string())
                }
            };
            let e = match done {
                Ok(references) => {
                    references.iter().for_each(|e| self.claim_reference(e));
                    continue;
                }
                Err(e) => e,
            };
            // What a job is to free is what nobody refers to: without the job it is free at once.
            if self.derived.complete {
                self.derived.jobs_gone.push(*id);
                self.wrong(format!("background job {job:?}: {e}"));
            } else {
                self.report.problem(format!("background job {job:?}: {e}"));
            }
        }
        self.bad_copies("background jobs");
    }

    /// References of a list that waits for a job.
    fn job_list(&mut self, list: u64) -> Result<Vec<DeadEntry>, String> {
        let found = self.state.found_list(list).map_err(|e| e.to_string())?;
        let ranges = found.entries.iter().map(|(_, e)| *e).collect();
        if !found.faults.is_empty() {
            for fault in &found.faults {
                self.wrong(format!("dead list {list}: {fault}"));
            }
            self.derived.lists.push((list, found.entries));
        }
        Ok(ranges)
    }

    fn free_tree(
        &mut self,
        root: &BlockPtr,
        newer_than: Epoch,
        cursor: &Key,
    ) -> Result<Vec<DeadEntry>, StoreError> {
        let mut claims = Vec::new();
        walk(&self.state.pager, root, newer_than, &mut |visit| {
            match visit {
                Visit::Node(_, least, 0) if least < *cursor => return Ok(Step::Over),
                Visit::Node(ptr, ..) => {
                    let birth = ptr.birth;
                    claims.extend(ptr.ranges().map(|(addr, len)| DeadEntry { addr, len, birth }));
                }
                Visit::Item(key, value) if key.kind == Kind::Extent as u8 => {
                    let extent = Extent::decode(value)?;
                    if extent.birth > newer_than {
                        claims.push(reference(&extent));
                    }
                }
                Visit::Item(..) | Visit::Old(..) => {}
            }
            Ok(Step::Into)
        })?;
        Ok(claims)
    }
}

/// Views above a hidden one meet the same nodes, so a range may be there already.
fn note_metadata(set: &mut RangeSet, addr: u64, len: u64) {
    if addr.checked_add(len).is_some() && !set.insert(addr, len) {
        set.take(addr, len);
        set.insert(addr, len);
    }
}

fn prove_data(
    state: &Committed,
    extent: &Extent,
    record: &ViewRecord,
    report: &mut Report,
) -> Result<(), StoreError> {
    let store = state.pager.store();
    let mut buf = vec![0; extent.len_bytes() as usize];
    for (_, part) in state.remap.left_of(extent) {
        let stored = part.extent().stored_bytes();
        match store.read_extent(&part, 0, &mut buf[..part.extent().len_bytes() as usize]) {
            Ok(()) if !extent.is_unwritten() => report.data_bytes += stored,
            Ok(()) => {}
            // It was purged since this state was committed.
            Err(_) if store.rewrites().is_purged(part.addr(), stored) => {}
            Err(e) => report.problem(format!("view {}: {e}", record.id.0)),
        }
    }
    Ok(())
}
