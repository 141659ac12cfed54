//! The history: its state, and what changes it between two commits.

use super::deadlist::{self, Buckets, MetaRead, take_id};
use super::late::Late;
use super::ways::Ancestry;
use crate::format::provenance::Provenance;
use crate::format::view::{Consistency, Role, ViewRecord};
use crate::format::{BlockPtr, Epoch, Generation, Identity, LineId, Slot, ViewId};
use std::collections::{BTreeMap, BTreeSet};

/// Where a block goes that a head has freed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Freeing {
    /// No view reaches it any more: free once the next commit is durable.
    Now,
    /// To a bucket of a dead list.
    Deferred {
        /// The list.
        list: u64,
        /// The bucket.
        bucket: Epoch,
    },
}

/// What a new snapshot is called, how it is known, and when and how it was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Point {
    /// Its point in time: newer than every snapshot of the store.
    pub epoch: Epoch,
    /// Its name.
    pub name: Vec<u8>,
    /// What the numbers of its nodes carry.
    pub slot: Slot,
    /// Of the slot.
    pub generation: Generation,
    /// Creation: seconds and nanoseconds since 1970 UTC.
    pub created: (i64, u32),
    /// What took part.
    pub consistency: Consistency,
    /// Why, and by whom.
    pub provenance: Provenance,
    /// If it was received from another store: as it is known there.
    pub identity: Option<Identity>,
}

type Sums = BTreeMap<(u64, Epoch), u64>;

/// All views of a store. Not synchronised: the caller's lock covers every call.
#[derive(Clone)]
pub struct History {
    pub(super) views: BTreeMap<ViewId, ViewRecord>,
    pub(super) children: BTreeMap<ViewId, Vec<ViewId>>,
    /// Dead list -> the view whose edge it is.
    pub(super) lists: BTreeMap<u64, ViewId>,
    pub(super) ways: Ancestry,
    pub(super) next_view: u64,
    /// Numbers dead lists and chunk chains.
    pub(super) next_id: u64,
    newest: Epoch,
    forks: u64,
    /// Dead bytes that are in no list yet: since the freeze, and before it.
    pub(super) pending: Sums,
    pub(super) frozen: Sums,
    /// Hidden views -> bytes that were freed below them since they were last swept, and of these the pending.
    pub(super) grown: BTreeMap<ViewId, u64>,
    pub(super) grown_pending: BTreeMap<ViewId, u64>,
    pub(super) late: Late,
    /// Records that the open commit has to write and to remove.
    pub(super) dirty: BTreeSet<ViewId>,
    pub(super) removed: BTreeSet<ViewId>,
    /// Views that the open commit removed, and those below them, in order.
    pub(super) gone: Vec<(ViewId, Option<ViewId>)>,
}

impl History {
    /// How many views there are.
    pub fn count(&self) -> usize {
        self.views.len()
    }

    /// Views whose records the next commit will write.
    pub fn changed(&self) -> usize {
        self.late.dirty.len()
    }

    /// True if the record of the view is among these.
    pub fn is_changed(&self, view: ViewId) -> bool {
        self.late.dirty.contains(&view)
    }

    /// A history with one head, of the main line, that was never written.
    pub fn new(created: (i64, u32)) -> (History, ViewId) {
        let mut history = History::empty(1, 1);
        let head = ViewId(history.take_view());
        let list = take_id(&mut history.next_id);
        history.add(ViewRecord::head(head, LineId::MAIN, list, created));
        history.dirty.insert(head);
        (history, head)
    }

    /// A view.
    pub fn get(&self, view: ViewId) -> Option<&ViewRecord> {
        self.views.get(&view)
    }

    /// All views by number, hidden ones too.
    pub fn views(&self) -> impl Iterator<Item = &ViewRecord> {
        self.views.values()
    }

    /// Views with numbers above `after`, in order.
    pub fn views_after(&self, after: ViewId) -> impl DoubleEndedIterator<Item = &ViewRecord> {
        self.views.range(ViewId(after.0.saturating_add(1))..).map(|(_, v)| v)
    }

    /// The views right above a view, hidden ones too.
    pub fn children(&self, view: ViewId) -> &[ViewId] {
        self.children.get(&view).map_or(&[], |c| c)
    }

    /// First number never given to a view, and to a dead list or chunk chain: to be kept in the superblock.
    pub fn next_ids(&self) -> (ViewId, u64) {
        (ViewId(self.next_view), self.next_id)
    }

    /// The counter that [`deadlist::append`] wants.
    pub fn next_id_mut(&mut self) -> &mut u64 {
        &mut self.next_id
    }

    /// The newest point in time of all.
    pub fn newest(&self) -> Epoch {
        self.newest
    }

    /// Epoch of the view below: what was born later is the view's own. 0 without.
    pub fn base(&self, view: ViewId) -> Epoch {
        self.view(view).prev.map_or(Epoch(0), |p| self.view(p).epoch)
    }

    /// Sets the root of a view's tree as the open commit wrote it: part of its records.
    pub fn set_root(&mut self, view: ViewId, root: Option<BlockPtr>) {
        self.view_mut(view).root = root;
        self.dirty.insert(view);
    }

    /// Notes for how long writers had to wait for a snapshot.
    pub fn set_pause(&mut self, view: ViewId, pause_ns: u64) {
        self.view_mut(view).pause_ns = pause_ns;
        self.late.dirty.insert(view);
    }

    /// Notes the sum over what is in a snapshot.
    pub fn set_digest(&mut self, view: ViewId, digest: u128) {
        // Of what content was purged from meanwhile there is none.
        if self.view(view).edited.is_none() {
            self.view_mut(view).digest = Some(digest);
            self.late.dirty.insert(view);
        }
    }

    /// The open commit takes content out of a snapshot: the sum is that of something else. Part of its records.
    pub fn set_edited(&mut self, view: ViewId, secs: i64) {
        if !self.views.contains_key(&view) {
            return;
        }
        let record = self.view_mut(view);
        (record.digest, record.edited) = (None, Some(secs));
        self.dirty.insert(view);
    }

    /// Changes a name. That no other view has it is the caller's business.
    pub fn set_name(&mut self, view: ViewId, name: Vec<u8>) {
        self.keep_identity(view);
        self.view_mut(view).name = name;
    }

    /// Says why a view is kept.
    pub fn set_provenance(&mut self, view: ViewId, provenance: Provenance) {
        self.view_mut(view).provenance = provenance;
        self.late.dirty.insert(view);
    }

    /// Gives a view to another line.
    pub fn set_line(&mut self, view: ViewId, line: LineId) {
        self.keep_identity(view);
        self.view_mut(view).line = line;
    }

    /// Notes that a view that is of no line is a line's, under that name.
    pub fn own(&mut self, view: ViewId, line: LineId, name: Vec<u8>) {
        self.keep_identity(view);
        let record = self.view_mut(view);
        (record.line, record.name) = (line, name);
    }

    /// Notes that a view is of no line any more, and so to be deleted.
    pub fn disown(&mut self, view: ViewId) {
        self.keep_identity(view);
        let record = self.view_mut(view);
        record.line = LineId::NONE;
        record.name.clear();
    }

    /// The open commit writes line and name as they are now.
    fn keep_identity(&mut self, view: ViewId) {
        let record = self.view(view);
        let identity = (record.line, record.name.clone());
        self.late.identified(view, identity);
    }

    /// A head wrote `len` bytes of blocks.
    pub fn born(&mut self, head: ViewId, len: u64) {
        let record = self.view_mut(head);
        record.referenced = record.referenced.saturating_add(len);
        record.written = record.written.saturating_add(len);
        self.late.count(head, |d| {
            d.referenced = d.referenced.saturating_add_unsigned(len);
            d.written = d.written.saturating_add_unsigned(len);
        });
    }

    /// A head no longer reaches `len` bytes that were born in one epoch. Says where they go; what goes to a list is
    /// counted as pending until the commit has appended it.
    pub fn free(&mut self, head: ViewId, birth: Epoch, len: u64) -> Freeing {
        let base = self.base(head);
        let record = self.view_mut(head);
        debug_assert_eq!(record.role, Role::Head);
        record.referenced = record.referenced.saturating_sub(len);
        self.late.count(head, |d| d.referenced = d.referenced.saturating_sub_unsigned(len));
        let record = self.view_mut(head);
        let (list, prev) = match record.prev {
            Some(prev) if birth <= base => (record.list, prev),
            _ => {
                record.written = record.written.saturating_sub(len);
                self.late.count(head, |d| d.written = d.written.saturating_sub_unsigned(len));
                return Freeing::Now;
            }
        };
        let (older, owner) = self.older_than(birth, prev);
        let bucket = older.map_or(Epoch(0), |v| v.epoch);
        let pending = self.pending.entry((list, bucket)).or_default();
        *pending = pending.saturating_add(len);
        if self.children(prev).len() == 1 && birth > self.base(prev) {
            let record = self.view_mut(prev);
            record.exclusive = record.exclusive.saturating_add(len);
            self.late.count(prev, |d| d.exclusive = d.exclusive.saturating_add_unsigned(len));
        }
        if let Some(owner) = owner.filter(|v| self.view(*v).role == Role::Hidden) {
            let shown = self.find_shown_below(Some(prev)).map_or(Epoch(0), |v| self.view(v).epoch);
            if shown < birth {
                let grown = self.grown_pending.entry(owner).or_default();
                *grown = grown.saturating_add(len);
            }
        }
        Freeing::Deferred { list, bucket }
    }

    /// Keeps what a head is now as a new snapshot. The caller sets its root later.
    pub fn point(&mut self, head: ViewId, point: Point) -> ViewId {
        assert!(point.epoch > self.newest, "a point in time is newer than all others");
        let id = ViewId(self.take_view());
        let list = take_id(&mut self.next_id);
        let record = self.view_mut(head);
        assert_eq!(record.role, Role::Head);
        let snapshot = ViewRecord {
            id,
            role: Role::Snapshot,
            name: point.name,
            slot: point.slot,
            generation: point.generation,
            epoch: point.epoch,
            exclusive: 0,
            created: point.created,
            pause_ns: 0,
            consistency: point.consistency,
            provenance: point.provenance,
            identity: point.identity,
            ..record.clone()
        };
        (record.prev, record.list, record.written) = (Some(id), list, 0);
        self.newest = point.epoch;
        if let Some(siblings) = snapshot.prev.and_then(|p| self.children.get_mut(&p)) {
            siblings.iter_mut().filter(|c| **c == head).for_each(|c| *c = id);
        }
        self.children.insert(id, vec![head]);
        self.lists.insert(snapshot.list, id);
        self.lists.insert(list, head);
        self.ways.add(id, snapshot.prev);
        self.late.pointed(head, id);
        self.views.insert(id, snapshot);
        id
    }

    /// As [`History::point`], under a number that was given before: a point that only the superblock tells of.
    pub fn point_as(&mut self, id: ViewId, head: ViewId, point: Point) {
        let next = std::mem::replace(&mut self.next_view, id.0);
        self.point(head, point);
        self.next_view = self.next_view.max(next);
    }

    /// A new head that starts as a snapshot is: that of a new line, or that of a line after a rollback.
    pub fn fork(&mut self, snapshot: ViewId, line: LineId, created: (i64, u32)) -> ViewId {
        let (id, list) = (ViewId(self.take_view()), take_id(&mut self.next_id));
        let origin = self.view(snapshot);
        assert_eq!(origin.role, Role::Snapshot, "only a snapshot can be cloned");
        let head = ViewRecord {
            id,
            role: Role::Head,
            line,
            name: Vec::new(),
            slot: Slot(0),
            generation: Generation(0),
            epoch: Epoch(0),
            prev: Some(snapshot),
            list,
            written: 0,
            exclusive: 0,
            created,
            pause_ns: 0,
            provenance: Provenance::default(),
            identity: None,
            digest: None,
            // What was purged from it is not in what is made from it.
            ..origin.clone()
        };
        self.add(head);
        self.late.forked(id);
        id
    }

    /// A new head on the view that another head is on, and as that is: it has changed nothing since.
    pub fn fork_beside(&mut self, other: ViewId, line: LineId, created: (i64, u32)) -> ViewId {
        let (id, list) = (ViewId(self.take_view()), take_id(&mut self.next_id));
        let other = self.view(other);
        assert_eq!(other.role, Role::Head);
        self.add(ViewRecord { id, line, list, written: 0, created, ..other.clone() });
        self.late.forked(id);
        id
    }

    /// A new head, under that number, that starts as an empty tree: it descends from nothing.
    pub fn begin_as(&mut self, id: ViewId, line: LineId, created: (i64, u32)) {
        let list = take_id(&mut self.next_id);
        self.add(ViewRecord::head(id, line, list, created));
        self.next_view = self.next_view.max(id.0 + 1);
        self.late.forked(id);
    }

    /// As [`History::fork`], under a number that was given before: a head that the log tells of.
    pub fn fork_as(&mut self, id: ViewId, snapshot: ViewId, line: LineId, created: (i64, u32)) {
        let next = std::mem::replace(&mut self.next_view, id.0);
        self.fork(snapshot, line, created);
        self.next_view = self.next_view.max(next);
    }

    /// As [`History::fork_beside`], under a number that was given before.
    pub fn fork_beside_as(&mut self, id: ViewId, other: ViewId, line: LineId, created: (i64, u32)) {
        let next = std::mem::replace(&mut self.next_view, id.0);
        self.fork_beside(other, line, created);
        self.next_view = self.next_view.max(next);
    }

    /// Step 1 of the commit: what is pending now is what the commit appends.
    pub fn freeze(&mut self) {
        assert!(self.frozen.is_empty(), "the last freeze was appended");
        self.frozen = std::mem::take(&mut self.pending);
        for (view, bytes) in std::mem::take(&mut self.grown_pending) {
            let grown = self.grown.entry(view).or_default();
            *grown = grown.saturating_add(bytes);
        }
        let late = std::mem::take(&mut self.late);
        self.dirty.extend(late.dirty);
    }

    /// Where entries of (list, bucket), collected since an earlier [`History::free`], go now: a deletion in between may
    /// have made them free. `None`: they are alive in another view after all, forget them.
    pub fn route(&self, list: u64, bucket: Epoch) -> Option<Freeing> {
        let view = *self.lists.get(&list)?;
        let base = self.base(view);
        Some(if bucket < base { Freeing::Deferred { list, bucket } } else { Freeing::Now })
    }

    /// Step 2 of the commit: the frozen entries are in their lists.
    pub fn appended(&mut self) {
        self.frozen.clear();
    }

    /// How many heads have come to be on views that there were.
    pub fn forks(&self) -> u64 {
        self.forks
    }

    pub(super) fn view(&self, view: ViewId) -> &ViewRecord {
        &self.views[&view]
    }

    pub(super) fn view_mut(&mut self, view: ViewId) -> &mut ViewRecord {
        self.views.get_mut(&view).expect("a view that exists")
    }

    fn take_view(&mut self) -> u64 {
        let id = self.next_view;
        self.next_view += 1;
        id
    }

    pub(super) fn empty(next_view: u64, next_id: u64) -> History {
        History {
            views: BTreeMap::new(),
            children: BTreeMap::new(),
            lists: BTreeMap::new(),
            ways: Ancestry::default(),
            next_view,
            next_id,
            newest: Epoch(0),
            forks: 0,
            pending: BTreeMap::new(),
            frozen: BTreeMap::new(),
            grown: BTreeMap::new(),
            grown_pending: BTreeMap::new(),
            late: Late::default(),
            dirty: BTreeSet::new(),
            removed: BTreeSet::new(),
            gone: Vec::new(),
        }
    }

    /// Enters a view whose ancestors are in.
    pub(super) fn add(&mut self, record: ViewRecord) {
        if let Some(prev) = record.prev {
            self.children.entry(prev).or_default().push(record.id);
            self.forks += 1;
        }
        self.lists.insert(record.list, record.id);
        self.newest = self.newest.max(record.epoch);
        if record.role != Role::Head {
            self.ways.add(record.id, record.prev);
        }
        self.views.insert(record.id, record);
    }

    /// Bytes of a range of buckets with what is not appended yet.
    pub(super) fn sum(&self, meta: MetaRead, list: u64, range: Buckets) -> crate::tree::Result<u64> {
        let pending = self.sum_pending(list, &range);
        Ok(deadlist::sum(meta, list, range)?.saturating_add(pending))
    }

    pub(super) fn sum_pending(&self, list: u64, range: &Buckets) -> u64 {
        let keys = (list, range.start)..(list, range.end.max(range.start));
        self.frozen.range(keys.clone()).chain(self.pending.range(keys)).map(|(_, b)| b).sum()
    }
}
