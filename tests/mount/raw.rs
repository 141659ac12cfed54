//! System calls that the standard library does not offer, for the tests on a real mount.

#![allow(unsafe_code)] // each call is one line over descriptors and strings that outlive it
#![allow(dead_code)] // two programs share this file, and neither uses all of it

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no zero")
}

fn done(result: i64) -> io::Result<u64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as u64) }
}

/// renameat2 with flags.
pub fn rename(from: &Path, to: &Path, flags: u32) -> io::Result<u64> {
    let (from, to) = (c(from), c(to));
    // SAFETY: both strings live through the call.
    done(unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) }.into())
}

/// lseek.
pub fn seek(file: &File, offset: u64, whence: i32) -> io::Result<u64> {
    // SAFETY: plain numbers.
    done(unsafe { libc::lseek(file.as_raw_fd(), offset as i64, whence) })
}

/// fallocate with a mode.
pub fn allocate(file: &File, mode: i32, offset: u64, len: u64) -> io::Result<u64> {
    // SAFETY: plain numbers.
    done(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as i64, len as i64) }.into())
}

/// copy_file_range from the start of one to `to_offset` of another.
pub fn copy_range(from: &File, from_offset: u64, to: &File, to_offset: u64, len: u64) -> io::Result<u64> {
    let (mut a, mut b) = (from_offset as i64, to_offset as i64);
    // SAFETY: both offsets live through the call.
    done(unsafe { libc::copy_file_range(from.as_raw_fd(), &mut a, to.as_raw_fd(), &mut b, len as usize, 0) }
        as i64)
}

/// Tries to lock a range of a file for this description of it (F_OFD_SETLK).
pub fn lock_range(file: &File, kind: i32, start: u64, len: u64) -> io::Result<u64> {
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence) = (kind as _, libc::SEEK_SET as _);
    (lock.l_start, lock.l_len) = (start as i64, len as i64);
    // SAFETY: the structure lives through the call.
    done(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) }.into())
}

/// Events of a directory, as they come.
pub struct Watch(File);

impl Watch {
    /// Of these kinds.
    pub fn new(dir: &Path, mask: u32) -> io::Result<Watch> {
        // SAFETY: a new descriptor, which nothing else has.
        let fd = done(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) }.into())? as i32;
        // SAFETY: as above.
        let watch = Watch(unsafe { File::from_raw_fd(fd) });
        let dir = c(dir);
        // SAFETY: the string lives through the call.
        done(unsafe { libc::inotify_add_watch(fd, dir.as_ptr(), mask) }.into())?;
        Ok(watch)
    }
    /// Those that are there: kind and name.
    pub fn events(&mut self) -> Vec<(u32, String)> {
        let mut bytes = vec![0; 1 << 16];
        let len = self.0.read(&mut bytes).unwrap_or(0);
        let (mut rest, mut events) = (&bytes[..len], Vec::new());
        while let [_, _, _, _, m0, m1, m2, m3, _, _, _, _, l0, l1, l2, l3, tail @ ..] = rest {
            let (name, after) = tail.split_at(u32::from_ne_bytes([*l0, *l1, *l2, *l3]) as usize);
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_string();
            events.push((u32::from_ne_bytes([*m0, *m1, *m2, *m3]), name));
            rest = after;
        }
        events
    }
}

/// What name_to_handle_at gives: a name for a file that stays good whatever the kernel forgets.
#[repr(C)]
pub struct FileHandle {
    len: u32,
    kind: i32,
    bytes: [u8; 128],
}

/// Of a path.
pub fn handle_of(path: &Path) -> io::Result<FileHandle> {
    let path = c(path);
    let mut handle = FileHandle { len: 128, kind: 0, bytes: [0; 128] };
    let mut mount = 0;
    // SAFETY: the handle has room for the bytes that it says; all live through the call.
    done(
        unsafe {
            libc::name_to_handle_at(
                libc::AT_FDCWD,
                path.as_ptr(),
                (&raw mut handle).cast(),
                &raw mut mount,
                0,
            )
        }
        .into(),
    )?;
    Ok(handle)
}

/// Opens what the handle names, on the mount of `dir`.
pub fn open_handle(dir: &File, handle: &FileHandle, flags: i32) -> io::Result<File> {
    // SAFETY: the kernel only reads the handle.
    let fd =
        unsafe { libc::open_by_handle_at(dir.as_raw_fd(), (&raw const *handle).cast_mut().cast(), flags) };
    // SAFETY: a new descriptor, which nothing else has.
    done(fd.into()).map(|fd| unsafe { File::from_raw_fd(fd as i32) })
}

/// mknod.
pub fn node(path: &Path, mode: u32, major: u32, minor: u32) -> io::Result<u64> {
    let path = c(path);
    // SAFETY: the string lives through the call.
    done(unsafe { libc::mknod(path.as_ptr(), mode, libc::makedev(major, minor)) }.into())
}

/// Value of an extended attribute.
pub fn attribute(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let (path, name) = (c(path), CString::new(name).expect("no zero"));
    let mut value = vec![0u8; 1 << 16];
    // SAFETY: the buffer has the length that is told.
    let len = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(done(len as i64)? as usize);
    Ok(value)
}

/// Sets an extended attribute.
pub fn set_attribute(path: &Path, name: &str, value: &[u8]) -> io::Result<u64> {
    let (path, name) = (c(path), CString::new(name).expect("no zero"));
    // SAFETY: the value has the length that is told.
    done(
        unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }.into(),
    )
}

/// Names of all extended attributes.
pub fn attributes(path: &Path) -> io::Result<Vec<String>> {
    let path = c(path);
    let mut list = vec![0u8; 1 << 16];
    // SAFETY: the buffer has the length that is told.
    let len = unsafe { libc::listxattr(path.as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    list.truncate(done(len as i64)? as usize);
    Ok(list
        .split(|b| *b == 0)
        .filter(|n| !n.is_empty())
        .map(|n| String::from_utf8_lossy(n).into_owned())
        .collect())
}

/// Total, free and available bytes as df shows them.
pub fn df(path: &Path) -> (u64, u64, u64) {
    let path = c(path);
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut s: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: string and structure live through the call.
    done(unsafe { libc::statvfs(path.as_ptr(), &mut s) }.into()).expect("statvfs");
    (s.f_blocks * s.f_frsize, s.f_bfree * s.f_frsize, s.f_bavail * s.f_frsize)
}

/// A shared, writable mapping of a whole file.
pub struct Mapping(*mut u8, usize);

impl Mapping {
    /// Maps the first `len` bytes.
    pub fn new(file: &File, len: usize) -> Mapping {
        Mapping::with(file, len, libc::PROT_READ | libc::PROT_WRITE)
    }
    /// The same, not to be written.
    pub fn read_only(file: &File, len: usize) -> Mapping {
        Mapping::with(file, len, libc::PROT_READ)
    }
    fn with(file: &File, len: usize, protection: i32) -> Mapping {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(at, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        Mapping(at.cast(), len)
    }
    /// Loads one byte, or says how that fails where a plain load would end the process.
    pub fn load(&self, offset: usize) -> io::Result<u8> {
        assert!(offset < self.1);
        let (memory, mut byte) = (File::open("/proc/self/mem")?, [0]);
        memory.read_exact_at(&mut byte, self.0 as u64 + offset as u64)?;
        Ok(byte[0])
    }
    /// Stores one byte.
    pub fn store(&self, offset: usize, byte: u8) {
        assert!(offset < self.1);
        // SAFETY: inside the mapping.
        unsafe { self.0.add(offset).write_volatile(byte) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nobody keeps a pointer.
        unsafe { libc::munmap(self.0.cast(), self.1) };
    }
}

/// FS_IOC_SETFLAGS: what `chattr` sets (0x10 is immutable), through a descriptor that is open already.
pub fn set_file_flags(file: &File, flags: libc::c_int) -> io::Result<u64> {
    // SAFETY: the kernel reads one number.
    done(unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) }.into())
}

/// The same in a process of its own, which opens the file, and closes it when it ends: so no program that is started meanwhile closes it.
/// Its number, for [`ended`].
pub fn set_file_flags_beside(path: &Path, flags: libc::c_int) -> i32 {
    let path = c(path);
    // SAFETY: between fork and exit nothing is called but open, ioctl and exit, with what was made before.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let file = libc::open(path.as_ptr(), libc::O_RDONLY);
            let set = libc::ioctl(file, libc::FS_IOC_SETFLAGS, &raw const flags);
            libc::_exit(i32::from(file < 0 || set < 0));
        }
        child
    }
}

/// Has a process of its own open a file and close it again, for which the kernel writes back what it has of it. Its number, for
/// [`ended`].
pub fn write_back_beside(path: &Path) -> i32 {
    let path = c(path);
    // SAFETY: between fork and exit nothing is called but open, close and exit, with what was made before.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let file = libc::open(path.as_ptr(), libc::O_RDWR);
            libc::_exit(i32::from(file < 0 || libc::close(file) < 0));
        }
        child
    }
}

/// Waits for it. True if it was done.
pub fn ended(child: i32) -> bool {
    let mut status = 0;
    // SAFETY: a number and a variable that lives through the call.
    unsafe { libc::waitpid(child, &raw mut status, 0) == child && status == 0 }
}
