//! Rename in the live tree: replace, refuse to replace, exchange, leave a whiteout.
//!
//! Both names, the link counts of both parents and the parent of a moved directory change together.

use super::name::{add_name, add_subdirectories, check_name, check_old_name, is_reserved, remove_name};
use crate::format::Ino;
use crate::format::dirent::Dirent;
use crate::fs::attributes::flags::check_removal;
use crate::fs::attributes::new_child;
use crate::fs::error::inconsistent;
use crate::fs::heads::{Change, Heads};
use crate::fs::items::Items;
use crate::ops::{Caller, Error, FileType, NodeId, RenameMode, Result};
use crate::volume::ReserveFor;

/// Deeper than this, the parents of a directory are taken for a circle.
const DEPTH_MAX: u32 = 1 << 20;

/// A name in a directory.
#[derive(Clone, Copy)]
struct Spot<'a> {
    dir: Ino,
    name: &'a [u8],
}

/// See [`Operations::rename`](crate::ops::Operations::rename), inside of one head.
pub fn rename(
    heads: &Heads,
    caller: &Caller,
    (parent, name): (NodeId, &[u8]),
    (new_parent, new_name): (NodeId, &[u8]),
    mode: RenameMode,
) -> Result<()> {
    let (head, dir) = heads.target(parent)?;
    let (_, new_dir) = heads.target(new_parent)?;
    let (from, to) = (Spot { dir, name }, Spot { dir: new_dir, name: new_name });
    check_old_name(heads, from.dir, from.name)?;
    check_name(to.name)?;
    match to.name {
        b"." | b".." => return Err(Error::Invalid),
        name if is_reserved(heads, to.dir, name) => return Err(Error::Exists),
        _ => {}
    }
    let mut change = heads.change(&head)?;
    change.directory(from.dir)?;
    change.directory(to.dir)?;
    let source = change.find_name(from.dir, from.name)?.ok_or(Error::NotFound)?;
    check_removal(&change, from.dir, source.ino)?;
    let target = change.find_name(to.dir, to.name)?;
    if let Some(target) = &target {
        check_removal(&change, to.dir, target.ino)?;
    }
    check_not_inside(&change, &source, to.dir)?;
    match (mode, target) {
        (RenameMode::NoReplace, Some(_)) => return Err(Error::Exists),
        (RenameMode::Exchange, None) => return Err(Error::NotFound),
        (_, Some(target)) if target.ino == source.ino => return Ok(()),
        (RenameMode::Exchange, Some(target)) => {
            check_not_inside(&change, &target, from.dir)?;
            remove_name(&mut change, from.dir, from.name, source.ino)?;
            remove_name(&mut change, to.dir, to.name, target.ino)?;
            arrive(&mut change, &source, from.dir, to)?;
            arrive(&mut change, &target, to.dir, from)?;
        }
        (RenameMode::Replace | RenameMode::NoReplace | RenameMode::Whiteout, target) => {
            if let Some(target) = target {
                replace_target(&mut change, &source, &target, to)?;
            }
            remove_name(&mut change, from.dir, from.name, source.ino)?;
            arrive(&mut change, &source, from.dir, to)?;
            if mode == RenameMode::Whiteout {
                leave_whiteout(&mut change, caller, from)?;
            }
        }
    }
    change.finish(ReserveFor::Write)
}

/// Puts a character device 0:0 where something was: owned by who moved it, and nobody's to use.
fn leave_whiteout(change: &mut Change<'_>, caller: &Caller, at: Spot) -> Result<()> {
    let dir = change.known(at.dir)?;
    let (ino, mut inode) = new_child(change, caller, (at.dir, &dir), FileType::CharDevice, 0)?;
    inode.mode = 0;
    change.put_inode(ino, &inode);
    add_name(change, at.dir, at.name, ino, inode.kind)
}

/// Refuses to move a directory into itself or below.
fn check_not_inside(change: &Change<'_>, moved: &Dirent, mut dir: Ino) -> Result<()> {
    if moved.kind != FileType::Directory {
        return Ok(());
    }
    for _ in 0..DEPTH_MAX {
        if dir == moved.ino {
            return Err(Error::Invalid);
        }
        if dir == Ino::ROOT {
            return Ok(());
        }
        dir = change.known(dir)?.parent;
    }
    Err(inconsistent(moved.ino, "is moved to a directory that does not reach the root").into())
}

/// Removes what a rename replaces, if it may.
fn replace_target(change: &mut Change<'_>, source: &Dirent, target: &Dirent, to: Spot) -> Result<()> {
    match (source.kind == FileType::Directory, target.kind == FileType::Directory) {
        (true, false) => return Err(Error::NotADirectory),
        (false, true) => return Err(Error::IsADirectory),
        (true, true) => {
            if change.named(target.ino)?.size != 0 {
                return Err(Error::NotEmpty);
            }
            add_subdirectories(change, to.dir, -1)?;
        }
        (false, false) => {}
    }
    remove_name(change, to.dir, to.name, target.ino)?;
    change.drop_link(target.ino)
}

/// Gives something that has lost its name in `old_dir` its new one.
fn arrive(change: &mut Change<'_>, moved: &Dirent, old_dir: Ino, to: Spot) -> Result<()> {
    add_name(change, to.dir, to.name, moved.ino, moved.kind)?;
    let mut inode = change.named(moved.ino)?;
    inode.ctime = change.now;
    if moved.kind == FileType::Directory && old_dir != to.dir {
        inode.parent = to.dir;
        change.put_inode(moved.ino, &inode);
        add_subdirectories(change, old_dir, -1)?;
        return add_subdirectories(change, to.dir, 1);
    }
    change.put_inode(moved.ino, &inode);
    Ok(())
}
