//! Undo: what the newest guard of a line was made before is taken back.
//!
//! A guard of a rollback, or of an undo of one, is gone back to by another rollback, which makes a guard again: what is undone
//! twice is done again. What was changed at once lies between two guards, and is taken back by another such change. What was deleted
//! comes back from the trash, and is not deleted again by another undo.
//!
//! What was done last is told by the guards that are there, whatever they are called: so the newest of them does not go by itself
//! while an older one stays, which somebody holds or has named, that would be taken for it (`guards`).

use super::rollback::{OpenForWriting, Switched};
use super::snapdir::Past;
use crate::format::LineId;
use crate::format::provenance::{Provenance, Reason};
use crate::format::trash::TrashRecord;
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
    /// A snapshot of it was deleted, or a clone, and is in the trash.
    Deletion(Box<TrashRecord>),
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
        self.have_room_to_switch(line)?;
        let _kept = self.under_way.keep_covers();
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
        let mut own = self.commits.heads.volume.own_snapshots(head.line);
        // What was done to a line in another store was not done to its copy.
        own.retain(|s| !s.is_received);
        let newest = own.iter().rev().find(|s| is_guard(s.provenance.reason)).map(|s| s.id);
        // What was deleted since the last guard was made was done later.
        let mut deleted = self.trash_of(head.line).into_iter();
        if let Some(trash) = deleted.next().filter(|trash| newest.is_none_or(|guard| guard < trash.next_view))
        {
            return Some(Undoable::Deletion(Box::new(trash)));
        }
        undoable_of(own)
    }
}

/// What is taken back of a line that has these snapshots of its own, oldest first, if no deletion is.
pub(super) fn undoable_of(mut own: Vec<SnapshotInfo>) -> Option<Undoable> {
    own.retain(|s| !s.is_received);
    let mut newest = own.into_iter().rev();
    let guard = newest.find(|s| is_guard(s.provenance.reason))?;
    match guard.provenance.reason {
        Reason::Rollback | Reason::Promote | Reason::Undo => Some(Undoable::Switch(guard)),
        Reason::After => {
            // Nothing comes between the two: if one is gone, the next is of another change.
            let before = newest
                .next()
                .filter(|before| before.id.0 + 1 == guard.id.0 && is_of_change(before.provenance.reason))?;
            Some(Undoable::Change(Box::new(GuardedChange { before, after: guard })))
        }
        _ => None,
    }
}

/// True of what has the name that it was given by itself: who renames one wants to have it.
pub(super) fn has_automatic_name(s: &SnapshotInfo) -> bool {
    s.provenance.reason.name_prefix().is_some_and(|prefix| s.name.starts_with(prefix.as_bytes()))
}

/// True of what is made before or after something that can be taken back.
fn is_guard(reason: Reason) -> bool {
    matches!(reason, Reason::Rollback | Reason::Promote | Reason::Undo | Reason::After)
        || is_of_change(reason)
}

/// True of the guard before a change at once.
fn is_of_change(reason: Reason) -> bool {
    matches!(reason, Reason::Restore | Reason::Merge | Reason::Rebase | Reason::TakeBack)
}
