//! Files before and after, as a patch tells of them: by path, and without directories.

use super::content::has_content;
use super::path_change::{ChangeKind, PathChange};
use super::paths::{find, join};
use crate::format::dirent::NameBucket;
use crate::format::{Ino, Key, Kind};
use crate::fs::error::damaged;
use crate::fs::items::Items;
use crate::ops::FileType;
use crate::volume::{View, VolumeError};
use std::collections::BTreeMap;

type Result<T> = std::result::Result<T, VolumeError>;

/// A file in the one view and in the other, each with its path; none where there is no such file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilePair {
    /// Before.
    pub old: Option<(Vec<u8>, Ino)>,
    /// Now.
    pub new: Option<(Vec<u8>, Ino)>,
}

/// The pairs of which a patch is made, in the order of their paths: changes of directories become those of the files in
/// them. A file is told as renamed only where nothing else had its new path or has its old one: then the order in which
/// a patch is carried out does not matter.
pub fn file_pairs(old: &View, new: &View, changes: &[PathChange]) -> Result<Vec<FilePair>> {
    let mut pairs = Pairs { old, new, moved: BTreeMap::new(), at: BTreeMap::new() };
    for change in changes {
        pairs.add(change)?;
    }
    pairs.finish()
}

struct Pairs<'v> {
    old: &'v View,
    new: &'v View,
    /// Files with another path, by the new one: the old one, and the numbers before and now.
    moved: BTreeMap<Vec<u8>, (Vec<u8>, Ino, Ino)>,
    /// Files at one path: before and now.
    at: BTreeMap<Vec<u8>, (Option<Ino>, Option<Ino>)>,
}

impl Pairs<'_> {
    fn add(&mut self, change: &PathChange) -> Result<()> {
        let (old, new) = (change.old.map(|v| v.ino), change.new.map(|v| v.ino));
        match change.file_type() {
            Some(FileType::Directory) => {
                if let (ChangeKind::Renamed, Some(ino)) = (change.kind, new) {
                    return self.below(ino, change.path_before().to_vec(), change.path.clone());
                }
            }
            Some(kind) if has_content(kind) => match (&change.old_path, old, new) {
                (Some(before), Some(old), Some(new)) => {
                    self.moved.insert(change.path.clone(), (before.clone(), old, new));
                }
                _ => {
                    let at = self.at.entry(change.path.clone()).or_default();
                    *at = (old.or(at.0), new.or(at.1));
                }
            },
            _ => {}
        }
        Ok(())
    }

    /// Files that have moved with a directory.
    fn below(&mut self, dir: Ino, before: Vec<u8>, now: Vec<u8>) -> Result<()> {
        let mut directories = vec![(dir, before, now)];
        while let Some((dir, before, now)) = directories.pop() {
            let (from, to) = (Key::new(dir.0, Kind::Dirent, 0), Key::new(dir.0, Kind::Xattr, 0));
            for item in self.new.range(&from, &to) {
                for entry in NameBucket::decode(&item?.1).map_err(|e| damaged(dir, e))?.entries {
                    // What has come to be in it otherwise is told for itself.
                    let was = self.old.find_name(dir, &entry.name)?;
                    if was.is_none_or(|was| was.ino != entry.ino || was.kind != entry.kind) {
                        continue;
                    }
                    let (before, now) = (join(&before, &entry.name), join(&now, &entry.name));
                    if entry.kind == FileType::Directory {
                        directories.push((entry.ino, before, now));
                    } else if has_content(entry.kind) {
                        self.moved.entry(now).or_insert((before, entry.ino, entry.ino));
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<FilePair>> {
        let mut pairs = Vec::new();
        for (now, (before, old, new)) in std::mem::take(&mut self.moved) {
            if find(self.old, &now)?.is_none() && find(self.new, &before)?.is_none() {
                pairs.push(FilePair { old: Some((before, old)), new: Some((now, new)) });
            } else {
                self.at.entry(before).or_default().0 = Some(old);
                self.at.entry(now).or_default().1 = Some(new);
            }
        }
        pairs.extend(self.at.into_iter().map(|(path, (old, new))| FilePair {
            old: old.map(|ino| (path.clone(), ino)),
            new: new.map(|ino| (path, ino)),
        }));
        let path = |pair: &FilePair| pair.new.as_ref().or(pair.old.as_ref()).map(|(path, _)| path.clone());
        pairs.sort_by_cached_key(path);
        Ok(pairs)
    }
}
