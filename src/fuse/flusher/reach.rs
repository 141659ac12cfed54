//! How the flusher gets a descriptor in the mount.
//!
//! It opens a new one for each order, because a descriptor that stays open would keep the mount busy. It finds the
//! mount by the number of its device, because paths change: the mount may have been moved, covered, or a directory
//! above it renamed. It looks first where it was found the last time.

use crate::fuse::mounts::{self, Mount, MountId};
use crate::names;
use crate::sys::mount::{self as sys_mount, fcntl};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// Mounts that may lie over each other before it is given up.
const COVERS_MAX: usize = 64;

/// The way to a mount, with the place in which it was found the last time.
#[derive(Default)]
pub(super) struct Reach(Option<Mount>);

impl Reach {
    /// A directory of the mount, to be looked up in and no more: its root, wherever that can be reached.
    pub(super) fn look(&mut self, mount: MountId) -> io::Result<File> {
        self.to(mount, look_at)
    }

    /// The same, open: the mount has answered.
    pub(super) fn open(&mut self, mount: MountId) -> io::Result<File> {
        self.to(mount, open_exactly)
    }

    fn to(&mut self, mount: MountId, open: fn(&Mount) -> io::Result<Option<File>>) -> io::Result<File> {
        let last = self.0.take().filter(|m| m.device == mount.device);
        if let Some(m) = last
            && let Ok(Some(dir)) = open(&m)
        {
            self.0 = Some(m);
            return Ok(dir);
        }
        let mut ours: Vec<Mount> = mounts::all()?.into_iter().filter(|m| m.device == mount.device).collect();
        ours.sort_by_key(|m| (m.root.as_os_str() != "/", m.id != mount.id));
        let mut failure = None;
        for m in &ours {
            match open(m) {
                Ok(Some(dir)) => {
                    self.0 = Some(m.clone());
                    return Ok(dir);
                }
                Ok(None) => {}
                Err(e) => failure = Some(e),
            }
        }
        for m in &ours {
            match uncover(m) {
                Ok(dir) => return Ok(dir),
                Err(e) => {
                    let what = format!(
                        "{} is covered by another mount, and cannot be reached",
                        names::shown(&m.point)
                    );
                    failure = Some(io::Error::new(e.kind(), format!("{what}: {e}")));
                }
            }
        }
        let nowhere = || io::Error::other("the mount is in no place that this process can see");
        Err(failure.unwrap_or_else(nowhere))
    }
}

/// The root of this mount without asking its file system anything; `None` if its path leads elsewhere.
pub(super) fn look_at(m: &Mount) -> io::Result<Option<File>> {
    let flags = fcntl::O_PATH | fcntl::O_DIRECTORY | fcntl::O_NOFOLLOW;
    match File::options().read(true).custom_flags(flags).open(&m.point) {
        Ok(root) => Ok(sys_mount::is_through(&root, m.id, m.device)?.then_some(root)),
        Err(e) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&e.kind()) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Opens what [`look_at`] found.
pub(super) fn enter(root: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", root.as_raw_fd());
    File::options().read(true).custom_flags(fcntl::O_DIRECTORY).open(path)
}

fn open_exactly(m: &Mount) -> io::Result<Option<File>> {
    look_at(m)?.map(|root| enter(&root)).transpose()
}

/// The same for a mount that others lie over: a thread takes them away in a copy of all mounts that is its own.
fn uncover(m: &Mount) -> io::Result<File> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || {
            sys_mount::leave_mount_namespace()?;
            for _ in 0..COVERS_MAX {
                let all = mounts::all()?;
                let same = |c: &&Mount| c.device == m.device && c.point == m.point && c.root == m.root;
                let copy = all.iter().find(same).ok_or(io::ErrorKind::NotFound)?;
                if let Some(dir) = open_exactly(copy)? {
                    return Ok(dir);
                }
                let cover = mounts::hiding(&all, copy).ok_or(io::ErrorKind::NotFound)?;
                sys_mount::umount(&cover.point, true)?;
            }
            Err(io::Error::other("too many mounts lie over it"))
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("an assertion failed")))
    })
}
