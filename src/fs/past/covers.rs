//! Where trials, or other mounts, cover the tree on a name of it: what is asked before such a name is dropped, so that it is not.

use super::snapdir::Past;
use super::underway::Cover;
use crate::format::Ino;
use crate::fs::difference::{Name, names_of};
use crate::fs::heads::Head;
use crate::fs::items::Items;
use crate::ops::{Error, Result};
use crate::volume::{View, VolumeError};
use std::path::PathBuf;

/// What would be found no more, by its name in the mount, when names are dropped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Uncovered {
    /// What a trial has in the place of it.
    Cover(Cover),
    /// Other file systems, by where they are mounted.
    Mounts(Vec<PathBuf>),
}

impl Past {
    /// The trial on this clone is about to cover these paths from the root of the mount, which are names of it, and covers no
    /// others. Waits until nobody drops names without having seen that; then the kernel knows them as they are.
    pub fn cover_trial(&self, clone: &[u8], paths: Vec<Vec<u8>>) -> Result<()> {
        let heads = &self.commits.heads;
        let step = heads.volume.find_line(clone).and_then(|line| line.origin).ok_or(Error::NotFound)?;
        let covers = paths.iter().map(|path| Cover { trial: clone.to_vec(), path: path.clone() }).collect();
        let _alone = self.under_way.change_covers();
        if !self.under_way.set_covers(step, covers) {
            return Err(Error::NotFound);
        }
        // What is doubted since a rollback would be dropped when somebody comes along.
        paths.iter().for_each(|path| heads.kernel().look_up(path));
        Ok(())
    }

    /// A directory has one place in the kernel, the last at which it was found: has it be found where it is covered, before the
    /// name of another clone is dropped on the way through which it may have been found.
    pub(super) fn settle_covers(&self) {
        self.under_way.covers().iter().for_each(|cover| self.commits.heads.kernel().look_up(&cover.path));
    }

    /// The covers that are lost when a line gets another head.
    pub(super) fn covers_on(&self, head: &Head) -> Result<Vec<Cover>> {
        let mut covers = self.under_way.covers();
        if !covers.is_empty() {
            let clone = self.clone_at(head)?;
            covers.retain(|cover| cover.hangs_on(clone.as_deref()));
        }
        Ok(covers)
    }

    /// What is lost when these names of a line are dropped, and those of these files: a cover, or else mounts.
    pub fn uncovered(
        &self,
        head: &Head,
        (before, after): (&View, &View),
        names: &[Name],
        files: &[Ino],
    ) -> std::result::Result<Option<Uncovered>, VolumeError> {
        let (covers, mounts) = (self.under_way.covers(), self.mounts_below(head).unwrap_or_default());
        if covers.is_empty() && mounts.is_empty() {
            return Ok(None);
        }
        let of_files: Vec<Vec<Name>> =
            files.iter().map(|ino| names_of(after, *ino)).collect::<std::result::Result<_, _>>()?;
        let is_dropped = |name: &Name| names.contains(name) || of_files.iter().flatten().any(|n| n == name);
        if let Ok(clone) = self.clone_at(head) {
            for cover in covers {
                let way = cover.inside(clone.as_deref()).unwrap_or_default();
                if leads_over(before, way, &is_dropped)? {
                    return Ok(Some(Uncovered::Cover(cover.clone())));
                }
            }
        }
        let mut cut_off = Vec::new();
        for mount in mounts {
            if leads_over(before, &mount.way, &is_dropped)? {
                cut_off.push(mount.point);
            }
        }
        Ok((!cut_off.is_empty()).then_some(Uncovered::Mounts(cut_off)))
    }

    /// The name of the clone that a head is of; none for what the mount has at its root.
    fn clone_at(&self, head: &Head) -> Result<Option<Vec<u8>>> {
        let heads = &self.commits.heads;
        if head.line == heads.main().line { Ok(None) } else { Ok(Some(heads.volume.line(head.line)?.name)) }
    }
}

/// True if a way from the root of a tree leads over one of these names.
fn leads_over(
    tree: &View,
    way: &[u8],
    is_one: &dyn Fn(&Name) -> bool,
) -> std::result::Result<bool, VolumeError> {
    let mut dir = Ino::ROOT;
    for part in way.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        let name = (dir, part.to_vec());
        if is_one(&name) {
            return Ok(true);
        }
        match tree.find_name(dir, part)? {
            Some(entry) => dir = entry.ino,
            None => return Ok(false),
        }
    }
    Ok(false)
}
