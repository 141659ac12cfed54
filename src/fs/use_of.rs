//! Who uses a snapshot or a clone: as far as it is known here.

use super::file_system::Fs;
use super::past::{Departure, UnderDeparture};
use crate::format::{Ino, ViewId};
use crate::ops::{Error, Result};
use crate::volume::LineRecord;

impl Fs {
    /// True if the snapshot is mounted at a place of its own, so that it cannot be deleted.
    pub fn is_mounted_alone(&self, id: ViewId) -> bool {
        self.past.is_kept(std::iter::once(id))
    }

    /// Keeps a snapshot from being deleted while it is sent, until what this returns is dropped. `NotFound` if it is gone.
    pub fn begin_departure(&self, id: ViewId, user: Option<u32>) -> Result<UnderDeparture> {
        let since_secs = self.heads.clock.now().secs;
        let kept = self.past.departing.begin(Departure { view: id, user, since_secs });
        // Who deletes it now sees this, or has deleted it.
        let _turn = self.past.one_at_a_time();
        self.heads.volume.snapshot_info(id).map(|_| kept).ok_or(Error::NotFound)
    }

    /// What is being sent, oldest first.
    pub fn departures(&self) -> Vec<Departure> {
        self.past.departing.all()
    }

    /// Files and directories of a line's head that are open.
    pub fn open_files(&self, line: &LineRecord) -> usize {
        let Some(head) = self.heads.of_line(line) else { return 0 };
        let tree = head.node(Ino::ROOT).tree();
        self.heads.handles.all().into_iter().filter(|node| node.tree() == tree).count()
    }
}
