//! Taking names away: `unlink` and `rmdir`. What has lost its last name lives on in `orphan`.
//!
//! Both work on a full store.

use super::Fs;
use super::inode::live_target;
use super::items::Items;
use crate::ops::{Error, FileType, NodeId, Result};
use crate::volume::Purpose;

impl Fs {
    /// See [`Operations::unlink`](crate::ops::Operations::unlink).
    pub(super) fn remove_file(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        let dir = live_target(parent)?;
        self.check_old_name(dir, name)?;
        let mut change = self.change()?;
        change.directory(dir)?;
        let found = change.find_name(dir, name)?.ok_or(Error::NotFound)?;
        change.check_removal(dir, found.ino)?;
        if found.kind == FileType::Directory {
            return Err(Error::IsADirectory);
        }
        change.remove_name(dir, name, found.ino)?;
        change.drop_link(found.ino)?;
        change.finish(Purpose::Delete)
    }

    /// See [`Operations::rmdir`](crate::ops::Operations::rmdir), for live directories.
    pub(super) fn remove_directory(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        let dir = live_target(parent)?;
        self.check_old_name(dir, name)?;
        let mut change = self.change()?;
        change.directory(dir)?;
        let found = change.find_name(dir, name)?.ok_or(Error::NotFound)?;
        change.check_removal(dir, found.ino)?;
        if found.kind != FileType::Directory {
            return Err(Error::NotADirectory);
        }
        if change.named(found.ino)?.size != 0 {
            return Err(Error::NotEmpty);
        }
        change.remove_name(dir, name, found.ino)?;
        change.add_subdirectories(dir, -1)?;
        change.drop_link(found.ino)?;
        change.finish(Purpose::Delete)
    }
}
