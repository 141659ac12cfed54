//! Rename in the live tree: replace, refuse to replace, exchange, leave a whiteout.
//!
//! Both names, the link counts of both parents and the parent of a moved directory change together.

use super::Fs;
use super::change::Change;
use super::error::inconsistent;
use super::inode::{Place, place};
use super::items::Items;
use super::name::check_name;
use crate::format::Ino;
use crate::format::dirent::Dirent;
use crate::ops::{Caller, Error, FileType, NodeId, RenameMode, Result};
use crate::volume::Purpose;

/// Deeper than this, the parents of a directory are taken for a circle.
const DEPTH_MAX: u32 = 1 << 20;

/// A name in a directory.
#[derive(Clone, Copy)]
struct Spot<'a> {
    dir: Ino,
    name: &'a [u8],
}

impl Fs {
    /// See [`Operations::rename`](crate::ops::Operations::rename).
    pub(super) fn rename_any(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        new_parent: NodeId,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        match (place(parent), place(new_parent)) {
            (Place::Live(dir), Place::Live(new_dir)) => {
                self.rename_live(caller, Spot { dir, name }, Spot { dir: new_dir, name: new_name }, mode)
            }
            (Place::Snapdir(dir), Place::Snapdir(new_dir)) => {
                self.rename_in_snapdir(dir, name, new_dir, new_name, mode)
            }
            (Place::Snapshot(from, _), Place::Snapshot(to, _)) if from == to => Err(Error::ReadOnly),
            _ => Err(Error::CrossView),
        }
    }

    fn rename_live(&self, caller: &Caller, from: Spot, to: Spot, mode: RenameMode) -> Result<()> {
        self.check_old_name(from.dir, from.name)?;
        check_name(to.name)?;
        match to.name {
            b"." | b".." => return Err(Error::Invalid),
            name if self.is_snapdir(to.dir, name) => return Err(Error::Exists),
            _ => {}
        }
        let mut change = self.change()?;
        change.directory(from.dir)?;
        change.directory(to.dir)?;
        let source = change.find_name(from.dir, from.name)?.ok_or(Error::NotFound)?;
        change.check_removal(from.dir, source.ino)?;
        let target = change.find_name(to.dir, to.name)?;
        if let Some(target) = &target {
            change.check_removal(to.dir, target.ino)?;
        }
        change.check_not_inside(&source, to.dir)?;
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(Error::Exists),
            (RenameMode::Exchange, None) => return Err(Error::NotFound),
            (_, Some(target)) if target.ino == source.ino => return Ok(()),
            (RenameMode::Exchange, Some(target)) => {
                change.check_not_inside(&target, from.dir)?;
                change.remove_name(from.dir, from.name, source.ino)?;
                change.remove_name(to.dir, to.name, target.ino)?;
                change.arrive(&source, from.dir, to)?;
                change.arrive(&target, to.dir, from)?;
            }
            (RenameMode::Replace | RenameMode::NoReplace | RenameMode::Whiteout, target) => {
                if let Some(target) = target {
                    change.replace_target(&source, &target, to)?;
                }
                change.remove_name(from.dir, from.name, source.ino)?;
                change.arrive(&source, from.dir, to)?;
                if mode == RenameMode::Whiteout {
                    change.leave_whiteout(self, caller, from)?;
                }
            }
        }
        change.finish(Purpose::Write)
    }
}

impl Change<'_> {
    /// Puts a character device 0:0 where something was: owned by who moved it, and nobody's to use.
    fn leave_whiteout(&mut self, fs: &Fs, caller: &Caller, at: Spot) -> Result<()> {
        let dir = self.known(at.dir)?;
        let (ino, mut inode) = self.new_child(fs, caller, (at.dir, &dir), FileType::CharDevice, 0)?;
        inode.mode = 0;
        self.put_inode(ino, &inode);
        self.add_name(at.dir, at.name, ino, inode.kind)
    }

    /// Refuses to move a directory into itself or below.
    fn check_not_inside(&self, moved: &Dirent, mut dir: Ino) -> Result<()> {
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
            dir = self.known(dir)?.parent;
        }
        Err(inconsistent(moved.ino, "is moved to a directory that does not reach the root").into())
    }

    /// Removes what a rename replaces, if it may.
    fn replace_target(&mut self, source: &Dirent, target: &Dirent, to: Spot) -> Result<()> {
        match (source.kind == FileType::Directory, target.kind == FileType::Directory) {
            (true, false) => return Err(Error::NotADirectory),
            (false, true) => return Err(Error::IsADirectory),
            (true, true) => {
                if self.named(target.ino)?.size != 0 {
                    return Err(Error::NotEmpty);
                }
                self.add_subdirectories(to.dir, -1)?;
            }
            (false, false) => {}
        }
        self.remove_name(to.dir, to.name, target.ino)?;
        self.drop_link(target.ino)
    }

    /// Gives something that has lost its name in `old_dir` its new one.
    fn arrive(&mut self, moved: &Dirent, old_dir: Ino, to: Spot) -> Result<()> {
        self.add_name(to.dir, to.name, moved.ino, moved.kind)?;
        let mut inode = self.named(moved.ino)?;
        inode.ctime = self.now;
        if moved.kind == FileType::Directory && old_dir != to.dir {
            inode.parent = to.dir;
            self.put_inode(moved.ino, &inode);
            self.add_subdirectories(old_dir, -1)?;
            return self.add_subdirectories(to.dir, 1);
        }
        self.put_inode(moved.ino, &inode);
        Ok(())
    }
}
