//! Space, births, dead lists and counters: invariants 3, 5 and 6.
//!
//! Every reference to a range of blocks is claimed exactly once: by the tree of the oldest view that reaches it, by a
//! job that will free it, by the meta tree or by the space map. The claims must tile what the space map calls allocated,
//! each range as often as it has references. A view's dead list must be exactly what the view below reaches and it does
//! not. Costs are those of the changes between views, not of the views.

use super::refs::Refs;
use super::{Depth, Report};
use crate::format::job::Job;
use crate::format::view::{Role, ViewRecord};
use crate::format::{BlockPtr, Copies, Epoch, Extent, Key, Kind, ViewId};
use crate::store::StoreError;
use crate::tree::{Step, Visit, walk};
use crate::volume::audit::Committed;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What one view's tree has of its own.
#[derive(Default)]
struct Own {
    /// References that no visible view below reaches.
    born: Refs,
    /// Older nodes at which the walk stopped: shared with the view below.
    boundary: HashSet<BlockPtr>,
    /// Older extents in its own leaves: still alive.
    kept: Refs,
}

struct Auditor<'a> {
    state: &'a Committed,
    depth: Depth,
    report: &'a mut Report,
    /// All claims: (address, length).
    claims: Vec<(u64, u64)>,
    own: HashMap<ViewId, Own>,
    /// Bad copies that were reported.
    bad: HashSet<u64>,
}

/// Runs the audit; what it finds goes to `report`.
pub(super) fn check(state: &Committed, depth: Depth, report: &mut Report) {
    let mut auditor =
        Auditor { state, depth, report, claims: Vec::new(), own: HashMap::new(), bad: HashSet::new() };
    auditor.fixed_blocks();
    for record in &state.records {
        if record.role != Role::Hidden {
            auditor.walk_view(record);
        }
    }
    auditor.claim_views();
    auditor.jobs();
    auditor.dead_lists();
    auditor.tiling();
}

impl Auditor<'_> {
    fn claim(&mut self, addr: u64, len: u64) {
        self.claims.push((addr, len));
    }

    /// Reports the bad copies that were met since the last call.
    fn bad_copies(&mut self, place: &str) {
        for bad in self.state.pager.store().take_bad() {
            if self.bad.insert(bad.addr.0) {
                let (addr, block, what) = (bad.addr, bad.ptr.addr, bad.what);
                self.report.problem(format!(
                    "{place}: the copy at {addr} of the block at {block} is bad, another is good: {what}"
                ));
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

    fn hidden_below(&self, record: &ViewRecord) -> bool {
        record.prev.and_then(|p| self.state.history.get(p)).is_some_and(|p| p.role == Role::Hidden)
    }

    fn fixed_blocks(&mut self) {
        for ptr in &self.state.space_map {
            self.claims.extend(ptr.ranges());
            self.count_copies(ptr);
        }
        self.bad_copies("superblock's tables");
        let root = self.state.superblock.meta_root;
        let mut nodes = Vec::new();
        let walked = walk(&self.state.pager, &root, Epoch(0), &mut |visit| {
            match visit {
                Visit::Node(ptr, ..) => nodes.push(*ptr),
                Visit::Item(..) => self.report.items += 1,
                Visit::Old(_) => {}
            }
            Ok(Step::Into)
        });
        self.report.nodes += nodes.len() as u64;
        for ptr in nodes {
            self.claims.extend(ptr.ranges());
            self.count_copies(&ptr);
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
            return self.report.problem(format!("view {} has no root", record.id.0));
        };
        let until = if record.role == Role::Snapshot { record.epoch } else { self.state.superblock.epoch };
        let (mut node_birth, mut last) = (root.birth, Key::MIN);
        let walked = walk(&self.state.pager, &root, base, &mut |visit| {
            match visit {
                Visit::Old(ptr) => {
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
                            self.report
                                .problem(format!("view {}: keys do not ascend at {}", record.id.0, ptr.addr));
                        }
                        node_birth = ptr.birth;
                    }
                    self.count_copies(ptr);
                    ptr.ranges().for_each(|(addr, len)| own.born.add(addr, len, ptr.birth, 1));
                }
                Visit::Item(key, value) => {
                    self.report.items += 1;
                    last = key;
                    if key.kind == Kind::Extent as u8 {
                        let extent = Extent::decode(value)?;
                        let (addr, len, birth) = (extent.addr.0, extent.len_bytes(), extent.birth);
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
        });
        if let Err(e) = walked {
            self.report.problem(format!(
                "view {} ({}): {e}",
                record.id.0,
                String::from_utf8_lossy(&record.name)
            ));
        }
        self.bad_copies(&format!("view {}", record.id.0));
        self.own.insert(record.id, own);
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
        for (addr, len, n) in refs.counts(newer_than) {
            (0..n).for_each(|_| self.claims.push((addr, len)));
        }
    }

    /// What a hidden view still holds: for each view above it what that reaches and what died on the way to it.
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
            match self.state.dead_list(record.list) {
                Ok(entries) => entries.iter().for_each(|(_, e)| here.add(e.addr, e.len, e.birth, 1)),
                Err(e) => self.report.problem(format!("dead list of view {}: {e}", child.0)),
            }
            alive = alive.max(&here);
        }
        alive
    }

    fn jobs(&mut self) {
        for job in self.state.jobs.values() {
            let done: Result<(), String> = match job {
                Job::FreeList(list) => {
                    self.state.dead_list(*list).map_err(|e| e.to_string()).map(|entries| {
                        entries.iter().for_each(|(_, e)| self.claim(e.addr, e.len));
                    })
                }
                Job::DropList(list) => self.state.dead_list(*list).map(|_| ()).map_err(|e| e.to_string()),
                Job::FreeTree { root, newer_than, cursor } => {
                    self.free_tree(root, *newer_than, cursor).map_err(|e| e.to_string())
                }
            };
            if let Err(e) = done {
                self.report.problem(format!("background job {job:?}: {e}"));
            }
        }
        self.bad_copies("background jobs");
    }

    fn free_tree(&mut self, root: &BlockPtr, newer_than: Epoch, cursor: &Key) -> Result<(), StoreError> {
        let mut claims = Vec::new();
        walk(&self.state.pager, root, newer_than, &mut |visit| {
            match visit {
                Visit::Node(_, least, 0) if least < *cursor => return Ok(Step::Over),
                Visit::Node(ptr, ..) => claims.extend(ptr.ranges()),
                Visit::Item(key, value) if key.kind == Kind::Extent as u8 => {
                    let extent = Extent::decode(value)?;
                    if extent.birth > newer_than {
                        claims.push((extent.addr.0, extent.len_bytes()));
                    }
                }
                Visit::Item(..) | Visit::Old(_) => {}
            }
            Ok(Step::Into)
        })?;
        self.claims.extend(claims);
        Ok(())
    }

    /// Compares each dead list with the two trees that it stands between, and the counters with both.
    fn dead_lists(&mut self) {
        for record in &self.state.records {
            if record.role == Role::Hidden {
                continue;
            }
            if !self.hidden_below(record)
                && let Err(e) = self.dead_list(record)
            {
                self.report.problem(format!("dead list of view {}: {e}", record.id.0));
            }
            self.counters(record);
        }
    }

    fn dead_list(&mut self, record: &ViewRecord) -> Result<(), String> {
        let base = self.state.history.base(record.id);
        let chain: Vec<Epoch> = self.branch(record);
        // What the view below has in nodes that are not shared, minus what is kept, minus what is listed: nothing.
        let mut balance = Refs::default();
        for (bucket, e) in self.state.dead_list(record.list).map_err(|e| e.to_string())? {
            let next = chain.iter().find(|s| **s > bucket).copied().unwrap_or(base);
            if e.birth <= bucket || e.birth > base || (e.birth > next && chain.contains(&bucket)) {
                self.report.problem(format!("view {}: dead entry {e:?} in bucket {}", record.id.0, bucket.0));
            }
            balance.add(e.addr, e.len, e.birth, -1);
        }
        let below = record.prev.and_then(|p| self.state.history.get(p));
        let own = self.own.get(&record.id);
        if let (Some(root), Some(own)) = (below.and_then(|p| p.root), own) {
            balance.add_all(&own.kept, Epoch(u64::MAX), -1);
            walk(&self.state.pager, &root, Epoch(0), &mut |visit| {
                match visit {
                    Visit::Node(ptr, ..) if own.boundary.contains(ptr) => return Ok(Step::Over),
                    Visit::Node(ptr, ..) => {
                        ptr.ranges().for_each(|(addr, len)| balance.add(addr, len, ptr.birth, 1));
                    }
                    Visit::Item(key, value) if key.kind == Kind::Extent as u8 => {
                        let extent = Extent::decode(value)?;
                        balance.add(extent.addr.0, extent.len_bytes(), extent.birth, 1);
                    }
                    Visit::Item(..) | Visit::Old(_) => {}
                }
                Ok(Step::Into)
            })
            .map_err(|e| e.to_string())?;
        }
        match balance.imbalance() {
            (0, 0) => Ok(()),
            (missing, extra) => {
                Err(format!("{missing} dead bytes are missing, {extra} listed or kept ones make no sense"))
            }
        }
    }

    fn branch(&self, record: &ViewRecord) -> Vec<Epoch> {
        let mut chain = Vec::new();
        let mut at = record.prev;
        while let Some(view) = at.and_then(|p| self.state.history.get(p)) {
            chain.push(view.epoch);
            at = view.prev;
        }
        chain.reverse();
        chain
    }

    fn counters(&mut self, record: &ViewRecord) {
        let Some(own) = self.own.get(&record.id) else { return };
        let base = self.state.history.base(record.id);
        let written: u64 = own.born.counts(base).map(|(_, len, n)| len * n.unsigned_abs()).sum();
        if record.written != written {
            self.report
                .problem(format!("view {}: written is {}, found {written}", record.id.0, record.written));
        }
        // Referenced: what the view below references, less what died on the way, plus what was written.
        let below = record.prev.and_then(|p| self.state.history.get(p));
        let died: u64 = match self.state.dead_list(record.list) {
            Ok(entries) => entries.iter().map(|(_, e)| e.len).sum(),
            Err(_) => return,
        };
        if let Some(below) = below.filter(|b| b.role != Role::Hidden) {
            let referenced = (below.referenced + written).saturating_sub(died);
            if record.referenced != referenced {
                self.report.problem(format!(
                    "view {}: referenced is {}, found {referenced}",
                    record.id.0, record.referenced
                ));
            }
        } else if below.is_none() && record.referenced != written {
            self.report.problem(format!(
                "view {}: referenced is {}, found {written}",
                record.id.0, record.referenced
            ));
        }
        // Exclusive: what was born here and died on the only edge up, or all of it without one.
        if let (Role::Snapshot, [child]) = (record.role, self.state.history.children(record.id)) {
            let list = self.state.history.get(*child).map_or(0, |c| c.list);
            let Ok(entries) = self.state.dead_list(list) else { return };
            let exclusive: u64 = entries.iter().filter(|(_, e)| e.birth > base).map(|(_, e)| e.len).sum();
            let visible = self.state.history.get(*child).is_some_and(|c| c.role != Role::Hidden);
            if visible && record.exclusive != exclusive {
                self.report.problem(format!(
                    "view {}: exclusive is {}, found {exclusive}",
                    record.id.0, record.exclusive
                ));
            }
        }
    }

    /// The claims, sorted, must cover the allocated ranges exactly, each as often as it has references.
    fn tiling(&mut self) {
        let mut edges: BTreeMap<u64, (i64, i64)> = BTreeMap::new();
        for (addr, len) in &self.claims {
            edges.entry(*addr).or_default().0 += 1;
            edges.entry(addr + len).or_default().0 -= 1;
        }
        let extra = self.state.extra_refs.iter().map(|(a, l, n)| (*a, *l, i64::from(*n)));
        for (addr, len, n) in self.state.allocated.iter().map(|(a, l)| (a, l, 1)).chain(extra) {
            edges.entry(addr).or_default().1 += n;
            edges.entry(addr + len).or_default().1 -= n;
        }
        let (mut claimed, mut wanted, mut from) = (0, 0, 0);
        for (at, (c, w)) in edges {
            if claimed != wanted && at > from {
                let what = match (claimed, wanted) {
                    (0, _) => "allocated, but nothing refers to it (leak)",
                    (_, 0) => "referred to, but free",
                    (c, w) if c > w => "referred to more often than counted",
                    _ => "referred to less often than counted",
                };
                self.report.problem(format!("space {from:#x}..{at:#x}: {what} ({claimed} of {wanted})"));
            }
            claimed += c;
            wanted += w;
            from = at;
        }
    }
}

fn prove_data(
    state: &Committed,
    extent: &Extent,
    record: &ViewRecord,
    report: &mut Report,
) -> Result<(), StoreError> {
    let mut buf = vec![0; extent.len_bytes() as usize];
    match state.pager.store().read_extent(extent, 0, &mut buf) {
        Ok(()) if !extent.is_unwritten() => report.data_bytes += buf.len() as u64,
        Ok(()) => {}
        Err(e) => report.problem(format!("view {}: {e}", record.id.0)),
    }
    Ok(())
}
