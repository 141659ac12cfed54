//! [`Operations`] for [`Fs`]: one line for each request, into the file that does it.

use super::Fs;
use super::create::New;
use super::dir::Listing;
use super::hole::room_for_content;
use super::inode::{Place, place};
use crate::format::Ino;
use crate::limits::NAME_BYTES_MAX;
use crate::ops::*;
use std::time::Duration;

impl Operations for Fs {
    fn lookup(&self, _caller: &Caller, parent: NodeId, name: &[u8]) -> Result<Entry> {
        self.find(parent, name)
    }

    fn forget(&self, node: NodeId) {
        if let Place::Live(ino) = place(node) {
            self.drop_reference(ino, true);
        }
    }

    fn forget_answers(&self, node: NodeId, answers: u64) {
        if let Place::Snapdir(dir) = place(node) {
            self.known_snapdirs.forget(dir, answers);
        }
        self.forget(node);
    }

    fn getattr(&self, node: NodeId, handle: Option<Handle>) -> Result<(Attr, Duration)> {
        self.attributes(node, handle)
    }

    fn setattr(
        &self,
        caller: &Caller,
        node: NodeId,
        _handle: Option<Handle>,
        set: &SetAttr,
    ) -> Result<(Attr, Duration)> {
        self.with_space(|| self.set_attributes(caller, node, set))
    }

    fn readlink(&self, node: NodeId) -> Result<Vec<u8>> {
        let target = self.read_link(node)?;
        self.accessed(node);
        Ok(target)
    }

    fn mknod(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        kind: FileType,
        mode: u32,
        rdev: u32,
    ) -> Result<Entry> {
        self.with_space(|| match kind {
            FileType::Directory | FileType::Symlink => Err(Error::Invalid),
            _ => self.make(caller, parent, name, &New { kind, mode, rdev, target: b"" }),
        })
    }

    fn mkdir(&self, caller: &Caller, parent: NodeId, name: &[u8], mode: u32) -> Result<Entry> {
        self.with_space(|| match place(parent) {
            Place::Snapdir(dir) => self.make_in_snapdir(dir, name),
            _ => {
                let new = New { kind: FileType::Directory, mode, rdev: 0, target: b"" };
                self.make(caller, parent, name, &new)
            }
        })
    }

    fn unlink(&self, _caller: &Caller, parent: NodeId, name: &[u8]) -> Result<()> {
        self.with_space(|| self.remove_file(parent, name))
    }

    fn rmdir(&self, _caller: &Caller, parent: NodeId, name: &[u8]) -> Result<()> {
        let done = self.with_space(|| match place(parent) {
            Place::Snapdir(dir) => self.remove_in_snapdir(dir, name, &self.one_at_a_time()),
            _ => self.remove_directory(parent, name),
        });
        if parent.is_snapdir() {
            self.tell_known_snapdirs(name);
        }
        done
    }

    fn rmdir_at_once(&self, _caller: &Caller, parent: NodeId, name: &[u8]) -> Option<Result<()>> {
        let Place::Snapdir(dir) = place(parent) else {
            return None;
        };
        // To tell other `.snapshots` means to wait for requests in them.
        let held = self.one_at_a_time_now().filter(|_| self.known_snapdirs.is_empty())?;
        let done = self.with_space(|| self.remove_in_snapdir(dir, name, &held));
        drop(held);
        self.tell_known_snapdirs(name);
        Some(done)
    }

    fn symlink(&self, caller: &Caller, parent: NodeId, name: &[u8], target: &[u8]) -> Result<Entry> {
        self.with_space(|| self.make_symlink(caller, parent, name, target))
    }

    fn rename(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        new_parent: NodeId,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        self.with_space(|| self.rename_any(caller, parent, name, new_parent, new_name, mode))
    }

    fn link(&self, _caller: &Caller, node: NodeId, new_parent: NodeId, new_name: &[u8]) -> Result<Entry> {
        self.with_space(|| self.make_link(node, new_parent, new_name))
    }

    fn caching(&self, node: NodeId, no_atime: bool) -> Caching {
        self.cache_of(node, no_atime)
    }

    fn open(&self, caller: &Caller, node: NodeId, flags: OpenFlags) -> Result<Handle> {
        self.open_file(caller, node, flags)
    }

    fn create(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, Handle)> {
        self.with_space(|| self.create_file(caller, parent, name, mode, flags))
    }

    fn read(&self, node: NodeId, handle: Handle, offset: u64, out: &mut [u8]) -> Result<usize> {
        let len = self.read_file(node, handle, offset, out)?;
        if !self.handles.get(node, handle)?.flags.no_atime {
            self.accessed(node);
        }
        Ok(len)
    }

    fn write(
        &self,
        node: NodeId,
        handle: Handle,
        offset: u64,
        data: &[u8],
        kill_set_id: bool,
    ) -> Result<usize> {
        self.with_space(|| self.write_file(node, handle, offset, data, kill_set_id))
    }

    fn release(&self, node: NodeId, handle: Handle) {
        self.close_handle(node, handle);
    }

    fn fsync(&self, node: NodeId, handle: Handle, _scope: SyncScope) -> Result<()> {
        self.handles.get(node, handle)?;
        if node.is_live() { self.sync() } else { Ok(()) }
    }

    fn fsync_then(&self, node: NodeId, handle: Handle, _scope: SyncScope, answer: Answer) {
        match self.handles.get(node, handle) {
            Ok(_) if node.is_live() => self.sync_then(answer),
            found => answer(found.map(drop)),
        }
    }

    fn opendir(&self, _caller: &Caller, node: NodeId) -> Result<Handle> {
        self.open_directory(node)
    }

    fn readdir(
        &self,
        node: NodeId,
        handle: Handle,
        after: u64,
        plus: bool,
        sink: &mut dyn FnMut(&DirEntry) -> bool,
    ) -> Result<()> {
        self.list(handle, Listing { node, after, plus, sink })?;
        self.accessed(node);
        Ok(())
    }

    fn releasedir(&self, node: NodeId, handle: Handle) {
        self.close_handle(node, handle);
    }

    fn fsyncdir(&self, node: NodeId) -> Result<()> {
        if node.is_live() { self.sync() } else { Ok(()) }
    }

    fn statfs(&self, _node: NodeId) -> Result<StatFs> {
        let space = self.volume.space();
        Ok(StatFs {
            total_bytes: space.total,
            free_bytes: space.free,
            // Whoever reads this wants to write, and what is written must be mapped.
            available_bytes: room_for_content(space.available),
            // Inode numbers are not counted: there are as many as anyone can ask for.
            inodes: Ino::END.0,
            inodes_free: Ino::END.0 - Ino::FIRST_FREE.0,
            block_size: crate::format::BLOCK_BYTES as u32,
            name_max: NAME_BYTES_MAX as u32,
        })
    }

    fn setxattr(
        &self,
        caller: &Caller,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        self.with_space(|| self.set_xattr(caller, node, name, value, mode))
    }

    fn getxattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        self.get_xattr(node, name)
    }

    fn listxattr(&self, node: NodeId) -> Result<Vec<u8>> {
        self.list_xattr(node)
    }

    fn removexattr(&self, caller: &Caller, node: NodeId, name: &[u8]) -> Result<()> {
        self.with_space(|| self.remove_xattr(caller, node, name))
    }

    fn file_flags(&self, node: NodeId) -> Result<FileFlags> {
        self.flags_of(node)
    }

    fn set_file_flags(&self, node: NodeId, flags: FileFlags) -> Result<()> {
        self.with_space(|| self.set_flags(node, flags))
    }

    fn fallocate(
        &self,
        caller: &Caller,
        node: NodeId,
        handle: Handle,
        offset: u64,
        len: u64,
        mode: AllocateMode,
    ) -> Result<()> {
        self.with_space(|| self.allocate(caller, node, handle, offset, len, mode))
    }

    fn lseek(&self, node: NodeId, handle: Handle, offset: u64, target: SeekTarget) -> Result<u64> {
        self.seek(node, handle, offset, target)
    }

    fn copy_range(
        &self,
        caller: &Caller,
        from: NodeId,
        from_handle: Handle,
        from_offset: u64,
        to: NodeId,
        to_handle: Handle,
        to_offset: u64,
        len: u64,
    ) -> Result<u64> {
        self.with_space(|| {
            let from = super::copy::End { node: from, handle: from_handle, offset: from_offset };
            let to = super::copy::End { node: to, handle: to_handle, offset: to_offset };
            self.copy(caller, from, to, len)
        })
    }
}

/// Less than this, and than this share of a store, is not worth a commit when space is short: every commit itself leaves
/// some behind.
const RECLAIM_BYTES_MIN: u64 = 1 << 20;
const RECLAIM_SHARE_MIN: u64 = 64;
/// Commits that a request waits for at most when space is short.
const RECLAIM_COMMITS_MAX: usize = 64;

impl Fs {
    /// Runs a change. If space is short, brings in what commits can make available, and tries once more. A change that
    /// was refused has changed nothing, so it may be run again.
    pub(super) fn with_space<T>(&self, change: impl Fn() -> Result<T>) -> Result<T> {
        self.relieve()?;
        let done = match change() {
            Err(Error::NoSpace) if self.reclaim()? => change(),
            done => done,
        };
        self.tell_fallen();
        self.outlive()?;
        done
    }

    /// The kernel keeps the mode of a file for ever, and does not ask after a write that cost it set-id bits.
    fn tell_fallen(&self) {
        let fallen = std::mem::take(&mut *self.fallen.lock());
        if !fallen.is_empty() {
            let kernel = self.kernel();
            fallen.into_iter().for_each(|ino| kernel.forget_attributes(NodeId::new(0, ino.0)));
        }
    }

    /// What is answered must outlive this process, also when it did not fit the log.
    pub(super) fn outlive(&self) -> Result<()> {
        if self.volume.log_is_behind() && !self.options.read_only { self.commit() } else { Ok(()) }
    }

    /// Commits until nothing that was freed waits any more. False if there was nothing.
    fn reclaim(&self) -> Result<bool> {
        let mut any = false;
        let least = RECLAIM_BYTES_MIN.min(self.volume.space().total / RECLAIM_SHARE_MIN);
        for _ in 0..RECLAIM_COMMITS_MAX {
            if self.options.read_only || self.volume.reclaimable_bytes() < least {
                break;
            }
            self.commit()?;
            any = true;
        }
        Ok(any)
    }
}
