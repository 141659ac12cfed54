//! Many snapshots of a line that are deleted by one order: which are meant, and their deletion in batches.
//!
//! Each batch is one record of the log and one turn at the state, and snapshots are held off for no longer than that. Names go with
//! their batch; the space comes back in the background, as after any deletion. What is in use or held stays, and is told.

use super::deletion::Deletion;
use super::holds::moment;
use super::pick::moment_of;
use super::snapdir::Past;
use crate::format::Ino;
use crate::fs::heads::Head;
use crate::ops::{Error, NodeId, Result};
use crate::volume::{ReserveFor, SnapshotInfo};

/// Snapshots that are deleted together at most: a record of the log, and so long others wait.
pub const DELETED_AT_ONCE: usize = 64;

impl Past {
    /// The moment that a word stands for: an age, a time, or when the snapshot of a line was made that it names.
    pub fn moment_of_word(&self, head: &Head, word: &[u8]) -> Result<(i64, u32)> {
        let heads = &self.commits.heads;
        if let Some(found) = heads.volume.find_snapshot(head.line, word) {
            return Ok(found.created);
        }
        if let Some(moment) = moment_of(word, heads.clock.now()) {
            return Ok(moment);
        }
        let id = self.find_snapshot(head, word)?;
        Ok(heads.volume.snapshot_info(id).ok_or(Error::Stale)?.created)
    }

    /// Deletes these snapshots, of a line, or has them in the trash, in batches; says of each whether that was done, or why not. `told` hears after each
    /// batch how many were looked at, and ends it by false: the others are `Busy` then.
    pub fn delete_snapshots(
        &self,
        head: &Head,
        all: &[SnapshotInfo],
        deletion: Deletion<'_>,
        told: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<Result<()>>> {
        self.commits.heads.check_writable()?;
        self.let_go_of_point();
        self.have_room_ahead(ReserveFor::Delete, &[])?;
        let since_secs = moment(&self.commits.heads.clock).0;
        let mut done: Vec<Result<()>> = Vec::with_capacity(all.len());
        for batch in all.chunks(DELETED_AT_ONCE) {
            match self.delete_batch(head, batch, (deletion, since_secs)) {
                Ok(some) => done.extend(some),
                // So many records are too much at once for what is left: each for itself.
                Err(Error::NoSpace) => {
                    for one in batch {
                        let some = self.delete_batch(head, std::slice::from_ref(one), (deletion, since_secs));
                        done.push(some.and_then(|mut some| some.pop().unwrap_or(Err(Error::NoSpace))));
                    }
                }
                Err(e) if done.is_empty() => return Err(e),
                Err(e) => done.extend(batch.iter().map(|_| Err(e.clone()))),
            }
            if !told(done.len()) {
                break;
            }
        }
        // One of these may have become the point meanwhile.
        self.let_go_of_point();
        done.resize_with(all.len(), || Err(Error::Busy));
        self.commits.outlive()?;
        Ok(done)
    }

    /// Fails if a snapshot, of a line, would not be deleted now: it is in use, held, not the line's own, or gone.
    pub fn check_deletable(&self, head: &Head, s: &SnapshotInfo) -> Result<()> {
        let volume = &self.commits.heads.volume;
        // Its name may be another's by now.
        if volume.snapshot_info(s.id).is_none_or(|now| now.name != s.name) {
            return Err(Error::NotFound);
        }
        if self.is_in_use_here(s.id) {
            return Err(Error::Busy);
        }
        Ok(volume.check_deletable(head.line, s.id)?)
    }

    fn delete_batch(
        &self,
        head: &Head,
        batch: &[SnapshotInfo],
        (deletion, since_secs): (Deletion<'_>, i64),
    ) -> Result<Vec<Result<()>>> {
        let heads = &self.commits.heads;
        heads.check_writable()?;
        let held = self.one_at_a_time();
        let mut done: Vec<Result<()>> = batch.iter().map(|s| self.check_deletable(head, s)).collect();
        let go: Vec<&SnapshotInfo> =
            batch.iter().zip(&done).filter(|(_, told)| told.is_ok()).map(|(s, _)| s).collect();
        let ids: Vec<_> = go.iter().map(|s| s.id).collect();
        let into_trash = self.with_new_trash_of(since_secs, deletion, |new| {
            self.commits.once_with_space(|| Ok(heads.volume.trash_snapshots(head.line, &ids, new)?))
        })?;
        let deleted = match into_trash {
            Some(told) => told,
            // There may be room in the trash for each by itself.
            None if ids.len() > 1 && self.has_trash_for(deletion) => return Err(Error::NoSpace),
            None => self.commits.once_with_space(|| Ok(heads.volume.delete_snapshots(head.line, &ids)?))?,
        };
        let deleted = deleted.into_iter().map(|told| told.map_err(Error::from));
        let mut names = Vec::new();
        for ((told, s), deleted) in done.iter_mut().filter(|told| told.is_ok()).zip(go).zip(deleted) {
            *told = deleted;
            if told.is_ok() {
                let root = NodeId::snapshot(s.slot.0, Ino::ROOT.0);
                heads.kernel().detach_below(root, &[&heads.options.snapdir_name[..], b"/", &s.name].concat());
                names.push(s.name.clone());
            }
        }
        self.forget_snapdirs();
        drop(held);
        self.tell_where_gone(None, &names);
        Ok(done)
    }
}
