//! Attributes: where a node's inode is, what `stat` shows of it, and changing it.
//!
//! Set-id bits and `security.capability` fall here when the owner changes or somebody else truncates. Who may change
//! what is the kernel's question.

use super::Fs;
use super::change::Change;
use super::compress;
use super::flags;
use super::items::Items;
use crate::format::inode::{Inode, MODE_BITS};
use crate::format::{BLOCK_BYTES, Ino, Key, Kind, ViewId};
use crate::limits::INLINE_BYTES_MAX;
use crate::ops::{
    Attr, Caller, Entry, Error, FileFlags, FileType, Handle, NodeId, Result, SetAttr, SetTime, Timestamp,
};
use crate::volume::{Purpose, View};
use std::sync::Arc;
use std::time::Duration;

/// Which tree a node is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The live tree.
    Live(Ino),
    /// A snapshot.
    Snapshot(ViewId, Ino),
    /// The `.snapshots` of this live directory.
    Snapdir(Ino),
}

/// Where `node` is.
pub(super) fn place(node: NodeId) -> Place {
    let ino = Ino(node.ino());
    if node.is_live() {
        Place::Live(ino)
    } else if node.is_snapdir() {
        Place::Snapdir(ino)
    } else {
        Place::Snapshot(ViewId(node.view()), ino)
    }
}

/// The inode of a node that is to be changed.
pub(super) fn live_target(node: NodeId) -> Result<Ino> {
    match place(node) {
        Place::Live(ino) => Ok(ino),
        Place::Snapshot(..) => Err(Error::ReadOnly),
        Place::Snapdir(_) => Err(Error::NotPermitted),
    }
}

const SET_USER_ID: u32 = 0o4000;
pub(super) const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

impl Fs {
    /// The view that holds a node of the live tree or of a snapshot.
    pub(super) fn view_of(&self, node: NodeId) -> Result<Arc<View>> {
        match place(node) {
            Place::Live(_) => Ok(Arc::new(self.volume.live())),
            Place::Snapshot(view, _) => Ok(self.volume.snapshot(view)?),
            Place::Snapdir(_) => Err(Error::Invalid),
        }
    }

    /// The view of a node through an open handle, which outlives the deletion of a snapshot.
    pub(super) fn view_through(&self, node: NodeId, handle: Option<Handle>) -> Result<Arc<View>> {
        let open = handle.map(|h| self.handles.get(node, h)).transpose()?;
        match open.and_then(|open| open.view.clone()) {
            Some(view) => Ok(view),
            None => self.view_of(node),
        }
    }

    /// A live inode.
    pub(super) fn live_inode(&self, ino: Ino) -> Result<Inode> {
        self.volume.live().inode(ino)?.ok_or(Error::Stale)
    }

    /// What `stat` shows of an inode.
    pub(super) fn attr(&self, node: NodeId, inode: &Inode) -> Attr {
        let regular = inode.kind == FileType::Regular;
        let mut blocks = inode.blocks;
        if regular && node.is_live() {
            let fresh = self.gate.read().dirty.fresh_blocks(Ino(node.ino()));
            blocks += fresh * (BLOCK_BYTES / 512);
        }
        if regular && inode.has_inline && blocks == 0 {
            blocks = inode.size.min(INLINE_BYTES_MAX).div_ceil(512);
        }
        Attr {
            node,
            kind: inode.kind,
            mode: inode.mode,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            rdev: inode.rdev,
            size: inode.size,
            blocks,
            atime: inode.atime,
            mtime: inode.mtime,
            ctime: inode.ctime,
            btime: inode.btime,
        }
    }

    /// The answer to a lookup that found `inode`. The kernel may trust it until it is told otherwise.
    pub(super) fn entry(&self, node: NodeId, inode: &Inode) -> Entry {
        Entry {
            attr: self.attr(node, inode),
            generation: self.generation(),
            entry_ttl: Duration::MAX,
            attr_ttl: Duration::MAX,
        }
    }

    /// See [`Operations::getattr`](crate::ops::Operations::getattr).
    pub(super) fn attributes(&self, node: NodeId, handle: Option<Handle>) -> Result<(Attr, Duration)> {
        if let Place::Snapdir(dir) = place(node) {
            return Ok((self.snapdir_attr(dir)?, self.snapdir_ttl(dir)));
        }
        let view = self.view_through(node, handle)?;
        let ino = Ino(node.ino());
        let inode = view.inode(ino)?.ok_or(Error::Stale)?;
        Ok((self.attr(node, &inode), Duration::MAX))
    }

    /// See [`Operations::setattr`](crate::ops::Operations::setattr).
    pub(super) fn set_attributes(
        &self,
        caller: &Caller,
        node: NodeId,
        set: &SetAttr,
    ) -> Result<(Attr, Duration)> {
        let ino = live_target(node)?;
        if let Some(size) = set.size {
            self.shrink_in_steps(ino, size)?;
        }
        let writer = if set.size.is_some() { self.writer(caller, ino)? } else { Writer::Privileged };
        let mut change = self.change()?;
        let mut inode = change.known(ino)?;
        flags::check_attributes(&inode, set)?;
        let chown = set.uid.is_some() || set.gid.is_some();
        if set.size.is_some() {
            change.regular(ino)?;
        }
        let not_directory = inode.kind != FileType::Directory;
        if not_directory && chown {
            change.kill_privileges(ino, &mut inode)?;
        }
        change.written_by(writer, ino, &mut inode)?;
        let now = change.now;
        if set.size.is_some() {
            inode.mtime = now;
        }
        apply_attributes(&mut inode, set, now);
        if set.mode.is_some() {
            change.follow_mode(ino, &inode)?;
        }
        match set.size {
            Some(size) => change.resize(ino, &mut inode, size)?,
            None => change.reserve(1, Purpose::Write)?,
        }
        change.put_inode(ino, &inode);
        change.apply()?;
        if chown && !not_directory {
            self.forget_snapdir_of(ino); // it belongs to the same owner
        }
        Ok((self.attr(node, &inode), Duration::MAX))
    }

    /// The root of an empty file system.
    pub(super) fn make_root(&self) -> Result<()> {
        let mut change = self.change()?;
        if change.inode(Ino::ROOT)?.is_some() {
            return Ok(());
        }
        let mut root = new_inode(FileType::Directory, 0o755, change.now, self.generation());
        (root.uid, root.gid) = (self.options.root_uid, self.options.root_gid);
        root.parent = Ino::ROOT;
        change.put_inode(Ino::ROOT, &root);
        change.finish(Purpose::Write)
    }
}

/// An inode that nobody owns yet.
pub(super) fn new_inode(kind: FileType, mode: u32, now: Timestamp, generation: u64) -> Inode {
    Inode {
        kind,
        mode: mode & MODE_BITS,
        nlink: if kind == FileType::Directory { 2 } else { 1 },
        uid: 0,
        gid: 0,
        rdev: 0,
        has_inline: false,
        has_xattr: false,
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
        parent: Ino(0),
        generation,
        compression: None,
        flags: FileFlags::default(),
    }
}

fn apply_attributes(inode: &mut Inode, set: &SetAttr, now: Timestamp) {
    let time = |t: SetTime| match t {
        SetTime::Now => now,
        SetTime::At(at) => at,
    };
    inode.mode = set.mode.map_or(inode.mode, |m| m & MODE_BITS);
    inode.uid = set.uid.unwrap_or(inode.uid);
    inode.gid = set.gid.unwrap_or(inode.gid);
    inode.atime = set.atime.map_or(inode.atime, time);
    inode.mtime = set.mtime.map_or(inode.mtime, time);
    inode.ctime = set.ctime.unwrap_or(now);
}

/// Whose change of content it is, as far as set-id bits care.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// Root: nothing falls.
    Privileged,
    /// Somebody in the group of the file.
    Member,
    /// Somebody else: set-group-id falls also where it marks no program.
    Outsider,
}

impl Fs {
    /// What the caller is to the file. The group is asked for only where it matters.
    pub(super) fn writer(&self, caller: &Caller, ino: Ino) -> Result<Writer> {
        if caller.uid == 0 {
            return Ok(Writer::Privileged);
        }
        let inode = self.live_inode(ino)?;
        let outside = inode.mode & SET_GROUP_ID != 0 && !self.kernel().is_member(caller, inode.gid);
        Ok(if outside { Writer::Outsider } else { Writer::Member })
    }
}

impl Change<'_> {
    /// What a change of content by `writer` takes away. The caller puts the inode.
    pub fn written_by(&mut self, writer: Writer, ino: Ino, inode: &mut Inode) -> Result<()> {
        if writer == Writer::Privileged {
            return Ok(());
        }
        self.kill_privileges(ino, inode)?;
        if writer == Writer::Outsider && inode.mode & SET_GROUP_ID != 0 {
            inode.mode &= !SET_GROUP_ID;
            self.tell_fallen(ino);
        }
        Ok(())
    }

    /// What a change by somebody else takes away: set-user-id, set-group-id of what the group can execute, and
    /// capabilities. The caller puts the inode.
    pub fn kill_privileges(&mut self, ino: Ino, inode: &mut Inode) -> Result<()> {
        let before = inode.mode;
        inode.mode &= !SET_USER_ID;
        if inode.mode & GROUP_EXECUTE != 0 {
            inode.mode &= !SET_GROUP_ID;
        }
        if inode.mode != before {
            self.tell_fallen(ino);
        }
        if inode.has_xattr {
            self.take_xattr(ino, b"security.capability")?;
        }
        Ok(())
    }

    /// A new inode in `parent`, which may pass on its group and its default access list. The caller puts it.
    pub fn new_child(
        &mut self,
        fs: &Fs,
        caller: &Caller,
        (dir, parent): (Ino, &Inode),
        kind: FileType,
        mode: u32,
    ) -> Result<(Ino, Inode)> {
        let mut inode = new_inode(kind, mode, self.now, fs.generation());
        (inode.uid, inode.gid) = (caller.uid, caller.gid);
        if parent.mode & SET_GROUP_ID != 0 {
            inode.gid = parent.gid;
            if kind == FileType::Directory {
                inode.mode |= SET_GROUP_ID;
            }
        }
        inode.flags = flags::inherited(parent.flags, kind);
        if compress::has_property(kind) {
            inode.compression = compress::inherited(dir, parent);
        }
        let ino = self.txn.next_ino()?;
        self.inherit_acl(caller, (dir, parent), ino, &mut inode)?;
        Ok((ino, inode))
    }

    /// Collects content that is kept in the tree.
    pub fn put_inline(&mut self, ino: Ino, bytes: &[u8]) {
        self.put(Key::new(ino.0, Kind::Inline, 0), bytes.to_vec());
    }
}
