//! The trash, for commands: what goes there, what is in it, and how it comes back.

use super::file_system::Fs;
use super::past::{Deletion, Gone};
use crate::format::provenance::Provenance;
use crate::format::trash::TrashRecord;
use crate::ops::{NodeId, Result};
use std::time::Duration;

/// How long it is waited for who makes a snapshot.
const EMPTYING_PATIENCE: Duration = Duration::from_secs(600);

impl Fs {
    /// For how long what is deleted stays in the trash: seconds, if there is one.
    pub fn trash_secs(&self) -> Option<u64> {
        self.past.trash_secs()
    }

    /// Deletes a snapshot of the line that a node is of: into the trash, if there is one.
    pub fn discard_snapshot_of(&self, at: NodeId, name: &[u8], by: &Provenance) -> Result<()> {
        self.past.delete_snapshot(&*self.heads.at(at)?, name, Deletion::Kept(by))
    }

    /// Drops a clone: into the trash, if there is one. Says where it has gone.
    pub fn discard_clone(&self, name: &[u8], by: &Provenance) -> Result<Gone> {
        self.past.discard_clone(name, by)
    }

    /// What of the line that a node is of is in the trash: its snapshots, and clones that were made from it; of the main line all
    /// clones. What was deleted last is first.
    pub fn trash_of(&self, at: NodeId) -> Result<Vec<TrashRecord>> {
        Ok(self.past.trash_of(self.heads.at(at)?.line))
    }

    /// Brings something back under that name. Durable when this returns.
    pub fn undelete(&self, trash: &TrashRecord, name: &[u8]) -> Result<()> {
        self.past.undelete(trash, name)
    }

    /// Fails as [`Fs::undelete`] would, after so many clones had come back.
    pub fn check_undelete(&self, trash: &TrashRecord, name: &[u8], clones_before: usize) -> Result<()> {
        self.past.check_undelete(trash, name, clones_before)
    }

    /// True if something is in the trash still.
    pub fn is_in_trash(&self, trash: &TrashRecord) -> bool {
        self.past.is_in_trash(trash.number)
    }

    /// Has something in the trash go for good. `Stale` if it is there no more.
    pub fn empty_trash(&self, number: u64) -> Result<()> {
        self.past.empty_trash(number)
    }

    /// What could go from the trash now, because space is needed: has what was deleted first go. False if the trash is empty. The
    /// space comes back as that of anything that is deleted.
    pub fn empty_some_trash(&self) -> Result<bool> {
        self.past.empty_some_trash(EMPTYING_PATIENCE)
    }
}
