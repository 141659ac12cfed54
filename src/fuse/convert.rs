//! Between the types of the protocol crate and ours. Pure: no request is made here.
//!
//! Invariant: what goes to the kernel and comes back is the same (times before 1970, modes, device numbers).

use crate::ops::{
    AllocateMode, Attr, Caller, Entry, FileType, NodeId, OpenFlags, Operations, RenameMode, RoomFor, SetTime,
    Timestamp, XattrMode,
};
use crate::sys::mount::fcntl;
use fuser::{FileAttr, INodeNo, RenameFlags, Request, TimeOrNow};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// "Until told otherwise": far beyond any uptime and far below where the kernel's clock arithmetic saturates.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A time to live that the kernel accepts.
pub(super) fn ttl(wanted: Duration) -> Duration {
    wanted.min(FOR_EVER)
}

pub(super) fn caller(req: &Request, umask: u32) -> Caller {
    Caller { uid: req.uid(), gid: req.gid(), pid: req.pid(), umask }
}

pub(super) fn kind_out(kind: FileType) -> fuser::FileType {
    match kind {
        FileType::Regular => fuser::FileType::RegularFile,
        FileType::Directory => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
        FileType::CharDevice => fuser::FileType::CharDevice,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
    }
}

/// The type bits of `mknod`; `None` for what cannot be made that way.
pub(super) fn kind_of_mode(mode: u32) -> Option<FileType> {
    match mode & fcntl::S_IFMT {
        0 | fcntl::S_IFREG => Some(FileType::Regular),
        fcntl::S_IFIFO => Some(FileType::Fifo),
        fcntl::S_IFSOCK => Some(FileType::Socket),
        fcntl::S_IFCHR => Some(FileType::CharDevice),
        fcntl::S_IFBLK => Some(FileType::BlockDevice),
        _ => None,
    }
}

/// Saturates where `SystemTime` cannot go.
fn time_out(t: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(t.secs.unsigned_abs());
    let base = if t.secs >= 0 { UNIX_EPOCH.checked_add(whole) } else { UNIX_EPOCH.checked_sub(whole) };
    base.and_then(|b| b.checked_add(Duration::new(0, t.nanos))).unwrap_or(UNIX_EPOCH)
}

/// Undoes what fuser 0.18.0 does to times before 1970: it subtracts the nanoseconds instead of adding them, so the
/// distance to the epoch holds the two numbers of the request as they were.
pub(super) fn time_in(t: SystemTime) -> Timestamp {
    match t.duration_since(UNIX_EPOCH) {
        Ok(d) => Timestamp { secs: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), nanos: d.subsec_nanos() },
        Err(e) => {
            let d = e.duration();
            let secs = i64::try_from(d.as_secs()).map_or(i64::MIN, |s| -s);
            Timestamp { secs, nanos: d.subsec_nanos() }
        }
    }
}

pub(super) fn set_time(t: TimeOrNow) -> SetTime {
    match t {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(t) => SetTime::At(time_in(t)),
    }
}

pub(super) fn attr_out(a: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(a.node.0),
        size: a.size,
        blocks: a.blocks,
        atime: time_out(a.atime),
        mtime: time_out(a.mtime),
        ctime: time_out(a.ctime),
        crtime: time_out(a.btime),
        kind: kind_out(a.kind),
        perm: (a.mode & 0o7777) as u16,
        nlink: a.nlink,
        uid: a.uid,
        gid: a.gid,
        rdev: a.rdev,
        blksize: 4096,
        flags: 0,
    }
}

/// Attributes of nothing but a number and a type: of `.` and `..` in a listing, and (0) of a name that is not there.
pub(super) fn bare_attr(node: u64, kind: FileType) -> FileAttr {
    FileAttr {
        ino: INodeNo(node),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: kind_out(kind),
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// A listing has one time to live for both: the shorter.
pub(super) fn listing_ttl(e: &Entry) -> Duration {
    ttl(e.entry_ttl.min(e.attr_ttl))
}

pub(super) fn open_flags(flags: i32) -> OpenFlags {
    let access = flags & fcntl::O_ACCMODE;
    OpenFlags {
        read: access != fcntl::O_WRONLY,
        write: access == fcntl::O_WRONLY || access == fcntl::O_RDWR,
        append: flags & fcntl::O_APPEND != 0,
        at_end: flags & fcntl::O_APPEND != 0,
        truncate: flags & fcntl::O_TRUNC != 0,
        exclusive: flags & fcntl::O_EXCL != 0,
        sync: flags & (fcntl::O_SYNC | fcntl::O_DSYNC) != 0,
        no_atime: flags & fcntl::O_NOATIME != 0,
        unlisted: false,
    }
}

/// True if the kernel itself opens a directory, to find the name of what it was asked for by a file handle (fs/exportfs),
/// or to ask for flags, which reads no names: all system calls of a 64-bit kernel add O_LARGEFILE, and so does its NFS
/// server for its clients.
pub(super) fn is_search_for_name(flags: i32) -> bool {
    cfg!(target_pointer_width = "64") && flags == fcntl::O_RDONLY
}

/// `None` for combinations.
pub(super) fn rename_mode(flags: RenameFlags) -> Option<RenameMode> {
    if flags.is_empty() {
        Some(RenameMode::Replace)
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Some(RenameMode::NoReplace)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Some(RenameMode::Exchange)
    } else if flags == RenameFlags::RENAME_WHITEOUT {
        Some(RenameMode::Whiteout)
    } else {
        None
    }
}

/// What new attributes want: a file that gets shorter gives space back, one that grows is written to.
pub(super) fn wanted_of_size(ops: &dyn Operations, node: NodeId, size: Option<u64>) -> RoomFor {
    let shrinks = |size| ops.getattr(node, None).is_ok_and(|(attr, _)| size <= attr.size);
    if size.is_some_and(shrinks) { RoomFor::Deletion } else { RoomFor::Change(0) }
}

/// What an allocation wants of which so many bytes are missing.
pub(super) fn wanted_of(mode: AllocateMode, missing: impl FnOnce() -> u64) -> RoomFor {
    if mode == AllocateMode::PunchHole { RoomFor::Deletion } else { RoomFor::Change(missing()) }
}

/// `None` for modes that are not offered.
pub(super) fn allocate_mode(mode: i32) -> Option<AllocateMode> {
    const KEEP: i32 = fcntl::FALLOC_FL_KEEP_SIZE;
    const PUNCH: i32 = fcntl::FALLOC_FL_PUNCH_HOLE | KEEP;
    const ZERO: i32 = fcntl::FALLOC_FL_ZERO_RANGE;
    const ZERO_KEEP: i32 = ZERO | KEEP;
    match mode {
        0 => Some(AllocateMode::Extend),
        KEEP => Some(AllocateMode::KeepSize),
        PUNCH => Some(AllocateMode::PunchHole),
        ZERO => Some(AllocateMode::ZeroRange),
        ZERO_KEEP => Some(AllocateMode::ZeroRangeKeepSize),
        _ => None,
    }
}

pub(super) fn xattr_mode(flags: i32) -> Option<XattrMode> {
    match flags {
        0 => Some(XattrMode::Set),
        fcntl::XATTR_CREATE => Some(XattrMode::Create),
        fcntl::XATTR_REPLACE => Some(XattrMode::Replace),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{files_of, put};
    use crate::volume::Volume;

    #[test]
    fn a_file_that_grows_wants_what_a_write_wants() {
        let fs = files_of(Volume::memory(64 << 20));
        let file = put(&fs, NodeId::ROOT, "a", &[1; 10_000]);
        let wanted = |size| wanted_of_size(&*fs, file, size);
        assert_eq!([9_999, 10_000, 0].map(|size| wanted(Some(size))), [RoomFor::Deletion; 3]);
        assert_eq!([Some(10_001), Some(1 << 40), None].map(wanted), [RoomFor::Change(0); 3]);
    }

    #[test]
    fn times_before_1970_survive() {
        // What fuser makes of (-2 s, +800 ms) on the way in.
        let garbled = UNIX_EPOCH - Duration::new(2, 800_000_000);
        assert_eq!(time_in(garbled), Timestamp { secs: -2, nanos: 800_000_000 });
        // And what we hand out for it: 1.2 s before the epoch.
        let out = time_out(Timestamp { secs: -2, nanos: 800_000_000 });
        assert_eq!(out, UNIX_EPOCH - Duration::new(1, 200_000_000));
    }

    #[test]
    fn open_flags_are_told_apart() {
        assert!(open_flags(fcntl::O_RDONLY).read && !open_flags(fcntl::O_RDONLY).write);
        assert!(!open_flags(fcntl::O_WRONLY).read && open_flags(fcntl::O_WRONLY).write);
        let both = open_flags(fcntl::O_RDWR | fcntl::O_APPEND | fcntl::O_DSYNC);
        assert!(both.read && both.write && both.append && both.sync && !both.truncate);
    }

    #[test]
    fn unknown_modes_are_refused() {
        assert_eq!(allocate_mode(0x08), None); // collapse
        assert_eq!(allocate_mode(fcntl::FALLOC_FL_PUNCH_HOLE), None); // without keep-size
        assert_eq!(rename_mode(RenameFlags::RENAME_WHITEOUT | RenameFlags::RENAME_EXCHANGE), None);
        assert_eq!(xattr_mode(3), None);
    }

    #[test]
    fn for_ever_fits() {
        assert_eq!(ttl(Duration::MAX), FOR_EVER);
        assert_eq!(ttl(Duration::ZERO), Duration::ZERO);
    }
}
