//! Undo: what the newest guard of a line was made before is taken back.
//!
//! A guard of a rollback, or of an undo of one, is gone back to by another rollback, which makes a guard again: what is undone
//! twice is done again. What was changed at once lies between two guards, and is taken back by another such change.

use super::rollback::{OpenForWriting, Switched};
use super::snapdir::Past;
use crate::format::LineId;
use crate::format::provenance::{Provenance, Reason};
use crate::fs::heads::Head;
use crate::ops::{Error, Result};
use crate::volume::SnapshotInfo;

/// What an undo takes back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Undoable {
    /// The line got another head: it is rolled back to this.
    Switch(SnapshotInfo),
    /// It was changed at once.
    Change(Box<GuardedChange>),
}

/// A change at once, as its guards tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuardedChange {
    /// The line right before.
    pub before: SnapshotInfo,
    /// The line right after.
    pub after: SnapshotInfo,
}

impl Past {
    /// Takes back what gave a line another head at last, if nothing was done to it since and the guard is there: that guard,
    /// and how it went. Nothing comes in between.
    pub fn undo_switch(
        &self,
        line: LineId,
        writers: OpenForWriting,
    ) -> Result<Option<(SnapshotInfo, Switched)>> {
        let held = self.one_at_a_time();
        let heads = &self.commits.heads;
        let head = heads.of_line(&heads.volume.line(line)?).ok_or(Error::Stale)?;
        let Some(Undoable::Switch(guard)) = self.last_undoable(&head) else { return Ok(None) };
        let why = Provenance { description: guard.name.clone(), ..Reason::Undo.into() };
        let switched = self.roll_back_held(held, line, guard.id, writers, &why)?;
        Ok(Some((guard, switched)))
    }

    /// What was done to a line at last whose guard is there. Of a change at once both have to be: what was done before that is
    /// not taken back alone.
    pub fn last_undoable(&self, head: &Head) -> Option<Undoable> {
        let own = self.commits.heads.volume.snapshots(head.line).into_iter().filter(|s| s.line == head.line);
        let mut newest = own.rev();
        while let Some(guard) = newest.next() {
            match guard.provenance.reason {
                Reason::Rollback | Reason::Promote | Reason::Undo => return Some(Undoable::Switch(guard)),
                Reason::Restore | Reason::Merge | Reason::Rebase => return None,
                Reason::After => {
                    let of_change = |reason| {
                        matches!(reason, Reason::Restore | Reason::Merge | Reason::Rebase | Reason::Undo)
                    };
                    // Nothing comes between the two: if one is gone, the next is of another change.
                    let is_its = |before: &SnapshotInfo| {
                        before.id.0 + 1 == guard.id.0 && of_change(before.provenance.reason)
                    };
                    let before = newest.next().filter(is_its)?;
                    return Some(Undoable::Change(Box::new(GuardedChange { before, after: guard })));
                }
                Reason::User | Reason::Schedule | Reason::Step | Reason::Trial => {}
            }
        }
        None
    }
}
