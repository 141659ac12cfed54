//! What is in a directory of a view, where a path leads, and whether attributes differ.

use crate::format::dirent::{Dirent, NameBucket};
use crate::format::inode::Inode;
use crate::format::{Ino, Key, Kind};
use crate::fs::error::damaged;
use crate::fs::items::Items;
use crate::ops::FileType;
use crate::volume::{View, VolumeError};
use std::collections::BTreeMap;

type Result<T> = std::result::Result<T, VolumeError>;

/// The entries of a directory by name.
pub type Entries = BTreeMap<Vec<u8>, Dirent>;

/// All entries of a directory, in no order that means anything.
pub fn names_in(view: &View, dir: Ino) -> Result<Vec<Dirent>> {
    let (from, to) = (Key::new(dir.0, Kind::Dirent, 0), Key::new(dir.0, Kind::Xattr, 0));
    let mut all = Vec::new();
    for item in view.range(&from, &to) {
        all.extend(NameBucket::decode(&item?.1).map_err(|e| damaged(dir, e))?.entries);
    }
    Ok(all)
}

/// The same by name.
pub fn entries_of(view: &View, dir: Ino) -> Result<Entries> {
    Ok(names_in(view, dir)?.into_iter().map(|entry| (entry.name.clone(), entry)).collect())
}

/// What a path, as a list of names, leads to.
pub fn follow(view: &View, path: &[Vec<u8>]) -> Result<Option<Dirent>> {
    let mut at = Dirent { ino: Ino::ROOT, kind: FileType::Directory, slot: 0, name: Vec::new() };
    for name in path {
        if at.kind != FileType::Directory {
            return Ok(None);
        }
        match view.find_name(at.ino, name)? {
            Some(entry) => at = entry,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// True if there is anything in the attributes of one inode to take over from another: not what is derived, and not when it
/// was read or changed.
pub fn has_other_attributes(old: &Inode, new: &Inode) -> bool {
    let taken = |inode: &Inode| (inode.user_attributes(), inode.mtime, inode.btime, inode.generation);
    taken(old) != taken(new)
}
