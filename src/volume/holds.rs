//! Holds: a snapshot that has one is not deleted, by whatever; and the age of the store, by which they end.
//!
//! One is there until a record of the log says that it is gone: that its time is over is found out above, where time is
//! counted. Copies that are made in other stores hold as well ([`super::hydrations`]); [`Volume::is_held`] is about all of them.

use super::state::{StateTurn, VolumeState};
use super::{ReserveFor, Result, Volume, VolumeError};
use crate::format::age::AgeRecord;
use crate::format::hold::{HOLDS_MAX, HoldRecord};
use crate::format::log::Effect;
use crate::format::provenance::Provenance;
use crate::format::superblock::Superblock;
use crate::format::trash::Trashed;
use crate::format::view::{Role, ViewRecord};
use crate::format::{LineId, ViewId};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A hold to be.
#[derive(Clone, Copy)]
pub struct NewHold<'n> {
    /// What it is called.
    pub tag: &'n str,
    /// Now, in seconds since 1970 UTC.
    pub since_secs: i64,
    /// The age of the store, now, and after how many seconds it ends.
    pub age: AgeRecord,
    /// None: when it is released.
    pub after: Option<u64>,
    /// By whom.
    pub by: &'n Provenance,
}

impl VolumeState {
    /// Notes how old the store is.
    pub(super) fn set_age(&mut self, age: AgeRecord) {
        self.holds.age = age;
        self.holds.age_is_dirty = true;
        self.changed = true;
    }

    pub(super) fn set_hold(&mut self, hold: HoldRecord) {
        self.holds.set(hold);
        self.keepers_changed += 1;
        self.changed = true;
    }

    pub(super) fn end_hold(&mut self, number: u64) {
        self.holds.remove(number);
        self.keepers_changed += 1;
        self.changed = true;
    }

    /// The numbers of those of a snapshot.
    pub(super) fn holds_of(&self, view: ViewId) -> Vec<u64> {
        self.holds.of(view).map(|hold| hold.number).collect()
    }

    /// Fails if a snapshot is held, or needed for a copy that is not whole.
    pub(super) fn check_not_held(&self, view: ViewId) -> Result<()> {
        let is_held = self.hydrations.hold(view) || self.holds.of(view).next().is_some();
        if is_held { Err(VolumeError::Held) } else { Ok(()) }
    }

    /// Fails if a snapshot is to stay as it is: it is held, or something is being received that is told against it.
    pub(super) fn check_not_needed(&self, view: ViewId) -> Result<()> {
        self.check_not_held(view)?;
        if self.arrival_on(view).is_some() { Err(VolumeError::Held) } else { Ok(()) }
    }

    /// The same of all snapshots of a line's own.
    pub(super) fn check_none_needed(&self, line: LineId) -> Result<()> {
        self.lines.own(line).into_iter().try_for_each(|view| self.check_not_needed(view))
    }

    /// Fails if a snapshot of a line's own is held.
    pub(super) fn check_none_held(&self, line: LineId) -> Result<()> {
        self.lines.own(line).into_iter().try_for_each(|view| self.check_not_held(view))
    }

    /// The record of one more hold of a snapshot, when the one of the number `old` is gone.
    pub(super) fn next_hold(&self, view: ViewId, new: &NewHold<'_>, old: Option<u64>) -> Result<HoldRecord> {
        let others = || self.holds.of(view).filter(|hold| Some(hold.number) != old);
        if others().any(|hold| hold.tag == new.tag) {
            return Err(VolumeError::NameTaken);
        }
        if others().count() >= HOLDS_MAX {
            return Err(VolumeError::LimitReached("a snapshot has 32 holds at most: release some"));
        }
        Ok(HoldRecord {
            number: self.holds.table.next()?,
            view,
            tag: new.tag.into(),
            since_secs: new.since_secs,
            ends: new.after.map(|after| new.age.secs.saturating_add(after).min(ENDS_MAX)),
            by: new.by.clone(),
        })
    }
}

/// No hold ends later: its record would be none.
const ENDS_MAX: u64 = crate::format::ids::COUNTER_MAX - 1;

/// What is wrong with items of holds, of a state with these views, by their numbers.
pub(super) fn faults(
    items: &BTreeMap<u64, Vec<u8>>,
    superblock: &Superblock,
    views: &[ViewRecord],
) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    if items.is_empty() {
        return all;
    }
    let named = views.iter().filter(|v| v.role == Role::Snapshot && v.line != LineId::NONE).map(|v| v.id);
    let snapshots: HashSet<ViewId> = named.chain(superblock.pending.iter().map(|point| point.id)).collect();
    let mut tags: HashMap<ViewId, HashSet<String>> = HashMap::new();
    for (number, item) in items {
        let what = match HoldRecord::decode(item) {
            Err(e) => e.to_string(),
            Ok(hold) if hold.number != *number => format!("it is hold {}", hold.number),
            Ok(hold) if !snapshots.contains(&hold.view) => format!("view {} is no snapshot", hold.view.0),
            Ok(hold) => {
                let of_view = tags.entry(hold.view).or_default();
                if of_view.len() < HOLDS_MAX && of_view.insert(hold.tag) {
                    continue;
                }
                format!("view {} has others of its tag, or too many", hold.view.0)
            }
        };
        all.push((*number, format!("hold {number}: {what}")));
    }
    all
}

impl Volume {
    /// All holds, oldest first.
    pub fn holds(&self) -> Vec<HoldRecord> {
        self.state.read().holds.table.all().cloned().collect()
    }

    /// Those of a snapshot.
    pub fn holds_of(&self, view: ViewId) -> Vec<HoldRecord> {
        self.state.read().holds.of(view).cloned().collect()
    }

    /// True if a snapshot cannot be deleted for now: it has a hold, or a copy of it is not whole yet.
    pub fn is_held(&self, view: ViewId) -> bool {
        self.state.read().check_not_held(view).is_err()
    }

    /// True if what is left of a purge is found from this snapshot: it stays until that is done.
    pub fn is_needed_to_purge(&self, view: ViewId) -> bool {
        self.purging.needs(view)
    }

    /// Fails if a snapshot is to stay: it is held, something is being received against it, or what is left of a purge is found
    /// from it.
    pub(super) fn check_may_go(&self, state: &VolumeState, view: ViewId) -> Result<()> {
        state.check_not_needed(view)?;
        if self.purging.needs(view) { Err(VolumeError::Held) } else { Ok(()) }
    }

    /// The same of all snapshots that a line takes along, those in the trash too.
    pub(super) fn check_line_may_go(&self, state: &VolumeState, line: LineId) -> Result<()> {
        state.check_none_needed(line)?;
        let in_trash = state.trash.all().filter_map(|trash| match trash.what {
            Trashed::Snapshot(view, of) if of == line => Some(view),
            _ => None,
        });
        let mut all = state.lines.own(line).into_iter().chain(in_trash);
        if all.any(|view| self.purging.needs(view)) { Err(VolumeError::Held) } else { Ok(()) }
    }

    /// True if something is over at an age of the store.
    pub fn waits_for_age(&self) -> bool {
        let state = self.state.read();
        state.holds.ending > 0 || state.trash.all().next().is_some() || state.hydrations.wait_for_age()
    }

    /// Holds that are over at this age.
    pub fn ended_holds(&self, age_secs: u64) -> Vec<HoldRecord> {
        let state = self.state.read();
        let ended = state.holds.table.all().filter(|hold| hold.ends.is_some_and(|ends| ends <= age_secs));
        ended.cloned().collect()
    }

    /// The age of the store as it was noted last.
    pub fn age(&self) -> AgeRecord {
        self.state.read().holds.age
    }

    /// Notes it. Durable with the next commit or [`Volume::sync`].
    pub fn note_age(&self, age: AgeRecord) -> Result<()> {
        self.check_writable()?;
        let mut turn = self.turn();
        if age == turn.holds.age || age.secs < turn.holds.age.secs {
            return Ok(());
        }
        self.reserve_records(&turn, 1, ReserveFor::Delete)?;
        turn.alone().set_age(age);
        self.tell(turn, &Effect::SetAge(age));
        Ok(())
    }

    /// Holds a snapshot; only through its own line. Durable as an age that is noted. `NameTaken` if it has one of that tag.
    pub fn hold_snapshot(&self, line: LineId, view: ViewId, new: &NewHold<'_>) -> Result<HoldRecord> {
        self.check_writable()?;
        let turn = self.turn();
        turn.of_line(line, view)?;
        self.put_hold(turn, None, view, new)
    }

    /// The same in place of the one of that tag, if there is one: there is no moment without it, whatever is cut off.
    pub fn renew_hold(&self, line: LineId, view: ViewId, new: &NewHold<'_>) -> Result<HoldRecord> {
        self.check_writable()?;
        let turn = self.turn();
        turn.of_line(line, view)?;
        let old = turn.holds.of(view).find(|hold| hold.tag == new.tag).map(|hold| hold.number);
        self.put_hold(turn, old, view, new)
    }

    /// One more hold, instead of one that goes in the same record of the log.
    fn put_hold(
        &self,
        mut turn: StateTurn<'_>,
        old: Option<u64>,
        view: ViewId,
        new: &NewHold<'_>,
    ) -> Result<HoldRecord> {
        let hold = turn.next_hold(view, new, old)?;
        self.reserve_records(&turn, 2 + usize::from(old.is_some()), ReserveFor::Record)?;
        let state = turn.alone();
        let aged = state.holds.age.secs <= new.age.secs;
        if aged {
            state.set_age(new.age);
        }
        old.iter().for_each(|number| state.end_hold(*number));
        state.set_hold(hold.clone());
        let age = aged.then_some(Effect::SetAge(new.age));
        let old = old.map(Effect::EndHold);
        self.tell_all(turn, age.into_iter().chain(old).chain([Effect::SetHold(hold.clone())]));
        Ok(hold)
    }

    /// Lets a hold of a snapshot go; only through the line of that. Durable as one that is put.
    pub fn release_snapshot(&self, line: LineId, view: ViewId, tag: &str) -> Result<()> {
        let number = {
            let state = self.state.read();
            state.of_line(line, view)?;
            let hold = state.holds.of(view).find(|hold| hold.tag == tag).ok_or(VolumeError::NoSuchView)?;
            hold.number
        };
        self.end_hold(number)
    }

    /// The same of a hold of that number.
    pub fn end_hold(&self, number: u64) -> Result<()> {
        self.check_writable()?;
        let mut turn = self.turn();
        if turn.holds.table.get(number).is_none() {
            return Err(VolumeError::NoSuchView);
        }
        self.reserve_records(&turn, 1, ReserveFor::Delete)?;
        turn.alone().end_hold(number);
        self.tell(turn, &Effect::EndHold(number));
        Ok(())
    }
}
