//! Carrying out a plan, inside one attempt of a transaction.
//!
//! Everything is read before the line it belongs to is changed for anybody else: the attempt works on a tree beside the
//! published one, so its order is free and any permutation of names works. What the commit will need is reserved at the
//! end, by what was done (docs/decisions/0023), and what is refused then was never there.

use super::content::{take_content, take_xattrs};
use super::entries::{AllCounts, NameCounts, change_entries};
use super::plan::{Aspects, Plan, Takeover};
use super::work::Transfer;
use crate::format::inode::Inode;
use crate::format::{Ino, Key, Kind};
use crate::fs::difference::{FileAt, Name, is_same_content};
use crate::fs::error::inconsistent;
use crate::fs::heads::Gate;
use crate::fs::items::{Items, decode_extent};
use crate::fs::log::Note;
use crate::limits::LINKS_MAX;
use crate::ops::{FileType, Timestamp};
use crate::volume::{Turn, Txn, View, VolumeError};
use std::collections::{BTreeMap, BTreeSet};

type Result<T> = std::result::Result<T, VolumeError>;

/// Directories above another that are followed at most.
const DEPTH_MAX: usize = 1 << 20;

/// What was done, for whoever has to tell others.
#[derive(Clone, Default, Debug)]
pub struct Transferred {
    /// Inodes that were there and are others now, by attributes, names or content.
    pub changed: Vec<Ino>,
    /// Of these, files whose content was taken over.
    pub content: Vec<Ino>,
    /// Inodes that were made, or have a name again.
    pub made: Vec<Ino>,
    /// Inodes that lost their last name.
    pub unlinked: Vec<Ino>,
    /// Names that are gone, new, or another inode's.
    pub names: Vec<Name>,
}

/// Carries out `plan` on the line of `txn`, which attempts something; nothing of the line is delayed. `source` is pinned, or
/// the head of a line whose gate is held as well. Whatever the plan does not allow for (a directory below itself, one that
/// goes and has names in it) is refused, and then the attempt as a whole. [`close_gate`] comes next.
pub fn carry_out(txn: &mut Txn<'_>, source: &View, plan: Plan, now: Timestamp) -> Result<Transferred> {
    let plan = plan.number(|| txn.next_ino())?;
    clear(txn, plan.inodes.keys())?;
    // Without what was cleared: nobody is to find it there and leave it, or let go of it once more.
    let before = txn.view().clone();
    let mut work = Transfer { txn, before: &before, source, now };
    let (counts, names) = change_entries(&mut work, &plan)?;
    let mut done = Transferred { names, ..Transferred::default() };
    let all: BTreeSet<Ino> = plan.inodes.keys().chain(counts.keys()).copied().collect();
    for ino in all {
        let counts = counts.get(&ino).copied().unwrap_or_default();
        change_inode(&mut work, ino, plan.inodes.get(&ino), &counts, &mut done)?;
    }
    check_ways(&work, &counts)?;
    for ino in &done.made {
        Note::Named { ino: *ino }.put(work.txn);
    }
    for ino in &done.unlinked {
        Note::Unlinked { ino: *ino }.put(work.txn);
    }
    Ok(done)
}

/// The last step of an attempt that has carried out a plan: from here on it succeeds.
pub fn close_gate(gate: &mut Turn<'_, Gate>, done: &Transferred) {
    let gate = gate.alone();
    for ino in &done.made {
        gate.unlinked.remove(ino);
    }
    for ino in &done.unlinked {
        gate.unlinked.insert(*ino, false);
    }
}

/// Removes what a purge has left of inodes whose numbers are needed.
fn clear<'i>(txn: &mut Txn<'_>, inos: impl Iterator<Item = &'i Ino>) -> Result<()> {
    let found = txn.view().clone();
    for ino in inos {
        if found.inode(*ino)?.is_some() {
            continue;
        }
        let [from, to] = [ino.0, ino.0 + 1].map(|object| Key { object, kind: 0, rest: 0 });
        for item in found.range(&from, &to) {
            let (key, value) = item?;
            txn.remove(&key)?;
            if key.kind == Kind::Extent as u8 {
                txn.free(&decode_extent(&key, &value)?.1);
            }
        }
    }
    Ok(())
}

fn record(ino: Ino) -> Key {
    Key::new(Ino::ORPHANS.0, Kind::Orphan, ino.0)
}

fn change_inode(
    work: &mut Transfer<'_, '_>,
    ino: Ino,
    takeover: Option<&Takeover>,
    counts: &NameCounts,
    done: &mut Transferred,
) -> Result<()> {
    let missing = || inconsistent(ino, "is to be taken over and is not there");
    let found = work.before.inode(ino)?;
    let taken = match takeover {
        Some(takeover) => Some((takeover, work.source.inode(takeover.from)?.ok_or_else(missing)?)),
        None => None,
    };
    let mut inode = match (&found, &taken) {
        (Some(inode), _) => inode.clone(),
        (None, Some((_, source))) => blank(source),
        (None, None) => return Err(missing()),
    };
    let had_name = found.as_ref().is_some_and(|inode| inode.nlink > 0);
    if let Some((takeover, source)) = &taken {
        if source.kind != inode.kind {
            return Err(inconsistent(ino, "is of another type where it is taken over from"));
        }
        let aspects = if found.is_some() { takeover.aspects } else { Aspects::ALL };
        let content = aspects.content && matches!(inode.kind, FileType::Regular | FileType::Symlink);
        take_over(work, (ino, &mut inode), (takeover.from, source), Aspects { content, ..aspects })?;
        if content && found.is_some() {
            done.content.push(ino);
        }
    }
    derive(ino, &mut inode, counts, had_name)?;
    if counts.inside != 0 && !taken.as_ref().is_some_and(|(t, _)| t.aspects.attributes || found.is_none()) {
        inode.mtime = work.now;
    }
    inode.ctime = work.now;
    work.set(Key::new(ino.0, Kind::Inode, 0), Some(inode.encode().to_vec()))?;
    match (had_name, inode.nlink > 0) {
        (true, true) => done.changed.push(ino),
        (true, false) => {
            // With the record that a commit would give it, so that a snapshot of this moment needs nothing more.
            work.set(record(ino), Some(Vec::new()))?;
            done.unlinked.push(ino);
        }
        (false, true) => {
            work.txn.remove(&record(ino))?;
            done.made.push(ino);
        }
        (false, false) => return Err(inconsistent(ino, "is to be made and gets no name")),
    }
    Ok(())
}

/// An inode as it is before it has content, attributes and names of its own.
fn blank(source: &Inode) -> Inode {
    let mut inode = source.clone();
    (inode.nlink, inode.blocks, inode.has_inline, inode.has_xattr) = (0, 0, false, false);
    inode.size = 0;
    inode
}

/// Takes over what is wanted of `source`, which is `from`.
fn take_over(
    work: &mut Transfer<'_, '_>,
    (ino, inode): (Ino, &mut Inode),
    (from, source): (Ino, &Inode),
    aspects: Aspects,
) -> Result<()> {
    let mut modified = aspects.content || aspects.times;
    if aspects.attributes {
        inode.set_user_attributes(&source.user_attributes());
        (inode.atime, inode.btime, inode.generation) = (source.atime, source.btime, source.generation);
        let here = FileAt { view: work.before, ino, inode: &*inode };
        let there = FileAt { view: work.source, ino: from, inode: source };
        modified = modified || inode.kind != FileType::Regular || is_same_content(here, there)?;
    }
    if modified {
        inode.mtime = source.mtime;
    }
    if aspects.xattrs {
        take_xattrs(work, ino, from)?;
        inode.has_xattr = source.has_xattr;
    }
    if aspects.content {
        take_content(work, ino, from)?;
        (inode.size, inode.blocks, inode.has_inline) = (source.size, source.blocks, source.has_inline);
    }
    Ok(())
}

/// Makes the counts of an inode those that follow from names.
fn derive(ino: Ino, inode: &mut Inode, counts: &NameCounts, had_name: bool) -> Result<()> {
    let sum = |count: u64, by: i64| {
        count.checked_add_signed(by).ok_or_else(|| inconsistent(ino, "counts fewer names than it has"))
    };
    let links = if inode.kind == FileType::Directory {
        inode.size = sum(inode.size, counts.inside)?;
        let names = sum(u64::from(had_name), counts.names)?;
        if let Some(parent) = counts.parent {
            inode.parent = parent;
        }
        match names {
            0 if inode.size == 0 && ino != Ino::ROOT => 0,
            1 => sum(if had_name { u64::from(inode.nlink) } else { 2 }, counts.subdirectories)?,
            0 => return Err(inconsistent(ino, "is a directory that is to go, and has names in it")),
            _ => return Err(inconsistent(ino, "is a directory that is to have two names")),
        }
    } else {
        if counts.inside != 0 {
            return Err(inconsistent(ino, "is to have names in it and is no directory"));
        }
        sum(inode.nlink.into(), counts.names)?
    };
    if links > u64::from(LINKS_MAX) {
        return Err(VolumeError::LimitReached("too many names of one file"));
    }
    inode.nlink = links as u32;
    Ok(())
}

/// Refuses directories that got a place from which the root is not reached.
fn check_ways(work: &Transfer<'_, '_>, counts: &AllCounts) -> Result<()> {
    let mut reached: BTreeMap<Ino, ()> = BTreeMap::from([(Ino::ROOT, ())]);
    for start in counts.iter().filter(|(_, c)| c.parent.is_some() || c.inside > 0).map(|(ino, _)| *ino) {
        let (mut at, mut way) = (start, Vec::new());
        while !reached.contains_key(&at) {
            let inode = work.txn.view().inode(at)?;
            let Some(inode) = inode.filter(|i| i.kind == FileType::Directory && i.nlink > 0) else {
                return Err(inconsistent(start, "is to be in what is no directory of the line"));
            };
            way.push(at);
            if way.len() > DEPTH_MAX || way.len() > 1 && at == start {
                return Err(inconsistent(start, "is to be in a directory that is below it"));
            }
            at = inode.parent;
        }
        reached.extend(way.into_iter().map(|ino| (ino, ())));
    }
    Ok(())
}
