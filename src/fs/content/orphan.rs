//! Inodes without a name: alive while they are open or the kernel knows them, then purged.
//!
//! In memory they are in the gate's `unlinked`; a commit gives each a record in the tree, and opening a file system
//! purges whatever has one; so does a line that was made of a snapshot with some, in the background. A purge goes in steps of bounded size, and the record goes last.

use crate::format::{Ino, Key, Kind};
use crate::fs::commits::Commits;
use crate::fs::heads::Head;
use crate::fs::items::{Items, away_record, decode_extent};
use crate::fs::log::Note;
use crate::ops::{NodeId, Result};
use crate::volume::ReserveFor;
use std::collections::HashSet;

fn record(ino: Ino) -> Key {
    Key::new(Ino::ORPHANS.0, Kind::Orphan, ino.0)
}

/// The kernel has dropped a live inode, or a handle of it was closed (`forgotten` says which).
pub fn drop_reference(commits: &Commits, node: NodeId, forgotten: bool) {
    let Ok((head, ino)) = commits.heads.find(node) else { return };
    if !head.gate.read().unlinked.contains_key(&ino) {
        return;
    }
    let standstill = &commits.heads.standstill;
    let Some(_passing) = standstill.pass() else {
        standstill.leave(node, forgotten);
        // It may have ended just now.
        if standstill.pass().is_some() {
            drop_left(commits);
        }
        return;
    };
    let purge = {
        let mut gate = head.gate.write();
        let Some(state) = gate.unlinked.get_mut(&ino) else { return };
        *state |= forgotten;
        *state && !commits.heads.handles.is_open(node)
    };
    if purge {
        purge_or_keep(commits, &head, ino);
    }
}

/// The same of what somebody has let go of while a change at once was under way.
pub fn drop_left(commits: &Commits) {
    let left = commits.heads.standstill.take_left();
    left.into_iter().for_each(|(node, forgotten)| drop_reference(commits, node, forgotten));
}

/// Purges every inode that has a record from before. What cannot be read stays: it must not keep anybody from mounting.
pub fn purge_orphans(commits: &Commits, head: &Head) {
    if let Err(e) = purge_all_recorded(commits, head) {
        log::warn!(
            "files without names stay until the next mount, some of their records cannot be read: {e}"
        );
    }
}

fn purge_all_recorded(commits: &Commits, head: &Head) -> Result<()> {
    let view = commits.heads.view(head)?;
    let (from, to) = (record(Ino(0)), record(Ino::END));
    let mut found = Vec::new();
    for item in view.range(&from, &to) {
        found.push(Ino(item?.0.rest));
    }
    drop(view);
    if !found.is_empty() {
        log::info!("purging {} files that were deleted while open", found.len());
    }
    found.into_iter().for_each(|ino| purge_or_keep(commits, head, ino));
    Ok(())
}

/// Inodes that one call of [`purge_inherited`] purges at most, of each head.
const PURGED_AT_ONCE: usize = 64;

/// Purges some of the inodes that heads of new lines have records of from where they began: nobody can have them open. Those
/// that a head has unlinked itself since have records too, and stay.
pub fn purge_inherited(commits: &Commits) {
    for head in commits.heads.all() {
        let Some(next) = *head.inherited.lock() else { continue };
        let found = some_inherited(commits, &head, next).unwrap_or_else(|e| {
            log::warn!("files without names that a line began with stay until the next mount: {e}");
            Vec::new()
        });
        found.iter().for_each(|ino| purge_or_keep(commits, &head, *ino));
        *head.inherited.lock() = found.last().map(|last| Ino(last.0 + 1));
    }
}

fn some_inherited(commits: &Commits, head: &Head, next: Ino) -> Result<Vec<Ino>> {
    // Nothing is read with the gate held.
    let (unlinked, view): (HashSet<Ino>, _) = {
        let gate = head.gate.read();
        (gate.unlinked.keys().copied().collect(), commits.heads.view(head)?)
    };
    let records = view.range(&record(next), &record(Ino::END));
    let inos = records.map(|item| Ok(Ino(item?.0.rest)));
    inos.filter(|ino| !matches!(ino, Ok(ino) if unlinked.contains(ino))).take(PURGED_AT_ONCE).collect()
}

/// Purges every inode that has lost its name, open or not.
pub fn purge_all_unlinked(commits: &Commits, head: &Head) {
    let all: Vec<Ino> = head.gate.read().unlinked.keys().copied().collect();
    all.into_iter().for_each(|ino| purge_or_keep(commits, head, ino));
}

/// Purges; a damaged inode must not keep anybody from mounting or unmounting, so it stays, with its record.
fn purge_or_keep(commits: &Commits, head: &Head, ino: Ino) {
    if let Err(e) = commits.with_space(|| purge(commits, head, ino)) {
        log::warn!("inode {} without a name stays until the next mount: {e}", ino.0);
    }
}

/// Removes every item of an inode. Until the last step it counts as unlinked, so that a commit in between leaves
/// its record.
fn purge(commits: &Commits, head: &Head, ino: Ino) -> Result<()> {
    let mut step = PurgeStep::First;
    while purge_step(commits, head, ino, step)? {
        step = PurgeStep::Further;
        commits.between_steps()?;
    }
    Ok(())
}

/// Which one of a purge: only the first finds the inode itself, whose item is before all others of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PurgeStep {
    /// The first.
    First,
    /// One of those that follow.
    Further,
}

/// Removes some items of an inode, visible when this returns. False when there is nothing left to do.
pub fn purge_step(commits: &Commits, head: &Head, ino: Ino, step: PurgeStep) -> Result<bool> {
    let (from, to) = (Key { object: ino.0, kind: 0, rest: 0 }, Key { object: ino.0 + 1, kind: 0, rest: 0 });
    let most = commits.heads.options.steps.items;
    let mut change = commits.heads.change(head)?;
    if !change.gate().unlinked.contains_key(&ino) && change.view().get(&record(ino))?.is_none() {
        return Ok(false); // somebody else was faster, or it has a name again
    }
    if step == PurgeStep::Further && change.inode(ino)?.is_some() {
        return Ok(false); // it was made anew since, whatever has become of its name
    }
    let mut items = Vec::new();
    for item in change.view().range(&from, &to).take(most) {
        let (key, value) = item?;
        let ext = match key.kind == Kind::Extent as u8 {
            true => Some(decode_extent(&key, &value)?.1),
            false => None,
        };
        items.push((key, ext));
    }
    let last = items.len() < most;
    items.iter().for_each(|(key, _)| change.foresee(*key, None));
    change.foresee(record(ino), None);
    change.foresee(away_record(ino), None);
    change.reserve(items.len() + 2, ReserveFor::Delete)?;
    change.discard(ino, 0, u64::MAX);
    let (gate, txn) = change.change_both();
    for (key, ext) in items {
        txn.remove(&key)?;
        if let Some(ext) = ext {
            txn.free(&ext);
        }
    }
    if last {
        txn.remove(&record(ino))?;
        txn.remove(&away_record(ino))?;
        Note::Purged { ino }.put(txn);
        gate.unlinked.remove(&ino);
    }
    Ok(!last)
}
