//! Kernel requests become calls of [`Operations`], one call each, and their results become replies.
//!
//! Invariant: a request is answered on the thread that read it. The exceptions get a thread of their own, because other
//! requests have to be served before they can be answered: `mkdir` and `rename` in a `.snapshots` directory, `rmdir`
//! there while a snapshot is made, `lseek` in a file that is being written, `open` of one whose content is being exchanged,
//! and `ioctl`.
//!
//! No state is kept here: handles, link counts and orphans are the file system's. Permissions are checked by the kernel
//! (`default_permissions`).

use super::answering::Answering;
use super::aside::Aside;
use super::background::{BACKGROUND_MAX, BackgroundRequests};
use super::changing::Changing;
use super::convert::{self, caller};
use super::errno::errno;
use super::flusher::Registered;
use super::hidden;
use super::ioctl;
use super::locality::{Locality, Served};
use super::read_buffer::with_pages;
use super::reply::{
    attributes, created, data, empty, entry, file_open_flags, found_at, listing_open_flags, nothing, opened,
    value, written,
};
use crate::ops::{
    Caching, DirEntry, Entry, Error, Handle, NodeId, Opening, Operations, Result, RoomFor, SeekTarget,
    SetAttr, SyncScope,
};
use crate::sys::mount::fcntl;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Largest piece that one copy request may do: the reply has 32 bits, and a request should end some time.
const COPY_BYTES_MAX: u64 = 1 << 30;
/// How the connection is set up.
#[derive(Clone, Copy)]
pub(super) struct Profile {
    /// Flags to ask for; those that the kernel does not know are left out.
    pub(super) flags: InitFlags,
    /// Largest WRITE in bytes.
    pub(super) max_write: u32,
}

/// The file system as the protocol crate calls it.
pub(super) struct Adapter {
    changing: Changing,
    profile: Profile,
    locality: Option<Arc<Locality>>,
    /// Who may see the hidden directory.
    flusher: Registered,
}

impl Adapter {
    pub(super) fn new(
        ops: Arc<dyn Operations>,
        profile: Profile,
        flusher: Registered,
        (answering, background): (Answering, Arc<BackgroundRequests>),
    ) -> Adapter {
        let locality = Locality::start();
        let aside = Aside::new(ops.clone(), locality.clone());
        let changing = Changing::new(ops, aside, answering, background);
        Adapter { changing, profile, locality, flusher }
    }

    /// A request that a program waits for has arrived on this thread. What is returned is kept until it is answered.
    /// None for what the kernel asks by itself, such as to write back what it collected.
    fn arrived(&self, req: &Request, bytes: usize) -> Option<Served<'_>> {
        self.locality.as_ref().filter(|_| req.pid() != 0).map(|locality| locality.arrived(req.pid(), bytes))
    }

    /// This request may wait for a device, so others should be answered meanwhile.
    fn may_wait(&self) {
        if let Some(locality) = &self.locality {
            locality.note_wait();
        }
    }

    /// How a file is opened below. The kernel says where each write goes, also where it appends, and it writes mapped
    /// pages back through any handle, so nothing is moved to the end here. With the write-back cache it fills pages by
    /// reading through handles that were opened for writing alone.
    fn open_flags(&self, flags: i32) -> crate::ops::OpenFlags {
        let asked = convert::open_flags(flags);
        let writeback = self.profile.flags.contains(InitFlags::FUSE_WRITEBACK_CACHE);
        crate::ops::OpenFlags { append: false, read: asked.read || (writeback && asked.write), ..asked }
    }

    /// Answers a lookup in the hidden directory, or of it.
    fn hidden_lookup(&self, req: &Request, parent: NodeId, name: &[u8]) -> Result<Entry> {
        if !self.flusher.is(req.pid()) {
            return Err(Error::NotFound);
        }
        let (attr, generation) = if parent == NodeId::ROOT {
            (hidden::attr(), 0)
        } else {
            let (node, generation) = hidden::parse(name).ok_or(Error::NotFound)?;
            // What had it before is no more.
            (self.changing.ops.lookup_by_number(&caller(req, 0), node, generation)?.attr, generation)
        };
        Ok(Entry { attr, generation, entry_ttl: Duration::ZERO, attr_ttl: Duration::ZERO })
    }

    fn list(
        &self,
        ino: INodeNo,
        fh: FileHandle,
        after: u64,
        plus: bool,
        add: &mut dyn FnMut(&DirEntry) -> bool,
    ) -> Result<()> {
        self.changing.ops.readdir(NodeId(ino.0), Handle(fh.0), after, plus, &mut |e| !add(e))
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let known = self.profile.flags & config.capabilities();
        if known != self.profile.flags {
            log::info!("this kernel does not offer {:?}", self.profile.flags - known);
        }
        // These are refused only for values out of range, and ours are constants.
        let refused = |what: &str| io::Error::other(format!("the FUSE connection refuses {what}"));
        config.add_capabilities(known).map_err(|f| refused(&format!("{f:?}")))?;
        config.set_max_write(self.profile.max_write).map_err(|_| refused("max_write"))?;
        config.set_max_background(BACKGROUND_MAX).map_err(|_| refused("max_background"))?;
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _turn = self.arrived(req, 0);
        let _answer = self.changing.answering.begin();
        let (parent, name) = (NodeId(parent.0), name.as_bytes());
        if parent == hidden::NODE || hidden::is_name(parent, name) {
            return entry(reply, self.hidden_lookup(req, parent, name));
        }
        match self.changing.ops.lookup(&caller(req, 0), parent, name) {
            // Not where names come and go without a request of the kernel's. No snapshot has a name with a dot in front.
            Err(Error::NotFound) if !parent.is_snapdir() || name.starts_with(b".") => nothing(reply),
            result => entry(reply, result),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        if NodeId(ino.0) != hidden::NODE {
            self.changing.ops.forget_answers(NodeId(ino.0), nlookup);
        }
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let _turn = self.arrived(req, 0);
        let _answer = self.changing.answering.begin();
        let node = NodeId(ino.0);
        if node == hidden::NODE {
            return attributes(reply, Ok((hidden::attr(), Duration::ZERO)));
        }
        attributes(reply, self.changing.ops.getattr(node, fh.map(|h| Handle(h.0))));
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _turn = self.arrived(req, 0);
        let set = SetAttr {
            mode: mode.map(|m| m & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(convert::set_time),
            mtime: mtime.map(convert::set_time),
            ctime: ctime.map(convert::time_in),
        };
        let (who, node, handle) = (caller(req, 0), NodeId(ino.0), fh.map(|h| Handle(h.0)));
        let wanted = convert::wanted_of_size(self.changing.ops.as_ref(), node, size);
        self.changing.telling_of(
            node,
            wanted,
            move |ops| ops.setattr_ahead(&who, node, handle, &set),
            move |ops| ops.setattr(&who, node, handle, &set),
            move |done| attributes(reply, done),
        );
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let _turn = self.arrived(req, 0);
        data(reply, self.changing.ops.readlink(NodeId(ino.0)).as_deref().map_err(Clone::clone));
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let _turn = self.arrived(req, 0);
        let (who, parent, name) = (caller(req, umask), NodeId(parent.0), name.as_bytes().to_vec());
        let Some(kind) = convert::kind_of_mode(mode) else { return reply.error(Errno::EINVAL) };
        if hidden::is_name(parent, &name) {
            return reply.error(Errno::EPERM);
        }
        self.changing.telling(
            parent,
            move |ops| ops.mknod(&who, parent, &name, kind, mode & 0o7777, rdev),
            move |done| entry(reply, done),
        );
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let _turn = self.arrived(req, 0);
        let (who, parent, mode) = (caller(req, umask), NodeId(parent.0), mode & 0o7777);
        if hidden::is_name(parent, name.as_bytes()) {
            reply.error(Errno::EPERM);
        } else if parent.is_snapdir() {
            let name = name.as_bytes().to_vec();
            self.changing
                .beside(move |ops| ops.mkdir(&who, parent, &name, mode), move |done| entry(reply, done));
        } else {
            let name = name.as_bytes().to_vec();
            self.changing.telling(
                parent,
                move |ops| ops.mkdir(&who, parent, &name, mode),
                move |done| entry(reply, done),
            );
        }
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.arrived(req, 0);
        let (who, parent, name) = (caller(req, 0), NodeId(parent.0), name.as_bytes().to_vec());
        let work = move |ops: &dyn Operations| ops.unlink(&who, parent, &name);
        self.changing.in_room(parent, RoomFor::Deletion, work, move |done| empty(reply, done));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.arrived(req, 0);
        let (who, parent) = (caller(req, 0), NodeId(parent.0));
        if !parent.is_snapdir() {
            let name = name.as_bytes().to_vec();
            let work = move |ops: &dyn Operations| ops.rmdir(&who, parent, &name);
            self.changing.in_room(parent, RoomFor::Deletion, work, move |done| empty(reply, done));
        } else if let Some(done) = self.changing.ops.rmdir_at_once(&who, parent, name.as_bytes()) {
            empty(reply, done);
        } else {
            let name = name.as_bytes().to_vec();
            self.changing.aside.run(move |ops| empty(reply, ops.rmdir(&who, parent, &name)));
        }
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let _turn = self.arrived(req, 0);
        let (who, parent, name) = (caller(req, 0), NodeId(parent.0), name.as_bytes().to_vec());
        if hidden::is_name(parent, &name) {
            return reply.error(Errno::EPERM);
        }
        let target = target.as_os_str().as_bytes().to_vec();
        self.changing.telling(
            parent,
            move |ops| ops.symlink(&who, parent, &name, &target),
            move |done| entry(reply, done),
        );
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _turn = self.arrived(req, 0);
        let (who, from, to) = (caller(req, 0), NodeId(parent.0), NodeId(newparent.0));
        let (name, new_name) = (name.as_bytes().to_vec(), newname.as_bytes().to_vec());
        if hidden::is_name(to, &new_name) {
            return reply.error(Errno::EPERM);
        }
        let Some(mode) = convert::rename_mode(flags) else {
            return reply.error(Errno::EINVAL);
        };
        let is_of_snapdir = from.is_snapdir() || to.is_snapdir();
        let work = move |ops: &dyn Operations| ops.rename(&who, from, &name, to, &new_name, mode);
        let answer = move |done| empty(reply, done);
        if is_of_snapdir {
            self.changing.beside(work, answer);
        } else {
            self.changing.in_room(from, RoomFor::Change(0), work, answer);
        }
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let _turn = self.arrived(req, 0);
        let (who, node, parent) = (caller(req, 0), NodeId(ino.0), NodeId(newparent.0));
        let name = newname.as_bytes().to_vec();
        if hidden::is_name(parent, &name) {
            return reply.error(Errno::EPERM);
        }
        self.changing.telling(
            node,
            move |ops| ops.link(&who, node, parent, &name),
            move |done| entry(reply, done),
        );
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let _turn = self.arrived(req, 0);
        let answer = self.changing.answering.begin();
        let (who, node, asked) = (caller(req, 0), NodeId(ino.0), self.open_flags(flags.0));
        let caching =
            if asked.read { self.changing.ops.caching(node, asked.no_atime) } else { Caching::Keep };
        let mut wait = match self.changing.ops.open_at_once(&who, node, asked) {
            Ok(Opening::Later(wait)) => wait,
            done => return opened(reply, done.and_then(Opening::at_once), file_open_flags(caching)),
        };
        // What it waits for needs requests answered, and what they are answered with exchanged.
        drop(answer);
        let answering = self.changing.answering.clone();
        self.changing.aside.run(move |ops| {
            loop {
                if let Err(e) = wait() {
                    return opened(reply, Err(e), FopenFlags::empty());
                }
                let _answer = answering.begin();
                match ops.open_at_once(&who, node, asked) {
                    Ok(Opening::Later(again)) => wait = again,
                    done => return opened(reply, done.and_then(Opening::at_once), file_open_flags(caching)),
                }
            }
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let _turn = self.arrived(req, 0);
        let (who, parent, name) = (caller(req, umask), NodeId(parent.0), name.as_bytes().to_vec());
        if hidden::is_name(parent, &name) {
            return reply.error(Errno::EPERM);
        }
        let (mode, flags) = (mode & 0o7777, self.open_flags(flags));
        self.changing.telling(
            parent,
            move |ops| ops.create(&who, parent, &name, mode, flags),
            move |done| created(reply, done),
        );
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _turn = self.arrived(req, size as usize);
        self.may_wait();
        with_pages(size as usize, |out| {
            let read = self.changing.ops.read(NodeId(ino.0), Handle(fh.0), offset, out);
            data(reply, read.map(|len| &out[..len]));
        });
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _turn = self.arrived(req, data.len());
        let kill = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let (node, handle) = (NodeId(ino.0), Handle(fh.0));
        let write = move |ops: &dyn Operations, data: &[u8]| ops.write(node, handle, offset, data, kill);
        self.changing.write(node, data, write, move |done| written(reply, done.map(|n| n as u64))); // at most max_write
    }

    /// The kernel flushes dirty pages on close whatever the answer is; this one makes it stop asking.
    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.changing.ops.release(NodeId(ino.0), Handle(fh.0));
        reply.ok();
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.may_wait();
        let scope = if datasync { SyncScope::Data } else { SyncScope::All };
        let (node, handle) = (NodeId(ino.0), Handle(fh.0));
        let answer = Box::new(move |result| empty(reply, result));
        self.changing.fsync(node, handle, scope, answer);
    }

    fn opendir(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let _turn = self.arrived(req, 0);
        let _answer = self.changing.answering.begin();
        let (who, node, ops) = (caller(req, 0), NodeId(ino.0), &self.changing.ops);
        if convert::is_search_for_name(flags.0) {
            return opened(reply, ops.opendir_to_search(&who, node), FopenFlags::empty());
        }
        let caching = ops.caching(node, convert::open_flags(flags.0).no_atime);
        opened(reply, ops.opendir(&who, node), listing_open_flags(node, caching));
    }

    fn readdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let _turn = self.arrived(req, 0);
        let _answer = self.changing.answering.begin();
        let result = self.list(ino, fh, offset, false, &mut |e| {
            reply.add(INodeNo(e.node.0), e.cookie, convert::kind_out(e.kind), OsStr::from_bytes(&e.name))
        });
        match result {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(errno(&e)),
        }
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let _turn = self.arrived(req, 0);
        let _answer = self.changing.answering.begin();
        let result = self.list(ino, fh, offset, true, &mut |e| {
            let name = OsStr::from_bytes(&e.name);
            match &e.entry {
                Some(found) => reply.add(
                    INodeNo(e.node.0),
                    e.cookie,
                    name,
                    &convert::listing_ttl(found),
                    &convert::attr_out(&found.attr),
                    Generation(found.generation),
                ),
                // `.` and `..`: the kernel takes number and type and looks at nothing else.
                None => {
                    let (ino, bare) = (INodeNo(e.node.0), convert::bare_attr(e.node.0, e.kind));
                    reply.add(ino, e.cookie, name, &Duration::ZERO, &bare, Generation(0))
                }
            }
        });
        match result {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(errno(&e)),
        }
    }

    fn releasedir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.changing.ops.releasedir(NodeId(ino.0), Handle(fh.0));
        reply.ok();
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.may_wait();
        let node = NodeId(ino.0);
        self.changing.make_durable(move |ops| empty(reply, ops.fsyncdir(node)));
    }

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match self.changing.ops.statfs(NodeId(ino.0)) {
            Ok(s) => {
                let unit = u64::from(s.block_size.max(1));
                reply.statfs(
                    s.total_bytes / unit,
                    s.free_bytes / unit,
                    s.available_bytes / unit,
                    s.inodes,
                    s.inodes_free,
                    s.block_size,
                    s.name_max,
                    s.block_size,
                );
            }
            Err(e) => reply.error(errno(&e)),
        }
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let _turn = self.arrived(req, 0);
        let Some(mode) = convert::xattr_mode(flags) else { return reply.error(Errno::EINVAL) };
        let (who, node) = (caller(req, 0), NodeId(ino.0));
        let (name, value) = (name.as_bytes().to_vec(), value.to_vec());
        self.changing.in_room(
            node,
            RoomFor::Change(0),
            move |ops| ops.setxattr(&who, node, &name, &value, mode),
            move |done| empty(reply, done),
        );
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let _turn = self.arrived(req, 0);
        value(reply, size, self.changing.ops.getxattr(NodeId(ino.0), name.as_bytes()));
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        value(reply, size, self.changing.ops.listxattr(NodeId(ino.0)));
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (who, node, name) = (caller(req, 0), NodeId(ino.0), name.as_bytes().to_vec());
        let work = move |ops: &dyn Operations| ops.removexattr(&who, node, &name);
        self.changing.in_room(node, RoomFor::Deletion, work, move |done| empty(reply, done));
    }

    /// The kernel decides (`default_permissions`) and does not ask.
    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn bmap(&self, _req: &Request, _ino: INodeNo, _blocksize: u32, _idx: u64, reply: ReplyBmap) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        command: u32,
        input: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let (node, input) = (NodeId(ino.0), input.to_vec());
        if !ioctl::is_known(command) {
            return reply.error(Errno::ENOTTY);
        }
        // To make a file immutable the kernel's dirty pages are asked for.
        self.changing.aside.run_when_thawed(move |ops| match ioctl::answer(ops, node, command, &input) {
            Ok(output) => reply.ioctl(0, &output),
            Err(e) => reply.error(errno(&e)),
        });
    }

    /// Files are always ready; the kernel stops asking.
    fn poll(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _ph: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some(mode) = convert::allocate_mode(mode) else { return empty(reply, Err(Error::NotSupported)) };
        let (who, node, handle) = (caller(req, 0), NodeId(ino.0), Handle(fh.0));
        // What the file has already it need not get, wherever that is: the least that it takes.
        let has = || self.changing.ops.getattr(node, None).map_or(0, |(attr, _)| attr.blocks * 512);
        let needed = convert::wanted_of(mode, || length.saturating_sub(has()));
        self.changing.in_room(
            node,
            needed,
            move |ops| ops.fallocate(&who, node, handle, offset, length, mode),
            move |done| empty(reply, done),
        );
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let target = match whence {
            fcntl::SEEK_DATA => SeekTarget::Data,
            fcntl::SEEK_HOLE => SeekTarget::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        // Before the start of the file there is nothing to find, as Linux file systems answer it.
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        let (node, handle) = (NodeId(ino.0), Handle(fh.0));
        match self.changing.ops.lseek_at_once(node, handle, offset, target) {
            Some(found) => found_at(reply, found),
            None => {
                self.changing.aside.run(move |ops| found_at(reply, ops.lseek(node, handle, offset, target)))
            }
        }
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let (who, len) = (caller(req, 0), len.min(COPY_BYTES_MAX));
        let (from, from_handle) = (NodeId(ino_in.0), Handle(fh_in.0));
        let (to, to_handle) = (NodeId(ino_out.0), Handle(fh_out.0));
        self.changing.in_room(
            to,
            RoomFor::Change(0),
            move |ops| ops.copy_range(&who, from, from_handle, offset_in, to, to_handle, offset_out, len),
            move |copied| written(reply, copied), // at most COPY_BYTES_MAX
        );
    }
}
