//! Snapshots that a schedule takes of a line, and those of them that go: what is decided in `schedule`, done.
//!
//! A schedule's are those of the line's own that were made for it, bear its name and have their automatic name still: who
//! renames one wants to have it. What is read, stands alone or is being copied stays while that is so. All others, of users and guards, are
//! nobody's business here.

use super::applications::Reached;
use super::snapdir::Past;
use crate::format::LineId;
use crate::format::provenance::{Provenance, Reason};
use crate::fs::difference::has_changed;
use crate::fs::heads::{Head, RollingPoint};
use crate::ops::{Error, Result};
use crate::schedule::{Schedule, TakenSnapshot};
use crate::volume::{ReserveFor, SnapshotInfo};
use std::sync::Arc;
use std::time::Duration;

/// What became of snapshots that were to be deleted.
pub struct Dropped {
    /// Those that are gone.
    pub gone: Vec<SnapshotInfo>,
    /// Somebody held snapshots off for longer than was to be waited for: the rest was not looked at.
    pub is_held_off: bool,
}

impl Past {
    /// Those that a schedule took of a line and that are there, oldest first.
    pub fn scheduled(&self, line: LineId, name: &str) -> Vec<SnapshotInfo> {
        let prefix = Reason::Schedule.name_prefix().unwrap_or_default().as_bytes();
        let mut own = self.commits.heads.volume.own_snapshots(line);
        own.retain(|s| {
            s.provenance.reason == Reason::Schedule
                && s.provenance.command == name.as_bytes()
                && s.name.starts_with(prefix)
        });
        own
    }

    /// The times of all snapshots that are there, in the order in which they were made: of this store, by its own clock.
    pub fn times_made(&self) -> Vec<i64> {
        let volume = &self.commits.heads.volume;
        let own = volume.lines().into_iter().flat_map(|line| volume.own_snapshots(line.id));
        let mut all: Vec<_> = own.filter(|s| !s.is_received).map(|s| (s.id, s.created.0)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, at)| at).collect()
    }

    /// As decisions need them.
    pub fn as_taken(&self, all: &[SnapshotInfo]) -> Vec<TakenSnapshot> {
        self.as_taken_without(all, &[])
    }

    /// The same once these points are let go of.
    pub fn as_taken_without(&self, all: &[SnapshotInfo], points: &[RollingPoint]) -> Vec<TakenSnapshot> {
        let kept = |s: &SnapshotInfo| self.keeps_from_going_without(s, points);
        all.iter().map(|s| TakenSnapshot { at: s.created.0, kept: kept(s) }).collect()
    }

    /// Why a snapshot may not go by itself now, be it by a rule or for want of space: in words behind "it is". The one place
    /// that decides that.
    pub fn keeps_from_going(&self, s: &SnapshotInfo) -> Option<&'static str> {
        self.keeps_from_going_without(s, &[])
    }

    /// The same once these points, which may be snapshots, are let go of: each is one who reads.
    pub fn keeps_from_going_without(
        &self,
        s: &SnapshotInfo,
        points: &[RollingPoint],
    ) -> Option<&'static str> {
        let let_go = points.iter().filter(|point| point.view.id() == s.id).count();
        let is_read = || self.commits.heads.volume.readers(s.id) > let_go;
        self.keeps_from_deletion(s).or_else(|| is_read().then_some("being read"))
    }

    /// Why nobody may delete a snapshot now, in the same way.
    pub fn keeps_from_deletion(&self, s: &SnapshotInfo) -> Option<&'static str> {
        let is_needed = || self.commits.heads.volume.is_needed_to_purge(s.id);
        self.keeps_from_purge(s).or_else(|| is_needed().then_some("needed until the rest of a purge is done"))
    }

    /// Why nothing may be purged from a snapshot now, in the same way.
    pub fn keeps_from_purge(&self, s: &SnapshotInfo) -> Option<&'static str> {
        let volume = &self.commits.heads.volume;
        if volume.hydrations_of(s.id).iter().any(|copy| copy.holds()) {
            return Some("being copied to another store");
        }
        if volume.is_held(s.id) {
            return Some("held");
        }
        if self.is_kept(std::iter::once(s.id)) {
            return Some("mounted at a place of its own");
        }
        if self.departing.has(s.id) {
            return Some("being sent to another store");
        }
        self.received_against(s.id).map(|_| "what a stream that is being received stands on")
    }

    /// Takes one, unless nothing has changed since the last one of the schedule. Applications are asked before. Durable when this
    /// returns.
    pub fn take_scheduled(&self, head: &Arc<Head>, schedule: &Schedule) -> Result<Option<SnapshotInfo>> {
        let last = self.scheduled(head.line, &schedule.name).pop();
        if let Some(last) = last.filter(|_| !schedule.always)
            && !self.has_changed_since(head, &last)?
        {
            return Ok(None);
        }
        let why = Provenance { command: schedule.name.clone().into_bytes(), ..Reason::Schedule.into() };
        let applications = self.timekeeper.applications.read().clone();
        let line = self.commits.heads.volume.line(head.line)?.name;
        let prepared =
            applications.map(|all| all.prepare(&line, &schedule.name)).transpose().map_err(Error::Io)?;
        let reached = prepared.as_ref().map_or(Reached::PLAIN, |prepared| prepared.reached());
        let made = self.take_prepared(head.line, schedule, (&why, reached));
        let name = made.as_ref().ok().and_then(|made| made.as_ref()).map(|made| &made.name[..]);
        let trouble = prepared.and_then(|prepared| prepared.resume(name).err());
        let (key, mut troubles) = ((head.line, schedule.name.clone()), self.timekeeper.troubles.lock());
        match trouble {
            Some(trouble) => drop(troubles.insert(key, trouble)),
            None => drop(troubles.remove(&key)),
        }
        drop(troubles);
        made
    }

    /// Takes it. Applications may have needed long: the line has another head if it was rolled back meanwhile, and nothing is taken for a
    /// schedule that is not there any more.
    fn take_prepared(
        &self,
        line: LineId,
        schedule: &Schedule,
        (why, reached): (&Provenance, Reached<'_>),
    ) -> Result<Option<SnapshotInfo>> {
        let heads = &self.commits.heads;
        let now: Vec<_> = heads.of_line(&heads.volume.line(line)?).into_iter().collect();
        self.have_room_ahead(ReserveFor::Record, &now)?;
        let held = self.one_at_a_time();
        let record = heads.volume.line(line)?;
        let is_there = record.schedules.iter().any(|other| other.name == schedule.name);
        let Some(head) = heads.of_line(&record).filter(|_| is_there) else { return Ok(None) };
        self.guard_as(&head, why, reached, &held).map(Some)
    }

    /// True if something in a head is not as it was in a snapshot of its line. Reads no further than the first difference.
    fn has_changed_since(&self, head: &Head, last: &SnapshotInfo) -> Result<bool> {
        self.write_back(head)?;
        let heads = &self.commits.heads;
        // What a commit has placed is held back no more, and not to be seen before it is through with that.
        let no_commit = self.commits.hold_off();
        if head.delayed_bytes() > 0 {
            return Ok(true);
        }
        let now = heads.view(head)?;
        drop(no_commit);
        match heads.volume.snapshot(last.id) {
            Ok(then) => Ok(has_changed(&then, &now)?),
            // It was deleted meanwhile.
            Err(_) => Ok(true),
        }
    }

    /// Deletes these, one at a time, so that nobody waits for more than one. What is in use stays, and the rest if snapshots
    /// are held off for longer than this.
    pub fn drop_scheduled(&self, head: &Head, all: &[SnapshotInfo], patience: Duration) -> Result<Dropped> {
        let (mut gone, mut is_held_off) = (Vec::new(), false);
        let mut done = Ok(());
        for snapshot in all {
            let volume = &self.commits.heads.volume;
            let Some(held) = self.one_at_a_time_within(patience) else {
                is_held_off = true;
                break;
            };
            // It may have been renamed, or come into use.
            let is_same = volume.snapshot_info(snapshot.id).is_some_and(|now| now.name == snapshot.name);
            if !is_same || volume.is_read(snapshot.id) {
                continue;
            }
            match self.drop_snapshot(head, &snapshot.name, &held) {
                Ok(()) => gone.push(snapshot.clone()),
                Err(Error::Busy | Error::NotFound) => {}
                Err(e) => {
                    done = Err(e);
                    break;
                }
            }
            drop(held);
        }
        gone.iter().for_each(|s| self.tell_snapdirs(head, None, &s.name));
        if !gone.is_empty() {
            done = done.and(self.commits.outlive());
        }
        done.map(|()| Dropped { gone, is_held_off })
    }
}
