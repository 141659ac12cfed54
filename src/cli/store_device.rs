//! Opens the device of a store, once it is known what is at its path.
//!
//! Every side of a mirror is opened here, for writing or to look at it. Nothing is locked, and nothing of what is there is judged.
//! Tests put simulated disks in the place of files: so the orders about sides run as they are on disks that fail.

use crate::device::{Access, Device, DeviceError, DirDevice, FileDevice, StoreKind};
use crate::limits::STORE_BYTES_DEFAULT;
use std::path::Path;
use std::sync::Arc;

/// Opens what is at a path, which is a directory, an image or a disk.
pub(super) fn open_device(
    path: &Path,
    kind: &StoreKind,
    access: Access,
) -> Result<Arc<dyn Device>, DeviceError> {
    #[cfg(test)]
    if let Some(disk) = simulated::disk_at(path) {
        return Ok(disk);
    }
    Ok(match kind {
        StoreKind::DirectoryStore => Arc::new(DirDevice::open(path, STORE_BYTES_DEFAULT, access)?),
        _ => Arc::new(FileDevice::open(path, access)?),
    })
}

#[cfg(test)]
pub(super) mod simulated {
    //! Disks that stand for what is in files, by the real paths of these.

    use crate::device::Device;
    use parking_lot::Mutex;
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    static DISKS: Mutex<BTreeMap<PathBuf, Arc<dyn Device>>> = Mutex::new(BTreeMap::new());

    pub(super) fn disk_at(path: &Path) -> Option<Arc<dyn Device>> {
        DISKS.lock().get(path).cloned()
    }

    /// Has a disk be found at a path, or none any more.
    pub(in super::super) fn put_disk_at(path: &Path, disk: Option<Arc<dyn Device>>) {
        let mut disks = DISKS.lock();
        let old = match disk {
            Some(disk) => disks.insert(path.into(), disk),
            None => disks.remove(path),
        };
        drop(disks);
        drop(old);
    }
}
