//! What happened after a commit froze the state, so that the commit can write its records without it.
//!
//! A commit writes the trees as they were at the freeze, while changes go on. A record that counted later changes would
//! be newer than its tree, and replaying the log after a crash would count them twice. So the commit writes records as
//! they were at the freeze:
//! - what changed since is taken off the counters;
//! - snapshots and clones that were made since are left out;
//! - if a snapshot was made of a head since, that snapshot has the head's place in the history now, and its list and
//!   counters. So the record of the head is written from the snapshot.

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
    pub deltas: BTreeMap<ViewId, Delta>,
    /// Line and name of each view that got others.
    pub identities: BTreeMap<ViewId, (LineId, Vec<u8>)>,
    /// Views that did not exist.
    pub created: BTreeSet<ViewId>,
    /// Head -> the first snapshot made of it since, and back.
    pub stand_in: BTreeMap<ViewId, ViewId>,
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
