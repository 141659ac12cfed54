//! What is asked about a whole line: that it goes back to what it was, and what that takes along.

use super::file_system::Fs;
use super::past::{InTheWay, OpenForWriting, Promoted, PromotionOrder, Switched};
use crate::format::Ino;
use crate::format::provenance::Provenance;
use crate::ops::{Error, NodeId, Result, RoomFor};
use crate::volume::SnapshotInfo;

// What these do is durable when it returns, and an error of theirs is one of that: nothing has to be done for it afterwards.
impl Fs {
    /// The root of the line that a node is of.
    pub fn root_of_line(&self, at: NodeId) -> Result<NodeId> {
        Ok(self.heads.at(at)?.node(Ino::ROOT))
    }

    /// The snapshot that a word means about the line that a node is of: its name, or an age.
    pub fn snapshot_of_word(&self, at: NodeId, word: &[u8]) -> Result<SnapshotInfo> {
        let id = self.past.find_snapshot(&*self.heads.at(at)?, word)?;
        self.heads.volume.snapshot_info(id).ok_or(Error::Stale)
    }

    /// What would stand in the way of a rollback of the line that a node is of.
    pub fn in_the_way(&self, at: NodeId) -> Result<InTheWay> {
        self.past.in_the_way(&[self.heads.at(at)?])
    }

    /// Rolls the line that a node is of back to a snapshot that it shows, durable when this returns. What it has now stays as
    /// a snapshot, and so do newer ones.
    pub fn rollback(
        &self,
        at: NodeId,
        to: &SnapshotInfo,
        writers: OpenForWriting,
        why: &Provenance,
    ) -> Result<Switched> {
        let line = self.heads.at(at)?.line;
        self.past.once_in_room(RoomFor::Record, || self.past.roll_back(line, to.id, writers, why))
    }

    /// Has a clone become the line that it came from, or another, durable when this returns. What that line has now stays as
    /// a snapshot, and the clone's snapshots come along.
    pub fn promote(&self, order: &PromotionOrder<'_>, why: &Provenance) -> Result<Promoted> {
        self.past.once_in_room(RoomFor::Record, || self.past.promote(order, why))
    }

    /// Takes back what was done to the line that a node is of at last, if that gave it another head and its guard is there:
    /// what that was, and how it went.
    pub fn undo(&self, at: NodeId, writers: OpenForWriting) -> Result<Option<(SnapshotInfo, Switched)>> {
        let line = self.heads.at(at)?.line;
        self.past.once_in_room(RoomFor::Record, || self.past.undo_switch(line, writers))
    }
}
