//! Which daemon serves what: for each of its mounts a daemon has a JSON file `NAME.json` beside a socket `NAME.sock`.
//!
//! NAME is random. Numbers of devices and of processes would not do: the kernel uses them again, often before the
//! daemon that had them is gone. What is mounted where is in the record.
//!
//! Invariant: the two files of an entry belong to one daemon. It makes them, changes them (in one step) and removes
//! them. Others remove them only when that daemon is proved to be dead. The proof is the lock (`flock`) on the record:
//! the kernel takes it from a process when that dies and not before, whichever process has its number later.

use super::dirs::{self, RuntimeDir};
use crate::names;
use crate::sys::mount::fcntl::{O_NOFOLLOW, O_NONBLOCK};
use crate::sys::random::random;
use crate::sys::{self, Flock, process};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longest record that is read, in bytes: two paths and a name, each as text and as digits.
const RECORD_BYTES_MAX: u64 = 128 << 10;
/// How often another name is tried for an entry, each as good as certain to be free.
const NAME_TRIES_MAX: usize = 8;

/// One mount of a running daemon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountRecord {
    /// Its process.
    pub pid: u32,
    /// `major:minor` of the device number that the mount has as long as it is there.
    pub device: (u32, u32),
    /// The store: absolute, without links.
    pub store: PathBuf,
    /// Which file that is, whatever its name is by now.
    pub store_id: StoreId,
    /// The mount point: absolute, without links.
    pub mountpoint: PathBuf,
    /// When it was mounted, RFC 3339 UTC.
    pub started: String,
    /// The snapshot that is mounted there, if it is not the live tree.
    pub snapshot: Option<Vec<u8>>,
}

/// The file, directory or device that a store is: where that is in, and its number there; 0 and its number for a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreId(pub u64, pub u64);

impl StoreId {
    /// Of what is at `path` now.
    pub fn of(path: &Path) -> io::Result<StoreId> {
        let meta = fs::metadata(path)?;
        // Any number of nodes may stand for one block device.
        let device = meta.file_type().is_block_device();
        Ok(if device { StoreId(0, meta.rdev()) } else { StoreId(meta.dev(), meta.ino()) })
    }
}

impl MountRecord {
    /// For programs.
    pub fn to_json(&self) -> Value {
        let mut object = json!({
            "pid": self.pid, "started": self.started, "device": format!("{}:{}", self.device.0, self.device.1),
        });
        names::put(&mut object, "store", &self.store);
        names::put(&mut object, "mountpoint", &self.mountpoint);
        if let Some(name) = &self.snapshot {
            names::put(&mut object, "snapshot", OsString::from_vec(name.clone()));
        }
        object
    }

    /// As it is kept.
    pub(super) fn kept(&self) -> Value {
        let mut object = self.to_json();
        object["store_id"] = json!([self.store_id.0, self.store_id.1]);
        object
    }

    fn from_json(object: &Value) -> Option<MountRecord> {
        let path = |key: &str| Some(PathBuf::from(OsString::from_vec(names::get(object, key)?)));
        let (major, minor) = object.get("device")?.as_str()?.split_once(':')?;
        let id = |n: usize| object.get("store_id")?.get(n)?.as_u64();
        Some(MountRecord {
            pid: u32::try_from(object.get("pid")?.as_u64()?).ok()?,
            device: (major.parse().ok()?, minor.parse().ok()?),
            store: path("store")?,
            store_id: StoreId(id(0)?, id(1)?),
            mountpoint: path("mountpoint")?,
            started: object.get("started")?.as_str()?.to_string(),
            snapshot: names::get(object, "snapshot"),
        })
    }
}

/// A record and where its files are.
#[derive(Clone, Debug)]
pub struct FoundMount {
    /// The record.
    pub record: MountRecord,
    /// User of the daemon.
    pub uid: u32,
    dir: PathBuf,
    name: String,
}

impl FoundMount {
    /// The socket's directory and name.
    pub(super) fn socket(&self) -> (&Path, String) {
        (&self.dir, socket_name(&self.name))
    }

    /// True until the daemon has closed its store, or died.
    pub fn is_running(&self) -> bool {
        look(&record_file(&self.dir, &self.name)).is_ok_and(|file| is_held(&file))
    }

    /// True if the record is there and its daemon is not.
    pub fn is_left_behind(&self) -> bool {
        look(&record_file(&self.dir, &self.name)).is_ok_and(|file| !is_held(&file))
    }
}

fn record_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.json"))
}

/// Where a record is before it is one.
fn new_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.new"))
}

fn socket_name(name: &str) -> String {
    format!("{name}.sock")
}

/// Opens a file of an entry, whatever another user has put there.
fn look(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(O_NONBLOCK | O_NOFOLLOW).open(path)
}

/// True while the process that made a record lives. Those who look share the lock, and do not disturb each other.
fn is_held(file: &File) -> bool {
    sys::flock(file.as_fd(), Flock::Shared).is_err()
}

/// An entry of this process. Dropping it removes its files, and nobody else's.
pub(super) struct OwnEntry {
    dir: PathBuf,
    name: String,
    file: File,
}

impl OwnEntry {
    /// Takes a name. There is no record before [`OwnEntry::publish`].
    pub fn begin(dir: &Path) -> io::Result<OwnEntry> {
        let mut last = io::ErrorKind::AlreadyExists.into();
        for _ in 0..NAME_TRIES_MAX {
            let name = random_name()?;
            let path = new_file(dir, &name);
            let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
            // Before it is locked somebody may take it for one that a dead process has left, and remove it.
            match sys::flock(file.as_fd(), Flock::Exclusive).and_then(|()| fs::metadata(&path)) {
                Ok(_) => return Ok(OwnEntry { dir: dir.to_path_buf(), name, file }),
                Err(e) => last = e,
            }
            let _ = fs::remove_file(&path); // most likely it is gone
        }
        Err(last)
    }

    /// The socket's directory and name.
    pub fn socket(&self) -> (&Path, String) {
        (&self.dir, socket_name(&self.name))
    }

    /// Lets everybody see it, in one step.
    pub fn publish(&mut self, record: &MountRecord) -> io::Result<()> {
        self.file.write_all(record.kept().to_string().as_bytes())?;
        fs::rename(new_file(&self.dir, &self.name), record_file(&self.dir, &self.name))
    }
}

impl Drop for OwnEntry {
    fn drop(&mut self) {
        remove(&self.dir, &self.name);
    }
}

fn random_name() -> io::Result<String> {
    let bytes: [u8; 8] = random()?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Removes the files of an entry whose owner is this process, or dead; what is gone already is fine. The record goes last.
fn remove(dir: &Path, name: &str) {
    for path in [dir.join(socket_name(name)), new_file(dir, name), record_file(dir, name)] {
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                log::warn!("cannot remove {}: {e}", names::shown(&path));
            }
            _ => {}
        }
    }
}

/// All running daemons that this user may talk to: his own first, in order of their mount points.
pub fn all() -> Vec<FoundMount> {
    let own = process::effective_uid();
    let mut found: Vec<FoundMount> = dirs::visible().iter().flat_map(in_dir).collect();
    found.sort_by(|a, b| (a.uid != own, &a.record.mountpoint).cmp(&(b.uid != own, &b.record.mountpoint)));
    found
}

/// Those that have, or until a moment ago had, a mount with this device number.
pub fn with_device(device: (u32, u32)) -> impl Iterator<Item = FoundMount> {
    all().into_iter().filter(move |f| f.record.device == device)
}

/// Those that have this store open, by its live tree first. It is known by what it is, not by its name.
pub fn with_store(store: &Path) -> Vec<FoundMount> {
    let Ok(id) = StoreId::of(store) else { return Vec::new() };
    let mut found: Vec<FoundMount> = all().into_iter().filter(|f| f.record.store_id == id).collect();
    found.sort_by_key(|f| f.record.snapshot.is_some());
    found
}

pub(super) fn in_dir(dir: &RuntimeDir) -> Vec<FoundMount> {
    let Ok(entries) = fs::read_dir(&dir.path) else { return Vec::new() };
    entries
        .filter_map(|e| {
            let name = e.ok()?.file_name().into_string().ok()?;
            if let Some(name) = name.strip_suffix(".new") {
                // Of a process that died while it was making one.
                if look(&new_file(&dir.path, name)).is_ok_and(|file| !is_held(&file)) {
                    remove(&dir.path, name);
                }
                return None;
            }
            load(dir, name.strip_suffix(".json")?)
        })
        .collect()
}

/// A record whose daemon lives; that of a dead one is removed.
pub(super) fn load(dir: &RuntimeDir, name: &str) -> Option<FoundMount> {
    let file = look(&record_file(&dir.path, name)).ok()?;
    if !is_held(&file) {
        remove(&dir.path, name);
        return None;
    }
    let mut text = Vec::new();
    (&file).take(RECORD_BYTES_MAX).read_to_end(&mut text).ok()?;
    let record = MountRecord::from_json(&serde_json::from_slice(&text).ok()?)?;
    Some(FoundMount { record, uid: dir.uid, dir: dir.path.clone(), name: name.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_kept_whatever_its_names_are() {
        let bytes = |b: &[u8]| OsString::from_vec(b.to_vec());
        for snapshot in [None, Some(b"s\xff".to_vec())] {
            let record = MountRecord {
                pid: 7,
                device: (0, 99),
                store: bytes(b"/a\xff").into(),
                store_id: StoreId(1, u64::MAX),
                mountpoint: bytes(b"/m\n\xfe").into(),
                started: "2026-01-01T00:00:00Z".into(),
                snapshot,
            };
            let kept = serde_json::from_str(&record.kept().to_string()).expect("JSON");
            assert_eq!(MountRecord::from_json(&kept), Some(record));
        }
        assert_eq!(MountRecord::from_json(&json!({"pid": 1})), None);
    }
}
