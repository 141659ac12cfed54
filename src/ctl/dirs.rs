//! Where sockets and registry files are: one directory for each user who runs daemons.
//!
//! Root: `/run/snapfs`. Others: `$XDG_RUNTIME_DIR/snapfs`, or `/tmp/snapfs-UID`. `SNAPFS_RUNTIME_DIR` overrides.
//! Invariant: a directory is used only if it is a real directory of its user, closed to everybody else.

use crate::names;
use crate::sys::process;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A directory and the user whose daemons are in it.
#[derive(Clone, Debug)]
pub struct RuntimeDir {
    /// The directory.
    pub path: PathBuf,
    /// Its owner.
    pub uid: u32,
}

/// The directory of this process's user, created if it is missing.
pub fn own() -> io::Result<PathBuf> {
    let uid = process::effective_uid();
    let mut last = None;
    for path in own_candidates(uid) {
        let made = DirBuilder::new().mode(0o700).create(&path);
        match made {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => last = Some(e),
            _ if is_private(&path, uid) => return Ok(path),
            _ => {
                let what = format!("{} must be a directory of yours with mode 0700", names::shown(&path));
                last = Some(io::Error::other(what));
            }
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no place for the control socket")))
}

/// All directories in which this user may find daemons that he may talk to: his own, and for root everybody's.
pub fn visible() -> Vec<RuntimeDir> {
    let uid = process::effective_uid();
    let mut found: Vec<RuntimeDir> =
        own_candidates(uid).into_iter().map(|path| RuntimeDir { path, uid }).collect();
    if uid == 0 {
        found.extend(children("/run/user").into_iter().map(|p| p.join("snapfs")).filter_map(owned));
        let tmp = children("/tmp").into_iter();
        found.extend(tmp.filter(|p| has_prefix(p, "snapfs-")).filter_map(owned));
    }
    found.retain(|d| is_private(&d.path, d.uid));
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup_by(|a, b| a.path == b.path);
    found
}

fn own_candidates(uid: u32) -> Vec<PathBuf> {
    if let Some(dir) = std::env::var_os("SNAPFS_RUNTIME_DIR").filter(|d| !d.is_empty()) {
        return vec![PathBuf::from(dir)];
    }
    let tmp = PathBuf::from(format!("/tmp/snapfs-{uid}"));
    if uid == 0 {
        return vec![PathBuf::from("/run/snapfs"), tmp];
    }
    let xdg = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|d| d.is_absolute());
    xdg.map(|d| d.join("snapfs")).into_iter().chain([tmp]).collect()
}

fn children(dir: &str) -> Vec<PathBuf> {
    fs::read_dir(dir).map(|all| all.filter_map(|e| Some(e.ok()?.path())).collect()).unwrap_or_default()
}

fn has_prefix(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(prefix.as_bytes()))
}

fn owned(path: PathBuf) -> Option<RuntimeDir> {
    let uid = fs::symlink_metadata(&path).ok()?.uid();
    Some(RuntimeDir { path, uid })
}

/// A directory, not a link to one, of this user, and nobody else may change what is in it.
fn is_private(path: &Path, uid: u32) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_dir() && m.uid() == uid && m.mode() & 0o077 == 0)
}
