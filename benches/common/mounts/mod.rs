//! The peers: each a guard that makes, mounts, remounts and at last unmounts one file system.

mod fuse;
mod kernel;
pub mod snapfs;
mod zfs;

use crate::common::Result;
use crate::common::counters::{self, Disk};
use crate::common::medium::{Medium, text};
use crate::common::process;
use crate::common::raw;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Names of all peers.
pub const NAMES: [&str; 15] = [
    "snapfs",
    "snapfs-image",
    "snapfs-loop",
    "snapfs-writeback",
    "snapfs-zstd",
    "btrfs",
    "btrfs-zstd",
    "ext4",
    "xfs",
    "zfs-fuse",
    "ntfs-3g",
    "ntfs-3g-open",
    "fuse2fs",
    "bindfs",
    "s3ql",
];

/// No check takes longer, and no freeing.
const CHECK_LIMIT: Duration = Duration::from_secs(300);

/// What each kind of peer can do. Its `Drop` unmounts it and ends its daemon, whatever happened.
trait FileSystem {
    fn mount(&mut self) -> Result<()>;
    /// Returns when the file system is closed: everything is on the device.
    fn unmount(&mut self) -> Result<()>;
    /// Where workloads work while it is mounted.
    fn root(&self) -> &Path;
    /// Its daemon, while it is mounted.
    fn pid(&self) -> Option<u32> {
        None
    }
    fn snapshots(&self) -> Option<Snapshots> {
        None
    }
    /// Its block device.
    fn disk(&self) -> Option<Disk> {
        None
    }
    /// What proves its metadata while it is not mounted.
    fn checker(&self) -> Option<Command> {
        None
    }
    /// What scrubs it and returns at the end, and what ends that earlier.
    fn scrubber(&self) -> Option<[Command; 2]> {
        None
    }
    /// Bytes of the store that are in use.
    fn used_bytes(&self) -> Result<u64> {
        Err("nobody counts them".into())
    }
    /// True while the space of deleted snapshots comes back.
    fn is_freeing(&self) -> Result<bool> {
        Ok(false)
    }
}

/// A mounted file system.
pub struct Peer {
    name: String,
    fs: Box<dyn FileSystem>,
}

impl Peer {
    /// Makes and mounts it. Fails if it is not to be had here. `what` is one of [`NAMES`], or `NAME=PATH` for another
    /// program of snapfs.
    pub fn new(what: &str, medium: &Medium) -> Result<Peer> {
        let name = Peer::name_of(what);
        let mut fs: Box<dyn FileSystem> = match name {
            _ if what != name && !NAMES.contains(&name) => {
                Box::new(snapfs::Snapfs::new(name, Some(&what[name.len() + 1..]), medium)?)
            }
            _ if what != name => return Err(format!("{name} is the name of another peer").into()),
            _ if name.split('-').next() == Some("snapfs") => {
                Box::new(snapfs::Snapfs::new(name, None, medium)?)
            }
            "btrfs" | "btrfs-zstd" | "ext4" | "xfs" => Box::new(kernel::Kernel::new(name, medium)?),
            "zfs-fuse" => Box::new(zfs::Zfs::new(medium)?),
            "ntfs-3g" | "ntfs-3g-open" | "fuse2fs" | "bindfs" | "s3ql" => {
                Box::new(fuse::Fuse::new(name, medium)?)
            }
            _ => {
                let known = NAMES.join(", ");
                return Err(format!("no such peer; there are {known}, and NAME=PROGRAM").into());
            }
        };
        fs.mount()?;
        Ok(Peer { name: name.into(), fs })
    }

    /// The name of a peer that was asked for.
    pub fn name_of(what: &str) -> &str {
        what.split_once('=').map_or(what, |(name, _)| name)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn root(&self) -> &Path {
        self.fs.root()
    }

    pub fn pid(&self) -> Option<u32> {
        self.fs.pid()
    }

    pub fn snapshots(&self) -> Option<Snapshots> {
        self.fs.snapshots()
    }

    pub fn disk(&self) -> Option<Disk> {
        self.fs.disk()
    }

    /// Closes and opens it: what is read next comes from the device, and nothing is left to be written. How long the
    /// opening took.
    pub fn remount(&mut self) -> Result<Duration> {
        self.fs.unmount()?;
        raw::sync_host();
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        let start = Instant::now();
        self.fs.mount()?;
        Ok(start.elapsed())
    }

    /// Proves its metadata, closed meanwhile; how long that took. None where there is no such program. Fails if the
    /// program finds anything.
    pub fn check(&mut self) -> Result<Option<Duration>> {
        let Some(mut command) = self.fs.checker() else { return Ok(None) };
        self.fs.unmount()?;
        let start = Instant::now();
        let done = process::run_command(&mut command, CHECK_LIMIT);
        let time = start.elapsed();
        self.fs.mount()?;
        done.map(|_| Some(time))
    }

    /// What scrubs it and returns at the end, and what ends that earlier.
    pub fn scrubber(&self) -> Option<[Command; 2]> {
        self.fs.scrubber()
    }

    /// Bytes of the store that are in use.
    pub fn used_bytes(&self) -> Result<u64> {
        self.fs.used_bytes()
    }

    /// Waits until the space of deleted snapshots is back.
    pub fn wait_until_freed(&self) -> Result<()> {
        if let Some(snapshots) = self.snapshots() {
            snapshots.hasten()?;
            snapshots.wait_until_gone()?;
        }
        let until = Instant::now() + CHECK_LIMIT;
        while self.fs.is_freeing()? {
            if Instant::now() > until {
                return Err("space does not come back".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.settle()
    }

    /// Waits until it does no work in the background any more.
    pub fn settle(&self) -> Result<()> {
        const QUIET: Duration = Duration::from_millis(120);
        let sample = || (self.pid().and_then(counters::cpu_seconds), self.disk().and_then(|d| d.calls()));
        let until = Instant::now() + Duration::from_secs(60);
        let mut last = sample();
        loop {
            std::thread::sleep(QUIET);
            let now = sample();
            if now == last {
                return Ok(());
            }
            if Instant::now() > until {
                return Err("it goes on working in the background".into());
            }
            last = now;
        }
    }
}

/// How a peer makes snapshots: by system calls of the program, or by a command where there is no other way.
#[derive(Clone)]
pub enum Snapshots {
    /// mkdir and rmdir below a directory.
    Directory(PathBuf),
    /// ioctls: a subvolume, and the directory of its snapshots.
    Btrfs { live: PathBuf, dir: PathBuf },
    /// `zfs snapshot` and `zfs destroy` of a pool: the start of a process is in every figure.
    Zfs(String),
}

impl Snapshots {
    /// Makes one; durable on return.
    pub fn create(&self, name: &str) -> Result<()> {
        match self {
            Snapshots::Directory(dir) => Ok(fs::create_dir(dir.join(name))?),
            Snapshots::Btrfs { live, dir } => raw::btrfs_snapshot(live, dir, name),
            Snapshots::Zfs(pool) => process::run("zfs", &["snapshot", &format!("{pool}@{name}")]).map(drop),
        }
    }

    /// Deletes one; its space may come back later.
    pub fn delete(&self, name: &str) -> Result<()> {
        match self {
            Snapshots::Directory(dir) => Ok(fs::remove_dir(dir.join(name))?),
            Snapshots::Btrfs { dir, .. } => raw::btrfs_delete(dir, name),
            Snapshots::Zfs(pool) => process::run("zfs", &["destroy", &format!("{pool}@{name}")]).map(drop),
        }
    }

    /// Makes sure that the space of deleted ones begins to come back now and not at some later time.
    pub fn hasten(&self) -> Result<()> {
        match self {
            Snapshots::Btrfs { dir, .. } => raw::btrfs_sync(dir),
            Snapshots::Directory(_) | Snapshots::Zfs(_) => Ok(()),
        }
    }

    /// How many there are, by their names.
    pub fn count(&self) -> Result<usize> {
        match self {
            Snapshots::Directory(dir) | Snapshots::Btrfs { dir, .. } => Ok(fs::read_dir(dir)?.count()),
            Snapshots::Zfs(pool) => {
                let args = ["list", "-H", "-o", "name", "-t", "snapshot", "-r", pool];
                Ok(process::run("zfs", &args)?.lines().count())
            }
        }
    }

    /// Where the files of one can be read. None if only a clone could show them.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        match self {
            Snapshots::Directory(dir) | Snapshots::Btrfs { dir, .. } => Some(dir.join(name)),
            Snapshots::Zfs(_) => None,
        }
    }

    /// Waits until the space of deleted ones is back, where that is to be asked for.
    pub fn wait_until_gone(&self) -> Result<()> {
        match self {
            Snapshots::Btrfs { dir, .. } => {
                process::run("btrfs", &["subvolume", "sync", text(dir)?]).map(drop)
            }
            Snapshots::Directory(_) | Snapshots::Zfs(_) => Ok(()),
        }
    }
}

/// True if something is mounted at `dir`.
fn is_mounted(dir: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
    match (device(dir), dir.parent().and_then(device)) {
        (Some(own), Some(above)) => own != above,
        // A mount whose daemon died cannot be asked.
        (None, Some(_)) => true,
        _ => false,
    }
}

fn unmount(dir: &Path) -> Result<()> {
    process::run_patiently("umount", &[text(dir)?]).map(drop)
}
