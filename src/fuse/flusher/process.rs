//! The flusher's own side: a process with one thread that carries out orders, and one that sees the daemon die.
//!
//! It holds nothing of the daemon's: no `/dev/fuse`, no file of the store, no lock, no log. It holds something of the mount
//! only while it carries out an order, so the mount is not busy because of it.

use super::order::{self, Order, OrderAnswer};
use super::reach::{self, Reach};
use crate::fuse::hidden;
use crate::fuse::mount;
use crate::fuse::mounts::{self, Mount, MountId};
use crate::ops::NodeId;
use crate::sys::mount::{self as sys_mount, errno, fcntl};
use crate::sys::process;
use parking_lot::Mutex;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The first argument of a program that is to be a flusher. Then come the process that starts it, the mount as JSON, and the
/// thread that starts it: one that is started anew knows them from its first instruction on, should the daemon die by then.
pub(super) const VERB: &str = "flusher";
/// After this time it is looked once more whether whoever started this has ended.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// How often the hidden directory is asked for, a millisecond apart.
const HIDDEN_TRIES: u32 = 1000;

/// Is the flusher, to its end, if that is what the arguments of the program say. `None` if they do not; else its exit code.
/// Called before anything else is done.
pub fn run_flusher(args: &[OsString]) -> Option<u8> {
    match args {
        [_, verb, parent, mount, thread] if verb.as_os_str() == VERB => {
            let parent = parent.to_str().and_then(|pid| pid.parse().ok())?;
            let thread = thread.to_str().and_then(|tid| tid.parse().ok())?;
            let mount = serde_json::from_str(mount.to_str()?).ok()?;
            Some(u8::from(run((parent, thread), mount).is_err()))
        }
        _ => None,
    }
}

fn run((parent, thread): (u32, u32), mount: Option<MountId>) -> io::Result<()> {
    process::close_inherited()?;
    process::block_termination_signals()?;
    std::env::set_current_dir("/")?;
    process::drop_privileges()?;
    process::expect_parents_end()?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mount = Arc::new(Mutex::new(mount));
    let watched = mount.clone();
    // It may have ended before its end was expected. The process alone would not tell: a thread that the kernel has wait for the
    // mount, and so for this, keeps it there.
    let has_ended =
        move || std::os::unix::process::parent_id() != parent || !process::has_thread(parent, thread);
    std::thread::Builder::new().spawn(move || {
        let is_told = |at_most| process::wait_parents_end(at_most).unwrap_or(false);
        // One that was about to end is there for a moment still.
        if (has_ended() || is_told(Some(LAST_LOOK)) || has_ended() || is_told(None))
            && let Some(mount) = *watched.lock()
        {
            cut(mount);
        }
    })?;
    Process { mount, reach: Reach::default(), no_handles: false }.serve(&socket)
}

struct Process {
    mount: Arc<Mutex<Option<MountId>>>,
    reach: Reach,
    /// Set when the kernel refused us file handles: they need a capability.
    no_handles: bool,
}

impl Process {
    fn serve(&mut self, socket: &UnixStream) -> io::Result<()> {
        let mut orders = BufReader::new(socket);
        while let Ok(Some(order)) = order::receive(&mut orders) {
            let end = order == Order::End;
            let answer = self.carry_out(order);
            if order::send(socket, &answer).is_err() {
                break;
            }
            if end {
                return Ok(());
            }
        }
        // The daemon has died.
        let mount = *self.mount.lock();
        mount.map_or(Ok(()), clear_away)
    }

    fn carry_out(&mut self, order: Order) -> OrderAnswer {
        let known = *self.mount.lock();
        let mount = known.ok_or_else(|| io::Error::other("no mount to attend to"));
        let done = match order {
            Order::Attend(mount) => {
                *self.mount.lock() = Some(mount);
                Ok(())
            }
            Order::End => {
                known.into_iter().for_each(clear_what_is_left);
                Ok(())
            }
            Order::GiveUp => mount.and_then(|m| {
                cut(m);
                detach(m)
            }),
            Order::Prove => mount.and_then(|m| self.reach.open(m)?.metadata()).map(drop),
            Order::LookUp(path) => mount.and_then(|m| look_up(&self.reach.look(m)?, &path)),
            Order::Sync => mount.and_then(|m| sys_mount::sync_fs(&self.reach.open(m)?)),
            Order::Unmount => mount.and_then(unmount),
            Order::Detach => mount.and_then(detach),
            Order::WriteBack(nodes) => match mount.and_then(|m| self.reach.look(m)) {
                Ok(root) => return self.write_back(&root, &nodes),
                Err(e) => Err(e),
            },
        };
        done.map_or_else(|e| OrderAnswer::failure(&e), |()| OrderAnswer::default())
    }

    fn write_back(&mut self, root: &File, nodes: &[(u64, u64)]) -> OrderAnswer {
        let mut answer = OrderAnswer::default();
        let _inside = match Inside::of(root) {
            Ok(inside) => inside,
            Err(e) => return OrderAnswer::failure(&e),
        };
        let mut hidden = None;
        let mut files: Vec<(u64, File)> = Vec::new();
        for &(node, generation) in nodes {
            let mut opened = self.open_node(root, &mut hidden, NodeId(node), generation);
            // A low limit of open files makes it slower.
            if opened.as_ref().is_err_and(|e| is(e, errno::EMFILE) || is(e, errno::ENFILE))
                && !files.is_empty()
            {
                if let Err((node, e)) = finish(&mut files) {
                    return OrderAnswer::failure_of(node, &e);
                }
                opened = self.open_node(root, &mut hidden, NodeId(node), generation);
            }
            match opened {
                Ok(Some(file)) => {
                    if let Err(e) = sys_mount::start_write_back(&file) {
                        return OrderAnswer::failure_of(NodeId(node).ino(), &e);
                    }
                    files.push((NodeId(node).ino(), file));
                }
                Ok(None) => {}
                Err(e) if is(&e, errno::EACCES) => answer.closed.push(node),
                Err(e) => return OrderAnswer::failure_of(NodeId(node).ino(), &e),
            }
        }
        match finish(&mut files) {
            Ok(()) => answer,
            Err((node, e)) => OrderAnswer::failure_of(node, &e),
        }
    }

    /// Opens a node for flushing; this is in the mount. `None`: nobody knows it any more, so there are no dirty pages of it.
    fn open_node(
        &mut self,
        root: &File,
        hidden: &mut Option<File>,
        node: NodeId,
        generation: u64,
    ) -> io::Result<Option<File>> {
        let flags = fcntl::O_NONBLOCK | fcntl::O_NOFOLLOW;
        if !self.no_handles {
            match sys_mount::open_fuse_node(node.0, generation, fcntl::O_RDONLY | flags) {
                Ok(file) => return Ok(Some(file)),
                Err(e) => match e.raw_os_error() {
                    Some(errno::ESTALE | errno::ENOENT) => return Ok(None),
                    Some(errno::EPERM | errno::ENOSYS | errno::EOPNOTSUPP) => self.no_handles = true,
                    _ => return Err(e),
                },
            }
        }
        let dir = match hidden {
            Some(dir) => dir,
            None => hidden.insert(open_hidden(root)?),
        };
        let path = format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), hidden::name(node, generation));
        let open = |read: bool| File::options().read(read).write(!read).custom_flags(flags).open(&path);
        match open(true).or_else(|e| if is(&e, errno::EACCES) { open(false) } else { Err(e) }) {
            Ok(file) => Ok(Some(file)),
            Err(e) if is(&e, errno::ENOENT) || is(&e, errno::ESTALE) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// This process is in a directory of the mount, which costs no request as opening one does, until this is dropped.
struct Inside;

impl Inside {
    fn of(dir: &File) -> io::Result<Inside> {
        std::env::set_current_dir(format!("/proc/self/fd/{}", dir.as_raw_fd()))?;
        Ok(Inside)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = std::env::set_current_dir("/"); // the root of all is there
    }
}

fn finish(files: &mut Vec<(u64, File)>) -> Result<(), (u64, io::Error)> {
    files.drain(..).try_for_each(|(ino, file)| sys_mount::finish_write_back(&file).map_err(|e| (ino, e)))
}

fn look_up(root: &File, path: &[u8]) -> io::Result<()> {
    let way = Path::new("/proc/self/fd").join(root.as_raw_fd().to_string()).join(OsStr::from_bytes(path));
    fs::symlink_metadata(way).map(drop)
}

/// The hidden directory. Everybody else is told that it is not there, and the kernel may share that answer with a walk of
/// ours at the same time; so "not there" is asked again.
fn open_hidden(root: &File) -> io::Result<File> {
    let flags = fcntl::O_PATH | fcntl::O_DIRECTORY | fcntl::O_NOFOLLOW;
    let path = format!("/proc/self/fd/{}/{}", root.as_raw_fd(), hidden::NAME);
    let mut tries = 0;
    loop {
        match File::options().read(true).custom_flags(flags).open(&path) {
            Err(e) if is(&e, errno::ENOENT) && tries < HIDDEN_TRIES => tries += 1,
            result => return result,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The mount where it is now; `None` if it is gone.
fn find(mount: MountId) -> io::Result<Option<Mount>> {
    Ok(mounts::all()?.into_iter().find(|m| m.is(mount)))
}

/// Fails with EBUSY if the mount is in use, or another lies over it.
fn unmount(mount: MountId) -> io::Result<()> {
    let Some(m) = find(mount)? else { return Ok(()) };
    if reach::look_at(&m)?.is_none() {
        return Err(io::Error::from_raw_os_error(errno::EBUSY));
    }
    mount::unmount(&m.point, false)
}

fn detach(mount: MountId) -> io::Result<()> {
    let Some(m) = find(mount)? else { return Ok(()) };
    match reach::look_at(&m)? {
        Some(root) => mount::detach(&root, &m.point),
        None => Err(io::Error::from_raw_os_error(errno::EBUSY)),
    }
}

/// The daemon is dying, but a thread of it may wait in the kernel for a lock that a program in the mount holds, and that
/// program for an answer. Cutting the connection frees both.
fn cut(mount: MountId) {
    let _ = fs::write(format!("/sys/fs/fuse/connections/{}/abort", mount.device.1), "1"); // often not mounted
    if let Ok(Some(m)) = find(mount)
        && reach::look_at(&m).is_ok_and(|root| root.is_some())
    {
        let _ = sys_mount::umount_by_force(&m.point); // root's alone; `clear_away` does what it can
    }
}

/// The daemon ends as it should. Usually the mount is gone; if somebody has cut its connection it is there, and dead.
fn clear_what_is_left(mount: MountId) {
    if find(mount).is_ok_and(|m| m.is_some()) {
        let _ = clear_away(mount); // the next mount tries again
    }
}

/// Takes away every place of a mount whose daemon is gone. By then the number may belong to another device, which lives.
fn clear_away(mount: MountId) -> io::Result<()> {
    for m in mounts::all()?.iter().filter(|m| m.device == mount.device && m.is_fuse()) {
        if let Ok(Some(root)) = reach::look_at(m)
            && reach::enter(&root).is_err_and(|e| mount::is_dead_error(&e))
        {
            let _ = mount::detach(&root, &m.point); // nobody is left to hear of it; the next mount tries again
        }
    }
    Ok(())
}

fn is(error: &io::Error, number: i32) -> bool {
    error.raw_os_error() == Some(number)
}
