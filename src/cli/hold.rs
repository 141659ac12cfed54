//! Finding out what a store is, and keeping others out of it while it is used here.

use super::refusal::io;
use super::store_device::open_device;
use crate::ctl::{Client, Code, Failure};
use crate::device::lock::{LockError, LockMode, StoreLock};
use crate::device::{self, Device, StoreKind};
use crate::names;
use crate::volume::newest_superblock;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For how long a store that is held is tried again: the mount of a daemon that was killed is gone a little before the
/// daemon has let go of its store.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
/// The same while its daemon is there and its mount is gone, as after umount(8), which does not wait for the daemon.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What is at the path of a store.
pub(super) fn probe(store: &Path) -> Result<StoreKind, Failure> {
    device::probe(store).map_err(|e| io(store, e))
}

/// Locks a store, and waits a little for who is about to let go of it.
pub(super) fn lock(store: &Path, kind: &StoreKind, mode: LockMode) -> Result<StoreLock, Failure> {
    lock_telling(store, kind, mode, &|| true)
}

/// The same. `goes_on` hears of each try, and says whether there is to be another.
pub(super) fn lock_telling(
    store: &Path,
    kind: &StoreKind,
    mode: LockMode,
    goes_on: &dyn Fn() -> bool,
) -> Result<StoreLock, Failure> {
    let who = format!("pid {}", std::process::id());
    let begin = Instant::now();
    let mut locked = StoreLock::acquire(store, kind, mode, &who);
    while matches!(locked, Err(LockError::Held { .. }))
        && goes_on()
        && (begin.elapsed() < LOCK_PATIENCE
            || (begin.elapsed() < CLOSE_PATIENCE && Client::is_closing(store)))
    {
        std::thread::sleep(LOCK_PAUSE);
        locked = StoreLock::acquire(store, kind, mode, &who);
    }
    locked.map_err(|e| match e {
        LockError::Held { by } => {
            let what = "the store is in use by";
            Failure::new(Code::Busy, format!("{}: {what} {by}; unmount it there first", names::shown(store)))
        }
        e => Failure::new(Code::Io, e.to_string()),
    })
}

/// What is at a path, to be read, if it is a store.
pub(super) fn look_at(path: &Path) -> Option<Arc<dyn Device>> {
    match probe(path).ok()? {
        kind @ (StoreKind::DirectoryStore | StoreKind::ImageFile { .. } | StoreKind::BlockDevice { .. }) => {
            open_device(path, &kind, device::Access::ReadOnly).ok()
        }
        _ => None,
    }
}

/// The identity of a store that may be held by others. None if it cannot be read.
pub(super) fn identity_at(store: &Path) -> Option<[u8; 16]> {
    Some(newest_superblock(&*look_at(store)?).ok()?.uuid)
}
