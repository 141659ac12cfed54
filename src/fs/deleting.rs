//! Deletion of many snapshots by one order.

use super::file_system::Fs;
use super::past::{Deletion, Gone};
use crate::ops::{NodeId, Result};
use crate::volume::SnapshotInfo;

impl Fs {
    /// The moment that a word stands for about the line that a node is of: an age, a time, or when the snapshot was made that it
    /// names. Seconds since 1970 and nanoseconds; these are 999,999,999 for a second that is named.
    pub fn moment_of_word(&self, at: NodeId, word: &[u8]) -> Result<(i64, u32)> {
        self.past.moment_of_word(&*self.heads.at(at)?, word)
    }

    /// Fails if a snapshot, of the line that a node is of, would not be deleted now.
    pub fn check_deletable(&self, at: NodeId, snapshot: &SnapshotInfo) -> Result<()> {
        self.past.check_deletable(&*self.heads.at(at)?, snapshot)
    }

    /// Deletes these snapshots, of the line that a node is of, and says of each whether that was done, or why not. `told` hears
    /// meanwhile how many were looked at, and ends it by false.
    pub fn delete_snapshots_of(
        &self,
        at: NodeId,
        all: &[SnapshotInfo],
        told: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<Result<()>>> {
        let done = self.discard_snapshots_of(at, all, Deletion::Final, told)?;
        Ok(done.into_iter().map(|done| done.map(drop)).collect())
    }

    /// The same, or into the trash if they are wanted there and there is one: says where each has gone.
    pub fn discard_snapshots_of(
        &self,
        at: NodeId,
        all: &[SnapshotInfo],
        deletion: Deletion<'_>,
        told: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<Result<Gone>>> {
        self.past.delete_snapshots(&*self.heads.at(at)?, all, deletion, told)
    }
}
