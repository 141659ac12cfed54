//! Requests and the way back: the two traits, and what their methods take and return.

use super::file_type::FileType;
use super::node::NodeId;
use super::open_flags::OpenFlags;
use super::room_for::RoomFor;
use parking_lot::RwLockReadGuard;
use std::sync::Arc;
use std::time::Duration;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Process, 0 when unknown.
    pub pid: u32,
    /// Its file mode creation mask: permission bits that new files do not get, unless their directory has a default
    /// access control list. 0 in requests that create nothing.
    pub umask: u32,
}

/// Seconds and nanoseconds since 1970, seconds may be negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Timestamp {
    /// Since 1970-01-01 UTC.
    pub secs: i64,
    /// 0..=999_999_999.
    pub nanos: u32,
}

/// Attributes of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attr {
    /// Its number.
    pub node: NodeId,
    /// Its type.
    pub kind: FileType,
    /// Permission bits with set-id and sticky, 0o7777 at most.
    pub mode: u32,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node (Linux `makedev` form, 32 bits), else 0.
    pub rdev: u32,
    /// Size in bytes.
    pub size: u64,
    /// Allocated 512-byte units.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of anything.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
}

/// A node found by name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its attributes.
    pub attr: Attr,
    /// Incarnation: changes when the same number comes to mean something else (rollback).
    pub generation: u64,
    /// How long the name may be trusted ([`Duration::MAX`]: until told otherwise).
    pub entry_ttl: Duration,
    /// How long the attributes may be trusted.
    pub attr_ttl: Duration,
}

/// A time in a `setattr`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// The file system's clock.
    Now,
    /// This time.
    At(Timestamp),
}

/// Attributes to change; `None` leaves one alone.
#[derive(Clone, Copy, Default, Debug)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size: truncate or extend.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// Change time (only the kernel's write-back cache sends one).
    pub ctime: Option<Timestamp>,
}

/// An open file or directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Handle(pub u64);

/// What `chattr` sets of a file or directory.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FileFlags {
    /// `i`: neither content, names, attributes nor, in a directory, entries change.
    pub immutable: bool,
    /// `a`: content is only added at the end, entries are only added.
    pub append_only: bool,
    /// `d`: means something to `dump` alone.
    pub no_dump: bool,
    /// `A`: reading leaves no access time.
    pub no_atime: bool,
    /// `S`: every write is durable when it returns.
    pub sync: bool,
}

/// What a transport may do with what it has cached of a node when that is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caching {
    /// It stays valid.
    Keep,
    /// It is valid, but must be read again: the file system wants to see the read.
    Refresh,
    /// Every read comes here.
    Bypass,
}

/// What came of opening a file without waiting.
pub enum Opening {
    /// It is open.
    Done(Handle),
    /// It cannot be opened before this has returned, which is not to be waited for where requests are answered. An error is
    /// the answer; otherwise it is to be opened again.
    Later(Box<dyn FnOnce() -> Result<()> + Send>),
}

impl Opening {
    /// For whoever cannot wait: stale where it would have to.
    pub fn at_once(self) -> Result<Handle> {
        match self {
            Opening::Done(handle) => Ok(handle),
            Opening::Later(_) => Err(Error::Stale),
        }
    }
}

/// One entry of a directory listing.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// Its node.
    pub node: NodeId,
    /// Its type.
    pub kind: FileType,
    /// Its name.
    pub name: Vec<u8>,
    /// Cookie: pass it as `after` to go on behind this entry. Never 0; stable under concurrent change.
    pub cookie: u64,
    /// Attributes, when asked for and when the entry is neither `.` nor `..`.
    pub entry: Option<Entry>,
}

/// What `rename` does with an existing target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// Fails with [`Error::Exists`].
    NoReplace,
    /// Swaps the two.
    Exchange,
    /// Replaces the target and leaves a character device 0:0 where the source was, in one step. A union mount takes
    /// that for "there is nothing here any more".
    Whiteout,
}

/// What `fallocate` does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllocateMode {
    /// Makes sure of space; may extend the file.
    Extend,
    /// Makes sure of space; keeps the size.
    KeepSize,
    /// Makes a hole; keeps the size.
    PunchHole,
    /// Reads as zeros afterwards; may extend the file.
    ZeroRange,
    /// As `ZeroRange`, keeps the size.
    ZeroRangeKeepSize,
}

/// What `setxattr` does with an attribute that exists, or does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XattrMode {
    /// Creates or replaces.
    Set,
    /// Fails with [`Error::Exists`] if it is there.
    Create,
    /// Fails with [`Error::NoAttribute`] if it is not.
    Replace,
}

/// What `lseek` looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeekTarget {
    /// The next data at or after the offset.
    Data,
    /// The next hole at or after the offset; the end of the file counts as one.
    Hole,
}

/// How far `fsync` goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncScope {
    /// Data, and what is needed to read it back.
    Data,
    /// Data and all attributes.
    All,
}

/// Numbers of `statfs`, in bytes and inodes.
#[derive(Clone, Copy, Debug)]
pub struct StatFs {
    /// Size of the file system.
    pub total_bytes: u64,
    /// Not in use.
    pub free_bytes: u64,
    /// Not in use and not in reserve.
    pub available_bytes: u64,
    /// Inode numbers in use plus free ones.
    pub inodes: u64,
    /// Inode numbers that can still be given out.
    pub inodes_free: u64,
    /// Unit of allocation in bytes.
    pub block_size: u32,
    /// Longest name in bytes.
    pub name_max: u32,
}

/// Why a request was refused. Each has one errno, in `fuse`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// No such name (ENOENT).
    NotFound,
    /// The name is taken (EEXIST).
    Exists,
    /// A directory is needed (ENOTDIR).
    NotADirectory,
    /// A directory is not allowed here (EISDIR).
    IsADirectory,
    /// The directory is not empty (ENOTEMPTY).
    NotEmpty,
    /// A name is longer than 255 bytes (ENAMETOOLONG).
    NameTooLong,
    /// An argument makes no sense here (EINVAL).
    Invalid,
    /// The view, or the mount, is read-only (EROFS).
    ReadOnly,
    /// Not allowed, whoever asks (EPERM).
    NotPermitted,
    /// Not allowed to this caller (EACCES).
    AccessDenied,
    /// Across views (EXDEV).
    CrossView,
    /// In use or held (EBUSY).
    Busy,
    /// Too many names (EMLINK).
    TooManyLinks,
    /// Beyond the largest file (EFBIG).
    FileTooBig,
    /// The store is full (ENOSPC).
    NoSpace,
    /// A limit of the store is reached (EDQUOT).
    LimitReached,
    /// No such extended attribute (ENODATA).
    NoAttribute,
    /// The answer is longer than the buffer, or the value longer than the limit (ERANGE).
    TooSmall,
    /// The attribute value or the argument list is too big (E2BIG).
    TooBig,
    /// Not offered for this kind of object (EOPNOTSUPP).
    NotSupported,
    /// No data or hole there (ENXIO).
    NoSuchOffset,
    /// The node or handle is of a view that is gone (ESTALE).
    Stale,
    /// Unknown handle (EBADF).
    BadHandle,
    /// A symbolic link was needed, or must not be (EINVAL for readlink).
    NotASymlink,
    /// Its line is frozen (EBUSY).
    Frozen,
    /// The store failed; the sentence says where (EIO). It has been logged.
    Io(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Error::NotFound => "there is nothing of that name",
            Error::Exists => "something of that name is there already",
            Error::NotADirectory => "it is not a directory",
            Error::IsADirectory => "it is a directory",
            Error::NotEmpty => "the directory is not empty",
            Error::NameTooLong => "the name is too long",
            Error::Invalid => "it makes no sense here",
            Error::ReadOnly => "nothing can be changed there",
            Error::NotPermitted => "nobody may do that",
            Error::AccessDenied => "not allowed",
            Error::CrossView => "it would lead from one line or snapshot to another",
            Error::Busy => "it is in use",
            Error::TooManyLinks => "it has too many names",
            Error::FileTooBig => "the file would be too large",
            Error::NoSpace => "the store is full",
            Error::LimitReached => "a limit of the store is reached",
            Error::NoAttribute => "it has no such attribute",
            Error::TooSmall => "it does not fit what there is room for",
            Error::TooBig => "the value is too large",
            Error::NotSupported => "that cannot be done with it",
            Error::NoSuchOffset => "there is nothing at that offset",
            Error::Stale => "its line was rolled back, replaced or dropped meanwhile",
            Error::BadHandle => "it is not open",
            Error::NotASymlink => "it is not a symbolic link",
            Error::Frozen => "its line is frozen: snapfs status says by whom, snapfs thaw ends that",
            Error::Io(what) => what,
        })
    }
}

impl std::error::Error for Error {}

/// Result of a request.
pub type Result<T> = std::result::Result<T, Error>;

/// Gives the answer to a request whose thread went on.
pub type Answer = Box<dyn FnOnce(Result<()>) + Send>;

/// Held while a request that changes something is answered on a thread that answers others as well.
#[derive(Default)]
pub struct Unhindered<'a>(pub Option<PassingRequest<'a>>, pub Option<RwLockReadGuard<'a, ()>>);

/// Somebody who counts who passes, by ways.
pub trait Turnstile: Sync {
    /// Somebody who went this way is through.
    fn is_through(&self, way: usize);
}

/// Kept by who passes until that is done, on whatever thread.
pub struct PassingRequest<'a> {
    /// Who has counted it, and will again.
    pub turnstile: &'a dyn Turnstile,
    /// Which way it is.
    pub way: usize,
}

impl Drop for PassingRequest<'_> {
    fn drop(&mut self) {
        self.turnstile.is_through(self.way);
    }
}

/// Everything that a transport can ask. Any thread may call any method at any time.
///
/// A request changes all that it says or nothing. Nodes of snapshots answer every change with [`Error::ReadOnly`].
/// Permission bits are enforced by the kernel (`default_permissions`); set-id clearing, link counts and times are here.
pub trait Operations: Send + Sync {
    /// None while whatever changes this node, or an entry in it, waits until something long is done: then it is to be asked for
    /// where no other requests are answered, when [`Self::wait_to_change`] has returned. What is returned otherwise is kept until
    /// it is done. What only reads waits for none of that, nor do `forget`, `release` and `releasedir`; what only makes durable
    /// names no node.
    fn unhindered(&self, _node: Option<NodeId>) -> Option<Unhindered<'_>> {
        Some(Unhindered::default())
    }
    /// Waits until nobody keeps the node from being changed by having frozen it. What is returned is kept until it is changed.
    fn wait_to_change(&self, _node: Option<NodeId>) -> Unhindered<'_> {
        Unhindered::default()
    }
    /// True if room may be to be had for a request that was refused for want of it. At no cost.
    fn can_make_room(&self, _wanted: RoomFor) -> bool {
        false
    }
    /// Makes some, and waits so long for that. True: it is to be made again. Called where none are answered, with nothing held.
    fn make_room(&self, _wanted: RoomFor, _patience: Duration) -> bool {
        false
    }
    /// Finds `name` in the directory `parent`. `.` and `..` are answered too, and `.` for everything that is no directory
    /// as well: so a transport finds a node again of which it knows no more than the number (file handles, NFS).
    fn lookup(&self, caller: &Caller, parent: NodeId, name: &[u8]) -> Result<Entry>;
    /// Finds a node by its number, if it has this generation.
    fn lookup_by_number(&self, caller: &Caller, node: NodeId, generation: u64) -> Result<Entry> {
        let found = self.lookup(caller, node, b".")?;
        if found.generation == generation { Ok(found) } else { Err(Error::NotFound) }
    }
    /// The kernel dropped the node from its cache.
    fn forget(&self, node: NodeId);
    /// The same; so many answers with this node are taken back. While some are not, the kernel knows it.
    fn forget_answers(&self, node: NodeId, _answers: u64) {
        self.forget(node);
    }
    /// Attributes.
    fn getattr(&self, node: NodeId, handle: Option<Handle>) -> Result<(Attr, Duration)>;
    /// Changes attributes; returns them as they are then.
    fn setattr(
        &self,
        caller: &Caller,
        node: NodeId,
        handle: Option<Handle>,
        set: &SetAttr,
    ) -> Result<(Attr, Duration)>;
    /// Target of a symbolic link.
    fn readlink(&self, node: NodeId) -> Result<Vec<u8>>;
    /// Creates a regular file, fifo, socket or device node. `mode` is what was asked for, here and in the other requests
    /// that create: the caller's umask, or the default access control list of `parent`, cuts it.
    fn mknod(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        kind: FileType,
        mode: u32,
        rdev: u32,
    ) -> Result<Entry>;
    /// Creates a directory; in a `.snapshots` directory, a snapshot (takes as long as the flush before it).
    fn mkdir(&self, caller: &Caller, parent: NodeId, name: &[u8], mode: u32) -> Result<Entry>;
    /// Removes a name that is not a directory.
    fn unlink(&self, caller: &Caller, parent: NodeId, name: &[u8]) -> Result<()>;
    /// Removes an empty directory; in `.snapshots`, a snapshot.
    fn rmdir(&self, caller: &Caller, parent: NodeId, name: &[u8]) -> Result<()>;
    /// [`Operations::rmdir`] in a `.snapshots`, on any request thread. None, with nothing done, if it would have to wait
    /// for what needs other requests served, such as a snapshot that is being made.
    fn rmdir_at_once(&self, _caller: &Caller, _parent: NodeId, _name: &[u8]) -> Option<Result<()>> {
        None
    }
    /// Creates a symbolic link.
    fn symlink(&self, caller: &Caller, parent: NodeId, name: &[u8], target: &[u8]) -> Result<Entry>;
    /// Renames; in `.snapshots`, a snapshot.
    fn rename(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        new_parent: NodeId,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<()>;
    /// Adds a name.
    fn link(&self, caller: &Caller, node: NodeId, new_parent: NodeId, new_name: &[u8]) -> Result<Entry>;
    /// What may be kept of a file or directory that is about to be opened and read.
    fn caching(&self, _node: NodeId, _no_atime: bool) -> Caching {
        Caching::Keep
    }
    /// Opens a file. May wait until what is being exchanged in it is told to the kernel, for which requests are answered.
    fn open(&self, caller: &Caller, node: NodeId, flags: OpenFlags) -> Result<Handle>;
    /// The same without waiting.
    fn open_at_once(&self, caller: &Caller, node: NodeId, flags: OpenFlags) -> Result<Opening> {
        self.open(caller, node, flags).map(Opening::Done)
    }
    /// Creates and opens a regular file.
    fn create(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, Handle)>;
    /// Fills `out` from `offset` on and tells how much of it; less than all only at the end of the file. Whole blocks into
    /// whole pages of memory cost least.
    fn read(&self, node: NodeId, handle: Handle, offset: u64, out: &mut [u8]) -> Result<usize>;
    /// Writes all of `data`. `kill_set_id` asks to clear set-user-id and set-group-id bits and `security.capability`.
    fn write(
        &self,
        node: NodeId,
        handle: Handle,
        offset: u64,
        data: &[u8],
        kill_set_id: bool,
    ) -> Result<usize>;
    /// Closes.
    fn release(&self, node: NodeId, handle: Handle);
    /// Makes a file durable.
    fn fsync(&self, node: NodeId, handle: Handle, scope: SyncScope) -> Result<()>;
    /// The same for a caller that need not wait: `answer` is called when it is done, perhaps by another thread.
    fn fsync_then(&self, node: NodeId, handle: Handle, scope: SyncScope, answer: Answer) {
        answer(self.fsync(node, handle, scope));
    }
    /// Opens a directory.
    fn opendir(&self, caller: &Caller, node: NodeId) -> Result<Handle>;
    /// The same to find the name of what is in it: what is found by name only is listed too.
    fn opendir_to_search(&self, caller: &Caller, node: NodeId) -> Result<Handle> {
        self.opendir(caller, node)
    }
    /// Entries behind cookie `after` (0: from the start, `.` and `..` first), in cookie order, until `sink` returns
    /// false (that entry was not taken). With `plus` each entry has attributes.
    fn readdir(
        &self,
        node: NodeId,
        handle: Handle,
        after: u64,
        plus: bool,
        sink: &mut dyn FnMut(&DirEntry) -> bool,
    ) -> Result<()>;
    /// Closes a directory.
    fn releasedir(&self, node: NodeId, handle: Handle);
    /// Makes a directory durable.
    fn fsyncdir(&self, node: NodeId) -> Result<()>;
    /// Space and limits.
    fn statfs(&self, node: NodeId) -> Result<StatFs>;
    /// Sets an extended attribute.
    fn setxattr(
        &self,
        caller: &Caller,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()>;
    /// Value of an extended attribute.
    fn getxattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>>;
    /// Names of the extended attributes, each ended by a zero byte.
    fn listxattr(&self, node: NodeId) -> Result<Vec<u8>>;
    /// Removes an extended attribute.
    fn removexattr(&self, caller: &Caller, node: NodeId, name: &[u8]) -> Result<()>;
    /// What `chattr` has set.
    fn file_flags(&self, _node: NodeId) -> Result<FileFlags> {
        Err(Error::NotSupported)
    }
    /// Sets it. Who may is the transport's question. Making a file immutable takes as long as the flush before it.
    fn set_file_flags(&self, _node: NodeId, _flags: FileFlags) -> Result<()> {
        Err(Error::NotSupported)
    }
    /// Space for a range, or holes, or zeros.
    fn fallocate(
        &self,
        caller: &Caller,
        node: NodeId,
        handle: Handle,
        offset: u64,
        len: u64,
        mode: AllocateMode,
    ) -> Result<()>;
    /// Finds data or a hole. Where the kernel may hold content that no `write` has brought it waits for `write` calls, so
    /// other requests must be served meanwhile.
    fn lseek(&self, node: NodeId, handle: Handle, offset: u64, target: SeekTarget) -> Result<u64>;
    /// [`Operations::lseek`], on any request thread. None, with nothing done, if it would have to wait.
    fn lseek_at_once(
        &self,
        node: NodeId,
        handle: Handle,
        offset: u64,
        target: SeekTarget,
    ) -> Option<Result<u64>> {
        Some(self.lseek(node, handle, offset, target))
    }
    /// Copies a range, sharing blocks where it can; returns the bytes copied (fewer only at the end of the source).
    #[allow(clippy::too_many_arguments)]
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
    ) -> Result<u64>;
}

/// The way back: what the file system asks of the kernel through the transport.
pub trait Kernel: Send + Sync {
    /// Writes back the dirty pages that the kernel holds of these live nodes (node, generation) and waits until the resulting `write`
    /// calls have returned. Must not be called from the only free request thread, nor under a lock that `write`, `open`, `lookup`,
    /// `release` or `getattr` need. An error names the first node that failed.
    fn write_back(&self, nodes: &[(NodeId, u64)]) -> std::io::Result<()>;
    /// No more than so many bytes would be written back of all nodes together: a bound, at little cost.
    fn dirty_bytes_at_most(&self) -> u64 {
        0
    }
    /// Has the pages that the kernel holds of a live node written, and dropped, before it returns. For a request that holds the kernel's
    /// lock of the node: it opens and closes nothing. Never on the only free request thread. Whoever syncs the file is told of errors.
    fn drain(&self, _node: NodeId) {}
    /// True if `release` may come later than whoever closed a file goes on.
    fn closes_late(&self) -> bool {
        false
    }
    /// True if the process that asks is in the group, or has the right to ignore that (CAP_FSETID).
    fn is_member(&self, caller: &Caller, gid: u32) -> bool {
        caller.uid == 0 || caller.gid == gid
    }
    /// Drops cached attributes of a live node before it returns. Waits for nothing that a request holds, so a request may
    /// call it while it is being answered.
    fn forget_attributes(&self, _node: NodeId) {}
    /// Drops cached attributes and pages of a node.
    fn invalidate_node(&self, node: NodeId);
    /// The same before it returns: it waits for reads and writes of the node that are under way, so the caller must hold
    /// nothing that these need. False if the node was not known.
    fn invalidate_now(&self, _node: NodeId) -> bool {
        false
    }
    /// Drops a cached name, positive or negative.
    fn invalidate_entry(&self, parent: NodeId, name: &[u8]);
    /// Detaches what is mounted below a snapshot or clone that is deleted: by its path in the mount, with the node of its
    /// root.
    fn detach_below(&self, _root: NodeId, _path: &[u8]) {}
    /// True if a directory at this path from the root of the main line, or one below it, is mounted at a place of its own.
    fn is_mounted(&self, _path: &[u8]) -> bool {
        false
    }
    /// Drops cached names before it returns. The kernel locks each directory for that, so the caller must hold no lock that
    /// a request in one of them needs, and must not be a request in one of them itself.
    fn drop_names(&self, names: Vec<(NodeId, Vec<u8>)>) {
        names.iter().for_each(|(parent, name)| self.invalidate_entry(*parent, name));
    }
    /// While this says true no names are dropped or doubted but those that are asked for: others may lead to what is mounted out
    /// of sight. Called once, before anything else.
    fn heed_covers(&self, _are_there: Box<dyn Fn() -> bool + Send + Sync>) {}
    /// Has the kernel ask once more before it goes by any name of the whole mount, also one that it knows as free. Waits for
    /// nothing. What is mounted below a name is detached when that is asked for. False, with nothing done, where a kernel
    /// does not know how.
    fn doubt_all_names(&self) -> bool {
        false
    }
    /// Has the kernel ask once more before it goes by these names, which may stay as they are: nothing is taken out of its
    /// place before. The same holds as for [`Kernel::drop_names`].
    fn doubt_names(&self, _names: &[(NodeId, Vec<u8>)]) {}
    /// Has the kernel look a path of the mount up, so that a directory whose name was dropped is in its place again for those
    /// who stand in it. Best effort. Must not be called where a lookup would wait for the caller.
    fn look_up(&self, _path: &[u8]) {}
    /// Does `work` when all requests that name nodes, or tell of their attributes, and have begun before are answered; those
    /// that come wait until it is done, reads and writes of content do not. It must ask the kernel for nothing that those
    /// requests are needed for. Whoever calls this holds nothing that a request waits for.
    fn between_answers(&self, work: &mut dyn FnMut()) {
        work();
    }
    /// Waits until the kernel has taken in whatever it was answered before about names in these directories: an answer that is
    /// written is not read yet. The same holds as for [`Kernel::drop_names`].
    fn take_in(&self, _dirs: &[NodeId]) {}
    /// Where other file systems are mounted below a path of the mount, and not on its root, as far as the daemon sees.
    fn mounts_below(&self, _path: &[u8]) -> std::io::Result<Vec<MountBelow>> {
        Ok(Vec::new())
    }
}

/// Another file system that is mounted in this one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MountBelow {
    /// Where, as the daemon sees it.
    pub point: std::path::PathBuf,
    /// The way to it from the path that was asked about.
    pub way: Vec<u8>,
}

/// A transport that keeps no cache: for tests and tools without a mount.
pub struct NoKernel;

impl Kernel for NoKernel {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        Ok(())
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
}

/// A shared kernel handle.
pub type KernelRef = Arc<dyn Kernel>;
