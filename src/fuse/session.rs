//! A mount from its first request to its last: connection set-up, request threads, the end.
//!
//! Invariant: when [`Mounted::start`] returns the mount is usable, and when [`Mounted::wait`] returns no request thread
//! runs any more. This process asks its own mount for nothing, not even to be unmounted: that is the flusher's. Unmounting
//! is always explicit: dropping a `Mounted` does not touch the mount point.

use super::adapter::{Adapter, Profile};
use super::answering::Answering;
use super::background::BackgroundRequests;
use super::flusher::Flusher;
use super::kernel::FuseKernel;
use super::mount::{self, Options};
use super::mounts::{self, MountId};
use crate::names;
use crate::ops::{KernelRef, Operations};
use crate::sys::mount::errno;
use crate::sys::process;
use fuser::{Config, InitFlags, Session, SessionACL};
use parking_lot::Mutex;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Largest WRITE: what the kernel allows without a raised `max_pages_limit`.
const WRITE_BYTES_MAX: u32 = 1 << 20;

/// How long the request threads may take to start.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// What to do where a thread does not start.
const THREADS_HINT: &str = "a limit of threads or memory is too low: 'ulimit -u', 'ulimit -v', pids.max";

/// Threads of this process with a name, if the kernel tells.
fn threads_named(name: &str) -> Option<usize> {
    let is_named =
        |path: PathBuf| fs::read(path.join("comm")).is_ok_and(|comm| comm.trim_ascii() == name.as_bytes());
    Some(fs::read_dir("/proc/self/task").ok()?.flatten().filter(|t| is_named(t.path())).count())
}

/// A running mount.
pub struct Mounted {
    point: PathBuf,
    mount: MountId,
    kernel: Arc<FuseKernel>,
    flusher: Arc<Flusher>,
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
    mount: MountId,
    flusher: Arc<Flusher>,
    connection: Connection,
}

/// The mounts that this process serves, by the device numbers of their files.
static OWN: Mutex<Vec<(Connection, (u32, u32))>> = Mutex::new(Vec::new());

/// The device numbers of the mounts that this process serves, wherever they are in sight: it asks them for nothing, and what it is to
/// go by is not read from there.
pub fn own_devices() -> Vec<(u32, u32)> {
    let mut own = OWN.lock();
    own.retain(|(connection, _)| connection.is_mounted());
    own.iter().map(|(_, device)| *device).collect()
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
        let flusher = Arc::new(Flusher::start(options.program.clone()).map_err(|e| no_flusher(&e))?);
        let (point, fd) = mount::attach(point, options)?;
        let connection = fd.try_clone().map(Arc::new);
        let connection = connection.map_err(|e| format!("cannot look at the connection to the kernel: {e}"));
        let started = connection.and_then(|connection| {
            let background = Arc::default();
            let parts = serve(ops, &flusher, fd, (&connection, &background), options)?;
            let mount = find(&point)?;
            background.of(mount.device.1);
            Ok((mount, parts, connection))
        });
        let (mount, (kernel, serving), connection) = match started {
            Ok(parts) => parts,
            Err(e) => {
                let _ = mount::unmount(&point, true); // what counts is the error that we report
                return Err(e);
            }
        };
        let mounted = Mounted { point, mount, kernel, flusher, connection, serving };
        OWN.lock().push((mounted.connection(), mount.device));
        // Served by the threads that just started: the first proof that the mount works.
        if let Err(e) = mounted.flusher.attend(mount) {
            let _ = mounted.unmounter().detach();
            return Err(format!("the new mount does not answer: {e}"));
        }
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
        self.mount.device
    }

    /// The process that reaches into the mount for this one; 0 while it is started anew.
    pub fn flusher(&self) -> u32 {
        self.flusher.registered().pid()
    }

    /// Tells whether it is there.
    pub fn connection(&self) -> Connection {
        Connection(Arc::downgrade(&self.connection))
    }

    /// A handle to end the mount with.
    pub fn unmounter(&self) -> Unmounter {
        let (point, flusher) = (self.point.clone(), self.flusher.clone());
        Unmounter { point, mount: self.mount, flusher, connection: self.connection() }
    }

    /// Waits until somebody unmounted it and the last request was answered.
    pub fn wait(self) -> io::Result<()> {
        let result = match self.serving.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("a request thread failed an assertion")),
        };
        drop(self.connection); // whoever gets the number of the device now is another
        self.kernel.stop();
        if result.is_err()
            && let Err(e) = self.flusher.give_up()
        {
            log::error!("{}: cannot take away the mount that broke: {e}", names::shown(&self.point));
        }
        self.flusher.end();
        result
    }

    /// Raises the kernel's defaults for FUSE (read-ahead 128 KiB, one percent of the dirty pages): best effort, root. Two
    /// of the largest READs are under way ahead of a reader, so that two threads copy and prove.
    fn tune(&self) {
        let bdi = format!("/sys/class/bdi/{}:{}", self.mount.device.0, self.mount.device.1);
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
        if self.connection.is_mounted() && mounts::all()?.iter().any(|m| m.is(self.mount)) {
            match self.flusher.unmount() {
                Err(e) if e.raw_os_error() == Some(errno::EBUSY) => return Ok(false),
                Err(e) if self.connection.is_mounted() => return Err(e),
                _ => {}
            }
        }
        // It may be in sight at another place.
        Ok(!self.connection.is_mounted() || !mounts::all()?.iter().any(|m| m.device == self.mount.device))
    }

    /// Takes the mount out of sight; files that are open in it go on working until they are closed.
    pub fn detach(&self) -> io::Result<()> {
        if self.connection.is_mounted() { self.flusher.detach() } else { Ok(()) }
    }

    /// Starts the write-back of what the kernel holds; does not wait.
    pub fn sync(&self) -> io::Result<()> {
        if self.connection.is_mounted() { self.flusher.sync() } else { Ok(()) }
    }

    /// Where it is, or was, mounted at first.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Cuts the connection: requests under way and later ones fail. Best effort, needs the control file system.
    pub fn abort(&self) {
        if !self.connection.is_mounted() {
            return;
        }
        let file = format!("/sys/fs/fuse/connections/{}/abort", self.mount.device.1);
        if let Err(e) = fs::write(&file, "1") {
            log::debug!("{file}: {e}");
        }
    }
}

fn no_flusher(e: &io::Error) -> String {
    let hint =
        if e.kind() == io::ErrorKind::WouldBlock { format!(" ({THREADS_HINT})") } else { String::new() };
    format!("cannot start the flusher: {e}{hint}")
}

type Serving = (Arc<FuseKernel>, JoinHandle<io::Result<()>>);

/// Starts to answer requests.
fn serve(
    ops: Arc<dyn Operations>,
    flusher: &Arc<Flusher>,
    fd: OwnedFd,
    (connection, background): (&Arc<OwnedFd>, &Arc<BackgroundRequests>),
    options: &Options,
) -> Result<Serving, String> {
    let refused = |e: io::Error| format!("the kernel refuses the connection: {e}");
    let profile = Profile { flags: init_flags(options), max_write: WRITE_BYTES_MAX };
    let acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    let mut config = Config::default();
    config.acl = acl;
    let threads = options.threads.clamp(2, 64); // with one thread a flush inside mkdir deadlocks
    config.n_threads = Some(threads);
    let last = format!("fuser-{}", threads - 1);
    let others = threads_named(&last);
    let answering = Answering::default();
    let adapter = Adapter::new(ops, profile, flusher.registered(), (answering.clone(), background.clone()));
    let session = Session::from_fd(adapter, fd, acl, config).map_err(refused)?;
    let notifier = session.notifier();
    let thread = std::thread::Builder::new().name("fuse".into());
    let no_thread = |e: io::Error| format!("cannot start a thread: {e} ({THREADS_HINT})");
    let serving = thread.spawn(move || session.run()).map_err(no_thread)?;
    // The session starts its threads one by one, and ends where one does not start: what began before goes on serving.
    let end = Instant::now() + START_PATIENCE;
    while threads_named(&last).is_some_and(|now| Some(now) <= others)
        && !serving.is_finished()
        && Instant::now() < end
    {
        std::thread::sleep(Duration::from_micros(200));
    }
    if serving.is_finished() {
        drop(notifier); // with the last descriptor of the connection all that waits for it fails
        let why = serving.join().map_or_else(|_| None, Result::err);
        let why = why.map_or("the session ended".to_string(), |e| e.to_string());
        return Err(format!("cannot serve the mount: {why} ({THREADS_HINT})"));
    }
    let kernel = FuseKernel::start(notifier, Arc::downgrade(connection), flusher.clone(), answering)
        .map_err(no_thread)?;
    Ok((Arc::new(kernel), serving))
}

/// The mount that was just made there.
fn find(point: &Path) -> Result<MountId, String> {
    let found = mounts::at(point).map_err(|e| format!("cannot read the list of mounts: {e}"))?;
    let found = found.filter(mounts::Mount::is_fuse);
    found
        .map(|m| m.mount_id())
        .ok_or_else(|| format!("the new mount at {} is not to be seen", names::shown(point)))
}
