//! What lies below a block device, as far as it is a loop device or a partition of one: files, and which part of each.
//!
//! sysfs tells the path, which may lead elsewhere by now or in this mount namespace: what is opened is taken only if the
//! driver says that it is that file. Other layers (device mapper, RAID) share their parts among many devices and are not
//! looked through.

use crate::names;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::sys::{self, Flock};

/// Loop devices over loop devices that are followed.
const DEPTH_MAX: usize = 8;
/// Devices below a path that are looked at.
const NODES_MAX: usize = 64;
/// The unit of sysfs.
const SECTOR_BYTES: u64 = 512;

/// A file of which a device shows a part.
pub(super) struct Below {
    /// For a message.
    pub path: PathBuf,
    pub file: File,
    /// It is open for writing as well.
    pub writable: bool,
    /// First byte of the part.
    pub start: u64,
    /// Bytes of the part.
    pub len: u64,
}

/// Everything below the open block device `device`, nearest first, opened as a lock of kind `how` needs it.
pub(super) fn below(device: &File, how: Flock) -> Vec<Below> {
    let mut found: Vec<Below> = Vec::new();
    let Ok(len) = sys::blkgetsize64(device.as_fd()) else { return found };
    let mut start = 0;
    while found.len() < DEPTH_MAX {
        let device = found.last().map_or(device, |below| &below.file);
        let Some(next) = step(device, how, start, len) else { break };
        start = next.start;
        found.push(next);
    }
    found
}

/// The file below one device, if it is a loop device, and where the `len` bytes at `start` of the device are in it.
fn step(device: &File, how: Flock, start: u64, len: u64) -> Option<Below> {
    let metadata = device.metadata().ok().filter(|device| device.file_type().is_block_device())?;
    let (major, minor) = sys::device_numbers(metadata.rdev());
    let mut node = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let mut before = 0;
    if node.join("partition").exists() {
        before = number(&node.join("start"))?.checked_mul(SECTOR_BYTES)?;
        node.pop();
    }
    let mut path = fs::read(node.join("loop/backing_file")).ok()?;
    path.pop_if(|last| *last == b'\n');
    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
    let target = sys::loop_target(device.as_fd()).ok()?;
    let start = target.offset.checked_add(before)?.checked_add(start)?;
    let open = |write| OpenOptions::new().read(true).write(write).open(&path);
    let (opened, writable) = match (how, open(how == Flock::Exclusive)) {
        (Flock::Exclusive, Err(_)) => (open(false), false),
        (_, opened) => (opened, how == Flock::Exclusive),
    };
    let same = |file: &File| {
        let is_target = |found: fs::Metadata| (found.dev(), found.ino()) == (target.device, target.inode);
        file.metadata().is_ok_and(is_target)
    };
    match opened {
        Ok(file) if same(&file) => Some(Below { path, file, writable, start, len }),
        // In another mount namespace, or deleted: nobody else can open it by a name, either.
        _ => {
            log::warn!("cannot lock {}, over which the loop device of the store is", names::shown(&path));
            None
        }
    }
}

/// The files below what is at a path, as far as the system names them: through file systems on block devices, partitions, loop
/// devices and what the device mapper stacks. Only names: nothing is opened.
pub fn paths_below(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut nodes: Vec<PathBuf> = node_under(path).into_iter().collect();
    for _ in 0..NODES_MAX {
        let Some(mut node) = nodes.pop() else { break };
        if node.join("partition").exists() {
            node.pop();
        }
        if let Ok(mut name) = fs::read(node.join("loop/backing_file")) {
            name.pop_if(|last| *last == b'\n');
            let file = PathBuf::from(std::ffi::OsString::from_vec(name));
            nodes.extend(node_under(&file));
            found.push(file);
        }
        let slaves = fs::read_dir(node.join("slaves")).into_iter().flatten().flatten();
        nodes.extend(slaves.filter_map(|slave| fs::canonicalize(slave.path()).ok()));
    }
    found
}

/// Where sysfs has the block device at a path, or that of the file system around it.
fn node_under(path: &Path) -> Option<PathBuf> {
    let found = path.ancestors().find_map(|place| fs::metadata(place).ok())?;
    let is_device = found.file_type().is_block_device();
    let (major, minor) = sys::device_numbers(if is_device { found.rdev() } else { found.dev() });
    fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
