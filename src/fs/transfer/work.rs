//! The work on one plan: between what, and the way to items.

use super::plan::Plan;
use crate::format::{Ino, Key};
use crate::fs::error::inconsistent;
use crate::fs::items::Items;
use crate::ops::{FileType, Timestamp};
use crate::volume::{Txn, View, VolumeError};

type Result<T> = std::result::Result<T, VolumeError>;

/// The work on one plan.
pub struct Transfer<'w, 'a> {
    /// The line that takes over.
    pub txn: &'w mut Txn<'a>,
    /// The line as it was, without what a purge has left of inodes that are made.
    pub before: &'w View,
    /// From where it takes over.
    pub source: &'w View,
    /// The time of the change.
    pub now: Timestamp,
}

impl Transfer<'_, '_> {
    /// Sets an item, or removes it.
    pub fn set(&mut self, key: Key, value: Option<Vec<u8>>) -> Result<()> {
        match value {
            Some(value) => self.txn.insert(key, &value),
            None => self.txn.remove(&key).map(drop),
        }
    }

    /// The type of an inode that the line has, or that the plan makes.
    pub fn kind_of(&self, plan: &Plan, ino: Ino) -> Result<FileType> {
        let inode = match self.before.inode(ino)? {
            Some(inode) => Some(inode),
            None => plan.inodes.get(&ino).map(|t| self.source.inode(t.from)).transpose()?.flatten(),
        };
        inode.map(|inode| inode.kind).ok_or_else(|| inconsistent(ino, "is to get a name and is not there"))
    }
}
