//! A mount point that lies in its store, or a store that lies below its mount point, would make the daemon wait for itself.
//! Here such a pair is recognised, through links, `..` and bind mounts, before anything happens.

use crate::fuse::mounts;
use crate::names;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Refuses a mount point that is the store, or above or below it. The error is a sentence for the user.
pub(super) fn check(store: &Path, point: &Path) -> Result<(), String> {
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
fn real(path: &Path) -> io::Result<PathBuf> {
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
        fs::remove_dir_all(&dir).expect("remove");
    }
}
