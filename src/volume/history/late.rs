//! What happened since the freeze of the open commit, so that the commit can write records without it.
//!
//! A committed tree is as of the freeze; were a record newer than its tree, replaying the log after a crash would count
//! twice. So the counters are taken back by what changed since, snapshots and clones made since are left out, and the
//! head of a snapshot made since is written as that snapshot is: it has the place, the list and the counters that the
//! head had.

use super::History;
use crate::format::view::{Role, ViewRecord};
use crate::format::{LineId, ViewId};
use std::collections::{BTreeMap, BTreeSet};

/// Change of a record's counters.
#[derive(Clone, Copy, Default)]
pub(super) struct Delta {
    pub referenced: i64,
    pub written: i64,
    pub exclusive: i64,
}

/// Changes since the freeze.
#[derive(Clone, Default)]
pub(super) struct Late {
    /// Views whose records differ from the last freeze.
    pub dirty: BTreeSet<ViewId>,
    deltas: BTreeMap<ViewId, Delta>,
    /// Line and name of each view that got others.
    identities: BTreeMap<ViewId, (LineId, Vec<u8>)>,
    /// Views that did not exist.
    created: BTreeSet<ViewId>,
    /// Head -> the first snapshot made of it since, and back.
    stand_in: BTreeMap<ViewId, ViewId>,
    stands_for: BTreeMap<ViewId, ViewId>,
}

impl Late {
    pub fn count(&mut self, view: ViewId, change: impl FnOnce(&mut Delta)) {
        self.dirty.insert(view);
        change(self.deltas.entry(view).or_default());
    }

    pub fn pointed(&mut self, head: ViewId, snapshot: ViewId) {
        self.dirty.extend([head, snapshot]);
        if let Some(delta) = self.deltas.remove(&head) {
            // A snapshot's exclusive bytes start anew, so this part of a delta is 0 for heads.
            self.deltas.insert(snapshot, delta);
        }
        if !self.created.contains(&head) && !self.stand_in.contains_key(&head) {
            self.stand_in.insert(head, snapshot);
            self.stands_for.insert(snapshot, head);
        }
        self.created.insert(snapshot);
    }

    /// A view gets another line or name than this.
    pub fn identified(&mut self, view: ViewId, old: (LineId, Vec<u8>)) {
        self.dirty.insert(view);
        self.identities.entry(view).or_insert(old);
    }

    pub fn forked(&mut self, head: ViewId) {
        self.dirty.insert(head);
        self.created.insert(head);
    }

    /// Forgets a view that was deleted.
    pub fn remove(&mut self, view: ViewId) -> Delta {
        self.dirty.remove(&view);
        self.identities.remove(&view);
        self.deltas.remove(&view).unwrap_or_default()
    }

    /// Takes back `bytes` of pending deaths that turned out to be the view's own.
    pub fn shift_written(&mut self, view: ViewId, by: i64) {
        if by != 0 {
            self.count(view, |d| d.written += by);
        }
    }

    pub fn set_exclusive(&mut self, view: ViewId, pending: i64) {
        if pending != 0 || self.deltas.contains_key(&view) {
            self.count(view, |d| d.exclusive = pending);
        }
    }

    /// True for a view that the open commit does not know, not even under the number of its head.
    pub fn is_new(&self, view: ViewId) -> bool {
        self.created.contains(&view) && !self.stands_for.contains_key(&view)
    }

    /// The view whose record carries the place of `view` in the open commit.
    pub fn committed_name(&self, view: ViewId) -> ViewId {
        self.stands_for.get(&view).copied().unwrap_or(view)
    }
}

impl History {
    /// False while a change since the freeze concerns the view: it was made or cloned since, or written to. To be tried
    /// again in the next commit. Hidden views are deleted already.
    pub fn deletable(&self, view: ViewId) -> bool {
        let Some(record) = self.get(view) else { return false };
        let changed = record.role == Role::Head
            && (self.late.deltas.contains_key(&view) || self.late.stand_in.contains_key(&view));
        record.role != Role::Hidden
            && !self.late.created.contains(&view)
            && !changed
            && !self.children(view).iter().any(|c| self.late.is_new(*c))
    }

    /// Notes that the open commit changed a view.
    pub(super) fn touch(&mut self, view: ViewId) {
        let name = self.late.committed_name(view);
        self.dirty.insert(name);
    }

    /// Views that the open commit removed, and those below them, in order.
    pub fn take_gone(&mut self) -> Vec<(ViewId, Option<ViewId>)> {
        std::mem::take(&mut self.gone)
    }

    /// Step 4 of the commit: records to write, and numbers of those to remove, as far as they were ever written.
    pub fn take_records(&mut self) -> (Vec<ViewRecord>, Vec<ViewId>) {
        let dirty = std::mem::take(&mut self.dirty);
        let records = dirty.into_iter().filter_map(|v| self.committed(v)).collect();
        (records, std::mem::take(&mut self.removed).into_iter().collect())
    }

    /// A view as of the freeze and the deletions since.
    fn committed(&self, view: ViewId) -> Option<ViewRecord> {
        let record = self.get(view).filter(|_| !self.late.created.contains(&view))?;
        let source = self.late.stand_in.get(&view).copied().unwrap_or(view);
        let delta = self.late.deltas.get(&source).copied().unwrap_or_default();
        let place = self.view(source);
        let identity = self.late.identities.get(&view).filter(|_| record.role != Role::Hidden);
        let (line, name) = identity.cloned().unwrap_or_else(|| (record.line, record.name.clone()));
        Some(ViewRecord {
            line,
            name,
            prev: place.prev,
            list: place.list,
            referenced: place.referenced.saturating_add_signed(delta.referenced.saturating_neg()),
            written: place.written.saturating_add_signed(delta.written.saturating_neg()),
            exclusive: if record.role == Role::Head {
                0
            } else {
                place.exclusive.saturating_add_signed(delta.exclusive.saturating_neg())
            },
            ..record.clone()
        })
    }
}
