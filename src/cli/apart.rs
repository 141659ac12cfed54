//! A mount point that lies in its store, or a store that lies below its mount point, would make the daemon wait for itself.
//! Here such a pair is recognised, through links, `..` and bind mounts, before anything happens; and so are places where a
//! mount would hide what nobody means to hide: another store, the snapshots of a mount, a mount of the same store.

use super::property::Property;
use crate::ctl::{Code, Failure, StoreId, registry};
use crate::device::{self, StoreKind};
use crate::fuse::mounts;
use crate::names;
use crate::sys::attribute;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Refuses a mount point that is the store, or above or below it, and one that would hide a store or snapshots. The error is
/// a sentence for the user.
pub(super) fn check(store: &Path, point: &Path) -> Result<(), String> {
    apart(store, point)?;
    let (shown, of) = (names::shown(point), names::shown(store));
    if is_store(point) {
        let swapped = "the store comes first, then the mount point";
        return Err(format!("the mount point {shown} is a store itself, which {of} would hide: {swapped}"));
    }
    let Ok(real) = real(point) else { return Ok(()) };
    let Ok(Some(around)) = mounts::containing(&real) else { return Ok(()) };
    if !around.is_snapfs() || around.point == real {
        return Ok(());
    }
    if registry::with_store(store).iter().any(|found| found.record.device == around.device) {
        let what = format!("is inside a mount of {of}, at {}", names::shown(&around.point));
        return Err(format!("the mount point {shown} {what}: choose a place apart from it"));
    }
    // Everything else in a mount has the attribute.
    if attribute::get(&real, &Property::Compression.attribute()).is_ok_and(|found| found.is_none()) {
        let what = format!("shows the snapshots of the mount at {}", names::shown(&around.point));
        return Err(format!(
            "the mount point {shown} {what}, which a mount would hide: choose another place"
        ));
    }
    Ok(())
}

/// Refuses a log file that is a part of the store. The error is a sentence for the user.
pub(super) fn check_log(store: &Path, log: &Path) -> Result<(), String> {
    let (Ok(store_at), Ok(log_at)) = (places(store), places(log)) else { return Ok(()) };
    let inside = |log: &Position| {
        store_at.iter().any(|store| store.device == log.device && log.path.starts_with(&store.path))
    };
    let id = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    if log_at.iter().any(inside) || id(log).is_some_and(|log| id(store) == Some(log)) {
        let (log, store) = (names::shown(log), names::shown(store));
        return Err(format!("the log file {log} is in the store {store}: choose a place apart from it"));
    }
    Ok(())
}

/// Refuses a place for another store that is in a store, or in a mount of it, also by way of devices: a copy there is a part of
/// what it is a copy of, and a side there waits for itself.
pub(super) fn outside_of_mounts(path: &Path, (id, store): (Option<StoreId>, &Path)) -> Result<(), Failure> {
    let Ok(real) = real(path) else { return Ok(()) };
    let refused = |what: &str| {
        Err(Failure::new(
            Code::Invalid,
            format!("{}: {what}: choose a place apart from it", names::shown(path)),
        ))
    };
    if is_below(store, &real) {
        return refused("is in the directory of the store itself");
    }
    let all = registry::all();
    let ours: Vec<_> = all.iter().map(|found| &found.record).filter(|r| Some(r.store_id) == id).collect();
    let Ok(mounts) = mounts::all() else { return Ok(()) };
    let is_ours = |place: &Path| {
        // The mount point itself names the store that is mounted there.
        mounts::containing_in(&mounts, place).is_some_and(|around| {
            around.is_snapfs() && around.point != place && ours.iter().any(|r| r.device == around.device)
        })
    };
    if is_ours(&real) {
        return refused("is in a mount of the store itself");
    }
    match device::paths_below(&real).iter().find(|below| is_ours(below) || is_below(store, below)) {
        Some(below) => {
            refused(&format!("is over {}, in the store itself or a mount of it", names::shown(below)))
        }
        None => Ok(()),
    }
}

/// True if a path is in a directory, whatever the way to it, and not the directory itself.
fn is_below(directory: &Path, path: &Path) -> bool {
    let (Ok(directory), Ok(path)) = (places(directory), places(path)) else { return false };
    let is_in = |at: &Position| {
        directory.iter().any(|d| d.device == at.device && at.path != d.path && at.path.starts_with(&d.path))
    };
    path.iter().any(is_in)
}

/// True for the directory of a store. Something else may have a directory with the name of its segments.
pub(super) fn is_store(point: &Path) -> bool {
    device::probe(point).is_ok_and(|kind| kind == StoreKind::DirectoryStore)
        && ["super.a", "super.b"].iter().any(|ring| point.join(ring).is_file())
}

fn apart(store: &Path, point: &Path) -> Result<(), String> {
    // What cannot be resolved is refused, with a better sentence, by whoever opens it.
    let (Ok(store_at), Ok(point_at)) = (places(store), places(point)) else { return Ok(()) };
    let (shown, of) = (names::shown(point), names::shown(store));
    for at in &store_at {
        for other in point_at.iter().filter(|o| o.device == at.device) {
            let how = match (at.path.starts_with(&other.path), other.path.starts_with(&at.path)) {
                (true, true) => "is the store itself",
                (true, false) => "is above its store",
                (false, true) => "is inside its store",
                (false, false) => continue,
            };
            return Err(format!("the mount point {shown} {how}, {of}: choose a place apart from it"));
        }
    }
    Ok(())
}

/// Where something is: in the tree of all mounts (no device), and in its file system.
struct Position {
    device: Option<(u32, u32)>,
    path: PathBuf,
}

fn places(path: &Path) -> io::Result<Vec<Position>> {
    let real = real(path)?;
    let mut places = Vec::new();
    if let Some(m) = mounts::containing(&real)?
        && let Ok(rest) = real.strip_prefix(&m.point)
    {
        places.push(Position { device: Some(m.device), path: m.root.join(rest) });
    }
    places.push(Position { device: None, path: real });
    Ok(places)
}

/// Absolute and without links; of a store that is not there yet, where it will be.
pub(super) fn real(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let absolute = std::path::absolute(path)?;
            match (absolute.parent(), absolute.file_name()) {
                (Some(parent), Some(name)) => Ok(real(parent)?.join(name)),
                _ => Err(e),
            }
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_below_and_the_same() {
        let dir = std::env::temp_dir().join(format!("snapfs-apart-{}", std::process::id()));
        fs::create_dir_all(dir.join("a/b")).expect("mkdir");
        fs::create_dir_all(dir.join("ab")).expect("mkdir");
        std::os::unix::fs::symlink("a", dir.join("link")).expect("symlink");
        let says = |store: &str, point: &str| check(&dir.join(store), &dir.join(point));
        for (store, point, what) in [
            ("a", "a", "the store itself"),
            ("a", "a/b", "inside"),
            ("a/b", "a", "above"),
            ("a/new", "link", "above"),
            ("link", "ab/../a/b", "inside"),
        ] {
            assert!(says(store, point).is_err_and(|e| e.contains(what)), "{store} at {point}");
        }
        for (store, point) in [("a", "ab"), ("ab", "a"), ("a/new", "a/b"), ("a/b", "ab")] {
            assert_eq!(says(store, point), Ok(()), "{store} at {point}");
        }
        let log = |store: &str, log: &str| check_log(&dir.join(store), &dir.join(log));
        fs::write(dir.join("image"), "").expect("write");
        fs::hard_link(dir.join("image"), dir.join("other")).expect("link");
        for (store, at) in [("a", "a/log"), ("a", "link/b/log"), ("image", "image"), ("image", "other")] {
            assert!(log(store, at).is_err_and(|e| e.contains("is in the store")), "{store} {at}");
        }
        for (store, at) in [("a", "log"), ("a", "ab/log"), ("image", "log")] {
            assert_eq!(log(store, at), Ok(()), "{store} {at}");
        }
        fs::remove_dir_all(&dir).expect("remove");
    }
}
