//! The way back: dirty pages out of the kernel, cached names and attributes dropped.
//!
//! Nothing here may run on a request thread: to wait for a write-back needs request threads that are free. The write-back
//! itself is the flusher's. Invalidations only queue; a thread of this module sends them, because the kernel takes locks
//! for them that a request under way may hold.

use super::answering::Answering;
use super::flusher::{Flusher, NODES_MAX};
use super::mounts::{self, Mount, MountId};
use crate::limits::NAME_BYTES_MAX;
use crate::ops::{Caller, Kernel, MountBelow, NodeId};
use crate::sys::process;
use fuser::{INodeNo, Notifier};
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long whoever drops names waits before another way is taken. The kernel locks each directory. A rename from one
/// `.snapshots` to another, which is always refused, locks two and may wait for the one that a request under way has
/// locked; that request must end. Long enough for a busy machine: the other way has every name of the mount asked for anew,
/// and until that is answered a working directory counts as deleted.
const NAMES_SOON: Duration = Duration::from_secs(1);
/// How long it waits where there is no other way.
const NAMES_PATIENCE: Duration = Duration::from_secs(2);

/// `struct fuse_out_header` of FUSE_NOTIFY_INC_EPOCH (8): length, code, no request. Kernels before 6.16 refuse it.
const INC_EPOCH: [u8; 16] = {
    let ([a, b, c, d], [e, f, g, h]) = (16u32.to_ne_bytes(), 8u32.to_ne_bytes());
    [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0]
};

/// Code of FUSE_NOTIFY_INVAL_INODE.
const INVAL_INODE: i32 = 2;

/// `struct fuse_out_header` and `struct fuse_notify_inval_inode_out`: attributes, and all pages.
fn invalidation(node: NodeId) -> [u8; 40] {
    let mut out = [0; 40];
    out[..4].copy_from_slice(&40u32.to_ne_bytes());
    out[4..8].copy_from_slice(&INVAL_INODE.to_ne_bytes());
    out[16..24].copy_from_slice(&node.0.to_ne_bytes());
    out
}

/// Code of FUSE_NOTIFY_INVAL_ENTRY, and its flag FUSE_EXPIRE_ONLY: the name stays in its place and is asked for anew. Kernels
/// before 6.2 take no notice of the flag, and drop the name.
const INVAL_ENTRY: i32 = 3;
const EXPIRE_ONLY: u32 = 1;

/// `struct fuse_out_header` and `struct fuse_notify_inval_entry_out` with a name and its end.
fn expiry(parent: NodeId, name: &[u8]) -> Vec<u8> {
    let len = 16 + 16 + name.len() + 1;
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&(len as u32).to_ne_bytes());
    out.extend_from_slice(&INVAL_ENTRY.to_ne_bytes());
    out.extend_from_slice(&0u64.to_ne_bytes()); // no request
    out.extend_from_slice(&parent.0.to_ne_bytes());
    out.extend_from_slice(&(name.len() as u32).to_ne_bytes());
    out.extend_from_slice(&EXPIRE_ONLY.to_ne_bytes());
    out.extend_from_slice(name);
    out.push(0);
    out
}

/// Notices that go out together at most, beside the first.
const NOTICES_MAX: usize = 1023;

/// A name that nothing has, for it is too long, and that the kernel looks for all the same, with the directory locked: whoever
/// lists it or looks something up there does what comes of the answer first.
const NOBODYS_NAME: [u8; NAME_BYTES_MAX + 1] = [b'-'; NAME_BYTES_MAX + 1];

enum Notice {
    Node(NodeId),
    Entry(NodeId, Vec<u8>),
    /// Root and path of a snapshot or clone that is deleted.
    Below(NodeId, Vec<u8>),
    Stop,
}

/// [`Kernel`] of one FUSE mount.
pub(super) struct FuseKernel {
    notifier: Notifier,
    /// The same once more, for what the notifier does not know. It goes when the mount does.
    connection: Weak<OwnedFd>,
    flusher: Arc<Flusher>,
    answering: Answering,
    notices: Mutex<Sender<Notice>>,
    sending: Mutex<Option<JoinHandle<()>>>,
    /// Names may lead to what is mounted where this process does not see it.
    are_covered: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
}

impl FuseKernel {
    pub(super) fn start(
        notifier: Notifier,
        connection: Weak<OwnedFd>,
        flusher: Arc<Flusher>,
        answering: Answering,
    ) -> io::Result<FuseKernel> {
        let (notices, queue) = mpsc::channel();
        let (sender, about) = (notifier.clone(), flusher.clone());
        let sending = std::thread::Builder::new()
            .name("fuse-notify".into())
            .spawn(move || send_notices(&sender, &about, &queue))?;
        let (notices, sending) = (Mutex::new(notices), Mutex::new(Some(sending)));
        let are_covered = OnceLock::new();
        Ok(FuseKernel { notifier, connection, flusher, answering, notices, sending, are_covered })
    }

    /// Ends the thread. What is queued goes out first, and fails quietly: the mount is gone.
    pub(super) fn stop(&self) {
        let _ = self.notices.lock().send(Notice::Stop); // fails only when the thread has ended already
        if let Some(thread) = self.sending.lock().take() {
            let _ = thread.join(); // it has nothing to report
        }
    }

    /// Makes the kernel ask anew for each name of the whole mount before it goes by it again, which takes no lock. What is
    /// mounted below a name is detached when that is asked for, so this is not done where something is.
    fn begin_epoch(&self) -> io::Result<()> {
        let mount = self.flusher.mount().ok_or(io::ErrorKind::NotConnected)?;
        if mounts::is_under_others(mount)? || self.are_covered.get().is_some_and(|are| are()) {
            return Err(io::Error::other("other mounts are below"));
        }
        self.notify(&INC_EPOCH)
    }

    /// Sends what the notifier does not know.
    fn notify(&self, message: &[u8]) -> io::Result<()> {
        self.to_kernel()?.write_all(message)
    }

    /// For several messages: the mount does not end before this is dropped.
    fn to_kernel(&self) -> io::Result<File> {
        let connection = self.connection.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        Ok(File::from(connection.try_clone()?))
    }

    fn queue(&self, notice: Notice) {
        // After the end of the mount there is nothing to invalidate.
        let _ = self.notices.lock().send(notice);
    }
}

impl Kernel for FuseKernel {
    fn closes_late(&self) -> bool {
        true
    }

    fn write_back(&self, nodes: &[(NodeId, u64)]) -> io::Result<()> {
        for some in nodes.chunks(NODES_MAX) {
            let some = some.iter().map(|(node, generation)| (node.0, *generation)).collect();
            for closed in self.flusher.write_back(some)? {
                // A file that its own mode keeps from the flusher. The notification writes its pages back too, one request
                // a page, and waits; that it cannot report an error is why it is the last resort.
                let node = NodeId(closed);
                self.notifier.inval_inode(INodeNo(node.0), 0, 0).map_err(|e| named(node, &e))?;
            }
        }
        Ok(())
    }

    fn dirty_bytes_at_most(&self) -> u64 {
        process::dirty_page_bytes()
    }

    fn drain(&self, node: NodeId) {
        if let Err(e) = self.notifier.inval_inode(INodeNo(node.0), 0, 0) {
            log::debug!("inode {} was not cached: {e}", node.ino());
        }
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

    fn invalidate_now(&self, node: NodeId) -> bool {
        // The notifier does not say whether the node was known.
        !self.notify(&invalidation(node)).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
    }

    fn invalidate_entry(&self, parent: NodeId, name: &[u8]) {
        self.queue(Notice::Entry(parent, name.to_vec()));
    }

    fn detach_below(&self, root: NodeId, path: &[u8]) {
        self.queue(Notice::Below(root, path.to_vec()));
    }

    fn is_mounted(&self, path: &[u8]) -> bool {
        let Some(mount) = self.flusher.mount() else { return false };
        // If that cannot be told it may be.
        mounts::has_own_place(mount, Path::new(OsStr::from_bytes(path))).unwrap_or(true)
    }

    /// By a thread of its own: those of others may have to wait for the request that calls this.
    fn drop_names(&self, names: Vec<(NodeId, Vec<u8>)>) {
        let (notifier, (done, wait)) = (self.notifier.clone(), mpsc::channel());
        let names = Arc::new(names);
        let dropped = names.clone();
        let started = std::thread::Builder::new().name("fuse-names".into()).spawn(move || {
            for (parent, name) in dropped.iter() {
                send_notice(&notifier, &Notice::Entry(*parent, name.clone()));
            }
            let _ = done.send(()); // fails when nobody waits any more
        });
        if started.is_ok() && wait.recv_timeout(NAMES_SOON).is_ok() {
            return;
        }
        match (self.begin_epoch(), started) {
            (Ok(()), _) => {}
            (Err(e), Ok(_)) => {
                if wait.recv_timeout(NAMES_PATIENCE).is_err() {
                    log::warn!("names of snapshots are known to the kernel for a little longer: {e}");
                }
            }
            (_, Err(e)) => {
                log::warn!("names of snapshots are dropped a little later: no thread starts: {e}");
                names.iter().for_each(|(parent, name)| self.queue(Notice::Entry(*parent, name.clone())));
            }
        }
    }

    fn heed_covers(&self, are_there: Box<dyn Fn() -> bool + Send + Sync>) {
        let _ = self.are_covered.set(are_there); // it is asked once
    }

    fn doubt_all_names(&self) -> bool {
        let done = self.notify(&INC_EPOCH);
        done.inspect_err(|e| log::debug!("this kernel cannot ask anew for all names at once: {e}")).is_ok()
    }

    fn doubt_names(&self, names: &[(NodeId, Vec<u8>)]) {
        let Ok(mut kernel) = self.to_kernel().map_err(|e| take(Err(e))) else { return };
        for (parent, name) in names {
            take(kernel.write_all(&expiry(*parent, name)));
        }
    }

    fn look_up(&self, path: &[u8]) {
        if let Err(e) = self.flusher.look_up(path) {
            log::debug!("a path of the mount was not looked up: {e}");
        }
    }

    fn between_answers(&self, work: &mut dyn FnMut()) {
        self.answering.between(work);
    }

    fn take_in(&self, dirs: &[NodeId]) {
        let Ok(mut kernel) = self.to_kernel().map_err(|e| take(Err(e))) else { return };
        for dir in dirs {
            // One that is not known has no names, and this name is not there.
            match kernel.write_all(&expiry(*dir, &NOBODYS_NAME)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => take(Err(e)),
                _ => {}
            }
        }
    }

    fn mounts_below(&self, path: &[u8]) -> io::Result<Vec<MountBelow>> {
        let mount = self.flusher.mount().ok_or(io::ErrorKind::NotConnected)?;
        mounts::points_below(mount, Path::new(OsStr::from_bytes(path)))
    }
}

fn named(node: NodeId, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("writing back inode {}: {error}", node.ino()))
}

/// `rmdir` makes the kernel forget the name of a snapshot or clone, and then nobody can come to what is mounted below. Dropping
/// the names in its root that lead there detaches it, in all mount namespaces. The kernel has the directory locked
/// until the `rmdir` is over; this waits for it.
fn detach_below(
    notifier: &Notifier,
    (all, mount): (&[Mount], MountId),
    (root, path): (NodeId, &[u8]),
) -> io::Result<()> {
    for name in mounts::names_below(all, mount, Path::new(OsStr::from_bytes(path))) {
        notifier.inval_entry(INodeNo(root.0), &name)?;
    }
    Ok(())
}

fn send_notices(notifier: &Notifier, flusher: &Flusher, queue: &Receiver<Notice>) {
    while let Ok(first) = queue.recv() {
        let some: Vec<Notice> = std::iter::once(first).chain(queue.try_iter().take(NOTICES_MAX)).collect();
        // What is mounted below something is looked up once for all that go together, after they went.
        let are_below = some.iter().any(|notice| matches!(notice, Notice::Below(..)));
        let mount = flusher.mount().filter(|_| are_below);
        let mounts = mount.map_or(Ok(Vec::new()), |_| mounts::all());
        let mounts =
            mounts.inspect_err(|e| log::debug!("the mounts cannot be read: {e}")).unwrap_or_default();
        for notice in some {
            match (&notice, mount) {
                (Notice::Stop, _) => return,
                (Notice::Below(root, path), Some(mount)) => {
                    take(detach_below(notifier, (&mounts, mount), (*root, path)));
                }
                (Notice::Below(..), None) => {}
                _ => send_notice(notifier, &notice),
            }
        }
    }
}

fn send_notice(notifier: &Notifier, notice: &Notice) {
    let sent = match notice {
        Notice::Node(node) => notifier.inval_inode(INodeNo(node.0), 0, 0),
        Notice::Entry(parent, name) => notifier.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name)),
        Notice::Below(..) | Notice::Stop => Ok(()),
    };
    take(sent);
}

fn take(sent: io::Result<()>) {
    if let Err(e) = sent {
        // The kernel does not know the node (nothing to drop), or the mount has ended.
        log::debug!("an invalidation was not taken: {e}");
    }
}
