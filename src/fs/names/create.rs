//! New names: files of every type, directories, symbolic links, hard links.
//!
//! A name, its inode and the parent's counts appear together.

use super::dir::find;
use super::name::{add_name, add_subdirectories, check_new_name, is_reserved};
use crate::format::Ino;
use crate::fs::attributes::{entry, flags, new_child};
use crate::fs::content::open_file;
use crate::fs::heads::{Heads, OpenBy, Target, target};
use crate::fs::items::Items;
use crate::fs::past::Past;
use crate::limits::{LINKS_MAX, SYMLINK_BYTES_MAX};
use crate::ops::{Caller, Entry, Error, FileType, Handle, NodeId, OpenFlags, Result};
use crate::volume::ReserveFor;

/// What is to be made.
pub struct NewNode<'a> {
    /// Its type.
    pub kind: FileType,
    /// Its permission bits.
    pub mode: u32,
    /// Device number of a device node.
    pub rdev: u32,
    /// Target of a symbolic link.
    pub target: &'a [u8],
}

/// Makes something new under a name that is free.
pub fn make(heads: &Heads, caller: &Caller, parent: NodeId, name: &[u8], new: &NewNode) -> Result<Entry> {
    let (head, dir) = heads.target(parent)?;
    check_new_name(heads, dir, name)?;
    let mut change = heads.change(&head)?;
    let dir_inode = change.directory(dir)?;
    if change.find_name(dir, name)?.is_some() {
        return Err(Error::Exists);
    }
    let (ino, mut inode) = new_child(&mut change, caller, (dir, &dir_inode), new.kind, new.mode)?;
    match new.kind {
        FileType::Directory => {
            inode.parent = dir;
            add_subdirectories(&mut change, dir, 1)?;
        }
        FileType::Symlink => {
            inode.size = new.target.len() as u64;
            inode.has_inline = true;
            change.put_inline(ino, new.target);
        }
        FileType::CharDevice | FileType::BlockDevice => inode.rdev = new.rdev,
        FileType::Regular | FileType::Fifo | FileType::Socket => {}
    }
    change.put_inode(ino, &inode);
    add_name(&mut change, dir, name, ino, new.kind)?;
    change.finish(ReserveFor::Write)?;
    entry(heads, head.node(ino), &inode)
}

/// See [`Operations::symlink`](crate::ops::Operations::symlink).
pub fn make_symlink(
    heads: &Heads,
    caller: &Caller,
    parent: NodeId,
    name: &[u8],
    target: &[u8],
) -> Result<Entry> {
    if target.is_empty() || target.contains(&0) {
        return Err(Error::Invalid);
    }
    if target.len() > SYMLINK_BYTES_MAX {
        return Err(Error::NameTooLong);
    }
    make(heads, caller, parent, name, &NewNode { kind: FileType::Symlink, mode: 0o777, rdev: 0, target })
}

/// See [`Operations::create`](crate::ops::Operations::create).
pub fn create_file(
    past: &Past,
    caller: &Caller,
    parent: NodeId,
    name: &[u8],
    mode: u32,
    flags: OpenFlags,
) -> Result<(Entry, Handle)> {
    let new = NewNode { kind: FileType::Regular, mode, rdev: 0, target: b"" };
    let mut flags = flags;
    let entry = match make(&past.commits.heads, caller, parent, name, &new) {
        // The kernel had a negative entry, and somebody was faster.
        // Nobody is given it, so it must not be looked up, which would count as an answer.
        Err(Error::Exists)
            if is_reserved(&past.commits.heads, Ino(parent.ino()), name) && !flags.exclusive =>
        {
            return Err(Error::IsADirectory);
        }
        Err(Error::Exists) if !flags.exclusive => {
            let found = find(past, parent, name)?;
            match found.attr.kind {
                FileType::Regular => found,
                FileType::Directory => return Err(Error::IsADirectory),
                _ => return Err(Error::Exists),
            }
        }
        made => {
            // There is nothing to cut, and cutting would clear the set-id bits that were asked for.
            flags.truncate = false;
            made?
        }
    };
    // Nobody may wait here: the kernel has the directory locked.
    let handle = open_file(&past.commits, caller, (entry.attr.node, OpenBy::Name), flags)?.at_once()?;
    past.commits.heads.tell_made(&(&entry).into());
    Ok((entry, handle))
}

/// See [`Operations::link`](crate::ops::Operations::link).
pub fn make_link(heads: &Heads, node: NodeId, parent: NodeId, name: &[u8]) -> Result<Entry> {
    if node.tree() != parent.tree() {
        return Err(Error::CrossView);
    }
    let (head, dir) = heads.target(parent)?;
    let Target::Live(_) = target(node) else { return Err(Error::ReadOnly) };
    let (_, ino) = heads.asked_to_change(node)?;
    check_new_name(heads, dir, name)?;
    let mut change = heads.change(&head)?;
    change.directory(dir)?;
    let mut inode = change.known(ino)?;
    if inode.kind == FileType::Directory {
        return Err(Error::NotPermitted);
    }
    if inode.nlink == 0 {
        return Err(Error::NotFound);
    }
    if inode.nlink >= LINKS_MAX {
        return Err(Error::TooManyLinks);
    }
    if change.find_name(dir, name)?.is_some() {
        return Err(Error::Exists);
    }
    flags::check_change(&inode)?;
    inode.nlink += 1;
    inode.ctime = change.now;
    change.put_inode(ino, &inode);
    add_name(&mut change, dir, name, ino, inode.kind)?;
    change.finish(ReserveFor::Write)?;
    entry(heads, node, &inode)
}

/// See [`Operations::readlink`](crate::ops::Operations::readlink).
pub fn read_link(heads: &Heads, node: NodeId) -> Result<Vec<u8>> {
    if let Target::Snapdir(_) | Target::Clonedir = target(node) {
        return Err(Error::NotASymlink);
    }
    let view = heads.view_of(node)?;
    let ino = Ino(node.ino());
    match view.inode(ino)?.ok_or(Error::Stale)?.kind {
        FileType::Symlink => Ok(view.inline(ino)?),
        _ => Err(Error::NotASymlink),
    }
}
