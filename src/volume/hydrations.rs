//! Copies of snapshots in other stores: what is kept of each that is made in the background, so that it goes on after any
//! crash, and that its snapshot stays until it is whole; and where those are that are whole, however they came there.
//!
//! How they stand is told by records of the log, each with all that is kept of one; how far they are is written down with the
//! commits, and what a crash loses of that is asked of the other store.

use super::state::VolumeState;
use super::{ReserveFor, Result, Volume, VolumeError};
use crate::format::ViewId;
use crate::format::hydration::{COPIES_MAX, CopyHold, HydrationRecord, HydrationState, TROUBLE_BYTES_MAX};
use crate::format::log::Effect;

impl VolumeState {
    pub(super) fn set_hydration(&mut self, record: HydrationRecord) {
        self.hydrations.set(record);
        self.keepers_changed += 1;
        self.changed = true;
    }

    pub(super) fn remove_hydration(&mut self, number: u64) {
        self.hydrations.remove(number);
        self.keepers_changed += 1;
        self.changed = true;
    }

    /// A snapshot goes for good, and with it what is known of its copies.
    pub(super) fn forget_hydrations(&mut self, view: ViewId) {
        let numbers: Vec<u64> = self.hydrations.of(view).map(|record| record.number).collect();
        numbers.into_iter().for_each(|number| self.remove_hydration(number));
    }
}

impl Volume {
    /// All copies, in the order in which they were begun.
    pub fn hydrations(&self) -> Vec<HydrationRecord> {
        self.state.read().hydrations.all().cloned().collect()
    }

    /// Those of a snapshot.
    pub fn hydrations_of(&self, view: ViewId) -> Vec<HydrationRecord> {
        self.state.read().hydrations.of(view).cloned().collect()
    }

    /// Those that hold their snapshot no longer than until this age of the store.
    pub fn ended_copies(&self, age_secs: u64) -> Vec<HydrationRecord> {
        let state = self.state.read();
        let is_over = |copy: &&HydrationRecord| {
            !copy.is_whole() && matches!(copy.hold, CopyHold::Until(ends) if ends <= age_secs)
        };
        state.hydrations.all().filter(is_over).cloned().collect()
    }

    /// The one of that number.
    pub fn hydration(&self, number: u64) -> Option<HydrationRecord> {
        self.state.read().hydrations.get(number).cloned()
    }

    /// Begins one, or notes one that is whole; it gets a number. The snapshot stays until it is whole, or is given up. Durable
    /// with the next commit or [`Volume::sync`]. `NameTaken` if there is one of the snapshot in that store that is not whole.
    /// Where [`COPIES_MAX`] are known the oldest that is whole is forgotten.
    pub fn begin_hydration(&self, new: HydrationRecord) -> Result<HydrationRecord> {
        self.check_writable()?;
        let mut turn = self.turn();
        turn.own_snapshot(new.view)?;
        let number = match turn.hydrations.find(new.view, &new.store) {
            Some(old) if !old.is_whole() => return Err(VolumeError::NameTaken),
            Some(old) => old.number,
            None => turn.hydrations.next()?,
        };
        let others = turn.hydrations.of(new.view).filter(|old| old.number != number);
        let forgotten = match others.clone().count() < COPIES_MAX {
            true => None,
            false => {
                let what =
                    "a snapshot has 32 copies in other stores at most: let some be whole, or give them up";
                let whole = others.clone().find(|old| old.is_whole()).map(|old| old.number);
                Some(whole.ok_or(VolumeError::LimitReached(what))?)
            }
        };
        drop(others);
        self.reserve_records(&turn, 2, ReserveFor::Record)?;
        let record = HydrationRecord { number, ..new };
        let state = turn.alone();
        forgotten.into_iter().for_each(|number| state.remove_hydration(number));
        state.set_hydration(record.clone());
        let forgotten = forgotten.map(Effect::EndHydration);
        self.tell_all(turn, forgotten.into_iter().chain([Effect::SetHydration(record.clone())]));
        Ok(record)
    }

    /// Changes how one stands; snapshot, store and number stay. Durable as one that is begun.
    pub fn change_hydration(
        &self,
        number: u64,
        change: impl FnOnce(&mut HydrationRecord),
    ) -> Result<HydrationRecord> {
        self.check_writable()?;
        let mut turn = self.turn();
        let old = turn.hydrations.get(number).cloned().ok_or(VolumeError::NoSuchView)?;
        // In the trash, itself or with its line, nothing of it changes, and no log says that it does.
        turn.of_line(turn.own_snapshot(old.view)?.line, old.view)?;
        let mut new = old.clone();
        change(&mut new);
        (new.number, new.view, new.store) = (old.number, old.view, old.store);
        if new != old {
            self.reserve_records(&turn, 1, ReserveFor::Delete)?;
            turn.alone().set_hydration(new.clone());
            self.tell(turn, &Effect::SetHydration(new.clone()));
        }
        Ok(new)
    }

    /// Notes how far one is, and what is in its way, and until when it holds its snapshot if it has gone on. Durable with the next
    /// commit.
    pub fn note_hydration(
        &self,
        number: u64,
        (done_bytes, about_bytes): (u64, u64),
        trouble: &str,
        hold: Option<CopyHold>,
    ) {
        if self.is_read_only() {
            return;
        }
        let mut turn = self.turn();
        let Some(old) = turn.hydrations.get(number).cloned() else { return };
        let mut end = trouble.len().min(TROUBLE_BYTES_MAX);
        while !trouble.is_char_boundary(end) {
            end -= 1;
        }
        let trouble = trouble.as_bytes()[..end].to_vec();
        // What is in the trash is held by nothing.
        let line = turn.own_snapshot(old.view).map(|record| record.line);
        let is_there = line.and_then(|line| turn.of_line(line, old.view)).is_ok();
        let hold = hold.filter(|_| is_there).unwrap_or(old.hold);
        let new = HydrationRecord { done_bytes, about_bytes, trouble, hold, ..old.clone() };
        if new != old && self.reserve_records(&turn, 1, ReserveFor::Write).is_ok() {
            turn.alone().set_hydration(new);
        }
    }

    /// It is whole: the snapshot may go. Durable as one that is begun.
    pub fn finish_hydration(&self, number: u64, done_bytes: u64, secs: i64) -> Result<HydrationRecord> {
        self.change_hydration(number, |record| {
            record.state = HydrationState::Whole;
            (record.done_bytes, record.about_bytes) = (done_bytes, done_bytes);
            record.ended_secs = secs;
            record.trouble.clear();
        })
    }

    /// Gives one up, or forgets it. Durable as one that is begun.
    pub fn end_hydration(&self, number: u64) -> Result<()> {
        self.check_writable()?;
        let mut turn = self.turn();
        if turn.hydrations.get(number).is_none() {
            return Err(VolumeError::NoSuchView);
        }
        self.reserve_records(&turn, 1, ReserveFor::Delete)?;
        turn.alone().remove_hydration(number);
        self.tell(turn, &Effect::EndHydration(number));
        Ok(())
    }
}
