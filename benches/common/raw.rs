//! System calls that the standard library does not offer, for the workloads.

#![allow(unsafe_code)] // each call is one line over descriptors and structures that outlive it

use crate::common::Result;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    INTERRUPTED.store(true, Relaxed);
}

/// From now on an interrupt is noted instead of ending the process, so that everything is unmounted.
pub fn note_interrupts() {
    let handler = note as extern "C" fn(libc::c_int);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// True after an interrupt.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Relaxed)
}

/// Gives the process, and whatever it starts from now on, mounts of its own. Otherwise anybody who copies the mounts of
/// the host for a container meanwhile would hold those of the bench, and no daemon would end when it is unmounted. For
/// the same reason copies of other snapfs mounts are let go, except where the bench itself lives. Called before there are
/// threads.
pub fn own_mounts() -> io::Result<()> {
    let (none, flags) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
    // SAFETY: no pointers.
    done(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    // SAFETY: the strings are constants; only the propagation of what is mounted changes.
    done(unsafe { libc::mount(none, c"/".as_ptr(), none, flags, none.cast()) })?;
    let own = [std::env::current_exe()?, std::env::current_dir()?, std::env::temp_dir()];
    for line in std::fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let (Some(point), true) = (line.split(' ').nth(4), line.contains(" - fuse.snapfs ")) else {
            continue;
        };
        // The kernel writes blanks in names as octal numbers: such a mount stays.
        if let Ok(c_point) = CString::new(point)
            && !own.iter().any(|path| path.starts_with(point))
        {
            // SAFETY: the string lives through the call. What cannot be let go stays.
            unsafe { libc::umount2(c_point.as_ptr(), libc::MNT_DETACH) };
        }
    }
    Ok(())
}

/// Ticks of `/proc/PID/stat` in a second.
pub fn ticks_per_second() -> f64 {
    // SAFETY: a plain number.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

/// Writes out what the host holds back.
pub fn sync_host() {
    // SAFETY: no arguments.
    unsafe { libc::sync() }
}

const BTRFS_SNAP_CREATE_V2: u64 = 0x5000_9417;
const BTRFS_SNAP_DESTROY: u64 = 0x5000_940F;
const BTRFS_SYNC: u64 = 0x9408;
const BTRFS_READ_ONLY: u64 = 1 << 1;

/// `struct btrfs_ioctl_vol_args` of the kernel.
#[repr(C)]
struct VolumeArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2` of the kernel.
#[repr(C)]
struct VolumeArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

fn name_bytes<const N: usize>(name: &str) -> [u8; N] {
    let mut bytes = [0; N];
    // One zero at least stays at the end.
    let len = name.len().min(N - 1);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    bytes
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A read-only snapshot of a btrfs subvolume, durable on return.
pub fn btrfs_snapshot(live: &Path, dir: &Path, name: &str) -> Result<()> {
    btrfs_copy(live, dir, name, BTRFS_READ_ONLY)
}

/// A writable snapshot of a btrfs subvolume, durable on return.
pub fn btrfs_branch(live: &Path, dir: &Path, name: &str) -> Result<()> {
    btrfs_copy(live, dir, name, 0)
}

fn btrfs_copy(live: &Path, dir: &Path, name: &str, flags: u64) -> Result<()> {
    let (live, dir) = (File::open(live)?, File::open(dir)?);
    let args = VolumeArgsV2 {
        fd: live.as_raw_fd().into(),
        transid: 0,
        flags,
        unused: [0; 4],
        name: name_bytes(name),
    };
    // SAFETY: the structure is the kernel's and lives through the call.
    Ok(done(unsafe { libc::ioctl(dir.as_raw_fd(), BTRFS_SNAP_CREATE_V2 as _, &raw const args) })?)
}

/// Deletes a btrfs snapshot; its space comes back later.
pub fn btrfs_delete(dir: &Path, name: &str) -> Result<()> {
    let dir = File::open(dir)?;
    let args = VolumeArgs { fd: 0, name: name_bytes(name) };
    // SAFETY: the structure is the kernel's and lives through the call.
    Ok(done(unsafe { libc::ioctl(dir.as_raw_fd(), BTRFS_SNAP_DESTROY as _, &raw const args) })?)
}

/// Commits a btrfs file system and wakes what frees deleted snapshots.
pub fn btrfs_sync(dir: &Path) -> Result<()> {
    let dir = File::open(dir)?;
    // SAFETY: no pointers.
    Ok(done(unsafe { libc::ioctl(dir.as_raw_fd(), BTRFS_SYNC as _) })?)
}

/// Drops the kernel's clean pages of a range of a file.
pub fn forget_pages(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let (offset, len) = (offset as libc::off_t, len as libc::off_t);
    // SAFETY: no pointers.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, len, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// A shared, writable mapping of a whole file.
pub struct Mapping(*mut u8, usize);

impl Mapping {
    /// Maps the first `len` bytes.
    pub fn new(file: &File, len: usize) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Mapping(at.cast(), len)) }
    }

    /// Stores one byte.
    pub fn store(&self, offset: usize, byte: u8) {
        assert!(offset < self.1);
        // SAFETY: inside the mapping.
        unsafe { self.0.add(offset).write_volatile(byte) }
    }

    /// msync: returns when all of it is on the device.
    pub fn sync(&self) -> io::Result<()> {
        // SAFETY: the mapping that `new` made.
        done(unsafe { libc::msync(self.0.cast(), self.1, libc::MS_SYNC) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nobody keeps a pointer.
        unsafe { libc::munmap(self.0.cast(), self.1) };
    }
}
