//! Making files relative to an open directory: no call here follows a symbolic link in the name that it is given.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A time as `utimensat` takes it: seconds and nanoseconds since 1970.
pub type Time = (i64, u32);

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn open(dir: BorrowedFd<'_>, name: &[u8], flags: libc::c_int, mode: libc::mode_t) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    let flags = flags | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    // SAFETY: the directory is open for the call and `name` ends with NUL; what is returned is a new descriptor.
    let fd = check(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags, libc::c_uint::from(mode)) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a directory.
///
/// # Errors
/// The host's: `ENOTDIR` or `ELOOP` for anything else.
pub fn open_directory(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    open(dir, name, libc::O_RDONLY | libc::O_DIRECTORY, 0)
}

/// A handle on whatever has this name, good for its attributes alone.
///
/// # Errors
/// The host's.
pub fn open_place(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    open(dir, name, libc::O_PATH, 0)
}

/// Makes a file that only its owner may read, open for writing.
///
/// # Errors
/// The host's: `EEXIST` if the name is taken.
pub fn create_file(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    open(dir, name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o600).map(File::from)
}

/// Makes a directory that only its owner may use.
///
/// # Errors
/// The host's: `EEXIST` if the name is taken.
pub fn make_directory(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: the directory is open for the call and `name` ends with NUL.
    check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), 0o700) }).map(drop)
}

/// Makes a symbolic link.
///
/// # Errors
/// The host's: `EEXIST` if the name is taken.
pub fn make_symlink(dir: BorrowedFd<'_>, name: &[u8], target: &[u8]) -> io::Result<()> {
    let (name, target) = (CString::new(name)?, CString::new(target)?);
    // SAFETY: the directory is open for the call and both strings end with NUL.
    check(unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// Gives a file a second name.
///
/// # Errors
/// The host's: `EEXIST` if the new name is taken.
pub fn make_link(from: BorrowedFd<'_>, name: &[u8], to: BorrowedFd<'_>, new_name: &[u8]) -> io::Result<()> {
    let (name, new_name) = (CString::new(name)?, CString::new(new_name)?);
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: both directories are open for the call and both strings end with NUL.
    check(unsafe { libc::linkat(from, name.as_ptr(), to, new_name.as_ptr(), 0) }).map(drop)
}

/// Makes a pipe, a socket or a device node. `type_and_mode` is as in `st_mode`, `device` as major and minor number.
///
/// # Errors
/// The host's: `EPERM` for a device node without the right.
pub fn make_node(dir: BorrowedFd<'_>, name: &[u8], type_and_mode: u32, device: (u32, u32)) -> io::Result<()> {
    let name = CString::new(name)?;
    let device = libc::makedev(device.0, device.1);
    // SAFETY: the directory is open for the call and `name` ends with NUL.
    check(unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), type_and_mode, device) }).map(drop)
}

/// Changes the owner of whatever has this name.
///
/// # Errors
/// The host's.
pub fn set_owner(dir: BorrowedFd<'_>, name: &[u8], uid: u32, gid: u32) -> io::Result<()> {
    let name = CString::new(name)?;
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the directory is open for the call and `name` ends with NUL.
    check(unsafe { libc::fchownat(dir.as_raw_fd(), name.as_ptr(), uid, gid, flags) }).map(drop)
}

/// Sets access and modification time of whatever has this name.
///
/// # Errors
/// The host's.
pub fn set_times(dir: BorrowedFd<'_>, name: &[u8], accessed: Time, modified: Time) -> io::Result<()> {
    let name = CString::new(name)?;
    let time =
        |(secs, nanos): Time| libc::timespec { tv_sec: secs, tv_nsec: libc::c_long::from(nanos as i32) };
    let times = [time(accessed), time(modified)];
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the directory is open for the call, `name` ends with NUL and `times` holds two times; both outlive it.
    check(unsafe { libc::utimensat(dir.as_raw_fd(), name.as_ptr(), times.as_ptr(), flags) }).map(drop)
}

/// The path under which the kernel knows what a handle is on, so that calls that take no such handle reach it.
fn path_of(place: BorrowedFd<'_>) -> io::Result<CString> {
    Ok(CString::new(format!("/proc/self/fd/{}", place.as_raw_fd()))?)
}

/// Sets the permissions of what a handle is on.
///
/// # Errors
/// The host's.
pub fn set_mode(place: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    let path = path_of(place)?;
    // SAFETY: `path` ends with NUL and outlives the call.
    check(unsafe { libc::chmod(path.as_ptr(), mode) }).map(drop)
}

/// Sets an extended attribute of what a handle is on.
///
/// # Errors
/// The host's: `EOPNOTSUPP` where the file system has none.
pub fn set_attribute(place: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> io::Result<()> {
    let (path, name) = (path_of(place)?, CString::new(name)?);
    let (data, len) = (value.as_ptr().cast(), value.len());
    // SAFETY: both strings end with NUL, and `data` points to `len` bytes; all outlive the call.
    check(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), data, len, 0) }).map(drop)
}
