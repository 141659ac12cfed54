//! One snapshot as a file system of its own: nodes have the numbers of the live tree, there is no `.snapshots`, and
//! nothing changes. While one of these is there, its snapshot cannot be deleted.

use super::file_system::Fs;
use crate::format::{Ino, Slot, ViewId};
use crate::ops::*;
use std::sync::Arc;
use std::time::Duration;

/// [`Operations`] of one snapshot.
pub struct Standalone {
    fs: Arc<Fs>,
    view: ViewId,
    slot: Slot,
}

impl Fs {
    /// The snapshot that `name` names in `.snapshots`: its own name, or one that picks by time (`@latest`).
    pub fn standalone(self: &Arc<Fs>, name: &[u8]) -> Result<Arc<Standalone>> {
        if matches!(name, b"." | b"..") {
            return Err(Error::NotFound);
        }
        let nobody_deletes = self.past.one_at_a_time();
        let slot = Slot(
            self.past.find_in_snapdir(NodeId::snapdir(Slot::MAIN.0, Ino::ROOT.0), name)?.attr.node.slot(),
        );
        let view = self.volume().snapshot_by_slot(slot).ok_or(Error::Stale)?.id;
        self.past.stand_alone(view, &nobody_deletes);
        Ok(Arc::new(Standalone { fs: self.clone(), view, slot }))
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        self.fs.past.let_go(self.view);
    }
}

impl Standalone {
    /// The node below.
    fn below(&self, node: NodeId) -> Result<NodeId> {
        if node.is_live() { Ok(NodeId::snapshot(self.slot.0, node.ino())) } else { Err(Error::Stale) }
    }

    /// The node as it is shown. Above the root is the root.
    fn shown(&self, node: NodeId) -> NodeId {
        if node.tree() == NodeId::snapshot(self.slot.0, 0).tree() {
            NodeId::live(Slot::MAIN.0, node.ino())
        } else {
            NodeId::ROOT
        }
    }

    fn shown_attr(&self, attr: Attr) -> Attr {
        Attr { node: self.shown(attr.node), ..attr }
    }

    fn shown_entry(&self, entry: Entry) -> Entry {
        Entry { attr: self.shown_attr(entry.attr), ..entry }
    }
}

impl Operations for Standalone {
    fn lookup(&self, caller: &Caller, parent: NodeId, name: &[u8]) -> Result<Entry> {
        let name = if parent == NodeId::ROOT && name == b".." { b"." } else { name };
        Ok(self.shown_entry(self.fs.lookup(caller, self.below(parent)?, name)?))
    }

    fn forget(&self, _node: NodeId) {}

    fn getattr(&self, node: NodeId, handle: Option<Handle>) -> Result<(Attr, Duration)> {
        let (attr, ttl) = self.fs.getattr(self.below(node)?, handle)?;
        Ok((self.shown_attr(attr), ttl))
    }

    fn setattr(
        &self,
        _caller: &Caller,
        _node: NodeId,
        _handle: Option<Handle>,
        _set: &SetAttr,
    ) -> Result<(Attr, Duration)> {
        Err(Error::ReadOnly)
    }

    fn readlink(&self, node: NodeId) -> Result<Vec<u8>> {
        self.fs.readlink(self.below(node)?)
    }

    fn mknod(
        &self,
        _caller: &Caller,
        _parent: NodeId,
        _name: &[u8],
        _kind: FileType,
        _mode: u32,
        _rdev: u32,
    ) -> Result<Entry> {
        Err(Error::ReadOnly)
    }

    fn mkdir(&self, _caller: &Caller, _parent: NodeId, _name: &[u8], _mode: u32) -> Result<Entry> {
        Err(Error::ReadOnly)
    }

    fn unlink(&self, _caller: &Caller, _parent: NodeId, _name: &[u8]) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn rmdir(&self, _caller: &Caller, _parent: NodeId, _name: &[u8]) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn symlink(&self, _caller: &Caller, _parent: NodeId, _name: &[u8], _target: &[u8]) -> Result<Entry> {
        Err(Error::ReadOnly)
    }

    fn rename(
        &self,
        _caller: &Caller,
        _parent: NodeId,
        _name: &[u8],
        _new_parent: NodeId,
        _new_name: &[u8],
        _mode: RenameMode,
    ) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn link(&self, _caller: &Caller, _node: NodeId, _new_parent: NodeId, _new_name: &[u8]) -> Result<Entry> {
        Err(Error::ReadOnly)
    }

    fn open(&self, caller: &Caller, node: NodeId, flags: OpenFlags) -> Result<Handle> {
        self.fs.open(caller, self.below(node)?, flags)
    }

    fn create(
        &self,
        _caller: &Caller,
        _parent: NodeId,
        _name: &[u8],
        _mode: u32,
        _flags: OpenFlags,
    ) -> Result<(Entry, Handle)> {
        Err(Error::ReadOnly)
    }

    fn read(&self, node: NodeId, handle: Handle, offset: u64, out: &mut [u8]) -> Result<usize> {
        self.fs.read(self.below(node)?, handle, offset, out)
    }

    fn write(
        &self,
        _node: NodeId,
        _handle: Handle,
        _offset: u64,
        _data: &[u8],
        _kill_set_id: bool,
    ) -> Result<usize> {
        Err(Error::ReadOnly)
    }

    fn release(&self, node: NodeId, handle: Handle) {
        if let Ok(node) = self.below(node) {
            self.fs.release(node, handle);
        }
    }

    fn fsync(&self, node: NodeId, handle: Handle, scope: SyncScope) -> Result<()> {
        self.fs.fsync(self.below(node)?, handle, scope)
    }

    fn opendir(&self, caller: &Caller, node: NodeId) -> Result<Handle> {
        self.fs.opendir(caller, self.below(node)?)
    }

    fn readdir(
        &self,
        node: NodeId,
        handle: Handle,
        after: u64,
        plus: bool,
        sink: &mut dyn FnMut(&DirEntry) -> bool,
    ) -> Result<()> {
        self.fs.readdir(self.below(node)?, handle, after, plus, &mut |e| {
            sink(&DirEntry {
                node: self.shown(e.node),
                entry: e.entry.map(|entry| self.shown_entry(entry)),
                ..e.clone()
            })
        })
    }

    fn releasedir(&self, node: NodeId, handle: Handle) {
        self.release(node, handle);
    }

    fn fsyncdir(&self, node: NodeId) -> Result<()> {
        self.fs.fsyncdir(self.below(node)?)
    }

    fn statfs(&self, node: NodeId) -> Result<StatFs> {
        self.fs.statfs(self.below(node)?)
    }

    fn setxattr(
        &self,
        _caller: &Caller,
        _node: NodeId,
        _name: &[u8],
        _value: &[u8],
        _mode: XattrMode,
    ) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn getxattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        self.fs.getxattr(self.below(node)?, name)
    }

    fn listxattr(&self, node: NodeId) -> Result<Vec<u8>> {
        self.fs.listxattr(self.below(node)?)
    }

    fn removexattr(&self, _caller: &Caller, _node: NodeId, _name: &[u8]) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn file_flags(&self, node: NodeId) -> Result<FileFlags> {
        self.fs.file_flags(self.below(node)?)
    }

    fn set_file_flags(&self, _node: NodeId, _flags: FileFlags) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn fallocate(
        &self,
        _caller: &Caller,
        _node: NodeId,
        _handle: Handle,
        _offset: u64,
        _len: u64,
        _mode: AllocateMode,
    ) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn lseek(&self, node: NodeId, handle: Handle, offset: u64, target: SeekTarget) -> Result<u64> {
        self.fs.lseek(self.below(node)?, handle, offset, target)
    }

    fn copy_range(
        &self,
        _caller: &Caller,
        _from: NodeId,
        _from_handle: Handle,
        _from_offset: u64,
        _to: NodeId,
        _to_handle: Handle,
        _to_offset: u64,
        _len: u64,
    ) -> Result<u64> {
        Err(Error::ReadOnly)
    }
}
