//! Files and names: link counts, entries, parents, orphans, content maps. Invariant 8 of the live tree and of
//! snapshots.
//!
//! A tree is read once, in the order of its keys. Whether the items of one inode agree is judged by [`Object`]. Whether
//! inodes agree with each other is found by adding up, in a row of 40 bytes for each inode: a name adds a number where
//! a directory has it as an entry, and takes the same number off where the inode has it as a link. A sum of zero proves
//! that both sets are equal. Only if one is not zero is the tree read again, to tell the names.
//!
//! Snapshots are read whole, too, but only the newest ones if there are many.

use super::object::{Object, Witness};
use super::path::path_of;
use super::report::Report;
use crate::format::dirent::{Dirent, name_hash};
use crate::format::inode::{Inode, type_number};
use crate::format::line::LineState;
use crate::format::link::{Links, link_hash};
use crate::format::view::{Role, ViewRecord};
use crate::format::{Ino, Key, Kind, LineId, ViewId, dirent::NameBucket};
use crate::names;
use crate::ops::FileType;
use crate::store::StoreError;
use crate::tree::{self, Child};
use crate::volume::audit::Committed;
use crate::volume::last_inode;
use std::collections::{BTreeMap, BTreeSet};

/// Snapshots that are read whole, newest first.
const SNAPSHOTS_MAX: usize = 64;

/// Runs the audit; what it finds goes to `report`.
pub(super) fn check(state: &Committed, report: &mut Report) {
    // What is still being received is half of something, and nobody's to see; and so may be what was given up.
    let arriving = state.lines.iter().filter(|line| line.state == LineState::Receiving);
    let arriving: BTreeSet<ViewId> = arriving.map(|line| line.head).collect();
    let is_nobodys =
        |r: &ViewRecord| arriving.contains(&r.id) || r.role == Role::Head && r.line == LineId::NONE;
    let (mut snapshots, heads): (Vec<_>, Vec<_>) = state
        .records
        .iter()
        .filter(|r| r.role != Role::Hidden && !is_nobodys(r))
        .partition(|r: &&ViewRecord| r.role == Role::Snapshot);
    snapshots.sort_by_key(|r| std::cmp::Reverse(r.epoch));
    report.snapshots_unchecked = snapshots.len().saturating_sub(SNAPSHOTS_MAX) as u64;
    for record in heads.into_iter().chain(snapshots.into_iter().take(SNAPSHOTS_MAX)) {
        // A view without a root was reported with the space.
        let Some(root) = record.root else { continue };
        let mut auditor = Auditor {
            state,
            record,
            root: Child::Stored(root),
            report: &mut *report,
            rows: BTreeMap::new(),
            end: state.superblock.next_ino,
        };
        let inodes = auditor.run();
        if Some(record.id) == state.main_head() {
            report.inodes = inodes;
        }
    }
}

/// What is known of one inode from all over the tree.
#[derive(Clone, Copy, Default)]
struct Row {
    /// Sum over its entries minus sum over its links.
    balance: u64,
    /// Of a directory: the directory that it is in, by its inode or by its entry, whichever came first.
    parent: u64,
    /// Entries that name it.
    names: u32,
    /// As its inode says.
    nlink: u32,
    /// Entries in it that name directories.
    subdirectories: u32,
    /// Number of its type; 0 while unknown.
    kind: u8,
    flags: u8,
}

/// Its inode was seen.
const INODE: u8 = 1;
/// It has an orphan record.
const ORPHAN: u8 = 2;
/// It has items besides an inode.
const ITEMS: u8 = 4;
/// A directory from which the root is reached, or of which it is already said that it is not.
const DONE: u8 = 8;
/// A directory on the way that is being followed.
const ON_WAY: u8 = 16;
/// Extents of it are away from home.
const AWAY: u8 = 32;
/// It is in the list of those of which that may be so.
const LISTED_AWAY: u8 = 64;

/// The audit of one view.
struct Auditor<'a> {
    state: &'a Committed,
    record: &'a ViewRecord,
    root: Child,
    report: &'a mut Report,
    rows: BTreeMap<u64, Row>,
    /// No inode has this number, or a greater one.
    end: Ino,
}

impl Auditor<'_> {
    /// Number of inodes.
    fn run(&mut self) -> u64 {
        if let Err(e) = self.numbers().and_then(|()| self.items()) {
            self.say(e.to_string());
            return 0;
        }
        if self.rows.is_empty() {
            // Never mounted: the first mount makes the root.
            return 0;
        }
        self.compare();
        self.follow_parents();
        self.rows.values().filter(|row| row.flags & INODE != 0).count() as u64
    }

    /// Reports something about the view.
    fn say(&mut self, what: String) {
        self.report.problem(format!("view {}: {what}", self.record.id.0));
    }

    /// Reports something about an inode.
    fn problem(&mut self, ino: Ino, what: impl std::fmt::Display) {
        if self.report.is_full() {
            return;
        }
        let path = path_of(&self.state.pager, &self.root, ino);
        let path = path.map(|p| format!(" ({})", names::shown_bytes(&p))).unwrap_or_default();
        self.say(format!("inode {}{path}: {what}", ino.0));
    }

    fn get(&self, key: &Key) -> Result<Option<tree::Item>, StoreError> {
        tree::get(&self.state.pager, &self.root, key)
    }

    /// The pass over the tree.
    fn items(&mut self) -> Result<(), StoreError> {
        let state = self.state;
        let root = self.root.clone();
        let mut object = Object::default();
        for item in tree::range(&state.pager, &root, &Key::MIN, &Key::MAX) {
            let (key, value) = item?;
            if key.object != object.ino.0 {
                std::mem::replace(&mut object, Object::new(Ino(key.object))).finish(self);
            }
            if key.object == Ino::ORPHANS.0 {
                self.orphan(&key, &value);
            } else if self.in_range(Ino(key.object)) {
                object.item(self, &key, &value);
            } else {
                self.say(format!("item {key:?}: no inode has this number"));
            }
        }
        object.finish(self);
        Ok(())
    }

    /// Tells it, once, if the next number is not above all that the view has.
    fn numbers(&mut self) -> Result<(), StoreError> {
        let next = self.state.superblock.next_ino;
        if let Some(last) = last_inode(&self.state.pager, &self.root, next)? {
            self.say(format!("inode {} is there, and the next number is {}", last.0, next.0));
            self.end = Ino(last.0 + 1);
        }
        Ok(())
    }

    fn in_range(&self, ino: Ino) -> bool {
        ino == Ino::ROOT || (Ino::FIRST_FREE..self.end).contains(&ino)
    }

    fn orphan(&mut self, key: &Key, value: &[u8]) {
        let ino = Ino(key.rest);
        let is_away = key.kind == Kind::Away as u8 && value.is_empty() && ino != Ino::ROOT;
        if is_away && self.in_range(ino) {
            // An inode that is gone is no harm: the next round takes it off the list.
            self.row(ino).flags |= LISTED_AWAY;
            return;
        }
        if key.kind != Kind::Orphan as u8 || !value.is_empty() {
            self.say(format!("item {key:?} of {} bytes is among the orphan records", value.len()));
        } else if ino == Ino::ROOT || !self.in_range(ino) {
            self.say(format!("orphan record of inode {}: no inode has this number", ino.0));
        } else {
            self.row(ino).flags |= ORPHAN;
        }
    }

    fn row(&mut self, ino: Ino) -> &mut Row {
        self.rows.entry(ino.0).or_default()
    }

    fn wrong_parent(&mut self, ino: Ino, says: u64, is: u64) {
        self.problem(ino, format_args!("directory says that it is in inode {says}, its entry is in {is}"));
    }

    /// What the rows say by themselves.
    fn compare(&mut self) {
        if self.rows.get(&Ino::ROOT.0).is_none_or(|r| r.flags & INODE == 0) {
            self.say("there is no root directory".into());
        }
        let mut unequal = BTreeSet::new();
        for (n, row) in std::mem::take(&mut self.rows).iter_mut() {
            if row.balance != 0 {
                unequal.insert(*n);
            }
            if let Some(what) = verdict(Ino(*n), row) {
                self.problem(Ino(*n), what);
            }
            self.rows.insert(*n, *row);
        }
        if !unequal.is_empty()
            && let Err(e) = self.tell_unequal(&unequal)
        {
            self.say(e.to_string());
        }
    }

    /// Names the entries without a link and the links without an entry.
    fn tell_unequal(&mut self, unequal: &BTreeSet<u64>) -> Result<(), StoreError> {
        let (state, root) = (self.state, self.root.clone());
        for item in tree::range(&state.pager, &root, &Key::MIN, &Key::MAX) {
            let (key, value) = item?;
            let owner = Ino(key.object);
            if key.kind == Kind::Dirent as u8 {
                for e in NameBucket::decode(&value).map(|b| b.entries).unwrap_or_default() {
                    let link = Key::new(e.ino.0, Kind::Link, link_hash(owner, &e.name));
                    if unequal.contains(&e.ino.0) && !self.has_link(&link, owner, &e.name)? {
                        let name = names::shown_bytes(&e.name);
                        self.problem(
                            e.ino,
                            format_args!("entry '{name}' in inode {} has no link item", owner.0),
                        );
                    }
                }
            } else if key.kind == Kind::Link as u8 && unequal.contains(&key.object) {
                for (dir, name) in Links::decode(&value).map(|l| l.names).unwrap_or_default() {
                    let entry = self.get(&Key::new(dir.0, Kind::Dirent, name_hash(&name)))?;
                    let bucket = entry.and_then(|v| NameBucket::decode(&v).ok()).unwrap_or_default();
                    if bucket.find(&name).is_none_or(|e| e.ino != owner) {
                        let name = names::shown_bytes(&name);
                        self.problem(owner, format_args!("link '{name}' in inode {} has no entry", dir.0));
                    }
                }
            }
        }
        Ok(())
    }

    fn has_link(&self, key: &Key, dir: Ino, name: &[u8]) -> Result<bool, StoreError> {
        let links = self.get(key)?.and_then(|v| Links::decode(&v).ok()).unwrap_or_default();
        Ok(links.names.iter().any(|(d, n)| *d == dir && n == name))
    }

    /// Every directory with a name must reach the root by its parents.
    fn follow_parents(&mut self) {
        let directory = type_number(FileType::Directory);
        let all: Vec<u64> = self
            .rows
            .iter()
            .filter(|(_, r)| r.kind == directory && r.flags & INODE != 0 && r.nlink > 0)
            .map(|(n, _)| *n)
            .collect();
        for start in all {
            let (mut way, mut at) = (Vec::new(), start);
            let lost = loop {
                if at == Ino::ROOT.0 {
                    break None;
                }
                match self.rows.get_mut(&at) {
                    Some(row) if row.flags & DONE != 0 => break None,
                    Some(row) if row.flags & ON_WAY != 0 => break Some("is inside itself"),
                    Some(row) if row.kind == directory && row.nlink > 0 => {
                        row.flags |= ON_WAY;
                        way.push(at);
                        at = row.parent;
                    }
                    _ => break Some("is in something that is no directory"),
                }
            };
            for n in way {
                self.row(Ino(n)).flags |= DONE;
            }
            if let Some(what) = lost {
                self.problem(
                    Ino(start),
                    format_args!("directory cannot be reached from the root: it {what}"),
                );
            }
        }
    }
}

impl Witness for Auditor<'_> {
    fn saw_inode(&mut self, ino: Ino, inode: &Inode) {
        let row = self.row(ino);
        let (kind, parent) = (row.kind, row.parent);
        row.flags |= INODE;
        row.nlink = inode.nlink;
        row.kind = type_number(inode.kind);
        row.parent = inode.parent.0;
        if kind != 0 && kind != type_number(inode.kind) {
            self.problem(ino, format_args!("is a {:?}, its directory entry says another type", inode.kind));
        } else if parent != 0 && parent != inode.parent.0 {
            self.wrong_parent(ino, inode.parent.0, parent);
        }
    }

    fn saw_item(&mut self, ino: Ino) {
        self.row(ino).flags |= ITEMS;
    }

    fn saw_away(&mut self, ino: Ino) {
        self.row(ino).flags |= AWAY;
    }

    fn saw_entry(&mut self, dir: Ino, entry: &Dirent) {
        if entry.ino == Ino::ROOT || !self.in_range(entry.ino) {
            let name = names::shown_bytes(&entry.name);
            return self.problem(dir, format_args!("entry '{name}' names inode {}, impossible", entry.ino.0));
        }
        let directory = entry.kind == FileType::Directory;
        self.row(dir).subdirectories += u32::from(directory);
        let row = self.row(entry.ino);
        row.names += 1;
        row.balance = row.balance.wrapping_add(fingerprint(dir, &entry.name));
        let (kind, parent, known) = (row.kind, row.parent, row.flags & INODE != 0);
        if kind == 0 {
            row.kind = type_number(entry.kind);
        }
        if directory && parent == 0 && !known {
            row.parent = dir.0;
        }
        if kind != 0 && kind != type_number(entry.kind) {
            let name = names::shown_bytes(&entry.name);
            self.problem(
                entry.ino,
                format_args!(
                    "directory entry '{name}' in inode {} says {:?}, it is another type",
                    dir.0, entry.kind
                ),
            );
        } else if directory && parent != 0 && parent != dir.0 {
            self.wrong_parent(entry.ino, parent, dir.0);
        }
    }

    fn saw_link(&mut self, ino: Ino, parent: Ino, name: &[u8]) {
        let row = self.row(ino);
        row.balance = row.balance.wrapping_sub(fingerprint(parent, name));
    }

    fn problem(&mut self, ino: Ino, what: String) {
        Auditor::problem(self, ino, what);
    }
}

/// What is wrong with the counts of an inode.
fn verdict(ino: Ino, row: &Row) -> Option<String> {
    let (names, nlink) = (row.names, row.nlink);
    let orphan = row.flags & ORPHAN != 0;
    if row.flags & INODE == 0 {
        return match (names, orphan, row.flags & ITEMS != 0) {
            (1.., ..) => Some(format!("has {names} names, but there is no inode")),
            // A purge that goes in steps takes the inode first and the record last.
            (0, true, _) => None,
            (0, false, true) => Some("has items, but there is no inode".into()),
            (0, false, false) => None,
        };
    }
    if row.flags & (AWAY | LISTED_AWAY) == AWAY {
        return Some("has content away from home, and is not in the list of such files".into());
    }
    if ino == Ino::ROOT && row.kind != type_number(FileType::Directory) {
        return Some("the root is no directory".into());
    }
    if nlink == 0 && !orphan && names == 0 {
        return Some("has no name and no orphan record".into());
    }
    if orphan && (nlink > 0 || names > 0) {
        return Some(format!("has an orphan record, but {names} names and a link count of {nlink}"));
    }
    if row.kind != type_number(FileType::Directory) {
        return (nlink != names).then(|| format!("has {names} names, but a link count of {nlink}"));
    }
    let wanted = u32::from(ino != Ino::ROOT);
    if names != wanted && !orphan {
        return Some(format!("directory has {names} names instead of {wanted}"));
    }
    let links = if orphan { 0 } else { row.subdirectories.saturating_add(2) };
    (nlink != links)
        .then(|| format!("directory has a link count of {nlink}, but {} subdirectories", row.subdirectories))
}

/// A name as a number: equal sets of names have equal sums.
fn fingerprint(dir: Ino, name: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(name, dir.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
