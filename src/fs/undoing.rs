//! Undo of a change at once: what it has changed is put back, and what came later stays.
//!
//! Three ways: what the guard before has that the one after has not is brought into the line as it is now. What contradicts is
//! told, and then nothing is changed. It is such a change itself, so to undo twice is to do it again.

use super::file_system::Fs;
use super::merging::{Conflict, Merged, three_way};
use super::past::{GuardedChange, Undoable};
use super::restoring::Restored;
use super::transfer::{ChangeOrder, Refusal, Settled, Sides, TakenFrom, change_at_once, rehearse_at_once};
use crate::format::LineId;
use crate::format::provenance::{Provenance, Reason};
use crate::ops::{NodeId, Result};

/// What became of the undo of a change.
pub enum TakenBack {
    /// What was changed then has changed since, and not so: all in which it has. Nothing was taken back.
    Conflicts(Vec<Conflict>),
    /// It was taken back.
    Done(Box<Restored>),
}

impl Fs {
    /// What was done at last to the line that a node is of, and can be taken back.
    pub fn last_undoable(&self, at: NodeId) -> Result<Option<Undoable>> {
        Ok(self.past.last_undoable(&*self.heads.at(at)?))
    }

    /// Takes back a change at once of the line that a node is of; durable when this returns.
    pub fn take_back(
        &self,
        at: NodeId,
        change: &GuardedChange,
        provenance: &Provenance,
    ) -> std::result::Result<TakenBack, Refusal> {
        self.with_change(at, change, provenance, |order, settle| {
            let done = change_at_once(&self.past, order, settle)?;
            // Also what needed no change but a base less.
            self.commits.sync()?;
            Ok(done.map_or_else(Restored::nothing, Restored::told))
        })
    }

    /// What that would change.
    pub fn rehearse_take_back(
        &self,
        at: NodeId,
        change: &GuardedChange,
        provenance: &Provenance,
    ) -> std::result::Result<TakenBack, Refusal> {
        self.with_change(at, change, provenance, |order, settle| {
            let changes = rehearse_at_once(&self.past, order, settle)?;
            Ok(Restored { changes, guards: None })
        })
    }

    fn with_change(
        &self,
        at: NodeId,
        change: &GuardedChange,
        provenance: &Provenance,
        act: impl FnOnce(
            &ChangeOrder<'_>,
            &mut dyn FnMut(&Sides<'_>) -> Result<Option<Settled>>,
        ) -> std::result::Result<Restored, Refusal>,
    ) -> std::result::Result<TakenBack, Refusal> {
        let head = self.heads.at(at)?;
        let (before, after) =
            (self.volume().snapshot(change.before.id)?, self.volume().snapshot(change.after.id)?);
        let provenance = &Provenance { reason: Reason::TakeBack, ..provenance.clone() };
        let order = ChangeOrder { head: &head, other: None, provenance };
        let mut conflicts = Vec::new();
        let done = act(&order, &mut |sides| match three_way(&after, &before, sides.target)? {
            Merged::Clean(plan) => {
                conflicts.clear();
                let base = self.parted_by(change).map(|line| (line, None));
                Ok(Some(Settled { plan, source: TakenFrom::View(before.clone()), base }))
            }
            Merged::Conflicts(all) => {
                conflicts = all;
                Ok(None)
            }
        })?;
        Ok(match conflicts.is_empty() {
            true => TakenBack::Done(Box::new(done)),
            false => TakenBack::Conflicts(conflicts),
        })
    }

    /// The line that a merge or rebase has brought together with another, and its undo parts from that.
    fn parted_by(&self, change: &GuardedChange) -> Option<LineId> {
        let brought = matches!(change.before.provenance.reason, Reason::Merge | Reason::Rebase);
        brought.then(|| self.volume().brought_together_at(change.before.id)).flatten()
    }
}
