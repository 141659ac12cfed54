//! A mount from its first request to its last: connection set-up, request threads, the end.
//!
//! Invariant: when [`Mounted::start`] returns the mount is usable, and when [`Mounted::wait`] returns no request thread
//! runs any more. Unmounting is always explicit: dropping a `Mounted` does not touch the mount point.

use super::adapter::{Adapter, Profile};
use super::kernel::FuseKernel;
use super::mount::{self, Options};
use super::mounts;
use crate::ops::{KernelRef, Operations};
use crate::sys::mount::{errno, major_minor};
use crate::sys::process;
use fuser::{Config, InitFlags, Session, SessionACL};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

/// Largest WRITE: what the kernel allows without a raised `max_pages_limit`.
const WRITE_BYTES_MAX: u32 = 1 << 20;
/// Read-ahead and write-back requests under way.
const BACKGROUND_MAX: u16 = 64;

/// A running mount.
pub struct Mounted {
    point: PathBuf,
    device: (u32, u32),
    kernel: Arc<FuseKernel>,
    /// The connection once more, to look at. It goes when the mount does.
    connection: Arc<OwnedFd>,
    serving: JoinHandle<io::Result<()>>,
}

/// Tells whether the kernel still has a mount. As long as it has, nobody else has its device number.
#[derive(Clone)]
pub struct Connection(Weak<OwnedFd>);

impl Connection {
    /// False from the moment in which the last place where it is mounted goes.
    pub fn is_mounted(&self) -> bool {
        self.0.upgrade().is_some_and(|fd| !process::is_hung_up(&fd))
    }
}

/// Ends a mount from any thread, and never another that has its place or its device number by now.
#[derive(Clone)]
pub struct Unmounter {
    point: PathBuf,
    device: (u32, u32),
    connection: Connection,
}

/// What is asked of the kernel. Not among them, because fuser 0.18.0 lists but does not implement them: SETXATTR_EXT,
/// SECURITY_CTX, CREATE_SUPP_GROUP, ALLOW_IDMAP, OVER_IO_URING, HAS_RESEND, REQUEST_TIMEOUT. Locks are left to the
/// kernel (all kinds work then), hence no POSIX_LOCKS and no FLOCK_LOCKS. No ASYNC_DIO: the kernel does not drop cached
/// pages that were read while such a write was under way. No ATOMIC_O_TRUNC: a program that runs would be cut by an open
/// for reading with O_TRUNC before the kernel refuses that (ETXTBSY).
fn init_flags(options: &Options) -> InitFlags {
    let mut flags = InitFlags::FUSE_PARALLEL_DIROPS
        | InitFlags::FUSE_EXPLICIT_INVAL_DATA
        | InitFlags::FUSE_HANDLE_KILLPRIV_V2
        | InitFlags::FUSE_DO_READDIRPLUS
        | InitFlags::FUSE_READDIRPLUS_AUTO
        | InitFlags::FUSE_POSIX_ACL
        | InitFlags::FUSE_DONT_MASK
        | InitFlags::FUSE_EXPORT_SUPPORT
        | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP;
    if options.noatime {
        flags |= InitFlags::FUSE_CACHE_SYMLINKS; // reading a cached one would leave no access time
    }
    if options.writeback_cache {
        flags |= InitFlags::FUSE_WRITEBACK_CACHE;
    }
    flags
}

impl Mounted {
    /// Mounts `ops` at `point` and starts to serve it. The error is a sentence for the user.
    pub fn start(ops: Arc<dyn Operations>, point: &Path, options: &Options) -> Result<Mounted, String> {
        let (point, fd) = mount::attach(point, options)?;
        let connection = match fd.try_clone() {
            Ok(fd) => Arc::new(fd),
            Err(e) => {
                let _ = mount::unmount(&point, true); // what counts is the error that we report
                return Err(format!("cannot look at the connection to the kernel: {e}"));
            }
        };
        let profile = Profile {
            flags: init_flags(options),
            max_write: WRITE_BYTES_MAX,
            max_background: BACKGROUND_MAX,
        };
        let acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
        let mut config = Config::default();
        config.acl = acl;
        config.n_threads = Some(options.threads.clamp(2, 64)); // with one thread a flush inside mkdir deadlocks
        let started = Session::from_fd(Adapter::new(ops, profile), fd, acl, config).and_then(|session| {
            let notifier = session.notifier();
            let serving = std::thread::Builder::new().name("fuse".into()).spawn(move || session.run())?;
            Ok((notifier, serving))
        });
        let (notifier, serving) = match started {
            Ok(parts) => parts,
            Err(e) => {
                let _ = mount::unmount(&point, true); // what counts is the error that we report
                return Err(format!("the kernel refuses the connection: {e}"));
            }
        };
        // Served by the threads that just started: the first proof that the mount works.
        let device = match fs::metadata(&point) {
            Ok(meta) => major_minor(meta.dev()),
            Err(e) => {
                let _ = mount::unmount(&point, true);
                return Err(format!("the new mount does not answer: {e}"));
            }
        };
        let kernel = FuseKernel::start(notifier, point.clone(), device)
            .map_err(|e| format!("cannot start a thread: {e}"))?;
        let mounted = Mounted { point, device, kernel: Arc::new(kernel), connection, serving };
        mounted.tune();
        Ok(mounted)
    }

    /// The way back to the kernel of this mount.
    pub fn kernel(&self) -> KernelRef {
        self.kernel.clone()
    }

    /// Where it is mounted: absolute, without links.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// `major:minor` of the device number of its files.
    pub fn device(&self) -> (u32, u32) {
        self.device
    }

    /// Tells whether it is there.
    pub fn connection(&self) -> Connection {
        Connection(Arc::downgrade(&self.connection))
    }

    /// A handle to end the mount with.
    pub fn unmounter(&self) -> Unmounter {
        Unmounter { point: self.point.clone(), device: self.device, connection: self.connection() }
    }

    /// Waits until somebody unmounted it and the last request was answered.
    pub fn wait(self) -> io::Result<()> {
        let result = match self.serving.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("a request thread failed an assertion")),
        };
        self.kernel.stop();
        result
    }

    /// Raises the kernel's defaults for FUSE (read-ahead 128 KiB, one percent of the dirty pages): best effort, root. Two
    /// of the largest READs are under way ahead of a reader, so that two threads copy and prove.
    fn tune(&self) {
        let bdi = format!("/sys/class/bdi/{}:{}", self.device.0, self.device.1);
        for (file, value) in [("read_ahead_kb", "2048"), ("max_ratio", "100"), ("strict_limit", "0")] {
            if let Err(e) = fs::write(Path::new(&bdi).join(file), value) {
                log::debug!("{bdi}/{file} stays as it is: {e}");
            }
        }
    }
}

impl Unmounter {
    /// Unmounts; false if it is in use, or covered by another mount. Nothing to do when it is gone already.
    pub fn unmount(&self) -> io::Result<bool> {
        if !self.connection.is_mounted() {
            return Ok(true);
        }
        if !self.is_on_top() {
            return Ok(!mounts::all()?.iter().any(|m| m.device == self.device));
        }
        match mount::unmount(&self.point, false) {
            Ok(()) => Ok(true),
            Err(e) if e.raw_os_error() == Some(errno::EBUSY) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Takes the mount out of sight; files that are open in it go on working until they are closed.
    pub fn detach(&self) -> io::Result<()> {
        if self.is_on_top() { mount::unmount(&self.point, true) } else { Ok(()) }
    }

    /// Where it is, or was, mounted.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Cuts the connection: requests under way and later ones fail. Best effort, needs the control file system.
    pub fn abort(&self) {
        if !self.connection.is_mounted() {
            return;
        }
        let file = format!("/sys/fs/fuse/connections/{}/abort", self.device.1);
        if let Err(e) = fs::write(&file, "1") {
            log::debug!("{file}: {e}");
        }
    }

    /// True if unmounting this path means us, and not a mount that somebody made over ours.
    fn is_on_top(&self) -> bool {
        self.connection.is_mounted()
            && mounts::at(&self.point).is_ok_and(|m| m.is_some_and(|m| m.device == self.device))
    }
}
