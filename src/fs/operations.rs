//! [`Operations`] for [`Fs`]: each request goes to the room that does it.

use super::file_system::Fs;
use super::heads::{NamedNode, OpenBy, Target, snapdir_node, target, tell_blocks};
use super::listing::Listing;
use super::past::clonedir_ttl;
use super::{attributes, content, names};
use crate::format::Ino;
use crate::limits::NAME_BYTES_MAX;
use crate::ops::*;
use std::time::Duration;

impl Fs {
    /// The kernel is being told of what was found.
    fn found(&self, done: Result<Entry>) -> Result<Entry> {
        done.inspect(|entry| self.heads.tell(&entry.into()))
    }

    /// Or of what was made.
    fn made(&self, done: Result<Entry>) -> Result<Entry> {
        done.inspect(|entry| self.heads.tell_made(&entry.into()))
    }
}

impl Operations for Fs {
    fn unhindered(&self, node: Option<NodeId>) -> Option<Unhindered<'_>> {
        let passage = match node {
            Some(node) => Some(self.heads.frosts.pass(node.tree())?),
            None => None,
        };
        Some(Unhindered(passage, Some(self.heads.standstill.pass()?)))
    }

    fn wait_to_change(&self, node: Option<NodeId>) -> Unhindered<'_> {
        Unhindered(node.map(|node| self.heads.frosts.wait_to_pass(node.tree())), None)
    }

    fn can_make_room(&self, wanted: RoomFor) -> bool {
        self.past.can_make_room(wanted)
    }

    fn make_room(&self, wanted: RoomFor, patience: Duration) -> bool {
        self.past.make_room(wanted, patience)
    }

    fn lookup(&self, _caller: &Caller, parent: NodeId, name: &[u8]) -> Result<Entry> {
        self.found(names::find(&self.past, parent, name))
    }

    fn lookup_by_number(&self, _caller: &Caller, node: NodeId, generation: u64) -> Result<Entry> {
        let found = names::find(&self.past, node, b".")?;
        // Of what is refused nobody is told.
        if found.generation == generation { self.found(Ok(found)) } else { Err(Error::NotFound) }
    }

    fn forget(&self, node: NodeId) {
        content::drop_reference(&self.commits, node, true);
    }

    fn forget_answers(&self, node: NodeId, answers: u64) {
        match target(node) {
            Target::Snapdir(_) => self.past.known_snapdirs.forget(node, answers),
            Target::Live(_) => self.heads.known_dirs.forget(node, answers),
            Target::Snapshot(..) | Target::Clonedir => {}
        }
        self.forget(node);
    }

    fn getattr(&self, node: NodeId, handle: Option<Handle>) -> Result<(Attr, Duration)> {
        match target(node) {
            Target::Snapdir(_) => Ok((self.past.snapdir_attr(node)?, self.past.snapdir_ttl(node))),
            Target::Clonedir => Ok((self.past.clonedir_attr(node)?, clonedir_ttl(node))),
            _ => attributes::get(&self.heads, node, handle),
        }
    }

    fn setattr(
        &self,
        caller: &Caller,
        node: NodeId,
        handle: Option<Handle>,
        set: &SetAttr,
    ) -> Result<(Attr, Duration)> {
        if let Some(handle) = handle {
            self.heads.handles.get(node, handle)?;
        }
        let done = self.commits.with_space(|| content::set_attributes(&self.commits, caller, node, set));
        if set.uid.is_some() || set.gid.is_some() {
            self.past.forget_snapdir(snapdir_node(node)); // it belongs to the same owner
            if node == NodeId::ROOT {
                self.past.forget_clonedir();
            }
        }
        done
    }

    fn readlink(&self, node: NodeId) -> Result<Vec<u8>> {
        let target = names::read_link(&self.heads, node)?;
        attributes::accessed(&self.heads, node);
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
        self.made(self.commits.with_space(|| match kind {
            FileType::Directory | FileType::Symlink => Err(Error::Invalid),
            _ => names::make(
                &self.heads,
                caller,
                parent,
                name,
                &names::NewNode { kind, mode, rdev, target: b"" },
            ),
        }))
    }

    fn mkdir(&self, caller: &Caller, parent: NodeId, name: &[u8], mode: u32) -> Result<Entry> {
        self.made(self.commits.with_space(|| match target(parent) {
            Target::Snapdir(_) => self.past.make_in_snapdir(parent, name, caller.uid),
            Target::Clonedir => self.past.make_in_clonedir(parent, name, caller.uid),
            _ => {
                let new = names::NewNode { kind: FileType::Directory, mode, rdev: 0, target: b"" };
                names::make(&self.heads, caller, parent, name, &new)
            }
        }))
    }

    fn unlink(&self, _caller: &Caller, parent: NodeId, name: &[u8]) -> Result<()> {
        self.commits.with_space(|| names::remove_file(&self.heads, parent, name))
    }

    fn rmdir(&self, caller: &Caller, parent: NodeId, name: &[u8]) -> Result<()> {
        let done = match target(parent) {
            Target::Clonedir => {
                return self.commits.with_space(|| self.past.remove_in_clonedir(parent, name, caller.uid));
            }
            // Done beside, with nothing held: what has no room finds some.
            Target::Snapdir(_) => self.past.in_room(RoomFor::Deletion, || {
                let held = self.past.one_at_a_time();
                self.past.remove_in_snapdir(parent, name, caller.uid, &held)
            }),
            _ => self.commits.with_space(|| names::remove_directory(&self.heads, parent, name)),
        };
        // Elsewhere than in the root's it was refused, and the kernel has the directory locked until that is answered.
        if target(parent) == Target::Snapdir(Ino::ROOT) && done != Err(Error::NotFound) {
            self.past.tell_other_snapdirs(parent, name);
        }
        done
    }

    fn rmdir_at_once(&self, caller: &Caller, parent: NodeId, name: &[u8]) -> Option<Result<()>> {
        if let Target::Clonedir = target(parent) {
            return None;
        }
        // To tell other `.snapshots` means to wait for requests in them.
        let held = self.past.one_at_a_time_now().filter(|_| self.past.is_alone(parent))?;
        let done = self.commits.with_space(|| self.past.remove_in_snapdir(parent, name, caller.uid, &held));
        drop(held);
        if done == Err(Error::NoSpace) {
            return None;
        }
        self.past.tell_other_snapdirs(parent, name);
        Some(done)
    }

    fn symlink(&self, caller: &Caller, parent: NodeId, name: &[u8], target: &[u8]) -> Result<Entry> {
        self.made(self.commits.with_space(|| names::make_symlink(&self.heads, caller, parent, name, target)))
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
        self.commits.with_space(|| match (target(parent), target(new_parent)) {
            (Target::Live(_), Target::Live(_)) if parent.tree() == new_parent.tree() => {
                names::rename(&self.heads, caller, (parent, name), (new_parent, new_name), mode)
            }
            (Target::Snapdir(_), Target::Snapdir(_)) => {
                self.past.rename_in_snapdir(parent, name, new_parent, new_name, mode)
            }
            (Target::Clonedir, Target::Clonedir) if parent == new_parent => {
                self.past.rename_in_clonedir(parent, name, new_name, mode)
            }
            (Target::Snapshot(from, _), Target::Snapshot(to, _)) if from == to => Err(Error::ReadOnly),
            _ => Err(Error::CrossView),
        })
    }

    fn link(&self, _caller: &Caller, node: NodeId, new_parent: NodeId, new_name: &[u8]) -> Result<Entry> {
        self.made(self.commits.with_space(|| names::make_link(&self.heads, node, new_parent, new_name)))
    }

    fn caching(&self, node: NodeId, no_atime: bool) -> Caching {
        attributes::cache_of(&self.heads, node, no_atime)
    }

    fn open(&self, caller: &Caller, node: NodeId, flags: OpenFlags) -> Result<Handle> {
        loop {
            match self.open_at_once(caller, node, flags)? {
                Opening::Done(handle) => return Ok(handle),
                Opening::Later(wait) => wait()?,
            }
        }
    }

    fn open_at_once(&self, caller: &Caller, node: NodeId, flags: OpenFlags) -> Result<Opening> {
        content::open_file(&self.commits, caller, (node, OpenBy::Number), flags)
    }

    fn create(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, Handle)> {
        self.commits.with_space(|| names::create_file(&self.past, caller, parent, name, mode, flags))
    }

    fn read(&self, node: NodeId, handle: Handle, offset: u64, out: &mut [u8]) -> Result<usize> {
        let len = content::read_file(&self.heads, node, handle, offset, out)?;
        if !self.heads.handles.get_to_read(node, handle)?.flags.no_atime {
            attributes::accessed(&self.heads, node);
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
        self.commits
            .with_space(|| content::write_file(&self.commits, node, handle, offset, data, kill_set_id))
    }

    fn release(&self, node: NodeId, handle: Handle) {
        content::close_handle(&self.commits, node, handle);
    }

    fn fsync(&self, node: NodeId, handle: Handle, _scope: SyncScope) -> Result<()> {
        self.heads.handles.get(node, handle)?;
        if !node.is_live() {
            return Ok(());
        }
        tell_blocks(&self.heads, node);
        self.commits.sync()
    }

    fn fsync_then(&self, node: NodeId, handle: Handle, _scope: SyncScope, answer: Answer) {
        match self.heads.handles.get(node, handle) {
            Ok(_) if node.is_live() => {
                tell_blocks(&self.heads, node);
                self.commits.sync_then(answer);
            }
            found => answer(found.map(drop)),
        }
    }

    fn opendir(&self, _caller: &Caller, node: NodeId) -> Result<Handle> {
        names::open_directory(&self.past, node, OpenFlags::READ_ONLY)
    }

    fn opendir_to_search(&self, _caller: &Caller, node: NodeId) -> Result<Handle> {
        names::open_directory(&self.past, node, OpenFlags { unlisted: true, ..OpenFlags::READ_ONLY })
    }

    fn readdir(
        &self,
        node: NodeId,
        handle: Handle,
        after: u64,
        plus: bool,
        sink: &mut dyn FnMut(&DirEntry) -> bool,
    ) -> Result<()> {
        let mut told: Vec<NamedNode> = Vec::new();
        let sink = &mut |entry: &DirEntry| {
            let taken = sink(entry);
            told.extend(entry.entry.iter().filter(|_| taken).map(NamedNode::from));
            taken
        };
        names::list(&self.past, handle, Listing { node, after, plus, sink })?;
        // Of what was found before an error the kernel gets nothing.
        told.iter().for_each(|named| self.heads.tell(named));
        attributes::accessed(&self.heads, node);
        Ok(())
    }

    fn releasedir(&self, node: NodeId, handle: Handle) {
        content::close_handle(&self.commits, node, handle);
    }

    fn fsyncdir(&self, node: NodeId) -> Result<()> {
        if node.is_live() { self.commits.sync() } else { Ok(()) }
    }

    fn statfs(&self, _node: NodeId) -> Result<StatFs> {
        let (space, may_free) = (self.heads.volume.space_with_freed(), self.past.room.comes_bytes());
        Ok(StatFs {
            total_bytes: space.total,
            free_bytes: space.free.saturating_add(may_free).min(space.total),
            // Whoever reads this wants to write, what is written must be mapped, and room is made for it.
            available_bytes: content::room_for_content(
                space.available.saturating_add(may_free).min(space.total),
            ),
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
        self.commits.with_space(|| attributes::set_xattr(&self.commits, caller, node, name, value, mode))
    }

    fn getxattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        attributes::get_xattr(&self.heads, node, name)
    }

    fn listxattr(&self, node: NodeId) -> Result<Vec<u8>> {
        attributes::list_xattr(&self.heads, node)
    }

    fn removexattr(&self, caller: &Caller, node: NodeId, name: &[u8]) -> Result<()> {
        self.commits.with_space(|| attributes::remove_xattr(&self.commits, caller, node, name))
    }

    fn file_flags(&self, node: NodeId) -> Result<FileFlags> {
        attributes::flags::flags_of(&self.heads, node)
    }

    fn set_file_flags(&self, node: NodeId, flags: FileFlags) -> Result<()> {
        self.commits.with_space(|| attributes::flags::set_flags(&self.heads, node, flags))
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
        self.commits.with_space(|| content::allocate(&self.commits, caller, node, handle, offset, len, mode))
    }

    fn lseek(&self, node: NodeId, handle: Handle, offset: u64, target: SeekTarget) -> Result<u64> {
        if self.heads.handles.is_writer(node) {
            content::drain(&self.heads, node);
        }
        content::seek(&self.heads, node, handle, offset, target)
    }

    fn lseek_at_once(
        &self,
        node: NodeId,
        handle: Handle,
        offset: u64,
        target: SeekTarget,
    ) -> Option<Result<u64>> {
        let lacks_nothing = !self.heads.handles.is_writer(node);
        lacks_nothing.then(|| content::seek(&self.heads, node, handle, offset, target))
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
        self.commits.with_space(|| {
            let from = content::End { node: from, handle: from_handle, offset: from_offset };
            let to = content::End { node: to, handle: to_handle, offset: to_offset };
            content::copy(&self.commits, caller, from, to, len)
        })
    }
}
