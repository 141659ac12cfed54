//! Taking names away: `unlink` and `rmdir`. What has lost its last name lives on in `orphan`.
//!
//! Both work on a full store.

use super::name::{add_subdirectories, check_old_name, remove_name};
use crate::fs::attributes::flags::check_removal;
use crate::fs::heads::Heads;
use crate::fs::items::Items;
use crate::ops::{Error, FileType, NodeId, Result};
use crate::volume::ReserveFor;

/// See [`Operations::unlink`](crate::ops::Operations::unlink).
pub fn remove_file(heads: &Heads, parent: NodeId, name: &[u8]) -> Result<()> {
    let (head, dir) = heads.target(parent)?;
    check_old_name(heads, dir, name)?;
    let mut change = heads.change(&head)?;
    change.directory(dir)?;
    let found = change.find_name(dir, name)?.ok_or(Error::NotFound)?;
    check_removal(&change, dir, found.ino)?;
    if found.kind == FileType::Directory {
        return Err(Error::IsADirectory);
    }
    remove_name(&mut change, dir, name, found.ino)?;
    change.drop_link(found.ino)?;
    change.finish(ReserveFor::Delete)
}

/// See [`Operations::rmdir`](crate::ops::Operations::rmdir), for live directories.
pub fn remove_directory(heads: &Heads, parent: NodeId, name: &[u8]) -> Result<()> {
    let (head, dir) = heads.target(parent)?;
    check_old_name(heads, dir, name)?;
    let mut change = heads.change(&head)?;
    change.directory(dir)?;
    let found = change.find_name(dir, name)?.ok_or(Error::NotFound)?;
    check_removal(&change, dir, found.ino)?;
    if found.kind != FileType::Directory {
        return Err(Error::NotADirectory);
    }
    if change.named(found.ino)?.size != 0 {
        return Err(Error::NotEmpty);
    }
    remove_name(&mut change, dir, name, found.ino)?;
    add_subdirectories(&mut change, dir, -1)?;
    change.drop_link(found.ino)?;
    change.finish(ReserveFor::Delete)
}
