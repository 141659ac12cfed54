//! The way back: dirty pages out of the kernel, cached names and attributes dropped.
//!
//! Nothing here may run on a request thread: opening a file of our own mount, or waiting for its write-back, needs
//! request threads that are free. Invalidations only queue; a thread of this module sends them, because the kernel
//! takes locks for them that a request under way may hold.

use super::hidden;
use crate::ops::{Caller, Kernel, NodeId};
use crate::sys::mount::{self as sys_mount, errno, fcntl};
use crate::sys::process;
use fuser::{INodeNo, Notifier};
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// Files that are open at once during a write-back: well below the usual limit of 1024 descriptors.
const OPEN_MAX: usize = 256;

/// How often the hidden directory is asked for, a millisecond apart.
const HIDDEN_TRIES: u32 = 1000;

/// How long whoever drops names waits for it. The kernel locks each directory. A rename from one `.snapshots` to another,
/// which is always refused, locks two and may wait for the one that a request under way has locked; that request must end.
const NAMES_PATIENCE: Duration = Duration::from_secs(2);

/// Descriptors in the mount, for the time of one write-back.
struct Dirs {
    mount: File,
    hidden: Option<File>,
}

enum Notice {
    Node(NodeId),
    Entry(NodeId, Vec<u8>),
    Stop,
}

/// [`Kernel`] of one FUSE mount.
pub(super) struct FuseKernel {
    notifier: Notifier,
    point: PathBuf,
    device: (u32, u32),
    /// Set when the kernel refused us file handles: they need a capability.
    no_handles: AtomicBool,
    notices: Mutex<Sender<Notice>>,
    sending: Mutex<Option<JoinHandle<()>>>,
}

impl FuseKernel {
    pub(super) fn start(notifier: Notifier, point: PathBuf, device: (u32, u32)) -> io::Result<FuseKernel> {
        let (notices, queue) = mpsc::channel();
        let sender = notifier.clone();
        let sending = std::thread::Builder::new()
            .name("fuse-notify".into())
            .spawn(move || send_notices(&sender, &queue))?;
        Ok(FuseKernel {
            notifier,
            point,
            device,
            no_handles: AtomicBool::new(false),
            notices: Mutex::new(notices),
            sending: Mutex::new(Some(sending)),
        })
    }

    /// Ends the thread. What is queued goes out first, and fails quietly: the mount is gone.
    pub(super) fn stop(&self) {
        let _ = self.notices.lock().send(Notice::Stop); // fails only when the thread has ended already
        if let Some(thread) = self.sending.lock().take() {
            let _ = thread.join(); // it has nothing to report
        }
    }

    fn queue(&self, notice: Notice) {
        // After the end of the mount there is nothing to invalidate.
        let _ = self.notices.lock().send(notice);
    }

    /// A descriptor of the mount, open only as long as it is used: it would keep the mount busy.
    fn open_mount(&self) -> io::Result<File> {
        let mount = File::options()
            .read(true)
            .custom_flags(fcntl::O_DIRECTORY | fcntl::O_NOFOLLOW)
            .open(&self.point)?;
        if sys_mount::major_minor(mount.metadata()?.dev()) != self.device {
            let what = format!("{} is covered by another mount", self.point.display());
            return Err(io::Error::other(what));
        }
        Ok(mount)
    }

    /// The hidden directory. Everybody else is told that it is not there, and the kernel may share that answer with
    /// a walk of ours at the same time; so "not there" is asked again.
    fn open_hidden(&self) -> io::Result<File> {
        let flags = fcntl::O_PATH | fcntl::O_DIRECTORY | fcntl::O_NOFOLLOW;
        let mut tries = 0;
        loop {
            match File::options().read(true).custom_flags(flags).open(hidden::dir(&self.point)) {
                Err(e) if is(&e, errno::ENOENT) && tries < HIDDEN_TRIES => tries += 1,
                result => return result,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Opens a node for flushing. `None`: nobody knows it any more, so there are no dirty pages of it.
    fn open_node(&self, dirs: &mut Dirs, node: NodeId, generation: u64) -> io::Result<Option<File>> {
        let flags = fcntl::O_NONBLOCK | fcntl::O_NOFOLLOW;
        if !self.no_handles.load(Ordering::Relaxed) {
            match sys_mount::open_fuse_node(&dirs.mount, node.0, generation, fcntl::O_RDONLY | flags) {
                Ok(file) => return Ok(Some(file)),
                Err(e) => match e.raw_os_error() {
                    Some(errno::ESTALE | errno::ENOENT) => return Ok(None),
                    Some(errno::EPERM) => self.no_handles.store(true, Ordering::Relaxed),
                    Some(errno::ENOSYS | errno::EOPNOTSUPP) => self.no_handles.store(true, Ordering::Relaxed),
                    _ => return Err(e),
                },
            }
        }
        let dir = match &dirs.hidden {
            Some(dir) => dir,
            None => dirs.hidden.insert(self.open_hidden()?),
        };
        let path = format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), hidden::name(node, generation));
        let open = |read: bool| File::options().read(read).write(!read).custom_flags(flags).open(&path);
        match open(true).or_else(|e| if is(&e, errno::EACCES) { open(false) } else { Err(e) }) {
            Ok(file) => Ok(Some(file)),
            Err(e) if is(&e, errno::ENOENT) || is(&e, errno::ESTALE) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn write_back_some(&self, dirs: &mut Dirs, nodes: &[(NodeId, u64)]) -> io::Result<()> {
        let mut files = Vec::with_capacity(nodes.len());
        for &(node, generation) in nodes {
            match self.open_node(dirs, node, generation) {
                Ok(Some(file)) => {
                    sys_mount::start_write_back(&file).map_err(|e| named(node, &e))?;
                    files.push((node, file));
                }
                Ok(None) => {}
                // A file that its own mode keeps from us. The notification writes its pages back too, one request a
                // page, and waits; that it cannot report an error is why it is the last resort.
                Err(e) if is(&e, errno::EACCES) => {
                    self.notifier.inval_inode(INodeNo(node.0), 0, 0).map_err(|e| named(node, &e))?
                }
                Err(e) => return Err(named(node, &e)),
            }
        }
        for (node, file) in files {
            sys_mount::finish_write_back(&file).map_err(|e| named(node, &e))?;
        }
        Ok(())
    }
}

impl Kernel for FuseKernel {
    fn write_back(&self, nodes: &[(NodeId, u64)]) -> io::Result<()> {
        if nodes.is_empty() {
            return Ok(());
        }
        let mut dirs = Dirs { mount: self.open_mount()?, hidden: None };
        nodes.chunks(OPEN_MAX).try_for_each(|some| self.write_back_some(&mut dirs, some))
    }

    fn is_member(&self, caller: &Caller, gid: u32) -> bool {
        caller.uid == 0 || caller.gid == gid || process::is_member(caller.pid, gid)
    }

    fn forget_attributes(&self, node: NodeId) {
        // A negative offset leaves the pages alone, and with them the locks that a write under way holds.
        if let Err(e) = self.notifier.inval_inode(INodeNo(node.0), -1, 0) {
            log::debug!("attributes of inode {} were not cached: {e}", node.ino());
        }
    }

    fn invalidate_node(&self, node: NodeId) {
        self.queue(Notice::Node(node));
    }

    fn invalidate_entry(&self, parent: NodeId, name: &[u8]) {
        self.queue(Notice::Entry(parent, name.to_vec()));
    }

    /// By a thread of its own: those of others may have to wait for the request that calls this.
    fn drop_names(&self, names: Vec<(NodeId, Vec<u8>)>) {
        let (notifier, (done, wait)) = (self.notifier.clone(), mpsc::channel());
        let started = std::thread::Builder::new().name("fuse-names".into()).spawn(move || {
            for (parent, name) in names {
                send_notice(&notifier, &Notice::Entry(parent, name));
            }
            let _ = done.send(()); // fails when nobody waits any more
        });
        match started {
            Ok(_) if wait.recv_timeout(NAMES_PATIENCE).is_ok() => {}
            Ok(_) => log::warn!("names of snapshots are still known to the kernel after {NAMES_PATIENCE:?}"),
            Err(e) => log::error!("cannot start a thread to drop names in the kernel: {e}"),
        }
    }
}

fn is(error: &io::Error, number: i32) -> bool {
    error.raw_os_error() == Some(number)
}

fn named(node: NodeId, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("writing back inode {}: {error}", node.ino()))
}

fn send_notices(notifier: &Notifier, queue: &Receiver<Notice>) {
    while let Ok(notice) = queue.recv() {
        if matches!(notice, Notice::Stop) {
            return;
        }
        send_notice(notifier, &notice);
    }
}

fn send_notice(notifier: &Notifier, notice: &Notice) {
    let sent = match notice {
        Notice::Node(node) => notifier.inval_inode(INodeNo(node.0), 0, 0),
        Notice::Entry(parent, name) => notifier.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name)),
        Notice::Stop => Ok(()),
    };
    if let Err(e) = sent {
        // The kernel does not know the node (nothing to drop), or the mount has ended.
        log::debug!("an invalidation was not taken: {e}");
    }
}
