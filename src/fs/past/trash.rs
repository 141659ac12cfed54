//! The trash: what users delete goes out of sight, and comes back while its time has not passed and its space is not needed.
//!
//! Only what somebody asks for gets there: a snapshot that is deleted, a clone that is dropped. What goes by itself (by a schedule,
//! with a trial, after a merge, at the end of its time) goes for good. Where there is no room for the record, what was to be deleted is, at once.

use super::clonedir::CloneEnd;
use super::deletion::{Deletion, Gone};
use super::holds::moment;
use super::snapdir::{OneAtATime, Past, check_snapshot_name};
use crate::format::LineId;
use crate::format::provenance::{Provenance, Reason};
use crate::format::trash::{TrashRecord, Trashed};
use crate::fs::heads::Head;
use crate::ops::{Error, Result};
use crate::volume::{NewTrash, ReserveFor};
use std::sync::Arc;
use std::time::Duration;

impl Past {
    /// For how long what is deleted stays in the trash: seconds, if there is one.
    pub fn trash_secs(&self) -> Option<u64> {
        self.commits.heads.volume.line(LineId::MAIN).ok()?.terms.trash
    }

    /// True if what is deleted so is to be in the trash, and there is one.
    pub(super) fn has_trash_for(&self, deletion: Deletion<'_>) -> bool {
        matches!(deletion, Deletion::Kept(_)) && self.trash_secs().is_some()
    }

    /// What is deleted by `act` goes into the trash, if it is wanted there and there is one; nothing is done if not.
    pub(super) fn with_new_trash<T>(
        &self,
        deletion: Deletion<'_>,
        act: impl FnOnce(&NewTrash<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.with_new_trash_of(moment(&self.commits.heads.clock).0, deletion, act)
    }

    /// The same of an order that was given at that time, in seconds since 1970: what one order has deleted says so.
    pub(super) fn with_new_trash_of<T>(
        &self,
        since_secs: i64,
        deletion: Deletion<'_>,
        act: impl FnOnce(&NewTrash<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let (Deletion::Kept(by), Some(after)) = (deletion, self.trash_secs()) else { return Ok(None) };
        let (age, owed) = self.age_for_new();
        match act(&NewTrash { since_secs, age, after: after.saturating_add(owed), by }) {
            Ok(done) => Ok(Some(done)),
            Err(Error::NoSpace | Error::LimitReached) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Where something has gone that was deleted for good: told if it was to be in the trash.
    pub(super) fn gone_for_good(&self, deletion: Deletion<'_>, name: &[u8]) -> Gone {
        if !self.has_trash_for(deletion) {
            return Gone::ForGood;
        }
        let name = crate::names::shown_bytes(name);
        log::warn!("'{name}' has gone for good: there was no room for it in the trash");
        Gone::NoRoomInTrash
    }

    /// What of a line is in the trash: its snapshots, and the clones that were made from it; of the main line, all clones. What was deleted
    /// last is first.
    pub fn trash_of(&self, line: LineId) -> Vec<TrashRecord> {
        let volume = &self.commits.heads.volume;
        let mut all = volume.trash();
        all.retain(|trash| match trash.what {
            Trashed::Snapshot(_, of) => of == line,
            Trashed::Line(clone, _) => {
                line == LineId::MAIN || volume.line(clone).is_ok_and(|clone| clone.from == Some(line))
            }
        });
        all.reverse();
        all
    }

    /// Brings something back under its name, or another. Durable when this returns. `Exists` if something has the name, `Stale` if
    /// it is in the trash no more, or the line is gone that it was of.
    pub fn undelete(&self, trash: &TrashRecord, name: &[u8]) -> Result<()> {
        let heads = &self.commits.heads;
        self.check_named_back(trash, name)?;
        self.have_room_ahead(ReserveFor::Record, &[])?;
        let held = self.one_at_a_time();
        self.commits.have_room_for_records(ReserveFor::Record)?;
        if let Trashed::Line(..) = trash.what {
            self.check_clones_max(0)?;
            // A commit brings in what each head holds back: it must know all of them.
            let _no_commit = self.commits.hold_off();
            if let Some(line) = heads.volume.undelete(trash.number, name)? {
                heads.add(&line);
            }
            self.forget_clonedir();
        } else {
            heads.volume.undelete(trash.number, name)?;
            self.forget_snapdirs();
        }
        drop(held);
        self.commits.sync()
    }

    /// Fails as [`Past::undelete`] would, after so many clones had come back.
    pub fn check_undelete(&self, trash: &TrashRecord, name: &[u8], clones_before: usize) -> Result<()> {
        self.check_named_back(trash, name)?;
        if let Trashed::Line(..) = trash.what {
            self.check_clones_max(clones_before)?;
        }
        Ok(self.commits.heads.volume.check_undelete(trash.number, name)?)
    }

    /// True if something is in the trash still.
    pub fn is_in_trash(&self, number: u64) -> bool {
        self.commits.heads.volume.trash().iter().any(|trash| trash.number == number)
    }

    fn check_named_back(&self, trash: &TrashRecord, name: &[u8]) -> Result<()> {
        self.commits.heads.check_writable()?;
        if name == trash.name { Ok(()) } else { check_snapshot_name(name, Reason::User) }
    }

    /// Fails if there are as many clones as there may be, with so many more than there are.
    fn check_clones_max(&self, more: usize) -> Result<()> {
        let volume = &self.commits.heads.volume;
        let max = volume.line(LineId::MAIN)?.terms.clones_max;
        let is_full = max.is_some_and(|max| volume.clone_count().0 + more >= max as usize);
        if is_full { Err(Error::LimitReached) } else { Ok(()) }
    }

    /// Has something in the trash go for good.
    pub fn empty_trash(&self, number: u64) -> Result<()> {
        self.commits.heads.check_writable()?;
        self.commits.once_with_space(|| self.empty_trash_held(number, self.one_at_a_time()))
    }

    fn empty_trash_held(&self, number: u64, held: OneAtATime<'_>) -> Result<()> {
        let no_commit = self.commits.hold_off();
        let names = self.commits.heads.volume.empty_trash(number)?;
        drop((no_commit, held));
        self.tell_gone(&names);
        self.commits.outlive()
    }

    /// Empties what was deleted first and is not held, because its space is wanted. False if there is nothing, or if somebody makes
    /// a snapshot for longer than this: he may be waiting for a write that waits for room.
    pub fn empty_some_trash(&self, patience: Duration) -> Result<bool> {
        let all: Vec<u64> = self.commits.heads.volume.trash().iter().map(|trash| trash.number).collect();
        Ok(self.empty_these(&all, 1, patience)? > 0)
    }

    /// Has so many of these go for good, the first first; fewer if the others may not, if there is no room for what that takes, or if
    /// somebody makes a snapshot for longer than this. Says how many have gone.
    pub fn empty_these(&self, numbers: &[u64], most: usize, patience: Duration) -> Result<usize> {
        self.commits.heads.check_writable()?;
        let mut gone = 0;
        for number in numbers {
            if gone == most {
                break;
            }
            match self.commits.have_room_for_records(ReserveFor::Delete) {
                Err(Error::NoSpace) => break,
                done => done?,
            }
            let Some(held) = self.one_at_a_time_within(patience) else { break };
            match self.empty_trash_held(*number, held) {
                // Somebody else has emptied it just now.
                Ok(()) | Err(Error::Stale) => gone += 1,
                // A clone with many snapshots takes much; they go by themselves before it.
                Err(Error::Busy | Error::NoSpace) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(gone)
    }

    /// Empties what has been in the trash for its time.
    pub(super) fn keep_trash(&self, age_secs: u64) -> Result<()> {
        for trash in self.commits.heads.volume.ended_trash(age_secs) {
            match self.empty_trash(trash.number) {
                Ok(()) => log::info!("'{}' has gone from the trash", crate::names::shown_bytes(&trash.name)),
                // Somebody was faster; or a copy of something in it is not whole.
                Err(Error::Stale | Error::Busy) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Drops a clone, into the trash if there is one, by whoever that is.
    pub fn discard_clone(&self, name: &[u8], by: &Provenance) -> Result<Gone> {
        let line = self.commits.heads.volume.find_line(name).ok_or(Error::NotFound)?;
        self.drop_line_if(line.id, self.end_by_user(line.id, by))
    }

    /// How a clone ends that a user drops.
    pub(super) fn end_by_user<'p>(&self, line: LineId, by: &'p Provenance) -> CloneEnd<'p> {
        let record = self.commits.heads.volume.line(line);
        let is_trial = record.is_ok_and(|record| record.provenance.reason == Reason::Trial);
        if is_trial || self.trash_secs().is_none() { CloneEnd::Now } else { CloneEnd::ToTrash(by) }
    }

    /// Puts a line into the trash with all that was written in it. False if there is no room for that.
    pub(super) fn trash_line(&self, head: &Arc<Head>, by: &Provenance) -> Result<bool> {
        let heads = &self.commits.heads;
        // What the kernel holds of its files is written back first: it comes back with the clone.
        self.write_back(head)?;
        let durable = self.with_new_trash(Deletion::Kept(by), |new| {
            let no_commit = self.commits.hold_off();
            let done = self.commits.complete(std::slice::from_ref(head), &mut |_| (), &mut |prepare| {
                heads.volume.trash_line(head.line, new, prepare)
            });
            let durable = done?;
            heads.remove(head.line);
            drop(no_commit);
            Ok(durable)
        })?;
        if durable == Some(false) {
            self.commits.commit()?;
        }
        Ok(durable.is_some())
    }
}
