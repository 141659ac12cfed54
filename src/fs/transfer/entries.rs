//! The names of a plan: out of the directories that lose them, then into those that get them.
//!
//! All that go, go first, so that names may swap and directories may move into each other. An entry and its link item
//! change together. NameCounts of inodes are added up for whoever changes these.

use super::plan::Plan;
use super::work::Transfer;
use crate::format::dirent::{NameBucket, name_hash};
use crate::format::link::{Links, link_hash};
use crate::format::{Ino, Key, Kind};
use crate::fs::difference::Name;
use crate::fs::error::{damaged, inconsistent};
use crate::fs::items::Items;
use crate::ops::FileType;
use crate::volume::VolumeError;
use std::collections::BTreeMap;

type Result<T> = std::result::Result<T, VolumeError>;

/// What the entries of a plan do to the counts of an inode.
#[derive(Clone, Copy, Default)]
pub struct NameCounts {
    /// Names that it gets, less those that it loses.
    pub names: i64,
    /// The same of names in it.
    pub inside: i64,
    /// And of those the names of directories.
    pub subdirectories: i64,
    /// The directory that a directory is in now, if it got a name.
    pub parent: Option<Ino>,
}

/// All counts that change.
pub type AllCounts = BTreeMap<Ino, NameCounts>;

/// A name that comes or goes.
struct Entry<'p> {
    dir: Ino,
    name: &'p [u8],
    ino: Ino,
    kind: FileType,
}

/// Carries out the entries of a plan. Returns what they do to counts, and the names that are others now.
pub fn change_entries(work: &mut Transfer<'_, '_>, plan: &Plan) -> Result<(AllCounts, Vec<Name>)> {
    let (mut gone, mut come, mut changed) = (Vec::new(), Vec::new(), Vec::new());
    for ((dir, name), wanted) in &plan.entries {
        let found = work.txn.view().find_name(*dir, name)?;
        if found.as_ref().map(|entry| entry.ino) == *wanted {
            continue;
        }
        changed.push((*dir, name.clone()));
        gone.extend(found.map(|entry| Entry { dir: *dir, name, ino: entry.ino, kind: entry.kind }));
        if let Some(ino) = *wanted {
            come.push(Entry { dir: *dir, name, ino, kind: work.kind_of(plan, ino)? });
        }
    }
    let mut counts = AllCounts::new();
    for name in gone {
        remove(work, &name)?;
        count(&mut counts, &name, -1);
    }
    for name in come {
        add(work, &name)?;
        count(&mut counts, &name, 1);
        if name.kind == FileType::Directory {
            counts.entry(name.ino).or_default().parent = Some(name.dir);
        }
    }
    Ok((counts, changed))
}

fn count(counts: &mut AllCounts, name: &Entry<'_>, by: i64) {
    counts.entry(name.ino).or_default().names += by;
    let dir = counts.entry(name.dir).or_default();
    dir.inside += by;
    dir.subdirectories += if name.kind == FileType::Directory { by } else { 0 };
}

fn keys(name: &Entry<'_>) -> (Key, Key) {
    let entry = Key::new(name.dir.0, Kind::Dirent, name_hash(name.name));
    (entry, Key::new(name.ino.0, Kind::Link, link_hash(name.dir, name.name)))
}

fn read(
    work: &Transfer<'_, '_>,
    name: &Entry<'_>,
    (entry, link): &(Key, Key),
) -> Result<(NameBucket, Links)> {
    let bucket = work.txn.view().bucket(name.dir, entry.rest)?;
    let links = work.txn.view().with(link, |value| match value {
        Some(value) => Links::decode(value).map_err(|e| damaged(name.ino, e)),
        None => Ok(Links::default()),
    })?;
    Ok((bucket, links))
}

fn remove(work: &mut Transfer<'_, '_>, name: &Entry<'_>) -> Result<()> {
    let keys = keys(name);
    let (mut bucket, mut links) = read(work, name, &keys)?;
    if bucket.remove(name.name).is_none() || !links.remove(name.dir, name.name) {
        return Err(inconsistent(name.ino, "directory entry and link item do not match"));
    }
    work.set(keys.0, (!bucket.entries.is_empty()).then(|| bucket.encode()))?;
    work.set(keys.1, (!links.names.is_empty()).then(|| links.encode()))
}

fn add(work: &mut Transfer<'_, '_>, name: &Entry<'_>) -> Result<()> {
    if !NameBucket::is_proper(name.name) {
        return Err(inconsistent(name.ino, "is to get a name that nothing can have"));
    }
    let keys = keys(name);
    let (mut bucket, mut links) = read(work, name, &keys)?;
    if !bucket.add(name.name, name.ino, name.kind) || !links.add(name.dir, name.name) {
        return Err(VolumeError::LimitReached("too many names share a hash"));
    }
    work.set(keys.0, Some(bucket.encode()))?;
    work.set(keys.1, Some(links.encode()))
}
