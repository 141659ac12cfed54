//! Mounting, unmounting, and reaching files of a mount by handle.
//!
//! Thin wrappers; the policy (which flags, which fallback) is in `fuse`.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Mount flags, by the names of `mount(2)`.
pub mod flags {
    pub use libc::{
        MS_BIND, MS_DIRSYNC, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC, MS_NOSUID, MS_RDONLY,
        MS_RELATIME, MS_REMOUNT, MS_STRICTATIME, MS_SYNCHRONOUS,
    };
}

/// Open flags and other request constants, by their C names.
pub mod fcntl {
    pub use libc::{
        FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE, O_ACCMODE, O_APPEND, O_DIRECT,
        O_DIRECTORY, O_DSYNC, O_EXCL, O_NOATIME, O_NOFOLLOW, O_NONBLOCK, O_PATH, O_RDONLY, O_RDWR, O_SYNC,
        O_TRUNC, O_WRONLY, S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK, SEEK_DATA, SEEK_HOLE,
        XATTR_CREATE, XATTR_REPLACE,
    };
}

/// Error numbers that callers tell apart.
pub mod errno {
    pub use libc::{
        EACCES, EBUSY, ECONNABORTED, EINVAL, EMFILE, ENFILE, ENOENT, ENOSYS, ENOTCONN, EOPNOTSUPP, EPERM,
        ESTALE,
    };
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path has a zero byte in it"))
}

fn c_text(text: &str) -> io::Result<CString> {
    CString::new(text)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a mount option has a zero byte in it"))
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `mount(2)`.
pub fn mount(source: &OsStr, target: &Path, fstype: &str, flags: u64, data: &str) -> io::Result<()> {
    let (source, target) = (c_path(Path::new(source))?, c_path(target)?);
    let (fstype, data) = (c_text(fstype)?, c_text(data)?);
    // SAFETY: all pointers are to C strings that outlive the call.
    check(unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), fstype.as_ptr(), flags, data.as_ptr().cast())
    })?;
    Ok(())
}

/// `umount2(2)` without following a symbolic link; `lazy` detaches a busy mount.
pub fn umount(target: &Path, lazy: bool) -> io::Result<()> {
    let target = c_path(target)?;
    let flags = libc::UMOUNT_NOFOLLOW | if lazy { libc::MNT_DETACH } else { 0 };
    // SAFETY: a C string that outlives the call.
    check(unsafe { libc::umount2(target.as_ptr(), flags) })?;
    Ok(())
}

/// Detaches the mount that `root` (opened with `O_PATH`) is the root of, and no other that was made at its place since.
pub fn detach_exactly(root: &File) -> io::Result<()> {
    let target = c_path(Path::new(&format!("/proc/self/fd/{}", root.as_raw_fd())))?;
    // SAFETY: a C string that outlives the call.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) })?;
    Ok(())
}

/// Detaches a mount and cuts its connection first: requests under way and later ones fail.
pub fn umount_by_force(target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    let flags = libc::UMOUNT_NOFOLLOW | libc::MNT_FORCE | libc::MNT_DETACH;
    // SAFETY: a C string that outlives the call.
    check(unsafe { libc::umount2(target.as_ptr(), flags) })?;
    Ok(())
}

/// Gives the calling thread, and no other, a copy of all mounts that it may change without anybody else noticing. The
/// copy goes with the thread.
pub fn leave_mount_namespace() -> io::Result<()> {
    // SAFETY: numbers only.
    check(unsafe { libc::unshare(libc::CLONE_FS | libc::CLONE_NEWNS) })?;
    let (none, root) = (c_text("none")?, c_text("/")?);
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: C strings that outlive the call; type and data are not looked at.
    check(unsafe { libc::mount(none.as_ptr(), root.as_ptr(), std::ptr::null(), flags, std::ptr::null()) })?;
    Ok(())
}

/// True if a file was opened through the mount with this number and device number, both as `mountinfo` has them. Nothing is
/// asked of the file system.
pub fn is_through(file: &File, mount: u32, device: (u32, u32)) -> io::Result<bool> {
    // SAFETY: an all-zero statx is valid.
    let mut about: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: a C string and a structure that outlive the call.
    let asked = check(unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, libc::STATX_MNT_ID, &raw mut about)
    });
    if asked.is_ok() && about.stx_mask & libc::STATX_MNT_ID != 0 {
        let found = (about.stx_dev_major, about.stx_dev_minor);
        return Ok(about.stx_mnt_id == u64::from(mount) && found == device);
    }
    mount_id(file).map(|id| id == mount) // a kernel before 5.8, or a mount that answers others alone
}

fn mount_id(file: &File) -> io::Result<u32> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let id = about.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    id.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no mnt_id in fdinfo"))
}

/// Major and minor number of a device number as `stat` gives it.
pub fn major_minor(dev: u64) -> (u32, u32) {
    (libc::major(dev), libc::minor(dev))
}

/// A file handle as the FUSE client of the kernel encodes it: type 0x81 = node id (high, low), generation.
#[repr(C)]
struct FuseHandle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    data: [u32; 3],
}

/// Opens the file with this node id and generation in the FUSE mount that the working directory is in. Needs
/// `CAP_DAC_READ_SEARCH`; ESTALE when the kernel does not know the node (any more).
pub fn open_fuse_node(node: u64, generation: u64, flags: i32) -> io::Result<File> {
    let mut handle = FuseHandle {
        bytes: 12,
        kind: 0x81,
        data: [(node >> 32) as u32, node as u32, generation as u32], // the kernel keeps 32 bits of it
    };
    // SAFETY: FuseHandle has the layout of `struct file_handle` followed by its 12 bytes.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, libc::AT_FDCWD, &raw mut handle, flags | libc::O_CLOEXEC)
            as libc::c_int
    })?;
    // SAFETY: the kernel gave us a new descriptor.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Starts writing the dirty pages of a file; does not wait.
pub fn start_write_back(file: &File) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) })?;
    Ok(())
}

/// Writes the dirty pages of a file and waits until the file system has answered for all of them.
pub fn finish_write_back(file: &File) -> io::Result<()> {
    let all =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: no pointers.
    check(unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, all) })?;
    Ok(())
}

/// `syncfs(2)` of the file system that `file` is on.
pub fn sync_fs(file: &File) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::syncfs(file.as_raw_fd()) })?;
    Ok(())
}

/// Lets a descriptor survive `exec`. Only for a descriptor that the next started child is meant to inherit.
pub fn keep_over_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })?;
    Ok(())
}

/// Receives one descriptor that the peer sends (`SCM_RIGHTS`), as fusermount3 does; `None` at the end of the stream.
pub fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0u8; 1];
    let mut control = [0u64; 8]; // aligned for cmsghdr, room for one descriptor
    let mut iov = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: an all-zero msghdr is valid; the pointers below outlive the call.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = std::mem::size_of_val(&control) as _;
    let received = loop {
        // SAFETY: `message` points to live buffers of the stated lengths.
        let n = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        if n >= 0 {
            break n;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    if received == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel filled in the control buffer; CMSG_FIRSTHDR checks its length.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null()
            || (*header).cmsg_level != libc::SOL_SOCKET
            || (*header).cmsg_type != libc::SCM_RIGHTS
        {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no descriptor in the message"));
        }
        let fd: RawFd = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
        Ok(Some(OwnedFd::from_raw_fd(fd)))
    }
}
