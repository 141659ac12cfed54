//! Purging: content of a path is taken out of snapshots.

use super::difference::Paths;
use super::file_system::Fs;
use super::past::{PurgeAsked, PurgeEnd};
use super::past_of_path::PathAsked;
use crate::format::{Ino, ViewId};
use crate::ops::{Error, NodeId, NodeKind, Result};
use crate::volume::SnapshotInfo;

impl Fs {
    /// Purges a path of a line from some of its own snapshots, or says what that would do.
    pub fn purge(&self, asked: &PurgeAsked) -> Result<PurgeEnd> {
        self.past.purge(asked)
    }

    /// True if a snapshot has content that was not purged in a file or symbolic link at a path, or below it.
    pub fn has_content_at(&self, snapshot: ViewId, path: &[u8]) -> Result<bool> {
        self.past.has_content_at(snapshot, path)
    }

    /// True if a purge was cut off, or some of it was out of reach, and it can go on now.
    pub fn purge_goes_on(&self) -> bool {
        self.volume().purge_goes_on()
    }

    /// A side of a mirror is about to be filled: durable when this returns is that what was purged is to be written over on it,
    /// if something was.
    pub fn will_fill_a_side(&self) -> Result<()> {
        if self.volume().wipe_when_filled() { self.commit() } else { Ok(()) }
    }

    /// The store is about to be closed: purges end within a step, for good.
    pub fn end_purges(&self) {
        self.past.end_purges();
    }

    /// Goes on with a purge that was cut off, as long as `go_on` says so. For a thread of its own.
    pub fn go_on_purging(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<()> {
        self.past.go_on_purging(go_on)
    }

    /// The path that is asked for, from the root of its line. There must be a name.
    pub fn path_in_line(&self, asked: &PathAsked) -> Result<Vec<u8>> {
        if asked.dir.kind() != NodeKind::Live || asked.names.is_empty() {
            return Err(Error::NotFound);
        }
        let head = self.heads.at(asked.dir)?;
        let mut path = Paths::new(&self.heads.view(&head)?).directory(Ino(asked.dir.ino()))?.to_vec();
        for name in &asked.names {
            if !path.is_empty() && !path.ends_with(b"/") {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        Ok(path)
    }

    /// Snapshots of a line that are in the trash, oldest first, as they were.
    pub fn trashed_snapshots(&self, dir: NodeId) -> Result<Vec<SnapshotInfo>> {
        let (line, mut all) = (self.heads.at(dir)?.line, self.volume().trashed_snapshots());
        all.retain(|info| info.line == line);
        all.sort_by_key(|info| info.id);
        Ok(all)
    }

    /// The snapshots of a line's own, oldest first.
    pub fn own_snapshots(&self, dir: NodeId) -> Result<Vec<SnapshotInfo>> {
        Ok(self.volume().own_snapshots(self.heads.at(dir)?.line))
    }
}
