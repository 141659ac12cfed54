//! Namespaces of a process, trees of mounts that are taken from one place to another, and descriptors that are handed over.
//!
//! Thin wrappers; what a namespace is for is in `cli::trial`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a process may get for itself, by the names of `unshare(2)`; or-ed together.
pub mod own {
    pub use libc::{CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER};
}

/// Attributes of a mount, by the names of `mount_setattr(2)`; or-ed together.
pub mod attributes {
    pub use libc::{
        MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID,
        MOUNT_ATTR_RDONLY,
    };
}

fn check(result: libc::c_long) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// `unshare(2)`: this process, which must have one thread for a user namespace, gets these for itself.
///
/// # Errors
/// `EPERM` without the right, `ENOSPC` or `EUSERS` where no more may be made, `EINVAL` where the kernel has none of the kind.
pub fn unshare(what: i32) -> io::Result<()> {
    // SAFETY: a number.
    check(unsafe { libc::unshare(what) }.into()).map(drop)
}

/// From now on no mount of this mount namespace tells another one of its changes, or is told.
pub fn make_mounts_private() -> io::Result<()> {
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    let (none, root) = (c"none", c"/");
    // SAFETY: C strings that outlive the call; type and data are not looked at.
    check(
        unsafe { libc::mount(none.as_ptr(), root.as_ptr(), std::ptr::null(), flags, std::ptr::null()) }
            .into(),
    )
    .map(drop)
}

/// A copy of the mount at `point`, or of the part of it that begins there, and of all that is mounted below: it is in no
/// namespace until it is attached, and gone with its descriptor otherwise.
pub fn copy_mounts(point: &Path) -> io::Result<OwnedFd> {
    let point = c_path(point)?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as libc::c_uint;
    // SAFETY: a C string that outlives the call, and numbers.
    let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, point.as_ptr(), flags) })?;
    // SAFETY: the kernel gave us a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A copy of the mount that `dir` was opened in, showing `dir` at its root, and of nothing that is mounted below.
pub fn copy_mount(dir: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: a C string that outlives the call, and numbers.
    let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), c"".as_ptr(), flags) })?;
    // SAFETY: the kernel gave us a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The control file system of FUSE, which is in no namespace, and gone with its descriptor: a directory for each connection.
///
/// # Errors
/// `EPERM` without the right, `ENOSYS` on kernels before 5.2.
pub fn fuse_control() -> io::Result<OwnedFd> {
    const CREATE: libc::c_int = 6; // FSCONFIG_CMD_CREATE
    const CLOSE_ON_EXEC: libc::c_int = 1; // FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: a C string that outlives the call, and a number.
    let context = check(unsafe { libc::syscall(libc::SYS_fsopen, c"fusectl".as_ptr(), CLOSE_ON_EXEC) })?;
    // SAFETY: the kernel gave us a new descriptor.
    let context = unsafe { OwnedFd::from_raw_fd(context) };
    // SAFETY: numbers, and two strings that there need not be.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CREATE, none, none, 0) })?;
    // SAFETY: numbers.
    let fd = check(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOSE_ON_EXEC, 0) })?;
    // SAFETY: the kernel gave us a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Mounts a copy at `point`.
pub fn attach_mounts(copy: &OwnedFd, point: &Path) -> io::Result<()> {
    let point = c_path(point)?;
    // SAFETY: C strings that outlive the call, and numbers.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            copy.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            point.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Gives all mounts of a copy these attributes besides those that they have.
pub fn add_attributes(copy: &OwnedFd, attributes: u64) -> io::Result<()> {
    let set = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: `set` has the stated size and outlives the call, as the C string does.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            copy.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const set,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// The attributes of the mount that `path` is in that take something from whoever uses it, and of its access times.
pub fn attributes_at(path: &Path) -> io::Result<u64> {
    let path = c_path(path)?;
    // SAFETY: an all-zero statvfs is valid; the C string outlives the call, which writes the structure.
    let flags = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        check(libc::statvfs(path.as_ptr(), &raw mut found).into())?;
        found.f_flag
    };
    let known = [
        (libc::ST_RDONLY, attributes::MOUNT_ATTR_RDONLY),
        (libc::ST_NOSUID, attributes::MOUNT_ATTR_NOSUID),
        (libc::ST_NODEV, attributes::MOUNT_ATTR_NODEV),
        (libc::ST_NOEXEC, attributes::MOUNT_ATTR_NOEXEC),
        (libc::ST_NODIRATIME, attributes::MOUNT_ATTR_NODIRATIME),
    ];
    Ok(known.into_iter().filter(|(flag, _)| flags & flag != 0).fold(0, |all, (_, attribute)| all | attribute))
}

/// A new `/proc` at that place, which shows the processes of this process's namespace.
pub fn mount_proc() -> io::Result<()> {
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let (proc, point) = (c"proc", c"/proc");
    // SAFETY: C strings that outlive the call; data is not looked at.
    check(
        unsafe { libc::mount(proc.as_ptr(), point.as_ptr(), proc.as_ptr(), flags, std::ptr::null()) }.into(),
    )
    .map(drop)
}

/// Takes a descriptor that whoever started this program left open for it, under this number: it is not handed on to others.
/// For a program that has just begun, once for each number.
///
/// # Errors
/// `EBADF` if nothing is open under the number.
pub fn take_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: numbers.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: it is open, and nothing in this process owns it: the arguments of the program say that it is for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
