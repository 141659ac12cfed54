//! What one side has changed since the base: by inode, and by entry.
//!
//! An inode without a name is none: who holds it open may still write it, and that is nobody's change.

use crate::format::Ino;
use crate::format::inode::Inode;
use crate::fs::attributes::{all_xattrs, is_acl};
use crate::fs::difference::{
    FileAt, InodeDiff, Name, each_inode, has_content, is_same_content, names_of, same_bytes,
};
use crate::fs::items::Items;
use crate::ops::FileType;
use crate::volume::{View, VolumeError};
use std::collections::BTreeMap;

type Result<T> = std::result::Result<T, VolumeError>;

/// An inode of which items differ between the base and a side.
pub struct Touched {
    /// As it was; none where it was not there.
    pub before: Option<Inode>,
    /// As it is; none where it is not there.
    pub now: Option<Inode>,
    /// Names that it has lost.
    pub gone: Vec<Name>,
    /// Names that it has got.
    pub come: Vec<Name>,
    /// It is there before and now, but another file has the number now.
    pub is_another: bool,
    /// Items of its content differ.
    content: bool,
    /// Items of its extended attributes differ.
    xattrs: bool,
}

impl Touched {
    /// True if it was there and is not.
    pub fn is_removed(&self) -> bool {
        self.before.is_some() && (self.now.is_none() || self.is_another)
    }

    /// True if it was not there and is.
    pub fn is_added(&self) -> bool {
        self.now.is_some() && (self.before.is_none() || self.is_another)
    }

    /// The directory that holds this one now, if it is another or new.
    pub fn new_parent(&self) -> Option<Ino> {
        let inode = self.now.as_ref().filter(|inode| inode.kind == FileType::Directory)?;
        (!self.come.is_empty()).then_some(inode.parent)
    }

    /// The same if it is not new.
    pub fn moved_to(&self) -> Option<Ino> {
        self.new_parent().filter(|_| !self.is_added())
    }
}

/// What of an inode differs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Changed {
    /// Mode, owner, flags or properties; an access list, too.
    pub attributes: bool,
    /// Extended attributes.
    pub xattrs: bool,
    /// Content or size.
    pub content: bool,
    /// The time of modification of what is no directory.
    pub times: bool,
}

impl Changed {
    /// The words for it.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let all = [("content", self.content), ("attributes", self.attributes), ("xattrs", self.xattrs)];
        all.into_iter().filter(|(_, is)| *is).map(|(word, _)| word)
    }
}

/// An entry that is another than in the base: what it leads to there and here.
pub type EntryChange = (Option<Ino>, Option<Ino>);

/// All that a side has changed.
pub struct Side<'v> {
    base: &'v View,
    /// The side itself.
    pub view: &'v View,
    /// By number.
    pub inodes: BTreeMap<Ino, Touched>,
    /// By directory and name.
    pub entries: BTreeMap<Name, EntryChange>,
}

fn named(ino: Ino, inode: Option<Inode>) -> Option<Inode> {
    inode.filter(|inode| ino == Ino::ROOT || inode.nlink > 0)
}

impl<'v> Side<'v> {
    /// What `view` has changed since `base`.
    pub fn of(base: &'v View, view: &'v View) -> Result<Side<'v>> {
        let mut side = Side { base, view, inodes: BTreeMap::new(), entries: BTreeMap::new() };
        each_inode(base, view, &mut |diff| side.note(diff))?;
        Ok(side)
    }

    fn note(&mut self, mut diff: InodeDiff) -> Result<()> {
        let ino = diff.ino;
        let (before, now) = match diff.inode {
            Some(both) => both,
            None => {
                let same = self.view.inode(ino)?;
                (same.clone(), same)
            }
        };
        let (before, now) = (named(ino, before), named(ino, now));
        if before.is_none() && now.is_none() {
            return Ok(());
        }
        let both = before.as_ref().zip(now.as_ref());
        let is_another = ino != Ino::ROOT && both.is_some_and(|(before, now)| !before.is_same_file(now));
        if is_another {
            // A name that both files have is lost and got.
            (diff.gone, diff.come) = (names_of(self.base, ino)?, names_of(self.view, ino)?);
        }
        for name in &diff.gone {
            self.entries.entry(name.clone()).or_default().0 = Some(ino);
        }
        for name in &diff.come {
            self.entries.entry(name.clone()).or_default().1 = Some(ino);
        }
        let (gone, come, content, xattrs) = (diff.gone, diff.come, diff.content, diff.xattrs);
        self.inodes.insert(ino, Touched { before, now, gone, come, is_another, content, xattrs });
        Ok(())
    }

    /// True if the directory is there in the base and not here.
    pub fn has_removed(&self, ino: Ino) -> bool {
        self.inodes.get(&ino).is_some_and(Touched::is_removed)
    }

    /// True if the number is another file's here than in the base.
    pub fn has_another(&self, ino: Ino) -> bool {
        self.inodes.get(&ino).is_some_and(|touched| touched.is_another)
    }

    /// What of an inode that is there before and now differs. Content goes by where it lies: what was written over with the
    /// same counts as changed, what was taken over by sharing blocks or has only moved does not.
    pub fn changed(&self, ino: Ino) -> Result<Changed> {
        let Some(touched) = self.inodes.get(&ino) else { return Ok(Changed::default()) };
        let (Some(before), Some(now)) = (&touched.before, &touched.now) else {
            return Ok(Changed::default());
        };
        if touched.is_another {
            return Ok(Changed::default());
        }
        let ends = [(self.base, before), (self.view, now)].map(|(view, inode)| FileAt { view, ino, inode });
        let content = has_content(now.kind)
            && (before.size != now.size || touched.content && !is_same_content(ends[0], ends[1])?);
        let mut changed = differs(ends[0], ends[1], touched.xattrs)?;
        changed.content = content;
        Ok(changed)
    }

    /// What was done to an inode, in words.
    pub fn deeds(&self, ino: Ino) -> Result<Vec<&'static str>> {
        let Some(touched) = self.inodes.get(&ino) else { return Ok(Vec::new()) };
        if touched.is_removed() {
            return Ok(vec!["removed"]);
        }
        let mut deeds: Vec<_> = self.changed(ino)?.words().collect();
        match (touched.is_added(), touched.gone.is_empty(), touched.come.is_empty()) {
            (true, _, _) => deeds.push("added"),
            (_, false, false) => deeds.push("moved"),
            (_, true, false) => deeds.push("linked"),
            (_, false, true) => deeds.push("unlinked"),
            (_, true, true) => {}
        }
        let (from, to) = ((ino, Vec::new()), (Ino(ino.0 + 1), Vec::new()));
        if self.entries.range(from..to).any(|(_, (_, now))| now.is_some()) {
            deeds.push("filled");
        }
        Ok(deeds)
    }

    /// True if the content of a file is, by its bytes, another than in the base.
    pub fn has_other_content(&self, ino: Ino) -> Result<bool> {
        let Some(Touched { before: Some(before), now: Some(now), is_another: false, .. }) =
            self.inodes.get(&ino)
        else {
            return Ok(false);
        };
        let ends = [(self.base, before), (self.view, now)].map(|(view, inode)| FileAt { view, ino, inode });
        Ok(!has_same_content(ends[0], ends[1])?)
    }
}

/// True if the content of two files is the same, by where it lies or by its bytes.
pub fn has_same_content(a: FileAt<'_>, b: FileAt<'_>) -> Result<bool> {
    Ok(a.inode.size == b.inode.size && (is_same_content(a, b)? || same_bytes(a, b)?))
}

/// What of two inodes differs, but for their content.
pub fn differs(a: FileAt<'_>, b: FileAt<'_>, xattrs: bool) -> Result<Changed> {
    let (x, y) = (a.inode, b.inode);
    let mut acl = false;
    let mut changed = Changed::default();
    if xattrs && (x.has_xattr || y.has_xattr) {
        let (before, now) = (all_xattrs(a.view, a.ino)?, all_xattrs(b.view, b.ino)?);
        changed.xattrs = before != now;
        acl = before.keys().chain(now.keys()).any(|name| is_acl(name) && before.get(name) != now.get(name));
    }
    let of = |i: &Inode| (i.kind, i.user_attributes());
    changed.attributes = acl || of(x) != of(y);
    changed.times = y.kind != FileType::Directory && x.mtime != y.mtime;
    Ok(changed)
}
