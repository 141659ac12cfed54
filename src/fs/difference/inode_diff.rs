//! The items in which two views differ, inode by inode.

use super::content::{FileAt, has_content, is_same_content};
use super::paths::Name;
use crate::format::inode::Inode;
use crate::format::link::Links;
use crate::format::{FormatError, Ino, Key, Kind};
use crate::fs::error::damaged;
use crate::fs::items::Items;
use crate::volume::{View, VolumeError};

type Result<T> = std::result::Result<T, VolumeError>;

/// What differs in the items of one inode.
pub struct InodeDiff {
    /// Its number.
    pub ino: Ino,
    /// Its attributes in both views, if they differ or it is in one alone.
    pub inode: Option<(Option<Inode>, Option<Inode>)>,
    /// Names that it has only in the older view.
    pub gone: Vec<Name>,
    /// Names that it has only in the newer view.
    pub come: Vec<Name>,
    /// Items of its content differ.
    pub content: bool,
    /// Items of its extended attributes differ.
    pub xattrs: bool,
}

impl InodeDiff {
    fn of(ino: Ino) -> InodeDiff {
        InodeDiff { ino, inode: None, gone: Vec::new(), come: Vec::new(), content: false, xattrs: false }
    }

    /// True if its size differs, or it is in one of the views alone.
    pub fn resized(&self) -> bool {
        match &self.inode {
            Some((Some(old), Some(new))) => old.size != new.size,
            made => made.is_some(),
        }
    }

    fn note(&mut self, key: &Key, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<()> {
        let wrong = |e: FormatError| damaged(self.ino, e);
        match Kind::from_u8(key.kind) {
            Some(Kind::Inode) => {
                let inode = |value: Option<&[u8]>| value.map(Inode::decode).transpose().map_err(wrong);
                self.inode = Some((inode(old)?, inode(new)?));
            }
            Some(Kind::Link) => {
                let names = |value: Option<&[u8]>| value.map(Links::decode).transpose().map_err(wrong);
                let [old, new] = [names(old)?, names(new)?].map(|links| links.unwrap_or_default().names);
                self.gone.extend(old.iter().filter(|name| !new.contains(name)).cloned());
                self.come.extend(new.iter().filter(|name| !old.contains(name)).cloned());
            }
            Some(Kind::Inline | Kind::Extent) => self.content = true,
            Some(Kind::Xattr | Kind::XattrData) => self.xattrs = true,
            // Each entry of a directory has its pair among the links.
            _ => {}
        }
        Ok(())
    }
}

/// True if somebody has changed something from one view to another: anything but times of access, and files without a name.
pub fn has_changed(old: &View, new: &View) -> Result<bool> {
    let mut changed = false;
    let walked = each_inode(old, new, &mut |diff| {
        let (before, now) = match &diff.inode {
            Some((before, now)) => (before.clone(), now.clone()),
            None => (old.inode(diff.ino)?, new.inode(diff.ino)?),
        };
        if before.iter().chain(&now).all(|inode| inode.nlink == 0 && diff.ino != Ino::ROOT) {
            return Ok(());
        }
        let inode = match &diff.inode {
            Some((Some(old), Some(new))) => {
                let old = Inode { atime: new.atime, ..old.clone() };
                old != *new
            }
            Some(_) => true,
            None => false,
        };
        // What only lies elsewhere now is as it was.
        let content = diff.content
            && match (&before, &now) {
                (Some(before), Some(now)) => {
                    let ends = [(old, before), (new, now)];
                    let [a, b] = ends.map(|(view, inode)| FileAt { view, ino: diff.ino, inode });
                    !has_content(now.kind) || !is_same_content(a, b)?
                }
                _ => true,
            };
        changed = inode || content || diff.xattrs || !diff.gone.is_empty() || !diff.come.is_empty();
        // The first says all.
        if changed { Err(VolumeError::NoSuchView) } else { Ok(()) }
    });
    if changed { Ok(true) } else { walked.map(|()| false) }
}

/// Calls `take` with each inode of which items differ, in the order of their numbers.
pub fn each_inode(old: &View, new: &View, take: &mut dyn FnMut(InodeDiff) -> Result<()>) -> Result<()> {
    each_between(old, new, (Key::MIN, Key::MAX), take)
}

/// The same of one inode, if its items differ.
pub fn one_inode(
    old: &View,
    new: &View,
    ino: Ino,
    take: &mut dyn FnMut(InodeDiff) -> Result<()>,
) -> Result<()> {
    each_between(old, new, items_of(ino), take)
}

/// Where the items of an inode are: from the first key up to the second.
pub fn items_of(ino: Ino) -> (Key, Key) {
    (Key::new(ino.0, Kind::Inode, 0), Key::new(ino.0.saturating_add(1), Kind::Inode, 0))
}

fn each_between(
    old: &View,
    new: &View,
    (from, to): (Key, Key),
    take: &mut dyn FnMut(InodeDiff) -> Result<()>,
) -> Result<()> {
    let mut current: Option<InodeDiff> = None;
    for item in old.diff(new, &from, &to) {
        let item = item?;
        let ino = Ino(item.key.object);
        if current.as_ref().is_some_and(|c| c.ino != ino)
            && let Some(done) = current.take()
        {
            take(done)?;
        }
        if ino != Ino::ORPHANS {
            let current = current.get_or_insert_with(|| InodeDiff::of(ino));
            current.note(&item.key, item.old.as_deref(), item.new.as_deref())?;
        }
    }
    current.map_or(Ok(()), take)
}
