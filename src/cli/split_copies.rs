//! What the two stores of a split know of each other: that a snapshot is on both, and where the other one is.
//!
//! Both records are there before the sides part, so each side takes both along, and tells the one that is not about itself.
//! That there is no room for them holds up no split.

use crate::format::ViewId;
use crate::format::hydration::HydrationRecord;
use crate::fs::Fs;
use crate::names;
use serde_json::Value;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Notes where a snapshot will be that was just made: in these stores.
pub(super) fn note(fs: &Fs, made: &Value, stores: [(Option<PathBuf>, [u8; 16]); 2]) {
    let Some(view) = made["id"].as_u64().map(ViewId) else { return };
    for (path, store) in stores {
        let Some(path) = path else { continue };
        fs.note_copy(view, store, path.as_os_str().as_bytes()).unwrap_or_else(|e| {
            log::warn!("it is not kept that the snapshot is in {} as well: {e}", names::shown(&path));
        });
    }
}

/// What is at a path becomes a side of this store: the copies that were in a store there are none any more.
/// Those that are not whole end.
pub(super) fn forget(fs: &Fs, path: &Path) {
    let ends = |copy: &HydrationRecord| copy.holds() && copy.path == path.as_os_str().as_bytes();
    if fs.volume().hydrations().iter().any(ends) {
        log::warn!("{}: copies that were made in it end: what becomes a side is no copy", names::shown(path));
    }
    fs.forget_copies_at(path.as_os_str().as_bytes()).unwrap_or_else(|e| {
        log::warn!("copies in {} are not forgotten, which is a side from now on: {e}", names::shown(path));
    });
}
