//! From items that differ to what became of paths.
//!
//! What was chosen. A path is what counts: a name that another file has now, as after an editor that writes a new file
//! over the old one, is modified; if the types differ one was removed and one added. Of a file that has moved and was
//! changed both is told. The number of names, times of access and change, and times of directories are no change; the
//! modification time of a file is one of its attributes.

use super::content::{FileAt, has_content, is_same_content};
use super::inode_diff::{InodeDiff, each_inode, one_inode};
use super::path_change::{ChangeKind, FileVersion, PathChange};
use super::paths::{Name, Paths, is_below, names_of};
use crate::format::Ino;
use crate::format::inode::Inode;
use crate::fs::attributes::{all_xattrs, is_acl};
use crate::fs::items::Items;
use crate::ops::FileType;
use crate::volume::{View, VolumeError};
use std::collections::{HashMap, VecDeque};

type Result<T> = std::result::Result<T, VolumeError>;

/// What became of paths from `old` to `new`, in the order of the paths. `under`: only what is, or was, that inode or below
/// it. Costs what differs, and memory for the answer.
pub fn difference(old: &View, new: &View, under: Option<Ino>) -> Result<Vec<PathChange>> {
    let mut found = Difference::between(old, new);
    each_inode(old, new, &mut |diff| found.inode(diff))?;
    found.meet()?;
    if let Some(ino) = under.filter(|ino| *ino != Ino::ROOT) {
        let (before, now) = (found.old_paths.first(ino)?, found.new_paths.first(ino)?);
        let inside = |path: &[u8], dir: &Option<Vec<u8>>| dir.as_ref().is_some_and(|dir| is_below(path, dir));
        found.changes.retain(|change| {
            change.old.is_some() && inside(change.path_before(), &before)
                || change.new.is_some() && inside(&change.path, &now)
        });
    }
    Ok(found.in_order())
}

/// What became of these inodes alone, each given once. Costs what differs in them.
pub fn difference_of(old: &View, new: &View, inodes: &[Ino]) -> Result<Vec<PathChange>> {
    let mut found = Difference::between(old, new);
    for ino in inodes {
        one_inode(old, new, *ino, &mut |diff| found.inode(diff))?;
    }
    found.meet()?;
    Ok(found.in_order())
}

/// A file that lost or got a name.
struct Half {
    name: Name,
    path: Vec<u8>,
    ino: Ino,
    inode: Inode,
}

impl Half {
    fn file<'v>(&'v self, view: &'v View) -> FileAt<'v> {
        FileAt { view, ino: self.ino, inode: &self.inode }
    }

    fn version(&self) -> FileVersion {
        FileVersion::of(self.ino, &self.inode)
    }
}

struct Difference<'v> {
    old: &'v View,
    new: &'v View,
    old_paths: Paths<'v>,
    new_paths: Paths<'v>,
    removed: HashMap<Name, Half>,
    added: Vec<Half>,
    changes: Vec<PathChange>,
}

impl<'v> Difference<'v> {
    fn between(old: &'v View, new: &'v View) -> Difference<'v> {
        Difference {
            old,
            new,
            old_paths: Paths::new(old),
            new_paths: Paths::new(new),
            removed: HashMap::new(),
            added: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// The changes, in the order of the paths.
    fn in_order(self) -> Vec<PathChange> {
        let mut changes = self.changes;
        changes.sort_unstable_by(|a, b| (&a.path, a.kind, &a.old_path).cmp(&(&b.path, b.kind, &b.old_path)));
        changes
    }

    fn inode(&mut self, diff: InodeDiff) -> Result<()> {
        let ino = diff.ino;
        let (old, new) = match diff.inode.clone() {
            Some(both) => both,
            None => {
                let same = self.new.inode(ino)?;
                (same.clone(), same)
            }
        };
        match (old, new) {
            (Some(old), Some(new)) if old.generation == new.generation && old.kind == new.kind => {
                self.same_file(diff, &old, &new)
            }
            // Another file that has the number now.
            (Some(old), Some(new)) => {
                self.all_removed(ino, &old, names_of(self.old, ino)?)?;
                self.all_added(ino, &new, names_of(self.new, ino)?)
            }
            (old, new) => {
                old.map_or(Ok(()), |old| self.all_removed(ino, &old, diff.gone))?;
                new.map_or(Ok(()), |new| self.all_added(ino, &new, diff.come))
            }
        }
    }

    fn all_removed(&mut self, ino: Ino, inode: &Inode, names: Vec<Name>) -> Result<()> {
        for name in names {
            let path = self.old_paths.of(&name)?;
            self.removed.insert(name.clone(), Half { name, path, ino, inode: inode.clone() });
        }
        Ok(())
    }

    fn all_added(&mut self, ino: Ino, inode: &Inode, names: Vec<Name>) -> Result<()> {
        for name in names {
            let path = self.new_paths.of(&name)?;
            self.added.push(Half { name, path, ino, inode: inode.clone() });
        }
        Ok(())
    }

    fn same_file(&mut self, mut diff: InodeDiff, old: &Inode, new: &Inode) -> Result<()> {
        let ino = diff.ino;
        let ends = [(self.old, old), (self.new, new)].map(|(view, inode)| FileAt { view, ino, inode });
        // What was taken over from elsewhere by sharing blocks refers to the same blocks anew.
        let content = has_content(new.kind)
            && (old.size != new.size || diff.content && !is_same_content(ends[0], ends[1])?);
        let attributes = Self::attributes(ends[0], ends[1], diff.xattrs, content)?;
        let mut stays = Vec::new();
        if content || !attributes.is_empty() {
            if ino == Ino::ROOT {
                stays.push((Vec::new(), Vec::new()));
            }
            for name in names_of(self.new, ino)?.into_iter().filter(|name| !diff.come.contains(name)) {
                stays.push((self.old_paths.of(&name)?, self.new_paths.of(&name)?));
            }
        }
        let versions = (Some(FileVersion::of(ino, old)), Some(FileVersion::of(ino, new)));
        for (before, now) in take_pairs(&mut diff.gone, &mut diff.come) {
            let (before, now) = (self.old_paths.of(&before)?, self.new_paths.of(&now)?);
            self.changes.push(PathChange {
                kind: ChangeKind::Renamed,
                path: now.clone(),
                old_path: Some(before.clone()),
                old: versions.0,
                new: versions.1,
                attributes: Vec::new(),
            });
            stays.push((before, now));
        }
        self.all_removed(ino, old, diff.gone)?;
        self.all_added(ino, new, diff.come)?;
        let kind = match (content, attributes.is_empty()) {
            (true, _) => ChangeKind::Modified,
            (false, false) => ChangeKind::Attributes,
            (false, true) => return Ok(()),
        };
        self.changes.extend(stays.into_iter().map(|(before, now)| PathChange {
            kind,
            old_path: (before != now).then_some(before),
            path: now,
            old: versions.0,
            new: versions.1,
            attributes: attributes.clone(),
        }));
        Ok(())
    }

    /// Which attributes differ. Times tell nothing more of a file that was written.
    fn attributes(
        before: FileAt<'_>,
        now: FileAt<'_>,
        xattrs: bool,
        content: bool,
    ) -> Result<Vec<&'static str>> {
        let (old, new) = (before.inode, now.inode);
        let (mut acl, mut xattr) = (false, false);
        if xattrs && (old.has_xattr || new.has_xattr) {
            let (before, now) = (all_xattrs(before.view, before.ino)?, all_xattrs(now.view, now.ino)?);
            for name in before.keys().chain(now.keys()).filter(|name| before.get(*name) != now.get(*name)) {
                *(if is_acl(name) { &mut acl } else { &mut xattr }) = true;
            }
        }
        let times = new.kind != FileType::Directory && !content;
        let chosen = old.user_attributes();
        let others = [("acl", acl), ("xattr", xattr), ("mtime", times && old.mtime != new.mtime)];
        let others = others.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name);
        Ok(chosen.differences(&new.user_attributes()).chain(others).collect())
    }

    /// Names that one file lost and another got, in the same directory or in one that has taken its place likewise.
    fn meet(&mut self) -> Result<()> {
        let mut added = std::mem::take(&mut self.added);
        // Directories before what is in them.
        added.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let mut replaced: HashMap<Ino, Ino> = HashMap::new();
        for half in added {
            let dir = replaced.get(&half.name.0).copied().unwrap_or(half.name.0);
            let name = (dir, half.name.1.clone());
            let before = match self.removed.get(&name) {
                Some(before) if before.inode.kind == half.inode.kind => self.removed.remove(&name),
                _ => None,
            };
            let Some(before) = before else {
                self.changes.push(PathChange {
                    kind: ChangeKind::Added,
                    new: Some(half.version()),
                    path: half.path,
                    old_path: None,
                    old: None,
                    attributes: Vec::new(),
                });
                continue;
            };
            replaced.insert(half.ino, before.ino);
            let ends = (before.file(self.old), half.file(self.new));
            let content = has_content(half.inode.kind) && !is_same_content(ends.0, ends.1)?;
            let attributes = Self::attributes(ends.0, ends.1, true, content)?;
            if content || !attributes.is_empty() {
                self.changes.push(PathChange {
                    kind: if content { ChangeKind::Modified } else { ChangeKind::Attributes },
                    old: Some(before.version()),
                    new: Some(half.version()),
                    old_path: (before.path != half.path).then_some(before.path),
                    path: half.path,
                    attributes,
                });
            }
        }
        self.changes.extend(std::mem::take(&mut self.removed).into_values().map(|half| PathChange {
            kind: ChangeKind::Removed,
            old: Some(half.version()),
            path: half.path,
            old_path: None,
            new: None,
            attributes: Vec::new(),
        }));
        Ok(())
    }
}

/// Takes out names that went and names that came of one file, in pairs: it has moved from the one to the other. Of several
/// those that are most alike: the same name elsewhere, another name in the same directory, any.
fn take_pairs(gone: &mut Vec<Name>, come: &mut Vec<Name>) -> Vec<(Name, Name)> {
    let mut pairs = Vec::new();
    gone.sort_unstable();
    come.sort_unstable();
    let alike: [fn(&Name) -> Vec<u8>; 3] =
        [|name| name.1.clone(), |name| name.0.0.to_be_bytes().to_vec(), |_| Vec::new()];
    for alike in alike {
        let mut free: HashMap<Vec<u8>, VecDeque<Name>> = HashMap::new();
        come.drain(..).for_each(|name| free.entry(alike(&name)).or_default().push_back(name));
        gone.retain(|name| match free.get_mut(&alike(name)).and_then(VecDeque::pop_front) {
            Some(now) => {
                pairs.push((name.clone(), now));
                false
            }
            None => true,
        });
        come.extend(free.into_values().flatten());
        come.sort_unstable();
    }
    pairs
}
