//! Who uses a snapshot or a clone: as far as it is known here.

use super::file_system::Fs;
use crate::format::{Ino, ViewId};
use crate::volume::LineRecord;

impl Fs {
    /// True if the snapshot is mounted at a place of its own, so that it cannot be deleted.
    pub fn is_mounted_alone(&self, id: ViewId) -> bool {
        self.past.is_kept(std::iter::once(id))
    }

    /// True if something that comes from another store, or waits for the rest of it, is told against the snapshot, so that it
    /// cannot be deleted.
    pub fn is_received_against(&self, id: ViewId) -> bool {
        self.past.received_against(id).is_some()
    }

    /// Files and directories of a line's head that are open.
    pub fn open_files(&self, line: &LineRecord) -> usize {
        let Some(head) = self.heads.of_line(line) else { return 0 };
        let tree = head.node(Ino::ROOT).tree();
        self.heads.handles.all().into_iter().filter(|node| node.tree() == tree).count()
    }
}
