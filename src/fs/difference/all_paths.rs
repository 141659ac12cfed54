//! Every path that changes concern, those below a directory that was renamed too.

use super::path_change::{ChangeKind, PathChange};
use super::paths::join;
use crate::format::dirent::NameBucket;
use crate::format::{Ino, Key, Kind};
use crate::fs::error::damaged;
use crate::ops::FileType;
use crate::volume::{View, VolumeError};
use std::collections::{BTreeSet, HashSet};

type Result<T> = std::result::Result<T, VolumeError>;

/// The paths that are not what they were, in order: of each change the path, and the one before if that is another; of a directory
/// that was renamed also those of all that was, or is, below it.
pub fn all_paths(old: &View, new: &View, changes: &[PathChange]) -> Result<Vec<Vec<u8>>> {
    let mut paths = BTreeSet::new();
    let mut sides = [(old, HashSet::new()), (new, HashSet::new())];
    for change in changes {
        paths.insert(change.path.clone());
        paths.extend(change.old_path.clone());
        if change.kind != ChangeKind::Renamed || change.file_type() != Some(FileType::Directory) {
            continue;
        }
        let ends = [(change.old, change.path_before()), (change.new, &change.path)];
        for ((view, walked), (version, path)) in sides.iter_mut().zip(ends) {
            if let Some(version) = version {
                add_below(view, (version.ino, path), walked, &mut paths)?;
            }
        }
    }
    Ok(paths.into_iter().collect())
}

/// What is below a directory, but for what is below those that were walked before.
fn add_below(
    view: &View,
    (dir, path): (Ino, &[u8]),
    walked: &mut HashSet<Ino>,
    paths: &mut BTreeSet<Vec<u8>>,
) -> Result<()> {
    let mut todo = vec![(dir, path.to_vec())];
    while let Some((dir, path)) = todo.pop() {
        if !walked.insert(dir) {
            continue;
        }
        let (from, to) = (Key::new(dir.0, Kind::Dirent, 0), Key::new(dir.0, Kind::Dirent, u64::MAX));
        for item in view.range(&from, &to) {
            let bucket = NameBucket::decode(&item?.1).map_err(|e| damaged(dir, e))?;
            for entry in bucket.entries {
                let path = join(&path, &entry.name);
                if entry.kind == FileType::Directory {
                    todo.push((entry.ino, path.clone()));
                }
                paths.insert(path);
            }
        }
    }
    Ok(())
}
