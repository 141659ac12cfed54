//! Copies of snapshots that are made in other stores in the background: what is kept of each, so that it goes on after any
//! crash, and that its snapshot stays until it is whole.
//!
//! How they stand is told by records of the log, each with all that is kept of one; how far they are is written down with the
//! commits, and what a crash loses of that is asked of the other store.

use super::state::VolumeState;
use super::{ReserveFor, Result, Volume, VolumeError};
use crate::format::hydration::{HydrationRecord, HydrationState, TROUBLE_BYTES_MAX};
use crate::format::ids::COUNTER_MAX;
use crate::format::log::Effect;
use crate::format::{LineId, ViewId};
use std::collections::{BTreeMap, BTreeSet};

/// All of them.
#[derive(Clone, Default)]
pub(super) struct Hydrations {
    map: BTreeMap<u64, HydrationRecord>,
    /// Those that no commit has taken yet as they are, or that are no more.
    dirty: BTreeSet<u64>,
    /// The greatest number that was given out since the store was opened.
    last: u64,
}

impl Hydrations {
    /// From the items of the meta tree; what makes no sense goes with the next commit.
    pub fn load(items: BTreeMap<u64, Vec<u8>>, is_there: impl Fn(ViewId) -> bool) -> Hydrations {
        let mut all =
            Hydrations { last: items.keys().next_back().copied().unwrap_or(0), ..Hydrations::default() };
        for (number, item) in items {
            match HydrationRecord::decode(&item) {
                Ok(record) if record.number == number && is_there(record.view) => {
                    all.map.insert(number, record);
                }
                decoded => {
                    let why = decoded.err().map_or("of no snapshot".to_string(), |e| e.to_string());
                    log::warn!("the record {number} of a copy in another store is given up: {why}");
                    all.dirty.insert(number);
                }
            }
        }
        all
    }

    /// The one of that number.
    pub fn get(&self, number: u64) -> Option<&HydrationRecord> {
        self.map.get(&number)
    }

    fn of(&self, view: ViewId) -> impl Iterator<Item = &HydrationRecord> {
        self.map.values().filter(move |record| record.view == view)
    }

    /// The one of a snapshot in a store.
    pub fn find(&self, view: ViewId, store: &[u8; 16]) -> Option<&HydrationRecord> {
        self.of(view).find(|record| record.store == *store)
    }

    /// True if a snapshot is needed for one.
    pub fn hold(&self, view: ViewId) -> bool {
        self.of(view).any(HydrationRecord::holds)
    }

    fn next(&self) -> Result<u64> {
        match self.last {
            last if last < COUNTER_MAX => Ok(last + 1),
            _ => Err(VolumeError::LimitReached("all numbers of copies in other stores are used up")),
        }
    }

    pub fn set(&mut self, record: HydrationRecord) {
        self.last = self.last.max(record.number);
        self.dirty.insert(record.number);
        self.map.insert(record.number, record);
    }

    /// How many of these there are.
    pub fn changed(&self) -> usize {
        self.dirty.len()
    }

    fn remove(&mut self, number: u64) {
        self.map.remove(&number);
        self.dirty.insert(number);
    }

    /// Items that changed, for the commit to write.
    pub fn take_changes(&mut self) -> impl Iterator<Item = (u64, Option<Vec<u8>>)> {
        std::mem::take(&mut self.dirty)
            .into_iter()
            .map(|n| (n, self.map.get(&n).map(HydrationRecord::encode)))
    }
}

impl VolumeState {
    pub(super) fn set_hydration(&mut self, record: HydrationRecord) {
        self.hydrations.set(record);
        self.changed = true;
    }

    pub(super) fn remove_hydration(&mut self, number: u64) {
        self.hydrations.remove(number);
        self.changed = true;
    }

    /// A snapshot goes, and with it what is known of its copies.
    pub(super) fn forget_hydrations(&mut self, view: ViewId) {
        let numbers: Vec<u64> = self.hydrations.of(view).map(|record| record.number).collect();
        numbers.into_iter().for_each(|number| self.remove_hydration(number));
    }

    /// Fails if a snapshot is needed for a copy that is not whole.
    pub(super) fn check_not_held(&self, view: ViewId) -> Result<()> {
        if self.hydrations.hold(view) { Err(VolumeError::Held) } else { Ok(()) }
    }

    /// The same of all snapshots of a line's own.
    pub(super) fn check_none_held(&self, line: LineId) -> Result<()> {
        self.lines.own(line).into_iter().try_for_each(|view| self.check_not_held(view))
    }
}

impl Volume {
    /// All copies, in the order in which they were begun.
    pub fn hydrations(&self) -> Vec<HydrationRecord> {
        self.state.read().hydrations.map.values().cloned().collect()
    }

    /// True if a snapshot cannot be deleted for now: a copy of it is not whole yet.
    pub fn is_held(&self, view: ViewId) -> bool {
        self.state.read().hydrations.hold(view)
    }

    /// Those of a snapshot.
    pub fn hydrations_of(&self, view: ViewId) -> Vec<HydrationRecord> {
        self.state.read().hydrations.of(view).cloned().collect()
    }

    /// By which method a snapshot was made, in a word.
    pub fn method_of(&self, view: ViewId) -> &'static str {
        if self.hydrations_of(view).is_empty() { "row" } else { "background" }
    }

    /// The one of that number.
    pub fn hydration(&self, number: u64) -> Option<HydrationRecord> {
        self.state.read().hydrations.get(number).cloned()
    }

    /// Begins one; it gets a number. The snapshot stays until it is whole, or is given up. Durable with the next commit or
    /// [`Volume::sync`]. `NameTaken` if there is one of the snapshot in that store that is not whole.
    pub fn begin_hydration(&self, new: HydrationRecord) -> Result<HydrationRecord> {
        self.check_writable()?;
        let mut turn = self.turn();
        turn.own_snapshot(new.view)?;
        let number = match turn.hydrations.find(new.view, &new.store) {
            Some(old) if old.holds() => return Err(VolumeError::NameTaken),
            Some(old) => old.number,
            None => turn.hydrations.next()?,
        };
        self.reserve_records(&turn, 1, ReserveFor::Record)?;
        let record = HydrationRecord { number, ..new };
        turn.alone().set_hydration(record.clone());
        self.tell(turn, &Effect::SetHydration(record.clone()));
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

    /// Notes how far one is, and what is in its way. Durable with the next commit.
    pub fn note_hydration(&self, number: u64, done_bytes: u64, about_bytes: u64, trouble: &str) {
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
        let new = HydrationRecord { done_bytes, about_bytes, trouble, ..old.clone() };
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
