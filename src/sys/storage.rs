//! Calls on files, block devices and their host file system, for the device layer.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::os::unix::ffi::OsStringExt;

/// What [`fallocate`] does with the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallocate {
    /// Allocates it and lengthens the file if it ends later.
    Extend,
    /// Allocates it and leaves the length of the file alone.
    KeepSize,
    /// Gives its space back; the length of the file stays and the range reads as zeros.
    PunchHole,
}

/// How [`flock`] shares the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flock {
    /// With other shared holders.
    Shared,
    /// With nobody.
    Exclusive,
}

/// Space of a mounted file system, as [`fstatvfs`] reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSpace {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that an unprivileged process may still allocate.
    pub available_bytes: u64,
}

/// Open flag that claims a block device against mounts and other claimants.
pub const O_EXCL: i32 = libc::O_EXCL;

/// Whether the host says that it does not know the call, as opposed to failing it.
#[must_use]
pub fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
}

/// Whether the process, or the host, has no file descriptor left.
#[must_use]
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Whether the host says that it keeps no locks of this kind, as opposed to refusing one.
#[must_use]
pub fn has_no_locks(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOLCK | libc::EINVAL))
}

/// `BLKGETSIZE64` of linux/fs.h: `_IOR(0x12, 114, size_t)`; absent from the libc crate.
const BLKGETSIZE64: u64 = 0x1272 | (2 << 30) | ((size_of::<usize>() as u64) << 16);
/// `BLKDISCARD` of linux/fs.h: `_IO(0x12, 119)`.
const BLKDISCARD: u64 = 0x1277;
/// `FS_NOCOW_FL` of linux/fs.h: do not copy on write (btrfs).
const FS_NOCOW_FL: libc::c_long = 0x0080_0000;

/// Allocates or frees a range of a file. Restarted when a signal interrupts it.
///
/// # Errors
/// The host's, among them `EOPNOTSUPP` where the file system cannot do it, and `EINVAL` for a range past 2^63.
pub fn fallocate(fd: BorrowedFd<'_>, mode: Fallocate, offset: u64, len: u64) -> io::Result<()> {
    let out_of_range = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let offset = libc::off64_t::try_from(offset).map_err(out_of_range)?;
    let len = libc::off64_t::try_from(len).map_err(out_of_range)?;
    let mode = match mode {
        Fallocate::Extend => 0,
        Fallocate::KeepSize => libc::FALLOC_FL_KEEP_SIZE,
        Fallocate::PunchHole => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
    };
    loop {
        // SAFETY: the descriptor is open for the call (borrowed); the other arguments are plain numbers.
        if unsafe { libc::fallocate64(fd.as_raw_fd(), mode, offset, len) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// What will become of a range of a file.
#[derive(Clone, Copy, Debug)]
pub enum Advice {
    /// Nobody reads it soon: the host drops it from its cache. What has not been written back is, soon.
    DontNeed,
    /// Somebody reads it soon: the host begins to.
    WillNeed,
}

/// Advises the host. Nothing depends on it, so it does not fail.
pub fn advise(fd: BorrowedFd<'_>, offset: u64, len: u64, advice: Advice) {
    let advice = match advice {
        Advice::DontNeed => libc::POSIX_FADV_DONTNEED,
        Advice::WillNeed => libc::POSIX_FADV_WILLNEED,
    };
    if let (Ok(offset), Ok(len)) = (libc::off64_t::try_from(offset), libc::off64_t::try_from(len)) {
        // SAFETY: the descriptor is open for the call (borrowed); the other arguments are plain numbers.
        let _ = unsafe { libc::posix_fadvise64(fd.as_raw_fd(), offset, len, advice) };
    }
}

/// The next run of bytes (start, end) at or after `offset` that is no hole; none if there is no such. A file system that
/// knows no holes calls all of the file data.
///
/// # Errors
/// The host's, and `EINVAL` for an offset past 2^63.
pub fn next_data(fd: BorrowedFd<'_>, offset: u64) -> io::Result<Option<(u64, u64)>> {
    let seek = |from: libc::off64_t, whence| {
        // SAFETY: the descriptor is open for the call; the other arguments are plain numbers.
        let at = unsafe { libc::lseek64(fd.as_raw_fd(), from, whence) };
        if at < 0 { Err(io::Error::last_os_error()) } else { Ok(at) }
    };
    let from = libc::off64_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let start = match seek(from, libc::SEEK_DATA) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
        start => start?,
    };
    let end = seek(start, libc::SEEK_HOLE)?;
    Ok(Some((start as u64, end as u64)))
}

/// Size of an open block device in bytes.
///
/// # Errors
/// The host's: `ENOTTY` for anything but a block device.
pub fn blkgetsize64(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut size: u64 = 0;
    // SAFETY: the descriptor is open for the call; the kernel writes at most 8 bytes to `size`, which outlives it.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), BLKGETSIZE64 as libc::Ioctl, &raw mut size) };
    if rc == 0 { Ok(size) } else { Err(io::Error::last_os_error()) }
}

/// Tells a block device that the content of the range is no longer needed.
///
/// # Errors
/// The host's: `EOPNOTSUPP` for a device that cannot discard.
pub fn blkdiscard(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let range: [u64; 2] = [offset, len];
    // SAFETY: the descriptor is open for the call; the kernel reads 16 bytes from `range`, which outlives it.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), BLKDISCARD as libc::Ioctl, range.as_ptr()) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Space of the file system that holds an open file or directory.
///
/// # Errors
/// The host's.
pub fn fstatvfs(fd: BorrowedFd<'_>) -> io::Result<HostSpace> {
    // SAFETY: `statvfs64` consists of integers alone, for which all zeros is a value.
    let mut host: libc::statvfs64 = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open for the call, and `host` a writable structure of the right type that outlives it.
    if unsafe { libc::fstatvfs64(fd.as_raw_fd(), &raw mut host) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let unit = host.f_frsize as u64;
    Ok(HostSpace {
        total_bytes: unit.saturating_mul(host.f_blocks),
        available_bytes: unit.saturating_mul(host.f_bavail),
    })
}

/// Asks the host not to copy this file on write (btrfs). Takes effect on empty files only.
///
/// # Errors
/// The host's: most file systems do not know the flag.
pub fn set_nocow(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut flags: libc::c_long = 0;
    // SAFETY: the descriptor is open for the call; the kernel writes at most a long to `flags`, which outlives it.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::FS_IOC_GETFLAGS as libc::Ioctl, &raw mut flags) } != 0 {
        return Err(io::Error::last_os_error());
    }
    flags |= FS_NOCOW_FL;
    // SAFETY: as above; the kernel reads at most a long from `flags`.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::FS_IOC_SETFLAGS as libc::Ioctl, &raw const flags) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Takes the advisory lock of an open file without waiting. It is released when the last copy of the descriptor closes.
///
/// # Errors
/// `WouldBlock` when somebody else holds it; else the host's.
pub fn flock(fd: BorrowedFd<'_>, how: Flock) -> io::Result<()> {
    let operation = match how {
        Flock::Shared => libc::LOCK_SH,
        Flock::Exclusive => libc::LOCK_EX,
    };
    // SAFETY: the descriptor is open for the call; the other argument is a plain number.
    let rc = unsafe { libc::flock(fd.as_raw_fd(), operation | libc::LOCK_NB) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes an open-file-description lock on a range of an open file without waiting; length 0: to its end, wherever that
/// comes to be. An exclusive one needs a file open for writing. It is released when the last copy of the descriptor
/// closes.
///
/// # Errors
/// `WouldBlock` when somebody else holds a part of it; else the host's.
pub fn lock_range(fd: BorrowedFd<'_>, how: Flock, start: u64, len: u64) -> io::Result<()> {
    let out_of_range = |_| io::Error::from_raw_os_error(libc::EINVAL);
    // SAFETY: `flock` consists of integers alone, for which all zeros is a value.
    let mut lock: libc::flock64 = unsafe { std::mem::zeroed() };
    lock.l_type = match how {
        Flock::Shared => libc::F_RDLCK as libc::c_short,
        Flock::Exclusive => libc::F_WRLCK as libc::c_short,
    };
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = libc::off64_t::try_from(start).map_err(out_of_range)?;
    lock.l_len = libc::off64_t::try_from(len).map_err(out_of_range)?;
    // SAFETY: the descriptor is open for the call; the kernel reads `lock`, which is of the right type and outlives it.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    let held = matches!(error.raw_os_error(), Some(libc::EACCES | libc::EAGAIN));
    Err(if held { io::ErrorKind::WouldBlock.into() } else { error })
}

/// The numbers by which sysfs and `mountinfo` know a device: of its `st_rdev`, or the `st_dev` of its files.
#[must_use]
pub fn device_numbers(rdev: u64) -> (u32, u32) {
    (libc::major(rdev), libc::minor(rdev))
}

/// What a loop device shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopTarget {
    /// `st_dev` of the file below it.
    pub device: u64,
    /// Its inode number.
    pub inode: u64,
    /// Where in it the device begins, in bytes.
    pub offset: u64,
}

/// `LOOP_GET_STATUS64` of linux/loop.h.
const LOOP_GET_STATUS64: u64 = 0x4C05;
/// Bytes of `struct loop_info64`: it begins with `lo_device`, `lo_inode`, `lo_rdevice` and `lo_offset`.
const LOOP_INFO64_BYTES: usize = 232;

/// What an open loop device, or a partition of one, shows.
///
/// # Errors
/// The host's: `ENXIO` for one that shows nothing, `ENOTTY` for a device that is no loop device.
pub fn loop_target(fd: BorrowedFd<'_>) -> io::Result<LoopTarget> {
    let mut info = [0_u64; LOOP_INFO64_BYTES / 8];
    // SAFETY: the descriptor is open for the call; the kernel writes at most 232 bytes to `info`, which outlives it.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), LOOP_GET_STATUS64 as libc::Ioctl, info.as_mut_ptr()) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(LoopTarget { device: info[0], inode: info[1], offset: info[3] })
}

/// How [`open_in`] opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenAs {
    /// For reading.
    Read,
    /// For reading and writing.
    Write,
    /// For reading and writing; made if it is missing.
    Make,
    /// A directory, to reach what is in it.
    Directory,
}

/// Opens `name` in an open directory, wherever that is by now. A symbolic link is followed.
///
/// # Errors
/// The host's.
pub fn open_in(dir: BorrowedFd<'_>, name: &str, how: OpenAs) -> io::Result<File> {
    let name = CString::new(name)?;
    let flags = match how {
        OpenAs::Read => libc::O_RDONLY,
        OpenAs::Write => libc::O_RDWR,
        OpenAs::Make => libc::O_RDWR | libc::O_CREAT,
        OpenAs::Directory => libc::O_RDONLY | libc::O_DIRECTORY,
    };
    let mode: libc::c_uint = 0o666;
    loop {
        // SAFETY: the directory is open for the call and `name` ends with NUL.
        let fd = unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC, mode) };
        if fd >= 0 {
            // SAFETY: the descriptor is new and nobody else's.
            return Ok(unsafe { File::from_raw_fd(fd) });
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// Number of the device that the file is on.
    pub device: u64,
    /// Its inode number there.
    pub inode: u64,
    /// The name is that of a symbolic link, which was followed.
    pub is_link: bool,
    /// Its length in bytes.
    pub len: u64,
}

/// The file that has `name` in an open directory. Needs no descriptor.
///
/// # Errors
/// The host's.
pub fn id_in(dir: BorrowedFd<'_>, name: &str) -> io::Result<Named> {
    let name = CString::new(name)?;
    let look = |flags| {
        // SAFETY: `stat64` consists of integers alone, for which all zeros is a value.
        let mut stat: libc::stat64 = unsafe { std::mem::zeroed() };
        // SAFETY: the directory is open for the call, `name` ends with NUL, and `stat` is of the right type.
        let rc = unsafe { libc::fstatat64(dir.as_raw_fd(), name.as_ptr(), &raw mut stat, flags) };
        if rc == 0 { Ok(stat) } else { Err(io::Error::last_os_error()) }
    };
    let mut stat = look(libc::AT_SYMLINK_NOFOLLOW)?;
    let is_link = stat.st_mode & libc::S_IFMT == libc::S_IFLNK;
    if is_link {
        stat = look(0)?;
    }
    let len = u64::try_from(stat.st_size).unwrap_or(0);
    Ok(Named { device: stat.st_dev, inode: stat.st_ino, is_link, len })
}

/// Removes the file `name` from an open directory.
///
/// # Errors
/// The host's.
pub fn remove_in(dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: the directory is open for the call and `name` ends with NUL.
    let rc = unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Names in an open directory but `.` and `..`, in no order.
///
/// # Errors
/// The host's.
pub fn names_in(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    // A new description: that of `dir` has a position, which others may be moving.
    let fd = open_in(dir, ".", OpenAs::Directory)?.into_raw_fd();
    // SAFETY: the descriptor is open, and the stream's from here on.
    let stream = unsafe { libc::fdopendir(fd) };
    if stream.is_null() {
        let error = io::Error::last_os_error();
        // SAFETY: the stream did not take it.
        unsafe { libc::close(fd) };
        return Err(error);
    }
    let mut names = Vec::new();
    let end = loop {
        // SAFETY: the thread's own error number.
        unsafe { *libc::__errno_location() = 0 };
        // SAFETY: the stream is open, and this thread's alone.
        let entry = unsafe { libc::readdir64(stream) };
        if entry.is_null() {
            break io::Error::last_os_error();
        }
        // SAFETY: a name of an entry ends with NUL, and is the stream's until the next call.
        let name = unsafe { CStr::from_ptr((*entry).d_name.as_ptr()) }.to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    };
    // SAFETY: the stream is open, and not used again.
    unsafe { libc::closedir(stream) };
    if end.raw_os_error() == Some(0) { Ok(names) } else { Err(end) }
}
