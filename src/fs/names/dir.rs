//! Finding and listing names, in the live tree and in snapshots alike, and opening files and directories.
//!
//! A listing is ordered by cookie, and a cookie belongs to its entry as long as that has its name: whatever is added
//! or removed meanwhile, nothing that stays is listed twice or missed.

use super::name::{check_name, is_clonedir, is_reserved, is_snapdir};
use crate::format::dirent::NameBucket;
use crate::format::{Ino, Key, Kind, Slot};
use crate::fs::attributes::{entry, entry_in};
use crate::fs::error::{damaged, inconsistent};
use crate::fs::heads::{Heads, OpenBy, Target, snapdir_node, target};
use crate::fs::items::Items;
use crate::fs::listing::Listing;
use crate::fs::options::{CLONEDIR_NAME, SnapdirMode};
use crate::fs::past::{MAIN_CLONEDIR, Past};
use crate::ops::{Entry, Error, FileType, Handle, NodeId, OpenFlags, Result};
use crate::volume::View;

/// Cookie of a listed `.snapshots`: behind every hash.
const COOKIE_SNAPDIR: u64 = u64::MAX >> 1;
/// Cookies of `.snapshots` and `.clones` where they are looked for: before every hash, so that no name has to be read.
const COOKIE_UNLISTED: u64 = 3;

/// See [`Operations::lookup`](crate::ops::Operations::lookup).
pub fn find(past: &Past, parent: NodeId, name: &[u8]) -> Result<Entry> {
    check_name(name)?;
    let heads = &*past.commits.heads;
    match target(parent) {
        Target::Snapdir(_) => return past.find_in_snapdir(parent, name),
        Target::Clonedir => return past.find_in_clonedir(parent, name),
        _ => {}
    }
    let view = heads.view_of(parent)?;
    let dir = Ino(parent.ino());
    let inode = view.inode(dir)?.ok_or(Error::Stale)?;
    match name {
        b"." => return entry(heads, parent, &inode),
        _ if inode.kind != FileType::Directory => return Err(Error::NotADirectory),
        b".." => {
            let up = parent_node(heads, parent, inode.parent);
            return match target(up) {
                Target::Snapdir(_) => past.snapdir_entry(up),
                Target::Clonedir => past.clonedir_entry(up),
                _ => {
                    let ino = Ino(up.ino());
                    let inode =
                        view.inode(ino)?.ok_or_else(|| inconsistent(ino, "is a parent, not there"))?;
                    entry(heads, up, &inode)
                }
            };
        }
        _ if parent.is_live() && is_snapdir(heads, dir, name) => {
            return past.snapdir_entry(snapdir_node(parent));
        }
        _ if parent.is_live() && is_clonedir(heads, dir, name) => {
            return past.clonedir_entry(NodeId::clonedir(parent.slot()));
        }
        _ => {}
    }
    let found = view.find_name(dir, name)?.ok_or(Error::NotFound)?;
    child_entry(heads, &view, parent, found.ino)
}

fn child_entry(heads: &Heads, view: &View, parent: NodeId, ino: Ino) -> Result<Entry> {
    let inode = view.inode(ino)?.ok_or_else(|| inconsistent(ino, "has a name but no inode"))?;
    entry_in(heads, view, parent.child(ino.0, inode.kind), &inode)
}

/// See [`Operations::readdir`](crate::ops::Operations::readdir).
pub fn list(past: &Past, handle: Handle, mut listing: Listing) -> Result<()> {
    let heads = &*past.commits.heads;
    let node = listing.node;
    let view = match target(node) {
        Target::Snapdir(_) => {
            heads.handles.get(node, handle)?;
            return past.list_snapdir(listing);
        }
        Target::Clonedir => {
            heads.handles.get(node, handle)?;
            return past.list_clonedir(listing);
        }
        _ => heads.view_through(node, Some(handle))?,
    };
    let dir = Ino(node.ino());
    let inode = view.inode(dir)?.ok_or(Error::Stale)?;
    let is_visible = node.is_live() && dir == Ino::ROOT && heads.options.snapdir == SnapdirMode::Visible;
    let all = node.is_live() && heads.handles.get(node, handle)?.flags.unlisted;
    let _ = listing.give_dots(parent_node(heads, node, inode.parent))?
        && (!all || list_unlisted(past, dir, &mut listing)?)
        && list_names(heads, &view, dir, &mut listing)?
        && (!is_visible || all || list_snapdir(past, COOKIE_SNAPDIR, &mut listing)?);
    Ok(())
}

/// What is found by name only.
fn list_unlisted(past: &Past, dir: Ino, listing: &mut Listing) -> Result<bool> {
    let (heads, clonedir) = (&past.commits.heads, NodeId::clonedir(listing.node.slot()));
    let entry = || past.clonedir_entry(clonedir);
    Ok((!is_snapdir(heads, dir, &heads.options.snapdir_name)
        || list_snapdir(past, COOKIE_UNLISTED, listing)?)
        && (!is_clonedir(heads, dir, CLONEDIR_NAME)
            || listing.give(COOKIE_UNLISTED + 1, clonedir, FileType::Directory, CLONEDIR_NAME, entry)?))
}

fn list_snapdir(past: &Past, cookie: u64, listing: &mut Listing) -> Result<bool> {
    let (snapdir, mut answered) = (snapdir_node(listing.node), false);
    let entry = || past.snapdir_entry(snapdir).inspect(|_| answered = true);
    let name = &past.commits.heads.options.snapdir_name;
    let taken = listing.give(cookie, snapdir, FileType::Directory, name, entry)?;
    if !taken && answered {
        past.known_snapdirs.forget(snapdir, 1);
    }
    Ok(taken)
}

fn list_names(heads: &Heads, view: &View, dir: Ino, listing: &mut Listing) -> Result<bool> {
    let node = listing.node;
    let from = Key::new(dir.0, Kind::Dirent, listing.after & !0xff);
    for item in view.range(&from, &Key::new(dir.0, Kind::Dirent, u64::MAX)) {
        let (key, value) = item?;
        let mut bucket = NameBucket::decode(&value).map_err(|e| damaged(dir, e))?;
        bucket.entries.sort_unstable_by_key(|e| e.slot);
        // What has such a name from a time when that was not there, or was called otherwise, is covered.
        let is_covered = |name: &[u8]| node.is_live() && is_reserved(heads, dir, name);
        for e in bucket.entries.iter().filter(|e| !is_covered(&e.name)) {
            let child = node.child(e.ino.0, e.kind);
            let entry = || child_entry(heads, view, node, e.ino);
            if !listing.give(e.cookie(key.rest), child, e.kind, &e.name, entry)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// See [`Operations::opendir`](crate::ops::Operations::opendir).
pub fn open_directory(past: &Past, node: NodeId, flags: OpenFlags) -> Result<Handle> {
    let heads = &past.commits.heads;
    let view = match target(node) {
        Target::Snapdir(_) => {
            past.snapdir_attr(node)?;
            return heads.open_virtual(node, flags);
        }
        Target::Clonedir => {
            past.clonedir_attr(node)?;
            return heads.open_virtual(node, flags);
        }
        Target::Snapshot(slot, _) => Some(heads.snapshot_at(slot)?),
        Target::Live(_) => None,
    };
    heads
        .open((node, OpenBy::Number), view, |inode| match inode.kind {
            FileType::Directory => Ok(flags),
            _ => Err(Error::NotADirectory),
        })?
        .at_once()
}

/// The node of `..`: above the top of a snapshot is the `.snapshots` that it was entered by, of its own line; above that of
/// a clone the `.clones` of the root of the mount.
fn parent_node(heads: &Heads, node: NodeId, parent: Ino) -> NodeId {
    match (target(node), node.way()) {
        (Target::Live(Ino::ROOT), _) if node != NodeId::ROOT => MAIN_CLONEDIR,
        (Target::Snapshot(slot, Ino::ROOT), _) => snapdir_of(heads, slot, Ino::ROOT),
        (_, None) => node.sibling(parent.0),
        (_, Some(way)) => match way.up() {
            Some(up) => NodeId::on_way(node.slot(), Some(up), parent.0),
            None => snapdir_of(heads, Slot(node.slot()), Ino(node.ino())),
        },
    }
}

/// The `.snapshots` of a directory in the line that a snapshot is of; of one that was deleted, in that of the root.
fn snapdir_of(heads: &Heads, snapshot: Slot, dir: Ino) -> NodeId {
    let line = heads.volume.snapshot_by_slot(snapshot).and_then(|info| heads.volume.line(info.line).ok());
    NodeId::snapdir(line.map_or(Slot::MAIN, |line| heads.slot_of(&line)).0, dir.0)
}
