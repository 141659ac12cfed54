//! Undo: what the newest guard of a line was made before is taken back.
//!
//! A guard of a rollback, or of an undo, is gone back to by another rollback, which makes a guard again: what is undone twice
//! is done again.

use super::snapdir::Past;
use crate::format::provenance::Reason;
use crate::fs::heads::Head;
use crate::volume::SnapshotInfo;

/// What an undo takes back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Undoable {
    /// The line got another head: it is rolled back to this.
    Switch(SnapshotInfo),
}

impl Past {
    /// What was done to a line at last whose guard is there.
    pub fn last_undoable(&self, head: &Head) -> Option<Undoable> {
        let own = self.commits.heads.volume.snapshots(head.line).into_iter().filter(|s| s.line == head.line);
        own.rev().find_map(|guard| match guard.provenance.reason {
            Reason::Rollback | Reason::Promote | Reason::Undo => Some(Undoable::Switch(guard)),
            _ => None,
        })
    }
}
