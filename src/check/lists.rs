//! Dead lists and counters against the trees that they stand between: invariant 6.
//!
//! A list between two visible views is counted anew from the two trees, and so it can be made again when it is lost.
//! Above a hidden view, whose tree must not be walked, a list is only proved against itself.

use super::derived::Counters;
use super::refs::Refs;
use super::space::{Auditor, Own};
use crate::format::deadlist::{Bucket, DeadEntry};
use crate::format::job::Job;
use crate::format::view::{Role, ViewRecord};
use crate::format::{BlockPtr, Epoch, Extent, Kind, ViewId};
use crate::store::StoreError;
use crate::tree::{Step, Visit, walk};
use crate::volume::audit::FoundList;
use crate::volume::remap::reference;
use std::collections::{BTreeMap, BTreeSet, HashMap};

impl Auditor<'_> {
    /// Compares each dead list with the two trees that it stands between, and the counters with both. Views come with
    /// their ancestors first.
    pub fn dead_lists(&mut self) {
        let (hidden, mut records): (Vec<&ViewRecord>, Vec<_>) =
            self.state.records.iter().partition(|r| r.role == Role::Hidden);
        hidden.into_iter().for_each(|record| self.list_alone(record));
        records.sort_by_key(|r| (r.role == Role::Head, r.epoch, r.id));
        // For each view what its list must be, if that is known.
        let mut lists: HashMap<ViewId, Sums> = HashMap::new();
        for record in &records {
            let known = if self.hidden_below(record) {
                self.list_alone(record);
                None
            } else {
                self.dead_list(record)
            };
            self.count_references(record, known.as_ref());
            lists.extend(known.map(|sums| (record.id, sums)));
        }
        for record in records {
            self.counters(record, &lists);
        }
    }

    fn found_list(&mut self, record: &ViewRecord) -> Option<FoundList> {
        match self.state.found_list(record.list) {
            Ok(found) => Some(found),
            Err(e) => {
                self.report.problem(format!("dead list of view {}: {e}", record.id.0));
                None
            }
        }
    }

    /// A list of a hidden view or above one: that its parts agree.
    fn list_alone(&mut self, record: &ViewRecord) {
        let Some(found) = self.found_list(record) else { return };
        if found.faults.is_empty() {
            return;
        }
        for fault in &found.faults {
            self.wrong(format!("dead list of view {}: {fault}", record.id.0));
        }
        self.derived.leaks.push(format!(
            "dead list of view {}: entries that are lost cannot be found again; their space may stay in use when \
             views are deleted",
            record.id.0
        ));
        self.derived.lists.push((record.list, found.entries));
    }

    /// Proves a list between two visible views, and returns its true sums if both can be read.
    fn dead_list(&mut self, record: &ViewRecord) -> Option<Sums> {
        let found = self.found_list(record);
        let expected = match self.expected(record) {
            Ok(expected) => expected,
            Err(e) => {
                self.report.problem(format!("dead list of view {}: {e}", record.id.0));
                return None;
            }
        };
        let (mut balance, mut right) = (expected.clone()?, found.is_some());
        let found = found.unwrap_or_default();
        for fault in &found.faults {
            right = false;
            self.wrong(format!("dead list of view {}: {fault}", record.id.0));
        }
        let branch = self.branch(record);
        for (bucket, e) in &found.entries {
            if !in_bucket(&branch, *bucket, e, self.state.history.base(record.id)) {
                right = false;
                self.wrong(format!("view {}: dead entry {e:?} in bucket {}", record.id.0, bucket.0));
            }
            balance.add(e.addr, e.len, e.birth, -1);
        }
        match balance.imbalance() {
            (0, 0) => {}
            (missing, extra) => {
                right = false;
                self.wrong(format!(
                    "dead list of view {}: {missing} dead bytes are missing, {extra} listed ones make no sense",
                    record.id.0
                ));
            }
        }
        let entries = bucketed(&expected?, &branch);
        let sums = Sums(entries.iter().map(|(_, e)| (e.birth, e.len)).collect());
        if !right {
            self.derived.lists.push((record.list, entries));
        }
        Some(sums)
    }

    /// What the view below has in nodes that are not shared, minus what is kept: what the list must be. None if one of
    /// the trees cannot be read whole, which was told already.
    fn expected(&mut self, record: &ViewRecord) -> Result<Option<Refs>, String> {
        let mut expected = Refs::default();
        let Some(below) = record.prev.and_then(|p| self.state.history.get(p)) else {
            return Ok(Some(expected));
        };
        let torn = |id: &ViewId| self.own.get(id).is_none_or(|own| own.torn);
        if torn(&record.id) || torn(&below.id) {
            return Ok(None);
        }
        let (Some(root), Some(own)) = (below.root, self.own.get(&record.id)) else { return Ok(None) };
        self.walk_unshared(&root, own, &mut expected).map_err(|e| e.to_string())?;
        expected.add_all(&own.kept, Epoch(u64::MAX), -1);
        match expected.imbalance() {
            (_, 0) => Ok(Some(expected)),
            (_, extra) => Err(format!("{extra} bytes are kept that the view below does not have")),
        }
    }

    fn walk_unshared(&self, root: &BlockPtr, above: &Own, out: &mut Refs) -> Result<(), StoreError> {
        walk(&self.state.pager, root, Epoch(0), &mut |visit| {
            match visit {
                Visit::Node(ptr, ..) if above.boundary.contains(ptr) => return Ok(Step::Over),
                Visit::Node(ptr, ..) => {
                    ptr.ranges().for_each(|(addr, len)| out.add(addr, len, ptr.birth, 1));
                }
                Visit::Item(key, value) if key.kind == Kind::Extent as u8 => {
                    let extent = Extent::decode(value)?;
                    let DeadEntry { addr, len, birth } = reference(&extent);
                    out.add(addr, len, birth, 1);
                }
                Visit::Item(..) | Visit::Old(_) => {}
            }
            Ok(Step::Into)
        })
        .map(drop)
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

    fn written(&self, record: &ViewRecord) -> Option<u64> {
        let own = self.own.get(&record.id).filter(|own| !own.torn)?;
        let base = self.state.history.base(record.id);
        Some(own.born.counts(base).map(|(_, len, n)| len * n.unsigned_abs()).sum())
    }

    /// What a view reaches: what the view below does, less what was freed on the way, plus what was written; above a hidden
    /// view, all of its tree.
    fn count_references(&mut self, record: &ViewRecord, list: Option<&Sums>) {
        let below = record.prev.and_then(|p| self.state.history.get(p));
        let referenced = match below.map(|b| (b.id, b.role)) {
            None => self.written(record),
            Some((_, Role::Hidden)) => self.whole_tree(record),
            Some((id, _)) => {
                let parts = (self.referenced.get(&id), self.written(record), list.map(|l| l.newer(Epoch(0))));
                match parts {
                    (Some(below), Some(written), Some(freed)) => {
                        Some(below.saturating_add(written).saturating_sub(freed))
                    }
                    _ => None,
                }
            }
        };
        self.referenced.extend(referenced.map(|bytes| (record.id, bytes)));
    }

    fn whole_tree(&self, record: &ViewRecord) -> Option<u64> {
        let mut bytes: u64 = 0;
        let walked = walk(&self.state.pager, &record.root?, Epoch(0), &mut |visit| {
            match visit {
                Visit::Node(ptr, ..) => {
                    bytes = ptr.ranges().fold(bytes, |sum, (_, len)| sum.saturating_add(len))
                }
                Visit::Item(key, value) if key.kind == Kind::Extent as u8 => {
                    bytes = bytes.saturating_add(Extent::decode(value)?.stored_bytes());
                }
                Visit::Item(..) | Visit::Old(_) => {}
            }
            Ok(Step::Into)
        });
        walked.ok().map(|_| bytes)
    }

    fn counters(&mut self, record: &ViewRecord, lists: &HashMap<ViewId, Sums>) {
        let mut right =
            Counters { referenced: record.referenced, written: record.written, exclusive: record.exclusive };
        let had = right;
        right.written = self.written(record).unwrap_or(had.written);
        right.referenced = self.referenced.get(&record.id).copied().unwrap_or(had.referenced);
        // Exclusive: what was born here and freed on the only edge up.
        if let (Role::Snapshot, [child]) = (record.role, self.state.history.children(record.id))
            && let Some(list) = lists.get(child)
        {
            right.exclusive = list.newer(self.state.history.base(record.id));
        }
        let pairs = [
            ("written", had.written, right.written),
            ("referenced", had.referenced, right.referenced),
            ("exclusive", had.exclusive, right.exclusive),
        ];
        for (name, had, is) in pairs.into_iter().filter(|(_, had, is)| had != is) {
            self.wrong(format!("view {}: {name} is {had}, found {is}", record.id.0));
        }
        if had != right {
            self.derived.counters.push((record.id, right));
        }
    }

    /// Items of dead lists that belong to no view and no job.
    pub fn strays(&mut self) {
        let mut known: BTreeSet<u64> = self.state.records.iter().map(|r| r.list).collect();
        known.extend(self.state.jobs.values().filter_map(|job| match job {
            Job::FreeList(list) | Job::DropList(list) => Some(*list),
            Job::FreeTree { .. } => None,
        }));
        let (mut chains, mut chunks, mut strays) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
        for item in self.state.list_items() {
            let (key, value) = match item {
                Ok(item) => item,
                Err(e) => return self.report.problem(format!("meta tree: {e}")),
            };
            match Kind::from_u8(key.kind) {
                Some(Kind::DeadBucket) if !known.contains(&key.object) => strays.push(key),
                // One that does not decode was told with its list.
                Some(Kind::DeadBucket) => {
                    let oid = Bucket::decode(&value).map_or(0, |bucket| bucket.oid);
                    if !chains.insert(oid) && oid != 0 {
                        self.report.problem(format!("meta tree: two buckets share the chunks of {oid}"));
                    }
                }
                Some(Kind::DeadChunk) => *chunks.entry(key.object).or_insert(0u64) += 1,
                _ => self.report.problem(format!("unknown item {key:?} in the meta tree")),
            }
        }
        chunks.retain(|oid, _| !chains.contains(oid));
        let count = strays.len() as u64 + chunks.values().sum::<u64>();
        if count > 0 {
            self.wrong(format!("meta tree: {count} items of dead lists belong to no view"));
        }
        self.derived.stray_buckets = strays;
        self.derived.stray_chains = chunks.into_keys().collect();
    }
}

/// Lengths of the entries of a list, by birth.
struct Sums(Vec<(Epoch, u64)>);

impl Sums {
    fn newer(&self, than: Epoch) -> u64 {
        self.0.iter().filter(|(birth, _)| *birth > than).map(|(_, len)| len).sum()
    }
}

/// True if an entry may be in a bucket. `branch` are the epochs of all views below, ascending.
fn in_bucket(branch: &[Epoch], bucket: Epoch, e: &DeadEntry, base: Epoch) -> bool {
    let next = branch.iter().find(|s| **s > bucket).copied().unwrap_or(base);
    e.birth > bucket && e.birth <= base && (e.birth <= next || !branch.contains(&bucket))
}

/// References as entries of a list, each in the bucket of its birth.
fn bucketed(refs: &Refs, branch: &[Epoch]) -> Vec<(Epoch, DeadEntry)> {
    let mut out = Vec::new();
    for (birth, addr, len, n) in refs.by_birth() {
        let older = branch.partition_point(|epoch| *epoch < birth);
        let bucket = older.checked_sub(1).map_or(Epoch(0), |i| branch[i]);
        (0..n).for_each(|_| out.push((bucket, DeadEntry { addr, len, birth })));
    }
    out
}
