//! Which daemon serves what: a JSON file `MAJOR:MINOR.json` beside each socket `MAJOR:MINOR.sock`.
//!
//! The numbers are those of the mount's device, so a path in the mount finds its daemon by `stat` alone. A record whose
//! process is gone is removed by whoever sees it.

use super::dirs::{self, RuntimeDir};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// One running daemon.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its process.
    pub pid: u32,
    /// The store: absolute, without links.
    pub store: PathBuf,
    /// The mount point: absolute, without links.
    pub mountpoint: PathBuf,
    /// When it was mounted, RFC 3339 UTC.
    pub started: String,
    /// The snapshot that is mounted there, if it is not the live tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Device and inode number of the store, which stay when it is moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_id: Option<(u64, u64)>,
}

impl Record {
    /// The path leads to the store that is open, and to no other.
    pub fn is_store(&self, path: &Path) -> bool {
        match self.store_id {
            Some(id) => id_of(path) == Some(id),
            None => self.store == path,
        }
    }
}

/// Device and inode number of what is at a path.
pub fn id_of(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// A record and where its files are.
#[derive(Clone, Debug)]
pub struct Found {
    /// The record.
    pub record: Record,
    /// User of the daemon.
    pub uid: u32,
    dir: PathBuf,
    name: String,
}

impl Found {
    /// The socket's directory and name.
    pub(super) fn socket(&self) -> (&Path, String) {
        (&self.dir, format!("{}.sock", self.name))
    }

    /// True until the daemon has closed its store, or died.
    pub fn is_running(&self) -> bool {
        let same = read(&file(&self.dir, &self.name)).is_some_and(|r| r == self.record);
        same && is_alive(self.record.pid)
    }
}

pub(super) fn file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.json"))
}

/// The name of a mount's files.
pub(super) fn name_of(device: (u32, u32)) -> String {
    format!("{}:{}", device.0, device.1)
}

/// Writes a record: in one step, so that no reader sees half of it.
pub(super) fn write(dir: &Path, name: &str, record: &Record) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let _ = fs::remove_file(&new); // left behind by a process that died here
    let out = fs::File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    serde_json::to_writer(out, record)?;
    fs::rename(&new, file(dir, name))
}

/// All running daemons that this user may talk to, in order of their mount points.
pub fn all() -> Vec<Found> {
    let mut found: Vec<Found> = dirs::visible().iter().flat_map(in_dir).collect();
    found.sort_by(|a, b| a.record.mountpoint.cmp(&b.record.mountpoint));
    found
}

/// The daemon of the mount that `target` is in, or of the store that `target` is.
pub fn find(target: &Path) -> Option<Found> {
    if let Ok(meta) = fs::metadata(target) {
        let name = name_of(crate::sys::mount::major_minor(meta.dev()));
        let dirs = dirs::visible();
        if let Some(found) = dirs.iter().find_map(|dir| load(dir, &name)) {
            return Some(found);
        }
    }
    let real = fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf());
    let at = |f: &Found| f.record.mountpoint == real;
    all().into_iter().find(at).or_else(|| find_store(&real))
}

/// The daemon that has this store open, wherever it was when it was mounted; by its live tree if that is mounted.
pub fn find_store(store: &Path) -> Option<Found> {
    let real = fs::canonicalize(store).unwrap_or_else(|_| store.to_path_buf());
    all().into_iter().filter(|f| f.record.is_store(&real)).min_by_key(|f| f.record.snapshot.is_some())
}

fn in_dir(dir: &RuntimeDir) -> Vec<Found> {
    let Ok(entries) = fs::read_dir(&dir.path) else { return Vec::new() };
    entries
        .filter_map(|e| {
            let name = e.ok()?.file_name().into_string().ok()?;
            load(dir, name.strip_suffix(".json")?)
        })
        .collect()
}

pub(super) fn load(dir: &RuntimeDir, name: &str) -> Option<Found> {
    let record = read(&file(&dir.path, name))?;
    if !is_alive(record.pid) {
        remove(&dir.path, name);
        return None;
    }
    Some(Found { record, uid: dir.uid, dir: dir.path.clone(), name: name.to_string() })
}

/// Removes the files of a mount; what is gone already is fine.
pub(super) fn remove(dir: &Path, name: &str) {
    for path in [file(dir, name), dir.join(format!("{name}.sock"))] {
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                log::warn!("cannot remove {}: {e}", path.display());
            }
            _ => {}
        }
    }
}

fn read(path: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// A process that was killed and whose parent has not noticed yet counts as dead.
fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read(Path::new("/proc").join(pid.to_string()).join("stat")) else { return false };
    // `PID (NAME) STATE ...`, and the name may hold anything.
    let state = stat.iter().rposition(|&b| b == b')').and_then(|at| stat.get(at + 2));
    !matches!(state, Some(b'Z' | b'X') | None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_told_from_the_living() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(u32::MAX));
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while is_alive(child.id()) {
            assert!(std::time::Instant::now() < end, "it ends at once, and we have not waited for it");
            std::thread::yield_now();
        }
        child.wait().expect("wait");
    }
}
