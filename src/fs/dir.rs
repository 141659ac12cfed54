//! Finding and listing names, in the live tree and in snapshots alike, and opening files and directories.
//!
//! A listing is ordered by cookie, and a cookie belongs to its entry as long as that has its name: whatever is added
//! or removed meanwhile, nothing that stays is listed twice or missed.

use super::Fs;
use super::around::Around;
use super::error::{damaged, inconsistent};
use super::handle::Open;
use super::inode::{Place, place};
use super::items::Items;
use super::name::{SNAPDIR_NAME, check_name};
use super::options::SnapdirMode;
use crate::format::dirent::Bucket;
use crate::format::{Ino, Key, Kind};
use crate::ops::{Caller, DirEntry, Entry, Error, FileType, Handle, NodeId, OpenFlags, Result, SetAttr};
use crate::volume::View;

/// Cookie of `.`.
const COOKIE_SELF: u64 = 1;
/// Cookie of `..`.
const COOKIE_PARENT: u64 = 2;
/// Cookie of a listed `.snapshots`: behind every hash.
const COOKIE_SNAPDIR: u64 = u64::MAX >> 1;

/// A directory to list.
pub(super) struct Listing<'a> {
    /// Where it is.
    pub node: NodeId,
    /// Entries up to this cookie are not wanted.
    pub after: u64,
    /// Attributes are wanted.
    pub plus: bool,
    /// Takes entries until it returns false.
    pub sink: &'a mut dyn FnMut(&DirEntry) -> bool,
}

impl Listing<'_> {
    /// Gives an entry to the sink if it is wanted. False when the sink is full.
    pub fn give(
        &mut self,
        cookie: u64,
        node: NodeId,
        kind: FileType,
        name: &[u8],
        entry: impl FnOnce() -> Result<Entry>,
    ) -> Result<bool> {
        if cookie <= self.after {
            return Ok(true);
        }
        let dots = name == b"." || name == b"..";
        let entry = if self.plus && !dots { Some(entry()?) } else { None };
        Ok((self.sink)(&DirEntry { node, kind, name: name.to_vec(), cookie, entry }))
    }

    /// `.` and `..`.
    pub fn give_dots(&mut self, parent: NodeId) -> Result<bool> {
        let none = || Err(Error::Invalid);
        Ok(self.give(COOKIE_SELF, self.node, FileType::Directory, b".", none)?
            && self.give(COOKIE_PARENT, parent, FileType::Directory, b"..", none)?)
    }
}

impl Fs {
    /// See [`Operations::lookup`](crate::ops::Operations::lookup).
    pub(super) fn find(&self, parent: NodeId, name: &[u8]) -> Result<Entry> {
        check_name(name)?;
        if let Place::Snapdir(dir) = place(parent) {
            return self.find_in_snapdir(dir, name);
        }
        let view = self.view_of(parent)?;
        let dir = Ino(parent.ino());
        let inode = view.inode(dir)?.ok_or(Error::Stale)?;
        match name {
            b"." => return Ok(self.entry(parent, &inode)),
            _ if inode.kind != FileType::Directory => return Err(Error::NotADirectory),
            b".." => {
                let up = parent_node(parent, inode.parent);
                return match place(up) {
                    Place::Snapdir(dir) => self.snapdir_entry(dir),
                    _ => {
                        let ino = Ino(up.ino());
                        let inode =
                            view.inode(ino)?.ok_or_else(|| inconsistent(ino, "is a parent, not there"))?;
                        Ok(self.entry(up, &inode))
                    }
                };
            }
            SNAPDIR_NAME if parent.is_live() && self.has_snapdir(dir) => return self.snapdir_entry(dir),
            _ => {}
        }
        let found = view.find_name(dir, name)?.ok_or(Error::NotFound)?;
        self.child_entry(&view, parent, found.ino)
    }

    fn child_entry(&self, view: &View, parent: NodeId, ino: Ino) -> Result<Entry> {
        let inode = view.inode(ino)?.ok_or_else(|| inconsistent(ino, "has a name but no inode"))?;
        Ok(self.entry(child_node(parent, ino, inode.kind), &inode))
    }

    /// True if `.snapshots` is found in the live directory.
    fn has_snapdir(&self, dir: Ino) -> bool {
        self.options.snapdir != SnapdirMode::Disabled && (dir == Ino::ROOT || self.options.snapdir_everywhere)
    }

    /// See [`Operations::readdir`](crate::ops::Operations::readdir).
    pub(super) fn list(&self, handle: Handle, mut listing: Listing) -> Result<()> {
        let node = listing.node;
        let view = match place(node) {
            Place::Snapdir(dir) => {
                self.handles.get(node, handle)?;
                return self.list_snapdir(dir, listing);
            }
            _ => self.view_through(node, Some(handle))?,
        };
        let dir = Ino(node.ino());
        let inode = view.inode(dir)?.ok_or(Error::Stale)?;
        if !listing.give_dots(parent_node(node, inode.parent))?
            || !self.list_names(&view, dir, &mut listing)?
        {
            return Ok(());
        }
        if node == NodeId::ROOT && self.options.snapdir == SnapdirMode::Visible {
            let snapdir = NodeId::new(NodeId::SNAPDIR_VIEW, dir.0);
            let entry = || self.snapdir_entry(dir);
            listing.give(COOKIE_SNAPDIR, snapdir, FileType::Directory, SNAPDIR_NAME, entry)?;
        }
        Ok(())
    }

    fn list_names(&self, view: &View, dir: Ino, listing: &mut Listing) -> Result<bool> {
        let node = listing.node;
        let from = Key::new(dir.0, Kind::Dirent, listing.after & !0xff);
        for item in view.range(&from, &Key::new(dir.0, Kind::Dirent, u64::MAX)) {
            let (key, value) = item?;
            let mut bucket = Bucket::decode(&value).map_err(|e| damaged(dir, e))?;
            bucket.entries.sort_unstable_by_key(|e| e.slot);
            for e in &bucket.entries {
                let child = child_node(node, e.ino, e.kind);
                let entry = || self.child_entry(view, node, e.ino);
                if !listing.give(e.cookie(key.rest), child, e.kind, &e.name, entry)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// See [`Operations::open`](crate::ops::Operations::open).
    pub(super) fn open_file(&self, caller: &Caller, node: NodeId, flags: OpenFlags) -> Result<Handle> {
        let view = match place(node) {
            Place::Live(_) => None,
            Place::Snapshot(..) if flags.write || flags.truncate => return Err(Error::ReadOnly),
            Place::Snapshot(view, _) => Some(self.volume.snapshot(view)?),
            Place::Snapdir(_) => return Err(Error::IsADirectory),
        };
        if view.is_none() && self.options.read_only && (flags.write || flags.truncate) {
            return Err(Error::ReadOnly);
        }
        let handle = {
            // Under the gate, so that a purge sees the handle or the inode is seen to be gone.
            let _gate = self.gate.read();
            let ino = Ino(node.ino());
            let inode = match &view {
                Some(view) => view.inode(ino)?,
                None => self.volume.live().inode(ino)?,
            };
            let inode = inode.ok_or(Error::Stale)?;
            match inode.kind {
                FileType::Regular => {}
                FileType::Directory => return Err(Error::IsADirectory),
                _ => return Err(Error::Invalid),
            }
            super::flags::check_open(&inode, flags)?;
            let flags = OpenFlags { sync: flags.sync || inode.flags.sync, ..flags };
            self.handles.add(Open { node, flags, view, around: Around::default() })
        };
        if flags.truncate {
            let cut = SetAttr { size: Some(0), ..SetAttr::default() };
            if let Err(e) = self.set_attributes(caller, node, &cut) {
                self.close_handle(node, handle);
                return Err(e);
            }
        }
        Ok(handle)
    }

    /// See [`Operations::opendir`](crate::ops::Operations::opendir).
    pub(super) fn open_directory(&self, node: NodeId) -> Result<Handle> {
        let flags = OpenFlags {
            read: true,
            write: false,
            append: false,
            at_end: false,
            truncate: false,
            exclusive: false,
            sync: false,
            no_atime: false,
        };
        let view = match place(node) {
            Place::Snapdir(dir) => {
                self.snapdir_attr(dir)?;
                None
            }
            Place::Snapshot(view, _) => Some(self.volume.snapshot(view)?),
            Place::Live(_) => None,
        };
        let _gate = self.gate.read();
        if !node.is_snapdir() {
            let ino = Ino(node.ino());
            let inode = match &view {
                Some(view) => view.inode(ino)?,
                None => self.volume.live().inode(ino)?,
            };
            if inode.ok_or(Error::Stale)?.kind != FileType::Directory {
                return Err(Error::NotADirectory);
            }
        }
        Ok(self.handles.add(Open { node, flags, view, around: Around::default() }))
    }

    /// Closes a file or directory.
    pub(super) fn close_handle(&self, node: NodeId, handle: Handle) {
        self.handles.remove(handle);
        if let Place::Live(ino) = place(node) {
            self.drop_reference(ino, false);
        }
    }
}

/// The node of `..`: above the top of a snapshot is the `.snapshots` that it was entered by.
fn parent_node(node: NodeId, parent: Ino) -> NodeId {
    match (place(node), node.way()) {
        (Place::Snapshot(_, Ino::ROOT), _) => NodeId::new(NodeId::SNAPDIR_VIEW, Ino::ROOT.0),
        (_, None) => NodeId::new(node.view(), parent.0),
        (_, Some(way)) => match way.up() {
            Some(up) => NodeId::on_way(node.view(), Some(up), parent.0),
            None => NodeId::new(NodeId::SNAPDIR_VIEW, node.ino()),
        },
    }
}

/// The node of what has a name in the directory `parent`.
fn child_node(parent: NodeId, ino: Ino, kind: FileType) -> NodeId {
    match parent.way() {
        Some(way) if kind == FileType::Directory => NodeId::on_way(parent.view(), way.down(), ino.0),
        _ => NodeId::new(parent.view(), ino.0),
    }
}
